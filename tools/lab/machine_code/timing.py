"""How long one multiprocessor needs for its share of a launch.

The recorded streams of its blocks are replayed: four schedulers that issue one instruction a cycle
each, the stall counts and scoreboards that ptxas wrote into the code, pipes, the L1/shared memory
port, first-touch misses to L2. Not modelled: instruction cache, register banks, contention in L2,
DRAM.
"""
from collections import OrderedDict, defaultdict
from dataclasses import dataclass

from .errors import Unsupported
from .recording import LINE, SECTOR

_PIPES = {
    "fma": "FFMA FADD FMUL",
    "fma_heavy": "IMAD HFMA2 HADD2 HMUL2",
    "alu": "IADD3 LOP3 ISETP LEA SHF SEL FSEL FSETP PRMT VIADD VIMNMX VIADDMNMX PLOP3 FMNMX IABS "
           "I2FP MOV P2R R2P CS2R F2FP",
    "special": "MUFU I2F F2I F2F FRND FCHK POPC FLO BREV",
    "double": "DFMA DADD DMUL DSETP",
    "tensor": "HMMA",
    "uniform": "ULDC UIADD3 UIMAD USHF ULEA UMOV ULOP3 UISETP USEL UPLOP3 UPRMT R2UR VOTEU UPOPC "
               "UFLO UBREV",
    "memory": "LDG LD STG ST LDS STS ATOMG RED REDG LDSM LDGSTS SHFL",
    "constant": "LDC",
    "issue": "BRA EXIT BSSY BSYNC BREAK CALL RET BAR NOP YIELD WARPSYNC S2R S2UR MEMBAR ERRBAR "
             "CGAERRBAR CCTL DEPBAR LDGDEPBAR VOTE ACQBULK PREEXIT",
}
_PIPE_OF = {name: pipe for pipe, names in _PIPES.items() for name in names.split()}


class _Static:
    """What the model needs to know of an instruction."""
    __slots__ = ("name", "pipe", "stall", "waits", "write", "read", "bypass", "memory", "text",
                 "barrier", "later")

    def __init__(self, ins):
        if ins.name not in _PIPE_OF:
            raise Unsupported(f"no pipe known for {ins.text}")
        self.name, self.pipe = ins.name, _PIPE_OF[ins.name]
        self.stall = max(1, ins.stall)
        self.waits = tuple(b for b in range(6) if ins.wait_mask >> b & 1)
        self.write = ins.write_barrier if ins.write_barrier < 6 else None
        self.read = ins.read_barrier if ins.read_barrier < 6 else None
        self.bypass = ("SYS" if "SYS" in ins.modifiers else
                       "GPU" if "STRONG" in ins.modifiers else "")
        self.memory = _PIPE_OF[ins.name] == "memory" and ins.name != "SHFL"
        self.text = f"{ins.address:#06x} {ins.text}"
        self.barrier = None  # (number, warps or None for all) of a BAR
        self.later = int(ins.operands[1].text, 0) if ins.name == "DEPBAR" else 0
        if ins.name == "BAR":
            number, *threads = (int(o.text, 0) for o in ins.operands)
            self.barrier = (number, threads[0] // 32 if threads else None)


def _replay(program, stream, accesses):
    """The instructions of one warp: (static, access or None, whether a branch was taken)."""
    tables = program.__dict__.setdefault("timing_tables", {})
    accesses = iter(accesses)
    last = len(stream) - 1
    for i, number in enumerate(stream):
        table = tables.get(number)
        if table is None:
            table = tables[number] = [_Static(ins) for ins in program.order[number].instructions]
        for static in table[:-1]:
            yield static, next(accesses) if static.memory else None, False
        static = table[-1]
        taken = i < last and static.name in ("BRA", "CALL", "RET") and stream[i + 1] != number + 1
        yield static, next(accesses) if static.memory else None, taken


class _Warp:
    __slots__ = ("stream", "next", "ready", "own", "scoreboard", "block", "waiting", "copies",
                 "groups")

    def __init__(self, stream, block, time):
        self.stream, self.block = stream, block
        self.ready, self.scoreboard, self.waiting = time, [0.0] * 6, False
        self.copies = 0.0  # when the last cp.async has arrived,
        self.groups = []   # and the last of each group that was committed
        self.advance()

    def advance(self):
        self.next = next(self.stream, None)
        if self.next is not None:
            own = self.ready
            for b in self.next[0].waits:
                if self.scoreboard[b] > own:
                    own = self.scoreboard[b]
            self.own = own


class _Block:
    __slots__ = ("warps", "number", "arrived", "triggered")

    def __init__(self, warps, number):
        self.warps, self.number = warps, number
        self.arrived = {}      # barrier -> warps that wait there
        self.triggered = None  # when it let the next kernel begin


class Multiprocessor:
    def __init__(self, model, profile=None):
        self.model = model
        self.issued = 0
        self.port_free = self.l2_free = self.store_free = 0.0
        self.l1 = OrderedDict()  # sector -> when it is there; oldest use first
        self.l1_sectors = model.l1_bytes // SECTOR
        self.profile = profile   # text of an instruction -> [issues, cycles waited beyond stalls]

    def run(self, blocks, slots, early=False):
        """Cycles for blocks, each a list of warp streams, of which `slots` run at a time. `early`:
        the kernel before ends only when all of them have done all that they can do without it.
        Afterwards `ended` and `triggered` say of each block when its last warp ended, and when it
        let the next kernel begin; `released`, when the kernel before ended."""
        self.released = None if early else 0.0
        self._held = []  # warps that wait for it
        pending = list(enumerate(blocks))[::-1]
        self.ended = [0.0] * len(pending)
        self.triggered = [0.0] * len(pending)
        schedulers = [[] for _ in range(4)]
        pipes = [defaultdict(float) for _ in range(4)]
        last = [None] * 4
        self._placed = 0
        alive = 0

        def start(time):
            number, streams = pending.pop()
            block = _Block(len(streams), number)
            for stream in streams:
                schedulers[self._placed % 4].append(_Warp(stream, block, time))
                self._placed += 1
        for _ in range(min(slots, len(pending))):
            start(0.0)
            alive += 1
        time = 0.0
        while alive:
            soonest = float("inf")
            for q in range(4):
                warps, free = schedulers[q], pipes[q]
                chosen = None
                order = warps
                if last[q] is not None and last[q] in warps:  # greedy, then the oldest
                    order = [last[q]] + warps
                for warp in order:
                    if warp.waiting:
                        continue
                    at = self._earliest(warp, free)
                    if at <= time:
                        chosen = warp
                        break
                    if at < soonest:
                        soonest = at
                if chosen is None:
                    continue
                last[q] = chosen
                self.issued += 1
                soonest = min(soonest, time + 1)
                self._issue(chosen, free, time)
                if chosen.next is None:
                    warps.remove(chosen)
                    block = chosen.block
                    block.warps -= 1
                    if block.warps == 0:
                        alive -= 1
                        self.ended[block.number] = time
                        self.triggered[block.number] = \
                            time if block.triggered is None else block.triggered
                        if pending:
                            start(time + self.model.block_start)
                            alive += 1
                    else:
                        self._meet(block, time)
            if soonest == float("inf") and self._held:
                soonest = self._release()
            time = soonest if soonest > time else time + 1
            if time == float("inf"):
                raise RuntimeError("every warp waits at a barrier")
        return max(time, self.store_free)

    def _release(self):
        """When what the held warps have loaded is there, they go on."""
        self.released = max(max(w.ready, w.copies, *w.scoreboard) for w in self._held)
        for warp in self._held:
            warp.waiting = False
            warp.own = warp.ready = self.released
        self._held = []
        return self.released

    def _earliest(self, warp, free):
        static = warp.next[0]
        pipe, at = static.pipe, warp.own
        if pipe == "issue":
            return at
        if pipe == "fma":
            other = min(free["fma_heavy"], free["fma_lite"])
        elif pipe == "memory":
            other = max(free["mio"], self.port_free - self.model.port_queue)
            if static.name in ("STG", "ST"):
                other = max(other, self.store_free - self.model.store_queue)
        elif pipe == "constant":
            other = free["mio"]
        else:
            other = free[pipe]
        return at if at > other else other

    def _issue(self, warp, free, time):
        m = self.model
        static, access, taken = warp.next
        pipe = static.pipe
        if self.profile is not None:
            entry = self.profile.setdefault(static.text, [0, 0.0])
            entry[0] += 1
            entry[1] += time - warp.ready
        warp.ready = time + static.stall
        latency = None
        if pipe == "fma":
            lighter = "fma_lite" if free["fma_lite"] <= free["fma_heavy"] else "fma_heavy"
            free[lighter] = time + m.half_rate
        elif pipe in ("fma_heavy", "alu"):
            free[pipe] = time + m.half_rate
        elif pipe == "special":
            free[pipe] = time + m.special_rate
            latency = m.special_latency
        elif pipe == "double":
            free[pipe] = time + m.half_rate
            latency = m.double_latency
        elif pipe == "tensor":
            free[pipe] = time + m.tensor_rate
        elif pipe == "uniform":
            free[pipe] = time + m.half_rate
            latency = m.uniform_latency
        elif pipe == "constant":
            free["mio"] = time + m.half_rate
            latency = m.constant_latency
        elif pipe == "memory":
            free["mio"] = time + m.half_rate
            latency = self._memory(warp, static, access, time)
        elif static.name in ("S2R", "S2UR"):
            latency = m.s2r_latency
        elif static.name == "MEMBAR":
            latency = m.fence_latency
            warp.ready = time + latency
        elif static.name == "CCTL":
            self.l1.clear()
        elif static.name == "LDGDEPBAR":
            warp.groups.append(warp.copies)
        elif static.name == "DEPBAR":
            arrived = warp.groups[:len(warp.groups) - static.later]
            warp.ready = max([warp.ready, *arrived])
        elif static.name == "PREEXIT" and warp.block.triggered is None:
            warp.block.triggered = time
        if latency is not None:
            if static.write is not None:
                warp.scoreboard[static.write] = max(warp.scoreboard[static.write], time + latency)
            if static.read is not None:
                done = time + (min(latency, m.source_read_latency) if pipe == "memory" else latency)
                warp.scoreboard[static.read] = max(warp.scoreboard[static.read], done)
        if taken:
            warp.ready = max(warp.ready, time + m.taken_branch)
        if static.name == "BAR":
            warp.waiting = True
            warp.block.arrived.setdefault(static.barrier, []).append(warp)
            warp.advance()
            self._meet(warp.block, time)
        elif static.name == "ACQBULK" and self.released is None:
            warp.waiting = True
            self._held.append(warp)
            warp.advance()
        else:
            warp.advance()

    def _meet(self, block, time):
        """Lets the warps at a barrier go if none is missing."""
        for barrier, warps in list(block.arrived.items()):
            if len(warps) >= (barrier[1] or block.warps):
                for warp in warps:
                    warp.waiting = False
                    warp.own = max(warp.own, time + self.model.barrier_latency)
                    warp.ready = max(warp.ready, time + self.model.barrier_latency)
                del block.arrived[barrier]

    def _memory(self, warp, static, access, time):
        """Takes the port, moves sectors; returns the latency."""
        m, name = self.model, static.name
        passes, sectors = access if access is not None else (1, ())
        if passes == 0:
            return 1.0  # no lane takes part
        if sectors:
            lines = len({s // (LINE // SECTOR) for s in sectors})
            moved = passes * 32 if m.port_counts_lanes else len(sectors) * SECTOR
            passes = max(1, moved / m.port_bytes, lines / m.lines_per_cycle)
        self.port_free = max(self.port_free, time) + passes
        queue = self.port_free - time
        if name == "SHFL":
            return m.shuffle_latency + queue
        if name in ("LDS", "LDSM"):
            return m.shared_latency + queue
        if name == "STS":
            return m.source_read_latency + queue
        if name in ("ATOMG",):
            return m.atomic_latency
        if name in ("STG", "ST", "RED", "REDG"):
            self.store_free = max(self.store_free, time) + m.l2_store_sector * len(sectors)
            return m.source_read_latency + queue
        arrival = time
        if static.bypass:
            self.l2_free = max(self.l2_free, time) + m.l2_load_sector * len(sectors)
            extra = m.system_latency if static.bypass == "SYS" else m.l2_latency
            return queue + extra + self.l2_free - time
        for sector in sectors:
            there = self.l1.get(sector)
            if there is None:
                self.l2_free = max(self.l2_free, time) + m.l2_load_sector
                there = self.l2_free + m.l2_latency - m.l1_latency
                self.l1[sector] = there
                if len(self.l1) > self.l1_sectors:
                    self.l1.popitem(last=False)
            else:
                self.l1.move_to_end(sector)
            if there > arrival:
                arrival = there
        latency = m.l1_latency + queue + arrival - time
        if name == "LDGSTS":
            warp.copies = max(warp.copies, time + latency)
            return m.source_read_latency + queue
        return latency


_WARPS, _BLOCKS, _REGISTERS, _SHARED = 64, 32, 65536, 227 * 1024  # of a multiprocessor, 9.0


def _needs(kernel, launch):
    """(warps, registers, bytes of shared memory) that a block takes."""
    warps = -(-launch.threads // 32)
    shared = max(kernel.shared_bytes, 1024) + launch.dynamic_shared
    return warps, -(-kernel.registers * 32 // 256) * 256 * warps, -(-shared // 128) * 128


def resident_blocks(kernel, launch):
    """Blocks of a launch that fit a multiprocessor."""
    warps, registers, shared = _needs(kernel, launch)
    # Each scheduler has a quarter of the registers.
    by_registers = _REGISTERS // 4 // (registers // warps) * 4 // warps
    return max(1, min(_WARPS // warps, _BLOCKS, by_registers, _SHARED // shared))


def share_of(multiprocessor, launch, model):
    """The blocks that a multiprocessor gets if they are dealt out in order."""
    return list(range(multiprocessor, launch.blocks, model.multiprocessors))


@dataclass
class Part:
    """Blocks of a recorded launch that run on the multiprocessor."""
    program: object
    recorder: object  # recording.Recorder
    launch: object
    blocks: list

    def streams(self):
        warps = -(-self.launch.threads // 32)
        keys = [[(block, w) for w in range(warps)] for block in self.blocks]
        return [[_replay(self.program, self.recorder.streams[k], self.recorder.accesses[k])
                 for k in block if self.recorder.streams[k]] for block in keys]


@dataclass
class Cycles:
    """What a multiprocessor takes for its blocks."""
    body: float      # from when the kernel before has ended,
    prologue: float  # what they had done and loaded until then,
    tail: float      # and the last part of the body, beside which the next kernel may begin
    issued: int      # instructions


def time_part(part, model, profile=None, early=False):
    """Cycles; `early`: the kernel before ends when the prologue has."""
    sm = Multiprocessor(model, profile)
    end = sm.run(part.streams(), resident_blocks(part.program.kernel, part.launch), early)
    prologue = sm.released or 0.0
    return Cycles(end - prologue, prologue, max(0.0, end - max(sm.triggered)), sm.issued)


def fit_together(first, second, model):
    """Whether a block of the second part starts beside those of the first."""
    slots = min(len(first.blocks), resident_blocks(first.program.kernel, first.launch))
    taken = [slots * need for need in _needs(first.program.kernel, first.launch)]
    needs = _needs(second.program.kernel, second.launch)
    limits = _WARPS, _REGISTERS, model.shared_bytes
    return all(a + b <= limit for a, b, limit in zip(taken, needs, limits))


def time_beside(side, part, model):
    """Cycles until the blocks of `part` have ended if those of `side` started first, as many at a
    time as fit."""
    sm, blocks, slots = Multiprocessor(model), [], 0
    left = [_WARPS, _REGISTERS, _SHARED]
    for of in (side, part):
        needs = _needs(of.program.kernel, of.launch)
        for block in of.streams():
            blocks.append(block)
            left = [have - need for have, need in zip(left, needs)]
            slots += min(left) >= 0
    sm.run(blocks, max(1, slots))
    return max(sm.ended[len(side.blocks):])
