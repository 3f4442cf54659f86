import os
import shutil
import signal
import subprocess
import tempfile
import unittest

RUNJOBS = "/app/runjobs"
# Waits until a file exists; fails after some seconds.
AWAIT = 'for i in $(seq 600); do [ -e %s ] && break; sleep 0.02; done; [ -e %s ]'


class LimitParallelJobs(unittest.TestCase):
    def setUp(self):
        self.dir = tempfile.mkdtemp(prefix="jobs-")
        self.addCleanup(shutil.rmtree, self.dir, True)
        self.out = os.path.join(self.dir, "new", "out")

    def path(self, name):
        return os.path.join(self.dir, name)

    def run_jobs(self, text, *options, code=0, stdin=b""):
        """Returns the lines of results.tsv."""
        with open(self.path("jobs"), "w") as f:
            f.write(text)
        # Output goes to a file: a pipe could be held open by what a job left behind.
        with open(self.path("output"), "w+b") as output:
            process = subprocess.Popen([RUNJOBS, *options, self.path("jobs"), self.out], stdin=subprocess.PIPE, stdout=output,
                                       stderr=output, cwd=self.dir, start_new_session=True)
            try:
                try:
                    process.stdin.write(stdin)
                    process.stdin.close()
                except BrokenPipeError:
                    pass
                got = process.wait(timeout=20)
            finally:
                try:
                    os.killpg(process.pid, signal.SIGKILL)
                except ProcessLookupError:
                    pass
                process.wait()
            output.seek(0)
            self.assertEqual(got, code, f"exit status; output: {output.read()!r}")
        if code == 2:
            return None
        with open(f"{self.out}/results.tsv") as f:
            return f.read().splitlines()

    def log(self, name):
        with open(f"{self.out}/{name}.log", "rb") as f:
            return f.read()

    def test_as_many_as_allowed_but_never_more(self):
        for name in ("running", "met"):
            os.mkdir(self.path(name))
        meet = ("mkdir running/%s; ls running | wc -l >> counts; touch met/%s;"
                " for i in $(seq 600); do [ $(ls met | wc -l) -ge 3 ] && break; sleep 0.02; done; ok=$(ls met | wc -l);"
                " sleep 0.05; rmdir running/%s; [ $ok -ge 3 ]")
        names = [f"j{n}" for n in range(9)]
        results = self.run_jobs("".join(f"{n}\t{meet % (n, n, n)}\n" for n in names), "-j", "3")
        self.assertEqual(results, [f"{n}\t0" for n in names], "the first three jobs have to run at the same time")
        with open(self.path("counts")) as f:
            counts = [int(line) for line in f]
        self.assertEqual(len(counts), 9)
        self.assertLessEqual(max(counts), 3)

    def test_a_free_slot_is_used_at_once(self):
        results = self.run_jobs("long\t" + AWAIT % ("last", "last") + "\na\ttrue\nb\ttrue\nc\ttrue\nlast\ttouch last\n", "-j", "2")
        self.assertEqual(results, ["long\t0", "a\t0", "b\t0", "c\t0", "last\t0"])

    def test_jobs_do_not_read_standard_input_and_all_lines_are_run(self):
        text = "# comment\tfalse\neat\tcat; echo out; echo err >&2; echo out\n\ntabs\tprintf '%s' 'a\tb' \"$PWD\"\n#x\nno newline\techo last"
        results = self.run_jobs(text, "-j", "1", stdin=b"from the terminal\n" * 50)
        self.assertEqual(results, ["eat\t0", "tabs\t0", "no newline\t0"])
        self.assertEqual(self.log("eat"), b"out\nerr\nout\n")
        self.assertEqual(self.log("tabs"), b"a\tb" + self.dir.encode())
        self.assertEqual(self.log("no newline"), b"last\n")
        self.assertEqual(sorted(os.listdir(self.out)), ["eat.log", "no newline.log", "results.tsv", "tabs.log"])

    def test_statuses_are_in_file_order_and_background_processes_do_not_hold_up(self):
        text = ("slow\t" + AWAIT % ("done", "done") + "; exit 3\nkilled\tkill -KILL $$\nterm\tkill -TERM $$\nunknown\tno-such-command-x\n"
                "left\tsleep 60 & echo started\nend\ttouch done\n")
        results = self.run_jobs(text, "-j", "2", code=1)
        self.assertEqual(results, ["slow\t3", "killed\t137", "term\t143", "unknown\t127", "left\t0", "end\t0"])
        self.assertEqual(self.log("left"), b"started\n")

    def test_fail_fast_skips_what_has_not_started(self):
        text = "slow\t" + AWAIT % ("bad", "bad") + "; sleep 0.2; echo finished\nbad\ttouch bad; exit 1\nthird\ttouch third\nfourth\ttouch fourth\n"
        results = self.run_jobs(text, "-j", "2", "--fail-fast", code=1)
        self.assertEqual(results, ["slow\t0", "bad\t1", "third\tskipped", "fourth\tskipped"])
        self.assertEqual(self.log("slow"), b"finished\n")
        self.assertEqual(sorted(os.listdir(self.out)), ["bad.log", "results.tsv", "slow.log"])
        self.assertFalse(os.path.exists(self.path("third")) or os.path.exists(self.path("fourth")))
        shutil.rmtree(self.path("new"))
        self.assertEqual(self.run_jobs(text, "-j", "2", code=1), ["slow\t0", "bad\t1", "third\t0", "fourth\t0"])

    def test_wrong_input_starts_nothing(self):
        first = "first\ttouch started\n"
        for text, *options in ((first, "-j", "0"), (first, "-j", "x"), (first, "-j", "-1"), (first,), (first + "no tab here\n", "-j", "1"),
                               (first + "\tfalse\n", "-j", "1"), (first + "../up\tfalse\n", "-j", "1"), (first + "first\tfalse\n", "-j", "1")):
            with self.subTest(text=text, options=options):
                self.run_jobs(text, *options, code=2)
                self.assertGreater(os.path.getsize(self.path("output")), 0, "a message is missing")
        self.assertFalse(os.path.exists(self.path("started")))


if __name__ == "__main__":
    unittest.main(verbosity=2)
