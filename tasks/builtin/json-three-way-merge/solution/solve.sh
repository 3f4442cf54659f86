#!/bin/bash
# Numbers keep their text and are compared as exact decimals.
set -euo pipefail
cat > /app/merge3.py <<'PY'
"""Three-way merge of JSON objects."""
import json
import sys
from decimal import Decimal

LACKING = object()


class Number:
    """A number with the spelling of its file."""

    def __init__(self, text):
        self.text = text
        # (sign, digits without trailing zeros, exponent): exact for any size, as Decimal keeps every digit of a literal.
        sign, digits, exponent = Decimal(text).as_tuple()
        digits = "".join(map(str, digits)).lstrip("0")
        short = digits.rstrip("0")
        self.key = (sign, short, exponent + len(digits) - len(short)) if short else (0, "", 0)


class Broken(Exception):
    pass


def pairs(items):
    result = dict(items)
    if len(result) != len(items):
        raise Broken("a key is repeated in an object")
    return result


def constant(text):
    raise Broken(f"{text} is not JSON")


def load(name):
    try:
        with open(name, encoding="utf-8") as file:
            value = json.load(file, object_pairs_hook=pairs, parse_int=Number, parse_float=Number, parse_constant=constant)
    except (OSError, ValueError, RecursionError, Broken) as error:
        raise Broken(f"{name}: {error}") from error
    if not isinstance(value, dict):
        raise Broken(f"{name}: no object at the top")
    return value


def equal(a, b):
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(map(equal, a, b))
    if isinstance(a, Number):
        return a.key == b.key
    return a == b


def merge(base, ours, theirs, pointer, conflicts):
    result = {}
    for key in [*ours, *(key for key in theirs if key not in ours)]:
        b, o, t = (side.get(key, LACKING) for side in (base, ours, theirs))
        place = pointer + "/" + key.replace("~", "~0").replace("/", "~1")
        if equal(o, t):
            value = o
        elif equal(o, b):
            value = t
        elif equal(t, b):
            value = o
        elif isinstance(o, dict) and isinstance(t, dict):
            value = merge(b if isinstance(b, dict) else {}, o, t, place, conflicts)
        else:
            conflicts.append(place)
            value = o
        if value is not LACKING:
            result[key] = value
    return result


def write(value, indent="\n"):
    deeper = indent + "  "
    if isinstance(value, Number):
        return value.text
    if isinstance(value, dict) and value:
        body = ("," + deeper).join(json.dumps(key) + ": " + write(item, deeper) for key, item in value.items())
        return "{" + deeper + body + indent + "}"
    if isinstance(value, list) and value:
        return "[" + deeper + ("," + deeper).join(write(item, deeper) for item in value) + indent + "]"
    return json.dumps(value)


def main(base, ours, theirs):
    try:
        base, ours, theirs = load(base), load(ours), load(theirs)
    except Broken as error:
        print(f"merge3: {error}", file=sys.stderr)
        return 2
    conflicts = []
    print(write(merge(base, ours, theirs, "", conflicts)))
    sys.stderr.reconfigure(encoding="utf-8")
    for place in sorted(conflicts):
        print(f"conflict: {place}", file=sys.stderr)
    return 1 if conflicts else 0


sys.exit(main(*sys.argv[1:]))
PY
