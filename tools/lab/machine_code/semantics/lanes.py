"""Between the lanes of a warp."""
import numpy as np

from ..errors import ExecutionError, Unsupported
from ..numerics import U32
from ..operands import I32, integer, modifiers, predicate, write, write_predicate
from .registry import operation


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
