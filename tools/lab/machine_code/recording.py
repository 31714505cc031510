"""What the timing needs of an execution: the instruction stream of each warp, and its accesses."""
from collections import defaultdict

import numpy as np

SECTOR, LINE = 32, 128  # bytes


def _distinct(values, lanes):
    """Per row: how many distinct values the lanes hold."""
    sentinel = np.iinfo(values.dtype).max
    ordered = np.sort(np.where(lanes, values, sentinel), axis=1)
    changes = (ordered[:, 1:] != ordered[:, :-1]) & (ordered[:, 1:] != sentinel)
    return changes.sum(axis=1) + (ordered[:, 0] != sentinel)


def shared_wavefronts(address, width, lanes):
    """(wavefronts, those a conflict-free access would take) per warp. Wide accesses go by half or
    quarter warps; lanes that want the same word share it."""
    size = max(width, 4)
    banks = 128 // size
    rows = address.shape[0]
    chunk = (address.astype(np.int64) // size).reshape(-1, banks)
    taking = lanes.reshape(-1, banks)
    order = np.argsort(np.where(taking, chunk, -1), axis=1, kind="stable")
    chunk, taking = np.take_along_axis(chunk, order, 1), np.take_along_axis(taking, order, 1)
    first = taking.copy()
    first[:, 1:] &= (chunk[:, 1:] != chunk[:, :-1]) | ~taking[:, :-1]
    group = np.arange(chunk.shape[0])[:, None] * banks + chunk % banks
    counts = np.bincount(group[first], minlength=chunk.shape[0] * banks)
    counts = counts.reshape(-1, banks).max(axis=1)
    passes = taking.any(axis=1).reshape(rows, -1).sum(axis=1)
    return counts.reshape(rows, -1).sum(axis=1), passes


class Recorder:
    """Given to run_program: keeps the streams of the warps of `traced` blocks, counts for all."""

    def __init__(self, traced):
        self.traced = set(traced)
        self.streams = defaultdict(list)   # (block, warp of the block) -> basic block numbers
        # The same -> per memory instruction: (wavefronts, ()) in shared, (bytes a lane, sectors) in
        # global memory; 0 in front if no lane took part.
        self.accesses = defaultdict(list)
        self.instructions = self.warps = 0
        self.load_sectors = self.store_sectors = self.shared_conflicts = 0
        self.conflicts_of = defaultdict(int)  # text of an instruction -> wavefronts too many
        self._group = None

    def worst_conflicts(self, count=5):
        """(instruction, wavefronts too many), the worst first."""
        some = [(k, v) for k, v in self.conflicts_of.items() if v]
        return sorted(some, key=lambda i: -i[1])[:count]

    def _rows(self, warps):
        """(row, streams key) of the traced warps of a group."""
        if self._group is not warps:
            self._group = warps
            self.warps += warps.shape[0]
            block = warps.block_numbers[warps.block_of_warp]
            self._keys = [(row, (int(b), row % warps.per_block)) for row, b in enumerate(block)
                          if int(b) in self.traced]
        return self._keys

    def block(self, warps, block):
        keys = self._rows(warps)
        running = warps.active.any(axis=1)
        self.instructions += int(running.sum()) * len(block.instructions)
        for row, key in keys:
            if running[row]:
                self.streams[key].append(block.index)

    def memory(self, warps, ins, space, address, width, lanes):
        keys = [(row, key) for row, key in self._rows(warps) if warps.active[row].any()]
        if space == "shared":
            wavefronts, ideal = shared_wavefronts(address, width, lanes)
            extra = int((wavefronts - ideal).sum())
            self.shared_conflicts += extra
            self.conflicts_of[f"{ins.address:#06x} {ins.text}"] += extra
            for row, key in keys:
                self.accesses[key].append((int(wavefronts[row]), ()))
            return
        sector = address.astype(np.int64) // SECTOR
        count = int(_distinct(sector, lanes).sum())
        if ins.name in ("STG", "ST", "RED", "REDG"):
            self.store_sectors += count
        else:
            self.load_sectors += count
        for row, key in keys:
            taking = lanes[row]
            sectors = tuple(np.unique(sector[row][taking]).tolist())
            self.accesses[key].append((width if sectors else 0, sectors))
