#!/bin/bash
# The supervisor holds a POSIX record lock on the pid file as long as it lives: no child inherits it, and the kernel tells who holds it.
set -euo pipefail
cat > /app/supervise <<'PY'
#!/usr/bin/python3 -IS
"""A process supervisor with a pid file."""
import argparse
import fcntl
import os
import signal
import struct
import sys
import time

ORDERS = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
WATCHED = ORDERS | {signal.SIGCHLD}


def say(text):
    print(f"supervise: {text}", file=sys.stderr)


def holder(fd):
    """The process that holds the lock on the file, or None."""
    query = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
    kind, _, _, _, pid = struct.unpack("hhqqi4x", fcntl.fcntl(fd, fcntl.F_GETLK, query))
    return None if kind == fcntl.F_UNLCK else pid


def live(path):
    """(fd, pid) of the live supervisor of the file, or None."""
    try:
        fd = os.open(path, os.O_RDONLY)
    except OSError:
        return None
    pid = holder(fd)
    return (fd, pid) if pid else None


def acquire(path):
    """Locks the pid file and writes the process id; False if somebody else has it."""
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        try:
            if os.path.samestat(os.fstat(fd), os.stat(path)):
                break
        except FileNotFoundError:
            pass
        os.close(fd)  # removed by its former owner meanwhile
    os.ftruncate(fd, 0)
    os.write(fd, b"%d\n" % os.getpid())
    return True


def members(group):
    """Processes of the group that are not zombies."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat", "rb") as file:
                    state, _, pgrp = file.read().rpartition(b")")[2].split()[:3]
            except OSError:
                continue
            if int(pgrp) == group and state not in (b"Z", b"X"):
                found.append(int(name))
    return found


def kill_group(group, number):
    try:
        os.killpg(group, number)
    except ProcessLookupError:
        pass


def start(command):
    return os.posix_spawnp(command[0], command, os.environ, setpgroup=0, setsigmask=[],
                           setsigdef=[signal.SIGPIPE, signal.SIGINT, signal.SIGHUP, signal.SIGTERM],
                           file_actions=[(os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0)])


def serve(pid, grace):
    """Watches the process until its group is gone: an exit status, or "stop" or "restart"."""
    order = deadline = None
    while True:
        pause = 3600 if deadline is None else max(0, min(0.02, deadline - time.monotonic()))
        got = signal.sigtimedwait(WATCHED, pause)
        if got and got.si_signo in ORDERS:
            if got.si_signo != signal.SIGHUP:
                order = "stop"
            order = order or "restart"
            if deadline is None:
                deadline = time.monotonic() + grace
                kill_group(pid, signal.SIGTERM)
        # Not reaped yet, so that the number of the group can't be used again.
        ended = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if deadline is None and ended or deadline is not None and (time.monotonic() >= deadline or not members(pid)):
            kill_group(pid, signal.SIGKILL)
            while members(pid):
                time.sleep(0.005)
            status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            return order or (status if status >= 0 else 128 - status)


def run(args):
    signal.pthread_sigmask(signal.SIG_BLOCK, WATCHED)
    if not acquire(args.pidfile):
        say(f"{args.pidfile}: a supervisor is running")
        return 3
    path = os.path.abspath(args.pidfile)
    restarts = 0
    try:
        while True:
            try:
                pid = start(args.command)
            except OSError as error:
                say(f"{args.command[0]}: {error.strerror}")
                return 127
            result = serve(pid, args.grace)
            if result == "stop":
                return 0
            if result != "restart":
                if result == 0 or restarts == args.max_restarts:
                    return result
                restarts += 1
    finally:
        os.unlink(path)


def stop(args):
    found = live(args.pidfile)
    if not found:
        say(f"{args.pidfile}: no supervisor is running")
        return 1
    fd, pid = found
    os.kill(pid, signal.SIGTERM)
    while holder(fd) == pid:
        time.sleep(0.01)
    return 0


def status(args):
    found = live(args.pidfile)
    print(f"running {found[1]}" if found else "stopped")
    return 0 if found else 1


def main():
    parser = argparse.ArgumentParser(prog="supervise")
    parts = parser.add_subparsers(required=True)
    for name, function in (("run", run), ("stop", stop), ("status", status)):
        part = parts.add_parser(name)
        part.set_defaults(function=function)
        part.add_argument("--pidfile", required=True)
        if function is run:
            part.add_argument("--grace", type=float, default=5)
            part.add_argument("--max-restarts", type=int, default=3)
    before, after = sys.argv[1:], []
    if "--" in before:
        cut = before.index("--")
        before, after = before[:cut], before[cut + 1:]
    args = parser.parse_args(before)
    args.command = after
    if args.function is run and not after:
        parser.error("COMMAND is missing")
    return args.function(args)


sys.exit(main())
PY
chmod +x /app/supervise
