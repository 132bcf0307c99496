import asyncio


async def add(a, b):
    print("adding", a, b)
    return a + b


async def total(a, b, c):
    return await add(await add(a, b), c)


async def say(text):
    print(text)


async def main():
    first = asyncio.create_task(say("first task"))
    print("total", await total(1, 2, 3))
    await first
    second = asyncio.create_task(say("second task"))
    await first
    print("first is done")
    await second
    print("main returns")


asyncio.run(main())
