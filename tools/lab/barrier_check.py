#!/usr/bin/env python3
"""Shows that every barrier in the kernels is needed and tested.

    tools/lab/barrier_check.py [--only TEXT] [--tests SPEC] [--jobs N]

In a copy of the sources (build/barrier-check), each barrier of kernels/**/*.cu and *.cuh gets a
switch: __syncthreads(), __syncwarp(), warp_sync(), cp_async_wait(), griddepcontrol_wait(). Builds
tests_cpu_lanes there (each lane of a warp runs by itself, as on a GPU), and runs it with each
barrier switched off in turn, until a test fails.
Prints one line for each: where it stands, and which test misses it.
A fence orders memory between blocks that run at the same time on different multiprocessors; the cpu
target's memory is coherent, and no test there can miss one. Those are listed, not tried.

--only    barriers alone whose "file:line" contains this text
--tests   Catch2's choice of tests, "[fused]" for instance
Status 1 if a barrier survives, that is, if no test fails without it; or if tests fail with it.
"""
import argparse
import os
import pathlib
import re
import shutil
import subprocess
import sys
import typing

ROOT = pathlib.Path(__file__).resolve().parents[2]
WORK = ROOT / "build" / "barrier-check"
COPY, BUILD = WORK / "source", WORK / "build"
STATEMENT = re.compile(r"\b(__syncthreads(?:_\w+)?|__syncwarp|warp_sync|__threadfence(?:_\w+)?|"
                       r"cp_async_wait<\w+>|griddepcontrol_wait)\([^;{}]*?\);")
SWITCH = "MNIST_WITHOUT_BARRIER"  # in the environment of the tests: the number of a barrier
SWITCH_HEADER = f"""\
#pragma once

#include <cstdlib>

inline bool has_barrier(int number) {{
  static const char* const without = std::getenv("{SWITCH}");
  static const int off = without == nullptr ? -1 : std::atoi(without);
  return number != off;
}}
"""
# What takes long and knows no kernel's barrier better than the launchers' own tests do.
TESTS = "~[engine]~[reference]"
SECONDS_LIMIT = 600  # of one run of the tests


class Barrier(typing.NamedTuple):
    file: pathlib.Path  # from the root
    line: int           # from 1
    begin: int          # in the text
    end: int
    name: str
    why: str            # the comment behind it

    def place(self):
        return f"{self.file}:{self.line}"


def run(*command):
    process = subprocess.run(command, capture_output=True, text=True)
    if process.returncode:
        sys.exit(f"barrier_check.py: {' '.join(map(str, command))}\n"
                 f"{process.stdout}{process.stderr}")
    return process.stdout


def find_barriers():
    found = []
    kernels = ROOT / "kernels"
    for path in sorted([*kernels.glob("**/*.cu"), *kernels.glob("**/*.cuh")]):
        text = path.read_text()
        for match in STATEMENT.finditer(text):
            start = text.rfind("\n", 0, match.start()) + 1
            if "//" in text[start:match.start()]:
                continue
            rest = text[match.end():text.find("\n", match.end())]
            found.append(Barrier(path.relative_to(ROOT), text.count("\n", 0, match.start()) + 1,
                                 match.start(), match.end(), match[1],
                                 rest.partition("//")[2].strip()))
    return found


def update(path, text):
    """Writes only what differs, so that only that is built again."""
    if not path.exists() or path.read_bytes() != text:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text)


def with_switches(text, barriers):
    """The text of a file, in which `barriers` (number -> Barrier) can be switched off."""
    parts, end = ['#include "kernels/barrier_switch.h"\n#line 1\n'], 0
    for number, barrier in barriers.items():
        statement = text[barrier.begin:barrier.end]
        parts += [text[end:barrier.begin], f"{{ if (has_barrier({number})) {statement} }}"]
        end = barrier.end
    return "".join([*parts, text[end:]])


def copy_sources(barriers):
    """The files of the work tree, as git sees them; the build is kept between runs."""
    listed = run("git", "-C", ROOT, "ls-files", "-z", "-co", "--exclude-standard").split("\0")
    names = {name for name in listed if name and (ROOT / name).is_file()}
    for name in names:
        content = (ROOT / name).read_bytes()
        here = {i: b for i, b in enumerate(barriers) if b.file == pathlib.Path(name)}
        if here:
            content = with_switches(content.decode(), here).encode()
        update(COPY / name, content)
        shutil.copymode(ROOT / name, COPY / name)
    names.add("kernels/barrier_switch.h")
    update(COPY / "kernels/barrier_switch.h", SWITCH_HEADER.encode())
    for path in COPY.rglob("*"):
        if path.is_file() and str(path.relative_to(COPY)) not in names:
            path.unlink()


def build(jobs):
    launcher = ["-DCMAKE_CXX_COMPILER_LAUNCHER=ccache"] if shutil.which("ccache") else []
    run("cmake", "-S", COPY, "-B", BUILD, "-G", "Ninja", "-DMNIST_CUDA=OFF", *launcher)
    run("cmake", "--build", BUILD, "--target", "tests_cpu_lanes", f"-j{jobs}")


def failing_test(tests, number=None):
    """Runs the tests, without the barrier of this number; the name of the first that fails, or
    None."""
    command = [BUILD / "tests_cpu_lanes", tests, "--abort", "--reporter", "xml", "--rng-seed", "1"]
    environment = os.environ if number is None else {**os.environ, SWITCH: str(number)}
    try:
        process = subprocess.run(command, capture_output=True, text=True, errors="replace",
                                 timeout=SECONDS_LIMIT, env=environment)
    except subprocess.TimeoutExpired:
        return "no end of the tests"
    if process.returncode == 0:
        return None
    names = re.findall(r'<TestCase name="([^"]*)"', process.stdout)
    sections = re.findall(r'<Section name="([^"]*)"', process.stdout.rpartition("<TestCase")[2])
    died = ", died" if process.returncode < 0 or "<FatalErrorCondition" in process.stdout else ""
    return (names[-1] if names else "?") + (f" ({sections[-1]})" if sections else "") + died


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="")
    parser.add_argument("--tests", default=TESTS)
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    options = parser.parse_args()

    barriers = find_barriers()
    chosen = [i for i, b in enumerate(barriers) if options.only in b.place()]
    if not chosen:
        sys.exit("barrier_check.py: no such barrier")
    copy_sources(barriers)
    build(options.jobs)
    wrong = failing_test(options.tests)
    if wrong:
        sys.exit(f"barrier_check.py: tests fail with every barrier in place: {wrong}")

    caught = survived = 0
    print("| barrier | statement | what for | without it, this test fails |\n|---|---|---|---|")
    for number in chosen:
        barrier = barriers[number]
        if barrier.name.startswith("__threadfence"):
            result = "not observable on the cpu target"
        else:
            result = failing_test(options.tests, number)
            caught += result is not None
            survived += result is None
        print(f"| {barrier.place()} | `{barrier.name}` | {barrier.why} | {result or '**none**'} |",
              flush=True)
    fences = len(chosen) - caught - survived
    print(f"\n{caught} caught, {survived} survived, {fences} not observable", flush=True)
    return 1 if survived else 0


if __name__ == "__main__":
    sys.exit(main())
