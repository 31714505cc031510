"""ldmatrix and mma against numpy."""
import unittest

import numpy as np

from .machine import HEAD, Machine, kernel


class TensorCores(unittest.TestCase):
    def test_hmma(self):
        """LDSM and HMMA.16816 against numpy, by the layout of mma.m16n8k16's documentation."""
        rng = np.random.default_rng(2)
        a, b = (rng.standard_normal(s).astype(np.float16) for s in ((16, 16), (16, 8)))
        words = np.concatenate([a.ravel().view(np.uint32), b.ravel().view(np.uint32)])  # 128 + 64
        copy = "\n".join(f"LDG.E R11, desc[UR4][R6.64+{128 * i:#x}]\n"
                         f"LEA R12, R0, {0x400 + 128 * i:#x}, 0x2"
                         "\nSTS [R12], R11" for i in range(6))
        program = kernel(HEAD + copy + """
            LOP3.LUT R12, R0, 0xf, RZ, 0xc0, !PT
            SHF.R.U32.HI R13, RZ, 0x4, R0
            LEA R12, R12, 0x400, 0x5
            LEA R12, R13, R12, 0x4
            LDSM.16.M88.4 R16, [R12]
            LOP3.LUT R13, R0, 0xf, RZ, 0xc0, !PT
            LEA R13, R13, 0x600, 0x4
            LDSM.16.MT88.2 R20, [R13]
            HMMA.16816.F32 R24, R16, R20, RZ
            IMAD.WIDE R8, R0, 0xc, R8
            STG.E desc[UR4][R8.64], R24
            STG.E desc[UR4][R8.64+0x4], R25
            STG.E desc[UR4][R8.64+0x8], R26
            STG.E desc[UR4][R8.64+0xc], R27
            EXIT
            """, shared=768)
        got = Machine(words).run(program)[:128].view(np.float32).reshape(8, 4, 2, 2)
        got = got.transpose(2, 0, 1, 3).reshape(16, 8)  # row half, row, column pair, column
        np.testing.assert_allclose(got, a.astype(float) @ b.astype(float), rtol=1e-6, atol=1e-6)


if __name__ == "__main__":
    unittest.main()
