"""Launches that are executed, recorded and timed."""
from . import timing
from .background import Background
from .execute import run_program
from .memory import BASE
from .names import short_name
from .recording import Recorder
from .session import DEVICE_BYTES, PINNED_BYTES, Session

EDGE_US = 1.2  # from one kernel of a graph to the next,
EARLY_EDGE_US = 0.8  # to one that has begun already


class Timed:
    """One of them; its time is computed in the background."""

    def __init__(self, program, launch, recorder, model, wants_profile):
        self.program, self.launch, self.recorder, self.model = program, launch, recorder, model
        self.parts = [timing.Part(program, recorder, launch, timing.share_of(sm, launch, model))
                      for sm in busiest(launch, model)]
        self._times = Background(self._time, wants_profile)

    def _time(self, wants_profile):
        results = []
        for part in self.parts:
            profile = {} if wants_profile else None
            plain = timing.time_part(part, self.model, profile)
            early = plain
            if self.launch.dependent:
                profile = {} if wants_profile else None
                early = timing.time_part(part, self.model, profile, early=True)
            results.append((plain, early, profile))
        return max(results, key=lambda r: r[1].body)

    def wait(self):
        if self._times is not None:
            self.plain, self.early, self.profile = self._times.result()
            self._times = None
        return self

    @property
    def us(self):
        """If it begins when everything before it has ended."""
        return self.model.us(self.wait().plain.body)

    @property
    def body_us(self):
        """From its wait for the kernel before it (griddepcontrol) to its end."""
        return self.model.us(self.wait().early.body)

    def shown_us(self, before):
        """What its prologue takes, but for what fits beside the end of the kernel `before`."""
        fits = timing.fit_together(before.part, self.part, self.model)
        tail = before.wait().early.tail if fits else 0
        return self.model.us(max(0, self.wait().early.prologue - tail))

    def us_after(self, before):
        """From the end of the kernel `before`, the only one that it follows, to its own."""
        if self.launch.dependent:
            return EARLY_EDGE_US + self.shown_us(before) + self.body_us
        return EDGE_US + self.us

    @property
    def part(self):
        return self.parts[0]

    @property
    def name(self):
        return short_name(self.program.kernel.name)

    def cycles_with(self, model):
        return max(timing.time_part(part, model).body for part in self.parts)


def busiest(launch, model):
    """The multiprocessors that may take longest: one with most blocks, and the last block's."""
    return sorted({0, (launch.blocks - 1) % model.multiprocessors})


class TimedSession(Session):
    """`profile`: a pattern for the names of kernels of which to keep where they wait."""

    def __init__(self, code, model, profile=None):
        super().__init__(code)
        self.model, self._profile = model, profile
        self._known = {}

    def timed(self, kernel, launch):
        """Of launches that differ in nothing but addresses the first is executed; it stands for
        all."""
        key = (kernel.name, launch.grid, launch.block, launch.dynamic_shared,
               launch.dependent, without_addresses(launch.arguments))
        if key not in self._known:
            self._known[key] = self._execute(kernel, launch)
        return self._known[key]

    def _execute(self, kernel, launch):
        recorder = Recorder(b for sm in busiest(launch, self.model)
                            for b in timing.share_of(sm, launch, self.model))
        program = self.program(kernel, launch)
        run_program(program, launch, self.memory, recorder=recorder)
        wants = self._profile is not None and self._profile.search(short_name(kernel.name))
        return Timed(program, launch, recorder, self.model, bool(wants))


def without_addresses(arguments):
    words = [arguments[at:at + 8] for at in range(0, len(arguments), 8)]
    return b"".join(b"address." if is_address(int.from_bytes(word, "little")) else word
                    for word in words)


def is_address(number):
    return BASE <= number < BASE + DEVICE_BYTES + PINNED_BYTES
