import io
import os
import pathlib
import shutil
import signal
import subprocess
import tarfile
import tempfile
import time
import unittest

SCRIPT = "/app/deploy.sh"


class DeployScript(unittest.TestCase):
    def setUp(self):
        self.base = pathlib.Path(tempfile.mkdtemp(prefix="deploy "))
        self.addCleanup(shutil.rmtree, self.base, ignore_errors=True)
        self.root = self.base / "the site"
        self.root.mkdir()
        self.clock = 1_700_000_000

    def artifact(self, rid, *, pre=None, post=None, damage=False, hook_mode=0o755):
        path = self.base / "in box" / f"{rid}.tar.gz"
        path.parent.mkdir(exist_ok=True)
        self.clock -= 5000  # each later release looks older by its time stamps
        with tarfile.open(path, "w:gz") as tar:
            for name, text, mode in (("./", None, 0o755), ("./index.html", f"this is {rid}\n", 0o644),
                                     ("./hooks/", None, 0o755), ("./hooks/pre-activate", pre, hook_mode),
                                     ("./hooks/post-activate", post, hook_mode)):
                info = tarfile.TarInfo(name)
                info.mtime, info.mode = self.clock, mode
                if name.endswith("/"):
                    info.type = tarfile.DIRTYPE
                    tar.addfile(info)
                elif text is not None:
                    data = (text if name.endswith("html") else "#!/bin/bash\n" + text + "\n").encode()
                    info.size = len(data)
                    tar.addfile(info, io.BytesIO(data))
        if damage:  # every file comes out, but the checksum at the end is wrong
            data = bytearray(path.read_bytes())
            data[-8] ^= 0xFF
            path.write_bytes(data)
        return path

    def deploy(self, artifact, root=None, cwd="/"):
        return subprocess.run(["bash", SCRIPT, str(root or self.root), str(artifact)], stdin=subprocess.DEVNULL,
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=20, cwd=cwd).returncode

    def log(self):
        path = self.root / "deploy.log"
        return path.read_text().splitlines() if path.exists() else []

    def releases(self):
        path = self.root / "releases"
        return sorted(os.listdir(path)) if path.exists() else []

    def current(self):
        path = self.root / "current"
        return os.readlink(path) if os.path.lexists(path) else None

    def wait_for(self, path):
        deadline = time.monotonic() + 8
        while not path.exists():
            self.assertLess(time.monotonic(), deadline, f"{path.name} did not appear")
            time.sleep(0.01)

    def test_current_follows_each_deploy_and_hooks_run_in_the_release(self):
        hook = 'echo "{} $RELEASE_ID $(cat index.html) $(readlink ../../current)" >> ../../trace'
        one = self.artifact("shop-1.9", pre=hook.format("pre"), post=hook.format("post"))
        two = self.artifact("shop-1.10", pre=hook.format("pre"), post=hook.format("post"))
        self.assertEqual(self.deploy("in box/shop-1.9.tar.gz", "the site", cwd=self.base), 0)
        self.assertEqual(self.deploy("../in box/shop-1.10.tar.gz", ".", cwd=self.root), 0)
        self.assertEqual(self.current(), "releases/shop-1.10")
        self.assertEqual((self.root / "current" / "index.html").read_text(), "this is shop-1.10\n")
        self.assertEqual(sorted(os.listdir(self.root / "releases" / "shop-1.9")), ["hooks", "index.html"])
        self.assertEqual((self.root / "trace").read_text().splitlines(), [
            "pre shop-1.9 this is shop-1.9 ", "post shop-1.9 this is shop-1.9 releases/shop-1.9",
            "pre shop-1.10 this is shop-1.10 releases/shop-1.9", "post shop-1.10 this is shop-1.10 releases/shop-1.10"])
        self.assertEqual(self.log(), ["shop-1.9 ok", "shop-1.10 ok"])
        # Already there, and wrong usage: nothing changes.
        self.assertEqual(self.deploy(one), 3)
        self.assertEqual(self.deploy(self.base / "absent.tar.gz"), 2)
        self.assertEqual(self.deploy(two, self.base / "nowhere"), 2)
        self.assertEqual((self.current(), self.log()), ("releases/shop-1.10", ["shop-1.9 ok", "shop-1.10 ok"]))
        # A hook without the execute bit is skipped.
        self.assertEqual(self.deploy(self.artifact("plain", pre="exit 1", post="exit 1", hook_mode=0o644)), 0)
        self.assertEqual(self.current(), "releases/plain")

    def test_damaged_archive_or_failing_pre_hook_leaves_current_alone(self):
        self.assertEqual(self.deploy(self.artifact("a1", damage=True)), 4)
        self.assertEqual((self.current(), self.releases(), self.log()), (None, [], ["a1 failed"]))
        self.assertEqual(self.deploy(self.artifact("a2")), 0)
        self.assertEqual(self.deploy(self.artifact("a3", pre="echo broken; exit 9", post="touch ../../ran")), 4)
        self.assertEqual(self.deploy(self.artifact("a4", damage=True)), 4)
        self.assertEqual((self.current(), self.releases()), ("releases/a2", ["a2"]))
        self.assertEqual(self.log(), ["a1 failed", "a2 ok", "a3 failed", "a4 failed"])
        self.assertFalse((self.root / "ran").exists())
        self.assertEqual(self.deploy(self.artifact("a3")), 0)
        self.assertEqual(self.current(), "releases/a3")

    def test_failing_post_hook_rolls_back(self):
        self.assertEqual(self.deploy(self.artifact("b1", post="exit 1")), 4)
        self.assertEqual((self.current(), self.releases()), (None, []))
        for rid in ("b2", "b3", "b4"):
            self.assertEqual(self.deploy(self.artifact(rid)), 0)
        self.assertEqual(self.deploy(self.artifact("b5", post="readlink ../../current > ../../seen; exit 3")), 4)
        self.assertEqual((self.root / "seen").read_text(), "releases/b5\n")
        self.assertEqual((self.current(), self.releases()), ("releases/b4", ["b2", "b3", "b4"]))
        self.assertEqual((self.root / "current" / "index.html").read_text(), "this is b4\n")
        self.assertEqual(sorted(os.listdir(self.root / "releases" / "b4")), ["hooks", "index.html"])
        self.assertEqual(self.log(), ["b1 failed", "b2 ok", "b3 ok", "b4 ok", "b5 failed"])

    def test_the_three_releases_deployed_last_stay(self):
        for rid in ("v9", "v10", "v2", "v30"):
            self.assertEqual(self.deploy(self.artifact(rid)), 0)
        self.assertEqual(self.releases(), ["v10", "v2", "v30"])
        self.assertEqual(self.deploy(self.artifact("v9")), 0)  # deployed a second time: it is the newest now
        self.assertEqual(self.releases(), ["v2", "v30", "v9"])
        self.assertEqual(self.deploy(self.artifact("v0", pre="exit 1")), 4)
        self.assertEqual(self.deploy(self.artifact("v1")), 0)
        self.assertEqual(self.deploy(self.artifact("v11")), 0)
        self.assertEqual((self.releases(), self.current()), (["v1", "v11", "v9"], "releases/v11"))

    def test_second_deploy_is_refused_and_a_killed_deploy_leaves_no_lock(self):
        self.assertEqual(self.deploy(self.artifact("c1")), 0)
        slow = self.artifact("c2", pre="touch ../../started; for i in $(seq 600); do sleep 0.05; done")
        first = subprocess.Popen(["bash", SCRIPT, str(self.root), str(slow)], stdin=subprocess.DEVNULL,
                                 stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        try:
            self.wait_for(self.root / "started")
            before = self.releases(), self.log(), self.current()
            self.assertEqual(self.deploy(self.artifact("c3")), 5)
            self.assertEqual((self.releases(), self.log(), self.current()), before)
        finally:
            os.killpg(first.pid, signal.SIGKILL)
            first.wait(timeout=20)
        self.assertEqual(self.deploy(self.base / "in box" / "c3.tar.gz"), 0)
        self.assertEqual(self.current(), "releases/c3")

    def test_background_process_of_a_hook_does_not_keep_the_lock(self):
        post = "setsid sleep 30 < /dev/null > /dev/null 2>&1 &\necho $! > ../../pid"
        try:
            self.assertEqual(self.deploy(self.artifact("d1", post=post)), 0)
            self.wait_for(self.root / "pid")
            self.assertEqual(self.deploy(self.artifact("d2")), 0)
            self.assertEqual(self.current(), "releases/d2")
        finally:
            if (self.root / "pid").exists():
                try:
                    os.kill(int((self.root / "pid").read_text()), signal.SIGKILL)
                except ProcessLookupError:
                    pass


if __name__ == "__main__":
    unittest.main(verbosity=2)
