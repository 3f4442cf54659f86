import os
import subprocess
import unittest

REPO = "/app/ledger"
MAIN = "69920e5743c37ab36565b9953ee2a0d4967cdd9f"
TIP = "440d3e9623365dbfe514d207ac6f1993b45d432c"
STASH = "a6e9f93699915375c5c3849682302543aa73e905"
ENV = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "LC_ALL": "C", "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1"}


def git(*args):
    done = subprocess.run(["git", "-c", "safe.directory=*", "-C", REPO, *args], env=ENV, capture_output=True, text=True, timeout=20)
    if done.returncode:
        raise AssertionError(f"git {args} failed: {done.stderr}")
    return done.stdout


class RecoverLostBranch(unittest.TestCase):
    def test_branch_points_to_the_final_commit(self):
        self.assertEqual(git("rev-parse", "refs/heads/feature/export").strip(), TIP)
        subjects = git("log", "--format=%s", f"{TIP}", "--not", "main").splitlines()
        self.assertEqual(subjects, ["export: write totals row", "export: write CSV", "export: add module"])

    def test_stash_is_the_original_commit_with_its_message(self):
        self.assertEqual(git("rev-parse", "refs/stash").strip(), STASH)
        self.assertEqual(git("stash", "list"), "stash@{0}: On main: wip locale settings\n")

    def test_no_other_refs(self):
        refs = dict(line.split() for line in git("for-each-ref", "--format=%(refname) %(objectname)").splitlines())
        self.assertEqual(refs, {"refs/heads/main": MAIN, "refs/heads/feature/export": TIP, "refs/stash": STASH})

    def test_main_is_checked_out_and_clean(self):
        self.assertEqual(git("symbolic-ref", "HEAD").strip(), "refs/heads/main")
        self.assertEqual(git("rev-parse", "HEAD").strip(), MAIN)
        self.assertEqual(git("status", "--porcelain", "--ignored"), "")


if __name__ == "__main__":
    unittest.main(verbosity=2)
