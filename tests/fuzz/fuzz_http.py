#!/usr/bin/env python3
"""Sends mutated HTTP requests to `cuda-mnist serve`, best of a build with sanitizers.

    python3 tests/fuzz/fuzz_http.py BINARY [--seconds 60] [--seed 1] [--clients 4]

Each answer must be one well-formed answer with the server's headers, or nothing; now and then a
right request must still get its right answer; the process must not end, or grow. What was sent
last before a fault is written to fuzz_http.failure.
"""
import argparse
import collections
import contextlib
import pathlib
import random
import re
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "serve"))
from common import Served, pgm, strokes  # noqa: E402
from run import HEADERS, Answer, receive  # noqa: E402

PICTURE = pgm([[(x / 8, y / 8) for x, y in stroke] for stroke in strokes("7", 240, 120, 1.5)],
              (80, 60), pen=2)
# AddressSanitizer's locks do not survive a fork: a child may hang, for the minute that it is given.
PATIENCE = 90
STATUSES = {200, 400, 403, 404, 405, 411, 413, 414, 415, 416, 421, 503}
WORDS = [
    b"GET", b"HEAD", b"POST", b"PUT", b"OPTIONS", b"PRI", b"/", b"/api/read", b"/api/about",
    b"/report", b"/page.js", b"?invert=yes", b"&single=1", b"%2e%2e", b"%00", b"%", b"#", b"?",
    b" HTTP/1.1", b"HTTP/1.0", b"\r\n", b"\n", b"\r", b"\0", b"\r\n\r\n", b":", b": ", b",", b";",
    b"Host", b"Origin", b"Sec-Fetch-Site", b"Content-Length", b"Content-Type", b"Content-Encoding",
    b"Transfer-Encoding", b"Expect", b"Range", b"Connection", b"Accept-Encoding", b"chunked",
    b"gzip", b"br", b"100-continue", b"bytes=0-1", b"bytes=-", b"0-,", b"keep-alive", b"close",
    b"multipart/form-data; boundary=x", b"application/x-www-form-urlencoded", b"image/png",
    b"same-origin", b"null", b"-1", b"0", b"18446744073709551616", b"64000001", b"ffffffffffffffff",
    b"[::1]", b"localhost", b"a" * 300, b"a" * 9000, b"\xff\xfe", b"\xc3\xa9", b"\x80"]


class Fuzzer:
    def __init__(self, served, seed):
        self.served = served
        self.seed = seed
        self.host = f"127.0.0.1:{served.port}"
        self.lock = threading.Lock()
        self.counts = collections.Counter()
        self.failure = None

    def seeds(self):
        host = self.host.encode()
        head = b"Host: " + host + b"\r\n"
        upload = (head + b"Content-Type: image/x-portable-graymap\r\nContent-Length: %d\r\n"
                  % len(PICTURE))
        return [
            b"GET / HTTP/1.1\r\n" + head + b"\r\n",
            b"HEAD /report HTTP/1.0\r\n" + head + b"Range: bytes=0-1,2-\r\n\r\n",
            b"GET /style.css?x=1#y HTTP/1.1\r\n" + head + b"Accept-Encoding: br\r\n\r\n",
            b"OPTIONS /api/read HTTP/1.1\r\n" + head + b"Origin: http://evil.example\r\n\r\n",
            b"POST /api/read HTTP/1.1\r\n" + upload + b"\r\n" + PICTURE,
            b"POST /api/read?invert=auto&single=0 HTTP/1.1\r\n" + upload + b"Origin: http://" + host
            + b"\r\nSec-Fetch-Site: same-origin\r\nExpect: 100-continue\r\n\r\n" + PICTURE,
            b"POST /api/read HTTP/1.1\r\n" + head + b"Content-Type: image/png\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n4\r\nP5 1\r\n0\r\n\r\n"]

    def mutate(self, rng, seeds):
        data = bytearray(rng.choice(seeds))
        for _ in range(rng.choice((1, 1, 2, 3, 8))):
            end = len(data) if rng.random() < 0.2 else min(len(data), 250)  # most in the head
            at = rng.randrange(end + 1)
            kind = rng.randrange(7)
            if kind == 0 and data:
                data[min(at, len(data) - 1)] ^= 1 << rng.randrange(8)
            elif kind == 1:
                data[at:at] = rng.choice(WORDS)
            elif kind == 2:
                data[at:at + rng.randrange(1, 40)] = b""
            elif kind == 3:
                data[at:at + rng.randrange(1, 20)] = rng.choice(WORDS)
            elif kind == 4:
                lines = bytes(data).split(b"\r\n")
                i, j = rng.randrange(len(lines)), rng.randrange(len(lines))
                lines[i:i + rng.randrange(2)] = [lines[j]] * rng.choice((1, 2, 40))
                data = bytearray(b"\r\n".join(lines))
            elif kind == 5:
                other = rng.choice(seeds)
                data[at:] = other[rng.randrange(len(other)):]
            else:
                data[at:at] = rng.randbytes(rng.randrange(1, 30))
        return bytes(data[:70_000])

    def send(self, rng, data):
        with socket.create_connection(("127.0.0.1", self.served.port), PATIENCE) as client:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                for piece in self.pieces(rng, data):
                    client.sendall(piece)
                end = rng.random()
                if end < 0.03:
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    return b""
                client.shutdown(socket.SHUT_WR)
            return receive(client)

    @staticmethod
    def pieces(rng, data):
        cuts = sorted(rng.randrange(len(data) + 1) for _ in range(rng.choice((0, 0, 0, 1, 3))))
        for begin, end in zip([0, *cuts], [*cuts, len(data)]):
            if begin:
                time.sleep(0.001)
            yield data[begin:end]

    def check(self, data):
        """Its status; 0: no answer."""
        if data.startswith(b"HTTP/1.1 100 Continue\r\n\r\n"):
            data = data[25:]
        if not data:
            return 0
        answer = Answer(data)
        assert answer.status in STATUSES, answer.status
        for name, value in HEADERS.items():
            report = name == "Content-Security-Policy" and "sandbox" in answer.headers[name]
            assert report or answer.headers[name] == value, (name, answer.headers)
        assert not re.search("(?i)access-control|cookie", " ".join(answer.headers)), answer.headers
        length = int(answer.headers["Content-Length"])
        assert len(answer.body) in (0, length), (len(answer.body), length)
        return answer.status

    def work(self, number, end):
        rng = random.Random(f"{self.seed} {number}")
        seeds = self.seeds()
        while time.monotonic() < end and not self.failure:
            data = seeds[4] if rng.random() < 0.01 else self.mutate(rng, seeds)
            try:
                status = self.check(self.send(rng, data))
                assert self.served.process.poll() is None, "the server has ended"
            except Exception as error:
                with self.lock:
                    if not self.failure:
                        self.failure = error
                        pathlib.Path("fuzz_http.failure").write_bytes(data)
                return
            with self.lock:
                self.counts[status] += 1

    def memory(self):
        status = pathlib.Path(f"/proc/{self.served.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status)[1]) // 1024


def train(binary, directory):
    model = pathlib.Path(directory, "m.h5")
    subprocess.run([binary, "train", "--dataset", "synthetic", "--limit", "64", "--epochs", "0",
                    "--arch", "pool:4,flatten,dense:10", "--device", "cpu", "--out", model,
                    "--log", model.with_suffix(".csv")], check=True, capture_output=True)
    return model


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("binary")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--clients", type=int, default=4)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="cuda-mnist-fuzz-") as directory:
        report = pathlib.Path(directory, "report.html")
        report.write_text("<!doctype html>")
        served = Served(arguments.binary, train(arguments.binary, directory), "--report", report)
        fuzzer = Fuzzer(served, arguments.seed)
        end = time.monotonic() + arguments.seconds
        clients = [threading.Thread(target=fuzzer.work, args=(number, end))
                   for number in range(arguments.clients)]
        for client in clients:
            client.start()
        time.sleep(min(20, arguments.seconds / 2))
        before = fuzzer.memory() if served.process.poll() is None else 0
        for client in clients:
            client.join()
        after = fuzzer.memory() if served.process.poll() is None else 0
        code, errors = served.stop()
    print(f"{sum(fuzzer.counts.values())} requests in {arguments.seconds:.0f} s; answers: "
          + ", ".join(f"{n} x {s or 'none'}" for s, n in sorted(fuzzer.counts.items()))
          + f"; {before} MB, in the end {after} MB")
    if fuzzer.failure or code != 130:
        print(f"FAILED: {fuzzer.failure!r}; exit code {code}\n{errors[-6000:]}")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
