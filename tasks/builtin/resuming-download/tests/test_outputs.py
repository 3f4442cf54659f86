import hashlib
import os
import pathlib
import random
import shutil
import socket
import subprocess
import tempfile
import threading
import unittest

BODY = random.Random(11).randbytes(50_000)
OTHER = random.Random(12).randbytes(41_000)


class Server:
    """Answers the requests, one per connection, with the scripted answers (the last one again and again), and keeps the requests' heads."""

    def __init__(self, *answers):
        self.answers, self.requests, self.lock = list(answers), [], threading.Lock()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.settimeout(20)
        self.port = self.listener.getsockname()[1]
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    def serve(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.handle, args=(connection,), daemon=True).start()

    def handle(self, connection):
        with connection:
            connection.settimeout(8)
            try:
                head = b""
                while b"\r\n\r\n" not in head:
                    data = connection.recv(4096)
                    if not data:
                        return
                    head += data
                first, *rest = head.decode("latin-1").split("\r\n\r\n")[0].split("\r\n")
                headers = {k.lower(): v.strip() for k, v in (line.split(":", 1) for line in rest)}
                with self.lock:
                    number = len(self.requests)
                    self.requests.append((first.rsplit(" ", 1)[0], headers))
                connection.sendall(self.answers[min(number, len(self.answers) - 1)])
                connection.shutdown(socket.SHUT_WR)
                while connection.recv(4096):  # until the client has closed, so that nothing is reset
                    pass
            except OSError:
                pass

    def stop(self):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.thread.join(timeout=20)


def reply(status, body=b"", send=None, **headers):
    """The answer as bytes; with `send`, only so many bytes of the body really come."""
    lines = [f"HTTP/1.1 {status} Whatever"] + [f"{k.replace('_', '-')}: {v}" for k, v in headers.items()]
    if "Transfer_Encoding" not in headers:
        lines.append(f"Content-Length: {len(body)}")
    lines.append("Connection: close")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + (body if send is None else body[:send])


def rest(start, send=None, body=BODY, claim=None):
    return reply(206, body[start:], send, ETag='"v1"',
                 Content_Range=f"bytes {start if claim is None else claim}-{len(body) - 1}/{len(body)}")


V1 = {"ETag": '"v1"'}


class ResumingDownload(unittest.TestCase):
    def setUp(self):
        self.base = pathlib.Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.base, ignore_errors=True)
        (self.base / "neighbour").write_text("stay\n")

    def fetch(self, *answers, path="/file", old=None):
        server = Server(*answers)
        out = self.base / "out file"
        if old is not None:
            out.write_bytes(old)
        try:
            self.done = subprocess.run(["/app/fetch", f"http://127.0.0.1:{server.port}{path}", str(out)], capture_output=True,
                                       timeout=20, cwd="/", env={"PATH": os.environ["PATH"]})
        finally:
            server.stop()
        self.out, self.requests = out, server.requests
        self.ranges = [(h.get("range"), h.get("if-range")) for _, h in server.requests]

    def succeeded(self, body):
        self.assertEqual(self.done.returncode, 0, self.done.stderr)
        self.assertEqual(self.out.read_bytes(), body)
        self.assertEqual(self.done.stdout.decode(), hashlib.sha256(body).hexdigest() + "\n")
        self.assertEqual(self.out.stat().st_mode & 0o7777, 0o644)
        self.assertEqual(sorted(os.listdir(self.base)), ["neighbour", "out file"])
        for first, headers in self.requests:
            self.assertTrue(first.startswith("GET "))
            self.assertIn(headers.get("accept-encoding", "identity"), ("identity", ""))

    def failed(self, code, requests, old=None):
        self.assertEqual((self.done.returncode, self.done.stdout), (code, b""), self.done.stderr)
        self.assertEqual(len(self.requests), requests)
        self.assertEqual(sorted(os.listdir(self.base)), ["neighbour"] + (["out file"] if old is not None else []))
        if old is not None:
            self.assertEqual(self.out.read_bytes(), old)

    def test_plain_download_and_redirects(self):
        self.fetch(reply(200, BODY, **V1), old=b"old" * 40_000, path="/a/b?x=1&y=2")
        self.succeeded(BODY)
        self.assertEqual([first for first, _ in self.requests], ["GET /a/b?x=1&y=2"])
        self.fetch(*[reply(s, b"moved", Location=l) for s, l in ((301, "/one"), (302, "two?q=1"), (303, "/d/three"), (307, "four"), (308, "/five"))],
                   reply(200, b""), path="/a/b")
        self.succeeded(b"")
        self.assertEqual([first for first, _ in self.requests],
                         ["GET /a/b", "GET /one", "GET /two?q=1", "GET /d/three", "GET /d/four", "GET /five"])
        self.out.unlink()
        self.fetch(reply(302, Location="/again"))
        self.failed(4, 6)

    def test_rest_of_a_broken_download_is_fetched(self):
        self.fetch(reply(200, BODY, 20_000, **V1), rest(20_000, 15_000), reply(503, b"busy"), b"", rest(35_000))
        self.succeeded(BODY)
        self.assertEqual(self.ranges, [(None, None), ("bytes=20000-", '"v1"'), *[("bytes=35000-", '"v1"')] * 3])

    def test_begins_anew_when_the_file_changed_or_cannot_be_resumed(self):
        self.fetch(reply(200, BODY, 30_000, **V1), reply(200, OTHER, 10_000, ETag='"v2"'), rest(10_000, body=OTHER))
        self.succeeded(OTHER)
        self.assertEqual(self.ranges, [(None, None), ("bytes=30000-", '"v1"'), ("bytes=10000-", '"v2"')])
        for headers in ({}, {"ETag": 'W/"v1"'}):
            self.fetch(reply(200, BODY, 30_000, **headers), reply(200, BODY, 1_000, **headers), reply(200, OTHER, **headers))
            self.succeeded(OTHER)
            self.assertEqual(self.ranges, [(None, None)] * 3)
        self.fetch(reply(200, BODY, 30_000, **V1), rest(30_000, claim=20_000), reply(200, BODY, **V1))
        self.succeeded(BODY)
        self.assertEqual(self.ranges, [(None, None), ("bytes=30000-", '"v1"'), (None, None)])

    def test_chunked_bodies_are_complete_only_with_their_last_chunk(self):
        chunks = b"".join(b"%x\r\n%s\r\n" % (len(p), p) for p in (OTHER[:7000], OTHER[7000:]))
        self.fetch(reply(200, chunks, Transfer_Encoding="chunked"), reply(200, chunks + b"0\r\n\r\n", Transfer_Encoding="chunked"))
        self.succeeded(OTHER)
        self.assertEqual(len(self.requests), 2)

    def test_failures_leave_everything_as_it_was(self):
        self.fetch(reply(500, b"oops"), old=b"old")
        self.failed(5, 6, b"old")
        self.out.unlink()
        self.fetch(reply(200, BODY, 49_999))
        self.failed(5, 6)
        self.fetch(reply(502), reply(404, b"not here"), reply(200, BODY), old=b"old")
        self.failed(4, 2, b"old")
        self.fetch(reply(200, BODY, 20_000, **V1), reply(416, b""), reply(200, BODY), old=b"old")
        self.failed(4, 2, b"old")
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))  # not listening: refuses connections
            done = subprocess.run(["/app/fetch", f"http://127.0.0.1:{probe.getsockname()[1]}/", str(self.out)], capture_output=True,
                                  timeout=20)
        self.assertEqual((done.returncode, done.stdout), (5, b""))
        self.assertEqual(self.out.read_bytes(), b"old")


if __name__ == "__main__":
    unittest.main(verbosity=2)
