import os
import pathlib
import shutil
import subprocess
import tarfile
import tempfile
import unittest

EPOCH = 1_234_567_890
FILES = {"README": "r\n", "src/a.c": "a\n", "src/B.c": "b\n", "src/deep/er/z.txt": "z" * 5000, "run.sh": "#!/bin/sh\n",
         "bin/tool": "tool\n", ".hidden": "h\n", ".gitignore": "*.o\n", "src/.hidden2": "h\n", "notes.o.txt": "n\n",
         "name with  space": "s\n", "x" * 90 + "/" + "y" * 120: "long\n", "o": "o\n"}
LEFT_OUT = {"src/a.o": "x", "bin/.o.o": "x", ".git/config": "x", ".git/objects/12/34": "x", "src/deep/.git": "gitdir: x"}
EXECUTABLE = {"run.sh", "bin/tool"}
LINKS = {"bin/latest": "tool", "docs": "./src/deep", "dangling": "./nowhere", "src/up": "../README"}


def build(root, *, backwards, mtime, strict):
    root.mkdir(parents=True)
    every = sorted({**FILES, **LEFT_OUT}.items(), reverse=backwards)
    for name, text in every:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    for name, target in sorted(LINKS.items(), reverse=backwards):
        (root / name).symlink_to(target)
    (root / "empty" / "inner").mkdir(parents=True)
    for name, _ in every:
        on = name in EXECUTABLE
        os.chmod(root / name, (0o700 if on else 0o600) if strict else (0o775 if on else 0o664))
    for folder, _, names in os.walk(root):
        os.chmod(folder, 0o700 if strict else 0o2775)
    if strict:
        for path in root.rglob("*"):
            os.chown(path, 1234, 4321, follow_symlinks=False)
    for path in [*root.rglob("*"), root]:
        os.utime(path, (mtime, mtime), follow_symlinks=False)


def pack(src, version, out, *, umask=0o022, cwd="/", **env):
    def prepare():
        os.umask(umask)
    return subprocess.run(["bash", "/app/pack.sh", src, version, out], cwd=cwd, capture_output=True, text=True, timeout=15,
                          preexec_fn=prepare, env={**os.environ, "SOURCE_DATE_EPOCH": str(EPOCH), **env})


class ReproducibleTarball(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.base = pathlib.Path(tempfile.mkdtemp())
        cls.one, cls.two = cls.base / "one", cls.base / "second place" / "source tree"
        build(cls.one, backwards=False, mtime=1_000_000_000, strict=False)
        build(cls.two, backwards=True, mtime=1_600_000_001, strict=True)
        cls.out = cls.base / "out.tar.gz"
        cls.done = pack(str(cls.one), "1.4.2", str(cls.out))

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.base, ignore_errors=True)

    def members(self, path=None):
        self.assertEqual(self.done.returncode, 0, self.done.stderr)
        with tarfile.open(path or self.out, "r:gz") as tar:
            found = [(m.name, m, tar.extractfile(m).read().decode() if m.isreg() else None) for m in tar]
        self.assertEqual(len({name for name, _, _ in found}), len(found), "a member is there twice")
        return {name: (m, text) for name, m, text in found}

    def test_has_the_right_members_and_contents(self):
        members = self.members()
        top = "widget-1.4.2"
        self.assertEqual({n: text for n, (m, text) in members.items() if m.isreg()},
                         {f"{top}/{n}": text for n, text in FILES.items()})
        self.assertEqual({n: m.linkname for n, (m, _) in members.items() if m.issym()},
                         {f"{top}/{n}": target for n, target in LINKS.items()})
        folders = {str(p) for n in [*FILES, "bin/x", "empty/inner/x"] for p in pathlib.PurePath(top, n).parents} - {"."}
        self.assertEqual({n for n, (m, _) in members.items() if m.isdir()}, folders)
        self.assertEqual(len(members), len(FILES) + len(LINKS) + len(folders))

    def test_metadata_is_normalised(self):
        for name, (member, _) in self.members().items():
            self.assertEqual(member.mtime, EPOCH, name)
            self.assertEqual((member.uid, member.gid), (0, 0), name)
            self.assertLessEqual({member.uname, member.gname}, {"", "root"}, name)
            if member.isdir() or name.removeprefix("widget-1.4.2/") in EXECUTABLE:
                self.assertEqual(oct(member.mode), oct(0o755), name)
            elif member.isreg():
                self.assertEqual(oct(member.mode), oct(0o644), name)

    def test_same_sources_give_the_same_bytes(self):
        self.members()
        wanted = self.out.read_bytes()
        for number, (src, cwd, umask) in enumerate(((str(self.two), "/", 0o077), ("source tree/", str(self.two.parent), 0o002),
                                                    (".", str(self.one), 0o027), ("../../one/", str(self.two), 0o022))):
            out = self.base / f"other name {number}.tgz"
            done = pack(src, "1.4.2", str(out), cwd=cwd, umask=umask)
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertEqual(out.read_bytes(), wanted, f"differs for SRC {src}")

    def test_other_sources_version_or_date_show_up(self):
        self.members()
        changed = self.base / "changed"
        shutil.copytree(self.one, changed, symlinks=True)
        (changed / "src/a.c").write_text("A\n")
        (changed / "README").chmod(0o744)
        out = self.base / "changed.tar.gz"
        self.assertEqual(pack(str(changed), "2.0", str(out), SOURCE_DATE_EPOCH="42").returncode, 0)
        members = self.members(out)
        self.assertEqual(members["widget-2.0/src/a.c"][1], "A\n")
        self.assertEqual(members["widget-2.0/README"][0].mode, 0o755)
        self.assertEqual({m.mtime for m, _ in members.values()}, {42})
        self.assertNotEqual(pack(str(self.base / "absent"), "1", str(self.base / "no.tar.gz")).returncode, 0)


if __name__ == "__main__":
    unittest.main(verbosity=2)
