"""Rates of the pipes."""
import unittest

import numpy as np

from machine_code import timing
from machine_code.execute import run_program
from machine_code.model import Model
from machine_code.recording import Recorder

from .machine import HEAD, TAIL, Machine, kernel


class Timing(unittest.TestCase):
    def cycles(self, text, warps=1, **model):
        machine = Machine(np.arange(2048))
        program, launch = machine.compiled(kernel(HEAD + text + TAIL), block=32 * warps)
        recorder = Recorder([0])
        run_program(program, launch, machine.memory, recorder=recorder)
        part = timing.Part(program, recorder, launch, [0])
        return timing.time_part(part, Model(**model))[0]

    def test_pipes(self):
        base = self.cycles("NOP")
        many = self.cycles("\n".join(["FFMA R12, R10, R10, R10"] * 401))
        self.assertAlmostEqual(many - base, 400, delta=5)  # one a cycle
        many = self.cycles("\n".join(["IMAD R12, R10, R10, R10"] * 401))
        self.assertAlmostEqual(many - base, 800, delta=5)  # half rate
        four = self.cycles("\n".join(["FFMA R12, R10, R10, R10"] * 401), warps=4)
        self.assertAlmostEqual(four - base, 400, delta=20)  # a scheduler each


if __name__ == "__main__":
    unittest.main()
