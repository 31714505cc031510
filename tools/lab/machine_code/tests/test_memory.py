"""Faults, races, cp.async, atomics, bank conflicts."""
import unittest

import numpy as np

from machine_code.recording import shared_wavefronts
from machine_code.errors import ExecutionError

from .machine import HEAD, INPUT, SAMPLES, TAIL, Machine, kernel, one


class Memory(unittest.TestCase):
    def test_out_of_bounds(self):
        with self.assertRaisesRegex(ExecutionError, "outside of every allocation "
                                    r"\(128 bytes from .*of 128\).*thread 0, instruction 0x70"):
            one("LDG.E R12, desc[UR4][R6.64+0x80]")
        with self.assertRaisesRegex(ExecutionError, "misaligned 8-byte"):
            one("LDG.E.64 R12, desc[UR4][R6.64]")
        with self.assertRaisesRegex(ExecutionError, "shared memory access out of bounds"):
            one("LDS R12, [R0]")

    def test_generic_addresses(self):
        got = one("LD.E R12, desc[UR4][R6.64]\nST.E desc[UR4][R8.64+0x80], R12")
        self.assertEqual(got.tolist(), SAMPLES)

    def test_never_written(self):
        machine = Machine(SAMPLES, track=True)
        with self.assertRaisesRegex(ExecutionError, "never written"):
            machine.run(kernel(HEAD + "LDG.E R12, desc[UR4][R8.64]" + TAIL))

    SWAP = """
        LEA R11, R0, 0x400, 0x2
        STS [R11], R10
        {barrier}
        LOP3.LUT R13, R0, 0x3f, RZ, 0x3c, !PT
        LEA R13, R13, 0x400, 0x2
        LDS R12, [R13]
        """

    def test_races(self):
        words = np.arange(64)
        for barrier, good in (("BAR.SYNC.DEFER_BLOCKING 0x0", True), ("NOP", False)):
            program = kernel(HEAD + self.SWAP.replace("{barrier}", barrier) + TAIL, shared=256)
            if good:
                got = Machine(words).run(program, block=64, races=True)
                self.assertEqual(got[:64].tolist(), words[::-1].tolist())
            else:
                with self.assertRaisesRegex(ExecutionError, "another warp stores"):
                    Machine(words).run(program, block=64, races=True)

    COPY = """
        LEA R11, R0, 0x400, 0x2
        LDGSTS.E [R11], desc[UR4][R6.64]
        LDGDEPBAR
        {wait}
        LDS R12, [R11]
        """

    def test_copies(self):
        waiting = kernel(HEAD + self.COPY.replace("{wait}", "DEPBAR.LE SB0, 0x0") + TAIL,
                         shared=128)
        self.assertEqual(Machine(SAMPLES).run(waiting)[:32].tolist(), SAMPLES)
        late = kernel(HEAD + self.COPY.replace("{wait}", "DEPBAR.LE SB0, 0x1") +
                      "DEPBAR.LE SB0, 0x0" + TAIL, shared=128)
        self.assertEqual(set(Machine(SAMPLES).run(late)[:32].tolist()), {0xffffffff})
        never = kernel(HEAD + self.COPY.replace("{wait}", "NOP") + TAIL, shared=128)
        with self.assertRaisesRegex(ExecutionError, "never waited for"):
            Machine(SAMPLES).run(never)

    def test_atomics(self):
        program = kernel(HEAD + "ATOMG.E.ADD.STRONG.GPU PT, R12, desc[UR4][R2.64], R10" + TAIL)
        words = [1] * 32
        machine = Machine(words)
        self.assertEqual(sorted(machine.run(program)[:32].tolist()), list(range(1, 33)))
        self.assertEqual(machine.words(INPUT)[0], 33)
        program = kernel(HEAD + "MOV R11, RZ\nREDG.E.ADD.64.STRONG.GPU desc[UR4][R2.64], R10" +
                         TAIL)
        machine = Machine([0xfffffff0] * 32)  # 64 bits, with a carry
        machine.run(program)
        self.assertEqual(machine.words(INPUT)[:2].tolist(),
                         [0xfffffff0 * 33 & 0xffffffff,
                          (0xfffffff0 * 33 >> 32) + 0xfffffff0 & 0xffffffff])

    def test_bank_conflicts(self):
        lane = np.arange(32, dtype=np.uint32)[None, :]
        every = np.ones((1, 32), bool)
        for addresses, width, want in ((4 * lane, 4, 1), (8 * lane, 4, 2), (128 * lane, 4, 32),
                                       (132 * lane, 4, 1), (0 * lane, 4, 1), (16 * lane, 16, 4),
                                       (0 * lane, 16, 4), (32 * lane, 16, 8), (8 * lane, 8, 2),
                                       (lane, 1, 1)):
            wavefronts, _ = shared_wavefronts(addresses, width, every)
            self.assertEqual(int(wavefronts[0]), want)
        half = every & (lane < 16)
        self.assertEqual([int(v[0]) for v in shared_wavefronts(8 * lane, 4, half)], [1, 1])


if __name__ == "__main__":
    unittest.main()
