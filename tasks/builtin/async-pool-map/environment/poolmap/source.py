async def each(items):
    """Go through an iterable or an async iterable."""
    if hasattr(items, "__anext__"):
        async for item in items:
            yield item
    else:
        for item in list(items):
            yield item
