import os
import subprocess
import unittest

REPO = "/app/payments"
KEY = b"pk9-LIVE-7f3c21d8e604"
# The refs of the repository that results when the same history is made with the word REDACTED in place of the key.
BRANCHES = {
    "refs/heads/main": "fc6692e6bd40b895a932d8e95d4c50a431018a3e",
    "refs/heads/release/1.x": "fff62aa7d7c5f93b0a56575b0cf68db412c91f83",
    "refs/heads/feature/refunds": "1288b0033906a0470be38493f68f3192e446088c",
    "refs/heads/pages": "4429fbea42bab48db7755f1d74353e38faf90870",
}
TAGS = {
    "refs/tags/v1.0": "d6c706b44dfb081cfa4589cad804393f4922f693",
    "refs/tags/v1.1": "0185db0242c7c5a05a12d752610b4b7a69b24f8f",
    "refs/tags/v1.1.1": "fff62aa7d7c5f93b0a56575b0cf68db412c91f83",
    "refs/tags/v1.2": "83ed1d6146bbd2149bc213878f5bf61850598503",
}
ENV = {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "LC_ALL": "C", "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1"}


def git(*args, code=(0,)):
    done = subprocess.run(["git", "-c", "safe.directory=*", "-C", REPO, *args], env=ENV, capture_output=True, timeout=30)
    if done.returncode not in code:
        raise AssertionError(f"git {args} failed: {done.stderr!r}")
    return done.stdout


class PurgeLeakedKey(unittest.TestCase):
    maxDiff = None

    def history(self):
        log = git("log", "--branches", "--tags", "--name-status", "--format=%H %P%n%an <%ae> %ad%n%cn <%ce> %cd%n%B")
        return log.decode("utf-8", "backslashreplace")[:6000]

    def refs(self, prefix=""):
        lines = git("for-each-ref", "--format=%(refname) %(objectname)").decode().splitlines()
        return {name: value for name, value in map(str.split, lines) if name.startswith(prefix)}

    def test_branches_have_exactly_the_redacted_history(self):
        self.assertEqual(self.refs("refs/heads/"), BRANCHES, "the history is:\n" + self.history())

    def test_tags_keep_their_kind_tagger_date_and_redacted_message(self):
        self.assertEqual(self.refs("refs/tags/"), TAGS)

    def test_no_other_refs_and_an_intact_repository(self):
        self.assertEqual(set(self.refs()), set(BRANCHES) | set(TAGS))
        git("fsck", "--full", "--strict")

    def test_no_object_holds_the_key(self):
        data = git("cat-file", "--batch-all-objects", "--batch", "--unordered")
        self.assertGreater(len(data), 1000)
        self.assertEqual(data.count(KEY), 0, "objects with the key are left")

    def test_no_file_holds_the_key(self):
        for base, _, names in os.walk(REPO):
            for name in names:
                path = os.path.join(base, name)
                if os.path.isfile(path) and not os.path.islink(path):
                    with open(path, "rb") as f:
                        self.assertNotIn(KEY, f.read(), path)

    def test_main_is_checked_out_and_clean(self):
        self.assertEqual(git("symbolic-ref", "HEAD").strip(), b"refs/heads/main")
        self.assertEqual(git("status", "--porcelain", "--ignored"), b"")
        with open(f"{REPO}/docs/runbook.txt", "rb") as f:
            self.assertEqual(f.read(), b'curl -H "Authorization: REDACTED" https://gw.example.com/ping\n'
                                       b"# again: REDACTEDREDACTED\nGr\xfc\xdfe\n")


if __name__ == "__main__":
    unittest.main(verbosity=2)
