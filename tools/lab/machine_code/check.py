"""The programs that `check` runs, side by side, each executed by a process of its own."""
import concurrent.futures
import os
import pathlib
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).parent

_EVERYTHING = ("--races", "--initialised")

# (what, program, arguments, options of `run`), what takes longest first.
RUNS = (
    ("pooled convolutions, backward", "tests_machine_code", ("conv2d_pool_backward*",), ()),
    ("both targets", "tests_both_targets", ("~[fused]",), _EVERYTHING),
    ("fused kernels", "tests_machine_code",
     ("[fused]~[engine]~[bench]~[conv_forward]~[conv_backward]",), _EVERYTHING),
    ("both targets, FP16", "tests_both_targets", ("[fused]",), _EVERYTHING),
    ("fused convolutions", "tests_machine_code", ("[conv_forward],[conv_backward]",), _EVERYTHING),
    ("pooled convolutions", "tests_machine_code", ("[conv2d_pool]~conv2d_pool_backward*",), ()),
    ("dense layers", "tests_machine_code", ("[dense]",), ()),
    ("the rest of a step", "tests_machine_code", ("[normalize],[softmax_xent],[adam]",), ()),
    ("other layers", "tests_machine_code", ("[maxpool2d],[dropout],[init]",), ()),
)

# Faults, the program and its tests, and the words by which each must be found.
PLANTED = (
    ("a barrier left out", "softmax_xent:BAR", "tests_machine_code",
     "softmax_xent adds to the metrics", "without a barrier in between"),
    ("an addition left out", "softmax_xent:FADD", "tests_machine_code",
     "softmax_xent adds to the metrics", "FAILED:"),
    ("a product left out of the FP16 step", "fused_conv_backward:HMMA", "tests_both_targets",
     "[fused]", "FAILED:"),
    ("a barrier left out of a fused kernel", "fused_dense_forward:BAR", "tests_machine_code",
     "fused dense_forward keeps a NaN", "without a barrier in between"),
    ("a wait for a copy left out", "fused_dense_forward:DEPBAR", "tests_machine_code",
     "fused dense_forward keeps a NaN", "cp.async never waited for"),
    ("the wait for the kernel before left out", "fused_dense_forward:ACQBULK", "tests_machine_code",
     "fused dense_forward keeps a NaN", "launch_dependents before griddepcontrol.wait"),
)

CANNOT_RUN = 77


class Job:
    """A command; it must end well or, with `words`, badly and with these words."""

    def __init__(self, what, command, words=None, may_lack=False):
        """may_lack: it says by its exit status if it lacks what it needs."""
        self.what, self._command, self._words = what, command, words
        self._may_lack = may_lack

    def run(self):
        """(report, whether it went as it must)"""
        begin = time.monotonic()
        done = subprocess.run(self._command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              text=True)
        output = done.stdout
        lacks = self._may_lack and done.returncode == CANNOT_RUN
        if self._words is None:
            good = lacks or done.returncode == 0
        else:
            good = done.returncode != 0 and self._words in output
            if good:
                output = "found, as it must be\n"
        verdict = f"FAILED, exit status {done.returncode}"
        if good:
            verdict = "not run" if lacks else "ok"
        return f"-- {self.what}: {verdict}, {time.monotonic() - begin:.0f} s\n{output}", good


def jobs(options):
    run = [sys.executable, "-m", "machine_code", "run", "--build", options.build, "--cuobjdump",
           options.cuobjdump]
    for what, program, arguments, extra in RUNS:
        yield Job(what, [*run, *extra, program, *arguments])
    for what, planted, program, test, words in PLANTED:
        yield Job(what, [*run, "--races", "--without", planted, program, test], words)
    yield Job("the executor itself", [sys.executable, "-m", "unittest", "discover", "-s",
                                      str(HERE / "tests"), "-t", str(HERE.parent)])
    tools = ["--cuobjdump", options.cuobjdump, "--nvdisasm", options.nvdisasm]
    yield Job("contraction", [sys.executable, str(HERE.parent / "contraction.py"), *tools,
                              f"{options.build}/kernels/CMakeFiles/mnist_kernels_cuda.dir"],
              may_lack=True)
    yield Job("contraction.py itself", [
        sys.executable, str(HERE.parents[2] / "tests/tools/contraction.py"), *tools])


def check(options):
    failed = 0
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        for text, good in pool.map(Job.run, jobs(options)):
            print(text, flush=True)
            failed += not good
    return 1 if failed else 0
