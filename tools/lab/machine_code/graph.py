"""The longest path through a graph of kernels."""


class Graph:
    """`after`: of each node, the numbers of the nodes that it follows directly, all smaller."""

    def __init__(self, after):
        self.after = after
        self._before = []  # of each node, all that it follows, directly or not
        for nodes in after:
            self._before.append(set(nodes).union(*(self._before[n] for n in nodes)))

    def unrelated(self, a, b):
        return a != b and a not in self._before[b] and b not in self._before[a]

    def spans(self, weights, edge):
        """(start, end) of each node if it starts `edge` after the last of those that it follows; or
        edge[n], node n."""
        edges = edge if isinstance(edge, list) else [edge] * len(weights)
        spans = []
        for nodes, weight, edge in zip(self.after, weights, edges):
            start = max((spans[n][1] + edge for n in nodes), default=0)
            spans.append((start, start + weight))
        return spans

    def longest_path(self, weights, edge):
        """The nodes of the path that ends last, in order."""
        spans = self.spans(weights, edge)
        path = [max(range(len(spans)), key=lambda n: spans[n][1])]
        while self.after[path[-1]]:
            path.append(max(self.after[path[-1]], key=lambda n: spans[n][1]))
        return path[::-1]

    def beside(self, node, weights, edge):
        """The unrelated node whose time overlaps most with this one's; None if none does."""
        spans = self.spans(weights, edge)

        def overlap(other):
            return min(spans[node][1], spans[other][1]) - max(spans[node][0], spans[other][0])
        others = [n for n in range(len(spans)) if self.unrelated(n, node)]
        best = max(others, key=overlap, default=None)
        return best if best is not None and overlap(best) > 0 else None
