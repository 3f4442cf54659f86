import gzip
import json
import os
import random
from datetime import datetime, timedelta, timezone

UTC = timezone.utc
WORDS = ["stock", "ledger", "card", "quota", "session", "ticket", "lock", "batch"]
SERVICES = ["gateway", "orders", "payments"]


def iso(ms):
    return datetime.fromtimestamp(ms // 1000, UTC).strftime("%Y-%m-%dT%H:%M:%S") + ".%03dZ" % (ms % 1000)


def generate(seed, requests=60):
    """Return ({file name: bytes}, [expected records]): the records come from what was made up, not from reading the files."""
    rng = random.Random(seed)
    clock = int(datetime(2024, 3, 10, 6, 20, tzinfo=UTC).timestamp() * 1000) + rng.randrange(1000)
    events = []  # (true ms, serial, service, request, payload)
    records = []
    used = set()
    for _ in range(requests):
        clock += rng.randint(0, 90_000)
        rid = None
        while rid is None or rid in used:
            rid = "%04x" % rng.randrange(65536)
        used.add(rid)
        whole = rng.choices(["yes", "no begin", "no end"], [20, 1, 1])[0]
        status = rng.choices([200, 404, 500, 502, 503], [4, 1, 3, 3, 1])[0]
        path = rng.choice(["/cart", "/pay", "/orders/500", "/a/b"])
        query = rng.choice(["", "", "?id=%d" % rng.randrange(99), "?back=/x?y=502"])
        mine = []
        now = clock
        if whole != "no begin":
            mine.append((now, "gateway", f"begin {rng.choice(['GET', 'POST'])} {path}{query}"))
        cause = None
        for _ in range(rng.randint(0, 6)):
            now += rng.choice([rng.randint(0, 40), rng.randint(0, 40), rng.randint(100, 4000), 250])
            if rng.random() < 0.5:
                mine.append((now, "orders", rng.choice(["reserve", "commit", "release", 'say "hi"'])))
            else:
                level = rng.choices(["INFO", "WARN", "ERROR"], [3, 2, 4])[0]
                text = rng.choice(["charge failed: ", "refund: ", "retrying "]) + rng.choice(WORDS)
                trace = []
                if rng.random() < (0.75 if level == "ERROR" else 0.3):
                    trace.append(f"java.lang.IllegalStateException: {rng.choice(WORDS)} [{rng.randrange(100)}]")
                    for _ in range(rng.randint(0, 2)):
                        trace += [f"    at shop.{rng.choice(WORDS)}.run({rng.randrange(300)})"] * rng.randint(1, 3)
                        trace.append(f"Caused by: shop.{rng.choice(WORDS).title()}Error: {rng.choice(WORDS)}: {rng.randrange(1000)}")
                        if rng.random() < 0.3:
                            trace.append("[retry policy] none")
                    trace.append("    ... 12 more")
                if level == "ERROR":
                    causes = [line[len("Caused by: "):] for line in trace if line.startswith("Caused by: ")]
                    cause = causes[-1] if causes else text
                mine.append((now, "payments", (level, text, trace)))
        now += rng.randint(0, 30)
        if whole != "no end":
            mine.append((now, "gateway", f"end {status}"))
        for ms, service, payload in mine:
            events.append((ms, len(events), service, rid, payload))
        if whole == "yes" and status >= 500:
            order = sorted(range(len(mine)), key=lambda i: (mine[i][0], SERVICES.index(mine[i][1]), i))
            gap = None
            for a, b in zip(order, order[1:]):
                if gap is None or mine[b][0] - mine[a][0] > gap["ms"]:
                    gap = {"ms": mine[b][0] - mine[a][0], "after": mine[a][1], "before": mine[b][1]}
            records.append({"request": rid, "start": iso(mine[0][0]), "duration_ms": mine[-1][0] - mine[0][0],
                            "status": status, "path": path, "cause": cause, "gap": gap})
    events.sort(key=lambda e: (e[0], e[1]))
    lines = {service: [] for service in SERVICES}
    ahead = 0
    for ms, _, service, rid, payload in events:
        if service == "gateway":
            hours = -5 if ms < 1710054000000 else -4  # the clocks of New York go forward
            if rng.random() < 0.2:
                hours, half = 5, 30
            else:
                half = 0
            zone = timezone(timedelta(hours=hours, minutes=half))
            stamp = datetime.fromtimestamp(ms // 1000, zone).strftime("%Y-%m-%dT%H:%M:%S") + ".%03d" % (ms % 1000)
            lines[service].append(f"{stamp}{'-' if hours < 0 else '+'}{abs(hours):02}:{half:02} req={rid} {payload}")
        elif service == "orders":
            if rng.random() < 0.12:
                ahead = rng.choice([-4200, -350, 0, 90, 1500, 61000])
                lines[service].append(json.dumps({"ts": ms + ahead, "clock_ahead_ms": ahead}))
            if rng.random() < 0.05:
                lines[service].append('{"ts": %d, "rid": "%s", "ms' % (ms, rid))
            fields = [("ts", ms + ahead), ("rid", rid), ("msg", payload)]
            rng.shuffle(fields)
            lines[service].append(json.dumps(dict(fields)))
        else:
            level, text, trace = payload
            stamp = datetime.fromtimestamp(ms // 1000, UTC).strftime("%d/%b/%Y:%H:%M:%S") + ".%03d +0000" % (ms % 1000)
            lines[service].append(f"[{stamp}] {rid} {level} {text}")
            lines[service] += trace
    files = {}
    for service in SERVICES:
        parts = {"gateway": 3, "orders": 12, "payments": 11}[service]
        rows = lines[service]
        cuts = sorted(rng.sample(range(1, len(rows)), parts - 1))
        for index, (a, b) in enumerate(zip([0] + cuts, cuts + [len(rows)])):
            age = parts - 1 - index
            data = "".join(row + "\n" for row in rows[a:b]).encode()
            name = f"{service}.log" + (f".{age}" if age else "")
            if age > 1:
                name, data = name + ".gz", gzip.compress(data, mtime=0)
            files[name] = data
    records.sort(key=lambda r: (r["start"], r["request"]))
    return files, records


def write(folder, files):
    os.makedirs(folder)
    for name, data in files.items():
        with open(os.path.join(folder, name), "wb") as file:
            file.write(data)
