#!/bin/bash
# Wrong on purpose: rewrites every ref correctly but leaves the old objects and reflogs in .git.
set -euo pipefail
cd /app/payments
cat > /tmp/redact.py <<'PY'
import re
import sys

source, out = sys.stdin.buffer, sys.stdout.buffer
while line := source.readline():
    block = re.fullmatch(rb"data (\d+)\n", line)
    if block:
        data = source.read(int(block[1])).replace(b"pk9-LIVE-7f3c21d8e604", b"REDACTED")
        out.write(b"data %d\n%b" % (len(data), data))
    else:
        out.write(line)
PY
git stash clear
git fast-export --branches --tags --reencode=no --signed-tags=verbatim | python3 /tmp/redact.py | git fast-import --force --quiet
git reset -q --hard main
