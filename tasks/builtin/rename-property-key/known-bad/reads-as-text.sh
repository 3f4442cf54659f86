#!/bin/bash
# Wrong on purpose: reads and writes text, which drops Windows line ends and replaces bytes that are not UTF-8.
set -euo pipefail
python3 - <<'PY'
import pathlib
import re

for path in pathlib.Path("/app/conf").rglob("*.properties"):
    text = path.read_text(encoding="utf-8", errors="replace")
    path.write_text(re.sub(r"^([ \t]*)db\.host([ \t]*[=:])", r"\1database.primary.host\2", text, flags=re.M), encoding="utf-8")
PY
