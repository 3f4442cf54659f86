import json
import os
import shutil
import subprocess
import sys
import tempfile
import unittest

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from generate import generate, write  # noqa: E402


class IncidentTimeline(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.base = tempfile.mkdtemp()
        cls.wanted, cls.got = [], []
        for seed in (101, 202, 303, 404):
            files, records = generate(seed)
            folder = os.path.join(cls.base, f"logs of {seed}")
            write(folder, files)
            done = subprocess.run(["/app/incidents", folder], capture_output=True, text=True, timeout=20, cwd="/")
            if done.returncode != 0:
                raise AssertionError(f"/app/incidents failed with {done.returncode}: {done.stderr[-2000:]}")
            cls.wanted.append(records)
            cls.got.append([json.loads(line) for line in done.stdout.splitlines()])

    @classmethod
    def tearDownClass(cls):
        shutil.rmtree(cls.base, ignore_errors=True)

    def same(self, *keys):
        for wanted, got in zip(self.wanted, self.got):
            self.assertEqual({r["request"]: [r[k] for k in keys] for r in got},
                             {r["request"]: [r[k] for k in keys] for r in wanted})

    def test_failed_requests_are_found_in_the_right_order_and_form(self):
        for wanted, got in zip(self.wanted, self.got):
            self.assertEqual([r["request"] for r in got], [r["request"] for r in wanted])
            for record in got:
                self.assertEqual(set(record), {"request", "start", "duration_ms", "status", "path", "cause", "gap"})

    def test_start_duration_status_and_path(self):
        self.same("start", "duration_ms", "status", "path")

    def test_cause_is_that_of_the_latest_error(self):
        self.same("cause")

    def test_gap_is_measured_in_true_time(self):
        self.same("gap")


if __name__ == "__main__":
    unittest.main(verbosity=2)
