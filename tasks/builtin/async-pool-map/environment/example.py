"""Example: python3 example.py"""
import asyncio

from poolmap import imap


async def fetch(number):
    await asyncio.sleep(0.1 / (number + 1))
    return number * number


async def main():
    async for square in imap(fetch, range(10), workers=3):
        print(square)


if __name__ == "__main__":
    asyncio.run(main())
