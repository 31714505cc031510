"""Integer instructions, divergence, calls, and what is not known."""
import unittest

from machine_code.errors import ExecutionError, Unsupported

from .machine import SAMPLES, one


def signed(word):
    return word - (word >> 31 << 32)


class Integers(unittest.TestCase):
    def check(self, body, want):
        got = one(body)
        for word, g in zip(SAMPLES, got):
            self.assertEqual(int(g), want(word) & 0xffffffff, f"{body} of {word:#x}")

    def test_logic(self):
        self.check("LOP3.LUT R12, R10, 0xff, R0, 0xc0, !PT", lambda x: x & 0xff)
        self.check("LOP3.LUT R12, R10, 0xf0f, 0x3, 0xf8, !PT", lambda x: x | 0xf0f & 3)
        self.check("LOP3.LUT R12, R10, 0xf0f, 0x3, 0x1b, !PT",  # a table without a short form
                   lambda x: sum((0x1b >> ((x >> i & 1) * 4 + (0xf0f >> i & 1) * 2 +
                                           (3 >> i & 1)) & 1) << i for i in range(32)))

    def test_shifts(self):
        self.check("SHF.R.S32.HI R12, RZ, 0x5, R10", lambda x: signed(x) >> 5)
        self.check("SHF.R.U32.HI R12, RZ, 0x5, R10", lambda x: x >> 5)
        self.check("SHF.L.U32 R12, R10, 0x5, RZ", lambda x: x << 5)
        self.check("SHF.L.U64.HI R12, R10, 0x4, 0x9", lambda x: (0x9 << 32 | x) << 4 >> 32)
        self.check("SHF.R.U64 R12, R10, 0x4, 0x9", lambda x: (0x9 << 32 | x) >> 4)
        self.check("LEA.HI R12, R10, 0x7, RZ, 0xc", lambda x: (x << 12 >> 32) + 7)
        self.check("LEA.HI.SX32 R12, R10, 0x7, 0x1", lambda x: (signed(x) << 1 >> 32) + 7)

    def test_multiply(self):
        self.check("IMAD.HI.U32 R12, R10, 0x12345678, RZ", lambda x: x * 0x12345678 >> 32)
        self.check("IMAD.HI R12, R10, 0x12345678, RZ", lambda x: signed(x) * 0x12345678 >> 32)
        self.check("IMAD R12, R10, -0x3, R10", lambda x: -2 * x)

    def test_carries(self):  # x - 5 and x + y of 64 bits
        self.check("IADD3 R11, P0, R10, -0x5, RZ\nIADD3.X R12, RZ, -0x1, RZ, P0, !PT",
                   lambda x: (x - 5) >> 32)
        self.check("IADD3 R11, P0, -R10, 0x5, RZ\nIMAD.X R12, RZ, RZ, ~RZ, P0",
                   lambda x: (5 - x) >> 32)
        self.check("IADD3 R11, P0, P1, R10, R10, R10\nIADD3.X R12, RZ, RZ, RZ, P0, P1",
                   lambda x: 3 * x >> 32)

    def test_compare(self):
        self.check("ISETP.GT.AND P0, PT, R10, 0x2, PT\nSEL R12, RZ, 0x1, !P0",
                   lambda x: signed(x) > 2)
        self.check("ISETP.GT.U32.AND P0, PT, R10, 0x2, PT\nSEL R12, RZ, 0x1, !P0", lambda x: x > 2)

    def test_bits(self):
        self.check("BREV R12, R10", lambda x: int(f"{x:032b}"[::-1], 2))
        self.check("FLO.U32 R12, R10", lambda x: x.bit_length() - 1)
        self.check("FLO.U32.SH R12, R10", lambda x: 32 - x.bit_length() if x else -1)
        self.check("POPC R12, R10", lambda x: bin(x).count("1"))

    def test_permute(self):
        self.check("PRMT R12, R10, 0x9910, RZ",
                   lambda x: (x & 0xffff) | (0xffff0000 if x >> 15 & 1 else 0))
        self.check("PRMT R12, R10, 0x5410, R10", lambda x: (x & 0xffff) * 0x10001)


class Control(unittest.TestCase):
    def test_divergence(self):  # lanes below 10 loop lane + 1 times, all meet, then they add
        got = one("""
            MOV R12, RZ
            BSSY B0, {join}
            ISETP.GE.AND P0, PT, R0, 0xa, PT
            @P0 BRA {join}
            again:
            VIADD R12, R12, 0x1
            ISETP.GT.AND P1, PT, R12, R0, PT
            @!P1 BRA {again}
            join:
            BSYNC B0
            SHFL.DOWN PT, R13, R12, 0x1, 0x1f
            IADD3 R12, R12, R13, RZ
            """)
        alone = [lane + 1 if lane < 10 else 0 for lane in range(32)]
        self.assertEqual(got.tolist(), [a + (alone[i + 1] if i < 31 else a)
                                        for i, a in enumerate(alone)])

    def test_branch_if_diverged(self):  # lanes from 10 on have left
        got = one("""
            UMOV UR15, 0xffffffff
            MOV R12, RZ
            MOV R13, RZ
            BRA.DIV UR15, {diverged}
            VIADD R12, R12, 0x1
            BSSY B0, {join}
            ISETP.GE.AND P0, PT, R0, 0xa, PT
            @P0 BRA {join}
            BRA.DIV UR15, {diverged}
            VIADD R12, R12, 0x40
            diverged:
            VIADD R12, R12, 0x2
            join:
            BSYNC B0
            """)
        self.assertEqual(got.tolist(), [3 if lane < 10 else 1 for lane in range(32)])

    def test_call(self):
        got = one("""
            MOV R14, {back}
            MOV R15, RZ
            CALL.REL.NOINC {double}
            back:
            STG.E desc[UR4][R8.64], R12
            EXIT
            double:
            IADD3 R12, R10, R10, RZ
            RET.REL.NODEC R14 0x0
            """)
        self.assertEqual(got.tolist(), [2 * w & 0xffffffff for w in SAMPLES])

    def test_shuffle_from_nowhere(self):
        with self.assertRaisesRegex(ExecutionError, "does not take part"):
            one("ISETP.GE.AND P0, PT, R0, 0x10, PT\n@P0 EXIT\nSHFL.DOWN PT, R12, R10, 0x8, 0x1f")

    def test_deadlock(self):
        with self.assertRaisesRegex(ExecutionError, "deadlock"):
            one("""
                BSSY B0, {other}
                ISETP.GE.AND P0, PT, R0, 0x10, PT
                @P0 BRA {other}
                BAR.SYNC.DEFER_BLOCKING 0x0
                other:
                BSYNC B0
                BAR.SYNC.DEFER_BLOCKING 0x0
                """)

    def test_unknown(self):
        with self.assertRaisesRegex(Unsupported, "BFI"):
            one("BFI R12, R10, R10, R10")
        with self.assertRaisesRegex(Unsupported, "modifier .SAT2"):
            one("FADD.SAT2 R12, R10, R10")
        one("EXIT\nBFI R12, R10, R10, R10")  # never reached


if __name__ == "__main__":
    unittest.main()
