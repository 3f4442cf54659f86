import os
import pathlib
import shutil
import subprocess
import tempfile
import unittest

SCRIPT = "/app/prune-backups.sh"


def run(*args):
    return subprocess.run(["bash", SCRIPT, *map(str, args)], capture_output=True, text=True, timeout=20,
                          stdin=subprocess.DEVNULL, cwd="/")


class PruneBackups(unittest.TestCase):
    def setUp(self):
        self.base = pathlib.Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.base, ignore_errors=True)
        self.dir = self.base / "backup dir"
        self.dir.mkdir()

    def backup(self, label, *dates, checksum=False):
        """Older dates get newer time stamps, to show up sorting by time stamp."""
        for i, date in enumerate(sorted(dates, reverse=True)):
            path = self.dir / f"{label}_{date}.tar.gz"
            path.write_text(path.name)
            os.utime(path, (1_600_000_000 + i * 1000,) * 2)
            if checksum:
                (self.dir / (path.name + ".sha256")).write_text("x")

    def names(self):
        return sorted(str(p.relative_to(self.dir)) for p in self.dir.rglob("*"))

    def check(self, keep, gone, *, also_gone=()):
        before = self.names()
        dry = run("-n", self.dir, keep)
        self.assertEqual((dry.returncode, dry.stdout.splitlines()), (0, sorted(gone)), dry.stderr)
        self.assertEqual(self.names(), before, "-n changed the directory")
        real = run(self.dir, keep)
        self.assertEqual((real.returncode, real.stdout.splitlines()), (0, sorted(gone)), real.stderr)
        self.assertEqual(self.names(), sorted(set(before) - set(gone) - set(also_gone)))

    def test_each_label_keeps_its_newest_by_the_date_in_the_name(self):
        self.backup("web", "2024-01-31", "2023-12-30", "2024-02-01", "2022-05-05")
        self.backup("web-2", "2021-01-01", "2021-01-02", "2021-01-03")
        self.backup("web_eu", "2020-06-01", "2020-07-01")
        self.backup("Zeta", "2019-01-01", "2019-01-02", "2019-01-03")
        self.check(2, ["web_2023-12-30.tar.gz", "web_2022-05-05.tar.gz", "web-2_2021-01-01.tar.gz",
                       "Zeta_2019-01-01.tar.gz"])

    def test_odd_labels_are_handled(self):
        for label in ("mail server", "*", "[x]", "x", "-rf", "a  b", "$HOME`", "_", "per%cent\\n"):
            self.backup(label, "2024-03-01", "2024-03-02", "2023-11-11")
        gone = [f"{l}_{d}.tar.gz" for l in ("mail server", "*", "[x]", "x", "-rf", "a  b", "$HOME`", "_", "per%cent\\n")
                for d in ("2024-03-01", "2023-11-11")]
        self.check(1, gone)

    def test_checksums_go_with_their_backups_and_everything_else_stays(self):
        self.backup("db", "2024-03-01", "2024-03-02", checksum=True)
        self.backup("db", "2024-02-20")
        for name in ("notes_2024.tar.gz", "db_2024-3-01.tar.gz", "db_2024-01-01.tar.gz.part", "db_2024-01-01.tar.xz",
                     "_2024-01-01.tar.gz", "db-2024-01-01.tar.gz", "README", "db_2023-01-01.tar.gz.sha256",
                     "db_2024-01-01xtar.gz"):
            (self.dir / name).write_text("keep me")
        (self.dir / "db_2024-01-02.tar.gz").mkdir()
        (self.dir / "old").mkdir()
        (self.dir / "old" / "db_2020-01-01.tar.gz").write_text("keep me")
        (self.dir / "db_2025-01-01.tar.gz").symlink_to("README")
        self.check(1, ["db_2024-03-01.tar.gz", "db_2024-02-20.tar.gz"],
                   also_gone=["db_2024-03-01.tar.gz.sha256"])

    def test_keep_is_decimal_and_may_be_zero_or_more_than_there_are(self):
        days = [f"2024-05-{d:02}" for d in range(1, 12)]
        self.backup("db", *days)
        self.check("100", [])
        self.check("010", ["db_2024-05-01.tar.gz"])
        self.check("08", ["db_2024-05-02.tar.gz", "db_2024-05-03.tar.gz"])
        self.check("0", [f"db_{d}.tar.gz" for d in days[3:]])
        self.check("0", [])

    def test_wrong_usage_exits_2_and_deletes_nothing(self):
        self.backup("db", "2024-03-01", "2024-03-02")
        before = self.names()
        for args in ((), ("-n",), (self.dir,), ("-n", self.dir), (self.dir, 1, 1), (self.dir, ""), (self.dir, "-1"),
                     (self.dir, "1x"), (self.dir, "many"), (self.base / "absent", 1),
                     (self.dir / "db_2024-03-01.tar.gz", 1)):
            done = run(*args)
            self.assertEqual((done.returncode, done.stdout), (2, ""), args)
            self.assertTrue(done.stderr.strip(), args)
        self.assertEqual(self.names(), before)


if __name__ == "__main__":
    unittest.main(verbosity=2)
