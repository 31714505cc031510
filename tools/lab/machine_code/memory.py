"""Global memory: one arena with allocations, guard gaps between them, and checks."""
import bisect

import numpy as np

BASE = 0x7_0000_0000  # address of the arena: needs more than 32 bits, as on the device


class MemoryFault(Exception):
    """`lane` counts the accessing lanes; execute.py turns it into block and thread."""

    def __init__(self, what, address, lane):
        super().__init__(what)
        self.what, self.address, self.lane = what, address, lane


class GlobalMemory:
    """On `contents` and `written`, writable buffers of the same size; `written` holds a 1 for each
    byte of an allocation that has been written. With `track`, loads of others are faults."""

    def __init__(self, contents, written, track=False):
        self.words = np.frombuffer(contents, np.uint32)
        self.bytes = self.words.view(np.uint8)
        self.views = {1: self.bytes, 2: self.words.view(np.uint16), 4: self.words,
                      8: self.words.view(np.uint64)}
        self.written = np.frombuffer(written, np.uint8)
        self.track = track
        self.begins, self.ends = [], []

    @property
    def size(self):
        return self.bytes.size

    def add(self, begin, size):
        """An allocation, by its offset."""
        at = bisect.bisect(self.begins, begin)
        self.begins.insert(at, begin)
        self.ends.insert(at, begin + size)

    def remove(self, begin):
        at = self.begins.index(begin)
        del self.begins[at], self.ends[at]

    def offsets(self, addresses, width, loading):
        """Arena offsets of accesses of `width` bytes each; MemoryFault for the first bad one."""
        at = addresses.astype(np.int64) - BASE
        if at.size == 0:
            return at
        self._first(at & (width - 1) != 0, at, f"misaligned {width}-byte access")
        low, high = int(at.min()), int(at.max()) + width
        which = bisect.bisect_right(self.begins, low) - 1
        if which < 0 or high > self.ends[which]:  # not all in one allocation: look at each
            index = np.searchsorted(self.begins, at, side="right") - 1
            ends = np.asarray(self.ends + [0])[index]
            self._first((index < 0) | (at + width > ends), at, "access outside of every allocation")
        if self.track:
            self._look_at_written(at, width, loading)
        return at

    def _look_at_written(self, at, width, loading):
        unit = min(width, 4)
        view = self.written.view({1: np.uint8, 2: np.uint16, 4: np.uint32}[unit])
        every = view.dtype.type(0x01010101 & (1 << 8 * unit) - 1)
        for i in range(0, width, unit):
            places = at // unit + i // unit
            if loading:
                self._first(view[places] != every, at, "load of bytes never written")
            else:
                view[places] = every

    def _first(self, bad, at, what):
        if bad.any():
            lane = int(np.flatnonzero(bad)[0])
            raise MemoryFault(what + self._near(int(at[lane])), BASE + int(at[lane]), lane)

    def _near(self, at):
        which = bisect.bisect_right(self.begins, at) - 1
        if which < 0:
            return ""
        return f" ({at - self.begins[which]} bytes from the start of one of " \
               f"{self.ends[which] - self.begins[which]})"
