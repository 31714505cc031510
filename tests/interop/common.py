"""What the checks against Keras share: the program, the data, small helpers."""

import functools
import gzip
import json
import os
import pathlib
import subprocess
import tempfile
import unittest

import numpy as np

binary = pathlib.Path("build/cuda-mnist")  # set by run.py

FILES = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte",
         "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")


def read_idx(path):
    raw = path.read_bytes() if path.exists() else gzip.open(f"{path}.gz").read()
    dims = np.frombuffer(raw, ">i4", raw[3], 4)
    return np.frombuffer(raw, np.uint8, -1, 4 + 4 * raw[3]).reshape(dims)


def write_idx(path, array):
    header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">i4").tobytes()
    path.write_bytes(header + array.tobytes())


def make_digits(directory):
    """Ten smooth patterns on black, shifted, with some labels wrong: learnable, but not at once."""
    rng = np.random.default_rng(1)
    patterns = np.zeros((10, 28, 28))
    patterns[:, 6:22, 6:22] = np.kron(rng.random((10, 4, 4)) < 0.5, np.ones((4, 4)))
    for axis in (1, 2, 1, 2):
        patterns = (np.roll(patterns, 1, axis) + patterns + np.roll(patterns, -1, axis)) / 3
    for part, count in (("train", 6000), ("t10k", 2000)):
        labels = rng.integers(0, 10, count).astype(np.uint8)
        images = np.zeros((count, 28, 28), np.uint8)
        for i, label in enumerate(labels):
            shifted = np.roll(patterns[label], rng.integers(-3, 4, 2), (0, 1))
            images[i] = shifted * rng.uniform(120, 255)
        wrong = rng.random(count) < 0.1
        labels[wrong] = rng.integers(0, 10, wrong.sum())
        write_idx(directory / f"{part}-images-idx3-ubyte", images)
        write_idx(directory / f"{part}-labels-idx1-ubyte", labels)


class Data:
    """A training and test set as Keras takes them, and the program's options for them."""

    def __init__(self, directory, dataset):
        self.train_images, self.train_labels, self.test_images, self.test_labels = (
            read_idx(directory / name) for name in FILES)
        self.is_mnist = dataset == "mnist"
        self.options = ("--dataset", dataset, "--data-dir", directory)

    @staticmethod
    def inputs(images):
        return images.astype(np.float32)[..., None] / 255

    @staticmethod
    def targets(labels):
        return np.eye(10, dtype=np.float32)[labels]

    def train(self, count):
        return self.inputs(self.train_images[:count]), self.targets(self.train_labels[:count])

    def test(self, count):
        return self.inputs(self.test_images[:count]), self.targets(self.test_labels[:count])


def run(*arguments, cwd):
    """Runs the program on the processor; returns the JSON texts it prints."""
    done = subprocess.run([str(binary), *map(str, arguments), "--device", "cpu", "--json"], cwd=cwd,
                          capture_output=True, text=True)
    if done.returncode != 0:
        raise AssertionError(f"{' '.join(map(str, arguments))}: {done.returncode}: {done.stderr}")
    decoder, values, text = json.JSONDecoder(), [], done.stdout.strip()
    while text:
        value, end = decoder.raw_decode(text)
        values.append(value)
        text = text[end:].lstrip()
    return values


@functools.cache
def scratch():
    return tempfile.TemporaryDirectory(prefix="cuda-mnist-interop-")


@functools.cache
def whole_data():
    """MNIST if it is at hand."""
    if given := os.environ.get("CUDA_MNIST_DATA_DIR"):
        return Data(pathlib.Path(given), "mnist")
    directory = pathlib.Path(scratch().name) / "patterns"
    directory.mkdir()
    make_digits(directory)
    return Data(directory, "idx")


@functools.cache
def small_data():
    """The beginning of the data, for the sake of time: every epoch ends with the whole test set."""
    data = whole_data()
    directory = pathlib.Path(scratch().name) / "small"
    directory.mkdir()
    for name, array in zip(FILES, (data.train_images[:2000], data.train_labels[:2000],
                                   data.test_images[:1000], data.test_labels[:1000])):
        write_idx(directory / name, array)
    return Data(directory, "idx")


class Case(unittest.TestCase):
    """A test with a directory of its own and the data."""

    def setUp(self):
        self.data = small_data()
        place = tempfile.TemporaryDirectory(prefix="cuda-mnist-interop-")
        self.addCleanup(place.cleanup)
        self.dir = pathlib.Path(place.name)

    def train(self, *arguments):
        return run("train", *self.data.options, *arguments, cwd=self.dir)

    def evaluate(self, model, count):
        return run("evaluate", "--model", model, *self.data.options, "--limit", count,
                   cwd=self.dir)[0]

    def assert_close(self, found, expected, relative, what):
        """|found - expected| <= relative * |expected|; NaN fails."""
        self.assertTrue(abs(found - expected) <= relative * abs(expected),
                        f"{what}: {found} instead of {expected}")

    def assert_tensors_close(self, found, expected, relative, what):
        """In the Euclidean norm, and of the largest difference against the largest value."""
        found, expected = np.asarray(found, np.float64), np.asarray(expected, np.float64)
        self.assertEqual(found.shape, expected.shape, what)
        difference = found - expected
        for norm in (np.linalg.norm, lambda x: np.abs(x).max()):
            error = norm(difference.ravel()) / norm(expected.ravel())
            self.assertTrue(error <= relative, f"{what}: relative error {error:.3g}")
