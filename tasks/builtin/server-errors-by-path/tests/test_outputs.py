import collections
import gzip
import pathlib
import re
import unittest

LOGS = pathlib.Path(__file__).with_name("logs")  # a copy that the agent could not touch
NAMES = ["access.log", "access.log.1", "access.log.2.gz"]
LINE = re.compile(r'\S+ - .*? \[[^]]*\] "(\S+) (\S+) \S+" (\d{3}) \d+ "[^"]*" "')


def expected():
    counts = collections.Counter()
    for name in NAMES:
        data = (LOGS / name).read_bytes()
        text = (gzip.decompress(data) if name.endswith(".gz") else data).decode()
        for line in text.splitlines():
            match = LINE.match(line)
            if match is None:
                raise ValueError(line)
            if match[3].startswith("5"):
                counts[match[2].split("?")[0]] += 1
    return sorted(((-count, path.encode()) for path, count in counts.items()))


def report():
    return pathlib.Path("/app/report.tsv").read_bytes()


class ServerErrorsByPath(unittest.TestCase):
    def test_each_path_has_its_count_of_5xx_requests(self):
        got = {}
        for line in report().splitlines():
            count, _, path = line.partition(b"\t")
            self.assertNotIn(path, got)
            got[path] = int(count)
        self.assertEqual(got, {path: -count for count, path in expected()})

    def test_report_has_exactly_the_format_and_order_asked_for(self):
        self.assertEqual(report(), b"".join(b"%d\t%s\n" % (-count, path) for count, path in expected()))

    def test_logs_are_unchanged(self):
        for name in NAMES:
            self.assertEqual(pathlib.Path("/app/logs", name).read_bytes(), (LOGS / name).read_bytes(), name)


if __name__ == "__main__":
    unittest.main(verbosity=2)
