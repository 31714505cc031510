"""What the instructions do. Each is compiled once per launch into a closure run(warps, mask).

`warps` (execute.Warps) holds the registers of many warps: u[n], i[n], f[n] are register n of all
lanes as uint32, int32, float32 of shape (warps, 32); uu, ui, uf the uniform ones, shape (warps, 1).
`mask` says which lanes take part, None if all do that are alive. Whatever is not written down here -
opcode, modifier, kind of operand - raises Unsupported when the kernel is compiled, never guesses.
"""
import numpy as np

from .decode import PT, RZ
from .memory import MemoryFault
from . import numerics
from .numerics import F32, F64, U32, U64

I32, I64 = np.int32, np.int64
ALL32 = U64(0xffffffff)
WORD = U64(32)


class Unsupported(Exception):
    pass


class ExecutionError(Exception):
    pass


_COMPILERS = {}


def operation(*names):
    def register(function):
        for name in names:
            _COMPILERS[name] = function
        return function
    return register


def compile_instruction(ins, context):
    """The closure of an instruction that does not touch control flow."""
    compiler = _COMPILERS.get(ins.name)
    if compiler is None:
        raise Unsupported(f"opcode {ins.name}: {ins.text}")
    try:
        body = compiler(ins, context)
    except (IndexError, AttributeError, KeyError, NotImplementedError) as error:
        raise Unsupported(f"form of {ins.name}: {ins.text} ({error!r})") from error
    if ins.guard is None:
        return body
    guard = predicate(ins.guard)

    def guarded(warps, mask):
        taken = guard(warps)
        body(warps, taken if mask is None else taken & mask)
    return guarded


def is_memory(ins):
    return ins.name in ("LDG", "STG", "LDS", "STS", "ATOMG", "RED", "LDSM", "LDGSTS", "ATOMS", "LDL",
                        "STL")


# ---- modifiers and operands --------------------------------------------------------------------
def modifiers(ins, *allowed):
    """The set of an instruction's modifiers; those not allowed stop the compilation."""
    for m in ins.modifiers:
        if m not in allowed:
            raise Unsupported(f"modifier .{m}: {ins.text}")
    return set(ins.modifiers)


def _plain(op, *kinds, suffix=()):
    if op.kind not in kinds:
        raise Unsupported(f"operand kind {op.kind}: {op}")
    if any(s not in suffix for s in op.suffix):
        raise Unsupported(f"operand suffix {op.suffix}")


def scalar(value, dtype):
    return np.array([[value]], dtype)


def _float_text(text):
    text = text.strip().upper()
    if "NAN" in text:
        return np.nan
    return float(text.replace("INF", "inf"))


def integer(op, context):
    """Reader of 32 bits as uint32, with - or ~."""
    _plain(op, "reg", "ureg", "imm", "const")
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
    _plain(op, "reg", "ureg", "imm", "const")
    n = op.number
    if op.kind == "imm":
        value = scalar(_float_text(op.text), F32)
        return lambda w: value
    if op.kind == "const":
        value = context.constant(op, U32).view(F32)
        return _signs(op, lambda w: value)
    if op.kind == "ureg":
        return _signs(op, lambda w: w.uf[n])
    return _signs(op, lambda w: w.f[n])


def pair(op, context):
    """Reader of 64 bits as uint64: two registers, a constant, a sign-extended immediate."""
    _plain(op, "reg", "ureg", "imm", "const")
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
        value = scalar(_float_text(op.text), F64)
        return lambda w: value
    bare = type(op)(op.kind, op.number, bank=op.bank, offset=op.offset, base=op.base,
                    uniform_base=op.uniform_base, suffix=tuple(s for s in op.suffix if s != "64"))
    read = pair(bare, context)
    return _signs(op, lambda w: read(w).view(F64))


def predicate(op):
    _plain(op, "pred", "upred")
    n, uniform = op.number, op.kind == "upred"
    if op.inverted:
        return (lambda w: ~w.up[n]) if uniform else (lambda w: ~w.p[n])
    return (lambda w: w.up[n]) if uniform else (lambda w: w.p[n])


def _put(target, value, mask):
    if mask is None:
        target[...] = value
    else:
        np.copyto(target, value, where=mask, casting="same_kind")


def write(op):
    """Writer of uint32, int32 or float32 to a register."""
    _plain(op, "reg", "ureg")
    n = op.number
    if n == RZ:
        return lambda w, value, mask: None
    if op.kind == "ureg":
        return lambda w, value, mask: _put(w.uu[n], _bits(value), w.warp_mask(mask))
    return lambda w, value, mask: _put(w.u[n], _bits(value), mask)


def _bits(value):
    return value if value.dtype == U32 else value.view(U32)


def write_pair(op):
    """Writer of 64 bits."""
    _plain(op, "reg", "ureg")
    n = op.number
    if n == RZ:
        return lambda w, value, mask: None
    uniform = op.kind == "ureg"

    def run(w, value, mask):
        value = value if value.dtype == U64 else value.view(U64)
        registers = w.uu if uniform else w.u
        if uniform:
            mask = w.warp_mask(mask)
        _put(registers[n], (value & ALL32).astype(U32), mask)
        _put(registers[n + 1], (value >> WORD).astype(U32), mask)
    return run


def write_predicate(op):
    _plain(op, "pred", "upred")
    n = op.number
    if n == PT:
        return None
    if op.kind == "upred":
        return lambda w, value, mask: _put(w.up[n], value, w.warp_mask(mask))
    return lambda w, value, mask: _put(w.p[n], value, mask)


def _predicates_after(ops, first):
    """Predicate operands from ops[first] on, and what follows them."""
    last = first
    while last < len(ops) and ops[last].kind in ("pred", "upred"):
        last += 1
    return ops[first:last], ops[last:]


def _simple(ins, readers, compute, writer):
    """run for writer(compute(*readers))."""
    if len(readers) == 1:
        a, = readers
        return lambda w, m: writer(w, compute(a(w)), m)
    if len(readers) == 2:
        a, b = readers
        return lambda w, m: writer(w, compute(a(w), b(w)), m)
    a, b, c = readers
    return lambda w, m: writer(w, compute(a(w), b(w), c(w)), m)


# ---- float32 -----------------------------------------------------------------------------------
def _float_result(compute, mods):
    if "FTZ" in mods:
        plain = compute
        compute = lambda *x: numerics.flushed(plain(*(numerics.flushed(v) for v in x)))
    if "SAT" in mods:
        unsaturated = compute
        compute = lambda *x: numerics.saturated(unsaturated(*x))
    return compute


@operation("FADD")
def _fadd(ins, c):
    mods = modifiers(ins, "FTZ", "SAT")
    d, a, b = ins.operands
    return _simple(ins, [single(a, c), single(b, c)], _float_result(np.add, mods), write(d))


@operation("FMUL")
def _fmul(ins, c):
    mods = modifiers(ins, "FTZ", "SAT")
    d, a, b = ins.operands
    return _simple(ins, [single(a, c), single(b, c)], _float_result(np.multiply, mods), write(d))


@operation("FFMA")
def _ffma(ins, c):
    mods = modifiers(ins, "FTZ", "SAT", "RM", "RP", "RZ")
    d, x, y, z = ins.operands
    compute = numerics.fma32
    for mode in ("RM", "RP", "RZ"):
        if mode in mods:
            compute = lambda p, q, r, mode=mode: numerics.fma32_directed(p, q, r, mode)
    return _simple(ins, [single(x, c), single(y, c), single(z, c)], _float_result(compute, mods),
                   write(d))


@operation("FMNMX")
def _fmnmx(ins, c):
    mods = modifiers(ins, "FTZ")
    d, a, b, p = ins.operands
    smaller, writer = predicate(p), write(d)
    a, b = single(a, c), single(b, c)

    def run(w, m):
        x, y = a(w), b(w)
        if "FTZ" in mods:
            x, y = numerics.flushed(x), numerics.flushed(y)
        writer(w, np.where(smaller(w), np.fmin(x, y), np.fmax(x, y)), m)
    return run


def _select(reader):
    def compiler(ins, c):
        modifiers(ins)
        d, a, b, p = ins.operands
        first, second, which, writer = reader(a, c), reader(b, c), predicate(p), write(d)
        return lambda w, m: writer(w, np.where(which(w), first(w), second(w)), m)
    return compiler


operation("FSEL")(_select(single))
operation("SEL", "USEL")(_select(integer))


def _combined(result, mode, other):
    if mode == "AND":
        return result & other
    if mode == "OR":
        return result | other
    return result ^ other


def _set_predicates(ins, compute, mode, other):
    """Writes compute(w) and its opposite, both combined with the predicate `other`."""
    first, second = write_predicate(ins.operands[0]), write_predicate(ins.operands[1])
    other = predicate(other)

    def run(w, m):
        result, with_ = compute(w), other(w)
        if first is not None:
            first_value = _combined(result, mode, with_)
        if second is not None:
            second(w, _combined(~result, mode, with_), m)
        if first is not None:
            first(w, first_value, m)
    return run


def _mode(ins):
    modes = [m for m in ins.modifiers if m in ("AND", "OR", "XOR")]
    if len(modes) != 1:
        raise Unsupported(f"combination: {ins.text}")
    return modes[0]


def _float_set(reader):
    def compiler(ins, c):
        modifiers(ins, "FTZ", "AND", "OR", "XOR", *numerics.COMPARISONS)
        name = ins.modifiers[0]
        _, _, a, b, p = ins.operands
        a, b = reader(a, c), reader(b, c)
        compute = lambda w: numerics.compare(name, a(w), b(w))
        if "FTZ" in ins.modifiers:
            compute = lambda w: numerics.compare(name, numerics.flushed(a(w)), numerics.flushed(b(w)))
        return _set_predicates(ins, compute, _mode(ins), p)
    return compiler


operation("FSETP")(_float_set(single))
operation("DSETP")(_float_set(double))


@operation("FCHK")
def _fchk(ins, c):
    """Whether a / b needs the slow way. The hardware's rule is not documented: here, whenever an
    operand or the quotient comes near the ends of the exponent range, 0 / b included. Both ways give
    the same quotient, so this touches timing only."""
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


# ---- float64 -----------------------------------------------------------------------------------
def _double_operation(compute):
    def compiler(ins, c):
        modifiers(ins)
        d, *sources = ins.operands
        return _simple(ins, [double(s, c) for s in sources], compute, write_pair(d))
    return compiler


operation("DADD")(_double_operation(np.add))
operation("DMUL")(_double_operation(np.multiply))
operation("DFMA")(_double_operation(numerics.fma64))


# ---- conversions -------------------------------------------------------------------------------
@operation("F2F")
def _f2f(ins, c):
    modifiers(ins, "F32", "F64")
    d, a = ins.operands
    if ins.modifiers == ("F32", "F64"):
        return _simple(ins, [double(a, c)], lambda x: x.astype(F32), write(d))
    if ins.modifiers == ("F64", "F32"):
        return _simple(ins, [single(a, c)], lambda x: x.astype(F64), write_pair(d))
    raise Unsupported(ins.text)


@operation("FRND")
def _frnd(ins, c):
    mods = modifiers(ins, "F64", "TRUNC", "FLOOR", "CEIL")
    d, a = ins.operands
    function = (np.trunc if "TRUNC" in mods else np.floor if "FLOOR" in mods else
                np.ceil if "CEIL" in mods else np.rint)
    if "F64" in mods:
        return _simple(ins, [double(a, c)], function, write_pair(d))
    return _simple(ins, [single(a, c)], function, write(d))


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
    mods = modifiers(ins, "F16", "F32", "F64", "U8", "S8", "U16", "S16", "U32", "S32", "U64", "S64", "RP", "RN")
    d, a = ins.operands
    kind = [m for m in ins.modifiers if m[0] in "US"]
    kind = kind[0] if kind else "S32"
    byte = [s for s in a.suffix if s[0] == "B"]
    bare = type(a)(a.kind, a.number, bank=a.bank, offset=a.offset, negated=a.negated, text=a.text)
    if kind.endswith("64"):
        read64, dtype = pair(bare, c), U64 if kind[0] == "U" else I64
        read = lambda w: read64(w).view(dtype)
    else:
        word = integer(bare, c)
        size = int(kind[1:])
        shift = U32(8 * int(byte[0][1:])) if byte else U32(0)
        dtype = np.dtype({"U": "u", "S": "i"}[kind[0]] + str(size // 8)).type
        wide = U64 if kind[0] == "U" else I64
        unsigned = np.dtype("u" + str(size // 8)).type
        read = lambda w: (word(w) >> shift).astype(unsigned).view(dtype).astype(wide)
    if "F64" in mods:
        return _simple(ins, [read], lambda x: x.astype(F64), write_pair(d))
    mode = "RP" if "RP" in mods else "RN"
    if "F16" in mods:  # into the lower half
        zero = scalar(0, F32)
        return _simple(ins, [read], lambda x: _packed(numerics.integer_to_float32(x, mode), zero),
                       write(d))
    return _simple(ins, [read], lambda x: numerics.integer_to_float32(x, mode), write(d))


# ---- integers ----------------------------------------------------------------------------------
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
    carries, rest = _predicates_after(ins.operands, 1)
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
    return _simple(ins, [integer(a, c), integer(b, c)], np.add, write(d))


@operation("IMAD", "UIMAD")
def _imad(ins, c):
    mods = modifiers(ins, "MOV", "IADD", "SHL", "U32", "WIDE", "HI", "X")
    d = ins.operands[0]
    carries, rest = _predicates_after(ins.operands, 1)
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
    carries, rest = _predicates_after(ins.operands, 1)
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
        value = lambda w: low(w).view(I32).astype(I64).view(U64)
    else:
        y, top, shift, after = (_wide_term(rest[1], c), integer(rest[2], c),
                                U64(int(rest[3].text, 0)), rest[4:])
        value = lambda w: low(w).astype(U64) | top(w).astype(U64) << WORD
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


_LOP_SHORT = {0xc0: lambda a, b, c: a & b, 0xfc: lambda a, b, c: a | b, 0x3c: lambda a, b, c: a ^ b,
              0x30: lambda a, b, c: a & ~b, 0xf8: lambda a, b, c: a | (b & c), 0xea: lambda a, b, c: (a & b) | c,
              0x96: lambda a, b, c: a ^ b ^ c, 0x33: lambda a, b, c: ~b, 0x80: lambda a, b, c: a & b & c,
              0xfe: lambda a, b, c: a | b | c}


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
        return _set_predicates(ins, lambda w: numerics.compare(name, a(w), b(w)), _mode(ins),
                               operands[4])
    below = predicate(operands[5])  # the comparison of the lower words

    def compute(w):
        x, y = a(w), b(w)
        if name == "EQ":
            return (x == y) & below(w)
        if name == "NEU":
            return (x != y) | below(w)
        strict = x < y if name in ("LT", "LE") else x > y
        return strict | (x == y) & below(w)
    return _set_predicates(ins, compute, _mode(ins), operands[4])


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
    return _simple(ins, [signed(a, c)], np.abs, write(d))


@operation("POPC", "UPOPC")
def _popc(ins, c):
    modifiers(ins)
    d, a = ins.operands

    def count(x):
        return np.unpackbits(np.ascontiguousarray(x)[..., None].view(np.uint8), axis=-1) \
            .sum(axis=-1, dtype=U32)
    return _simple(ins, [integer(a, c)], count, write(d))


@operation("MOV", "UMOV")
def _mov(ins, c):
    modifiers(ins)
    d, a = ins.operands[:2]
    return _simple(ins, [integer(a, c)], lambda x: x, write(d))


@operation("CS2R")
def _cs2r(ins, c):
    mods = modifiers(ins, "32")
    d, source = ins.operands
    if source.text != "SRZ":
        raise Unsupported(ins.text)
    zero = scalar(0, U64)
    if "32" in mods:
        writer = write(d)
        return lambda w, m: writer(w, scalar(0, U32), m)
    wide = write_pair(d)
    return lambda w, m: wide(w, zero, m)


@operation("S2R", "S2UR")
def _s2r(ins, c):
    modifiers(ins)
    d, source = ins.operands
    writer, name = write(d), source.text
    if name not in ("SR_TID.X", "SR_TID.Y", "SR_TID.Z", "SR_CTAID.X", "SR_CTAID.Y", "SR_CTAID.Z",
                    "SR_LANEID", "SR_CgaCtaId"):
        raise Unsupported(ins.text)
    if d.kind == "ureg" and name.startswith(("SR_TID", "SR_LANE")):
        return lambda w, m: writer(w, w.special[name][:, :1], m)
    return lambda w, m: writer(w, w.special[name], m)


@operation("R2UR")
def _r2ur(ins, c):
    modifiers(ins)
    d, a = ins.operands
    read, writer = integer(a, c), write(d)

    def run(w, m):
        lanes = w.active if m is None else m & w.active
        first = lanes.argmax(axis=1)[:, None]
        writer(w, np.take_along_axis(read(w), first, axis=1), m)
    return run


@operation("P2R")
def _p2r(ins, c):
    modifiers(ins)
    d, source, keep, mask = ins.operands
    if source.kind != "predfile" or source.suffix:
        raise Unsupported(ins.text)
    bits, keep, writer = int(mask.text, 0), integer(keep, c), write(d)

    def run(w, m):
        value = keep(w) & U32(~bits & 0xffffffff)
        for n in range(7):
            if bits >> n & 1:
                value = value | w.p[n].astype(U32) << U32(n)
        writer(w, value, m)
    return run


@operation("R2P")
def _r2p(ins, c):
    modifiers(ins)
    target, source, mask = ins.operands
    if target.kind != "predfile" or target.suffix or source.suffix:
        raise Unsupported(ins.text)
    bits, read = int(mask.text, 0), integer(source, c)

    def run(w, m):
        value = read(w)
        for n in range(7):
            if bits >> n & 1:
                _put(w.p[n], (value >> U32(n) & U32(1)) != 0, m)
    return run


# ---- half precision ----------------------------------------------------------------------------
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


def _packed(low, high):
    low, high = np.broadcast_arrays(low.astype(np.float16), high.astype(np.float16))
    return (np.ascontiguousarray(low).view(np.uint16).astype(U32) |
            np.ascontiguousarray(high).view(np.uint16).astype(U32) << U32(16))


def _half_sources(ins, operands, context):
    """Readers; two immediates in a row, the high one first, are one operand."""
    readers, at = [], 0
    while at < len(operands):
        if operands[at].kind == "imm":
            high, low = (scalar(_float_text(o.text), F32) for o in operands[at:at + 2])
            value = int(_packed(low, high)[0, 0])
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
            writer(w, _packed(low, high), m)
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
    return lambda w, m: writer(w, _packed(low(w), high(w)), m)


@operation("HMMA")
def _hmma(ins, c):
    """D[16,8] = A[16,k] B[k,8] + C of a warp, float16 into float32, k = 16 or 8. Summed in float64 and
    rounded once; the hardware's order and truncation are its own."""
    modifiers(ins, "16816", "1688", "F32")
    if "F32" not in ins.modifiers:
        raise Unsupported(ins.text)
    steps = 2 if "16816" in ins.modifiers else 1  # of k8
    d, a, b, e = ins.operands
    for operand in (d, a, b, e):
        _plain(operand, "reg")
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
                _put(w.u[d.number + i],
                     total[:, group + i // 2 * 8, member * 2 + i % 2].astype(F32).view(U32), m)
    return run


operation("HFMA2")(_half(lambda a, b, c: a.astype(F64) * b.astype(F64) + c.astype(F64)))
operation("HMUL2")(_half(lambda a, b: a * b))


# ---- memory ------------------------------------------------------------------------------------
_WIDTHS = {"64": 8, "128": 16, "U8": 1, "S8": 1, "U16": 2, "S16": 2}
_HINTS = ("E", "STRONG", "SYS", "GPU", "CTA", "CONSTANT", "WEAK", "EF", "EL", "LU", "NA")


def _width(ins):
    widths = [_WIDTHS[m] for m in ins.modifiers if m in _WIDTHS]
    return widths[0] if widths else 4


def _global_address(op, context):
    if op.suffix or not op.wide:
        raise Unsupported(f"address {op}")
    offset = scalar(op.offset & 0xffffffffffffffff, U64)
    terms = []
    if op.base != RZ:
        terms.append(lambda w, n=op.base: w.u[n].astype(U64) | w.u[n + 1].astype(U64) << WORD)
    if op.uniform_base != RZ:
        terms.append(lambda w, n=op.uniform_base:
                     w.uu[n].astype(U64) | w.uu[n + 1].astype(U64) << WORD)
    if len(terms) == 1:
        term, = terms
        return lambda w: np.broadcast_to(term(w) + offset, w.shape)
    if len(terms) == 2:
        first, second = terms
        return lambda w: np.broadcast_to(first(w) + second(w) + offset, w.shape)
    return lambda w: np.broadcast_to(offset, w.shape)


def _shared_address(op, context):
    if op.wide or any(s for s in op.suffix):
        raise Unsupported(f"address {op}")
    offset = scalar(op.offset & 0xffffffff, U32)
    base, uniform = op.base, op.uniform_base

    def read(w):
        value = offset
        if base != RZ:
            value = value + w.u[base]
        if uniform != RZ:
            value = value + w.uu[uniform]
        return np.broadcast_to(value, w.shape)
    return read


def _taking_part(w, mask):
    """Flat indices of the lanes that access memory; None: all of them."""
    lanes = w.active if mask is None else w.active & mask
    return lanes, None if lanes.all() else np.flatnonzero(lanes)


def _place(w, ins, space, address, width, loading, mask, record=True):
    """(lanes, flat indices, offsets into the memory's bytes) of a checked access."""
    lanes, chosen = _taking_part(w, mask)
    if w.recorder is not None and record:
        w.recorder.memory(w, ins, space, address, width, lanes)
    flat = address.ravel() if chosen is None else address.ravel()[chosen]
    try:
        if space == "global":
            at = w.memory.offsets(flat, width, loading)
            races = w.global_races
        else:
            at = w.shared_offsets(flat, chosen, width)
            races = w.shared_races
        race = races.access(w, ins, at, width, chosen, loading) if races is not None else None
        if race is not None:
            raise MemoryFault(race[1], int(flat[race[0]]), race[0])
    except MemoryFault as fault:
        lane = fault.lane if chosen is None else int(chosen[fault.lane])
        raise ExecutionError(f"{fault.what}, address {fault.address:#x}, {w.describe(lane)}, "
                             f"instruction {ins.address:#x}: {ins.text}") from None
    return lanes, chosen, at


def _set_register(w, register, values, chosen):
    if chosen is None:
        w.u[register][...] = values.reshape(w.shape)
    else:
        w.u[register].ravel()[chosen] = values  # a view: registers are contiguous


def _get_register(w, register, chosen):
    flat = np.broadcast_to(w.u[register], w.shape).ravel()
    return flat if chosen is None else flat[chosen]


def _load(ins, address, space, views):
    width, register = _width(ins), ins.operands[0].number
    mods = ins.modifiers
    if ins.operands[0].kind != "reg":
        raise Unsupported(ins.text)

    def run(w, mask):
        lanes, chosen, at = _place(w, ins, space, address(w), width, True, mask)
        memory = views(w)
        if register == RZ:
            return
        if width < 4:
            values = memory[width][at >> (width - 1)]
            if "S8" in mods or "S16" in mods:
                values = values.view(np.int8 if width == 1 else np.int16).astype(I32).view(U32)
            _set_register(w, register, values.astype(U32), chosen)
            return
        word = at >> 2
        for i in range(width // 4):
            _set_register(w, register + i, memory[4][word + i] if i else memory[4][word], chosen)
    return run


def _store(ins, address, space, views):
    width, value = _width(ins), ins.operands[1]
    if value.kind != "reg":
        raise Unsupported(ins.text)
    register = value.number

    def run(w, mask):
        lanes, chosen, at = _place(w, ins, space, address(w), width, False, mask)
        memory = views(w)
        if width < 4:
            memory[width][at >> (width - 1)] = _get_register(w, register, chosen) \
                .astype(np.uint8 if width == 1 else np.uint16)
            return
        word = at >> 2
        for i in range(width // 4):
            number = register if register == RZ else register + i
            memory[4][word + i] = _get_register(w, number, chosen)
    return run


@operation("LDG")
def _ldg(ins, c):
    modifiers(ins, *_WIDTHS, *_HINTS)
    return _load(ins, _global_address(ins.operands[1], c), "global", lambda w: w.memory.views)


@operation("STG")
def _stg(ins, c):
    modifiers(ins, *_WIDTHS, *_HINTS)
    return _store(ins, _global_address(ins.operands[0], c), "global", lambda w: w.memory.views)


@operation("LDS")
def _lds(ins, c):
    modifiers(ins, *_WIDTHS)
    return _load(ins, _shared_address(ins.operands[1], c), "shared", lambda w: w.shared)


@operation("STS")
def _sts(ins, c):
    modifiers(ins, *_WIDTHS)
    return _store(ins, _shared_address(ins.operands[0], c), "shared", lambda w: w.shared)


@operation("LDGSTS")
def _ldgsts(ins, c):
    """cp.async: until its wait the destination is all ones, a NaN."""
    modifiers(ins, *_WIDTHS, *_HINTS, "BYPASS", "ACCESS")
    width = _width(ins)
    to, source = _shared_address(ins.operands[0], c), _global_address(ins.operands[1], c)

    def run(w, mask):
        lanes, chosen, at = _place(w, ins, "global", source(w), width, True, mask)
        _, _, into = _place(w, ins, "shared", to(w), width, False, mask, record=False)
        words = np.arange(width // 4)
        into = (into >> 2)[:, None] + words
        w.shared[4][into] = U32(0xffffffff)
        w.begin_copy(np.flatnonzero(lanes), (at >> 2)[:, None] + words, into)
    return run


@operation("LDGDEPBAR")
def _ldgdepbar(ins, c):
    modifiers(ins)
    return lambda w, m: w.commit_copies(w.active if m is None else m & w.active)


@operation("DEPBAR")
def _depbar(ins, c):
    """Of a scoreboard; here, what it means for cp.async: at most `left` groups are under way."""
    modifiers(ins, "LE")
    if len(ins.operands) != 2 or ins.operands[0].kind != "barrier":
        raise Unsupported(ins.text)
    left = int(ins.operands[1].text, 0)
    return lambda w, m: w.finish_copies(w.active if m is None else m & w.active, left)


@operation("LDSM")
def _ldsm(ins, c):
    """ldmatrix: 8x8 matrices of 16 bits, whose rows lie at the addresses of eight lanes each."""
    modifiers(ins, "16", "M88", "MT88", "2", "4")
    count = 4 if "4" in ins.modifiers else 2 if "2" in ins.modifiers else 1
    transposed = "MT88" in ins.modifiers
    d, address = ins.operands[0].number, _shared_address(ins.operands[1], c)
    lane = np.arange(32)

    def run(w, mask):
        lanes = w.active if mask is None else w.active & mask
        if (lanes.any(axis=1) & ~lanes.all(axis=1)).any():
            raise ExecutionError(f"not all lanes take part in {ins.text}, "
                                 f"{w.describe(int(np.flatnonzero(lanes)[0]))}")
        rows = np.zeros(w.shape, np.int64)
        needed = lanes & (lane < 8 * count)
        _, chosen, at = _place(w, ins, "shared", address(w), 16, True, needed)
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
            _put(w.u[d + i], value, mask)
    return run


@operation("ATOMG", "RED")
def _atomg(ins, c):
    modifiers(ins, "E", "ADD", "STRONG", "GPU")  # of uint32
    if "ADD" not in ins.modifiers:
        raise Unsupported(ins.text)
    operands = list(ins.operands)
    result = None
    if ins.name == "ATOMG":
        if write_predicate(operands.pop(0)) is not None:
            raise Unsupported(ins.text)
        result = operands.pop(0).number
    address, source = _global_address(operands[0], c), operands[1].number

    def run(w, mask):
        lanes, chosen, at = _place(w, ins, "global", address(w), 4, True, mask)
        values = _get_register(w, source, chosen)
        before = np.empty(at.size, U32)
        words = w.memory.words
        for i, (place, value) in enumerate(zip(at >> 2, values)):  # one lane after the other
            before[i] = words[place]
            words[place] = before[i] + value
        if result is not None and result != RZ:
            _set_register(w, result, before, chosen)
    return run


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
    words, base, offset, writer = c.constant_words(source.bank), source.base, source.offset, write(d)

    def run(w, m):
        at = w.u[base].view(I32) + I32(offset)
        lanes = w.active if m is None else w.active & m
        at = np.where(lanes, at, 0)
        if (at < 0).any() or (at >> 2 >= words.size).any() or (at & 3).any():
            raise ExecutionError(f"constant bank {source.bank} out of bounds: {ins.text}")
        writer(w, words[at >> 2], m)
    return run


# ---- between lanes -----------------------------------------------------------------------------
@operation("SHFL")
def _shfl(ins, c):
    modifiers(ins, "DOWN", "UP", "BFLY", "IDX")
    mode = ins.modifiers[0]
    p, d, a, by, limit = ins.operands
    found, writer = write_predicate(p), write(d)
    a, by, limit = integer(a, c), integer(by, c), integer(limit, c)
    lane = np.arange(32, dtype=I32)[None, :]

    def run(w, m):
        value = np.broadcast_to(a(w), w.shape)
        distance = (by(w) & U32(31)).view(I32)
        bounds = limit(w)
        segment = (bounds >> U32(8) & U32(31)).view(I32)
        clamp = (bounds & U32(31)).view(I32)
        highest = (lane & segment) | (clamp & ~segment)
        lowest = lane & segment
        if mode == "UP":
            source = lane - distance
            inside = source >= highest
        elif mode == "DOWN":
            source = lane + distance
            inside = source <= highest
        elif mode == "BFLY":
            source = lane ^ distance
            inside = source <= highest
        else:
            source = lowest | (distance & ~segment)
            inside = source <= highest
        source = np.broadcast_to(np.where(inside, source, lane), w.shape)
        lanes = w.active if m is None else w.active & m
        if (lanes & ~np.take_along_axis(lanes, source, axis=1)).any():
            where = int(np.flatnonzero(lanes & ~np.take_along_axis(lanes, source, axis=1))[0])
            raise ExecutionError(f"reads a lane that does not take part: {w.describe(where)}, "
                                 f"instruction {ins.address:#x}: {ins.text}")
        writer(w, np.take_along_axis(value, source, axis=1), m)
        if found is not None:
            found(w, np.broadcast_to(inside, w.shape), m)
    return run


@operation("VOTE", "VOTEU")
def _vote(ins, c):
    modifiers(ins, "ANY", "ALL", "EQ")
    mode = ins.modifiers[0]
    if mode == "EQ":
        raise Unsupported(ins.text)
    operands = list(ins.operands)
    ballot = write(operands.pop(0)) if operands[0].kind in ("reg", "ureg") else None
    outcome, source = write_predicate(operands[0]), predicate(operands[1])

    def run(w, m):
        lanes = w.active if m is None else w.active & m
        votes = np.broadcast_to(source(w), w.shape)
        if ballot is not None:
            ballot(w, w.bits(votes & lanes), m)
        if outcome is not None:
            result = (votes & lanes).any(axis=1) if mode == "ANY" else (votes | ~lanes).all(axis=1)
            outcome(w, result[:, None], m)
    return run


# ---- without effect on values ------------------------------------------------------------------
@operation("NOP", "YIELD", "MEMBAR", "ERRBAR", "CGAERRBAR", "CCTL", "ACQBULK", "PREEXIT")
def _nop(ins, c):
    """Memory is in order here, and kernels run one after the other: fences, cache control and the waits
    for the grid before (ACQBULK, PREEXIT) have nothing to do."""
    modifiers(ins, "SC", "ALL", "GPU", "SYS", "CTA", "IVALL")
    return lambda w, m: None
