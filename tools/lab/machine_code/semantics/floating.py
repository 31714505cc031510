"""float32 and float64."""
import functools

import numpy as np

from .. import numerics
from ..numerics import F32, F64, U32, U64
from ..operands import (I32, WORD, combination, computed, double, integer, modifiers, predicate,
                        set_predicates, single, write, write_pair, write_predicate)
from .registry import operation


def _float_result(compute, mods):
    def modified(*values):
        if "FTZ" in mods:
            result = numerics.flushed(compute(*(numerics.flushed(v) for v in values)))
        else:
            result = compute(*values)
        return numerics.saturated(result) if "SAT" in mods else result
    return modified if {"FTZ", "SAT"} & mods else compute


@operation("FADD")
def _fadd(ins, c):
    mods = modifiers(ins, "FTZ", "SAT")
    d, a, b = ins.operands
    return computed(ins, [single(a, c), single(b, c)], _float_result(np.add, mods), write(d))


@operation("FMUL")
def _fmul(ins, c):
    mods = modifiers(ins, "FTZ", "SAT")
    d, a, b = ins.operands
    return computed(ins, [single(a, c), single(b, c)], _float_result(np.multiply, mods), write(d))


@operation("FFMA")
def _ffma(ins, c):
    mods = modifiers(ins, "FTZ", "SAT", "RM", "RP", "RZ")
    d, x, y, z = ins.operands
    compute = numerics.fma32
    for mode in ("RM", "RP", "RZ"):
        if mode in mods:
            compute = functools.partial(numerics.fma32_directed, mode=mode)
    return computed(ins, [single(x, c), single(y, c), single(z, c)],
                    _float_result(compute, mods), write(d))


@operation("FMNMX")
def _fmnmx(ins, c):
    mods = modifiers(ins, "FTZ", "NAN")
    least, most = (np.minimum, np.maximum) if "NAN" in mods else (np.fmin, np.fmax)
    d, a, b, p = ins.operands
    smaller, writer = predicate(p), write(d)
    a, b = single(a, c), single(b, c)

    def run(w, m):
        x, y = a(w), b(w)
        if "FTZ" in mods:
            x, y = numerics.flushed(x), numerics.flushed(y)
        writer(w, np.where(smaller(w), least(x, y), most(x, y)), m)
    return run


def _float_set(reader):
    def compiler(ins, c):
        modifiers(ins, "FTZ", "AND", "OR", "XOR", *numerics.COMPARISONS)
        name = ins.modifiers[0]
        _, _, a, b, p = ins.operands
        a, b = reader(a, c), reader(b, c)
        flush = numerics.flushed if "FTZ" in ins.modifiers else lambda x: x

        def compute(w):
            return numerics.compare(name, flush(a(w)), flush(b(w)))
        return set_predicates(ins, compute, combination(ins), p)
    return compiler


operation("FSETP")(_float_set(single))
operation("DSETP")(_float_set(double))


@operation("FCHK")
def _fchk(ins, c):
    """Whether a / b needs the slow way. The hardware's rule is not documented: here, whenever an
    operand or the quotient comes near the ends of the exponent range, 0 / b included. Both ways
    give the same quotient, so this touches timing only."""
    modifiers(ins, "DIVIDE")
    d, a, b = ins.operands
    a, b, writer = single(a, c), single(b, c), write_predicate(d)

    def run(w, m):
        x, y = np.broadcast_arrays(a(w), b(w))
        ex = (np.ascontiguousarray(x).view(U32) >> 23 & 255).astype(I32)
        ey = (np.ascontiguousarray(y).view(U32) >> 23 & 255).astype(I32)
        easy = (ex > 24) & (ex < 254) & (ey > 1) & (ey < 252) & (ex - ey > -125) & (ex - ey < 126)
        writer(w, ~easy, m)
    return run


@operation("MUFU")
def _mufu(ins, c):
    """The special functions, correctly rounded here; the hardware may be off in the last bit."""
    modifiers(ins, "RCP", "RSQ", "EX2", "LG2", "SQRT", "RCP64H")
    d, a = ins.operands
    writer, which = write(d), ins.modifiers[0]
    if which == "RCP64H":
        read = integer(a, c)

        def run(w, m):
            value = 1.0 / (read(w).astype(U64) << WORD).view(F64)
            writer(w, (value.view(U64) >> WORD).astype(U32), m)
        return run
    read = single(a, c)
    function = {"RCP": lambda x: 1.0 / x, "RSQ": lambda x: 1.0 / np.sqrt(x), "EX2": np.exp2,
                "LG2": np.log2, "SQRT": np.sqrt}[which]
    return lambda w, m: writer(w, function(read(w).astype(F64)).astype(F32), m)


def _double_operation(compute):
    def compiler(ins, c):
        modifiers(ins)
        d, *sources = ins.operands
        return computed(ins, [double(s, c) for s in sources], compute, write_pair(d))
    return compiler


operation("DADD")(_double_operation(np.add))
operation("DMUL")(_double_operation(np.multiply))
operation("DFMA")(_double_operation(numerics.fma64))
