"""Pairs of float16."""
import numpy as np

from ..errors import Unsupported
from ..numerics import F32, F64, U32
from ..operands import float_text, integer, modifiers, scalar, single, write
from .registry import operation


def _half_pair(op, context):
    """Reader of two float16 as float32 arrays (low, high)."""
    if op.kind not in ("reg", "ureg", "const"):
        raise Unsupported(f"half operand {op}")
    which = op.suffix
    if any(s not in ("H0_H0", "H1_H1", "H1_H0") for s in which):
        raise Unsupported(f"operand suffix {which}")
    bare = type(op)(op.kind, op.number, bank=op.bank, offset=op.offset)
    word = integer(bare, context)

    def read(w):
        value = word(w)
        low = (value & U32(0xffff)).astype(np.uint16).view(np.float16).astype(F32)
        high = (value >> U32(16)).astype(np.uint16).view(np.float16).astype(F32)
        if "H0_H0" in which:
            high = low
        if "H1_H1" in which:
            low = high
        if op.absolute:
            low, high = np.abs(low), np.abs(high)
        return (-low, -high) if op.negated else (low, high)
    return read


def packed_halves(low, high):
    low, high = np.broadcast_arrays(low.astype(np.float16), high.astype(np.float16))
    return (np.ascontiguousarray(low).view(np.uint16).astype(U32) |
            np.ascontiguousarray(high).view(np.uint16).astype(U32) << U32(16))


def _half_sources(ins, operands, context):
    """Readers; two immediates in a row, the high one first, are one operand."""
    readers, at = [], 0
    while at < len(operands):
        if operands[at].kind == "imm":
            high, low = (scalar(float_text(o.text), F32) for o in operands[at:at + 2])
            value = int(packed_halves(low, high)[0, 0])
            if value != ins.immediate:
                raise Unsupported(f"half immediates {value:#x}, encoded {ins.immediate:#x}")
            readers.append(lambda w, low=low, high=high: (low, high))
            at += 2
        else:
            readers.append(_half_pair(operands[at], context))
            at += 1
    return readers


def _half(compute):
    """Computed in float32, where products of float16 are exact, and rounded once more."""
    def compiler(ins, c):
        mods = modifiers(ins, "MMA", "RELU", "F32")
        if "F32" in mods:
            raise Unsupported(ins.text)
        d, *sources = ins.operands
        readers, writer = _half_sources(ins, sources, c), write(d)

        def run(w, m):
            values = [r(w) for r in readers]
            low, high = compute(*(v[0] for v in values)), compute(*(v[1] for v in values))
            if "RELU" in mods:
                low, high = np.maximum(low, 0), np.maximum(high, 0)
            writer(w, packed_halves(low, high), m)
        return run
    return compiler


@operation("HADD2")
def _hadd2(ins, c):
    if "F32" not in ins.modifiers:
        return _half(lambda a, b: a + b)(ins, c)
    modifiers(ins, "F32")  # of the selected halves, into a float32
    d, *sources = ins.operands
    (a, b), writer = _half_sources(ins, sources, c), write(d)
    return lambda w, m: writer(w, a(w)[0] + b(w)[0], m)


@operation("F2FP")
def _f2fp(ins, c):
    mods = modifiers(ins, "F16", "F32", "PACK_AB", "RELU")
    d, high, low = ins.operands
    high, low, writer = single(high, c), single(low, c), write(d)
    if mods != {"F16", "F32", "PACK_AB"}:
        raise Unsupported(ins.text)
    return lambda w, m: writer(w, packed_halves(low(w), high(w)), m)


operation("HFMA2")(_half(lambda a, b, c: a.astype(F64) * b.astype(F64) + c.astype(F64)))
operation("HMUL2")(_half(lambda a, b: a * b))
