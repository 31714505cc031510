"""Conversions between kinds of numbers."""
import numpy as np

from .. import numerics
from ..errors import Unsupported
from ..numerics import F32, F64, U32, U64
from ..operands import (ALL32, I64, computed, double, integer, modifiers, pair, scalar, single,
                        write, write_pair)
from .half import packed_halves
from .registry import operation


@operation("F2F")
def _f2f(ins, c):
    modifiers(ins, "F32", "F64")
    d, a = ins.operands
    if ins.modifiers == ("F32", "F64"):
        return computed(ins, [double(a, c)], lambda x: x.astype(F32), write(d))
    if ins.modifiers == ("F64", "F32"):
        return computed(ins, [single(a, c)], lambda x: x.astype(F64), write_pair(d))
    raise Unsupported(ins.text)


@operation("FRND")
def _frnd(ins, c):
    mods = modifiers(ins, "F64", "TRUNC", "FLOOR", "CEIL")
    d, a = ins.operands
    function = (np.trunc if "TRUNC" in mods else np.floor if "FLOOR" in mods else
                np.ceil if "CEIL" in mods else np.rint)
    if "F64" in mods:
        return computed(ins, [double(a, c)], function, write_pair(d))
    return computed(ins, [single(a, c)], function, write(d))


@operation("F2I")
def _f2i(ins, c):
    mods = modifiers(ins, "FTZ", "U32", "S32", "U64", "S64", "F64", "TRUNC", "FLOOR", "CEIL", "NTZ")
    d, a = ins.operands
    read = double(a, c) if "F64" in mods else single(a, c)
    wide = "U64" in mods or "S64" in mods
    unsigned = "U64" in mods or "U32" in mods
    bits = 64 if wide else 32
    low, high = (0, 2 ** bits - 1) if unsigned else (-2 ** (bits - 1), 2 ** (bits - 1) - 1)
    function = (np.trunc if "TRUNC" in mods else np.floor if "FLOOR" in mods else
                np.ceil if "CEIL" in mods else np.rint)
    writer = write_pair(d) if wide else write(d)
    dtype = U64 if unsigned else I64

    def run(w, m):
        x = function(read(w).astype(F64))
        fits = (x >= low) & (x <= high)
        value = np.where(fits, x, 0).astype(dtype)
        value = np.where(x > high, dtype(high), np.where(x < low, dtype(low), value))
        writer(w, value.view(U64) if wide else (value.view(U64) & ALL32).astype(U32), m)
    return run


@operation("I2F", "I2FP")
def _i2f(ins, c):
    mods = modifiers(ins, "F16", "F32", "F64", "U8", "S8", "U16", "S16", "U32", "S32", "U64", "S64",
                     "RP", "RN")
    d, a = ins.operands
    kind = [m for m in ins.modifiers if m[0] in "US"]
    kind = kind[0] if kind else "S32"
    byte = [s for s in a.suffix if s[0] == "B"]
    bare = type(a)(a.kind, a.number, bank=a.bank, offset=a.offset, negated=a.negated, text=a.text)
    if kind.endswith("64"):
        read64, dtype = pair(bare, c), U64 if kind[0] == "U" else I64

        def read(w):
            return read64(w).view(dtype)
    else:
        word = integer(bare, c)
        size = int(kind[1:])
        shift = U32(8 * int(byte[0][1:])) if byte else U32(0)
        dtype = np.dtype({"U": "u", "S": "i"}[kind[0]] + str(size // 8)).type
        wide = U64 if kind[0] == "U" else I64
        unsigned = np.dtype("u" + str(size // 8)).type

        def read(w):
            return (word(w) >> shift).astype(unsigned).view(dtype).astype(wide)
    if "F64" in mods:
        return computed(ins, [read], lambda x: x.astype(F64), write_pair(d))
    mode = "RP" if "RP" in mods else "RN"
    if "F16" in mods:  # into the lower half
        zero = scalar(0, F32)
        return computed(ins, [read], lambda x: packed_halves(
            numerics.integer_to_float32(x, mode), zero), write(d))
    return computed(ins, [read], lambda x: numerics.integer_to_float32(x, mode), write(d))
