import os
import stat
import unittest

CONF = "/app/conf"

RENAMED = {
    "application.properties": b"""# db.host = the machine that runs PostgreSQL
app.name=ledger
database.primary.host=pg-main.internal
db.host.port=5432
db.hosts=pg-main.internal,pg-standby.internal
replica.db.host=pg-standby.internal
dbxhost=legacy
DB.HOST=shouting
startup.message=set db.host=... before you start
""",
    "services/billing/billing.properties": b"database.primary.host = 10.1.4.20\r\ndb.user = billing\r\n"
    b"! db.host = 10.1.4.99\r\n  # db.host=off\r\nhint=db.host:see wiki\r\n",
    "services/report builder/report.properties": b"# Z\xfcrich, gepr\xfcft von Ren\xe9\n"
    b"\tdatabase.primary.host\t:\tzrh-db.internal\ndb-host=zrh-old.internal\noffice=Z\xfcrich",
    "env/test.properties": b"cache.ttl=30\ndatabase.primary.host: pg-test.internal",
    "env/production.properties": b"cache.ttl=300\ndatabase.primary.host=\ndatabase.primary.host   =pg-a=b:c\n",
}
UNTOUCHED = {
    "env/local.properties": b"cache.ttl=5\n",
    "env/production.properties.bak": b"db.host=pg-old.internal\n",
    "env/template.properties.in": b"db.host=@DB_HOST@\n",
    "README.md": b"Set db.host\n\ndb.host=example\n",
}


class RenamePropertyKey(unittest.TestCase):
    def test_key_is_renamed_and_every_other_byte_is_kept(self):
        for name, want in RENAMED.items():
            with self.subTest(name), open(f"{CONF}/{name}", "rb") as f:
                self.assertEqual(f.read(), want)

    def test_files_outside_the_job_are_untouched(self):
        for name, want in UNTOUCHED.items():
            with self.subTest(name), open(f"{CONF}/{name}", "rb") as f:
                self.assertEqual(f.read(), want)

    def test_no_file_was_added_or_removed(self):
        found = {os.path.relpath(os.path.join(base, name), CONF) for base, _, names in os.walk(CONF) for name in names}
        self.assertEqual(found, set(RENAMED) | set(UNTOUCHED))

    def test_modes_are_kept(self):
        special = {"env/production.properties": 0o600, "services/billing/billing.properties": 0o664}
        for name in list(RENAMED) + list(UNTOUCHED):
            with self.subTest(name):
                self.assertEqual(oct(stat.S_IMODE(os.lstat(f"{CONF}/{name}").st_mode)), oct(special.get(name, 0o644)))


if __name__ == "__main__":
    unittest.main(verbosity=2)
