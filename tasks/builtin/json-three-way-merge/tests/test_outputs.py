import json
import os
import random
import subprocess
import tempfile
import unittest
from fractions import Fraction

SCRIPT = "/app/merge3.py"
NONE = ("lacking",)


class Num(str):
    """A number, kept as its text."""


def parse(text):
    """JSON with the spelling of numbers kept; dicts keep the order of keys."""
    return json.loads(text, parse_int=Num, parse_float=Num)


def canon(value):
    """A hashable form in which exactly the equal values are equal."""
    if isinstance(value, Num):
        mantissa, _, exponent = value.lower().partition("e")
        return ("num", Fraction(mantissa) * Fraction(10) ** int(exponent or 0))
    if isinstance(value, dict):
        return ("obj", frozenset((key, canon(item)) for key, item in value.items()))
    if isinstance(value, list):
        return ("arr", tuple(map(canon, value)))
    return (type(value).__name__, value)


def exact(value):
    """A form that also tells spellings of numbers and orders of keys apart."""
    if isinstance(value, Num):
        return ("num", str(value))
    if isinstance(value, dict):
        return ("obj", [(key, exact(item)) for key, item in value.items()])
    if isinstance(value, list):
        return ("arr", [exact(item) for item in value])
    return (type(value).__name__, value)


def reference(base, ours, theirs, path=""):
    merged, conflicts = {}, []
    for key in list(ours) + [k for k in theirs if k not in ours]:
        b, o, t = base.get(key, NONE), ours.get(key, NONE), theirs.get(key, NONE)
        cb, co, ct = canon(b), canon(o), canon(t)
        here = path + "/" + key.replace("~", "~0").replace("/", "~1")
        if co == ct or ct == cb:
            pick = o
        elif co == cb:
            pick = t
        elif isinstance(o, dict) and isinstance(t, dict):
            pick, inner = reference(b if isinstance(b, dict) else {}, o, t, here)
            conflicts += inner
        else:
            pick = o
            conflicts.append(here)
        if pick != NONE:
            merged[key] = pick
    return merged, conflicts


def random_value(rng, depth):
    kind = rng.randrange(12 if depth else 9)
    if kind >= 9:
        return {key: random_value(rng, depth - 1) for key in rng.sample(["a", "b", "c/d", "e~f", "é", ""], rng.randrange(1, 5))}
    if kind == 8:
        return [random_value(rng, 0) for _ in range(rng.randrange(3))]
    return rng.choice([True, False, None, "", "1", Num("1"), Num("1.0"), Num("0"), Num("-0"), Num("2.50"), Num("25e-1")])


def render(value):
    if isinstance(value, Num):
        return str(value)
    if isinstance(value, dict):
        return "{" + ", ".join(json.dumps(key, ensure_ascii=False) + ": " + render(item) for key, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(render, value)) + "]"
    return json.dumps(value)


class JsonThreeWayMerge(unittest.TestCase):
    maxDiff = None

    def setUp(self):
        tmp = tempfile.TemporaryDirectory()
        self.addCleanup(tmp.cleanup)
        self.dir = tmp.name

    def run_tool(self, *texts):
        names = []
        for name, text in zip(("base.json", "ours.json", "theirs.json"), texts):
            names.append(os.path.join(self.dir, name))
            if text is not None:
                with open(names[-1], "wb") as f:
                    f.write(text if isinstance(text, bytes) else text.encode())
        return subprocess.run(["python3", SCRIPT, *names], capture_output=True, encoding="utf-8", timeout=20)

    def check(self, base, ours, theirs, want, conflicts=()):
        done = self.run_tool(base, ours, theirs)
        self.assertEqual(done.returncode, 1 if conflicts else 0, done.stderr)
        self.assertEqual(exact(parse(done.stdout)), exact(parse(want)), f"\nbase {base}\nours {ours}\ntheirs {theirs}")
        self.assertEqual(done.stderr.splitlines(), [f"conflict: {place}" for place in conflicts])

    def test_changes_of_both_sides_are_combined(self):
        self.check('{"a": 1, "gone": 2, "o": {"x": [1], "y": {"z": "old"}}, "keep": null}',
                   '{"o": {"y": {"z": "old"}, "x": [1], "n1": true}, "keep": null, "gone": 2, "a": 1}',
                   '{"a": 5, "o": {"new": {}, "x": [1, 2], "y": {"z": "new", "q": 0}}, "keep": null, "t": "é"}',
                   '{"o": {"y": {"z": "new", "q": 0}, "x": [1, 2], "n1": true, "new": {}}, "keep": null, "a": 5, "t": "é"}')
        self.check('{"v": 3}', '{"v": {"a": 1, "same": [0]}}', '{"v": {"b": 2, "same": [0.0]}}',
                   '{"v": {"a": 1, "same": [0], "b": 2}}')

    def test_conflicts_keep_ours_and_are_reported_as_pointers(self):
        self.check('{"k": {"a/b": 1, "m~n": [1], "z": 0}, "d": 1, "e": {"x": 1}, "f": {"x": 1}, "ok": 1}',
                   '{"ok": 2, "k": {"a/b": 2, "m~n": [1, 2], "z": 0}, "f": {"x": 2}, "d": null, "add": 1}',
                   '{"ok": 1, "k": {"a/b": 3, "m~n": [2, 1], "z": 9}, "e": {"x": 2}, "add": "1", "é": 0}',
                   '{"ok": 2, "k": {"a/b": 2, "m~n": [1, 2], "z": 9}, "f": {"x": 2}, "d": null, "add": 1, "é": 0}',
                   ["/add", "/d", "/e", "/f", "/k/a~1b", "/k/m~0n"])

    def test_types_are_not_mixed_up(self):
        self.check('{"a": true, "b": 0, "c": [1], "d": null, "e": {"x": false}, "f": ""}',
                   '{"a": 1, "b": 0, "c": [true], "e": {"x": 0}, "f": null}',
                   '{"a": true, "b": false, "c": [1.0], "d": null, "e": {"x": false}, "f": ""}',
                   '{"a": 1, "b": false, "c": [true], "e": {"x": 0}, "f": null}')
        self.check('{}', '{"a": null, "b": 1, "c": "1"}', '{"b": true, "c": 1}', '{"a": null, "b": 1, "c": "1"}', ["/b", "/c"])

    def test_numbers_are_compared_exactly_and_keep_their_spelling(self):
        self.check('{"a": 1, "b": 9007199254740993, "c": 1e400, "d": 2.50, "e": 0.1, "big": 1}',
                   '{"a": 1.0, "b": 9007199254740992.0, "c": 1E400, "d": 2.5, "e": 0.10, "big": 1}',
                   '{"a": 10e-1, "b": 9007199254740993, "c": 1e401, "d": 2.50, "e": 0.1000000000000000000000001,'
                   ' "big": 123456789012345678901234567890.10}',
                   '{"a": 1.0, "b": 9007199254740992.0, "c": 1e401, "d": 2.5, "e": 0.1000000000000000000000001,'
                   ' "big": 123456789012345678901234567890.10}')

    def test_random_documents_follow_the_rules(self):
        rng = random.Random(20240607)
        base, ours, theirs = ({f"k{n}": random_value(rng, 3) for n in range(250)} for _ in range(3))
        for n in range(250):
            for side in (ours, theirs):
                if rng.random() < 0.35:
                    side[f"k{n}"] = base[f"k{n}"]
                elif rng.random() < 0.2:
                    del side[f"k{n}"]
        merged, conflicts = reference(base, ours, theirs)
        self.check(render(base), render(ours), render(theirs), render(merged), sorted(conflicts))

    def test_bad_input_is_refused(self):
        good = '{"a": 1}'
        for bad in ('{"a": 1,}', '[1]', '{"a": NaN}', '{"x": {"a": 1, "b": 2, "a": 1}}', '', b'{"a": "\xff"}', None):
            with self.subTest(bad=bad):
                done = self.run_tool(good, good, bad)
                self.assertEqual(done.returncode, 2)
                self.assertEqual(done.stdout, "")
                self.assertIn("theirs.json", done.stderr)
                if os.path.exists(os.path.join(self.dir, "theirs.json")):
                    os.unlink(os.path.join(self.dir, "theirs.json"))


if __name__ == "__main__":
    unittest.main(verbosity=2)
