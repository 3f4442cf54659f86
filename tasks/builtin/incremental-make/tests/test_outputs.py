import os
import pathlib
import shutil
import subprocess
import tempfile
import unittest

PRISTINE = pathlib.Path(__file__).with_name("pristine")  # everything but the Makefile


class IncrementalMake(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.base = pathlib.Path(tempfile.mkdtemp())
        fresh, built = cls.base / "fresh", cls.base / "built"
        shutil.copytree(PRISTINE, fresh)
        shutil.copy("/app/Makefile", fresh / "Makefile")
        for path in fresh.rglob("*"):
            os.utime(path, (1_600_000_000,) * 2)
        shutil.copytree(fresh, built)
        cls.first = subprocess.run(["make", "-j8"], cwd=built, capture_output=True, text=True, timeout=20)

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.base, ignore_errors=True)

    def start(self, state):
        """Work in a new copy of the fresh or the built tree; time stamps come along."""
        if state == "built":
            self.assertEqual(self.first.returncode, 0, self.first.stdout + self.first.stderr)
        self.tree = pathlib.Path(tempfile.mkdtemp(dir=self.base)) / "copy"
        shutil.copytree(self.base / state, self.tree)

    def make(self, *args, ok=True):
        done = subprocess.run(["make", *args], cwd=self.tree, capture_output=True, text=True, timeout=20)
        if ok:
            self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        else:
            self.assertNotEqual(done.returncode, 0, done.stdout + done.stderr)

    def lookup(self, *args):
        return subprocess.run(["./lookup", *args], cwd=self.tree, capture_output=True, text=True, timeout=20).stdout.splitlines()

    def age(self):
        """Make all files older by a while, so that what is written from now on is surely newer."""
        for path in self.tree.rglob("*"):
            if path.is_file():
                stat = path.stat()
                os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns - 100 * 10**9))

    def stamps(self):
        return {str(p.relative_to(self.tree)): (p.stat().st_mtime_ns, p.stat().st_ino) for p in self.tree.rglob("*") if p.is_file()}

    def rebuilt(self, *args):
        """The objects, and the program, that a make run writes."""
        self.age()
        for path in self.edited:
            os.utime(self.tree / path)
        before = self.stamps()
        self.make(*args)
        after = self.stamps()
        self.assertEqual(subprocess.run(["make", "-q"], cwd=self.tree, capture_output=True, timeout=20).returncode, 0)
        return sorted(n for n in after if after[n] != before.get(n) and (n.endswith(".o") or n == "lookup"))

    def change(self, path, text=None):
        if text is not None:
            (self.tree / path).write_text(text)
        self.edited = [path]

    def test_builds_from_scratch_also_in_parallel_and_then_does_nothing(self):
        self.start("built")
        self.assertEqual(self.lookup("40", "7", "x"), ["40 cancelled by the user", "7 unknown", "x not-a-number"])
        before = self.stamps()
        self.make()
        self.make("-q")
        self.assertEqual(self.stamps(), before)
        self.start("fresh")
        self.make("CFLAGS=-O0 -DMARK", "CC=gcc -DVIA_CC")
        self.assertEqual(self.lookup("11"), ["11 paused"])

    def test_header_change_rebuilds_exactly_its_users(self):
        self.start("built")
        self.change("include/limits.inc.h", "#define MAX_NUMBER 5\n")
        self.assertEqual(self.rebuilt(), ["build/main.o", "build/parse.o", "lookup"])
        self.assertEqual(self.lookup("123"), ["123 not-a-number"])
        self.change("include/lookup.h")
        self.assertEqual(self.rebuilt(), ["build/lookup.o", "build/main.o", "lookup"])
        self.change("src/lookup.c")
        self.assertEqual(self.rebuilt(), ["build/lookup.o", "lookup"])

    def test_includes_that_were_added_later_count(self):
        self.start("built")
        (self.tree / "include/extra.h").write_text("#define EXTRA \"one\"\n")
        (self.tree / "src/extra.c").write_text("#include \"extra.h\"\nconst char *extra(void) { return EXTRA; }\n")
        self.change("src/parse.c", "#include \"extra.h\"\n" + (self.tree / "src/parse.c").read_text())
        self.assertEqual(self.rebuilt("-j8"), ["build/extra.o", "build/parse.o", "lookup"])
        self.change("include/extra.h")
        self.assertEqual(self.rebuilt(), ["build/extra.o", "build/parse.o", "lookup"])
        # Then the header goes away again.
        for name in ("src/parse.c", "src/extra.c"):
            text = (self.tree / name).read_text().replace("#include \"extra.h\"\n", "").replace("EXTRA", "\"two\"")
            (self.tree / name).write_text(text)
        (self.tree / "include/extra.h").unlink()
        self.edited = ["src/parse.c", "src/extra.c"]
        self.assertEqual(self.rebuilt(), ["build/extra.o", "build/parse.o", "lookup"])

    def test_table_is_made_again_when_its_input_or_the_generator_changes(self):
        self.start("built")
        self.change("data/codes.txt", "10 begun\n77 lucky\n")
        self.assertEqual(self.rebuilt("-j8"), ["build/lookup.o", "lookup"])
        self.assertEqual(self.lookup("10", "77", "20"), ["10 begun", "77 lucky", "20 unknown"])
        script = (self.tree / "tools/gen-codes.sh").read_text()
        self.change("tools/gen-codes.sh", script.replace('\\"$text\\"', '\\"<$text>\\"'))
        self.assertEqual(self.rebuilt(), ["build/lookup.o", "lookup"])
        self.assertEqual(self.lookup("77"), ["77 <lucky>"])

    def test_failing_generator_keeps_failing_until_corrected(self):
        for state in ("fresh", "built"):
            self.start(state)
            self.age()
            good = (self.tree / "data/codes.txt").read_text()
            self.change("data/codes.txt", "10 begun\nbad line\n" + good)
            for _ in range(2):
                self.make("-j8", ok=False)
                table = self.tree / "build/codes_table.h"
                self.assertFalse(table.exists() and "};" not in table.read_text(), "half-written table left behind")
            self.change("data/codes.txt", good + f"99 corrected {state}\n")
            self.make("-j8")
            self.assertEqual(self.lookup("99", "11"), [f"99 corrected {state}", "11 paused"])

    def test_clean_removes_only_what_was_built(self):
        self.start("fresh")
        before = sorted(self.stamps())
        self.start("built")
        self.assertNotEqual(sorted(self.stamps()), before)
        for _ in range(2):
            self.make("clean")
            self.assertEqual(sorted(self.stamps()), before)
            self.assertFalse((self.tree / "build").exists())


if __name__ == "__main__":
    unittest.main(verbosity=2)
