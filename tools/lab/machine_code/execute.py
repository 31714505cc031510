"""Runs a kernel: many warps at once, each lane with its own program counter.

Whole blocks form a group whose warps are numpy rows. The group repeatedly takes the lowest program
counter among its lanes that can run and executes that basic block for all lanes that are there.
Divergent lanes meet again where the machine code says so (BSSY/BSYNC, WARPSYNC) or earlier lanes
catch up. Blocks of a group run interleaved, groups one after the other: a kernel whose blocks wait
for each other within a launch would not end, and is reported as a deadlock or by `max_steps`.
"""
from dataclasses import dataclass

import numpy as np

from .decode import INSTRUCTION_BYTES, RZ, PT
from .errors import ExecutionError, Unsupported
from .memory import MemoryFault
from .numerics import U32
from .races import Races
from .operands import integer, predicate
from .semantics import compile_instruction

_NOWHERE = np.int32(2 ** 31 - 1)
_CONTROL = ("BRA", "EXIT", "BSYNC", "BAR", "CALL", "RET", "WARPSYNC")
SHARED_RESERVED = 0x400  # sm_90: the first kilobyte of shared memory is the system's


# ---- programs ----------------------------------------------------------------------------------
@dataclass
class BasicBlock:
    index: int
    instructions: list   # with the one that ends it
    body: list           # closures
    end: object          # closure(warps, mask) that sets program counters


class Program:
    """A kernel with its constants, compiled."""

    def __init__(self, kernel, constants):
        self.kernel = kernel
        self.constants = constants  # bank -> bytes
        self.blocks = {}            # address -> BasicBlock
        self.order = []
        self.unsupported = set()    # texts of what could not be compiled
        self.reached = set()        # numbers of the basic blocks that were executed
        for code in self._split():
            self._compile(code)
        self.register_count = 1 + max(
            [o.number + 4 for i in kernel.instructions for o in i.operands
             if o.kind == "reg" and o.number != RZ] +
            [o.base + 2 for i in kernel.instructions for o in i.operands if o.base != RZ] + [8])

    def counts(self):
        """Instructions in basic blocks that were executed, and all; padding not counted."""
        counts = [sum(i.name != "NOP" for i in block.instructions) for block in self.order]
        return sum(counts[n] for n in self.reached), sum(counts)

    def _split(self):
        instructions = self.kernel.instructions
        leaders = {0}
        for ins in instructions:
            if ins.name in ("BRA", "CALL") and ins.target is not None:
                leaders.add(ins.target)
            if ins.name in _CONTROL:
                leaders.add(ins.address + INSTRUCTION_BYTES)
            if ins.name in ("BSYNC", "BAR", "WARPSYNC"):
                leaders.add(ins.address)  # lanes wait there
        code = []
        for ins in instructions:
            if ins.address in leaders and code:
                yield code
                code = []
            code.append(ins)
        yield code

    def _compile(self, code):
        block = BasicBlock(len(self.order), code, [], None)
        last = code[-1]
        body = code[:-1] if last.name in _CONTROL else code
        try:
            block.body = [self._compile_one(ins) for ins in body]
            block.end = self._compile_end(last)
        except Unsupported as error:
            # Code that is never reached may hold anything: complain when it is.
            message = f"{self.kernel.name}: not supported: {error}"
            self.unsupported.add(str(error))

            def unsupported(warps, mask):
                raise Unsupported(message)
            block.body, block.end = [unsupported], None
        self.blocks[code[0].address] = block
        self.order.append(block)

    def _compile_one(self, ins):
        if ins.name == "BSSY":
            number = ins.operands[0].number
            return self._guarded(ins, lambda w, m: w.converge_later(number, m))
        if ins.name == "BREAK":
            number = ins.operands[-1].number
            if len(ins.operands) > 1:
                raise Unsupported(ins.text)
            return self._guarded(ins, lambda w, m: w.leave_barrier(number, m))
        return compile_instruction(ins, self)

    @staticmethod
    def _guarded(ins, action):
        """For closures that need the mask of the lanes, whether or not all take part."""
        if ins.guard is None:
            return lambda w, m: action(w, w.active if m is None else m & w.active)
        guard = predicate(ins.guard)
        return lambda w, m: action(w, w.active & guard(w))

    def _compile_end(self, ins):
        """The closure that moves the program counters of the lanes w.active."""
        after = ins.address + INSTRUCTION_BYTES
        conditions = [] if ins.guard is None else [predicate(ins.guard)]
        if ins.name == "BRA":
            if ins.modifiers == ("DIV",):
                conditions.append(self._diverged(integer(ins.operands[0], self)))
            elif ins.modifiers in ((), ("U",)):
                conditions += [predicate(o) for o in ins.operands]
            else:
                raise Unsupported(ins.text)
            return self._branch(conditions, ins.target, after)
        if ins.name == "CALL":
            if ins.modifiers != ("REL", "NOINC") or conditions:
                raise Unsupported(ins.text)
            return self._branch([], ins.target, after)
        if ins.name == "RET":
            if ins.modifiers != ("REL", "NODEC") or conditions:
                raise Unsupported(ins.text)
            register = ins.operands[0].number
            return lambda w, m: w.jump(w.u[register])
        if ins.name == "EXIT":
            return lambda w, m: w.exit(self._taken(w, conditions), after)
        if ins.name == "BSYNC":
            if conditions:
                raise Unsupported(ins.text)
            number = ins.operands[0].number
            return lambda w, m: w.wait_converged(number, after)
        if ins.name == "WARPSYNC":
            if ins.modifiers != ("ALL",) or conditions:
                raise Unsupported(ins.text)
            return lambda w, m: w.wait_warp(after)
        if ins.name == "BAR":
            if ins.modifiers != ("SYNC", "DEFER_BLOCKING") or \
                    any(o.kind != "imm" for o in ins.operands):
                raise Unsupported(ins.text)
            number, *count = (int(o.text, 0) for o in ins.operands)
            count = count[0] if count else None
            return lambda w, m: w.wait_block(self._taken(w, conditions), number, count, after)
        return lambda w, m: w.proceed(after)

    @staticmethod
    def _taken(w, conditions):
        taken = w.active
        for condition in conditions:
            taken = taken & condition(w)
        return taken

    @staticmethod
    def _diverged(mask):
        """Whether not all lanes of the mask are here."""
        return lambda w: (w.bits(w.active) & mask(w)) != mask(w)

    def _branch(self, conditions, target, after):
        if target is None:
            raise Unsupported("indirect branch")
        if not conditions:
            return lambda w, m: w.proceed(target)
        return lambda w, m: w.branch(self._taken(w, conditions), target, after)

    # ---- constants: what semantics/ asks for
    def constant_words(self, bank):
        if bank not in self.constants:
            raise Unsupported(f"constant bank {bank}")
        data = self.constants[bank]
        return np.frombuffer(data[:len(data) // 4 * 4], U32)

    def constant(self, op, dtype):
        if op.base != RZ or op.uniform_base != RZ or op.suffix:
            raise Unsupported(f"indexed constant {op}")
        size = np.dtype(dtype).itemsize
        data = self.constants.get(op.bank, b"")
        if op.offset + size > len(data):
            raise Unsupported(f"constant bank {op.bank}, offset {op.offset:#x} of {len(data):#x}")
        return np.frombuffer(data[op.offset:op.offset + size], dtype).reshape(1, 1)


# ---- warps -------------------------------------------------------------------------------------
class Warps:
    """Registers and program counters of the warps of some blocks."""

    def __init__(self, program, memory, launch, blocks, recorder=None, global_races=None,
                 early_starts=None):
        threads = launch.block[0] * launch.block[1] * launch.block[2]
        self.per_block = -(-threads // 32)
        self.launch, self.memory, self.program = launch, memory, program
        self.block_numbers = np.asarray(blocks)
        count = self.per_block * len(blocks)
        self.shape = (count, 32)
        self._make_registers(program.register_count)
        self._make_special(threads)
        self._make_shared(len(blocks))
        self.pc = np.zeros(self.shape, np.int32)
        self.alive = np.broadcast_to(self.thread < threads, self.shape).copy()
        self.waiting = np.zeros(self.shape, bool)
        self.block_barrier = np.full(self.shape, -1, np.int8)  # number of the BAR where lanes wait
        self.barrier_threads = {}  # its number -> how many threads it is for; None: all
        self.at_barrier = np.full(self.shape, -1, np.int8)  # 0..15 BSYNC, 16 WARPSYNC
        self.barrier_members = np.zeros((16, *self.shape), U32)
        self.active = self.alive
        self._warp_active = None
        self.recorder = recorder
        self.global_races, self.early_starts = global_races, early_starts
        self.shared_races = Races(self.shared[1].size) if global_races is not None else None
        self.barriers_passed = np.zeros(len(blocks), np.int32)
        # Lanes that have waited for the launch before (griddepcontrol).
        self.waited = np.full(self.shape, not launch.dependent)
        self.copies = []  # cp.async under way: (lanes, their group, words from, words into)
        self.copy_groups = np.zeros(count * 32, np.int32)  # that a lane has committed

    def _make_registers(self, count):
        words = np.zeros((count, *self.shape), U32)
        zero = np.zeros(self.shape, U32)
        zero.flags.writeable = False
        rows = [words[n] for n in range(count)] + [None] * (RZ - count)
        self.u = (rows + [zero])[:RZ] + [zero]
        self.i = [r if r is None else r.view(np.int32) for r in self.u]
        self.f = [r if r is None else r.view(np.float32) for r in self.u]
        column = (self.shape[0], 1)
        uniform = np.zeros((64, *column), U32)
        zero_column = np.zeros(column, U32)
        zero_column.flags.writeable = False
        self.uu = [uniform[n] for n in range(64)] + [None] * (RZ - 64) + [zero_column]
        self.ui = [r if r is None else r.view(np.int32) for r in self.uu]
        self.uf = [r if r is None else r.view(np.float32) for r in self.uu]
        self.p = [np.zeros(self.shape, bool) for _ in range(PT)] + [np.ones(self.shape, bool)]
        self.up = [np.zeros(column, bool) for _ in range(PT)] + [np.ones(column, bool)]

    def _make_special(self, threads):
        bx, by, _ = self.launch.block
        gx, gy, _ = self.launch.grid
        warp = np.arange(self.shape[0])[:, None]
        self.thread = warp % self.per_block * 32 + np.arange(32)[None, :]
        block = self.block_numbers[warp // self.per_block]
        values = {"SR_TID.X": self.thread % bx, "SR_TID.Y": self.thread // bx % by,
                  "SR_TID.Z": self.thread // (bx * by), "SR_CTAID.X": block % gx,
                  "SR_CTAID.Y": block // gx % gy, "SR_CTAID.Z": block // (gx * gy),
                  "SR_LANEID": np.broadcast_to(np.arange(32), self.shape),
                  "SR_CgaCtaId": np.zeros_like(block)}
        self.special = {name: np.ascontiguousarray(v).astype(U32) for name, v in values.items()}
        self.block_of_warp = warp[:, 0] // self.per_block

    def _make_shared(self, blocks):
        size = self.program.kernel.shared_bytes
        size = max(size, SHARED_RESERVED) + self.launch.dynamic_shared
        self.shared_size = -(-size // 16) * 16
        words = np.zeros(self.shared_size // 4 * blocks, U32)
        self.shared = {1: words.view(np.uint8), 2: words.view(np.uint16), 4: words}
        self.shared_limit = size
        offset = np.repeat(self.block_of_warp * self.shared_size, 32)
        self.shared_offset = offset.astype(np.int64)

    # ---- for semantics/
    def warp_mask(self, mask):
        """Rows with a lane that takes part, for uniform registers. None: all."""
        if mask is None:
            return None
        if mask.shape[1] == 1:  # guarded by a uniform predicate
            return mask & self._rows()
        return (mask & self.active).any(axis=1)[:, None]

    def _rows(self):
        if self._warp_active is None:
            self._warp_active = self.active.any(axis=1)[:, None]
        return self._warp_active

    def shared_offsets(self, flat, chosen, width):
        at = flat.astype(np.int64)
        if at.size and (int(at.min()) < SHARED_RESERVED or int(at.max()) + width > self.shared_limit
                        or (at & (width - 1)).any()):
            bad = (at < SHARED_RESERVED) | (at + width > self.shared_limit)
            what = "shared memory access out of bounds"
            if not bad.any():
                bad, what = (at & (width - 1)) != 0, "misaligned shared memory access"
            lane = int(np.flatnonzero(bad)[0])
            raise MemoryFault(what, int(at[lane]), lane)
        return at + (self.shared_offset if chosen is None else self.shared_offset[chosen])

    def describe(self, lane):
        warp = lane // 32
        block = int(self.block_numbers[self.block_of_warp[warp]])
        gx, gy, _ = self.launch.grid
        thread = int(self.thread[warp, lane % 32])
        return f"kernel {self.program.kernel.name}, block ({block % gx}, {block // gx % gy}, " \
               f"{block // (gx * gy)}), thread {thread}"

    @staticmethod
    def bits(lanes):
        """(warps, 1) uint32 of (warps, 32) bool."""
        return np.packbits(lanes, axis=1, bitorder="little").view("<u4")

    # ---- griddepcontrol
    def wait_for_predecessor(self, lanes):
        self.waited |= lanes

    def launch_dependents(self, lanes):
        hasty = np.flatnonzero(lanes & ~self.waited)
        if hasty.size:
            raise ExecutionError("griddepcontrol.launch_dependents before griddepcontrol.wait: " +
                                 self.describe(int(hasty[0])))

    # ---- cp.async
    def begin_copy(self, lanes, source, into):
        self.copies.append((lanes, self.copy_groups[lanes], source, into))

    def commit_copies(self, lanes):
        self.copy_groups += lanes.ravel()

    def finish_copies(self, lanes, left):
        """Of these lanes, but for the last `left` groups."""
        lanes, remaining = lanes.ravel(), []
        for of, group, source, into in self.copies:
            done = lanes[of] & (group < self.copy_groups[of] - left)
            self.shared[4][into[done]] = self.memory.words[source[done]]
            if not done.all():
                remaining.append(tuple(v[~done] for v in (of, group, source, into)))
        self.copies = remaining

    # ---- control flow: of the lanes in self.active
    def proceed(self, target):
        np.copyto(self.pc, np.int32(target), where=self.active)

    def branch(self, taken, target, after):
        np.copyto(self.pc, np.int32(after), where=self.active)
        np.copyto(self.pc, np.int32(target), where=taken)

    def jump(self, targets):
        np.copyto(self.pc, targets.view(np.int32), where=self.active)

    def exit(self, lanes, after):
        for of, *_ in self.copies:
            forgotten = of[lanes.ravel()[of]]
            if forgotten.size:
                raise ExecutionError("cp.async never waited for: " +
                                     self.describe(int(forgotten[0])))
        self.proceed(after)
        self.alive = self.alive & ~lanes
        if self.waiting.any():
            self._release()

    def converge_later(self, number, lanes):
        np.copyto(self.barrier_members[number], self.bits(lanes), where=lanes)

    def leave_barrier(self, number, lanes):
        members = self.barrier_members[number]
        members &= ~self.bits(lanes)
        if self.waiting.any():
            self._release()

    def wait_converged(self, number, after):
        lanes = self.active
        missing = self.barrier_members[number] & self.bits(self.alive) & ~self.bits(lanes)
        if not missing[lanes].any():  # all are here
            self.proceed(after)
            return
        np.copyto(self.at_barrier, np.int8(number), where=lanes)
        self.waiting |= lanes
        self._release()

    def wait_warp(self, after):
        np.copyto(self.at_barrier, np.int8(16), where=self.active)
        self.waiting |= self.active
        self._release()

    def wait_block(self, lanes, number, count, after):
        np.copyto(self.pc, np.int32(after), where=self.active & ~lanes)
        self.barrier_threads[number] = count
        self.block_barrier[lanes] = number
        self.waiting |= lanes
        self._release()

    def _release(self):
        """Lets go the waiting lanes whose companions are all there, or have left."""
        alive = self.bits(self.alive)
        for number in np.unique(self.at_barrier[self.waiting & (self.block_barrier < 0)]):
            here = (self.at_barrier == number) & self.waiting
            members = alive if number == 16 else self.barrier_members[number] & alive
            go = here & ((members & ~self.bits(here)) == 0)
            self.at_barrier[go] = -1
            self._let_go(go)
        blocks = (-1, self.per_block * 32)
        for number, count in self.barrier_threads.items():
            here = (self.block_barrier == number).reshape(blocks)
            if count is None:
                complete = (here | ~self.alive.reshape(blocks)).all(axis=1) & here.any(axis=1)
            else:
                complete = here.sum(axis=1) >= count
            if complete.any():
                self.barriers_passed += complete
                go = (here & complete[:, None]).reshape(self.shape)
                self.block_barrier[go] = -1
                self._let_go(go)

    def _let_go(self, lanes):
        self.waiting &= ~lanes
        np.add(self.pc, np.int32(INSTRUCTION_BYTES), out=self.pc, where=lanes)

    # ---- the loop
    def run(self, max_steps=10 ** 8):
        blocks = self.program.blocks
        for _ in range(max_steps):
            ready = self.alive & ~self.waiting
            counters = np.where(ready, self.pc, _NOWHERE)
            at = counters.min()
            if at == _NOWHERE:
                if self.alive.any():
                    lane = int(np.flatnonzero(self.alive)[0])
                    raise ExecutionError(f"deadlock: {self.describe(lane)} waits at "
                                         f"{int(self.pc.ravel()[lane]):#x}")
                return
            active = counters == at
            block = blocks.get(int(at))
            if block is None:
                raise ExecutionError(f"{self.program.kernel.name}: jump to {int(at):#x}")
            self.active, self._warp_active = active, None
            self.program.reached.add(block.index)
            mask = active if (active != self.alive).any() else None
            if self.recorder is not None:
                self.recorder.block(self, block)
            for closure in block.body:
                closure(self, mask)
            block.end(self, mask)
        raise ExecutionError(f"{self.program.kernel.name}: more than {max_steps} steps")


# ---- launches ----------------------------------------------------------------------------------
@dataclass
class Launch:
    grid: tuple
    block: tuple
    arguments: bytes          # the kernel's parameters, laid out
    dynamic_shared: int = 0
    dependent: bool = False   # may begin before the stream's last kernel has ended

    @property
    def blocks(self):
        return self.grid[0] * self.grid[1] * self.grid[2]

    @property
    def threads(self):
        return self.block[0] * self.block[1] * self.block[2]


def pack_arguments(kernel, arguments):
    """Lays out values (bytes of the right size each) as the kernel's parameters."""
    if len(arguments) != len(kernel.parameters):
        raise ValueError(f"{kernel.name} takes {len(kernel.parameters)} arguments")
    size = max(offset + size for offset, size in kernel.parameters)
    packed = bytearray(size)
    for (offset, length), value in zip(kernel.parameters, arguments):
        if len(value) != length:
            raise ValueError(f"{kernel.name}: argument at {offset} has {length} bytes, "
                             f"not {len(value)}")
        packed[offset:offset + length] = value
    return bytes(packed)


_BLOCK_DIM, _GRID_DIM, _STACK, _DESCRIPTOR = 0x0, 0xc, 0x28, 0x208  # in constant bank 0


def constant_banks(kernel, launch):
    banks = dict(kernel.constant_bytes)
    bank = bytearray(max(len(banks.get(0, b"")), kernel.parameter_base + len(launch.arguments)))
    bank[_BLOCK_DIM:_BLOCK_DIM + 12] = np.array(launch.block, U32).tobytes()
    bank[_GRID_DIM:_GRID_DIM + 12] = np.array(launch.grid, U32).tobytes()
    bank[kernel.parameter_base:kernel.parameter_base + len(launch.arguments)] = launch.arguments
    banks[0] = bytes(bank)
    return banks


def run_program(program, launch, memory, blocks=None, recorder=None, races=False, early_starts=None,
                lanes=4096):
    """Runs the blocks of a launch (all, or those numbered), about `lanes` lanes at a time.
    `recorder` is a timing.Recorder; `races` looks for missing barriers,
    `early_starts` (early.EarlyStarts) for accesses before the wait for the launch before."""
    blocks = list(range(launch.blocks)) if blocks is None else list(blocks)
    global_races = Races(memory.size) if races else None
    if early_starts is not None:
        early_starts.begin()
    waited = False
    per_group = max(1, lanes // (-(-launch.threads // 32) * 32))
    with np.errstate(all="ignore"):
        for begin in range(0, len(blocks), per_group):
            warps = Warps(program, memory, launch, blocks[begin:begin + per_group], recorder,
                          global_races, early_starts)
            warps.run()
            waited |= warps.waited.any()
    if not waited:
        raise ExecutionError(f"kernel {program.kernel.name} was launched as a dependent one, and "
                             "never waits for the launch before it (griddepcontrol)")
