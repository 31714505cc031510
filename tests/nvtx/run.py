#!/usr/bin/env python3
"""Tests of the NVTX ranges that a profiler sees, standard library only.

    python3 tests/nvtx/run.py BINARY RECORDER.so [-v]

Runs training of two steps with recorder.cpp's library as the profiler, and compares the trees of
ranges.
"""
import hashlib
import os
import pathlib
import shutil
import struct
import subprocess
import sys
import tempfile
import textwrap
import unittest

BINARY = RECORDER = None
DOMAIN = "cuda-mnist"
ARCH = "conv:8x3,pool:2,conv:4x3:stride2,flatten,dropout:0.3,dense:10"
MAIN, SAVER = 0, 1

STEP = """\
data
forward
  conv2d+max_pooling2d forward
  conv2d_1 forward
  dropout forward
  dense forward
loss
backward
  dense backward
  dropout backward
  conv2d_1 backward
  conv2d+max_pooling2d backward
optimizer
"""
SLICE = """\
data
forward
  conv2d+max_pooling2d forward
  conv2d_1 forward
  dense forward
loss
"""


def inside(name, *ranges):
    return name + "\n" + textwrap.indent("".join(ranges), "  ")


# The first step of a run is eager; those of even and those of odd batches are graphs of their own.
CAPTURED = inside("step", inside("capture", STEP))
GRAPH = inside("epoch", "data\n", inside("step", STEP), CAPTURED, "wait\n")
SECOND = inside("epoch", "data\n", CAPTURED, "step\n", "wait\n")
LATER = inside("epoch", "data\n", "step\n" * 2, "wait\n")
EAGER = inside("epoch", "data\n", inside("step", STEP) * 2, "wait\n")
VALIDATION = inside("validation", SLICE)
VALIDATION_CAPTURED = inside("validation", inside("capture", SLICE))


def write_digits(directory, train, test):
    for stem, count in (("train", train), ("t10k", test)):
        images = bytes((i * 7919 + i // 784 * 31) % 256 for i in range(784 * count))
        pathlib.Path(directory, f"{stem}-images-idx3-ubyte").write_bytes(
            struct.pack(">IIII", 0x803, count, 28, 28) + images)
        pathlib.Path(directory, f"{stem}-labels-idx1-ubyte").write_bytes(
            struct.pack(">II", 0x801, count) + bytes(i % 10 for i in range(count)))


class Ranges(unittest.TestCase):
    maxDiff = None

    def setUp(self):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="cuda-mnist-nvtx-"))
        self.addCleanup(shutil.rmtree, self.dir, ignore_errors=True)
        write_digits(self.dir, train=256, test=100)

    def train(self, *options, epochs=1, out="mnist.h5", recorder=True):
        """The domains made, the indented tree of ranges of each thread, and the model's SHA-256."""
        environment = dict(os.environ)
        record = self.dir / "ranges"
        record.unlink(missing_ok=True)
        if recorder:
            environment.update(NVTX_INJECTION64_PATH=RECORDER, NVTX_RECORDER_FILE=str(record))
        done = subprocess.run(
            [BINARY, "train", "--arch", ARCH, "--dataset", "idx", "--data-dir", ".", "--device",
             "cpu", "--epochs", str(epochs), "--out", out, *options],
            cwd=self.dir, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, timeout=300)
        self.assertEqual(done.returncode, 0, done.stdout)
        sha = hashlib.sha256((self.dir / out).read_bytes()).hexdigest()
        if not recorder:
            self.assertFalse(record.exists())
            return [], {}, sha
        self.assertTrue(record.exists(), "no NVTX call: was the program built without?")
        return *self.trees(record.read_text()), sha

    def trees(self, text):
        domains, trees, open_ranges = [], {}, {}
        for line in text.splitlines():
            kind, rest = line.split(" ", 1)
            if kind == "domain":
                domains.append(rest)
                continue
            thread, depth, what = rest.split(" ", 2)
            thread, depth = int(thread), int(depth)
            stack = open_ranges.setdefault(thread, [])
            domain, _, name = what.partition("\t")
            self.assertEqual(domain, DOMAIN)
            if kind == "push":
                self.assertEqual(depth, len(stack), line)
                stack.append(name)
                trees[thread] = trees.get(thread, "") + "  " * depth + name + "\n"
            else:
                self.assertEqual(kind, "pop")
                self.assertTrue(stack, f"a pop without its push: {line}")
                stack.pop()
                self.assertEqual(depth, len(stack), line)
        self.assertEqual({thread: stack for thread, stack in open_ranges.items() if stack}, {},
                         "every range is closed")
        return domains, trees

    def check(self, run, main, saves=1):
        domains, trees, _ = run
        self.assertEqual(domains, [DOMAIN])
        self.assertEqual(sorted(trees), [MAIN, SAVER])
        self.assertMultiLineEqual(trees[MAIN], main)
        # The first state and the last are saved; one between may be left out.
        self.assertIn(trees[SAVER].count("save\n"), (saves, min(2, saves)))
        self.assertEqual(trees[SAVER].replace("save\n", ""), "")

    def test_graph(self):
        self.check(self.train(), GRAPH + VALIDATION)

    def test_graphs_are_captured_once(self):
        self.check(self.train(epochs=3), GRAPH + VALIDATION + SECOND + VALIDATION_CAPTURED + LATER +
                   "validation\n", saves=3)

    def test_rounds_of_steps(self):
        singles = (inside("step", STEP), CAPTURED, CAPTURED, "step\n" * 5)
        first = inside("epoch", "data\n", *singles, inside("steps 8..15",
                                                           inside("capture", STEP * 8)), "wait\n")
        second = inside("epoch", "data\n", "steps 16..23\n", "steps 24..31\n", "wait\n")
        self.check(self.train("--batch-size", "16", epochs=2),
                   first + VALIDATION + second + VALIDATION_CAPTURED, saves=2)

    def test_profiled_steps_are_single(self):
        self.check(self.train("--batch-size", "16", "--profile-steps", "9:11"),
                   inside("epoch", "data\n", inside("step", STEP), CAPTURED, CAPTURED,
                          "step\n" * 13, "wait\n") + VALIDATION)

    def test_eager(self):
        self.check(self.train("--eager"), EAGER + VALIDATION)

    def test_resident_data_differ_in_nothing(self):
        self.check(self.train("--data", "resident"), GRAPH + VALIDATION)

    def test_profiling_changes_neither_ranges_nor_results(self):
        graph = self.train("--profile-steps", "1:2")
        eager = self.train("--profile-steps", "1:2", "--eager", out="eager.h5")
        plain = self.train(out="plain.h5", recorder=False)
        self.check(graph, GRAPH + VALIDATION)
        self.check(eager, EAGER + VALIDATION)
        self.assertEqual(graph[2], plain[2])
        self.assertEqual(eager[2], plain[2])


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    BINARY, RECORDER = (str(pathlib.Path(name).resolve(strict=True)) for name in sys.argv[1:3])
    unittest.main(argv=[sys.argv[0], *sys.argv[3:]])
