#!/bin/bash
set -euo pipefail
cat > /app/poolmap/imap.py <<'PY'
import asyncio

from .source import each


async def imap(fn, items, workers=4):
    """Yield the results in order. Wrong: reads the whole source before it starts."""
    if workers < 1:
        raise ValueError("workers must be at least 1")
    gate = asyncio.Semaphore(workers)

    async def call(item):
        async with gate:
            return await fn(item)

    tasks = [asyncio.create_task(call(item)) async for item in each(items)]
    try:
        for task in tasks:
            yield await task
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
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
