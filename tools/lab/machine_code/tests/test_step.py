"""A step of dependent launches, and the file of predictions."""
import json
import os
import tempfile
import types
import unittest

from machine_code import predict
from machine_code.model import Model
from machine_code.step import Step


def launched(us, prologue=0.0, tail=0.0, dependent=True):
    return types.SimpleNamespace(
        launch=types.SimpleNamespace(dependent=dependent, blocks=1), us=us, body_us=us - prologue,
        tail=tail, shown_us=lambda before: max(0, prologue - before.tail))


class DependentLaunches(unittest.TestCase):
    def test_chain(self):
        first, second = launched(3, 1, tail=0.5), launched(2, 0.25, tail=2)
        step = Step([(first, []), (second, [0]), (first, [1]), (second, [2])], Model())
        self.assertEqual(step.steps, 2)
        self.assertAlmostEqual(step.us, (10 + 3 * 1.2) / 2)
        bodies, shown, edges = step.early
        self.assertAlmostEqual(bodies, (3 + 1.75 + 2 + 1.75) / 2)  # the first waits for none
        self.assertAlmostEqual(shown, 0)
        self.assertAlmostEqual(edges, 3 * 0.8 / 2)
        self.assertAlmostEqual(step.early_us, bodies + shown + edges)

    def test_after_others(self):
        copy, two = (None, []), launched(2, 1)
        step = Step([copy, (launched(1), [0]), (launched(1), [0]), (two, [1, 2])], Model())
        self.assertFalse(step.any_starts_early)  # nor after a copy, nor after two kernels
        self.assertAlmostEqual(step.early_us, step.us)


class Predictions(unittest.TestCase):
    def test_others_stay(self):
        step = types.SimpleNamespace(us=22.0, early_us=19.0)
        rows = {math: [{"name": math, "predicted_us": 1.0}, {"name": "step", "predicted_us": 0}]
                for math in ("fp32", "fp16")}
        with tempfile.TemporaryDirectory() as directory:
            path = os.path.join(directory, "predictions.json")
            for math in ("fp32", "fp16", "fp32", "fp16"):
                predict.write(path, [dict(r) for r in rows[math]], step, math, Model())
            with open(path) as file:
                report = json.load(file)
        self.assertEqual([k["name"] for k in report["kernels"]], ["fp32", "fp16"])
        self.assertEqual(report["step"], {"name": "step", "predicted_us": 22.0})
        self.assertEqual(report["step_fp16"],
                         {"name": "step", "predicted_us": 19.0, "plain_edges_us": 22.0})
        self.assertIn("commit_fp16", report)


if __name__ == "__main__":
    unittest.main()
