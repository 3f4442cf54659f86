#!/bin/bash
# The manifest is checked as a whole first; chown comes before chmod because it clears setuid and setgid.
set -euo pipefail
cat > /app/applyperms.py <<'PY'
"""Applies or checks owners and modes from a manifest."""
import grp
import os
import pwd
import re
import stat
import sys


class Broken(Exception):
    pass


def pattern(text):
    parts = []
    for token in re.findall(r"\*\*|.", text, re.S):
        parts.append({"**": r"(?s:.*)", "*": r"[^/]*", "?": r"[^/]"}.get(token) or re.escape(token))
    return re.compile("".join(parts))


def mode(text):
    if text == "-":
        return None, None
    found = re.fullmatch(r"([0-7]{3,4})(?:/([0-7]{3,4}))?", text)
    if not found:
        raise Broken(f"bad mode {text!r}")
    file = int(found[1], 8)
    return file, int(found[2], 8) if found[2] else file


def identity(text, lookup, what):
    if text == "-":
        return None
    if re.fullmatch(r"[0-9]+", text):
        return int(text)
    try:
        return lookup(text)
    except KeyError:
        raise Broken(f"no such {what}: {text!r}") from None


def parse(name):
    rules = []
    with open(name, encoding="utf-8", errors="surrogateescape") as file:
        for number, line in enumerate(file.read().split("\n"), 1):
            line = line.strip(" \t\r")
            if not line or line.startswith("#"):
                continue
            try:
                fields = re.fullmatch(r"(.*?)[ \t]+([^ \t]+)[ \t]+([^ \t]+)", line)
                if not fields or fields[3].count(":") != 1:
                    raise Broken("PATTERN MODE OWNER:GROUP expected")
                user, group = fields[3].split(":")
                rules.append((pattern(fields[1]), mode(fields[2]), identity(user, lambda n: pwd.getpwnam(n).pw_uid, "user"),
                              identity(group, lambda n: grp.getgrnam(n).gr_gid, "group")))
            except Broken as error:
                raise Broken(f"{name}: line {number}: {error}") from None
    return rules


def entries(root):
    """Yields (relative path, full path) of root and all folders and regular files below it."""
    yield ".", root
    todo = [("", root)]
    while todo:
        prefix, folder = todo.pop()
        for entry in os.scandir(folder):
            short = prefix + entry.name
            if entry.is_dir(follow_symlinks=False):
                todo.append((short + "/", entry.path))
                yield short, entry.path
            elif entry.is_file(follow_symlinks=False):
                yield short, entry.path


def main(args):
    check = "--check" in args
    try:
        manifest, root = (arg for arg in args if arg != "--check")
        rules = parse(manifest)
        if not os.path.isdir(root):
            raise Broken(f"{root}: not a folder")
    except (OSError, ValueError, Broken) as error:
        print(f"applyperms: {error}", file=sys.stderr)
        return 2
    changed = []
    for short, path in list(entries(root)):
        rule = next((rule for rule in reversed(rules) if rule[0].fullmatch(short)), None)
        if rule is None:
            continue
        _, modes, user, group = rule
        # ROOT may be given as a link; everything else has been seen not to be one.
        status = os.stat(path) if short == "." else os.lstat(path)
        now = (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid)
        wanted = modes[stat.S_ISDIR(status.st_mode)]
        want = (now[0] if wanted is None else wanted, now[1] if user is None else user, now[2] if group is None else group)
        if want == now:
            continue
        changed.append(os.fsencode(short))
        if not check:
            if want[1:] != now[1:]:
                os.chown(path, want[1], want[2])
            os.chmod(path, want[0])
    for short in sorted(changed):
        sys.stdout.buffer.write(short + b"\n")
    return 1 if check and changed else 0


sys.exit(main(sys.argv[1:]))
PY
