"""The longest path."""
import unittest

from machine_code.graph import Graph


class LongestPath(unittest.TestCase):
    # 1 and 2 are one branch between 0 and 4, and 3 is the other.
    GRAPH = Graph([[], [0], [1], [0], [2, 3]])

    def test_path(self):
        self.assertEqual(self.GRAPH.longest_path([1, 1, 1, 1, 1], 1), [0, 1, 2, 4])
        self.assertEqual(self.GRAPH.longest_path([1, 1, 1, 5, 1], 1), [0, 3, 4])
        self.assertEqual(self.GRAPH.longest_path([1, 1, 1, 2.5, 1], 1), [0, 1, 2, 4])

    def test_beside(self):
        weights = [1, 3, 1, 2, 1]
        self.assertEqual(self.GRAPH.beside(1, weights, 1), 3)
        self.assertEqual(self.GRAPH.beside(3, weights, 1), 1)
        self.assertIsNone(self.GRAPH.beside(2, weights, 1))  # the other branch has ended
        self.assertIsNone(self.GRAPH.beside(0, weights, 1))


if __name__ == "__main__":
    unittest.main()
