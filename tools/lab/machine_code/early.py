"""Finds what a kernel that may begin early (launch_dependent) does before its griddepcontrol.wait,
and must not do until the launch before it has ended: loads of what that one stores, and stores to
what that one loads or stores."""
import numpy as np


class EarlyStarts:
    """What the last two launches accessed; of other streams too."""

    def __init__(self, size):
        # Of each byte, the number of the last launch that loaded it, or stored: of the launches
        # with an even number, and of the others.
        self._loaded, self._stored = ([np.zeros(size, np.int32) for _ in range(2)]
                                      for _ in range(2))
        self._number = 1

    def begin(self):
        """The next launch begins."""
        self._number += 1

    def everything_ended(self):
        self._number += 1  # as if a launch had come in between that accesses nothing

    def access(self, warps, ins, at, width, chosen, loading):
        """Notes an access; returns (number among the lanes, what) if it comes too early."""
        places = (at[:, None] + np.arange(width)).ravel()
        storing = not loading or ins.name in ("ATOMG", "RED", "REDG")
        now, before = self._number % 2, (self._number - 1) % 2
        fault = None
        if not warps.waited.all():
            waited = warps.waited.ravel()
            early = np.repeat(~(waited if chosen is None else waited[chosen]), width)
            meets = self._stored[before][places] == self._number - 1
            if storing:
                meets |= self._loaded[before][places] == self._number - 1
            first = np.flatnonzero(meets & early)
            if first.size:
                what = "a store to what the launch before loads or stores" if storing else \
                    "a load of what the launch before stores"
                fault = int(first[0]) // width, what + ", before the wait for it (griddepcontrol)"
        if loading:
            self._loaded[now][places] = self._number
        if storing:
            self._stored[now][places] = self._number
        return fault
