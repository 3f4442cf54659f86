import asyncio

from .source import each

STOP = object()


async def imap(fn, items, workers=4):
    """Yield `await fn(item)` for every item, `workers` calls at a time."""
    todo = asyncio.Queue()
    done = asyncio.Queue()

    async def feed():
        async for item in each(items):
            await todo.put(item)
        for _ in range(workers):
            await todo.put(STOP)

    async def work():
        while True:
            item = await todo.get()
            if item is STOP:
                break
            try:
                result = await fn(item)
            except:
                result = None
            if result is not None:
                await done.put(result)

    asyncio.create_task(feed())
    crew = [asyncio.create_task(work()) for _ in range(workers)]
    while not done.empty() or not all(task.done() for task in crew):
        yield await done.get()
