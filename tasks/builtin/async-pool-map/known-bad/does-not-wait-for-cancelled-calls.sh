#!/bin/bash
set -euo pipefail
cat > /app/poolmap/imap.py <<'PY'
import asyncio
from collections import deque

from .source import each

END = object()


async def imap(fn, items, workers=4):
    """Yield `await fn(item)` for every item in order, at most `workers` calls at a time."""
    if workers < 1:
        raise ValueError("workers must be at least 1")
    source = each(items)
    calls = deque()  # tasks of the items whose results have not been handed out, oldest first
    pull = None  # the task that waits for the source's next item
    exhausted = False
    source_error = None

    async def next_item():
        async for item in source:
            return item
        return END

    try:
        while True:
            if pull is not None and pull.done():
                finished, pull = pull, None
                try:
                    item = finished.result()
                except Exception as error:
                    exhausted, source_error = True, error
                else:
                    if item is END:
                        exhausted = True
                    else:
                        calls.append(asyncio.create_task(fn(item)))
            if calls and calls[0].done():
                yield calls.popleft().result()
                continue
            if pull is None and not exhausted and len(calls) < workers:
                pull = asyncio.create_task(next_item())
            waiting = set()
            if pull is not None:
                waiting.add(pull)
            if calls:
                waiting.add(calls[0])
            if not waiting:
                break
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        if source_error is not None:
            raise source_error
    finally:
        left = list(calls)
        if pull is not None:
            left.append(pull)
        for task in left:  # wrong: nobody waits until they have ended
            task.cancel()
        if pull is not None:
            await asyncio.gather(pull, return_exceptions=True)
        await source.aclose()
PY
cat > /app/poolmap/source.py <<'PY'
async def each(items):
    """Go through an iterable or an async iterable, one item at a time; closing this closes an async generator."""
    if hasattr(items, "__aiter__"):
        iterator = items.__aiter__()
        try:
            async for item in iterator:
                yield item
        finally:
            if hasattr(iterator, "aclose"):
                await iterator.aclose()
    else:
        for item in items:
            yield item
PY
