"""Starts a program that was linked with runtime/, and executes what it launches.

The program maps the same file as this one: device memory, then pinned memory, then a byte for each
of theirs that says whether it has been written. Messages are lines of JSON, each answered by "ok",
with what was asked for, or by the words of a fault (runtime/executor.h).
"""
import json
import mmap
import os
import socket
import subprocess


from .early import EarlyStarts
from .execute import Launch, constant_banks, pack_arguments, run_program, Program
from .memory import GlobalMemory
from .errors import ExecutionError, Unsupported

DEVICE_BYTES, PINNED_BYTES = 1 << 30, 1 << 28
PROGRAMS_KEPT = 64


class Session:
    """`initialised`: loads of global memory that was never written are faults; `races`: so are
    accesses of two warps without a barrier in between, and those before a kernel's wait for the
    launch before it that meet one of that launch."""

    def __init__(self, code, initialised=False, races=False):
        self.code, self.races = code, races
        self.faults = []
        self.launches = 0
        self.reached = {}  # kernel name -> numbers of the basic blocks that were executed
        size = DEVICE_BYTES + PINNED_BYTES
        self._file = os.memfd_create("arena")
        os.ftruncate(self._file, 2 * size)
        everything = memoryview(mmap.mmap(self._file, 2 * size))
        self.memory = GlobalMemory(everything[:size], everything[size:], initialised)
        self._early_starts = EarlyStarts(size) if races else None
        self._programs, self._one_of_each = {}, {}

    def run(self, command, **options):
        """The exit status of the program."""
        ours, theirs = socket.socketpair()
        environment = {**os.environ, **options.pop("env", {}), "MNIST_MACHINE_CODE":
                       f"{theirs.fileno()} {self._file} {DEVICE_BYTES} {PINNED_BYTES}"}
        process = subprocess.Popen(command, env=environment,
                                   pass_fds=(theirs.fileno(), self._file), **options)
        theirs.close()
        with ours, ours.makefile("r") as messages:
            for line in messages:
                ours.sendall((self._answer(json.loads(line)) + "\n").encode())
        return process.wait()

    def _answer(self, message):
        (kind, value), *_ = message.items()
        try:
            text = getattr(self, "_on_" + kind)(value, message)
            return "ok " + text if text else "ok"
        except (ExecutionError, Unsupported, LookupError) as error:
            self.faults.append(str(error))
            return str(error).replace("\n", " ")

    # ---- messages
    def _on_allocate(self, place, _):
        self.memory.add(*place)

    def _on_free(self, place, _):
        self.memory.remove(place[0])

    def _on_parameters(self, name, _):
        return " ".join(str(size) for _, size in self.code.kernel(name).parameters)

    def _on_graph(self, number, message):
        """A graph was made: its nodes, each with the numbers of those that it follows."""

    def _on_begin(self, number, _):
        """The kernels that follow are those of this graph, in order."""

    def _on_end(self, number, _):
        pass

    def _on_ended(self, *_):
        """All launches so far have, before what follows begins."""
        if self._early_starts is not None:
            self._early_starts.everything_ended()

    def _on_kernel(self, name, message):
        kernel = self.code.kernel(name)
        arguments = [bytes.fromhex(a) for a in message["arguments"]]
        launch = Launch(tuple(message["grid"]), tuple(message["block"]),
                        pack_arguments(kernel, arguments), message["shared"],
                        message["dependent"])
        self.launches += 1
        return self.launch(kernel, launch)

    # ---- launches
    def program(self, kernel, launch):
        """Compiled for these arguments; the last ones are kept."""
        key = (kernel.name, launch.grid, launch.block, launch.arguments)
        program = self._programs.pop(key, None)
        if program is None:
            program = Program(kernel, constant_banks(kernel, launch))
            program.reached = self.reached.setdefault(kernel.name, set())
            self._one_of_each[kernel.name] = program
        self._programs[key] = program
        if len(self._programs) > PROGRAMS_KEPT:
            del self._programs[next(iter(self._programs))]
        return program

    def launch(self, kernel, launch):
        """What it returns is sent to the program: how long it would take in us, if known."""
        run_program(self.program(kernel, launch), launch, self.memory, races=self.races,
                    early_starts=self._early_starts)

    def share_reached(self):
        """Of the instructions of all kernels that were launched, those that were executed."""
        pairs = [p.counts() for p in self._one_of_each.values()]
        return sum(reached for reached, _ in pairs) / max(1, sum(of for _, of in pairs))
