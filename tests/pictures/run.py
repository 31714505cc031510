#!/usr/bin/env python3
"""How many of other people's pictures the program reads, standard library only.

    python3 tests/pictures/run.py BINARY [-v]

CUDA_MNIST_PICTURES_DIR has pictures and labels.csv: file,label,kind; a label is a digit, or several
where kind is "several". CUDA_MNIST_DATA_DIR has MNIST. The model is that of `train --epochs 5
--seed 2`. Prints what was misread, and the table of the README. Exit 77: there are no pictures.
"""
import csv
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
import unittest

BINARY = None
PICTURES = os.environ.get("CUDA_MNIST_PICTURES_DIR")
CANNOT_RUN = 77


class TestPictures(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        with open(pathlib.Path(PICTURES) / "labels.csv", newline="") as labels:
            cls.rows = list(csv.DictReader(labels))
        with tempfile.TemporaryDirectory() as directory:
            model = os.path.join(directory, "m.h5")
            subprocess.run([BINARY, "train", "--epochs", "5", "--seed", "2", "--device", "cpu",
                            "--out", model, "--log", os.path.join(directory, "l.csv")],
                           check=True, capture_output=True, timeout=900)
            files = [os.path.join(PICTURES, row["file"]) for row in cls.rows]
            start = time.monotonic()
            run = subprocess.run([BINARY, "predict", "--model", model, "--device", "cpu", "--json"]
                                 + files, capture_output=True, text=True, timeout=900)
            cls.seconds = time.monotonic() - start
        cls.messages = run.stderr
        answers = {os.path.basename(a["file"]): a for a in json.loads(run.stdout)}
        for row in cls.rows:
            row["answer"] = answers.get(row["file"])
            row["right"] = bool(row["answer"]) and row["answer"]["number"] == row["label"]
        cls.table()

    @classmethod
    def table(cls):
        print(f"\n{len(cls.rows)} pictures in {cls.seconds:.1f} s {cls.messages}")
        for kind in sorted({row["kind"] for row in cls.rows}):
            rows = [row for row in cls.rows if row["kind"] == kind]
            right = sum(row["right"] for row in rows)
            unsure = sum(row["right"] and cls.unsure(row) for row in rows)
            print(f"{kind:12} {right:3} of {len(rows):3} right, {unsure} of these marked unsure")
        for row in cls.rows:
            if not row["right"]:
                answer = row["answer"] or {}
                print(f"  {row['file']}: {row['label']} read as {answer.get('number')!r}",
                      "unsure" if cls.unsure(row) else "", answer.get("reason") or "")

    @staticmethod
    def unsure(row):
        return bool(row["answer"]) and any(d["unsure"] for d in row["answer"]["digits"])

    def share(self, rows):
        return sum(row["right"] for row in rows) / len(rows)

    def test_every_picture_is_answered(self):
        self.assertEqual([row["file"] for row in self.rows if row["answer"] is None], [])

    def test_single_digits(self):
        singles = [row for row in self.rows if row["kind"] != "several"]
        self.assertGreaterEqual(self.share(singles), 0.95)
        photos = [row for row in singles if row["kind"] == "photo"]
        self.assertGreaterEqual(self.share(photos), 0.92)

    def test_several_digits_are_read_whole(self):
        self.assertEqual([row["file"] for row in self.rows
                          if row["kind"] == "several" and not row["right"]], [])

    def test_few_are_wrong_with_a_straight_face(self):
        wrong = [row["file"] for row in self.rows
                 if not row["right"] and row["answer"] and row["answer"]["digits"]
                 and not self.unsure(row)
                 and min(d["probability"] for d in row["answer"]["digits"]) > 0.9]
        self.assertLessEqual(len(wrong), 2, wrong)

    def test_few_of_the_right_are_marked(self):
        right = [row for row in self.rows if row["right"]]
        self.assertLessEqual(sum(map(self.unsure, right)), 0.1 * len(right))


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    BINARY = os.path.abspath(sys.argv.pop(1))
    if not PICTURES:
        print("CUDA_MNIST_PICTURES_DIR is not set: there are no pictures to read")
        sys.exit(CANNOT_RUN)
    unittest.main()
