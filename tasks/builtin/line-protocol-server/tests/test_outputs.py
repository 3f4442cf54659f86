import signal
import socket
import struct
import subprocess
import threading
import time
import unittest


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Client:
    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=20)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.file = self.socket.makefile("rb")

    def send(self, data):
        self.socket.sendall(data)

    def line(self):
        return self.file.readline()

    def ask(self, line):
        self.send(line + b"\n")
        return self.line()

    def closed(self):
        """True when the server has closed the connection after what was read so far."""
        try:
            return self.file.read(1) == b""
        except ConnectionError:
            return True

    def close(self):
        self.file.close()
        self.socket.close()


class LineProtocolServer(unittest.TestCase):
    def setUp(self):
        self.port = free_port()
        self.clients = []
        self.start()

    def tearDown(self):
        for client in self.clients:
            client.close()
        self.server.kill()
        self.server.wait(timeout=20)

    def start(self):
        self.server = subprocess.Popen(["python3", "/app/kvserver.py", str(self.port)], stdin=subprocess.DEVNULL,
                                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/")
        deadline = time.monotonic() + 10
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=20).close()
                return
            except OSError:
                self.assertIsNone(self.server.poll(), "the server has ended")
                self.assertLess(time.monotonic(), deadline, "the server does not listen")
                time.sleep(0.02)

    def client(self):
        client = Client(self.port)
        self.clients.append(client)
        return client

    def test_commands_give_the_right_answers(self):
        a = self.client()
        for line, reply in ((b"COUNT", b"COUNT 0"), (b"GET k", b"NONE"), (b"SET k one two  three ", b"OK"),
                            (b"GET k", b"VALUE one two  three "), (b"SET k2  x", b"OK"), (b"GET k2", b"VALUE  x"),
                            (b"SET k3 ", b"OK"), (b"GET k3", b"VALUE "), (b"COUNT", b"COUNT 3"), (b"DEL k2", b"OK"),
                            (b"DEL k2", b"NONE"), (b"GET k2", b"NONE"), (b"SET \xff\xfe \x80\xc3\t\x0b", b"OK"),
                            (b"GET \xff\xfe", b"VALUE \x80\xc3\t\x0b"), (b"COUNT\r", b"COUNT 3"), (b"SET cr v\r", b"OK"),
                            (b"GET cr\r", b"VALUE v"), (b"SET k =\xc3\xa9", b"OK"), (b"GET k", b"VALUE =\xc3\xa9")):
            self.assertEqual(a.ask(line), reply + b"\n", line)
        for line in (b"", b"\r", b"HELLO", b"get k", b"SET", b"SET ", b"SET onlykey", b"SET  v", b"GET", b"GET ", b"GET k x", b"DEL",
                     b"DEL k ", b"COUNT ", b"COUNT x", b"QUIT now", b" GET k", b"\xff\xff"):
            self.assertEqual(a.ask(line), b"ERR\n", line)
        self.assertEqual(a.ask(b"COUNT"), b"COUNT 4\n")
        self.assertEqual(a.ask(b"QUIT"), b"BYE\n")
        self.assertTrue(a.closed())

    def test_stream_may_be_cut_anywhere(self):
        a = self.client()
        lines = [b"SET key%d %s" % (i, "wért ".encode() * i) for i in range(300)] + [b"GET key%d" % i for i in range(300)]
        a.send(b"".join(line + (b"\r\n" if i % 2 else b"\n") for i, line in enumerate(lines)))
        got = [a.line() for _ in lines]
        self.assertEqual(got, [b"OK\n"] * 300 + [b"VALUE %s\n" % ("wért ".encode() * i) for i in range(300)])
        for piece in (b"SE", b"T slo", b"w v\xc3", b"\xa9 ", b"\r", b"\nGET sl", b"ow", b"\nCOU", b"NT\n"):
            a.send(piece)
            time.sleep(0.02)
        self.assertEqual([a.line() for _ in range(3)], [b"OK\n", b"VALUE v\xc3\xa9 \n", b"COUNT 301\n"])
        # Half-closed: all answers come, and the line without an end is ignored.
        a.send(b"GET slow\n" * 50 + b"DEL slow")
        a.socket.shutdown(socket.SHUT_WR)
        self.assertEqual(a.file.read(), b"VALUE v\xc3\xa9 \n" * 50)
        self.assertEqual(self.client().ask(b"COUNT"), b"COUNT 301\n")

    def test_long_lines(self):
        a = self.client()
        value = bytes(range(32, 127)) * 700
        value = value[:65536 - len("SET big ")]
        self.assertEqual(a.ask(b"SET big " + value), b"OK\n")
        self.assertEqual(a.ask(b"SET big2 " + value[1:] + b"\r"), b"OK\n")
        self.assertEqual(a.ask(b"GET big"), b"VALUE " + value + b"\n")
        for end in (b"\n", b"\r\n", b"xx"):  # in the last case the end of the line never comes
            b = self.client()
            b.send(b"COUNT\nSET big " + value + b"x" + end)
            self.assertEqual([b.line(), b.line()], [b"COUNT 2\n", b"ERR too long\n"])
            self.assertTrue(b.closed())
        self.assertEqual(a.ask(b"GET big"), b"VALUE " + value + b"\n")

    def test_clients_do_not_disturb_each_other(self):
        crowd = [self.client() for _ in range(50)]
        crowd[0].send(b"GET unfinish")
        self.assertEqual(crowd[1].ask(b"SET big " + b"x" * 60000), b"OK\n")
        stop = threading.Event()

        def flood(client):  # asks for megabytes and reads nothing
            try:
                for _ in range(400):
                    if stop.is_set():
                        return
                    client.send(b"GET big\n")
            except OSError:
                pass

        greedy = self.client()
        thread = threading.Thread(target=flood, args=(greedy,), daemon=True)
        thread.start()
        for _ in range(3):  # clients that break their connections
            broken = socket.create_connection(("127.0.0.1", self.port), timeout=20)
            broken.sendall(b"SET broken 1\nGET big\nGET big\nGET bi")
            broken.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            broken.close()
        for i, client in enumerate(crowd[1:]):
            self.assertEqual(client.ask(b"SET from%d %d" % (i, i)), b"OK\n")
        for i, client in enumerate(reversed(crowd[1:])):
            self.assertEqual(client.ask(b"GET from%d" % i), b"VALUE %d\n" % i)
        crowd[0].send(b"ed\n")
        self.assertEqual(crowd[0].line(), b"NONE\n")
        thread.join(timeout=20)
        stop.set()
        self.assertIsNone(self.server.poll())

    def test_stops_on_sigterm_and_starts_again_on_the_same_port(self):
        for number in range(2):
            a, b = self.client(), self.client()
            self.assertEqual(a.ask(b"COUNT"), b"COUNT 0\n")
            self.assertEqual(b.ask(b"SET a 1"), b"OK\n")
            b.send(b"GET half")
            self.server.send_signal(signal.SIGTERM)
            try:
                self.assertEqual(self.server.wait(timeout=20), 0)
            except subprocess.TimeoutExpired:
                self.fail("does not end on SIGTERM")
            self.assertTrue(a.closed() and b.closed())
            self.start()
        self.assertEqual(self.client().ask(b"COUNT"), b"COUNT 0\n")


if __name__ == "__main__":
    unittest.main(verbosity=2)
