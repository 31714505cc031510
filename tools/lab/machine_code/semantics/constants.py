"""Constant banks, and kernel parameters, which lie in bank 0."""
import numpy as np

from ..decode import RZ
from ..errors import ExecutionError, Unsupported
from ..numerics import U32, U64
from ..operands import I32, modifiers, write, write_pair
from .registry import operation


@operation("LDC", "ULDC")
def _ldc(ins, c):
    mods = modifiers(ins, "64", "U8", "S8", "U16", "S16")
    d, source = ins.operands
    if source.base != RZ or source.uniform_base != RZ:
        return _indexed_ldc(ins, c)
    if "64" in mods:
        value, wide = c.constant(source, U64), write_pair(d)
        return lambda w, m: wide(w, value, m)
    narrow = [m for m in ins.modifiers if m[0] in "US"]
    if narrow:
        dtype = np.dtype({"U": "u", "S": "i"}[narrow[0][0]] + str(int(narrow[0][1:]) // 8))
        value = c.constant(source, dtype.type).astype(I32).view(U32)
    else:
        value = c.constant(source, U32)
    writer = write(d)
    return lambda w, m: writer(w, value, m)


def _indexed_ldc(ins, c):
    d, source = ins.operands
    if ins.modifiers or d.kind != "reg" or source.uniform_base != RZ:
        raise Unsupported(ins.text)
    words, base, offset = c.constant_words(source.bank), source.base, source.offset
    writer = write(d)

    def run(w, m):
        at = w.u[base].view(I32) + I32(offset)
        lanes = w.active if m is None else w.active & m
        at = np.where(lanes, at, 0)
        if (at < 0).any() or (at >> 2 >= words.size).any() or (at & 3).any():
            raise ExecutionError(f"constant bank {source.bank} out of bounds: {ins.text}")
        writer(w, words[at >> 2], m)
    return run
