"""Copies, selections, special registers, and what has no effect on values."""
import numpy as np

from ..errors import Unsupported
from ..numerics import U32, U64
from ..operands import (computed, integer, modifiers, predicate, put, scalar, single, write,
                        write_pair)
from .registry import operation


def _select(reader):
    def compiler(ins, c):
        modifiers(ins)
        d, a, b, p = ins.operands
        first, second, which, writer = reader(a, c), reader(b, c), predicate(p), write(d)
        return lambda w, m: writer(w, np.where(which(w), first(w), second(w)), m)
    return compiler


operation("FSEL")(_select(single))
operation("SEL", "USEL")(_select(integer))


@operation("MOV", "UMOV")
def _mov(ins, c):
    modifiers(ins)
    d, a = ins.operands[:2]
    return computed(ins, [integer(a, c)], lambda x: x, write(d))


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
                put(w.p[n], (value >> U32(n) & U32(1)) != 0, m)
    return run


@operation("NOP", "YIELD", "MEMBAR", "ERRBAR", "CGAERRBAR", "CCTL")
def _nop(ins, c):
    """Memory is in order here: fences and cache control have nothing to do."""
    modifiers(ins, "SC", "ALL", "GPU", "SYS", "CTA", "IVALL")
    return lambda w, m: None


@operation("ACQBULK")
def _acqbulk(ins, c):
    """griddepcontrol.wait. The kernel before has ended already: they run one after the other."""
    modifiers(ins)
    return lambda w, m: w.wait_for_predecessor(w.active if m is None else m & w.active)


@operation("PREEXIT")
def _preexit(ins, c):
    """griddepcontrol.launch_dependents."""
    modifiers(ins)
    return lambda w, m: w.launch_dependents(w.active if m is None else m & w.active)
