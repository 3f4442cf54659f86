#!/bin/bash
set -euo pipefail
cat > /app/safe-unpack <<'PY'
#!/usr/bin/env python3
"""safe-unpack [--max-bytes N] ARCHIVE DEST: unpack an archive from somebody you do not trust, all of it or nothing."""
import lzma
import os
import re
import shutil
import stat
import sys
import tarfile
import tempfile
import zipfile
import zlib

DAMAGE = (tarfile.TarError, zipfile.BadZipFile, EOFError, zlib.error, lzma.LZMAError, OSError, RuntimeError,
          NotImplementedError, ValueError, UnicodeError)


class Unsafe(Exception):
    pass


def parts_of(name):
    """The components of a member's name; () is the top directory itself."""
    if name.startswith("/"):
        raise Unsafe(f"absolute name: {name!r}")
    parts = tuple(part for part in name.split("/") if part not in ("", "."))
    if ".." in parts:
        raise Unsafe(f"name with ..: {name!r}")
    return parts


def tar_members(archive):
    """Yield (name, kind, mode, link target, function that opens the contents)."""
    with tarfile.open(archive, "r:*") as tar:
        for member in tar:
            if member.isdir():
                kind = "dir"
            elif member.issym():
                kind = "symlink"
            elif member.islnk():
                kind = "hardlink"
            elif member.isreg():
                kind = "file"
            else:
                raise Unsafe(f"special file: {member.name!r}")
            yield member.name, kind, member.mode, member.linkname, lambda m=member: tar.extractfile(m)
        while tar.fileobj.read(65536):  # to the end, where a compressed file has its checksum
            pass


def zip_members(archive):
    with zipfile.ZipFile(archive) as package:
        for info in package.infolist():
            mode = info.external_attr >> 16
            kind = {0: "dir" if info.filename.endswith("/") else "file", stat.S_IFREG: "file", stat.S_IFDIR: "dir",
                    stat.S_IFLNK: "symlink"}.get(stat.S_IFMT(mode))
            if kind is None:
                raise Unsafe(f"special file: {info.filename!r}")
            if info.filename.endswith("/"):
                kind = "dir"
            target = ""
            if kind == "symlink":
                with package.open(info) as file:
                    target = os.fsdecode(file.read(65536))
            yield info.filename, kind, mode & 0o7777 or (0o755 if kind == "dir" else 0o644), target, \
                lambda i=info: package.open(i)


def unpack(archive, stage, limit):
    members = zip_members(archive) if zipfile.is_zipfile(archive) and not is_tar(archive) else tar_members(archive)
    top = os.path.realpath(stage)
    kinds, symlinks, total = {(): "dir"}, {}, 0
    for name, kind, mode, target, opener in members:
        parts = parts_of(name)
        path = os.path.join(top, *parts)
        if kind != "dir" and not parts:
            raise Unsafe(f"no directory: {name!r}")
        # One name means one thing; and nothing but a directory has anything below it.
        if parts in kinds and not (kind == kinds[parts] == "dir"):
            raise Unsafe(f"twice in the archive: {name!r}")
        for depth in range(1, len(parts)):
            above = parts[:depth]
            if kinds.setdefault(above, "dir") != "dir":
                raise Unsafe(f"below something that is no directory: {name!r}")
        kinds[parts] = kind
        os.makedirs(path if kind == "dir" else os.path.dirname(path), exist_ok=True)
        if kind == "symlink":
            if target.startswith("/") or not target:
                raise Unsafe(f"link to {target!r}")
            symlinks[path] = target  # made at the end, so that nothing is ever written through one
        elif kind == "hardlink":
            other = parts_of(target)
            if kinds.get(other) not in ("file", "hardlink"):
                raise Unsafe(f"hard link to {target!r}, which is no file of the archive so far")
            os.link(os.path.join(top, *other), path)
        elif kind == "file":
            with opener() as source, open(path, "xb") as file:
                while True:
                    block = source.read(65536)
                    if not block:
                        break
                    total += len(block)
                    if total > limit:
                        raise Unsafe(f"more than {limit} bytes")
                    file.write(block)
            os.chmod(path, 0o755 if mode & 0o100 else 0o644)
    for path, target in symlinks.items():
        os.symlink(target, path)
    for path in symlinks:
        real = os.path.realpath(path)
        if real != top and not real.startswith(top + "/"):
            raise Unsafe(f"link out of the destination: {os.path.relpath(path, top)!r}")
    for folder, _, _ in os.walk(top):
        os.chmod(folder, 0o755)


def is_tar(archive):
    try:
        return tarfile.is_tarfile(archive)
    except Exception:
        return False


def main(args):
    limit = 100 * 1024 * 1024
    if args[:1] == ["--max-bytes"] and len(args) > 1 and re.fullmatch("[0-9]+", args[1]):
        limit, args = int(args[1]), args[2:]
    if len(args) != 2 or not os.path.isfile(args[0]):
        print(__doc__, file=sys.stderr)
        return 2
    archive, dest = args[0], os.path.abspath(args[1])
    if os.path.lexists(dest) and (os.path.islink(dest) or not os.path.isdir(dest) or os.listdir(dest)):
        print(f"safe-unpack: {dest} exists and is no empty directory", file=sys.stderr)
        return 2
    stage = dest  # wrong: what was unpacked before the bad member stays
    os.makedirs(dest, exist_ok=True)
    try:
        try:
            unpack(archive, stage, limit)
        except Unsafe as error:
            print(f"safe-unpack: unsafe archive: {error}", file=sys.stderr)
            return 3
        except DAMAGE as error:
            print(f"safe-unpack: damaged archive: {error}", file=sys.stderr)
            return 4
        return 0
    finally:
        pass


sys.exit(main(sys.argv[1:]))
PY
chmod 755 /app/safe-unpack
