#!/usr/bin/env python3
"""End-to-end tests of the cuda-mnist binary, standard library only.

    python3 tests/cli/run.py BINARY [--data-dir DIR] [-k PATTERN] [-v]

Most of it runs on small models and a few hundred blocky digits that the tests write as IDX files,
the rest on the built-in synthetic digits; with --data-dir (or CUDA_MNIST_DATA_DIR) the real MNIST
is trained on and evaluated too. Each test has a directory of its own, and the processor as device.
"""
import argparse
import csv
import fcntl
import gzip
import hashlib
import html.parser
import json
import math
import os
import pathlib
import pty
import random
import re
import resource
import select
import shlex
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time
import unittest
import zipfile
import zlib
from xml.etree import ElementTree

BINARY = None
DATA_DIR = None
BLOCKS = None  # directory of the IDX files
TINY = "pool:4,flatten,dense:10"
DROPOUT = "conv:4x5:stride3,pool:2,flatten,dropout:0.3,dense:10"
HEADER = "epoch,loss,accuracy,val_loss,val_accuracy\n"


def digest(path):
    return hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest()


def recipe(limit=500):
    return ["--dataset", "idx", "--data-dir", BLOCKS, "--limit", str(limit), "--batch-size", "64",
            "--device", "cpu"]


def write_blocks(directory):
    """600 training and 200 test images: a noisy bright block whose place tells the label."""
    noise = random.Random(1)
    for stem, count in (("train", 600), ("t10k", 200)):
        labels = bytes(noise.randrange(10) for _ in range(count))
        images = bytearray()
        for label in labels:
            row, column = 2 + 13 * (label // 5), 1 + 5 * (label % 5)
            image = bytearray(noise.randrange(100) for _ in range(784))
            for y in range(row, row + 11):
                for x in range(column, column + 5):
                    image[28 * y + x] = noise.randrange(60, 256)
            images += image
        pathlib.Path(directory, f"{stem}-images-idx3-ubyte").write_bytes(
            struct.pack(">IIII", 0x803, count, 28, 28) + images)
        pathlib.Path(directory, f"{stem}-labels-idx1-ubyte").write_bytes(
            struct.pack(">II", 0x801, count) + labels)


def blacken_test_images(directory):
    path = pathlib.Path(directory, "t10k-images-idx3-ubyte")
    path.write_bytes(path.read_bytes()[:16] + bytes(path.stat().st_size - 16))


def pgm(pixels):
    return b"P5\n28 28\n255\n" + bytes(pixels)


PAGE = [(20, 20, 8, 60), (100, 20, 8, 60), (60, 110, 14, 60)]  # two lines of bars


def bars_pgm(bars, paper=255, ink=0):
    """A picture of 140 x 180 pixels with bars (x, y, width, height)."""
    def level(x, y):
        inside = any(left <= x < left + width and top <= y < top + height
                     for left, top, width, height in bars)
        return ink if inside else paper
    return b"P5\n140 180\n255\n" + bytes(level(x, y) for y in range(180) for x in range(140))


def png_colors(path):
    """The colours in a PNG file of 8-bit red, green and blue."""
    data, body = path.read_bytes(), b""
    width, height = png_size(path)
    at = 8
    while at < len(data):
        length, kind = struct.unpack(">I4s", data[at:at + 8])
        if kind == b"IDAT":
            body += data[at + 8:at + 8 + length]
        at += 12 + length
    rows, stride, colors = zlib.decompress(body), 3 * width, set()
    above = bytes(stride)
    for y in range(height):
        start = y * (stride + 1)
        row = bytearray(rows[start + 1:start + 1 + stride])
        for i in range(stride):
            a, c = (row[i - 3], above[i - 3]) if i >= 3 else (0, 0)
            b = above[i]
            paeth = min((abs(b - c), 0, a), (abs(a - c), 1, b), (abs(a + b - 2 * c), 2, c))[2]
            row[i] = (row[i] + (0, a, b, (a + b) // 2, paeth)[rows[start]]) % 256
        colors.update(zip(row[::3], row[1::3], row[2::3]))
        above = row
    return colors


def png_size(path):
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n", path
    return struct.unpack(">II", data[16:24])


class Case(unittest.TestCase):
    def setUp(self):
        self.dir = pathlib.Path(tempfile.mkdtemp(prefix="cuda-mnist-cli-"))
        self.addCleanup(shutil.rmtree, self.dir, ignore_errors=True)
        self.environment = {key: value for key, value in os.environ.items()
                            if not key.startswith(("LC_", "CUDA_MNIST_", "XDG_", "KERAS_"))}
        self.environment.update(HOME=str(self.dir / "home"), LANG="C.UTF-8", TERM="xterm")

    def run_cli(self, *arguments, code=0, **options):
        """Runs the binary in the test's directory; checks its exit code (None: any) and manners."""
        options.setdefault("env", self.environment)
        options.setdefault("cwd", self.dir)
        options.setdefault("stdout", subprocess.PIPE)
        done = subprocess.run([BINARY, *map(str, arguments)], stderr=subprocess.PIPE, text=True,
                              timeout=600, **options)
        context = f"{shlex.join(map(str, done.args))}\n{done.stdout}\n{done.stderr}"
        if code is not None:
            self.assertEqual(done.returncode, code, context)
        self.assertGreaterEqual(done.returncode, 0, context)
        if done.returncode != 0:
            self.assertTrue(done.stderr.strip() or done.stdout, context)
            self.assertNotIn("internal error", done.stderr, context)
        self.assertEqual(self.temporaries(), [], context)
        return done

    def train(self, *arguments, code=0, arch=TINY, **options):
        return self.run_cli("train", "--arch", arch, *recipe(), *arguments, code=code, **options)

    def resume(self, epochs, *arguments, code=0):
        return self.run_cli("train", "--resume", "mnist.h5", "--epochs", epochs, "--data-dir",
                            BLOCKS, "--device", "cpu", *arguments, code=code)

    def train_to_overflow(self):
        """A finite mnist.h5 that overflows on all images but the black ones that validate it."""
        shutil.copytree(BLOCKS, self.dir / "black")
        blacken_test_images(self.dir / "black")
        self.train("--epochs", "1", "--limit", "64", "--learning-rate", "1e38", "--data-dir",
                   "black")

    def error(self, *arguments, code, contains, **options):
        """The last line of standard error is one clear message."""
        done = self.run_cli(*arguments, code=code, **options)
        last = done.stderr.strip().splitlines()[-1]
        self.assertTrue(last.startswith("cuda-mnist: "), done.stderr)
        self.assertRegex(last, contains)
        self.assertEqual(done.stdout or "", "", "no partial output")
        return done

    def temporaries(self):
        return [p.name for p in self.dir.rglob("*") if p.name.endswith((".tmp", ".part"))]

    def files(self):
        return sorted(p.name for p in self.dir.iterdir() if p.name != "home")

    def path(self, name):
        return self.dir / name

    def text(self, name):
        return self.path(name).read_text()

    def inspect(self, name="mnist.h5"):
        return json.loads(self.run_cli("inspect", name, "--json").stdout)


class Help(Case):
    def test_help_and_version(self):
        help_text = self.run_cli("--help").stdout
        self.assertIn("Examples:", help_text.split("Commands:")[0])
        for command in ["train", "evaluate", "report", "predict", "serve", "bench",
                        "check-backends", "data", "doctor", "inspect"]:
            self.assertIn(f"\n  {command}", help_text)
            own = self.run_cli(command, "--help").stdout
            self.assertLess(own.index("Examples:"), own.index("Options:"))
            self.assertEqual(own, self.run_cli("help", command).stdout)
            for line in own.splitlines():
                self.assertLessEqual(len(line), 100, line)
        version = self.run_cli("--version").stdout.splitlines()
        self.assertRegex(version[0], r"^cuda-mnist \d+\.\d+\.\d+$")
        self.assertRegex(version[1], "^commit: (.*[0-9a-f]{12}(-changed)?|none .*)$")
        self.assertTrue(any(line.startswith("targets: ") and "cpu" in line for line in version))

    def test_train_help_has_the_seed_recipe(self):
        text = self.run_cli("train", "--help").stdout
        for default in ["[100]", "[128]", "[0.001]", "[mnist.h5]", "[training_log.csv]", "[mnist]"]:
            self.assertIn(default, text)
        self.assertRegex(text, r"--math fp32\|fp16 +Arithmetic.* \[fp32\]")

    def test_no_arguments(self):
        done = self.run_cli(code=2)
        self.assertEqual(done.stdout, "")
        self.assertIn("cuda-mnist train", done.stderr)

    def test_usage_errors(self):
        cases = [
            (["trian"], "did you mean 'train'"),
            (["frobnicate"], "unknown command 'frobnicate'"),
            (["train", "--epoch", "3"], "did you mean --epochs"),
            (["train", "--lr", "0.1"], "did you mean --learning-rate"),
            (["train", "--bs", "64"], "did you mean --batch-size"),
            (["train", "extra"], "unexpected argument 'extra'"),
            (["train", "--epochs", "-1"], "--epochs"),
            (["train", "--epochs", "1e3"], "--epochs"),
            (["train", "--epochs", "99999999999999999999"], "--epochs"),
            (["train", "--epochs"], "--epochs"),
            (["train", "--batch-size", "0"], "--batch-size"),
            (["train", "--limit", "0"], "--limit"),
            (["train", "--seed", "-1"], "--seed"),
            (["train", "--seed", "18446744073709551616"], "--seed"),
            (["train", "--threads", "-2"], "--threads"),
            (["train", "--learning-rate", "0"], "--learning-rate"),
            (["train", "--learning-rate", "nan"], "--learning-rate"),
            (["train", "--learning-rate", "inf"], "--learning-rate"),
            (["train", "--learning-rate", "0,001"], "--learning-rate"),
            (["train", "--learning-rate", "-1"], "--learning-rate"),
            (["train", "--backend", "other"], "--backend.*one of: native"),
            (["train", "--math", "fp8"], "--math.*one of: fp32"),
            (["train", "--device", "tpu"], "--device.*auto, cuda, cuda:N, cpu"),
            (["train", "--dataset", "cifar"], "--dataset.*synthetic"),
            (["train", "--shuffle", "maybe"], "--shuffle.*on, off"),
            (["train", "--data", "mmap"], "--data.*stream, resident"),
            (["train", "--profile-steps", "5:5"], "--profile-steps"),
            (["train", "--profile-steps", "x:9"], "--profile-steps"),
            (["train", "--arch", "conv:32x3,dens:10"], "dens"),
            (["train", "--arch", "conv:32x30,flatten,dense:10"], "conv"),
            (["train", "--arch", "flatten,dense:5"], "5 units"),
            (["train", "--arch", ""], "--arch"),
            (["train", "--out", "x", "--log", "./x"], "same file"),
            (["train", "--init", "a.h5", "--resume", "b.h5"], "--init.*--resume"),
            (["train", "--report", "x", "--log", "./x"], "--log and --report name the same"),
            (["train", "--report", "mnist.h5"], "--out and --report name the same"),
            (["report", "--out", "./mnist.h5"], "--out.*is the file of --model"),
            (["report", "--out", "a.csv", "--log", "a.csv"], "--out.*is the file of --log"),
            (["report", "--mistakes", "1001"], "--mistakes"),
            (["predict"], "IMAGE"),
            (["inspect"], "FILE"),
            (["data"], "ACTION"),
            (["data", "burn"], "fetch, verify, path"),
            (["evaluate", "--limit", "0"], "--limit"),
            (["bench", "--device", "cpu", "--filter", "conv3d"], "'conv3d'.*conv2d_forward.*step"),
            (["bench", "--repeat", "0"], "--repeat"),
            (["bench", "--repeat", "many"], "--repeat"),
            (["bench", "--plot", "bench.svg"], "--plot.*--compare"),
            (["bench", "--compare", "--naive"], "--naive.*--compare"),
            (["bench", "--math", "fp16", "--naive"], "--naive.*--math fp16"),
            (["bench", "--math", "fp8"], "--math.*fp32, fp16"),
            (["bench", "--device", "cpu", "--math", "fp16", "--filter", "adam"],
             "'adam'.*fused_conv_backward.*fused_update_filters.*step"),
            (["bench", "--device", "cpu", "--compare", "--filter", "conv3d"],
             "'conv3d'.*conv2d_pool_backward.*dense_backward_data.*epoch.*softmax.*step"),
        ]
        for arguments, contains in cases:
            with self.subTest(arguments=arguments):
                self.error(*arguments, code=2, contains=contains)
                self.assertEqual(self.files(), [])


class Train(Case):
    def test_files_log_and_summary(self):
        done = self.train("--epochs", "2")
        self.assertEqual(self.files(), ["mnist.h5", "training_log.csv"])
        self.assertIn("val_accuracy", done.stdout)
        self.assertIn("seed 1", done.stdout)
        self.assertIn(digest(self.path("mnist.h5")), done.stdout)
        epochs = [line for line in done.stderr.splitlines() if line.startswith("Epoch ")]
        self.assertEqual(len(epochs), 2)
        self.assertNotIn("\r", done.stderr)
        self.assertNotIn("\x1b", done.stderr)
        self.assertTrue(self.text("training_log.csv").startswith(HEADER))
        rows = list(csv.DictReader(self.text("training_log.csv").splitlines()))
        self.assertEqual([row["epoch"] for row in rows], ["1", "2"])
        self.assertLess(float(rows[1]["loss"]), float(rows[0]["loss"]))
        for row in rows:
            for key in ["accuracy", "val_accuracy"]:
                self.assertTrue(0 <= float(row[key]) <= 1)

    def test_json(self):
        done = self.train("--epochs", "3", "--json", "--seed", "7")
        *epochs, summary = map(json.loads, done.stdout.splitlines())
        self.assertEqual(len(epochs), 3)
        rows = list(csv.DictReader(self.text("training_log.csv").splitlines()))
        for number, (epoch, row) in enumerate(zip(epochs, rows), 1):
            self.assertEqual(list(epoch), ["epoch", "loss", "accuracy", "val_loss", "val_accuracy",
                                           "train_seconds", "seconds"])
            self.assertEqual(epoch["epoch"], number)
            for key in ["loss", "accuracy", "val_loss", "val_accuracy"]:
                self.assertEqual(epoch[key], float(row[key]))
                value = struct.unpack("f", struct.pack("f", epoch[key]))[0]
                self.assertEqual(value, epoch[key], "a float32 value")
            self.assertTrue(0 < epoch["train_seconds"] <= epoch["seconds"])
        for key in ["loss", "accuracy", "val_loss", "val_accuracy"]:
            self.assertEqual(summary[key], epochs[-1][key])
        self.assertEqual(summary["finished"], True)
        self.assertEqual(summary["epochs"], 3)
        self.assertEqual(summary["seed"], 7)
        self.assertEqual(summary["device"], "cpu")
        self.assertEqual(summary["steps"], 3 * math.ceil(500 / 64))
        self.assertEqual(summary["parameters"], 49 * 10 + 10)
        self.assertEqual(summary["model"], "mnist.h5")
        self.assertEqual(summary["sha256"], digest(self.path("mnist.h5")))

    def test_zero_epochs(self):
        self.train("--epochs", "0")
        self.assertEqual(self.text("training_log.csv"), HEADER)
        training = self.inspect()["training"]
        self.assertEqual((training["epoch"], training["iteration"]), (0, 0))
        self.train("--epochs", "2", "--out", "direct.h5", "--log", "direct.csv")
        self.resume(2)
        self.assertEqual(digest(self.path("mnist.h5")), digest(self.path("direct.h5")))
        self.assertEqual(self.text("training_log.csv"), self.text("direct.csv"))

    def test_repeat_threads_and_data_path_are_bit_equal(self):
        runs = {"a": [], "b": [], "c": ["--threads", "1"], "d": ["--threads", "3"],
                "e": ["--data", "resident"]}
        for name, options in runs.items():
            self.train("--epochs", "2", "--out", f"{name}.h5", "--log", f"{name}.csv", *options,
                       arch=DROPOUT)
        self.assertEqual(len({digest(self.path(f"{name}.h5")) for name in runs}), 1)
        self.assertEqual(len({self.text(f"{name}.csv") for name in runs}), 1)
        self.train("--epochs", "2", "--out", "s.h5", "--log", "s.csv", "--seed", "2", arch=DROPOUT)
        self.assertNotEqual(self.text("s.csv"), self.text("a.csv"))

    def test_later_options_win(self):
        self.train("--epochs", "9", "--epochs", "1")
        self.assertEqual(len(self.text("training_log.csv").splitlines()), 2)

    def test_init(self):
        done = self.train("--epochs", "10", "--out", "base.h5", "--json")
        base = json.loads(done.stdout.splitlines()[-1])
        done = self.run_cli("train", "--init", "base.h5", *recipe(), "--epochs", "1", "--json")
        first = json.loads(done.stdout.splitlines()[0])
        self.assertEqual(self.inspect()["arch"], TINY)
        self.assertEqual(self.inspect()["training"]["epoch"], 1)
        self.assertEqual(first["epoch"], 1)
        self.assertLess(first["loss"], base["val_loss"], "it starts from trained weights")
        self.assertEqual(len(self.text("training_log.csv").splitlines()), 2, "a new log")
        self.error("train", "--init", "base.h5", "--arch", "flatten,dense:10", *recipe(), code=2,
                   contains="--arch.*contradicts")
        self.train("--init", "base.h5", "--epochs", "1")  # the same --arch is no contradiction

    def test_interrupted_log_of_an_older_run_survives_failures(self):
        self.train("--epochs", "1")
        before = digest(self.path("mnist.h5")), self.text("training_log.csv")
        self.error("train", "--data-dir", "nowhere", code=66, contains="nowhere")
        self.error("train", *recipe(), "--arch", TINY, "--learning-rate", "1e38", code=70,
                   contains="NaN in epoch 1, step")
        self.assertEqual(before, (digest(self.path("mnist.h5")), self.text("training_log.csv")))

    def test_nan_keeps_the_last_good_file(self):
        # Small steps at first, then a file whose run goes wild.
        self.train("--epochs", "1")
        good = digest(self.path("mnist.h5"))
        done = self.run_cli("train", "--init", "mnist.h5", *recipe(), "--learning-rate", "3e38",
                            "--epochs", "3", "--json", code=70)
        self.assertRegex(done.stderr, r"epoch \d+, step \d+ of 8")
        self.assertIn("--learning-rate", done.stderr)
        self.assertEqual(digest(self.path("mnist.h5")), good)

    def test_no_stdin(self):
        self.train("--epochs", "1", stdin=subprocess.DEVNULL)
        self.train("--epochs", "1", preexec_fn=lambda: os.close(0))

    def test_closed_streams_do_not_harm_the_files(self):
        def close_all():
            for fd in (0, 1, 2):
                os.close(fd)
        self.train("--epochs", "1", "--out", "good.h5", "--log", "good.csv")
        done = subprocess.run([BINARY, "train", "--arch", TINY, *recipe(), "--epochs", "1"],
                              cwd=self.dir, env=self.environment, preexec_fn=close_all, timeout=600)
        self.assertEqual(done.returncode, 74, "the summary could not be written")
        self.assertEqual(digest(self.path("mnist.h5")), digest(self.path("good.h5")))
        self.assertEqual(self.text("training_log.csv"), self.text("good.csv"))

    def test_full_stdout(self):
        with open("/dev/full", "w") as full:
            done = self.train("--epochs", "1", "--json", stdout=full, code=74)
        self.assertIn("standard output", done.stderr)
        self.assertEqual(self.inspect()["training"]["epoch"], 1)

    def test_reader_that_goes_away(self):
        line = shlex.join([BINARY, "train", "--arch", TINY, *recipe(), "--epochs", "20", "--json"])
        done = subprocess.run(["bash", "-c", f"{line} | head -1; exit ${{PIPESTATUS[0]}}"],
                              cwd=self.dir, env=self.environment, capture_output=True, text=True,
                              timeout=600)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(json.loads(done.stdout)["epoch"], 1)
        self.assertEqual(self.inspect()["training"]["epoch"], 20, "training went on")

    def test_locale(self):
        locales = subprocess.run(["locale", "-a"], capture_output=True, text=True).stdout.split()
        german = next((name for name in locales if name.startswith("de_DE")), "de_DE.UTF-8")
        self.train("--epochs", "1", "--out", "a.h5", "--log", "a.csv")
        for name in ["C", german]:
            self.train("--epochs", "1", "--out", "b.h5", "--log", "b.csv", "--learning-rate",
                       "0.001", env={**self.environment, "LC_ALL": name, "LANG": name})
            self.assertEqual(self.text("a.csv"), self.text("b.csv"))

    def test_peak_memory(self):
        # The whole set and the default model, less the hour of training.
        process = subprocess.Popen([BINARY, "train", "--dataset", "synthetic", "--device", "cpu",
                                    "--epochs", "0"], cwd=self.dir, env=self.environment,
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        self.assertEqual(process.returncode, 0)
        self.assertLessEqual(usage.ru_maxrss, 600 * 1024, "KiB")

    def test_small_stacks(self):
        # HDF5, in the thread that saves the model, needs more than `ulimit -s 512` gives it.
        size = 512 * 1024
        self.train("--epochs", "1", preexec_fn=lambda: resource.setrlimit(
            resource.RLIMIT_STACK, (size, size)))


class Resume(Case):
    def straight(self, epochs, arch=DROPOUT, *options):
        self.train("--epochs", epochs, "--out", "straight.h5", "--log", "straight.csv", *options,
                   arch=arch)

    def assert_equal_to_straight(self):
        self.assertEqual(self.text("training_log.csv"), self.text("straight.csv"))
        self.assertEqual(digest(self.path("mnist.h5")), digest(self.path("straight.h5")))

    def test_two_and_two_is_four(self):
        self.straight(4)
        self.train("--epochs", "2", arch=DROPOUT)
        done = self.resume(4, "--json")
        self.assertEqual([json.loads(line).get("epoch") for line in done.stdout.splitlines()],
                         [3, 4, None])
        self.assert_equal_to_straight()

    def test_every_epoch(self):
        self.straight(3)
        self.train("--epochs", "1", arch=DROPOUT)
        self.resume(2)
        self.resume(3)
        self.assert_equal_to_straight()

    def test_elsewhere(self):
        self.straight(2)
        self.train("--epochs", "1", arch=DROPOUT)
        before = digest(self.path("mnist.h5"))
        shutil.copy(self.path("training_log.csv"), self.path("copy.csv"))
        self.resume(2, "--out", "next.h5", "--log", "copy.csv", "--threads", "2", "--data",
                    "resident")
        self.assertEqual(digest(self.path("mnist.h5")), before)
        self.assertEqual(digest(self.path("next.h5")), digest(self.path("straight.h5")))
        self.assertEqual(self.text("copy.csv"), self.text("straight.csv"))

    def test_crash_between_log_and_model(self):
        self.straight(3)
        self.train("--epochs", "2", arch=DROPOUT)
        with open(self.path("training_log.csv"), "a") as log:
            log.write("3,0.5,0.5,0.5,0.5\n4,0.1")
        self.resume(3)
        self.assert_equal_to_straight()

    def test_lost_log(self):
        self.train("--epochs", "1")
        self.path("training_log.csv").unlink()
        done = self.resume(2)
        self.assertIn("training_log.csv is not there", done.stderr)
        lines = self.text("training_log.csv").splitlines()
        self.assertEqual(len(lines), 2)
        self.assertTrue(lines[1].startswith("2,"))

    def test_damaged_log(self):
        self.train("--epochs", "2")
        before = digest(self.path("mnist.h5"))
        self.path("training_log.csv").write_text(HEADER)
        done = self.resume(3, code=65)
        self.assertIn("training_log.csv", done.stderr)
        self.assertEqual(digest(self.path("mnist.h5")), before)

    def test_contradictions(self):
        self.train("--epochs", "1")
        resume = ["train", "--resume", "mnist.h5", "--epochs", "2", "--data-dir", BLOCKS,
                  "--device", "cpu"]
        for option, value in [("--seed", "2"), ("--batch-size", "32"), ("--learning-rate", "0.1"),
                              ("--shuffle", "off"), ("--limit", "400"), ("--dataset", "mnist"),
                              ("--arch", "flatten,dense:10")]:
            with self.subTest(option=option):
                self.error(*resume, option, value, code=2, contains=f"{option} .*contradicts")
        self.error("train", "--resume", "mnist.h5", "--epochs", "1", code=2,
                   contains="1 epoch already")
        # The same values are welcome.
        self.run_cli(*resume, "--seed", "1", "--batch-size", "64", "--learning-rate", "1e-3",
                     "--shuffle", "on", "--limit", "500", "--dataset", "idx", "--arch", TINY)

    def test_files_of_an_earlier_version(self):
        """version_1.h5 was written by train --dataset synthetic --limit 256 --batch-size 100
        --epochs 1 --arch ...; `after` is what the same program made of it with --resume."""
        arch = ("conv:4x3:same:stride2,pool:2,dropout:1e-04,conv:4x3,flatten,dense:8:nobias,"
                "dropout:0.25,dense:10")
        before = "e297a1d9efe13f8e504ba1edb60d4a991313778f84c557b68330d9b23cf1d514"
        after = "797037c70a0f5b125e9003f1fa5d642f2ddaa0d36b217e36d8cfe7a7ca396550"
        data = pathlib.Path(__file__).parents[1] / "model_file" / "data"
        shutil.copy(data / "version_1.h5", self.path("mnist.h5"))
        shutil.copy(data / "version_1.csv", self.path("training_log.csv"))
        found = self.inspect()
        self.assertEqual((found["arch"], found["checksum"], found["checksum_verified"]),
                         (arch, before, True))
        self.run_cli("train", "--resume", "mnist.h5", "--epochs", "2", "--device", "cpu")
        self.assertEqual(self.inspect()["checksum"], after)
        self.assertEqual(self.text("training_log.csv").splitlines()[2],
                         "2,2.297943353652954,0.12109375,2.2985434532165527,0.1006999984383583")

    def test_missing_and_foreign(self):
        self.error("train", "--resume", "no.h5", code=66, contains="no.h5")
        self.path("bad.h5").write_bytes(b"not HDF5 at all")
        self.error("train", "--resume", "bad.h5", code=65, contains="bad.h5")


class Fp16(Case):
    """--math fp16, which is for the default network: few images."""

    def recipe(self):
        return [*recipe(40), "--batch-size", "16", "--math", "fp16"]

    def train(self, *arguments, **options):
        return self.run_cli("train", *self.recipe(), *arguments, **options)

    def test_resume_and_later(self):
        done = self.train("--epochs", "2", "--out", "straight.h5", "--log", "straight.csv")
        self.assertIn(" FP16 on ", done.stderr)
        done = self.train("--epochs", "1", "--json")
        epoch, summary = map(json.loads, done.stdout.splitlines())
        self.assertEqual(list(epoch), ["epoch", "loss", "accuracy", "val_loss", "val_accuracy",
                                       "train_seconds", "seconds", "saturated"])
        self.assertEqual((epoch["saturated"], summary["saturated"], summary["math"]),
                         (0, 0, "fp16"))
        self.assertEqual(self.inspect()["training"]["math"], "fp16")
        self.assertIn(", in FP16\n", self.run_cli("inspect", "mnist.h5").stdout)

        resume = ["train", "--resume", "mnist.h5", "--epochs", "2", "--data-dir", BLOCKS]
        for device in ([], ["--device", "cpu"]):
            self.error(*resume, *device, "--math", "fp32", code=2,
                       contains="--math .*contradicts")
        # Resumed without the option or with its value.
        shutil.copy(self.path("mnist.h5"), self.path("again.h5"))
        shutil.copy(self.path("training_log.csv"), self.path("again.csv"))
        self.resume(2)
        self.run_cli("train", "--resume", "again.h5", "--log", "again.csv", "--epochs", "2",
                     "--data-dir", BLOCKS, "--device", "cpu", "--math", "fp16")
        for name in ("mnist.h5", "again.h5"):
            self.assertEqual(digest(self.path(name)), digest(self.path("straight.h5")))
        for name in ("training_log.csv", "again.csv"):
            self.assertEqual(self.text(name), self.text("straight.csv"))

        # FP16 in evaluate and predict is an option, whatever the run computed with.
        row = list(csv.DictReader(self.text("training_log.csv").splitlines()))[-1]
        evaluate = ["evaluate", "--dataset", "idx", "--data-dir", BLOCKS, "--device", "cpu",
                    "--json"]
        fp16 = json.loads(self.run_cli(*evaluate, "--math", "fp16").stdout)
        fp32 = json.loads(self.run_cli(*evaluate).stdout)
        self.assertEqual(fp16["loss"], float(row["val_loss"]))
        self.assertNotEqual(fp16["loss"], fp32["loss"])
        self.assertAlmostEqual(fp16["loss"], fp32["loss"], delta=1e-3)
        self.path("one.pgm").write_bytes(
            pgm(255 if 12 <= i % 28 <= 14 and 4 <= i // 28 <= 23 else 0 for i in range(784)))
        predict = ["predict", "one.pgm", "--device", "cpu", "--single", "--json"]
        fp16 = json.loads(self.run_cli(*predict, "--math", "fp16").stdout)[0]["probabilities"]
        fp32 = json.loads(self.run_cli(*predict).stdout)[0]["probabilities"]
        self.assertNotEqual(fp16, fp32)
        self.assertLess(max(abs(a - b) for a, b in zip(fp16, fp32)), 1e-3)

    def test_what_is_beyond_its_range_is_told(self):
        self.train("--epochs", "1", "--learning-rate", "30")
        evaluate = ["evaluate", "--dataset", "idx", "--data-dir", BLOCKS, "--device", "cpu",
                    "--json"]
        done = self.run_cli(*evaluate, "--math", "fp16")
        found = json.loads(done.stdout)
        self.assertEqual(found["math"], "fp16")
        self.assertGreater(found["saturated"], 0)
        self.assertIn("mnist.h5: %s numbers were beyond FP16's range" %
                      format(found["saturated"], ","), done.stderr)
        done = self.run_cli(*evaluate)
        found = json.loads(done.stdout)
        self.assertEqual(found["math"], "fp32")
        self.assertNotIn("saturated", found)
        self.assertNotIn("FP16", done.stderr)

    def test_a_run_in_fp32_goes_on_in_fp32(self):
        done = self.train("--math", "fp32", "--epochs", "1", "--json")
        epoch, summary = map(json.loads, done.stdout.splitlines())
        self.assertNotIn("saturated", {**epoch, **summary})
        self.assertEqual(summary["math"], "fp32")
        self.assertEqual(self.inspect()["training"]["math"], "fp32")
        self.assertNotIn("FP16", done.stderr + self.run_cli("inspect", "mnist.h5").stdout)
        self.error("train", "--resume", "mnist.h5", "--epochs", "2", "--data-dir", BLOCKS,
                   "--device", "cpu", "--math", "fp16", code=2, contains="--math .*contradicts")

    def test_what_does_not_fit(self):
        network = (r"--math fp16: .* for conv:32x3,pool:2,conv:64x3,pool:2,flatten,dense:128,"
                   r"dense:10 on 28x28x1 images, not for pool:4,flatten,dense:10; use FP32")
        self.error("train", *self.recipe(), "--arch", TINY, code=2, contains=network)
        self.error("train", *self.recipe(), "--batch-size", "129", code=2,
                   contains="--math fp16: .* batches of at most 128, not 129; use")
        self.assertEqual(self.files(), [])
        self.error("train", *self.recipe(), "--backend", "cudnn", code=2, contains="--backend")
        self.run_cli("train", *recipe(), "--arch", TINY, "--epochs", "0")
        self.path("one.pgm").write_bytes(pgm([0] * 784))
        for command in (["evaluate", "--dataset", "idx", "--data-dir", BLOCKS],
                        ["report", "--data-dir", BLOCKS], ["predict", "one.pgm"], ["serve"]):
            self.error(*command, "--math", "fp16", "--device", "cpu", code=2, contains=network)


class Signals(Case):
    def recipe(self):
        return ["--arch", DROPOUT, *recipe(), "--batch-size", "4"]  # 125 steps an epoch

    def start(self, *arguments, stderr=subprocess.PIPE, **options):
        process = subprocess.Popen([BINARY, "train", *self.recipe(), *arguments],
                                   cwd=self.dir, env=self.environment, stdout=subprocess.PIPE,
                                   stderr=stderr, text=True, **options)
        self.addCleanup(process.stdout.close)
        if process.stderr:
            self.addCleanup(process.stderr.close)
        self.addCleanup(process.kill)
        return process

    def stop(self, process, how, after):
        """Sends the signal some time after the first epoch."""
        process.stdout.readline()
        time.sleep(after)
        process.send_signal(how)
        stdout, stderr = process.communicate(timeout=60)
        return stdout, stderr

    def check_resume(self, how, code):
        # Interrupted wherever it happens to be, several times, then finished: as if never stopped.
        process = self.start("--epochs", "25", "--json")
        inside = []
        for after in (0.0, 0.03, 0.06):
            _, stderr = self.stop(process, how, after)
            self.assertEqual(process.returncode, code, stderr)
            self.assertEqual(self.temporaries(), [])
            inside.append(self.inspect()["training"]["batch"])
            command = stderr.rstrip().splitlines()[-1].strip()
            self.assertTrue(command.startswith(f"{BINARY} train --resume mnist.h5 --epochs 25"),
                            stderr)
            self.assertIn("--json", command)
            process = subprocess.Popen(shlex.split(command), cwd=self.dir, env=self.environment,
                                       stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        process.communicate(timeout=600)
        self.assertEqual(process.returncode, 0)
        self.assertTrue(any(inside), "never stopped inside an epoch")
        self.run_cli("train", *self.recipe(), "--epochs", "25", "--out", "straight.h5", "--log",
                     "straight.csv")
        self.assertEqual(self.text("training_log.csv"), self.text("straight.csv"))
        self.assertEqual(digest(self.path("mnist.h5")), digest(self.path("straight.h5")))

    def test_sigint(self):
        self.check_resume(signal.SIGINT, 130)

    def test_sigterm(self):
        self.check_resume(signal.SIGTERM, 143)

    def test_sighup(self):
        # These tests may run under nohup, which passes on that the signal is ignored.
        process = self.start("--epochs", "100000", "--json",
                             preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL))
        _, stderr = self.stop(process, signal.SIGHUP, 0)
        self.assertEqual(process.returncode, 143, stderr)

    def test_mid_epoch(self):
        # One long epoch, stopped when its progress shows: certainly inside of it.
        terminal, stderr = pty.openpty()
        self.addCleanup(os.close, terminal)
        process = self.start("--epochs", "2", "--dataset", "synthetic", "--limit", "60000",
                             "--batch-size", "1", stderr=stderr)
        os.close(stderr)
        text = b""
        while not re.search(rb"\d/60000", text):
            self.assertTrue(select.select([terminal], [], [], 60)[0], text)
            text += os.read(terminal, 65536)
        process.send_signal(signal.SIGINT)
        begin = time.monotonic()
        process.communicate(timeout=60)
        self.assertEqual(process.returncode, 130)
        self.assertLess(time.monotonic() - begin, 10)
        training = self.inspect()["training"]
        self.assertEqual(training["epoch"], 0)
        self.assertGreater(training["batch"], 0)
        self.assertEqual(training["iteration"], training["batch"])
        self.assertEqual(self.text("training_log.csv"), HEADER)

    def test_while_loading(self):
        for how, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
            process = self.start("--dataset", "synthetic", "--limit", "60000", "--arch",
                                 "conv:64x9:same,conv:64x9:same,flatten,dense:10")
            time.sleep(0.2)
            process.send_signal(how)
            begin = time.monotonic()
            process.communicate(timeout=60)
            self.assertIn(process.returncode, (code, -how))
            self.assertLess(time.monotonic() - begin, 20)
            if process.returncode == -how:
                self.assertEqual(self.files(), [])

    def test_second_signal_ends_at_once(self):
        process = self.start("--epochs", "100000", "--json")
        process.stdout.readline()
        for _ in range(100):
            if process.poll() is not None:
                break
            process.send_signal(signal.SIGINT)
        process.communicate(timeout=10)
        self.assertEqual(process.returncode, 130)
        self.assertEqual(self.temporaries(), [])
        self.inspect()  # old or new, but whole

    def test_nohup(self):
        process = self.start("--epochs", "3", "--json",
                             preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN))
        self.stop(process, signal.SIGHUP, 0)
        self.assertEqual(process.returncode, 0)
        self.assertEqual(self.inspect()["training"]["epoch"], 3)

    def test_kill_leaves_a_whole_file(self):
        for after in range(8):
            process = self.start("--epochs", "100000", "--json")
            process.stdout.readline()
            time.sleep(0.004 * after)
            process.kill()
            process.wait()
            training = self.inspect()["training"]
            self.assertGreaterEqual(training["epoch"], 1)
            self.resume(training["epoch"] + 1)


class Outputs(Case):
    def test_read_only_directory(self):
        self.path("ro").mkdir(mode=0o555)
        self.path("rw").mkdir()
        os.chmod(self.path("rw"), 0o777)
        os.chmod(self.dir, 0o755)
        options = {}
        if os.geteuid() == 0:  # root may write anywhere
            options["preexec_fn"] = lambda: os.setuid(65534)
        for option, file in (("--out", "ro/mnist.h5"), ("--log", "ro/log.csv")):
            self.error("train", "--dataset", "synthetic", "--out", "rw/mnist.h5", "--log",
                       "rw/log.csv", option, file, code=73, contains=file, **options)
        self.assertEqual(list(self.path("rw").iterdir()), [])

    def test_impossible_outputs_are_found_before_training(self):
        self.path("folder").mkdir()
        self.path("file").write_text("")
        for option in ["--out", "--log"]:
            for target in ["folder", "nowhere/x", "file/x", "/dev/full"]:
                with self.subTest(option=option, target=target):
                    self.error("train", option, target, *recipe(), code=73,
                               contains=re.escape(target))
        self.assertEqual(self.files(), ["file", "folder"])

    def test_special_targets(self):
        self.train("--epochs", "1", "--log", "/dev/null")
        self.assertTrue(pathlib.Path("/dev/null").is_char_device())

    def test_full_disk(self):
        # A limit on the size of files stands in for a full disk: the old model survives.
        self.train("--epochs", "1")
        before = digest(self.path("mnist.h5"))
        size = self.path("mnist.h5").stat().st_size
        for limit in (0, 100, 4000, size // 2, size - 1):
            with self.subTest(limit=limit):
                done = self.train("--epochs", "2", code=None, preexec_fn=lambda: resource.setrlimit(
                    resource.RLIMIT_FSIZE, (limit, limit)))
                # Room for less than the tensors is found out before training.
                self.assertIn(done.returncode, (73,) if limit <= 4000 else (73, 74), done.stderr)
                self.assertRegex(done.stderr.splitlines()[-1], r"mnist\.h5|training_log\.csv")
                self.assertEqual(digest(self.path("mnist.h5")), before)
        self.train("--epochs", "1", preexec_fn=lambda: resource.setrlimit(
            resource.RLIMIT_FSIZE, (size, size)))

    def test_odd_names(self):
        out, log = "a model's \"name\" $x.h5", "l\u00f6g.csv"
        self.train("--epochs", "1", "--out", out, "--log", log)
        self.assertEqual(self.files(), sorted([out, log]))
        done = self.run_cli("inspect", out, "--json")
        self.assertEqual(json.loads(done.stdout)["file"], out)


class Terminal(Case):
    def run_on_terminal(self, *arguments, columns=80, **environment):
        """Standard error is a pseudo-terminal; returns what it was sent."""
        primary, secondary = pty.openpty()
        fcntl.ioctl(secondary, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        process = subprocess.Popen(
            [BINARY, "train", "--arch", TINY, "--dataset", "synthetic", "--limit", "20000",
             "--device", "cpu", "--epochs", "2", *arguments], cwd=self.dir,
            env={**self.environment, **environment},
            stdout=subprocess.DEVNULL, stderr=secondary)
        os.close(secondary)
        text = b""
        while True:
            if not select.select([primary], [], [], 60)[0]:
                break
            try:
                part = os.read(primary, 65536)
            except OSError:  # the other end is closed
                break
            if not part:
                break
            text += part
        os.close(primary)
        self.assertEqual(process.wait(timeout=60), 0, text)
        return text.decode()

    def test_bar(self):
        text = self.run_on_terminal("--batch-size", "8", columns=120)
        self.assertIn("Epoch 1/2", text)
        self.assertIn("2500/2500", text)
        self.assertIn("\u2501" * 20, text)
        self.assertIn("\r", text)
        self.assertIn("val_accuracy: ", text)

    def test_no_color(self):
        text = self.run_on_terminal(NO_COLOR="1")
        self.assertIn("\u2501", text)
        self.assertNotIn("\x1b", text)

    def test_dumb(self):
        text = self.run_on_terminal(TERM="dumb")
        self.assertNotIn("\u2501", text)
        self.assertNotIn("\x1b", text)
        self.assertEqual(text.replace("\r\n", "\n").count("\r"), 0)
        self.assertEqual(len(re.findall(r"(?m)^Epoch ", text)), 2)

    def test_narrow(self):
        text = self.run_on_terminal("--batch-size", "4", columns=30)
        for line in re.sub(r"\x1b\[[0-9;]*m", "", text).split("\r"):
            if re.match(r" *\d+/\d+ ", line) and "val_" not in line:
                self.assertLessEqual(len(line), 29, repr(line))


class Models(Case):
    def test_inspect(self):
        self.train("--epochs", "1", arch=DROPOUT)
        text = self.run_cli("inspect", "mnist.h5").stdout
        self.assertIn("cuda-mnist", text)
        self.assertIn("(verified)", text)
        self.assertIn("conv2d", text)
        found = self.inspect()
        self.assertEqual(found["arch"], DROPOUT)
        self.assertEqual(found["input"], [28, 28, 1])
        self.assertEqual([layer["name"] for layer in found["layers"]],
                         ["conv2d", "max_pooling2d", "flatten", "dropout", "dense"])
        self.assertEqual(found["layers"][0]["parameters"], {"kernel": [5, 5, 1, 4], "bias": [4]})
        self.assertEqual(found["parameters"],
                         sum(math.prod(shape) for layer in found["layers"]
                             for shape in layer["parameters"].values()))
        self.assertTrue(found["checksum_verified"])
        self.assertEqual(found["training"]["learning_rate"], 0.001)
        self.assertEqual(found["training"]["log_bytes"],
                         self.path("training_log.csv").stat().st_size)

    def test_damaged_models(self):
        self.train("--epochs", "1")
        good = self.path("mnist.h5").read_bytes()
        flipped = bytearray(good)
        for i in range(100, len(good), 256):
            flipped[i] ^= 16
        bad = {"empty.h5": b"", "text.h5": b"hello\n", "half.h5": good[:len(good) // 2],
               "short.h5": good[:-1], "flipped.h5": bytes(flipped)}
        for name, content in bad.items():
            self.path(name).write_bytes(content)
            for command in (["evaluate", "--dataset", "synthetic", "--model", name],
                            ["predict", "--model", name, name], ["inspect", name],
                            ["train", "--init", name], ["train", "--resume", name]):
                with self.subTest(command=command):
                    self.error(*command, code=65, contains=re.escape(name))
        for command in (["evaluate", "--model", "no.h5"], ["predict", "x.png", "--model", "no.h5"],
                        ["inspect", "no.h5"]):
            with self.subTest(command=command):
                self.error(*command, code=66, contains="no.h5")
        self.error("inspect", ".", code=65, contains="directory")

    def test_one_flipped_bit_is_refused_or_harmless(self):
        self.train("--epochs", "1")
        good = self.path("mnist.h5").read_bytes()
        images = [self.path(f"{i}.pgm") for i in range(2)]
        for i, image in enumerate(images):
            image.write_bytes(pgm(40 * i + j % 200 for j in range(784)))
        predict = ["predict", "--device", "cpu", "--json", *images, "--model", "mnist.h5"]
        expected = self.run_cli(*predict).stdout
        places = random.Random(7)
        for _ in range(25):
            at, bit = places.randrange(len(good)), 1 << places.randrange(8)
            bad = bytearray(good)
            bad[at] ^= bit
            self.path("mnist.h5").write_bytes(bad)
            done = self.run_cli(*predict, code=None)
            with self.subTest(byte=at, bit=bit):
                self.assertIn(done.returncode, (0, 65), done.stderr)
                if done.returncode == 0:
                    self.assertEqual(done.stdout, expected)


class Evaluate(Case):
    def test_json_and_text(self):
        done = self.run_cli("train", "--arch", TINY, "--dataset", "synthetic", "--limit", "2000",
                            "--device", "cpu", "--epochs", "2", "--json")
        last = json.loads(done.stdout.splitlines()[-2])
        found = json.loads(self.run_cli("evaluate", "--dataset", "synthetic", "--device", "cpu",
                                        "--json").stdout)
        self.assertEqual(found["loss"], last["val_loss"])
        self.assertEqual(found["accuracy"], last["val_accuracy"])
        self.assertEqual(found["samples"], 10000)
        confusion = found["confusion"]
        self.assertEqual([len(row) for row in confusion], [10] * 10)
        self.assertEqual(sum(map(sum, confusion)), 10000)
        hits = sum(confusion[c][c] for c in range(10))
        self.assertAlmostEqual(hits / 10000, found["accuracy"], delta=1e-4)
        self.assertEqual(len(found["per_class"]), 10)
        for c, scores in enumerate(found["per_class"]):
            column = sum(row[c] for row in confusion)
            self.assertEqual(scores["support"], sum(confusion[c]))
            self.assertAlmostEqual(scores["recall"], confusion[c][c] / scores["support"])
            self.assertAlmostEqual(scores["precision"], confusion[c][c] / column if column else 0)
            both = scores["precision"] + scores["recall"]
            self.assertAlmostEqual(
                scores["f1"], 2 * scores["precision"] * scores["recall"] / both if both else 0)
        text = self.run_cli("evaluate", "--dataset", "synthetic", "--device", "cpu").stdout
        self.assertIn(f"accuracy: {found['accuracy']:.4f}", text)
        self.assertIn("Confusion", text)
        self.assertIn("precision", text)

    def test_limit(self):
        self.train("--epochs", "1")
        for limit, samples in ((1, 1), (123, 123), (99999, 200)):
            found = json.loads(self.run_cli("evaluate", "--dataset", "idx", "--data-dir", BLOCKS,
                                            "--device", "cpu", "--limit", limit, "--json").stdout)
            self.assertEqual(found["samples"], samples)
            self.assertEqual(sum(map(sum, found["confusion"])), samples)

    def test_a_loss_that_is_no_number(self):
        self.train_to_overflow()
        for arguments in ([], ["--json"], ["--limit", 1]):
            self.error("evaluate", "--dataset", "idx", "--data-dir", BLOCKS, "--device", "cpu",
                       *arguments, code=70,
                       contains="the loss of mnist.h5 on .* is infinite or NaN: .*--learning-rate")


class LowLimits(Case):
    def test_a_second_of_processor_time(self):
        self.train("--epochs", "1")
        self.run_cli("inspect", "mnist.h5",
                     preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CPU, (2, 2)))


class OneFileForTwo(Case):
    """Files that two options name, also through links, are refused, and keep what they have."""

    def test_of_training(self):
        self.train("--epochs", "1")
        model = digest(self.path("mnist.h5"))
        self.path("link").symlink_to("mnist.h5")
        self.path("dangling").symlink_to("new.h5")
        self.path("folder").symlink_to(".")
        run = ["train", *recipe(), "--arch", TINY, "--epochs", "2"]
        for options in (["--report", "link"], ["--log", "link"], ["--report", "folder/mnist.h5"],
                        ["--out", "new.h5", "--report", "dangling"],
                        ["--out", "new.h5", "--init", "mnist.h5", "--report", "link"],
                        ["--out", "new.h5", "--init", "mnist.h5", "--log", "mnist.h5"]):
            words = run if "--init" not in options else run[:-4] + run[-2:]  # without --arch
            message = self.run_cli(*words, *options, code=2).stderr
            self.assertRegex(message, "--(out|init|log) and --(log|report) name the same file")
        self.run_cli("train", "--epochs", "2", "--device", "cpu", "--data-dir", BLOCKS, "--resume",
                     "mnist.h5", "--out", "new.h5", "--report", "link", code=2)
        self.assertEqual(digest(self.path("mnist.h5")), model)
        self.assertFalse(self.path("new.h5").exists())

    def test_of_reports(self):
        self.train("--epochs", "1")
        self.path("link").symlink_to("training_log.csv")
        log = digest(self.path("training_log.csv"))
        self.run_cli("report", "--out", "link", "--device", "cpu", code=2)
        self.run_cli("report", "--out", "r", "--svg", "r", "--device", "cpu", code=2)
        self.assertFalse(self.path("r").exists())
        self.assertEqual(digest(self.path("training_log.csv")), log)


class Predict(Case):
    """The pictures are upright bars, which are digits by their shape; TINY tells which, somehow."""

    def setUp(self):
        super().setUp()
        self.train("--epochs", "1")
        self.path("one.pgm").write_bytes(
            pgm(255 if 12 <= i % 28 <= 14 and 4 <= i // 28 <= 23 else 0 for i in range(784)))
        self.path("blank.pgm").write_bytes(pgm([0] * 784))
        self.path("page.pgm").write_bytes(bars_pgm(PAGE))

    def predict(self, *arguments, **options):
        return self.run_cli("predict", *arguments, "--device", "cpu", **options)

    def answers(self, *arguments, **options):
        return json.loads(self.predict(*arguments, "--json", **options).stdout)

    def names(self, *arguments, **options):
        return [item["file"] for item in self.answers(*arguments, **options)]

    def test_names_with_control_characters(self):
        name = "a\n\x1b[31m.pgm"
        self.path("one.pgm").rename(self.path(name))
        shown = self.predict(name).stdout
        self.assertTrue(shown.startswith("a\\n\\x1b[31m.pgm: "), shown)
        self.path(name).write_bytes(b"P5 1")
        self.assertTrue(self.predict(name, code=65).stderr.endswith("\n"))
        self.assertIn("cuda-mnist: a\\n\\x1b[31m.pgm: ", self.predict(name, code=65).stderr)
        self.assertEqual(self.answers("blank.pgm", name, code=65)[0]["file"], "blank.pgm")

    def test_without_a_model(self):
        for command in (["predict", "one.pgm"], ["evaluate"], ["report"], ["serve"]):
            message = self.run_cli(*command, "--model", "none.h5", "--device", "cpu",
                                   code=66).stderr
            self.assertIn("none.h5: there is no such file", message)
            self.assertIn("cuda-mnist train", message)

    def test_json_and_text(self):
        found = self.answers("one.pgm", "blank.pgm", "one.pgm")
        self.assertEqual([item["file"] for item in found], ["one.pgm", "blank.pgm", "one.pgm"])
        for item in found:
            self.assertEqual(list(item), ["file", "digit", "probabilities", "digits", "number",
                                          "reason"])
        one, blank = found[:2]
        self.assertEqual(len(one["probabilities"]), 10)
        self.assertAlmostEqual(sum(one["probabilities"]), 1, places=5)
        self.assertEqual(one["digit"], one["probabilities"].index(max(one["probabilities"])))
        self.assertEqual(one["number"], str(one["digit"]))
        self.assertIsNone(one["reason"])
        self.assertEqual(one["probabilities"], found[2]["probabilities"])
        self.assertEqual((blank["digit"], blank["probabilities"], blank["digits"],
                          blank["number"]), (None, None, [], ""))
        self.assertIn("blank", blank["reason"])
        lines = self.predict("one.pgm", "blank.pgm").stdout.splitlines()
        digit = one["digits"][0]
        self.assertTrue(lines[0].startswith(
            f"one.pgm: {digit['digit']} ({100 * digit['probability']:.2f} %"), lines)
        self.assertEqual("unsure" in lines[0], digit["unsure"])
        stranger = digit["unsure"] and digit["probability"] >= 0.5 and digit["runner_up"] is None
        self.assertEqual("perhaps no digit" in lines[0], stranger)
        self.assertEqual(lines[1:], [f"blank.pgm: no digit: {blank['reason']}"])

    def test_several_digits(self):
        page = self.answers("page.pgm")[0]
        self.assertEqual((page["digit"], page["probabilities"]), (None, None))
        self.assertEqual([digit["line"] for digit in page["digits"]], [0, 0, 1])
        for digit, bar in zip(page["digits"], PAGE):
            self.assertLessEqual(max(abs(a - b) for a, b in zip(digit["box"], bar)), 2, digit)
        numbers = "".join(str(digit["digit"]) for digit in page["digits"])
        self.assertEqual(page["number"], f"{numbers[:2]}\n{numbers[2]}")
        lines = self.predict("page.pgm").stdout.splitlines()
        self.assertEqual(len(lines), 2)
        self.assertTrue(lines[0].startswith(f"page.pgm: {numbers[:2]}: {numbers[0]} ("), lines)
        self.assertIn(f"), {numbers[1]} (", lines[0])
        self.assertTrue(lines[1].startswith(f"page.pgm: {numbers[2]} ("), lines)

    def test_single(self):
        page = self.answers("page.pgm", "--single")[0]
        self.assertEqual(len(page["digits"]), 1)
        self.assertGreater(page["digits"][0]["box"][2], 60)
        done = self.predict("blank.pgm", "page.pgm", "--single", "--json", code=65)
        self.assertEqual([item["file"] for item in json.loads(done.stdout)], ["page.pgm"])
        self.assertRegex(done.stderr, "^cuda-mnist: blank.pgm: no digit: .*blank")

    def test_invert(self):
        self.path("chalk.pgm").write_bytes(bars_pgm(PAGE, paper=0, ink=255))
        for invert, counts in (("auto", [3, 3]), ("yes", [0, 3]), ("no", [3, 0])):
            found = self.answers("page.pgm", "chalk.pgm", "--invert", invert)
            with self.subTest(invert=invert):
                self.assertEqual([len(item["digits"]) for item in found], counts)
        self.error("predict", "page.pgm", "--invert", "maybe", code=2, contains="auto, yes, no")

    def test_where_pictures_come_from(self):
        scans = self.path("scans")
        (scans / "deeper.png").mkdir(parents=True)
        for name in ("b.PGM", "d.pgm", "a.pgm", "c.pgm", ".hidden.pgm", "deeper.png/e.pgm"):
            shutil.copy(self.path("page.pgm"), scans / name)
        (scans / "notes.txt").write_text("no picture")
        found = self.answers("scans")
        self.assertEqual([item["file"] for item in found],
                         [f"scans/{name}" for name in ("a.pgm", "b.PGM", "c.pgm", "d.pgm")])
        page = {key: value for key, value in found[0].items() if key != "file"}
        for source in (["-"], ["/dev/stdin"]):
            with open(self.path("page.pgm"), "rb") as stdin:
                answer = self.answers(*source, stdin=stdin)[0]
            self.assertEqual(answer, {"file": source[0], **page})
        os.mkfifo(self.path("pipe"))
        writer = threading.Thread(
            target=lambda: self.path("pipe").write_bytes(self.path("page.pgm").read_bytes()))
        writer.start()
        self.assertEqual(self.answers("pipe")[0], {"file": "pipe", **page})
        writer.join()

    def test_what_cannot_be_read(self):
        self.path("text.png").write_text("no picture")
        done = self.predict("text.png", "one.pgm", "--json", code=65)
        self.assertEqual([item["file"] for item in json.loads(done.stdout)], ["one.pgm"])
        self.assertRegex(done.stderr, '^cuda-mnist: text.png: is no picture .* the text "no pict')
        done = self.predict("gone.png", "one.pgm", "text.png", code=66)
        self.assertEqual(len(done.stdout.splitlines()), 1)
        self.assertRegex(done.stderr, "gone.png: .*No such file")
        self.assertEqual(self.names("gone.png", code=66), [])
        self.path("empty").mkdir()
        done = self.predict("empty", "one.pgm", code=66)
        self.assertEqual(len(done.stdout.splitlines()), 1)
        self.assertRegex(done.stderr, "^cuda-mnist: empty: there is no picture")
        self.error("predict", "/dev/zero", "--device", "cpu", code=65, contains="more than 64.0 MB")
        self.error("predict", "-", "--device", "cpu", code=65, contains="^cuda-mnist: -: .*empty",
                   stdin=subprocess.DEVNULL)

    def test_annotate(self):
        page = self.answers("page.pgm", "--annotate", "out.png")[0]
        self.assertEqual(png_size(self.path("out.png")), (140, 180))
        unsure = {digit["unsure"] for digit in page["digits"]}
        colors = png_colors(self.path("out.png"))
        self.assertEqual({state for state, color in ((False, (0, 92, 185)), (True, (191, 72, 0)))
                          if color in colors}, unsure)
        self.path("more").mkdir()
        shutil.copy(self.path("one.pgm"), self.path("more/page.pgm"))
        self.predict("page.pgm", "more/page.pgm", "blank.pgm", "--annotate", "deep/out")
        self.assertEqual(sorted(path.name for path in self.path("deep/out").iterdir()),
                         ["blank.png", "page-2.png", "page.png"])
        self.assertEqual(self.path("deep/out/page.png").read_bytes(),
                         self.path("out.png").read_bytes())
        self.assertEqual(png_size(self.path("deep/out/page-2.png")), (28, 28))
        self.predict("more", "--annotate", "of-directory")
        self.assertEqual(png_size(self.path("of-directory/page.png")), (28, 28))

    def test_save_digits(self):
        found = self.answers("page.pgm", "one.pgm", "--save-digits", "digits")
        names = ["one-01.png", "page-01.png", "page-02.png", "page-03.png"]
        self.assertEqual(sorted(path.name for path in self.path("digits").iterdir()), names)
        for name in names:
            self.assertEqual(png_size(self.path("digits") / name), (28, 28))
        again = self.answers("digits")
        saved = found[1]["digits"] + found[0]["digits"]
        self.assertEqual([item["probabilities"] for item in again],
                         [digit["probabilities"] for digit in saved])

    def test_pictures_are_never_written_over(self):
        self.predict("page.pgm", "--annotate", "page.png")
        before = self.path("page.png").read_bytes()
        for arguments in (["page.png", "--annotate", "page.png"],
                          ["page.png", "one.pgm", "--annotate", "."]):
            done = self.predict(*arguments, code=73)
            self.assertRegex(done.stderr, "cannot write .*page.png: it is a picture that is read")
            self.assertEqual(self.path("page.png").read_bytes(), before)
        shutil.copy(self.path("one.pgm"), self.path("page-01.pgm"))
        # The first digit of one is named like the other.
        done = self.predict("page-01.pgm", "page.pgm", "--annotate", "both", "--save-digits",
                            "both", code=73)
        self.assertRegex(done.stderr, "cannot write both/page-01.png: it is a picture that is")
        self.assertEqual(png_size(self.path("both/page-01.png")), (28, 28))
        self.assertIn("page.png", [path.name for path in self.path("both").iterdir()])

    def test_output_that_cannot_be_written(self):
        self.error("predict", "one.pgm", "--annotate", "no/out.png", "--device", "cpu", code=73,
                   contains="no/out.png: .*create the directory")
        self.error("predict", "one.pgm", "--annotate", "out.jpg", "--device", "cpu", code=2,
                   contains=r"PNG; let its name end in \.png")
        for option in ("--annotate", "--save-digits"):
            self.error("predict", "one.pgm", "blank.pgm", option, "one.pgm/out", "--device", "cpu",
                       code=73, contains="cannot create the directory one.pgm/out: Not a directory")
        self.assertNotIn("no", self.files())

    def test_show(self):
        plain = self.predict("page.pgm").stdout
        lines = self.predict("page.pgm", "--show").stdout.splitlines()
        self.assertEqual("\n".join(lines[:2]) + "\n", plain)
        self.assertEqual(len(lines), 2 + 3 * 30)
        for line in lines[2:]:
            self.assertEqual(len(line), 58)
            self.assertTrue(line.isascii())
        number = self.answers("page.pgm")[0]["number"].replace("\n", "")
        self.assertEqual([lines[2 + 30 * i][3] for i in range(3)], list(number))
        self.assertGreater(lines[17].count("@"), 1)
        self.assertEqual(lines[3].strip("| "), "")
        self.error("predict", "page.pgm", "--show", "--json", code=2, contains="--show")

    def test_probabilities_that_are_no_numbers(self):
        self.train_to_overflow()  # black images alone are still finite
        for json_flag in ([], ["--json"]):
            done = self.predict("one.pgm", "blank.pgm", *json_flag, code=70)
            self.assertRegex(done.stderr, "cuda-mnist: one.pgm: .* are NaN: .*--learning-rate")
            self.assertNotIn("nan", done.stdout)
        self.assertEqual([item["file"] for item in json.loads(done.stdout)], ["blank.pgm"])

    def test_full_stdout(self):
        with open("/dev/full", "w") as full:
            self.predict("one.pgm", stdout=full, code=74)


class Page(html.parser.HTMLParser):
    """A report, taken apart; it fails where an element is not closed, or closed too early."""
    VOID = {"meta"}

    def __init__(self, text):
        super().__init__()
        self.open, self.elements, self.texts = [], [], []
        self.feed(text)
        self.close()
        assert self.open == [], self.open

    def handle_starttag(self, tag, attributes):
        names = [name for name, _ in attributes]
        assert len(set(names)) == len(names), (tag, names)
        self.elements.append((tag, dict(attributes)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        self.open.pop()

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, (tag, self.open)

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.texts.append((self.open[-1], data.strip()))

    def all(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]

    def text(self, tag):
        return [text for name, text in self.texts if name == tag and text]

    def facts(self):
        """The pairs of <dt> and <dd>."""
        found, name = {}, None
        for tag, text in self.texts:
            if tag == "dt" and text:
                name = text
            elif tag == "dd" and text:
                found[name] = text
        return found


class PageCase(Case):
    def page(self, name="report.html"):
        text = self.text(name)
        page = Page(text)
        ids = [attributes["id"] for _, attributes in page.elements if "id" in attributes]
        self.assertEqual(len(set(ids)), len(ids))
        for _, attributes in page.elements:
            for name in attributes.get("aria-labelledby", "").split():
                self.assertIn(name, ids)
            self.assertFalse({"src", "style", "onload", "onclick"} & attributes.keys(), attributes)
            self.assertIn(attributes.get("href", ""), ("",), "a link that leads elsewhere")
        self.assertEqual(page.all("html"), [{"lang": "en"}])
        self.assertEqual(page.all("script") + page.all("link") + page.all("img"), [])
        policy = [meta["content"] for meta in page.all("meta")
                  if meta.get("http-equiv") == "Content-Security-Policy"]
        self.assertEqual(len(policy), 1)
        self.assertIn("default-src 'none'", policy[0])
        self.assertNotIn("refresh", text)
        levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
        self.assertEqual(levels.count(1), 1)
        self.assertTrue(all(b <= a + 1 for a, b in zip(levels, levels[1:])), levels)
        for heading in page.all("th"):
            self.assertIn(heading.get("scope"), ("row", "col"))
        return page

    def report(self, *arguments, **options):
        return self.run_cli("report", "--data-dir", BLOCKS, "--device", "cpu", *arguments,
                            **options)


class Report(PageCase):
    def test_page_figures_and_json(self):
        self.train("--epochs", "3", "--seed", "7", arch=DROPOUT)
        found = json.loads(self.report("--svg", "deep/figures", "--mistakes", "5",
                                       "--json").stdout)
        evaluated = json.loads(self.run_cli("evaluate", "--dataset", "idx", "--data-dir", BLOCKS,
                                            "--device", "cpu", "--json").stdout)
        for key in ("loss", "accuracy", "samples", "model", "dataset"):
            self.assertEqual(found[key], evaluated[key])
        wrong = 200 - sum(evaluated["confusion"][c][c] for c in range(10))
        self.assertGreater(wrong, 5)
        self.assertEqual((found["mistakes"], found["epochs"], found["remarks"]), (wrong, 3, []))
        self.assertEqual(found["report"], "report.html")

        page = self.page()
        self.assertEqual(page.text("h1"), ["mnist.h5"])
        facts = page.facts()
        self.assertEqual(facts["Seed"], "7")
        self.assertEqual(facts["Test loss"], f"{found['loss']:.4f}")
        self.assertEqual(facts["Test accuracy"], f"{100 * found['accuracy']:.2f} %")
        self.assertEqual(facts["Epochs"], "3")
        self.assertEqual(facts["Trained"], "3 epochs, 24 updates")
        self.assertEqual(len([text for text in page.text("figcaption") if "read as" in text]), 5)
        cells = [text for tag, text in page.texts if tag in ("td", "th") and text]
        for row in csv.DictReader(self.text("training_log.csv").splitlines()):
            for key in ("loss", "val_loss"):
                self.assertIn(f"{float(row[key]):.4f}", cells)
        for scores in evaluated["per_class"]:
            self.assertIn(f"{scores['precision']:.4f}", cells)
            self.assertIn(f"{scores['f1']:.4f}", cells)

        names = ["accuracy", "loss", "confusion", "mistakes", "weights"]
        self.assertEqual(found["figures"], [f"deep/figures/{name}.svg" for name in names])
        for name in found["figures"]:
            root = ElementTree.parse(self.path(name)).getroot()
            self.assertEqual(root.tag, "{http://www.w3.org/2000/svg}svg")
            self.assertEqual(root.get("role"), "img")

        done = self.report()
        self.assertEqual(done.stdout, "report.html: mnist.h5 on 200 test images of idx: accuracy: "
                                      f"{found['accuracy']:.4f}, {wrong} mistakes\n")
        self.assertEqual(self.files(), ["deep", "mnist.h5", "report.html", "training_log.csv"])

    def test_one_epoch_and_none(self):
        self.train("--epochs", "1")
        self.report()
        page = self.page()
        self.assertEqual((page.facts()["Best epoch"], page.facts()["Epochs"]), ("1", "1"))
        self.assertEqual(len([circle for circle in page.all("circle") if circle["r"] == "2.75"]), 4)
        self.train("--epochs", "0")  # an empty log
        self.report("--svg", ".")
        self.assertNotIn("Best epoch", self.page().facts())
        self.assertNotIn("Training", self.page().text("h2"))
        self.assertFalse(self.path("loss.svg").exists())
        self.assertTrue(self.path("confusion.svg").exists())

    def test_a_very_long_log(self):
        self.train("--epochs", "1")
        with open(self.path("long.csv"), "w") as log:
            log.write(HEADER)
            for epoch in range(1, 100_001):
                log.write(f"{epoch},{9 / epoch},0.9,{9 / epoch + epoch * 1e-9},0.95\n")
        self.report("--log", "long.csv")
        self.assertLess(self.path("report.html").stat().st_size, 8_000_000)
        facts = self.page().facts()
        self.assertEqual((facts["Epochs"], facts["Best epoch"]), ("100,000", "1"))

    def test_limit(self):
        self.train("--epochs", "1")
        found = json.loads(self.report("--limit", "17", "--json").stdout)
        self.assertEqual(found["samples"], 17)
        self.assertIn("of 17", self.page().text("small"))

    def test_logs(self):
        self.train("--epochs", "3")
        self.train("--epochs", "3", "--seed", "2", "--log", "other.csv", "--out", "other.h5")
        rows = self.text("training_log.csv").splitlines(keepends=True)
        cases = {
            "other.csv": "Log and model seem to be of different runs: for epoch 3",
            "short.csv": "The log ends with epoch 2, but the model is that of epoch 3.",
            "long.csv": "The log goes on to epoch 4; the model is that of epoch 3.",
            "hole.csv": "The log lacks 1 of the epochs up to 3.",
            "half.csv": "Line 5 is damaged and left out.",
            "nan.csv": "In 1 of its 3 epochs the log has a value that is missing, infinite or NaN.",
        }
        self.path("short.csv").write_text("".join(rows[:3]))
        self.path("long.csv").write_text("".join(rows) + "4,0.1,0.9,0.1,0.9\n")
        self.path("hole.csv").write_text("".join(rows[:2] + rows[3:]))
        self.path("half.csv").write_text("".join(rows) + "4,0.1")
        self.path("nan.csv").write_text("".join(rows[:2]) + "2,nan,0.5,0.5,0.5\n" + rows[3])
        for name, remark in cases.items():
            with self.subTest(name=name):
                done = self.report("--log", name)
                self.assertIn(remark, done.stderr)
                self.assertTrue(any(remark in text for text in self.page().text("p")))
        # One that is asked for must be there, and be a log; the one of the usual name need not.
        self.error("report", "--log", "gone.csv", code=66, contains="gone.csv")
        self.error("report", "--log", "mnist.h5", code=65, contains="mnist.h5 is no training log")
        for damage in (lambda path: path.write_text("what is this?"), lambda path: path.unlink()):
            damage(self.path("training_log.csv"))
            self.assertIn("Without curves: ", self.report().stderr)
            page = self.page()
            self.assertTrue(any("Without curves: " in text for text in page.text("p")))
            self.assertFalse(any("epochs" in svg["aria-labelledby"] for svg in page.all("svg")))

    def test_hostile_names(self):
        name = "<script>alert(1)</script>&\"'\udcff.h5".replace("/", "\u2215")
        self.train("--epochs", "1", "--out", name, errors="surrogateescape")
        self.report("--model", name, errors="surrogateescape")
        self.assertIn("<script>alert(1)<\u2215script>&\"'\ufffd.h5", self.page().text("h1"))

    def test_failures(self):
        self.train("--epochs", "1")
        self.error("report", "--model", "gone.h5", code=66, contains="gone.h5")
        self.error("report", "--out", "nowhere/x.html", code=73, contains="nowhere/x.html")
        self.error("report", "--svg", "mnist.h5/x", code=73, contains="mnist.h5/x")
        for out in ("mnist.h5", "./training_log.csv"):  # nothing is lost
            self.error("report", "--out", out, code=2, contains="choose another")
        self.assertEqual(self.files(), ["mnist.h5", "training_log.csv"])
        self.train_to_overflow()
        self.error("report", "--data-dir", BLOCKS, "--device", "cpu", code=70,
                   contains="infinite or NaN")


class TrainingReport(PageCase):
    def test_it_changes_nothing_and_is_whole_at_the_end(self):
        self.train("--epochs", "3", "--out", "plain.h5", "--log", "plain.csv", arch=DROPOUT)
        self.train("--epochs", "3", "--report", "run.html", arch=DROPOUT)
        self.assertEqual(digest(self.path("mnist.h5")), digest(self.path("plain.h5")))
        self.assertEqual(self.text("training_log.csv"), self.text("plain.csv"))
        page = self.page("run.html")
        self.report()
        alone = self.page()
        facts, expected = page.facts(), alone.facts()
        for key in ("Test accuracy", "Test loss", "Mistakes", "Best epoch", "Epochs", "Seed",
                    "Trained", "On"):
            self.assertEqual(facts[key], expected[key])
        self.assertEqual(page.all("path"), alone.all("path"), "the same figures")
        self.assertEqual(page.text("p")[:2], alone.text("p")[:2], "the same first sentence")
        self.assertIn("Started", facts)
        self.assertNotIn("Reload this page", page.text("a"))

    def test_it_follows_the_run(self):
        process = subprocess.Popen(
            [BINARY, "train", "--arch", DROPOUT, *recipe(), "--batch-size", "2", "--epochs",
             "100000", "--json", "--report", "run.html"], cwd=self.dir, env=self.environment,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.addCleanup(process.stderr.close)
        self.addCleanup(process.stdout.close)
        self.addCleanup(process.kill)
        seen = set()
        for line in process.stdout:  # by each epoch the page is there, whole, and not ahead
            epoch = json.loads(line)["epoch"]
            if epoch == 1:
                continue
            page = self.page("run.html")
            seen.add(int(page.facts()["Epochs"].replace(",", "")))
            self.assertLessEqual(max(seen), epoch)
            self.assertTrue(any(text.startswith("Under way: ") for text in page.text("p")))
            self.assertIn("Reload this page", page.text("a"))
            if len(seen) == 3:
                break
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 130, stderr)
        page = self.page("run.html")
        training = self.inspect()["training"]
        self.assertEqual(page.facts()["Epochs"], f"{training['epoch']:,}")
        self.assertIn(f", {training['iteration']:,} updates", page.facts()["Trained"])
        self.assertTrue(any(text.startswith("Stopped on request after ")
                            for text in page.text("p")))
        self.assertNotIn("Reload this page", page.text("a"))
        self.assertIn(" --report run.html", stderr)
        # A resumed run shows the earlier epochs too, but none that its model does not know.
        with open(self.path("training_log.csv"), "a") as log:
            log.write(f"{training['epoch'] + 1},7.6543,0.5,7.6543,0.5\n")
        self.resume(training["epoch"] + 1, "--report", "next.html")
        self.assertEqual(self.page("next.html").facts()["Epochs"], f"{training['epoch'] + 1:,}")
        points = self.page("next.html").all("path")[0:200]
        self.assertGreaterEqual(sum(path["d"].count("L") for path in points), training["epoch"])
        self.assertNotIn("7.6543", self.page("next.html").text("td"))

    def test_a_loss_that_is_no_number(self):
        self.error("train", *recipe(), "--arch", TINY, "--learning-rate", "1e38", "--report",
                   "run.html", code=70, contains="NaN in epoch 1, step")
        self.assertTrue(any(text.startswith("Ended by an error: the loss became")
                            for text in self.page("run.html").text("p")))

    def test_a_page_that_cannot_be_written(self):
        for target in ("nowhere/x.html", "/dev/full"):
            self.error("train", *recipe(), "--report", target, code=73,
                       contains=re.escape(target))
        self.assertEqual(self.files(), [])
        # Room for model and log, but not for the page: the run goes on, and says so at its end.
        done = self.train("--epochs", "3", "--report", "run.html", code=74, preexec_fn=lambda:
                          resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, 30_000)))
        self.assertEqual(done.stderr.count("The training goes on without it."), 1)
        self.assertRegex(done.stderr.splitlines()[-1], "^cuda-mnist: cannot write run.html")
        self.assertEqual(self.inspect()["training"]["epoch"], 3)
        self.assertEqual(self.files(), ["mnist.h5", "training_log.csv"])

    def test_zero_epochs(self):
        self.train("--epochs", "0", "--report", "run.html")
        self.assertIn("Test accuracy", self.page("run.html").facts())


class Data(Case):
    def test_path(self):
        self.assertEqual(self.run_cli("data", "path").stdout,
                         f"{self.dir}/home/.cache/cuda-mnist\n")
        env = {**self.environment, "CUDA_MNIST_DATA_DIR": "/somewhere"}
        self.assertEqual(self.run_cli("data", "path", env=env).stdout, "/somewhere\n")
        env = {**self.environment, "XDG_CACHE_HOME": "/xdg"}
        found = json.loads(self.run_cli("data", "path", "--json", env=env).stdout)
        self.assertEqual(found, {"dataset": "mnist", "directory": "/xdg/cuda-mnist"})

    def test_keras_cache(self):
        """A mnist.npz there is told of; one that is not MNIST is neither taken nor touched."""
        cache = self.path("home/.keras/datasets")
        cache.mkdir(parents=True)
        (cache / "mnist.npz").write_bytes(b"<html>")
        self.assertEqual(self.run_cli("data", "path").stdout, f"{cache}\n")
        env = {**self.environment, "CUDA_MNIST_MIRRORS": "http://127.0.0.1:1/"}
        done = self.error("data", "fetch", code=69, contains="could not be fetched", env=env)
        self.assertEqual(done.stderr.count("passed over"), 1)
        self.assertRegex(done.stderr,
                         "mnist.npz: .* an HTML page; this file of Keras' is passed over")
        self.assertEqual([path.name for path in cache.iterdir()], ["mnist.npz"])
        done = self.run_cli("data", "verify", "--json", code=66, env=env)
        self.assertIn("an HTML page", json.loads(done.stdout)["files"][0]["verdict"])
        env["KERAS_HOME"] = "/elsewhere"
        self.assertNotIn("Keras", self.error("data", "fetch", code=69, contains=".", env=env)
                         .stderr.splitlines()[0])

    def test_verify(self):
        self.path("empty").mkdir()
        done = self.run_cli("data", "verify", "--data-dir", "empty", "--json", code=None)
        self.assertEqual(done.returncode, 66, done.stderr)
        found = json.loads(done.stdout)
        self.assertFalse(found["ok"])
        self.assertEqual(len(found["files"]), 4)
        self.path("empty/t10k-labels-idx1-ubyte").write_bytes(b"<html>")
        self.path("empty/t10k-images-idx3-ubyte.gz").write_bytes(b"\x1f\x8b")
        done = self.run_cli("data", "verify", "--data-dir", "empty", code=None)
        self.assertIn(done.returncode, (65, 66))
        self.assertEqual(len(done.stdout.splitlines()), 4)
        self.run_cli("data", "verify", "--dataset", "synthetic")

    def test_bad_sets(self):
        self.path("bad").mkdir()
        self.error("train", "--data-dir", "bad", code=66, contains="--data-dir|data fetch")
        self.error("evaluate", "--model", "no.h5", "--data-dir", "bad", code=66, contains="no.h5")
        for name in ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3",
                     "t10k-labels-idx1"):
            self.path(f"bad/{name}-ubyte").write_bytes(
                struct.pack(">IIII", 0x803, 0x7FFFFFFF, 0x7FFFFFFF, 28))
        self.error("train", "--data-dir", "bad", code=65, contains="bad/")
        self.assertEqual(self.files(), ["bad"])


FUSED_STEP = ["fused_conv_forward_training", "fused_dense_forward_training", "fused_head",
              "fused_conv_backward", "fused_update_filters"]


class Bench(Case):
    def bench(self, *arguments, **options):
        return self.run_cli("bench", "--device", "cpu", *arguments, **options).stdout

    def check(self, result, repeats):
        for key in ("median_us", "min_us"):
            self.assertTrue(math.isfinite(result[key]) and result[key] > 0, result)
        self.assertLessEqual(result["min_us"], result["median_us"])
        self.assertEqual(result["repeats"], repeats)
        self.assertGreaterEqual(result["launches"], 1)

    def test_json(self):
        found = json.loads(self.bench("--filter", "128x10", "--repeat", "3", "--naive", "--json"))
        self.assertTrue(found["device"])
        self.assertEqual(found["target"], "cpu")
        self.assertIsNone(found["step"])
        names = [(row["name"], row["backend"]) for row in found["kernels"]]
        self.assertEqual(len(names), len(set(names)))
        for name in (("softmax_xent", "native"), ("dense_forward", "native"),
                     ("dense_forward", "naive")):
            self.assertIn(name, names)
        for row in found["kernels"]:
            self.check(row, 3)
            self.assertEqual(row["cache"], "warm")
            self.assertLessEqual(row["cold_min_us"], row["cold_median_us"])
            self.assertIn("128x10", row["shape"])
            self.assertNotIn("floor_share", row, "the processor's peak is unknown")
        dense = found["kernels"][names.index(("dense_forward", "native"))]
        seconds = dense["median_us"] * 1e-6
        self.assertAlmostEqual(dense["gflops"] * seconds, 2e-9 * 128 * 128 * 10, delta=1e-12)
        floats = 128 * 128 + 128 * 10 + 10 + 128 * 10
        self.assertAlmostEqual(dense["gb_per_s"] * seconds, 4e-9 * floats, delta=1e-12)

    def test_step(self):
        found = json.loads(self.bench("--filter", "step", "--repeat", "2", "--json"))
        self.assertEqual(found["kernels"], [])
        step = found["step"]
        self.check(step, 2)
        self.assertEqual((step["name"], step["backend"]), ("step", "native"))
        self.assertAlmostEqual(step["images_per_second"] * step["median_us"], 128e6, delta=1)

    def test_table(self):
        lines = self.bench("--filter", "softmax", "--repeat", "1", "--threads", "1").splitlines()
        self.assertIn(", 1 thread, 1 repeat each", lines[0])
        self.assertIn("peak is unknown", lines[1])
        head = lines.index("") + 1
        self.assertRegex(lines[head],
                         "^name +shape +backend +warm us +min us +cold us +GFLOP/s +GB/s$")
        rows = lines[head + 1:]
        self.assertEqual({row.split()[0] for row in rows}, {"softmax", "softmax_xent"})
        self.assertEqual({len(row) for row in rows}, {len(lines[head])})

    def test_host(self):
        found = json.loads(self.bench("--host", "--repeat", "5", "--json"))
        for key in ("own_us_per_step", "own_ms_per_epoch", "order_ms", "read_back_ms"):
            self.assertTrue(math.isfinite(found[key]) and found[key] > 0, found)
        # A launch, an event's record and a wait for eight steps; the rest comes once an epoch.
        self.assertLess(sum(calls["per_step"] for calls in found["calls"].values()), 0.5)
        self.assertLess(sum(calls["per_epoch"] for calls in found["calls"].values()), 50)
        self.assertFalse([name for name in found["calls"] if "Malloc" in name or "Free" in name])
        self.assertLess(found["calls_us_per_step"], 1)
        self.assertEqual(found["nodes_per_step"], 16)
        self.assertNotIn("math", found)
        self.assertIn("us a step", self.bench("--host", "--repeat", "1"))
        found = json.loads(self.bench("--host", "--repeat", "1", "--math", "fp16", "--json"))
        self.assertEqual((found["nodes_per_step"], found["math"]), (5, "fp16"))

    def test_fp16(self):
        found = json.loads(self.bench("--math", "fp16", "--filter", "128x", "--repeat", "2",
                                      "--json"))
        self.assertEqual((found["target"], found["math"]), ("cpu", "fp16"))
        step = found["step"]
        self.check(step, 2)
        self.assertEqual((step["name"], step["shape"], step["backend"]),
                         ("step", "128x28x28x1", "native"))
        rows = {row["name"]: row for row in found["kernels"]}
        self.assertEqual([*rows], [*FUSED_STEP, "fused_logits"])  # 1024x128x10
        for row in rows.values():
            self.check(row, 2)
            self.assertEqual((row["backend"], row["cache"]), ("native", "warm"))
        # A step's arithmetic: both convolutions forward, a quarter of their gradients, and the
        # dense layers, forward and twice backward.
        seconds = {name: row["median_us"] * 1e-6 for name, row in rows.items()}
        image = {"fused_conv_forward_training": 24 * 24 * 9 * 32 + 10 * 10 * 288 * 64,
                 "fused_dense_forward_training": 1600 * 128,
                 "fused_head": 2 * 1600 * 128 + 3 * 128 * 10,
                 "fused_conv_backward": 12 * 12 * 9 * 32 + 2 * 5 * 5 * 288 * 64}
        for name, products in image.items():
            self.assertAlmostEqual(rows[name]["gflops"] * seconds[name], 2e-9 * 128 * products,
                                   delta=1e-9)
        self.assertNotIn("gflops", rows["fused_update_filters"])
        # Of each image the second filter's gradient in FP16, that of the rest in float; the head's
        # sums; weights and moments, read and written, and the weights in FP16.
        others = 225034 - 1600 * 128
        moved = 128 * (2 * 288 * 64 + 4 * (9 * 32 + 32 + 64)) + 4 * (128 + 1290) + 26 * others
        self.assertAlmostEqual(rows["fused_update_filters"]["gb_per_s"]
                               * seconds["fused_update_filters"], 1e-9 * moved, delta=1e-12)

    def test_fp16_table(self):
        lines = self.bench("--math", "fp16", "--filter", "fused_pack", "--repeat", "1").splitlines()
        self.assertRegex(lines[-1], "^fused_pack_weights +225034 +native ")

    def test_no_gpu(self):
        env = {**self.environment, "CUDA_VISIBLE_DEVICES": ""}
        self.error("bench", "--device", "cuda", code=69, contains="--device cuda", env=env)


class Compare(Case):
    """Of the backends. There is one only where the tests run on the processor."""

    def compare(self, *arguments, **options):
        done = self.run_cli("bench", "--compare", "--device", "cpu", "--repeat", "2", *arguments,
                            **options)
        self.assertRegex(done.stderr, "^Nothing to compare with, .*GPU[^\n]*\n$")
        return done.stdout

    def test_json(self):
        found = json.loads(self.compare("--filter", "128x128 ", "--json"))
        self.assertEqual((found["target"], found["repeats"], found["cudnn"]), ("cpu", 2, None))
        for key in ("step", "epoch", "geometric_mean"):
            self.assertIsNone(found[key])
        self.assertEqual([row["name"] for row in found["comparison"]],
                         ["dense_forward", "dense_backward_filter", "dense_backward_data"])
        for row in found["comparison"]:
            self.check(row)
            self.assertEqual(row["shape"], "128x128 dense:10:linear")

    def check(self, row):
        self.assertEqual(list(row), ["name", "shape", "native_us", "cudnn_us", "ratio",
                                     "floor_share"])
        self.assertTrue(math.isfinite(row["native_us"]) and row["native_us"] > 0, row)
        self.assertEqual([row[key] for key in ("cudnn_us", "ratio", "floor_share")], [None] * 3)

    def test_every_operation(self):
        for shape, operations in (("64x14x14x64", ("conv2d_pool_forward", "conv2d_pool_backward",
                                                   "conv2d_forward", "conv2d_backward_filter",
                                                   "conv2d_backward_data")),
                                  ("64x27x27x64", ("maxpool2d_forward", "maxpool2d_backward"))):
            found = json.loads(self.compare("--filter", shape, "--repeat", "1", "--json"))
            self.assertEqual(tuple(row["name"] for row in found["comparison"]), operations)

    def test_step(self):
        found = json.loads(self.compare("--filter", "step", "--json"))
        self.assertEqual(found["comparison"], [])
        self.check(found["step"])

    def test_fp16(self):
        found = json.loads(self.compare("--math", "fp16", "--filter", "fused_", "--json"))
        self.assertEqual((found["math"], found["cudnn"], found["step"]), ("fp16", None, None))
        self.assertEqual([row["name"] for row in found["comparison"]], FUSED_STEP)
        for row in found["comparison"]:
            self.check(row)
        lines = self.compare("--math", "fp16", "--filter", "filters").splitlines()
        head = lines.index("") + 1
        self.assertRegex(lines[head],
                         "^name +shape +fused us +their sum us +fused/sum +of floor$")
        self.assertEqual(len(lines[head]), len(lines[head + 1]))
        self.assertEqual(lines[head + 1].split()[3:], ["-"] * 3)

    def test_table_and_plot(self):
        lines = self.compare("--filter", "softmax", "--plot", "bench.svg").splitlines()
        head = lines.index("") + 1
        self.assertRegex(lines[head],
                         "^name +shape +native us +cudnn us +native/cudnn +of floor$")
        rows = lines[head + 1:]
        self.assertEqual([row.split()[1] for row in rows], ["128x10", "1024x10", "1024x100"])
        for row in rows:
            self.assertEqual(len(row), len(lines[head]))
            self.assertEqual(row.split()[3:], ["-"] * 3)
        root = ElementTree.parse(self.path("bench.svg")).getroot()
        self.assertTrue(root.tag.endswith("}svg"))
        texts = [element.text for element in root.iter() if element.tag.endswith("}text")]
        for text in ("softmax", "1024x100", "native"):
            self.assertIn(text, texts)
        self.assertNotIn("cuDNN, cuBLAS", texts, "there is no rival")
        self.assertTrue(any(re.search(r", \d{4}-\d\d-\d\d$", text) for text in texts), texts)
        # The bars: as long as the logarithm of the times says.
        bars = [element for element in root.iter() if element.get("fill") == "#1f6fb4"][1:]
        self.assertEqual(len(bars), 3)
        times = [float(row.split()[2]) for row in rows]
        widths = [float(bar.get("width")) for bar in bars]
        decade = (widths[2] - widths[0]) / math.log10(times[2] / times[0])
        self.assertAlmostEqual(widths[1] - widths[0], decade * math.log10(times[1] / times[0]),
                               delta=0.05 * decade)
        self.assertEqual(self.files(), ["bench.svg"])

    def test_plot_that_cannot_be_written(self):
        (self.path("taken")).mkdir()
        for target in ("nowhere/bench.svg", "taken"):
            with self.subTest(target=target):
                self.error("bench", "--compare", "--device", "cpu", "--filter", "softmax", "--plot",
                           target, code=73, contains=target)

    def test_check_backends_without_gpu(self):
        env = {**self.environment, "CUDA_VISIBLE_DEVICES": ""}
        self.error("check-backends", code=69, contains="check-backends: .*(CUDA|GPU|NVIDIA)",
                   env=env)
        for arguments in (["--json"], ["--math", "fp16"]):
            self.error("check-backends", *arguments, code=69, contains="check-backends: ", env=env)
        self.error("check-backends", "--math", "fp8", code=2, contains="one of: fp32, fp16")


class Doctor(Case):
    def test_doctor(self):
        text = self.run_cli("doctor").stdout
        self.assertIn("cpu target", text)
        self.assertIn("hdf5", text)
        found = json.loads(self.run_cli("doctor", "--json").stdout)
        self.assertTrue(found["ok"])
        checks = {check["name"]: check for check in found["checks"]}
        self.assertTrue(checks["cpu target"]["ok"])
        self.assertIn("gpu", checks)
        self.assertIn(found["commit"] or "none", self.run_cli("--version").stdout.splitlines()[1])
        for check in checks.values():
            self.assertTrue(check["detail"])

    def test_hostile_environment(self):
        (self.path("file")).write_text("")
        for change in ({"CUDA_MNIST_DATA_DIR": str(self.path("file"))}, {"HOME": "/nonexistent"},
                       {"XDG_CACHE_HOME": "relative"}, {"CUDA_VISIBLE_DEVICES": ""}):
            with self.subTest(change=change):
                self.run_cli("doctor", env={**self.environment, **change})
        self.run_cli("doctor", env={})

    def test_cuda_that_is_not_there(self):
        env = {**self.environment, "CUDA_VISIBLE_DEVICES": ""}
        done = self.run_cli("train", "--device", "cuda", *recipe()[:-2], code=69, env=env)
        self.assertIn("--device cuda", done.stderr)
        self.assertEqual(self.files(), [])
        self.error("train", *recipe(), "--device", "cuda:1", code=69, env=env,
                   contains="--device cuda:1: .*(CUDA|GPU|NVIDIA)")
        for device in ("cuda:", "cuda:-1", "cuda:x", "cuda:1x", "cuda:99999999999", "cpu:0"):
            self.error("train", *recipe(), "--device", device, code=2,
                       contains=f"'{device}' is not one of: auto, cuda, cuda:N, cpu")
        done = self.run_cli("train", "--arch", TINY, *recipe()[:-2], "--epochs", "1", env=env)
        self.assertIn("Computing on the processor: ", done.stderr)


class RealMnist(Case):
    def setUp(self):
        super().setUp()
        if not DATA_DIR:
            self.skipTest("no --data-dir and no CUDA_MNIST_DATA_DIR")

    def test_train_evaluate_predict(self):
        self.run_cli("data", "verify", "--data-dir", DATA_DIR)
        done = self.run_cli("train", "--data-dir", DATA_DIR, "--limit", "20000", "--epochs", "2",
                            "--arch", "pool:2,flatten,dense:64,dense:10", "--json", "--device",
                            "cpu")
        last = json.loads(done.stdout.splitlines()[-1])
        self.assertGreater(last["val_accuracy"], 0.90)
        found = json.loads(self.run_cli("evaluate", "--data-dir", DATA_DIR, "--json", "--device",
                                        "cpu").stdout)
        self.assertEqual(found["accuracy"], last["val_accuracy"])
        self.assertEqual([scores["support"] for scores in found["per_class"]],
                         [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009])
        self.error("evaluate", "--dataset", "fashion-mnist", "--data-dir", DATA_DIR, "--device",
                   "cpu", code=65, contains="MNIST")
        self.check_npz()
        # The first test images, as files.
        images, labels = self.first_images()
        names = []
        for i in range(20):
            names.append(f"{i}.pgm")
            self.path(names[-1]).write_bytes(pgm(images[16 + 784 * i:16 + 784 * (i + 1)]))
        predictions = json.loads(self.run_cli("predict", *names, "--json", "--device",
                                              "cpu").stdout)
        right = sum(item["digit"] == labels[8 + i] for i, item in enumerate(predictions))
        self.assertGreaterEqual(right, 17)

    def check_npz(self):
        """Keras' mnist.npz: found before any download."""
        cache = self.path("home/.keras/datasets")
        cache.mkdir(parents=True)
        arrays = {}
        for stem, name in (("train", "train"), ("t10k", "test")):
            for letter, kind in (("x", "images-idx3"), ("y", "labels-idx1")):
                arrays[f"{letter}_{name}"] = self.contents(f"{stem}-{kind}-ubyte")
        with zipfile.ZipFile(cache / "mnist.npz", "w", zipfile.ZIP_DEFLATED) as out:
            for name, idx in arrays.items():
                sizes = struct.unpack(f">{idx[3]}I", idx[4:4 + 4 * idx[3]])
                head = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {sizes}, }}".ljust(117)
                out.writestr(f"{name}.npy", b"\x93NUMPY\1\0" + struct.pack("<H", 118)
                             + head.encode() + b"\n" + idx[4 + 4 * idx[3]:])
        env = {**self.environment, "CUDA_MNIST_MIRRORS": "http://127.0.0.1:1/"}
        done = self.run_cli("data", "verify", env=env)
        self.assertEqual(done.stdout.splitlines(),
                         [f"{cache}/mnist.npz ({name}): ok"
                          for name in ("x_train", "y_train", "x_test", "y_test")])
        doctor = json.loads(self.run_cli("doctor", "--json", env=env).stdout)["checks"]
        self.assertIn({"name": "data", "ok": True,
                       "detail": f"mnist verified in {cache}/mnist.npz"}, doctor)
        self.run_cli("evaluate", "--device", "cpu", "--limit", "100", env=env)
        self.run_cli("evaluate", "--device", "cpu", "--limit", "100", "--data-dir", cache, env=env)

    def contents(self, name):
        path = pathlib.Path(DATA_DIR) / name
        return path.read_bytes() if path.exists() else gzip.open(f"{path}.gz").read()

    def first_images(self):
        contents = [self.contents(f"t10k-{name}-ubyte") for name in ("images-idx3", "labels-idx1")]
        self.assertEqual([len(c) for c in contents], [7840016, 10008])
        return contents


def main():
    global BINARY, BLOCKS, DATA_DIR
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("binary")
    parser.add_argument("--data-dir", default=os.environ.get("CUDA_MNIST_DATA_DIR"))
    parser.add_argument("-k", dest="pattern", action="append")
    parser.add_argument("-v", "--verbose", action="store_true")
    arguments = parser.parse_args()
    BINARY = str(pathlib.Path(arguments.binary).resolve(strict=True))
    DATA_DIR = arguments.data_dir and str(pathlib.Path(arguments.data_dir).resolve(strict=True))
    print(f"binary: {BINARY}\ndata:   {DATA_DIR or 'synthetic only'}", file=sys.stderr)
    loader = unittest.TestLoader()
    if arguments.pattern:
        loader.testNamePatterns = [p if "*" in p else f"*{p}*" for p in arguments.pattern]
    suite = loader.loadTestsFromModule(sys.modules[__name__])
    with tempfile.TemporaryDirectory(prefix="cuda-mnist-blocks-") as BLOCKS:
        write_blocks(BLOCKS)
        result = unittest.TextTestRunner(verbosity=2 if arguments.verbose else 1).run(suite)
    sys.exit(not (result.wasSuccessful() and result.testsRun > 0))


if __name__ == "__main__":
    main()
