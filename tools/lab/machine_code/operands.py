"""Readers and writers of operands: closures over the registers of many warps.

`warps` (execute.Warps) holds them: u[n], i[n], f[n] are register n of all lanes as uint32, int32,
float32 of shape (warps, 32); uu, ui, uf the uniform ones, shape (warps, 1). A reader is called with
`warps`; a writer with `warps`, the value and the mask of the lanes that take part (None: all).
"""
import numpy as np

from .decode import PT, RZ
from .errors import Unsupported
from .numerics import F32, F64, U32, U64

I32, I64 = np.int32, np.int64
ALL32 = U64(0xffffffff)
WORD = U64(32)


def modifiers(ins, *allowed):
    """The set of an instruction's modifiers; those not allowed stop the compilation."""
    for m in ins.modifiers:
        if m not in allowed:
            raise Unsupported(f"modifier .{m}: {ins.text}")
    return set(ins.modifiers)


def plain(op, *kinds, suffix=()):
    if op.kind not in kinds:
        raise Unsupported(f"operand kind {op.kind}: {op}")
    if any(s not in suffix for s in op.suffix):
        raise Unsupported(f"operand suffix {op.suffix}")


def scalar(value, dtype):
    return np.array([[value]], dtype)


def float_text(text):
    text = text.strip().upper()
    if "NAN" in text:
        return np.nan
    return float(text.replace("INF", "inf"))


def integer(op, context):
    """Reader of 32 bits as uint32, with - or ~."""
    plain(op, "reg", "ureg", "imm", "const")
    if op.absolute:
        raise Unsupported("|x| of an integer")
    if op.kind == "imm":
        value = scalar(int(op.text, 0) & 0xffffffff, U32)
        return lambda w: value
    if op.kind == "const":
        value = context.constant(op, U32)
        value = (np.negative(value) if op.negated else ~value if op.inverted else value)
        return lambda w: value
    n = op.number
    uniform = op.kind == "ureg"
    if op.negated:
        return (lambda w: np.negative(w.uu[n])) if uniform else (lambda w: np.negative(w.u[n]))
    if op.inverted:
        return (lambda w: ~w.uu[n]) if uniform else (lambda w: ~w.u[n])
    return (lambda w: w.uu[n]) if uniform else (lambda w: w.u[n])


def signed(op, context):
    read = integer(op, context)
    return lambda w: read(w).view(I32)


def _signs(op, read):
    if op.inverted:
        raise Unsupported("~x of a float")
    if op.absolute and op.negated:
        return lambda w: -np.abs(read(w))
    if op.absolute:
        return lambda w: np.abs(read(w))
    if op.negated:
        return lambda w: -read(w)
    return read


def single(op, context):
    """Reader of a float32."""
    plain(op, "reg", "ureg", "imm", "const")
    n = op.number
    if op.kind == "imm":
        value = scalar(float_text(op.text), F32)
        return lambda w: value
    if op.kind == "const":
        value = context.constant(op, U32).view(F32)
        return _signs(op, lambda w: value)
    if op.kind == "ureg":
        return _signs(op, lambda w: w.uf[n])
    return _signs(op, lambda w: w.f[n])


def pair(op, context):
    """Reader of 64 bits as uint64: two registers, a constant, a sign-extended immediate."""
    plain(op, "reg", "ureg", "imm", "const")
    if op.negated or op.inverted or op.absolute:
        raise Unsupported("sign of a register pair")
    n = op.number
    if op.kind == "imm":
        value = scalar(int(op.text, 0) & 0xffffffffffffffff, U64)
        return lambda w: value
    if op.kind == "const":
        value = context.constant(op, U64)
        return lambda w: value
    if n == RZ:
        zero = scalar(0, U64)
        return lambda w: zero
    if op.kind == "ureg":
        return lambda w: w.uu[n].astype(U64) | w.uu[n + 1].astype(U64) << WORD
    return lambda w: w.u[n].astype(U64) | w.u[n + 1].astype(U64) << WORD


def double(op, context):
    """Reader of a float64."""
    if op.kind == "imm":
        value = scalar(float_text(op.text), F64)
        return lambda w: value
    bare = type(op)(op.kind, op.number, bank=op.bank, offset=op.offset, base=op.base,
                    uniform_base=op.uniform_base, suffix=tuple(s for s in op.suffix if s != "64"))
    read = pair(bare, context)
    return _signs(op, lambda w: read(w).view(F64))


def predicate(op):
    plain(op, "pred", "upred")
    n, uniform = op.number, op.kind == "upred"
    if op.inverted:
        return (lambda w: ~w.up[n]) if uniform else (lambda w: ~w.p[n])
    return (lambda w: w.up[n]) if uniform else (lambda w: w.p[n])


def put(target, value, mask):
    if mask is None:
        target[...] = value
    else:
        np.copyto(target, value, where=mask, casting="same_kind")


def write(op):
    """Writer of uint32, int32 or float32 to a register."""
    plain(op, "reg", "ureg")
    n = op.number
    if n == RZ:
        return lambda w, value, mask: None
    if op.kind == "ureg":
        return lambda w, value, mask: put(w.uu[n], bits_of(value), w.warp_mask(mask))
    return lambda w, value, mask: put(w.u[n], bits_of(value), mask)


def bits_of(value):
    return value if value.dtype == U32 else value.view(U32)


def write_pair(op):
    """Writer of 64 bits."""
    plain(op, "reg", "ureg")
    n = op.number
    if n == RZ:
        return lambda w, value, mask: None
    uniform = op.kind == "ureg"

    def run(w, value, mask):
        value = value if value.dtype == U64 else value.view(U64)
        registers = w.uu if uniform else w.u
        if uniform:
            mask = w.warp_mask(mask)
        put(registers[n], (value & ALL32).astype(U32), mask)
        put(registers[n + 1], (value >> WORD).astype(U32), mask)
    return run


def write_predicate(op):
    plain(op, "pred", "upred")
    n = op.number
    if n == PT:
        return None
    if op.kind == "upred":
        return lambda w, value, mask: put(w.up[n], value, w.warp_mask(mask))
    return lambda w, value, mask: put(w.p[n], value, mask)


def predicates_after(ops, first):
    """Predicate operands from ops[first] on, and what follows them."""
    last = first
    while last < len(ops) and ops[last].kind in ("pred", "upred"):
        last += 1
    return ops[first:last], ops[last:]


def computed(ins, readers, compute, writer):
    """run for writer(compute(*readers))."""
    if len(readers) == 1:
        a, = readers
        return lambda w, m: writer(w, compute(a(w)), m)
    if len(readers) == 2:
        a, b = readers
        return lambda w, m: writer(w, compute(a(w), b(w)), m)
    a, b, c = readers
    return lambda w, m: writer(w, compute(a(w), b(w), c(w)), m)


def combined(result, mode, other):
    if mode == "AND":
        return result & other
    if mode == "OR":
        return result | other
    return result ^ other


def set_predicates(ins, compute, mode, other):
    """Writes compute(w) and its opposite, both combined with the predicate `other`."""
    first, second = write_predicate(ins.operands[0]), write_predicate(ins.operands[1])
    other = predicate(other)

    def run(w, m):
        result, with_ = compute(w), other(w)
        if first is not None:
            first_value = combined(result, mode, with_)
        if second is not None:
            second(w, combined(~result, mode, with_), m)
        if first is not None:
            first(w, first_value, m)
    return run


def combination(ins):
    modes = [m for m in ins.modifiers if m in ("AND", "OR", "XOR")]
    if len(modes) != 1:
        raise Unsupported(f"combination: {ins.text}")
    return modes[0]
