"""Global and shared memory."""
import numpy as np

from ..decode import RZ
from ..errors import ExecutionError, Unsupported
from ..memory import MemoryFault
from ..numerics import U32, U64
from ..operands import I32, WORD, modifiers, scalar, write_predicate
from .registry import operation


_WIDTHS = {"64": 8, "128": 16, "U8": 1, "S8": 1, "U16": 2, "S16": 2}
_HINTS = ("E", "STRONG", "SYS", "GPU", "CTA", "CONSTANT", "WEAK", "EF", "EL", "LU", "NA")


def width_of(ins):
    widths = [_WIDTHS[m] for m in ins.modifiers if m in _WIDTHS]
    return widths[0] if widths else 4


def global_address(op, context):
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


def shared_address(op, context):
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


def place(w, ins, space, address, width, loading, mask, record=True):
    """(lanes, flat indices, offsets into the memory's bytes) of a checked access."""
    lanes, chosen = _taking_part(w, mask)
    if w.recorder is not None and record:
        w.recorder.memory(w, ins, space, address, width, lanes)
    flat = address.ravel() if chosen is None else address.ravel()[chosen]
    try:
        if space == "global":
            at = w.memory.offsets(flat, width, loading)
            watchers = w.global_races, w.early_starts
        else:
            at = w.shared_offsets(flat, chosen, width)
            watchers = w.shared_races,
        for watcher in filter(None, watchers):
            fault = watcher.access(w, ins, at, width, chosen, loading)
            if fault is not None:
                raise MemoryFault(fault[1], int(flat[fault[0]]), fault[0])
    except MemoryFault as fault:
        lane = fault.lane if chosen is None else int(chosen[fault.lane])
        raise ExecutionError(f"{fault.what}, address {fault.address:#x}, {w.describe(lane)}, "
                             f"instruction {ins.address:#x}: {ins.text}") from None
    return lanes, chosen, at


def set_register(w, register, values, chosen):
    if chosen is None:
        w.u[register][...] = values.reshape(w.shape)
    else:
        w.u[register].ravel()[chosen] = values  # a view: registers are contiguous


def get_register(w, register, chosen):
    flat = np.broadcast_to(w.u[register], w.shape).ravel()
    return flat if chosen is None else flat[chosen]


def _load(ins, address, space, views):
    width, register = width_of(ins), ins.operands[0].number
    mods = ins.modifiers
    if ins.operands[0].kind != "reg":
        raise Unsupported(ins.text)

    def run(w, mask):
        lanes, chosen, at = place(w, ins, space, address(w), width, True, mask)
        memory = views(w)
        if register == RZ:
            return
        if width < 4:
            values = memory[width][at >> (width - 1)]
            if "S8" in mods or "S16" in mods:
                values = values.view(np.int8 if width == 1 else np.int16).astype(I32).view(U32)
            set_register(w, register, values.astype(U32), chosen)
            return
        word = at >> 2
        for i in range(width // 4):
            set_register(w, register + i, memory[4][word + i] if i else memory[4][word], chosen)
    return run


def _store(ins, address, space, views):
    width, value = width_of(ins), ins.operands[1]
    if value.kind != "reg":
        raise Unsupported(ins.text)
    register = value.number

    def run(w, mask):
        lanes, chosen, at = place(w, ins, space, address(w), width, False, mask)
        memory = views(w)
        if width < 4:
            memory[width][at >> (width - 1)] = get_register(w, register, chosen) \
                .astype(np.uint8 if width == 1 else np.uint16)
            return
        word = at >> 2
        for i in range(width // 4):
            number = register if register == RZ else register + i
            memory[4][word + i] = get_register(w, number, chosen)
    return run


@operation("LDG", "LD")
def _ldg(ins, c):
    """LD, ST: by a generic address; one of shared memory would be found outside of the arena."""
    modifiers(ins, *_WIDTHS, *_HINTS)
    return _load(ins, global_address(ins.operands[1], c), "global", lambda w: w.memory.views)


@operation("STG", "ST")
def _stg(ins, c):
    modifiers(ins, *_WIDTHS, *_HINTS)
    return _store(ins, global_address(ins.operands[0], c), "global", lambda w: w.memory.views)


@operation("LDS")
def _lds(ins, c):
    modifiers(ins, *_WIDTHS)
    return _load(ins, shared_address(ins.operands[1], c), "shared", lambda w: w.shared)


@operation("STS")
def _sts(ins, c):
    modifiers(ins, *_WIDTHS)
    return _store(ins, shared_address(ins.operands[0], c), "shared", lambda w: w.shared)


@operation("LDGSTS")
def _ldgsts(ins, c):
    """cp.async: until its wait the destination is all ones, a NaN."""
    modifiers(ins, *_WIDTHS, *_HINTS, "BYPASS", "ACCESS")
    width = width_of(ins)
    to, source = shared_address(ins.operands[0], c), global_address(ins.operands[1], c)

    def run(w, mask):
        lanes, chosen, at = place(w, ins, "global", source(w), width, True, mask)
        _, _, into = place(w, ins, "shared", to(w), width, False, mask, record=False)
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


@operation("ATOMG", "RED", "REDG")
def _atomg(ins, c):
    modifiers(ins, "E", "ADD", "64", "STRONG", "GPU")  # of unsigned integers
    if "ADD" not in ins.modifiers:
        raise Unsupported(ins.text)
    operands = list(ins.operands)
    result = None
    if ins.name == "ATOMG":
        if write_predicate(operands.pop(0)) is not None:
            raise Unsupported(ins.text)
        result = operands.pop(0).number
    address, source = global_address(operands[0], c), operands[1].number
    width = width_of(ins)
    if width == 8 and result not in (None, RZ):
        raise Unsupported(ins.text)

    def run(w, mask):
        lanes, chosen, at = place(w, ins, "global", address(w), width, True, mask)
        values = get_register(w, source, chosen)
        words = w.memory.views[width]
        if width == 8:
            high = values if source == RZ else get_register(w, source + 1, chosen)
            values = values.astype(U64) | high.astype(U64) << WORD
        before = np.empty(at.size, words.dtype)
        for i, (word, value) in enumerate(zip(at // width, values)):  # one lane after the other
            before[i] = words[word]
            words[word] = before[i] + value
        if result is not None and result != RZ:
            set_register(w, result, before, chosen)
    return run
