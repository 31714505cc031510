"""Integers and predicates."""
import numpy as np

from .. import numerics
from ..decode import RZ
from ..errors import Unsupported
from ..numerics import F64, U32, U64
from ..operands import (ALL32, I32, I64, WORD, combination, computed, integer, modifiers, pair,
                        predicate, predicates_after, set_predicates, signed, write, write_pair,
                        write_predicate)
from .registry import operation


def _wide_term(op, context):
    """A 32-bit operand as it enters an adder with carries: -x is ~x + 1."""
    bare = type(op)(op.kind, op.number, text=op.text, bank=op.bank, offset=op.offset, base=op.base,
                    uniform_base=op.uniform_base, suffix=op.suffix)
    read = integer(bare, context)
    if op.negated:
        return lambda w: (read(w) ^ U32(0xffffffff)).astype(U64) + U64(1)
    if op.inverted:
        return lambda w: (read(w) ^ U32(0xffffffff)).astype(U64)
    return lambda w: read(w).astype(U64)


@operation("IADD3", "UIADD3")
def _iadd3(ins, c):
    mods = modifiers(ins, "X")
    d = ins.operands[0]
    carries, rest = predicates_after(ins.operands, 1)
    sources, carry_in = rest[:3], rest[3:]
    writer = write(d)
    carry_out = [write_predicate(p) for p in carries]  # two of them count the carry in unary
    inputs = [predicate(p) for p in carry_in] if "X" in mods else []
    if not carry_out and not inputs:
        x, y, z = (integer(s, c) for s in sources)
        if sources[2].number == RZ and sources[2].kind in ("reg", "ureg"):
            return lambda w, m: writer(w, x(w) + y(w), m)
        return lambda w, m: writer(w, x(w) + y(w) + z(w), m)
    x, y, z = (_wide_term(s, c) for s in sources)

    def run(w, m):
        total = x(w) + y(w) + z(w)
        for p in inputs:
            total = total + p(w)
        writer(w, (total & ALL32).astype(U32), m)
        carry = total >> WORD
        for i, out in enumerate(carry_out):
            if out is not None:
                out(w, carry > i, m)
    return run


@operation("VIADD")
def _viadd(ins, c):
    modifiers(ins)
    d, a, b = ins.operands
    return computed(ins, [integer(a, c), integer(b, c)], np.add, write(d))


@operation("IMAD", "UIMAD")
def _imad(ins, c):
    mods = modifiers(ins, "MOV", "IADD", "SHL", "U32", "WIDE", "HI", "X")
    d = ins.operands[0]
    carries, rest = predicates_after(ins.operands, 1)
    a, b, z = rest[:3]
    writer = write(d)
    if "WIDE" in mods or "HI" in mods:
        if "X" in mods or len(carries) > 1:
            raise Unsupported(ins.text)
        carry = write_predicate(carries[0]) if carries else None
        if carry is not None and "U32" not in mods:
            raise Unsupported(ins.text)
        read, kind = (integer, U64) if "U32" in mods else (signed, I64)
        x, y, addend = read(a, c), read(b, c), pair(z, c)
        wide = write_pair(d)

        def product(w):
            return (x(w).astype(kind) * y(w).astype(kind)).view(U64) + addend(w)
        if carry is not None:
            def with_carry(w, m):
                total = product(w)
                overflow = total < addend(w)
                if "WIDE" in mods:
                    wide(w, total, m)
                else:
                    writer(w, (total >> WORD).astype(U32), m)
                carry(w, overflow, m)
            return with_carry
        if "WIDE" in mods:
            return lambda w, m: wide(w, product(w), m)
        return lambda w, m: writer(w, (product(w) >> WORD).astype(U32), m)
    x, y, addend = integer(a, c), integer(b, c), integer(z, c)
    if "X" in mods:  # in front of the last operand: ~z for a subtraction
        carry = predicate(rest[3])
        if any(write_predicate(p) for p in carries):
            raise Unsupported(ins.text)
        return lambda w, m: writer(w, x(w) * y(w) + addend(w) + carry(w), m)
    if any(write_predicate(p) for p in carries) or len(rest) > 3:
        raise Unsupported(ins.text)
    if a.kind in ("reg", "ureg") and a.number == RZ:
        return lambda w, m: writer(w, addend(w), m)
    return lambda w, m: writer(w, x(w) * y(w) + addend(w), m)


@operation("LEA", "ULEA")
def _lea(ins, c):
    mods = modifiers(ins, "HI", "X", "SX32")
    d = ins.operands[0]
    carries, rest = predicates_after(ins.operands, 1)
    out = write_predicate(carries[0]) if carries else None
    if len(carries) > 1:
        raise Unsupported(ins.text)
    writer = write(d)
    a = rest[0]
    if "HI" not in mods:
        if "X" in mods or a.inverted or len(rest) != 3:
            raise Unsupported(ins.text)
        x, y, shift = integer(a, c), _wide_term(rest[1], c), U32(int(rest[2].text, 0))

        def run(w, m):
            total = (x(w) << shift).astype(U64) + y(w)
            writer(w, (total & ALL32).astype(U32), m)
            if out is not None:
                out(w, (total >> WORD) != 0, m)
        return run
    if a.negated or a.inverted:
        raise Unsupported(ins.text)
    low = integer(a, c)
    if "SX32" in mods:
        y, shift, after = _wide_term(rest[1], c), U64(int(rest[2].text, 0)), rest[3:]

        def value(w):
            return low(w).view(I32).astype(I64).view(U64)
    else:
        y, top, shift, after = (_wide_term(rest[1], c), integer(rest[2], c),
                                U64(int(rest[3].text, 0)), rest[4:])

        def value(w):
            return low(w).astype(U64) | top(w).astype(U64) << WORD
    carry = predicate(after[0]) if "X" in mods else None

    def run_high(w, m):
        total = (value(w) << shift >> WORD & ALL32) + y(w)
        if carry is not None:
            total = total + carry(w)
        writer(w, (total & ALL32).astype(U32), m)
        if out is not None:
            out(w, (total >> WORD) != 0, m)
    return run_high


@operation("SHF", "USHF")
def _shf(ins, c):
    """A funnel shift of (high, low) by min(shift, 32) or, of 64-bit kinds, min(shift, 63)."""
    mods = modifiers(ins, "L", "R", "U32", "S32", "U64", "S64", "HI", "W")
    d, low, shift, high = ins.operands
    low, shift, high, writer = integer(low, c), integer(shift, c), integer(high, c), write(d)
    width = 64 if "U64" in mods or "S64" in mods else 32
    is_signed = "S32" in mods or "S64" in mods

    def run(w, m):
        by = shift(w)
        if "W" in mods:
            by = by & U32(width - 1)
        elif width == 64:
            by = np.minimum(by, U32(63))
        else:
            by = np.minimum(by, U32(32))
        by = by.astype(U64)
        value = low(w).astype(U64) | high(w).astype(U64) << WORD
        if "L" in mods:
            value = value << by
        elif is_signed:
            value = (value.view(I64) >> by.view(I64)).view(U64)
        else:
            value = value >> by
        writer(w, ((value >> WORD) if "HI" in mods else (value & ALL32)).astype(U32), m)
    return run


def _lut(table, a, b, c, ones):
    """The three-input function whose result for bits (a, b, c) is bit 4a+2b+c of the table."""
    result = a ^ a ^ (b ^ b) ^ (c ^ c)
    for i in range(8):
        if table >> i & 1:
            term = a if i & 4 else a ^ ones
            term = term & (b if i & 2 else b ^ ones)
            term = term & (c if i & 1 else c ^ ones)
            result = result | term
    return result


_LOP_SHORT = {
    0xc0: lambda a, b, c: a & b, 0xfc: lambda a, b, c: a | b, 0x3c: lambda a, b, c: a ^ b,
    0x30: lambda a, b, c: a & ~b, 0xf8: lambda a, b, c: a | (b & c),
    0xea: lambda a, b, c: (a & b) | c, 0x96: lambda a, b, c: a ^ b ^ c, 0x33: lambda a, b, c: ~b,
    0x80: lambda a, b, c: a & b & c, 0xfe: lambda a, b, c: a | b | c}


for _table, _function in _LOP_SHORT.items():
    assert _function(0xf0, 0xcc, 0xaa) & 0xff == _table


@operation("LOP3", "ULOP3")
def _lop3(ins, c):
    modifiers(ins, "LUT")
    operands = list(ins.operands)
    out = write_predicate(operands.pop(0)) if operands[0].kind in ("pred", "upred") else None
    d, x, y, z, table, p = operands
    writer, table, other = write(d), int(table.text, 0), predicate(p)
    x, y, z = integer(x, c), integer(y, c), integer(z, c)
    ones = U32(0xffffffff)
    compute = _LOP_SHORT.get(table) or (lambda a, b, e: _lut(table, a, b, e, ones))
    if out is None:
        return lambda w, m: writer(w, compute(x(w), y(w), z(w)), m)

    def run(w, m):
        value = compute(x(w), y(w), z(w))
        out(w, (value != 0) | other(w), m)
        writer(w, value, m)
    return run


@operation("PLOP3", "UPLOP3")
def _plop3(ins, c):
    modifiers(ins, "LUT")
    d, e, x, y, z, table, second_table = ins.operands
    x, y, z = predicate(x), predicate(y), predicate(z)
    tables = [int(table.text, 0), int(second_table.text, 0)]
    writers = [write_predicate(d), write_predicate(e)]

    def run(w, m):
        a, b, f = x(w), y(w), z(w)
        values = [_lut(t, a, b, f, np.True_) for t in tables]
        for writer, value in zip(writers, values):
            if writer is not None:
                writer(w, value, m)
    return run


@operation("PRMT", "UPRMT")
def _prmt(ins, c):
    modifiers(ins)
    d, a, selector, b = ins.operands
    a, selector, b, writer = integer(a, c), integer(selector, c), integer(b, c), write(d)

    def run(w, m):
        value = a(w).astype(U64) | b(w).astype(U64) << WORD
        select = selector(w)
        result = U32(0)
        for i in range(4):
            nibble = select >> U32(4 * i)
            byte = (value >> ((nibble & U32(7)).astype(U64) * U64(8)) & U64(255)).astype(U32)
            sign = np.where(byte & U32(128), U32(255), U32(0))
            result = result | np.where(nibble & U32(8), sign, byte) << U32(8 * i)
        writer(w, result.astype(U32), m)
    return run


@operation("ISETP", "UISETP")
def _isetp(ins, c):
    mods = modifiers(ins, "EQ", "NE", "LT", "LE", "GT", "GE", "U32", "AND", "OR", "XOR", "EX")
    name = ins.modifiers[0]
    operands = ins.operands
    reader = integer if "U32" in mods else signed
    a, b = reader(operands[2], c), reader(operands[3], c)
    name = "NEU" if name == "NE" else name
    if "EX" not in mods:
        return set_predicates(ins, lambda w: numerics.compare(name, a(w), b(w)),
                              combination(ins), operands[4])
    below = predicate(operands[5])  # the comparison of the lower words

    def compute(w):
        x, y = a(w), b(w)
        if name == "EQ":
            return (x == y) & below(w)
        if name == "NEU":
            return (x != y) | below(w)
        strict = x < y if name in ("LT", "LE") else x > y
        return strict | (x == y) & below(w)
    return set_predicates(ins, compute, combination(ins), operands[4])


@operation("VIMNMX")
def _vimnmx(ins, c):
    mods = modifiers(ins, "U32")
    d, a, b, p = ins.operands
    read = integer if "U32" in mods else signed
    a, b, smaller, writer = read(a, c), read(b, c), predicate(p), write(d)

    def run(w, m):
        x, y = a(w), b(w)
        writer(w, np.where(smaller(w), np.minimum(x, y), np.maximum(x, y)), m)
    return run


@operation("VIADDMNMX")
def _viaddmnmx(ins, c):
    mods = modifiers(ins, "U32")
    d, a, b, e, p = ins.operands
    read = integer if "U32" in mods else signed
    a, b, e, smaller, writer = read(a, c), read(b, c), read(e, c), predicate(p), write(d)

    def run(w, m):
        x, y = a(w) + b(w), e(w)
        writer(w, np.where(smaller(w), np.minimum(x, y), np.maximum(x, y)), m)
    return run


@operation("IABS")
def _iabs(ins, c):
    modifiers(ins)
    d, a = ins.operands
    return computed(ins, [signed(a, c)], np.abs, write(d))


@operation("BREV", "UBREV")
def _brev(ins, c):
    modifiers(ins)
    d, a = ins.operands

    def reverse(x):
        for shift, mask in ((1, 0x55555555), (2, 0x33333333), (4, 0x0f0f0f0f), (8, 0x00ff00ff)):
            x = (x >> U32(shift)) & U32(mask) | (x & U32(mask)) << U32(shift)
        return x >> U32(16) | x << U32(16)
    return computed(ins, [integer(a, c)], reverse, write(d))


@operation("FLO", "UFLO")
def _flo(ins, c):
    """The highest bit that is set, or with SH how far it is from the top; all ones if there is
    none."""
    mods = modifiers(ins, "U32", "SH")
    if "U32" not in mods:
        raise Unsupported(ins.text)
    d, a = ins.operands

    def find(x):
        top = (np.frexp(x.astype(F64))[1] - 1).astype(I32)  # exact; -1 of zero
        value = np.where(top < 0, I32(-1), I32(31) - top) if "SH" in mods else top
        return value.view(U32)
    return computed(ins, [integer(a, c)], find, write(d))


@operation("POPC", "UPOPC")
def _popc(ins, c):
    modifiers(ins)
    d, a = ins.operands

    def count(x):
        return np.unpackbits(np.ascontiguousarray(x)[..., None].view(np.uint8), axis=-1) \
            .sum(axis=-1, dtype=U32)
    return computed(ins, [integer(a, c)], count, write(d))
