"""The predicted time of a training step, or of an evaluation: of the engine's own graph, while it
is launched."""
from . import timing
from .background import Background
from .graph import Graph
from .timed import EARLY_EDGE_US, EDGE_US, TimedSession


class StepSession(TimedSession):
    """Times what is launched. `nodes` of the largest graph that ran: for each the launch, or None,
    and the numbers of those that it follows."""

    def __init__(self, code, model, profile=None):
        super().__init__(code, model, profile)
        self.nodes = []
        self._graphs = {}        # number -> its nodes: what they do, and what they follow
        self._running = None     # the graph that is running,
        self._kernels = None     # the numbers of its nodes to come that launch kernels,
        self._launched = {}      # and what the others have launched

    def _on_graph(self, number, message):
        self._graphs[number] = message["nodes"]

    def _on_begin(self, number, _):
        self._running = self._graphs[number]
        kernels = [i for i, (what, _) in enumerate(self._running) if "kernel" in what]
        self._kernels, self._launched = iter(kernels), {}

    def _on_end(self, number, _):
        self._kernels = None
        if len(self._running) > len(self.nodes):
            self.nodes = [(self._launched.get(i), after)
                          for i, (_, after) in enumerate(self._running)]

    def launch(self, kernel, launch):
        timed = self.timed(kernel, launch)
        if self._kernels is not None:
            self._launched[next(self._kernels)] = timed


class Step:
    """The longest path, with the kernels on it beside those of other branches."""

    def __init__(self, nodes, model):
        self.nodes, self.model = [launch for launch, _ in nodes], model
        self.graph = Graph([after for _, after in nodes])
        self.alone = [launch.us if launch else 0.0 for launch in self.nodes]
        self.compute()

    def compute(self, model=None):
        """Also with another model than the one that the launches were timed with."""
        weights = list(self.alone)
        if model is not None:
            different = {id(n): n for n in self.nodes if n}
            cycles = {key: Background(n.cycles_with, model) for key, n in different.items()}
            cycles = {key: found.result() for key, found in cycles.items()}
            weights = [self.model.us(cycles[id(n)]) if n else 0.0 for n in self.nodes]
        self.beside = {}  # node on the path -> (node of another branch, us beside it)
        known = {}
        while True:
            self.path = self.graph.longest_path(weights, EDGE_US)
            new = [n for n in self.path if n not in self.beside]
            for node in new:
                other = self.graph.beside(node, weights, EDGE_US)
                us = weights[node]
                if other is not None and self._share_multiprocessors(node, other):
                    key = id(self.nodes[node]), id(self.nodes[other])
                    if key not in known:
                        known[key] = self.model.us(timing.time_beside(
                            self.nodes[other].parts[0], self.nodes[node].parts[0],
                            model or self.model))
                    us = max(us, known[key])
                self.beside[node] = (other, us)
            if not new:
                break
            for node in new:
                weights[node] = self.beside[node][1]
        self.bodies = sum(self.beside[n][1] for n in self.path)
        self.edges = len(self.path) - 1
        return self

    def starts_early(self, number):
        """Whether this node may begin before the one that it follows has ended."""
        node, after = self.nodes[number], self.graph.after[number]
        return bool(node and node.launch.dependent and len(after) == 1 and self.nodes[after[0]])

    @property
    def any_starts_early(self):
        return any(map(self.starts_early, range(len(self.nodes))))

    @property
    def early(self):
        """With such starts, in us of a step: bodies on the longest path, what is to be seen of
        prologues, edges."""
        count = len(self.nodes)
        bodies, shown, edges = list(self.alone), [0.0] * count, [EDGE_US] * count
        for number in filter(self.starts_early, range(count)):
            node, before = self.nodes[number], self.nodes[self.graph.after[number][0]]
            bodies[number], shown[number] = node.body_us, node.shown_us(before)
            edges[number] = EARLY_EDGE_US
        path = self.graph.longest_path([b + s for b, s in zip(bodies, shown)], edges)
        sums = (sum(bodies[n] for n in path), sum(shown[n] for n in path),
                sum(edges[n] for n in path[1:]))
        return tuple(us / self.steps for us in sums)

    @property
    def early_us(self):
        return sum(self.early)

    def _share_multiprocessors(self, *nodes):
        launches = [self.nodes[n] for n in nodes]
        return all(launches) and \
            sum(n.launch.blocks for n in launches) > self.model.multiprocessors

    @property
    def us(self):
        """Of all steps in the graph, divided by their number."""
        return (self.bodies + EDGE_US * self.edges) / self.steps

    @property
    def steps(self):
        """How often the graph repeats: as often as its last kernel is launched."""
        kernels = [n for n in self.nodes if n]
        return kernels.count(kernels[-1])
