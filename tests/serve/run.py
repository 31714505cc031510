#!/usr/bin/env python3
"""Tests of `cuda-mnist serve` through sockets, standard library only.

    python3 tests/serve/run.py BINARY [--model FILE.h5] [-k PATTERN] [-v]
"""
import concurrent.futures
import contextlib
import json
import os
import pathlib
import re
import resource
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
import unittest
import urllib.request

import common
from common import Served, pgm, strokes

BINARY = None
MODEL = None
SEVEN = pgm(strokes("7", 240, 120))
BLANK = pgm([], (40, 30))
MAX_BYTES = 64_000_000
HEADERS = {
    "Accept-Ranges": "none",
    "Cache-Control": "no-store",
    "Connection": "close",
    "Content-Security-Policy":
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), usb=()",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class Answer:
    """The bytes of one answer, taken apart."""

    def __init__(self, data):
        head, separator, self.body = data.partition(b"\r\n\r\n")
        if not separator:
            raise AssertionError(f"no answer: {data[:200]!r}")
        first, *rest = head.decode("latin-1").split("\r\n")
        self.status = int(re.fullmatch(r"HTTP/1\.1 (\d{3}) [\w -]+", first)[1])
        pairs = [line.split(": ", 1) for line in rest]
        self.headers = dict(pairs)
        if len(self.headers) != len(pairs):
            raise AssertionError(f"a header twice: {rest}")

    @property
    def json(self):
        return json.loads(self.body)


def receive(client):
    with contextlib.suppress(ConnectionResetError):
        return b"".join(iter(lambda: client.recv(65536), b""))
    return b""


class Case(unittest.TestCase):
    ARGUMENTS = ()

    @classmethod
    def setUpClass(cls):
        cls.served = Served(BINARY, MODEL, *cls.ARGUMENTS)
        cls.host = f"127.0.0.1:{cls.served.port}"

    @classmethod
    def tearDownClass(cls):
        code, errors = cls.served.stop()
        if (code, errors.count("\n")) != (130, 1):
            raise AssertionError(f"{code} {errors}")

    def connect(self, timeout=30):
        client = socket.create_connection(("127.0.0.1", self.served.port), timeout)
        self.addCleanup(client.close)
        return client

    def exchange(self, data, timeout=30):
        with self.connect(timeout) as client:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                client.sendall(data)
            return receive(client)

    def request(self, method="GET", path="/", body=None, drop=(), **headers):
        """The bytes of a request; headers by their names with _ for -, None leaves one out."""
        fields = {"Host": self.host}
        if body is not None:
            fields |= {"Content-Type": "image/x-portable-graymap", "Content-Length": len(body)}
        fields |= {name.replace("_", "-"): value for name, value in headers.items()}
        lines = "".join(f"{name}: {one}\r\n" for name, value in fields.items() if value is not None
                        for one in (value if isinstance(value, list) else [value]))
        return f"{method} {path} HTTP/1.1\r\n{lines}\r\n".encode("latin-1") + (body or b"")

    def ask(self, *arguments, **headers):
        return Answer(self.exchange(self.request(*arguments, **headers)))

    def read(self, picture=SEVEN, options="", **headers):
        return self.ask("POST", "/api/read" + options, picture, **headers)

    def refused(self, status, *arguments, **headers):
        answer = self.ask(*arguments, **headers)
        self.assertEqual(answer.status, status, answer.body)
        self.assertEqual(list(answer.json), ["error"])
        self.assertRegex(answer.json["error"], r"^[A-Z].*[.!?]$")
        self.assert_headers(answer)
        return answer

    def assert_headers(self, answer):
        for name, value in HEADERS.items():
            self.assertEqual(answer.headers.get(name), value, name)
        self.assertNotRegex(" ".join(answer.headers), "(?i)access-control|set-cookie|exception")
        self.assertEqual(int(answer.headers["Content-Length"]), len(answer.body))

    def assert_reads(self, **headers):
        answer = self.read(**headers)
        self.assertEqual(answer.status, 200, answer.body)
        self.assertEqual(answer.json["number"], "7")


class Pages(Case):
    def test_everything_that_the_page_names_is_served(self):
        types = {"/": "text/html; charset=utf-8"}
        page = self.ask().body.decode()
        source = pathlib.Path(__file__).parents[2] / "host/serve/page"
        self.assertEqual(page, (source / "index.html").read_text())
        names = set(re.findall(r'(?:src|href)="(/[\w.]+)"', page)) - {"/report"}
        names |= {f"/{name}" for script in source.glob("*.js")
                  for name in re.findall(r"from '\./([\w.]+)'", script.read_text())}
        self.assertEqual({name[1:] for name in names} | {"index.html"},
                         {file.name for file in source.iterdir()})
        kinds = {"css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8",
                 "svg": "image/svg+xml"}
        types |= {name: kinds[name.split(".")[1]] for name in names}
        for name, kind in types.items():
            with self.subTest(name):
                answer = self.ask("GET", name)
                self.assertEqual((answer.status, answer.headers["Content-Type"]), (200, kind))
                self.assert_headers(answer)
                if name != "/":
                    self.assertEqual(answer.body, (source / name[1:]).read_bytes())

    def test_head_is_get_without_its_body(self):
        for path in ("/", "/api/about", "/report", "/nothing"):
            with self.subTest(path):
                get, head = self.ask("GET", path), self.ask("HEAD", path)
                self.assertEqual((head.status, head.headers, head.body),
                                 (get.status, get.headers, b""))

    def test_about(self):
        about = self.ask("GET", "/api/about").json
        self.assertEqual(list(about), ["model", "device", "report"])
        self.assertEqual((about["model"], about["report"]), (str(MODEL), False))
        self.assertEqual(about["device"], self.served.json["device"])

    def test_ranges_and_encodings_change_nothing(self):
        whole = self.ask()
        for value in ("bytes=0-9", "bytes=0-0,2-3", "bytes=" + ",".join(["0-"] * 2500)):
            self.assertEqual(self.ask(Range=value, Accept_Encoding="gzip, br").body, whole.body)
        self.refused(416, Range="bytes=9-2")
        self.refused(416, Range="bytes=0-1,9-2")

    def test_what_urllib_says(self):
        with urllib.request.urlopen(self.served.url) as page:
            self.assertEqual(page.status, 200)


class Readings(Case):
    def test_one_digit(self):
        answer = self.read().json
        self.assertEqual(list(answer), ["digit", "probabilities", "digits", "number", "reason",
                                        "width", "height"])
        self.assertEqual((answer["number"], answer["digit"], answer["reason"]), ("7", 7, None))
        self.assertEqual((answer["width"], answer["height"]), common.PAPER)
        digit, = answer["digits"]
        self.assertEqual(answer["probabilities"], digit["probabilities"])
        self.assertAlmostEqual(sum(digit["probabilities"]), 1, places=5)
        x, y, width, height = digit["box"]
        for found, drawn in ((x, 234), (y, 117), (x + width, 346), (y + height, 286)):
            self.assertLess(abs(found - drawn), 6, digit["box"])
        image = digit["image"]
        self.assertEqual(len(image), 784)
        self.assertTrue(all(0 <= ink <= 255 for ink in image))
        self.assertEqual(image[0], 0)
        self.assertGreater(max(image), 200)

    def test_several_digits(self):
        answer = self.read(pgm(strokes("1", 100, 150) + strokes("7", 300, 150))).json
        self.assertEqual((answer["number"], answer["digit"], answer["probabilities"]),
                         ("17", None, None))
        self.assertEqual([digit["digit"] for digit in answer["digits"]], [1, 7])

    def test_nothing(self):
        answer = self.read(BLANK)
        self.assertEqual((answer.status, answer.json["number"], answer.json["digits"]),
                         (200, "", []))
        self.assertIn("blank", answer.json["reason"])

    def test_options(self):
        light = pgm(strokes("7", 240, 120), ink=255, paper=0)
        for options in ("?invert=yes", "?invert=auto", "?invert=auto&single=1"):
            self.assertEqual(self.read(light, options).json["number"], "7", options)
        two = pgm(strokes("1", 100, 150) + strokes("7", 300, 150))
        self.assertEqual(len(self.read(two, "?single=1").json["digits"]), 1)
        for options in ("?invert=maybe", "?single=2", "?what=1", "?what=yes", "?invert",
                        "?single=1&single=3"):
            self.refused(400, "POST", "/api/read" + options, SEVEN)

    def test_not_a_picture(self):
        for data in (b"x", b"P5 7 7 255\n", b"\x89PNG\r\n\x1a\n" + bytes(50), bytes(2_000_000),
                     SEVEN[:5000]):
            answer = self.refused(400, "POST", "/api/read", data)
            self.assertRegex(answer.json["error"], "^This file ")
        self.assert_reads()

    def test_ten_clients_at_once(self):
        with concurrent.futures.ThreadPoolExecutor(10) as clients:
            answers = list(clients.map(lambda _: self.read(), range(50)))
        self.assertEqual([answer.json["number"] for answer in answers], ["7"] * 50)

    def test_nothing_is_left_behind(self):
        self.read()
        task = pathlib.Path(f"/proc/{self.served.process.pid}")

        def held():
            time.sleep(0.3)
            children = sum(len(file.read_text().split()) for file in task.glob("task/*/children"))
            return len(list(task.glob("fd/*"))), len(list(task.glob("task/*"))), children
        before = held()
        for _ in range(40):
            self.read()
            self.ask("GET", "/nothing")
            self.read(b"x")
        self.assertEqual(held(), before)


class Refusals(Case):
    def test_hosts(self):
        port = self.served.port
        for host in (f"localhost:{port}", f"LocalHost:{port}", f"[::1]:{port}"):
            self.assertEqual(self.ask(Host=host).status, 200, host)
        for host in ("127.0.0.1", "localhost", f"127.0.0.1:{port}0", "127.0.0.1:80", "", ":",
                     f":{port}", f"evil.example:{port}", f"127.0.0.1.evil.example:{port}",
                     f"evil@127.0.0.1:{port}", f"127.0.0.2:{port}", f"192.168.0.1:{port}",
                     f"::1:{port}", f"[127.0.0.1]:{port}", f"[::1:{port}", f"[::2]:{port}"):
            with self.subTest(host):
                self.assertIn(self.ask(Host=host).status, (400, 421))
                self.assertIn(self.read(Host=host).status, (400, 421))
        self.refused(421, Host=f"evil.example:{port}")
        self.refused(400, Host=None)
        self.refused(400, Host=[self.host, f"evil.example:{port}"])
        self.refused(400, Host=[self.host, self.host])

    def test_other_origins(self):
        for origin in ("http://evil.example", "null", f"https://{self.host}", "http://127.0.0.1",
                       f"http://127.0.0.1:{self.served.port}1", "file://"):
            self.refused(403, "POST", "/api/read", SEVEN, Origin=origin)
        for site in ("cross-site", "same-site", "none"):
            self.refused(403, "POST", "/api/read", SEVEN, Sec_Fetch_Site=site)
        self.refused(403, "POST", "/api/read", SEVEN, Origin="http://evil.example",
                     Sec_Fetch_Site="same-origin")
        self.assert_reads(Origin=f"http://{self.host}", Sec_Fetch_Site="same-origin")
        local = f"localhost:{self.served.port}"
        self.assert_reads(Host=local, Origin=f"http://{local}")
        self.refused(403, "POST", "/api/read", SEVEN, Origin=f"http://{local}")

    def test_types(self):
        for kind in ("text/plain", "application/x-www-form-urlencoded", None, "imagine/png",
                     "multipart/form-data; boundary=x", "application/json"):
            self.refused(415, "POST", "/api/read", SEVEN, Content_Type=kind)
        for encoding in ("gzip", "br", "identity"):
            self.refused(415, "POST", "/api/read", SEVEN, Content_Encoding=encoding)
        for kind in ("image/png", "application/octet-stream"):
            self.assert_reads(Content_Type=kind)

    def test_lengths(self):
        self.refused(411, "POST", "/api/read", SEVEN, Content_Length=None)
        self.refused(411, "POST", "/api/read", b"3\r\nP5 \r\n0\r\n\r\n", Content_Length=None,
                     Transfer_Encoding="chunked")
        self.refused(411, "POST", "/api/read", b"3\r\nP5 \r\n0\r\n\r\n",
                     Transfer_Encoding="chunked")
        for length in ("0", "-1", "+5", "5x", "0x10", "1 2", "", str(2**64), [5, 5], [5, 6]):
            with self.subTest(length):
                self.assertIn(self.read(Content_Length=length).status, (400, 411))
        self.refused(413, "POST", "/api/read", b"P5", Content_Length=MAX_BYTES + 1)

    def test_methods(self):
        for method in ("POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT"):
            answer = self.refused(405, method, "/")
            self.assertEqual(answer.headers["Allow"], "GET, HEAD")
        for method in ("GET", "HEAD", "PUT", "DELETE", "OPTIONS"):
            answer = self.ask(method, "/api/read")
            self.assertEqual((answer.status, answer.headers["Allow"]), (405, "POST"))
        self.refused(400, "BREW")
        self.refused(400, "get")

    def test_paths(self):
        for path in ("/index.html", "/page", "/page/", "/../../../etc/passwd", "//etc/passwd",
                     "/..%2f..%2fetc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "/%00", "/style.css/",
                     "/style.css%00", "/a%0d%0aSet-Cookie:%20a=b", "/api/read/", "http://evil/",
                     "*", "/api/", "/.git/config", "/(((((((((((a*)*)*)*)*)*)*)*)*)*)*b"):
            self.refused(404, "GET", path)
        self.refused(414, "GET", "/" + "a" * 9000)

    def test_malformed(self):
        for data in (b"\r\n\r\n", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"GET /\r\n\r\n",
                     b"\0" * 100 + b"\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
                     b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\n", b"GET / HTTP/1.1\n\n",
                     b"GET / HTTP/1.1\r\nHost\r\n\r\n", b"GET / HTTP/1.1\r\n: x\r\n\r\n",
                     f"GET / HTTP/1.1\r\nHost: {self.host}\r\nX: {'y' * 9000}\r\n\r\n".encode()):
            with self.subTest(data[:40]):
                with self.connect() as client:
                    client.sendall(data)
                    client.shutdown(socket.SHUT_WR)
                    self.assertEqual(Answer(receive(client)).status, 400)
        self.assert_reads()

    def test_a_refused_body_is_no_request(self):
        inner = self.request("POST", "/api/read", SEVEN)
        data = self.exchange(self.request("POST", "/api/read", inner, Content_Type="text/plain",
                                          Origin="http://evil.example"))
        self.assertEqual(data.count(b"HTTP/1.1 "), 1)
        self.assertEqual(Answer(data).status, 403)
        self.assertEqual(self.exchange(2 * self.request()).count(b"HTTP/1.1 "), 1)

    def test_expect(self):
        data = self.exchange(self.request("POST", "/api/read", SEVEN, Expect="100-continue"))
        first, _, rest = data.partition(b"\r\n\r\n")
        self.assertEqual(first, b"HTTP/1.1 100 Continue")
        self.assertEqual(Answer(rest).json["number"], "7")
        self.refused(413, "POST", "/api/read", b"", Expect="100-continue",
                     Content_Length=MAX_BYTES + 1)
        self.refused(403, "POST", "/api/read", b"", Expect="100-continue", Content_Length=10,
                     Origin="http://evil.example")

    def test_endless_headers(self):
        for data in (b"G" * 50_000_000, b"GET / HTTP/1.1\r\n" + b"A" * 50_000_000,
                     b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 8_000_000):
            with self.subTest(data[:20]):
                before = self.memory()
                start = time.monotonic()
                self.exchange(data)
                self.assertLess(time.monotonic() - start, 4)
                self.assertLess(self.memory() - before, 5_000)
        self.assert_reads()

    def memory(self):
        """The most that it had, in kB."""
        status = pathlib.Path(f"/proc/{self.served.process.pid}/status").read_text()
        return int(re.search(r"VmHWM:\s+(\d+) kB", status)[1])


class BadClients(Case):
    def test_they_do_not_stop_others(self):
        """Clients that stall or drip hold up nobody, and are let go after five seconds."""
        start = time.monotonic()
        body = self.request("POST", "/api/read", SEVEN)
        stalled = [self.connect() for _ in range(12)]
        for i, client in enumerate(stalled):
            client.sendall((b"", b"GET /", self.request()[:-2], body[:-1])[i % 4])
        dripping = self.connect()
        dripping.sendall(b"GET / HTTP/1.1\r\n")
        for _ in range(3):
            asked = time.monotonic()
            self.assert_reads()
            self.assertLess(time.monotonic() - asked, 2)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            while time.monotonic() - start < 12:
                dripping.sendall(b"X")
                time.sleep(0.25)
        self.assertLess(time.monotonic() - start, 9)
        for i, client in enumerate(stalled):
            answer = receive(client)
            if i % 4 >= 2:
                self.assertEqual(Answer(answer).status, 400)
            else:
                self.assertEqual(answer, b"")
        self.assertGreater(time.monotonic() - start, 4)

    def test_more_connections_than_places(self):
        idle = [self.connect() for _ in range(80)]
        start = time.monotonic()
        self.assert_reads()
        self.assertLess(time.monotonic() - start, 9)
        self.assertLessEqual(len(os.listdir(f"/proc/{self.served.process.pid}/task")), 64 + 12)
        for client in idle:
            client.close()

    def test_gone_clients(self):
        for cut in (0, 1, 30, 150, 5000, None):
            for reset in (False, True):
                client = self.connect()
                client.sendall(self.request("POST", "/api/read", SEVEN)[:cut])
                if reset:
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                client.close()
        self.assert_reads()

    def test_huge_uploads(self):
        answer = self.read(bytes(MAX_BYTES + 1))
        self.assertEqual(answer.status, 413)
        self.assertIn("64.0 MB", answer.json["error"])
        whole = self.refused(400, "POST", "/api/read", bytes(MAX_BYTES))
        self.assertIn("This file ", whole.json["error"])
        half = self.request("POST", "/api/read", bytes(3_000_000))[:1_000_000]
        waiting = [self.connect() for _ in range(4)]
        for client in waiting:
            client.sendall(half)
        time.sleep(0.2)
        self.refused(503, "POST", "/api/read", bytes(3_000_000))
        self.assert_reads()
        for client in waiting:
            client.close()
        time.sleep(0.2)
        self.assertEqual(self.read(bytes(3_000_000)).status, 400)


class Reports(Case):
    @classmethod
    def setUpClass(cls):
        cls.directory = pathlib.Path(tempfile.mkdtemp(prefix="cuda-mnist-serve-"))
        cls.report = cls.directory / "a&<b>.html"
        cls.ARGUMENTS = ("--report", cls.report)
        super().setUpClass()

    @classmethod
    def tearDownClass(cls):
        super().tearDownClass()
        shutil.rmtree(cls.directory)

    def test_it_is_read_anew(self):
        self.assertTrue(self.ask("GET", "/api/about").json["report"])
        self.missing("a&amp;&lt;b&gt;.html")
        for text in (b"<!doctype html><p>one", b"two \xff", b""):
            self.report.write_bytes(text)
            answer = self.ask("GET", "/report")
            self.assertEqual((answer.status, answer.body), (200, text))
            self.assertEqual(answer.headers["Content-Type"], "text/html; charset=utf-8")
            policy = answer.headers["Content-Security-Policy"]
            self.assertIn("default-src 'none'; style-src 'unsafe-inline'", policy)
            self.assertIn("sandbox", policy)
            self.assertNotIn("script-src", policy)
        with open(self.report, "wb") as file:
            file.truncate(64_000_001)
        self.missing("64")
        self.report.unlink()
        self.report.mkdir()
        self.missing("directory")
        self.report.rmdir()
        os.mkfifo(self.report)
        self.missing("regular file|pipe|device")

    def missing(self, why):
        answer = self.ask("GET", "/report")
        self.assertEqual(answer.status, 404)
        self.assertRegex(answer.body.decode(), why)
        self.assertIn("cuda-mnist report", answer.body.decode())
        self.assertNotIn(b"<b>", answer.body)
        self.assert_headers(answer)

    def test_none_is_named(self):
        with contextlib.closing(Another(self)) as other:
            answer = other.ask("GET", "/report")
            self.assertEqual(answer.status, 404)
            self.assertIn(b"--report", answer.body)


class Another(Case):
    """A server of its own for one test."""

    def __init__(self, test, *arguments, host="127.0.0.1"):
        super().__init__("ask")
        self.served = Served(BINARY, MODEL, *arguments)
        self.host = f"{host}:{self.served.port}"
        test.addCleanup(self.served.stop)
        test.addCleanup(self.doCleanups)

    def close(self):
        self.served.stop()


class Lifetimes(unittest.TestCase):
    def run_serve(self, *arguments):
        return subprocess.run([BINARY, "serve", *map(str, arguments)], capture_output=True,
                              text=True, timeout=60)

    def failed(self, code, words, *arguments):
        done = self.run_serve("--device", "cpu", *arguments)
        self.assertEqual((done.returncode, done.stdout), (code, ""), done.stderr)
        self.assertRegex(done.stderr, f"^cuda-mnist: .*{words}.*\n$")

    def test_signals_end_it_at_once(self):
        request = None
        for number, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 143)):
            for state in ("idle", "idle client", "half a request", "reading"):
                with self.subTest(number=number, state=state):
                    server = Another(self)
                    request = server.request("POST", "/api/read", SEVEN)
                    client = server.connect()
                    client.sendall({"half a request": request[:-5], "reading": request}.get(
                        state, b""))
                    if state == "idle":
                        client.close()
                    time.sleep(0.002 if state == "reading" else 0.05)
                    start = time.monotonic()
                    self.assertEqual(server.served.stop(number), (code, "Ctrl-C ends it.\n"))
                    # It waits two seconds for a picture, and for no client.
                    self.assertLess(time.monotonic() - start, 4 if state == "reading" else 2)

    def test_addresses(self):
        server = Another(self, "--host", "0.0.0.0")
        port = server.served.port
        self.assertEqual(server.served.url, f"http://0.0.0.0:{port}/")
        for host in (f"127.0.0.1:{port}", f"192.168.7.8:{port}", f"0.0.0.0:{port}",
                     f"[fe80::1]:{port}", f"localhost:{port}"):
            self.assertEqual(server.ask(Host=host).status, 200, host)
        for host in (f"evil.example:{port}", f"192.168.7.8:{port + 1}", f"1.2.3.4.5:{port}"):
            self.assertEqual(server.ask(Host=host).status, 421, host)
        self.assertIn(f"this machine's, with :{port} after it",
                      server.ask(Host=f"evil.example:{port}").body.decode())
        code, errors = server.served.stop()
        self.assertEqual(code, 130)
        self.assertRegex(errors, "^Warning: whoever can reach 0.0.0.0 .*\nCtrl-C ends it.\n$")

        server = Another(self, "--host", "localhost")
        self.assertEqual(server.served.url, f"http://localhost:{server.served.port}/")
        self.assertEqual(server.served.stop(), (130, "Ctrl-C ends it.\n"))

    @unittest.skipUnless(os.path.exists("/proc/net/if_inet6"), "without IPv6")
    def test_ipv6(self):
        server = Served(BINARY, MODEL, "--host", "::1")
        self.addCleanup(server.stop)
        self.assertEqual(server.url, f"http://[::1]:{server.port}/")
        with urllib.request.urlopen(server.url) as page:
            self.assertEqual(page.status, 200)

    def test_a_port_is_one_servers(self):
        server = Another(self)
        port = server.served.port
        self.failed(69, f"127.0.0.1:{port}: Address already in use.*--port",
                    "--model", MODEL, "--port", port)
        server.served.stop()
        again = Another(self, "--port", port)  # though closed connections linger
        self.assertEqual(again.served.port, port)
        self.assertEqual(again.read().json["number"], "7")

    def test_failures(self):
        self.failed(66, "no.h5", "--model", "no.h5")
        self.failed(69, "--host", "--model", MODEL, "--host", "192.0.2.1")
        self.failed(69, "--host", "--model", MODEL, "--host", "nobody.invalid")
        for port in ("0", "65536", "x"):
            self.failed(2, "--port", "--model", MODEL, "--port", port)

    def test_text(self):
        process = subprocess.Popen([BINARY, "serve", "--model", MODEL, "--device", "cpu"],
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.assertRegex(process.stdout.readline(), r"^http://127\.0\.0\.1:\d+/\n$")
        process.terminate()
        self.assertEqual(process.communicate()[1], "Ctrl-C ends it.\n")

    def test_few_files(self):
        """Where the system gives no more, clients wait; the server goes on."""
        server = Another(self)
        resource.prlimit(server.served.process.pid, resource.RLIMIT_NOFILE, (16, 16))
        idle = [server.connect() for _ in range(30)]
        time.sleep(0.3)
        for client in idle:
            client.close()
        server.assert_reads()


if __name__ == "__main__":
    common.main(sys.modules[__name__])
