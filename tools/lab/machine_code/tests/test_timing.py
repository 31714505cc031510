"""Rates of the pipes."""
import unittest

import numpy as np

from machine_code import timing
from machine_code.execute import run_program
from machine_code.model import Model
from machine_code.recording import Recorder

from .machine import HEAD, TAIL, Machine, kernel


class Timing(unittest.TestCase):
    def cycles(self, text, warps=1, shared=0):
        return self.timed(text, warps, shared=shared).body

    @staticmethod
    def timed(text, warps=1, early=False, shared=0):
        machine = Machine(np.arange(2048))
        program, launch = machine.compiled(kernel(HEAD + text + TAIL, shared), block=32 * warps)
        recorder = Recorder([0])
        run_program(program, launch, machine.memory, recorder=recorder)
        part = timing.Part(program, recorder, launch, [0])
        return timing.time_part(part, Model(), early=early)

    def test_pipes(self):
        base = self.cycles("NOP")
        many = self.cycles("\n".join(["FFMA R12, R10, R10, R10"] * 401))
        self.assertAlmostEqual(many - base, 400, delta=5)  # one a cycle
        many = self.cycles("\n".join(["IMAD R12, R10, R10, R10"] * 401))
        self.assertAlmostEqual(many - base, 800, delta=5)  # half rate
        four = self.cycles("\n".join(["FFMA R12, R10, R10, R10"] * 401), warps=4)
        self.assertAlmostEqual(four - base, 400, delta=20)  # a scheduler each

    def test_early_start(self):
        multiply = "\n".join(["FFMA R12, R10, R10, R10"] * 300)
        text = f"{multiply}\nACQBULK\n{multiply}\nPREEXIT\n{multiply}"
        for warps in 1, 4:
            early, plain = (self.timed(text, warps, early) for early in (True, False))
            self.assertAlmostEqual(early.body, 600, delta=50)
            self.assertAlmostEqual(early.prologue, 300, delta=50)
            self.assertAlmostEqual(early.body + early.prologue, plain.body, delta=20)
            self.assertAlmostEqual(early.tail, 300, delta=50)
            self.assertAlmostEqual(plain.tail, 300, delta=50)
            self.assertEqual(plain.prologue, 0)
        nothing = self.timed(multiply, early=True)  # no wait and no word to the next kernel
        self.assertEqual(nothing.prologue, 0)
        self.assertLess(nothing.tail, 5)

    def test_copies(self):
        copy = "LDGSTS.E [R11], desc[UR4][R6.64]\nLDGDEPBAR\n"
        text = "LEA R11, R0, 0x400, 0x2\n" + copy + "\n".join(["NOP"] * 1000) + "\n" + copy + \
            "DEPBAR.LE SB0, {left}\n" + "\n".join(["NOP"] * 500) + "\nDEPBAR.LE SB0, 0x0"
        both, first = (self.cycles(text.replace("{left}", left), shared=128)
                       for left in ("0x0", "0x1"))
        self.assertAlmostEqual(both - first, Model().l1_latency, delta=20)  # the line is there


if __name__ == "__main__":
    unittest.main()
