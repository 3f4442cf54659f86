import os
import shutil
import stat
import subprocess
import tempfile
import unittest

SCRIPT = "/app/applyperms.py"
RELAY, AGENT = 2100, 2101


class PermissionManifest(unittest.TestCase):
    maxDiff = None

    def setUp(self):
        self.addCleanup(os.umask, os.umask(0o022))
        self.tmp = tempfile.mkdtemp(prefix="perm-", dir="/app")
        self.addCleanup(shutil.rmtree, self.tmp, True)
        self.root = os.path.join(self.tmp, "root")
        self.mkdir(".")

    def mkdir(self, name, mode=0o755, uid=0, gid=0):
        path = os.path.join(self.root, name)
        os.makedirs(path, exist_ok=True)
        os.chown(path, uid, gid)
        os.chmod(path, mode)

    def put(self, name, mode=0o644, uid=0, gid=0, base=None):
        path = os.path.join(base or self.root, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w") as f:
            f.write("content of " + name)
        os.chown(path, uid, gid)
        os.chmod(path, mode)
        return path

    def state(self):
        found = {}
        for base, dirs, names in os.walk(self.tmp):
            for name in [*dirs, *names, "."]:
                st = os.lstat(os.path.join(base, name))
                path = os.path.relpath(os.path.join(base, name), self.root)
                found[path] = (oct(stat.S_IMODE(st.st_mode)), st.st_uid, st.st_gid)
        return found

    def write(self, manifest):
        path = os.path.join(self.tmp, "manifest")
        with open(path, "w") as f:
            f.write(manifest)
        os.chmod(path, 0o644)
        return path

    def tool(self, manifest, *options, code=0, root=None):
        path = self.write(manifest) if manifest is not None else os.path.join(self.tmp, "manifest")
        done = subprocess.run(["python3", SCRIPT, *options, path, root or self.root], capture_output=True, text=True, timeout=20, cwd="/")
        self.assertEqual(done.returncode, code, f"exit status; stderr: {done.stderr}")
        return done

    def check(self, manifest, want):
        """Applies the manifest; want holds the entries that must change, with their new state."""
        self.write("")
        before = self.state()
        lines = sorted(want)
        checked = self.tool(manifest, "--check", code=1 if want else 0)
        self.assertEqual(checked.stdout.splitlines(), lines)
        self.assertEqual(self.state(), before, "--check must not change anything")
        self.assertEqual(self.tool(manifest).stdout.splitlines(), lines)
        self.assertEqual(self.state(), {**before, **{name: (oct(mode), uid, gid) for name, (mode, uid, gid) in want.items()}})
        self.assertEqual(self.tool(manifest, "--check").stdout, "", "nothing must be left to do")

    def test_last_matching_line_decides_alone(self):
        self.put("bin/tool", 0o600)
        self.put("etc/app.conf", 0o666, RELAY, RELAY)
        self.put("etc/tls/key.pem", 0o644)
        self.put("etc/my notes.txt", 0o600)
        self.put("var/spool/job", 0o600)
        self.mkdir("var/spool", 0o700)
        self.check("""
# comment
  # indented comment
**                644/755   root:root
bin/*\t 0755 root:root
etc/**            640/750   root:relay
etc/my notes.txt  604  2101:-
etc/tls/*         -         -:-
var/spool         -   relay:2101
var/*             2771      -:relay
""", {
            "bin/tool": (0o755, 0, 0),
            "etc/app.conf": (0o640, 0, RELAY),
            "etc/tls": (0o750, 0, RELAY),
            "etc/my notes.txt": (0o604, AGENT, 0),
            "var/spool/job": (0o644, 0, 0),
            "var/spool": (0o2771, 0, RELAY),
        })

    def test_setuid_survives_a_change_of_owner(self):
        self.put("bin/ping", 0o755)
        self.put("bin/mail", 0o4755)
        self.put("bin/keep", 0o6755, AGENT, AGENT)
        self.put("bin/plain", 0o4755)
        manifest = "bin/ping 4750 relay:relay\nbin/mail 2755 root:relay\nbin/keep - root:root\nbin/plain 755 root:root"
        self.check(manifest, {
            "bin/ping": (0o4750, RELAY, RELAY),
            "bin/mail": (0o2755, 0, RELAY),
            "bin/keep": (0o6755, 0, 0),
            "bin/plain": (0o755, 0, 0),
        })
        self.assertEqual(self.tool(manifest).stdout, "", "a second run must not change anything")

    def test_patterns(self):
        for name in (".hidden", "a.txt", "axtxt", "d/.hidden", "d/a.txt", "d/e/a.txt", "x[1].log", "x1.log", "w/1", "w/12", "w/.3"):
            self.put(name, 0o600)
        self.check("*.txt 611 -:-\nd/** 622/755 -:-\nx[1].log 633 -:-\nw/? 644 -:-\nw/.* 655 -:-\n**hidden 666 -:-\n. 711 relay:-\n", {
            ".": (0o711, RELAY, 0),
            ".hidden": (0o666, 0, 0),
            "a.txt": (0o611, 0, 0),
            "d/.hidden": (0o666, 0, 0),
            "d/a.txt": (0o622, 0, 0),
            "d/e/a.txt": (0o622, 0, 0),
            "x[1].log": (0o633, 0, 0),
            "w/1": (0o644, 0, 0),
            "w/.3": (0o655, 0, 0),
        })

    def test_links_and_special_files_are_left_alone(self):
        self.put("real.txt", 0o600)
        outside = os.path.join(self.tmp, "outside")
        self.put("file", 0o604, base=outside)
        os.symlink(os.path.join(outside, "file"), f"{self.root}/filelink")
        os.symlink(outside, f"{self.root}/dirlink")
        os.symlink("missing", f"{self.root}/dangling")
        os.mkfifo(f"{self.root}/fifo", 0o600)
        self.check("** 640/750 relay:relay\n", {
            "real.txt": (0o640, RELAY, RELAY),
            ".": (0o750, RELAY, RELAY),
        })

    def test_errors_are_found_before_anything_changes(self):
        self.put("a", 0o600)
        self.write("")
        before = self.state()
        good = "# first\n** 640/750 relay:relay\n\n"
        for bad in ("a 0640", "a 0680 root:root", "a 64 root:root", "a 640/ root:root", "a u+x root:root", "a 640 root",
                    "a 640 nobody-here:root", "a 640 root:nobody-here"):
            with self.subTest(bad):
                done = self.tool(good + bad + "\n. 700 root:root\n", code=2)
                self.assertEqual(done.stdout, "")
                self.assertIn("line 4", done.stderr)
                self.assertEqual(self.state(), before)
        self.assertNotEqual(self.tool(good, code=2, root=f"{self.root}/a").stderr, "")
        os.unlink(f"{self.tmp}/manifest")
        self.assertNotEqual(self.tool(None, code=2).stderr, "")


if __name__ == "__main__":
    unittest.main(verbosity=2)
