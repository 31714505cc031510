"""What the tests of the server and of its page share: a model, a server, drawn digits."""
import argparse
import json
import math
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import unittest

PAPER = (640, 480)  # the page's, in its own units


def arc(x, y, radius, begin, end, squeeze=1.0):
    """Points of a piece of an ellipse; degrees, clockwise from the right."""
    steps = [math.radians(begin + (end - begin) * i / 12) for i in range(13)]
    return [(x + squeeze * radius * math.cos(a), y + radius * math.sin(a)) for a in steps]


def line(*corners):
    return [(x0 + (x1 - x0) * i / 4, y0 + (y1 - y0) * i / 4)
            for (x0, y0), (x1, y1) in zip(corners, corners[1:]) for i in range(5)]


# Strokes of digits in a box that is 100 wide and 160 high.
DIGITS = {
    "0": [arc(50, 80, 75, -90, 270, 0.6)],
    "1": [line((50, 0), (50, 160))],
    "2": [arc(50, 45, 42, -170, 30) + line((86, 66), (8, 155), (96, 155))],
    "4": [line((40, 0), (8, 95), (95, 95)), line((68, 45), (66, 160))],
    "7": [line((5, 8), (95, 8), (40, 155))],
}


def strokes(digit, left, top, scale=1.0):
    return [[(left + scale * x, top + scale * y) for x, y in stroke] for stroke in DIGITS[digit]]


def pgm(lines, size=PAPER, ink=0, paper=255, pen=11):
    """The strokes as a picture: a PGM file."""
    width, height = size
    rows = [bytearray([paper] * width) for _ in range(height)]
    for points in lines:
        for (x0, y0), (x1, y1) in zip(points, points[1:]):
            steps = max(1, int(math.hypot(x1 - x0, y1 - y0) / 3))
            for i in range(steps + 1):
                x, y = x0 + (x1 - x0) * i / steps, y0 + (y1 - y0) * i / steps
                for row in range(max(0, int(y - pen)), min(height, int(y + pen) + 1)):
                    half = math.sqrt(max(0, pen * pen - (row - y) ** 2))
                    first, last = max(0, round(x - half)), min(width, round(x + half))
                    rows[row][first:last] = bytes([ink] * max(0, last - first))
    return f"P5 {width} {height} 255\n".encode() + b"".join(rows)


class Served:
    """The program at work; `url` is what it printed."""

    def __init__(self, binary, model, *arguments, **options):
        self.process = subprocess.Popen(
            [binary, "serve", "--model", model, "--device", "cpu", "--json", *map(str, arguments)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)
        first = self.process.stdout.readline()
        if not first:
            raise AssertionError(f"no address: {self.process.communicate()[1]}")
        self.json = json.loads(first)
        self.url = self.json["url"]
        self.port = int(self.url.rstrip("/").rsplit(":", 1)[1])

    def stop(self, number=signal.SIGINT):
        """Ends it; its exit code and standard error."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            errors = self.process.communicate(timeout=20)[1]
        finally:
            self.process.kill()
        return self.process.returncode, errors


def train(binary, directory):
    """A model of the built-in digits, in a few seconds."""
    model = pathlib.Path(directory, "model.h5")
    subprocess.run([binary, "train", "--dataset", "synthetic", "--limit", "8000", "--epochs", "2",
                    "--device", "cpu", "--out", model, "--log", model.with_suffix(".csv")],
                   check=True, capture_output=True, timeout=600)
    return model


def main(module):
    """Runs the tests of a module, with its BINARY and MODEL set."""
    parser = argparse.ArgumentParser(description=module.__doc__.splitlines()[0])
    parser.add_argument("binary")
    parser.add_argument("--model", help="in place of one that is trained")
    parser.add_argument("-k", dest="pattern", action="append")
    parser.add_argument("-v", "--verbose", action="store_true")
    arguments = parser.parse_args()
    module.BINARY = os.path.realpath(arguments.binary)
    loader = unittest.TestLoader()
    if arguments.pattern:
        loader.testNamePatterns = [p if "*" in p else f"*{p}*" for p in arguments.pattern]
    suite = loader.loadTestsFromModule(module)
    with tempfile.TemporaryDirectory(prefix="cuda-mnist-serve-") as directory:
        module.MODEL = arguments.model or train(module.BINARY, directory)
        result = unittest.TextTestRunner(verbosity=2 if arguments.verbose else 1).run(suite)
    sys.exit(not (result.wasSuccessful() and result.testsRun > 0))
