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
VALIDATION = """\
validation
  data
  forward
    conv2d+max_pooling2d forward
    conv2d_1 forward
    dense forward
  loss
"""


def inside(name, *ranges):
    return name + "\n" + textwrap.indent("".join(ranges), "  ")


GRAPH = inside("epoch", inside("capture", STEP), "send\n", "step\n" * 2, "wait\n")
LATER = inside("epoch", "send\n", "step\n" * 2, "wait\n")  # the graph is there already
EAGER = inside("epoch", "send\n", inside("step", STEP) * 2, "wait\n")


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
        self.assertEqual(trees[SAVER], "save\n" * saves)

    def test_graph(self):
        self.check(self.train(), GRAPH + VALIDATION)

    def test_graph_is_captured_once(self):
        self.check(self.train(epochs=2), GRAPH + VALIDATION + LATER + VALIDATION, saves=2)

    def test_eager(self):
        self.check(self.train("--eager"), EAGER + VALIDATION)

    def test_resident_data_is_not_sent(self):
        self.check(self.train("--data", "resident"), GRAPH.replace("  send\n", "") + VALIDATION)

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
