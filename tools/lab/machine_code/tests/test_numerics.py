"""Floating-point operations against exact fractions."""
import unittest
from fractions import Fraction

import numpy as np

from machine_code import numerics


class Numbers(unittest.TestCase):
    @staticmethod
    def rounded(value, dtype):
        """A fraction to the nearest float32 or float64, ties to even."""
        near = dtype(float(value))
        candidates = [near, np.nextafter(near, dtype(np.inf)), np.nextafter(near, dtype(-np.inf))]
        bits = np.uint32 if dtype is np.float32 else np.uint64
        return min(candidates,
                   key=lambda c: (abs(Fraction(float(c)) - value), int(c.view(bits)) & 1))

    def test_fma(self):
        rng = np.random.default_rng(1)
        for dtype, function in ((np.float32, numerics.fma32), (np.float64, numerics.fma64)):
            a, b, c = (rng.standard_normal(2000).astype(dtype) for _ in range(3))
            c[:500] = -(a[:500] * b[:500])  # cancellation
            c[500:900] *= dtype(1e-8)       # the sum's tail decides
            got = function(a[None], b[None], c[None])[0]
            for x, y, z, g in zip(a, b, c, got):
                x, y, z = (Fraction(float(v)) for v in (x, y, z))
                want = self.rounded(x * y + z, dtype)
                self.assertEqual(g, want)

    def test_fma32_tie(self):  # a half-way case that float64 alone gets wrong
        a, b = np.float32(1 + 2 ** -12), np.float32(1 + 2 ** -12)  # 1 + 2^-11 + 2^-24
        for c in (np.float32(2 ** -60), np.float32(-2 ** -60)):
            got = numerics.fma32(*(np.array([[v]]) for v in (a, b, c)))[0, 0]
            self.assertEqual(got, np.float32(1 + 2 ** -11) + (np.float32(2 ** -23) if c > 0 else 0))

    def test_directed(self):
        one_, tiny = np.array([[1]], np.float32), np.array([[2 ** -80]], np.float32)
        up = numerics.fma32_directed(one_, one_, tiny, "RP")[0, 0]
        down = numerics.fma32_directed(one_, one_, -tiny, "RM")[0, 0]
        zero = numerics.fma32_directed(one_, one_, -tiny, "RZ")[0, 0]
        self.assertEqual((up, down, zero), (np.float32(1 + 2 ** -23), np.float32(1 - 2 ** -24),
                                            np.float32(1 - 2 ** -24)))


if __name__ == "__main__":
    unittest.main()
