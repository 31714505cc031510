"""Tensor cores: mma and ldmatrix."""
import numpy as np

from ..decode import RZ
from ..errors import ExecutionError, Unsupported
from ..numerics import F32, F64, U32
from ..operands import modifiers, plain, put
from .memory import place, shared_address
from .registry import operation


@operation("HMMA")
def _hmma(ins, c):
    """D[16,8] = A[16,k] B[k,8] + C of a warp, float16 into float32, k = 16 or 8. Summed in float64
    and rounded once; the hardware's order and truncation are its own."""
    modifiers(ins, "16816", "1688", "F32")
    if "F32" not in ins.modifiers:
        raise Unsupported(ins.text)
    steps = 2 if "16816" in ins.modifiers else 1  # of k8
    d, a, b, e = ins.operands
    for operand in (d, a, b, e):
        plain(operand, "reg")
    lane = np.arange(32)
    group, member = lane // 4, lane % 4

    def halves(w, register):
        """(warps, 32, 2)"""
        words = np.ascontiguousarray(w.u[register])
        return words.view(np.float16).reshape(*w.shape, 2).astype(F64)

    def run(w, m):
        lanes = w.active if m is None else w.active & m
        count = w.shape[0]
        some = lanes.any(axis=1)
        if (some & ~lanes.all(axis=1)).any():
            raise ExecutionError(f"not all lanes take part in {ins.text}, "
                                 f"{w.describe(int(np.flatnonzero(lanes)[0]))}")
        left, right = np.zeros((count, 16, 8 * steps)), np.zeros((count, 8 * steps, 8))
        total = np.zeros((count, 16, 8))
        for step in range(steps):
            for e2 in range(2):
                k = step * 8 + member * 2 + e2
                for half in range(2):
                    number = a.number if a.number == RZ else a.number + step * 2 + half
                    left[:, group + 8 * half, k] = halves(w, number)[:, :, e2]
                number = b.number if b.number == RZ else b.number + step
                right[:, k, group] = halves(w, number)[:, :, e2]
        for i in range(4):
            number = e.number if e.number == RZ else e.number + i
            total[:, group + i // 2 * 8, member * 2 + i % 2] = w.f[number]
        total += left @ right
        for i in range(4):
            if d.number != RZ:
                put(w.u[d.number + i],
                    total[:, group + i // 2 * 8, member * 2 + i % 2].astype(F32).view(U32), m)
    return run


@operation("LDSM")
def _ldsm(ins, c):
    """ldmatrix: 8x8 matrices of 16 bits, whose rows lie at the addresses of eight lanes each."""
    modifiers(ins, "16", "M88", "MT88", "2", "4")
    count = 4 if "4" in ins.modifiers else 2 if "2" in ins.modifiers else 1
    transposed = "MT88" in ins.modifiers
    d, address = ins.operands[0].number, shared_address(ins.operands[1], c)
    lane = np.arange(32)

    def run(w, mask):
        lanes = w.active if mask is None else w.active & mask
        if (lanes.any(axis=1) & ~lanes.all(axis=1)).any():
            raise ExecutionError(f"not all lanes take part in {ins.text}, "
                                 f"{w.describe(int(np.flatnonzero(lanes)[0]))}")
        rows = np.zeros(w.shape, np.int64)
        needed = lanes & (lane < 8 * count)
        _, chosen, at = place(w, ins, "shared", address(w), 16, True, needed)
        if chosen is None:
            rows[...] = at.reshape(w.shape)
        else:
            rows.ravel()[chosen] = at
        for i in range(count):
            if transposed:
                low = w.shared[2][(rows[:, 8 * i + lane % 4 * 2] >> 1) + lane // 4]
                high = w.shared[2][(rows[:, 8 * i + lane % 4 * 2 + 1] >> 1) + lane // 4]
                value = low.astype(U32) | high.astype(U32) << U32(16)
            else:
                value = w.shared[4][(rows[:, 8 * i + lane // 4] >> 2) + lane % 4]
            put(w.u[d + i], value, mask)
    return run
