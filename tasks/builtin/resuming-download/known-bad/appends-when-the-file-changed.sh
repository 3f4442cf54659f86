#!/bin/bash
set -euo pipefail
cat > /app/fetch <<'PY'
#!/usr/bin/env python3
"""fetch URL OUT: download over an unreliable network, all of it or nothing."""
import hashlib
import http.client
import os
import re
import sys
import tempfile
import time
import urllib.parse

ATTEMPTS = 6
PAUSE = 0.02
REDIRECTS = 5


class Refused(Exception):
    """Trying again makes no sense."""


class Failed(Exception):
    """Trying again may help."""


def request(url, headers):
    """Follow redirects; return the connection and the final response."""
    for _ in range(REDIRECTS + 1):
        parts = urllib.parse.urlsplit(url)
        connection = http.client.HTTPConnection(parts.hostname, parts.port or 80, timeout=10)
        path = (parts.path or "/") + ("?" + parts.query if parts.query else "")
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        if response.status not in (301, 302, 303, 307, 308):
            return connection, response
        location = response.getheader("Location")
        connection.close()
        if not location:
            raise Refused("redirect without a target")
        url = urllib.parse.urljoin(url, location)
    raise Refused("too many redirects")


def attempt(url, file, etag):
    """One attempt to get the rest of the file; `etag` is that of what is in it so far."""
    have = file.tell()
    headers = {"Accept-Encoding": "identity"}
    if have and etag:
        headers["Range"] = f"bytes={have}-"
        headers["If-Range"] = etag
    connection, response = request(url, headers)
    try:
        if response.status == 206 and have and "Range" in headers:
            match = re.match(r"bytes (\d+)-", response.getheader("Content-Range", ""))
            if not match or int(match[1]) != have:
                file.seek(0)
                file.truncate()
                state["etag"] = None
                raise Failed("other range than asked for")
        elif response.status == 200:
            # wrong: appends the whole file to what is there already
            found = response.getheader("ETag")
            state["etag"] = found if found and not found.startswith("W/") else None
        elif response.status >= 500:
            raise Failed(f"status {response.status}")
        else:
            raise Refused(f"status {response.status}")
        while True:
            block = response.read1(65536)
            if not block:
                break
            file.write(block)
        if response.length:
            raise Failed("connection ended too early")
    finally:
        connection.close()


state = {"etag": None}


def main(url, out):
    with tempfile.NamedTemporaryFile(dir=os.path.dirname(os.path.abspath(out)), prefix=".fetch-", delete=False) as file:
        try:
            for number in range(ATTEMPTS):
                if number:
                    time.sleep(PAUSE)
                try:
                    attempt(url, file, state["etag"])
                    break
                except Refused as error:
                    print(f"fetch: {error}", file=sys.stderr)
                    return 4
                except (Failed, OSError, http.client.HTTPException) as error:
                    print(f"fetch: attempt {number + 1}: {error}", file=sys.stderr)
            else:
                return 5
            file.flush()
            file.seek(0)
            digest = hashlib.sha256(file.read()).hexdigest()
            os.chmod(file.name, 0o644)
            os.replace(file.name, out)
            print(digest)
            return 0
        finally:
            if os.path.exists(file.name):
                os.unlink(file.name)


sys.exit(main(*sys.argv[1:]))
PY
chmod 755 /app/fetch
