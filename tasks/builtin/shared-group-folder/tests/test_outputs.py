import grp
import os
import stat
import subprocess
import unittest

ROOT = "/app/shared"
DEVS = 3000
ALICE, BOB, CAROL = 3001, 3002, 3003
# path -> (uid, mode, content)
FILES = {
    "reports/2024/q1.csv": (ALICE, 0o770, "q1\n"),
    "reports/2024/q2.csv": (ALICE, 0o660, "q2\n"),
    "meeting notes/2024-05 agenda.md": (BOB, 0o660, "agenda\n"),
    "tools/build.sh": (BOB, 0o770, "#!/bin/sh\necho built\n"),
    "tools/run-tests": (0, 0o770, "#!/bin/sh\necho tested\n"),
    "tools/not-a-program-any-more": (0, 0o660, "#!/bin/sh\necho old\n"),
    "drop/-incoming/-x.dat": (CAROL, 0o660, "raw\n"),
    ".cache/index": (BOB, 0o660, "cached\n"),
    ".cache/lock": (0, 0o660, ""),
}
FOLDERS = {".": 0, "reports": ALICE, "reports/2024": ALICE, "tools": 0, "meeting notes": BOB, "drop": 0, "drop/-incoming": 0, ".cache": 0}
LINKS = {"notice.txt": "/app/public/notice.txt", "archive": "/app/public/archive", "reports/latest.csv": "2024/q2.csv"}
OUTSIDE = {"/app/public/notice.txt": (0, 0, 0o604), "/app/public/archive": (0, 0, 0o705), "/app/public/archive/2019.txt": (0, 0, 0o644),
           "/app/public": (0, 0, 0o755)}


def run_as(uid, *command):
    groups = [DEVS] if uid in (ALICE, BOB) else []
    return subprocess.run(command, user=uid, group=uid, extra_groups=groups, umask=0o002, cwd="/", capture_output=True, text=True, timeout=20)


class SharedGroupFolder(unittest.TestCase):
    def test_regular_files_have_the_right_owner_group_mode_and_content(self):
        for name, (uid, mode, content) in FILES.items():
            with self.subTest(name):
                st = os.lstat(f"{ROOT}/{name}")
                self.assertTrue(stat.S_ISREG(st.st_mode))
                self.assertEqual((st.st_uid, st.st_gid, oct(stat.S_IMODE(st.st_mode))), (uid, DEVS, oct(mode)))
                with open(f"{ROOT}/{name}") as f:
                    self.assertEqual(f.read(), content)

    def test_folders_are_2770_and_belong_to_the_group(self):
        for name, uid in FOLDERS.items():
            with self.subTest(name):
                st = os.lstat(f"{ROOT}/{name}")
                self.assertEqual((st.st_uid, st.st_gid, oct(stat.S_IMODE(st.st_mode))), (uid, DEVS, oct(0o2770)))

    def test_links_and_what_they_lead_to_are_untouched(self):
        for name, target in LINKS.items():
            self.assertEqual(os.readlink(f"{ROOT}/{name}"), target)
        for path, want in OUTSIDE.items():
            st = os.lstat(path)
            self.assertEqual((st.st_uid, st.st_gid, stat.S_IMODE(st.st_mode)), want, path)

    def test_members_can_work_together(self):
        self.assertEqual(grp.getgrgid(DEVS).gr_name, "devs")
        # That new files inherit the group is what the setgid bit of the folders does (checked above);
        # it isn't tried here, as some overlay file systems don't do it.
        path = f"{ROOT}/meeting notes/new by alice.txt"
        self.addCleanup(lambda: os.path.exists(path) and os.unlink(path))
        made = run_as(ALICE, "sh", "-c", 'echo one > "$1"', "sh", path)
        self.assertEqual(made.returncode, 0, made.stderr)
        opened = run_as(BOB, "sh", "-c", ': >> "$1" && cat "$1"', "sh", f"{ROOT}/reports/2024/q2.csv")
        self.assertEqual((opened.returncode, opened.stdout), (0, "q2\n"), opened.stderr)
        built = run_as(ALICE, f"{ROOT}/tools/build.sh")
        self.assertEqual((built.returncode, built.stdout), (0, "built\n"), built.stderr)

    def test_others_are_kept_out(self):
        for command in (["ls", ROOT], ["cat", f"{ROOT}/tools/run-tests"], ["cat", f"{ROOT}/drop/-incoming/-x.dat"]):
            self.assertNotEqual(run_as(CAROL, *command).returncode, 0, f"carol can run {command}")


if __name__ == "__main__":
    unittest.main(verbosity=2)
