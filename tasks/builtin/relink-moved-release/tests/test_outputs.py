import os
import stat
import subprocess
import tempfile
import unittest

SITE = "/app/site"

# link -> path below the site root that it must lead to
REPAIRED = {
    "current": "releases/2024-06-18",
    "previous": "releases/2024-06-03",
    "releases/2024-06-18/config/app.conf": "shared/app.conf",
    "releases/2024-06-18/public/uploads": "shared/uploads",
    "releases/2024-06-03/public/uploads": "shared/uploads",
    "releases/2024-06-18/public/assets/logo 2024.svg": "shared/press kit/logo 2024.svg",
    "releases/2024-06-18/log": "shared/log",
    "bin/root": ".",
    "shared/press kit/live page": "releases/2024-06-18/public",
}
PRUNED = {
    "releases/2024-06-03/cache.db": "/srv/www/site/shared/cache.db",
    "releases/rollback": "/srv/www/site/releases/2024-05-02",
}
UNTOUCHED = {
    "bin/app.log": "../shared/log/app.log",
    "releases/2024-06-03/public/theme.css": "../../missing/theme.css",
    "backup.tar": "/srv/www/site-backup/2024-06-01.tar",
    "bin/python": "/usr/bin/python3",
    "shared/legacy.conf": "/opt/legacy/srv/www/site/old.conf",
}
FILES = {
    "releases/2024-06-03/public/index.html": "<h1>June 3</h1>\n",
    "releases/2024-06-18/public/index.html": "<h1>June 18</h1>\n",
    "releases/2024-06-18/public/assets/site.css": "body { margin: 0 }\n",
    "shared/app.conf": "workers = 4\n",
    "shared/press kit/logo 2024.svg": "logo v2\n",
    "shared/uploads/photo-1.txt": "upload 1\n",
    "shared/log/app.log": "started\n",
    "bin/deploy": "#!/bin/sh\necho deploy\n",
}
FOLDERS = {
    "bin", "releases", "releases/2024-06-03", "releases/2024-06-03/public", "releases/2024-06-18",
    "releases/2024-06-18/config", "releases/2024-06-18/public", "releases/2024-06-18/public/assets",
    "shared", "shared/log", "shared/press kit", "shared/uploads",
}


class RelinkMovedRelease(unittest.TestCase):
    def check_leads_to(self, root):
        for link, target in REPAIRED.items():
            path = os.path.join(root, link)
            self.assertTrue(os.path.islink(path), f"{link} is not a symbolic link")
            self.assertFalse(os.readlink(path).startswith("/"), f"{link} is absolute: {os.readlink(path)}")
            want = os.path.realpath(os.path.join(root, target))
            self.assertEqual(os.path.realpath(path), want, f"{link} leads to the wrong place")
            self.assertTrue(os.path.exists(path), f"{link} is broken")

    def test_moved_links_are_relative_and_work(self):
        self.check_leads_to(SITE)

    def test_links_survive_another_move(self):
        with tempfile.TemporaryDirectory() as tmp:
            root = os.path.join(os.path.realpath(tmp), "elsewhere")
            subprocess.run(["cp", "-a", SITE, root], check=True, timeout=20)
            self.check_leads_to(root)

    def test_links_to_pruned_targets_are_listed(self):
        with open("/app/dead-links.txt") as f:
            self.assertEqual(f.read().splitlines(), sorted(PRUNED))

    def test_other_links_are_untouched(self):
        for link, target in {**UNTOUCHED, **PRUNED}.items():
            path = os.path.join(SITE, link)
            self.assertTrue(os.path.islink(path), f"{link} is not a symbolic link")
            self.assertEqual(os.readlink(path), target, f"{link} was changed")

    def test_files_and_folders_are_unchanged(self):
        links, files, folders = set(), {}, set()
        for base, dirs, names in os.walk(SITE):
            for name in dirs + names:
                path = os.path.join(base, name)
                short = os.path.relpath(path, SITE)
                mode = os.lstat(path).st_mode
                if stat.S_ISLNK(mode):
                    links.add(short)
                elif stat.S_ISDIR(mode):
                    folders.add(short)
                else:
                    with open(path) as f:
                        files[short] = f.read()
        self.assertEqual(files, FILES)
        self.assertEqual(folders, FOLDERS)
        self.assertEqual(links, set(REPAIRED) | set(UNTOUCHED) | set(PRUNED))
        self.assertEqual(stat.S_IMODE(os.lstat(f"{SITE}/bin/deploy").st_mode), 0o755)


if __name__ == "__main__":
    unittest.main(verbosity=2)
