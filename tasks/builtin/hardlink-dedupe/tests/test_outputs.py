import ctypes
import json
import os
import shutil
import stat
import struct
import subprocess
import tempfile
import unittest

SCRIPT = "/app/dedupe.py"
DAY = 86400 * 10**9
BASE = 1_700_000_000 * 10**9


def snapshot(root):
    """path -> (inode, mode, uid, gid, size, mtime, link target) of everything below root."""
    found = {}
    for base, dirs, names in os.walk(os.fsencode(root)):
        for name in dirs + names:
            path = os.path.join(base, name)
            st = os.lstat(path)
            link = os.readlink(path) if stat.S_ISLNK(st.st_mode) else None
            found[os.path.relpath(path, os.fsencode(root))] = (
                st.st_ino, st.st_mode, st.st_uid, st.st_gid, st.st_size if link is None and not stat.S_ISDIR(st.st_mode) else 0,
                st.st_mtime_ns if stat.S_ISREG(st.st_mode) else 0, link)
    return found


class HardlinkDedupe(unittest.TestCase):
    def setUp(self):
        self.tmp = tempfile.mkdtemp(prefix="dedupe-", dir="/app")
        self.root = os.path.join(self.tmp, "tree")
        os.mkdir(self.root)
        self.addCleanup(shutil.rmtree, os.fsencode(self.tmp), True)

    def put(self, name, content, age=0, mode=0o644, uid=0, gid=0):
        """Writes a file; a smaller age number means older."""
        path = os.path.join(os.fsencode(self.root), name if isinstance(name, bytes) else name.encode())
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as f:
            f.write(content)
        os.chown(path, uid, gid)
        os.chmod(path, mode)
        os.utime(path, ns=(BASE + age, BASE + age))
        return path

    def run_tool(self, *args):
        done = subprocess.run(["python3", SCRIPT, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=20, cwd="/")
        self.assertEqual(done.returncode, 0, done.stderr)
        lines = done.stdout.decode().splitlines()
        self.assertEqual(len(lines), 1, f"one line of output expected: {done.stdout!r}")
        return json.loads(lines[0])

    def ino(self, path):
        return os.lstat(path).st_ino

    def test_links_duplicates_to_the_oldest_file(self):
        young = self.put("a/one.bin", b"payload" * 100, age=2 * DAY)
        old = self.put("z/deep/er/two.bin", b"payload" * 100, age=1)
        tie = self.put("a/three.bin", b"payload" * 100, age=2)  # one nanosecond younger than the oldest
        other = self.put("a/four.bin", b"Payload" * 100, age=0)  # same size, other content
        first = self.put("tie/B", b"tie", age=5)
        second = self.put("tie/a", b"tie", age=5)
        self.put("empty/1", b"")
        self.put("empty/2", b"")
        keep = self.ino(old)
        keep_tie = self.ino(first)
        alone = self.ino(other)
        empties = {self.ino(self.root + "/empty/1"), self.ino(self.root + "/empty/2")}
        report = self.run_tool(self.root)
        self.assertEqual(report, {"files": 6, "groups": 2, "linked": 3, "bytes_freed": 1403})
        self.assertEqual([self.ino(p) for p in (young, old, tie)], [keep] * 3)
        self.assertEqual(os.stat(young).st_mtime_ns, BASE + 1)
        self.assertEqual([self.ino(first), self.ino(second)], [keep_tie] * 2)
        self.assertEqual(self.ino(other), alone)
        self.assertEqual({self.ino(self.root + "/empty/1"), self.ino(self.root + "/empty/2")}, empties)
        with open(young, "rb") as f:
            self.assertEqual(f.read(), b"payload" * 100)
        self.assertEqual(self.run_tool(self.root), {"files": 6, "groups": 0, "linked": 0, "bytes_freed": 0})

    def test_never_links_across_owner_group_or_mode(self):
        same = b"#!/bin/sh\nexit 0\n"
        variants = [self.put("base", same), self.put("mode", same, mode=0o600), self.put("setuid", same, mode=0o4644),
                    self.put("sticky", same, mode=0o1644), self.put("owner", same, uid=1234), self.put("group", same, gid=1234)]
        twin = self.put("twin-of-setuid", same, mode=0o4644, age=9)
        before = [self.ino(p) for p in variants]
        report = self.run_tool(self.root)
        self.assertEqual(report, {"files": 7, "groups": 1, "linked": 1, "bytes_freed": len(same)})
        self.assertEqual([self.ino(p) for p in variants], before)
        self.assertEqual(self.ino(twin), self.ino(variants[2]))
        self.assertEqual([stat.S_IMODE(os.stat(p).st_mode) for p in variants], [0o644, 0o600, 0o4644, 0o1644, 0o644, 0o644])
        self.assertEqual([(os.stat(p).st_uid, os.stat(p).st_gid) for p in variants[4:]], [(1234, 0), (0, 1234)])

    def test_existing_hard_links_and_outside_links_are_counted_right(self):
        kept = self.put("k/kept", b"x" * 1000, age=0)
        os.link(kept, self.root + "/k/kept-too")
        double = self.put("d/double", b"x" * 1000, age=3)
        os.link(double, self.root + "/d/double-2")
        outside = self.put("o/inside", b"x" * 1000, age=4)
        os.link(outside, self.tmp + "/outside")
        target = self.ino(kept)
        remote = self.ino(outside)
        report = self.run_tool(self.root)
        self.assertEqual(report, {"files": 5, "groups": 1, "linked": 3, "bytes_freed": 1000})
        names = {}
        for base, _, files in os.walk(self.root):
            for name in files:
                path = os.path.join(base, name)
                names[os.path.relpath(path, self.root)] = self.ino(path)
        self.assertEqual(names, dict.fromkeys(["k/kept", "k/kept-too", "d/double", "d/double-2", "o/inside"], target))
        self.assertEqual(self.ino(self.tmp + "/outside"), remote)

    def test_odd_names_links_and_special_files(self):
        a = self.put(b"new\nline \xff.txt", b"odd", age=0)
        b = self.put("with space/'quote\" $x.txt", b"odd", age=1)
        os.mkdir(self.tmp + "/elsewhere")
        with open(self.tmp + "/elsewhere/file", "wb") as f:
            f.write(b"odd")
        os.symlink(self.tmp + "/elsewhere", self.root + "/dirlink")
        os.symlink(self.tmp + "/elsewhere/file", self.root + "/filelink")
        os.symlink(".", self.root + "/loop")
        os.mkfifo(self.root + "/fifo")
        outside = self.ino(self.tmp + "/elsewhere/file")
        report = self.run_tool(self.root)
        self.assertEqual(report, {"files": 2, "groups": 1, "linked": 1, "bytes_freed": 3})
        self.assertEqual(self.ino(a), self.ino(b))
        self.assertEqual(self.ino(self.tmp + "/elsewhere/file"), outside)
        self.assertEqual(os.readlink(self.root + "/dirlink"), self.tmp + "/elsewhere")
        self.assertEqual(os.readlink(self.root + "/filelink"), self.tmp + "/elsewhere/file")
        self.assertTrue(stat.S_ISFIFO(os.lstat(self.root + "/fifo").st_mode))
        self.assertEqual(sorted(os.listdir(os.fsencode(self.root))),
                         sorted([b"new\nline \xff.txt", b"with space", b"dirlink", b"filelink", b"loop", b"fifo"]))

    def test_paths_are_never_missing_while_they_are_replaced(self):
        for n in range(5):
            self.put(f"f{n}", b"same", age=n)
        libc = ctypes.CDLL(None, use_errno=True)
        fd = libc.inotify_init1(os.O_NONBLOCK)
        self.assertGreaterEqual(fd, 0)
        self.addCleanup(os.close, fd)
        delete, moved_from = 0x200, 0x40
        self.assertGreaterEqual(libc.inotify_add_watch(fd, os.fsencode(self.root), delete | moved_from), 0)
        self.assertEqual(self.run_tool(self.root)["linked"], 4)
        gone = set()
        try:
            data = os.read(fd, 65536)
        except BlockingIOError:
            data = b""
        while data:
            _, _, _, length = struct.unpack("iIII", data[:16])
            gone.add(data[16:16 + length].rstrip(b"\0").decode())
            data = data[16 + length:]
        self.assertEqual(gone & {f"f{n}" for n in range(5)}, set(), "these paths were missing for a moment")
        self.assertEqual(sorted(os.listdir(self.root)), [f"f{n}" for n in range(5)])

    def test_dry_run_and_wrong_argument(self):
        self.put("a", b"dry", age=0)
        b = self.put("b", b"dry", age=1)
        before = snapshot(self.root)
        report = self.run_tool("--dry-run", self.root)
        self.assertEqual(report, {"files": 2, "groups": 1, "linked": 1, "bytes_freed": 3})
        self.assertEqual(snapshot(self.root), before)
        for wrong in (os.fsdecode(b), self.root + "/missing"):
            done = subprocess.run(["python3", SCRIPT, wrong], stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=20)
            self.assertEqual(done.returncode, 2)
            self.assertEqual(done.stdout, b"")
            self.assertNotEqual(done.stderr.strip(), b"")


if __name__ == "__main__":
    unittest.main(verbosity=2)
