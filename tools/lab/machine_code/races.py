"""Finds accesses of two warps of a block to the same byte, at least one of them a store, with no
barrier in between: a missing __syncthreads()."""
import numpy as np


class Races:
    """Who touched each byte last, and after how many of its block's barriers. Barriers of a part of
    a block count for all of it, so that a race can be missed there; neither lanes of one warp nor
    different blocks are compared, and atomics are left out."""

    def __init__(self, size):
        # All start as 0, nobody, so that the system gives memory only for bytes that are touched.
        self.writer = np.zeros(size, np.int32)  # 1 + number of a warp in the launch
        self.reader = np.zeros(size, np.int32)  # the same; -1 - block: several warps of that block
        self.written, self.read = (np.zeros(size, np.int32) for _ in range(2))  # barriers passed
        self.store_of = np.zeros(size, np.int32)  # address of the instruction that stored last

    def access(self, warps, ins, at, width, chosen, loading):
        """Notes an access; returns (number among the lanes, what) if it races with one before."""
        if ins.name in ("ATOMG", "RED", "REDG"):
            return None
        row = (np.arange(warps.shape[0] * 32) if chosen is None else chosen) // 32
        block = warps.block_numbers[warps.block_of_warp[row]]
        now = warps.barriers_passed[warps.block_of_warp[row]]
        warp = 1 + block * warps.per_block + row % warps.per_block
        warp, block, now = (np.repeat(v, width) for v in (warp, block, now))
        places = (at[:, None] + np.arange(width)).ravel()

        def other(who, when):  # another warp of this block, since its last barrier
            of = np.where(who > 0, (who - 1) // warps.per_block, -1 - who)
            return (who != 0) & (of == block) & (when == now) & (who != warp)
        race = other(self.writer[places], self.written[places])
        what = "a load of what another warp stores"
        if loading:
            several = other(self.reader[places], self.read[places])
            self.reader[places] = warp
            several |= self.reader[places] != warp  # in this very instruction
            self.reader[places[several]] = -1 - block[several]
            self.read[places] = now
        else:
            what = "a store to what another warp stores or loads"
            race |= other(self.reader[places], self.read[places])
            self.writer[places], self.written[places] = warp, now
            now_there = self.writer[places]
            race |= (now_there != warp) & ((now_there - 1) // warps.per_block == block)
            self.store_of[places] = ins.address
        if not race.any():
            return None
        first = int(np.flatnonzero(race)[0])
        return first // width, f"{what} (last store at {int(self.store_of[places[first]]):#x}), " \
                               "without a barrier in between"
