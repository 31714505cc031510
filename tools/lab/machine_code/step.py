"""The predicted time of the training step: the engine's own graph, recorded while it is launched."""
from . import timing
from .background import Background
from .execute import run_program
from .graph import Graph
from .names import short_name
from .session import Session

EDGE_US = 1.2  # from one kernel of a graph to the next


class Timed:
    """A launch that was executed and recorded, and its predicted time."""

    def __init__(self, program, launch, recorder, model, profile):
        self.program, self.launch, self.recorder = program, launch, recorder
        busiest = sorted({0, (launch.blocks - 1) % model.multiprocessors})
        self.parts = [timing.Part(program, recorder, launch, timing.share_of(sm, launch, model))
                      for sm in busiest]
        self._times = Background(self._time, model, profile)

    def _time(self, model, wants_profile):
        results = []
        for part in self.parts:
            profile = {} if wants_profile else None
            results.append((*timing.time_part(part, model, profile), profile))
        return max(results, key=lambda r: r[0])

    def wait(self):
        self.cycles, self.issued, self.profile = self._times.result()
        return self

    @property
    def name(self):
        return short_name(self.program.kernel.name)

    def cycles_with(self, model):
        return max(timing.time_part(part, model)[0] for part in self.parts)


class StepSession(Session):
    """Executes each different launch of the first graph once, and times it in the background."""

    def __init__(self, code, model, profile=None):
        super().__init__(code)
        self.model, self.profile = model, profile
        self.nodes = None       # of the first graph that is launched: (launch or None, follows)
        self._graphs, self._pending = {}, None
        self._eager = True      # whether what no graph launches is executed
        self._timed = {}

    def _on_eager(self, yes, _):
        self._eager = yes

    def _on_graph(self, number, message):
        self._graphs[number] = message["nodes"]

    def _on_begin(self, number, _):
        if self.nodes is None:
            self.nodes = [[None, after] for _, after in self._graphs[number]]
            kernels = [i for i, (what, _) in enumerate(self._graphs[number]) if "kernel" in what]
            self._pending = iter(kernels)

    def _on_end(self, number, _):
        self._pending, self._eager = None, False

    def launch(self, kernel, launch):
        if self._pending is None:
            if self._eager:
                super().launch(kernel, launch)
            return
        key = (kernel.name, launch.grid, launch.block, launch.arguments)
        if key not in self._timed:
            self._timed[key] = self._execute(kernel, launch)
        self.nodes[next(self._pending)][0] = self._timed[key]

    def _execute(self, kernel, launch):
        busiest = {0, (launch.blocks - 1) % self.model.multiprocessors}
        recorder = timing.Recorder(
            b for sm in busiest for b in timing.share_of(sm, launch, self.model))
        program = self.program(kernel, launch)
        run_program(program, launch, self.memory, recorder=recorder)
        wants_profile = self.profile is not None and self.profile.search(short_name(kernel.name))
        return Timed(program, launch, recorder, self.model, bool(wants_profile))


class Step:
    """The longest path, with the kernels on it beside those of other branches."""

    def __init__(self, nodes, model):
        self.nodes, self.model = [launch for launch, _ in nodes], model
        self.graph = Graph([after for _, after in nodes])
        self.alone = [self._us(launch.wait().cycles) if launch else 0.0 for launch in self.nodes]
        self.compute()

    def _us(self, cycles):
        return cycles / self.model.clock_ghz / 1000

    def compute(self, model=None):
        """Also with another model than the one that the launches were timed with."""
        weights = list(self.alone)
        if model is not None:
            different = {id(n): n for n in self.nodes if n}
            cycles = {key: Background(n.cycles_with, model) for key, n in different.items()}
            cycles = {key: found.result() for key, found in cycles.items()}
            weights = [self._us(cycles[id(n)]) if n else 0.0 for n in self.nodes]
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
                        known[key] = self._us(timing.time_beside(
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
