#!/bin/bash
# Wrong on purpose: every line with a fence opens or closes a code block, whatever its character and length.
set -euo pipefail
cat > /app/toc.py <<'PY'
"""Keeps the table of contents of Markdown files up to date."""
import re
import sys

OPEN, CLOSE = "<!-- toc -->", "<!-- /toc -->"
HEADING = re.compile(r" {0,3}(#{1,6}) +(.*)")
FENCE = re.compile(r" {0,3}(`{3,}|~{3,})")


def outside_code(lines):
    """Yields (index, line) of the lines that are not in a fenced code block."""
    fence = None
    for index, line in enumerate(lines):
        found = FENCE.match(line)
        if fence:
            if found:
                fence = None
        elif found:
            fence = found[1]
        else:
            yield index, line


def markers(lines):
    start = None
    for index, line in outside_code(lines):
        if start is None and line == OPEN:
            start = index
        elif start is not None and line == CLOSE:
            return start, index
    return None


def clean(text):
    text = text.strip(" ")
    text = re.sub(r"(^|\s)#+$", "", text).strip(" ")
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text)
    return text.replace("`", "").replace("*", "")


def anchor(text):
    kept = "".join(c for c in text.lower() if c.isalnum() or c in "_- ")
    return kept.replace(" ", "-")


def table(lines):
    seen, items = {}, []
    for _, line in outside_code(lines):
        found = HEADING.match(line)
        if not found:
            continue
        level, text = len(found[1]), clean(found[2])
        base = anchor(text)
        count = seen.get(base, 0)
        seen[base] = count + 1
        if 2 <= level <= 4:
            items.append("  " * (level - 2) + f"- [{text}](#{base}{f'-{count}' if count else ''})")
    return items


def updated(text):
    lines = text.split("\n")
    pair = markers(lines)
    if pair is None:
        return None
    start, end = pair
    items = table(lines[:start + 1] + lines[end:])
    return "\n".join(lines[:start + 1] + [""] + (items + [""] if items else []) + lines[end:])


def main(args):
    check = "--check" in args
    stale = broken = False
    for name in (a for a in args if a != "--check"):
        with open(name, encoding="utf-8", newline="") as file:
            old = file.read()
        new = updated(old)
        if new is None:
            print(f"toc: {name}: no pair of {OPEN} and {CLOSE}", file=sys.stderr)
            broken = True
        elif new != old:
            if check:
                stale = True
                print(name)
            else:
                with open(name, "w", encoding="utf-8", newline="") as file:
                    file.write(new)
    return 2 if broken else 1 if stale else 0


sys.exit(main(sys.argv[1:]))
PY
