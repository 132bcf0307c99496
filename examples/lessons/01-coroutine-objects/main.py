import asyncio


async def greet(name):
    print("hello", name)
    return len(name)


async def main():
    c = greet("Li Lei")
    print("made a", type(c).__name__)
    n = await c
    print("counted", n)


asyncio.run(main())
