import math
import os
import random
import shutil
import subprocess
import tempfile
import unittest


class StaticLinkErrors(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.tree = os.path.join(tempfile.mkdtemp(), "checkout")
        shutil.copytree("/app", cls.tree, symlinks=True, ignore=shutil.ignore_patterns("build", "bin", "*.o", "*.a", ".git"))
        cls.made = subprocess.run(["make", "-j4"], cwd=cls.tree, capture_output=True, text=True, timeout=20)

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(os.path.dirname(cls.tree), ignore_errors=True)

    def polygon(self, points, *args, program=None):
        text = "".join(f"{x} {y}\n" for x, y in points)
        return subprocess.run([program or f"{self.tree}/bin/polygon", *args], input=text, capture_output=True, text=True,
                              timeout=20)

    def test_fresh_copy_builds_with_make(self):
        self.assertEqual(self.made.returncode, 0, self.made.stderr)
        for name in ("bin/polygon", "build/libvec.a", "build/libgeom.a"):
            self.assertTrue(os.path.isfile(f"{self.tree}/{name}"), name)
        with open(f"{self.tree}/bin/polygon", "rb") as file:
            self.assertEqual(file.read(4), b"\x7fELF")
        for library, symbol in (("vec", "vec_length"), ("geom", "polygon_area")):
            names = subprocess.run(["nm", "--defined-only", f"{self.tree}/build/lib{library}.a"], capture_output=True,
                                   text=True, timeout=20).stdout
            self.assertIn(f" T {symbol}\n", names)

    def test_clean_and_make_builds_again(self):
        tree = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, tree, ignore_errors=True)
        shutil.copytree(self.tree, tree, symlinks=True, dirs_exist_ok=True)
        for command in (["make", "clean"], ["make"]):
            done = subprocess.run(command, cwd=tree, capture_output=True, text=True, timeout=20)
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertEqual(os.path.exists(f"{tree}/bin/polygon"), command == ["make"])
        square = [(0, 0), (3, 0), (3, 3), (0, 3)]
        self.assertEqual(self.polygon(square, program=f"{tree}/bin/polygon").stdout, "perimeter 12.00\narea 9.00\n")

    def test_program_uses_the_library_sources(self):
        tree = tempfile.mkdtemp()
        self.addCleanup(shutil.rmtree, tree, ignore_errors=True)
        shutil.copytree(self.tree, tree, symlinks=True, dirs_exist_ok=True, ignore=shutil.ignore_patterns("build", "bin"))
        with open(f"{tree}/src/vec.c", "a") as file:
            file.write("\n__attribute__((constructor)) static void hello(void) { extern int puts(const char *); puts(\"from vec.c\"); }\n")
        done = subprocess.run(["make"], cwd=tree, capture_output=True, text=True, timeout=20)
        self.assertEqual(done.returncode, 0, done.stderr)
        out = self.polygon([(0, 0), (1, 0), (1, 1)], program=f"{tree}/bin/polygon").stdout
        self.assertEqual(out.count("from vec.c\n"), 1)

    def test_program_computes_and_its_settings_reach_every_part(self):
        rng = random.Random(5)
        for count, digits in ((3, 2), (7, 5), (40, 0)):
            points = [(rng.randint(-90, 90) / 4, rng.randint(-90, 90) / 4) for _ in range(count)]
            pairs = list(zip(points, points[1:] + points[:1]))
            edges = [math.hypot(b[0] - a[0], b[1] - a[1]) for a, b in pairs]
            area = abs(sum(a[0] * b[1] - b[0] * a[1] for a, b in pairs)) / 2
            args = ["-d", str(digits)] if digits != 2 else []
            quiet, loud = self.polygon(points, *args), self.polygon(points, "-v", *args)
            for done in (quiet, loud):
                self.assertEqual(done.returncode, 0)
                self.assertRegex(done.stdout, r"\Aperimeter [0-9.]+\narea [0-9.]+\n\Z")
                got = [line.split()[1] for line in done.stdout.splitlines()]
                self.assertLessEqual(abs(float(got[0]) - sum(edges)), 0.6 * 10 ** -digits)
                self.assertLessEqual(abs(float(got[1]) - area), 0.6 * 10 ** -digits)
            self.assertEqual(quiet.stderr, "")
            self.assertEqual(loud.stderr.splitlines(), [f"edge {i}: {edge:.{digits}f}" for i, edge in enumerate(edges)])

    def test_app_itself_is_built(self):
        self.assertEqual(self.polygon([(0, 0), (4, 0), (4, 3)], program="/app/bin/polygon").stdout,
                         "perimeter 12.00\narea 6.00\n")


if __name__ == "__main__":
    unittest.main(verbosity=2)
