import concurrent.futures
import io
import os
import pathlib
import shutil
import stat
import subprocess
import tarfile
import tempfile
import unittest
import zipfile


def tar(*members, mode="w"):
    """members: (name, kind, payload, permissions)"""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:
        for name, kind, payload, permissions in members:
            info = tarfile.TarInfo(name)
            info.mode = permissions
            if kind == "file":
                info.size = len(payload)
                archive.addfile(info, io.BytesIO(payload))
                continue
            info.type = {"dir": tarfile.DIRTYPE, "symlink": tarfile.SYMTYPE, "hardlink": tarfile.LNKTYPE,
                         "fifo": tarfile.FIFOTYPE, "device": tarfile.CHRTYPE}[kind]
            info.linkname = payload or ""
            archive.addfile(info)
    return buffer.getvalue()


def zipped(*members):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, kind, payload, permissions in members:
            info = zipfile.ZipInfo("placeholder")
            info.filename = name
            info.create_system = 3
            info.compress_type = zipfile.ZIP_DEFLATED
            bits = {"file": stat.S_IFREG, "dir": stat.S_IFDIR, "symlink": stat.S_IFLNK}[kind] | permissions
            info.external_attr = bits << 16
            archive.writestr(info, payload if kind == "file" else (payload or "").encode())
    return buffer.getvalue()


def f(name, data=b"data\n", permissions=0o644):
    return name, "file", data, permissions


def d(name, permissions=0o755):
    return name, "dir", None, permissions


def s(name, target):
    return name, "symlink", target, 0o777


def h(name, target):
    return name, "hardlink", target, 0o644


GOOD = [d("./"), f("./a.txt"), d("pkg/", 0o700), f("pkg/run", b"#!/bin/sh\n", 0o4750), f("pkg/./deep/er/x", b"x" * 3000, 0o2666),
        d("pkg/deep", 0o1777), s("pkg/latest", "deep/er"), s("top", "."), s("pkg/up", "../a.txt"), s("later", "not/there/yet"),
        s("pkg/deep/around", "../latest/x"), d("pkg"), f("name with ..dots.."), f("...", b"")]


def tree(top):
    found = {}
    for path in sorted(top.rglob("*")):
        mode = oct(stat.S_IMODE(path.lstat().st_mode))
        name = str(path.relative_to(top))
        if path.is_symlink():
            found[name] = "link", os.readlink(path)
        elif path.is_dir():
            found[name] = "dir", mode
        else:
            found[name] = "file", mode, path.read_bytes()
    return found


class Case:
    """One run of safe-unpack in a place of its own: BASE/secret, BASE/in/secret, BASE/in/here/dest."""

    def __init__(self, base, what, data, *options, codes=(3,), empty=False):
        self.base, self.what, self.codes = pathlib.Path(base), what, codes
        self.home = self.base / "in" / "here"
        self.dest = self.home / "dest"
        self.home.mkdir(parents=True)
        (self.base / "secret").write_text("secret\n")
        (self.base / "in" / "secret").write_text("secret\n")
        (self.base / "upload.bin").write_bytes(data(self) if callable(data) else data)
        if empty:
            self.dest.mkdir()
        self.command = ["/app/safe-unpack", *options, str(self.base / "upload.bin"), str(self.dest)]

    def run(self):
        self.before = tree(self.base)
        self.done = subprocess.run(self.command, capture_output=True, text=True, timeout=15, cwd=self.base)
        self.after = tree(self.base)


class SafeUnpack(unittest.TestCase):
    def setUp(self):
        self.base = pathlib.Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.base, ignore_errors=True)
        self.count = 0

    def case(self, what, data, *options, **more):
        self.count += 1
        return Case(self.base / str(self.count), what, data, *options, **more)

    def run_all(self, cases):
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            list(pool.map(Case.run, cases))

    def accepted(self, data, *options, empty=False):
        case = self.case("good", data, *options, empty=empty)
        case.run()
        self.assertEqual(case.done.returncode, 0, case.done.stderr)
        self.assertEqual(os.listdir(case.home), ["dest"])
        return case.dest

    def refused(self, *cases):
        self.run_all(cases)
        for case in cases:
            self.assertIn(case.done.returncode, case.codes, f"{case.what}: {case.done.stderr}")
            self.assertNotIn("Traceback", case.done.stderr, case.what)
            self.assertEqual(case.after, case.before, case.what)

    def test_good_archives_are_unpacked_in_every_format(self):
        wanted = {"a.txt": ("file", "0o644", b"data\n"), "pkg": ("dir", "0o755"), "pkg/run": ("file", "0o755", b"#!/bin/sh\n"),
                  "pkg/deep": ("dir", "0o755"), "pkg/deep/er": ("dir", "0o755"), "pkg/deep/er/x": ("file", "0o644", b"x" * 3000),
                  "pkg/latest": ("link", "deep/er"), "top": ("link", "."), "pkg/up": ("link", "../a.txt"),
                  "later": ("link", "not/there/yet"), "pkg/deep/around": ("link", "../latest/x"),
                  "name with ..dots..": ("file", "0o644", b"data\n"), "...": ("file", "0o644", b"")}
        zip_good = [m for m in GOOD if m[0] not in ("./", "pkg")]
        zip_good = [("pkg/deep/", *m[1:]) if m[0] == "pkg/deep" else m for m in zip_good]
        for data in (tar(*GOOD), tar(*GOOD, mode="w:gz"), tar(*GOOD, mode="w:bz2"), tar(*GOOD, mode="w:xz"), zipped(*zip_good)):
            dest = self.accepted(data)
            self.assertEqual(tree(dest), wanted)
            self.assertEqual(stat.S_IMODE(dest.stat().st_mode), 0o755)
        # A zip file in a tar file does not make it a zip file; and an empty directory is as good as none.
        dest = self.accepted(tar(f("one/file", zipped(f("x"))), h("two/same", "one/file"), h("third", "./two/same")), empty=True)
        self.assertEqual(len({(dest / n).stat().st_ino for n in ("one/file", "two/same", "third")}), 1)

    def test_names_that_leave_the_destination_are_refused(self):
        self.refused(
            self.case("absolute", lambda case: tar(f("first"), f(str(case.base / "secret"), b"evil"))),
            self.case("up", tar(f("first"), f("../evil", b"evil"))),
            self.case("up in zip", zipped(f("first"), f("ok/../../evil", b"evil"))),
            self.case("stays inside", tar(f("first"), f("ok/../inside", b"evil"))),
            self.case("directory", tar(f("first"), d("../evil")), empty=True))

    def test_links_that_lead_out_are_refused(self):
        self.refused(
            self.case("absolute", tar(f("first"), s("l", "/etc/passwd"))),
            self.case("absolute, but inside", lambda case: zipped(f("first"), s("l", str(case.dest / "first")))),
            self.case("up", zipped(f("first"), s("l", "../secret"))),
            self.case("sibling with the same beginning", tar(f("first"), s("l", "../dest-of-others"))),
            self.case("through a link that comes later", tar(s("b", "sub/a/../secret"), d("sub"), s("sub/a", ".."))),
            self.case("chain", zipped(s("one", "x/two/.."), d("x/"), d("y/"), s("x/two", "../y/three"), s("y/three", "../."))))

    def test_conflicting_members_hard_links_out_and_special_files_are_refused(self):
        self.refused(
            self.case("write through a link", tar(f("first"), s("out", "../"), f("out/evil", b"evil"))),
            self.case("write through an inner link", tar(d("in"), s("l", "in"), f("l/file")), empty=True),
            self.case("below a link that comes later", tar(f("l/file"), s("l", "in"))),
            self.case("below a file", tar(f("x"), f("x/y"))),
            self.case("file twice", tar(f("x", b"1"), f("./x", b"2"))),
            self.case("file and directory", tar(f("x", b"1"), d("x"))),
            self.case("hard link to an absolute name", lambda case: tar(f("first"), h("l", str(case.base / "secret")))),
            self.case("hard link to what comes later", tar(h("l", "x"), f("x"))),
            self.case("hard link to a directory", tar(d("x"), h("l", "x"))),
            self.case("hard link to a link", tar(f("first"), s("x", "first"), h("l", "x"))),
            self.case("fifo", tar(f("first"), ("p", "fifo", None, 0o644))))

    def test_size_limit_counts_what_really_comes_out(self):
        for make in (tar, zipped):
            data = make(f("a", b"x" * 700), f("b", b"y" * 300))
            self.accepted(data, "--max-bytes", "1000")
            self.refused(self.case("over the limit", data, "--max-bytes", "999"))
        # A small file that would become 50 MiB; writing more than 10 MiB of it is not possible here.
        bomb = io.BytesIO()
        with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
            with archive.open("zeros", "w") as member:
                for _ in range(50):
                    member.write(bytes(1 << 20))
        case = self.case("bomb", bomb.getvalue(), "--max-bytes", "1000000")
        case.command = ["bash", "-c", 'ulimit -f 10240; exec "$@"', "-", *case.command]
        self.refused(case)

    def test_damaged_archives_and_wrong_usage(self):
        whole = tar(f("first"), f("second", os.urandom(60000)), mode="w:gz")
        package = zipped(f("first"), f("second", b"abc" * 5000))
        flipped = bytearray(package)
        flipped[flipped.index(b"second") + 8] ^= 0xFF
        cases = [self.case("cut off", whole[:len(whole) // 2], codes=(4,)),
                 self.case("cut off at the end", whole[:-5], codes=(4,), empty=True),
                 self.case("cut off zip", package[:-30], codes=(4,)),
                 self.case("zip with a wrong checksum", bytes(flipped), codes=(4,)),
                 self.case("text", b"hello\n" * 500, codes=(4,)), self.case("empty", b"", codes=(4,))]
        good = tar(f("first"))
        full = self.case("full", good, codes=(2,), empty=True)
        (full.dest / "mine").write_text("mine")
        link = self.case("link", good, codes=(2,))
        (link.home / "nothing").mkdir()
        link.dest.symlink_to("nothing")
        absent = self.case("no such archive", good, codes=(2,))
        (absent.base / "upload.bin").unlink()
        usage = self.case("no destination", good, codes=(2,))
        usage.command.pop()
        limit = self.case("limit is no number", good, "--max-bytes", "many", codes=(2,))
        self.refused(*cases, full, link, absent, usage, limit)


if __name__ == "__main__":
    unittest.main(verbosity=2)
