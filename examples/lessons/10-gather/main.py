import asyncio


async def fetch(name, seconds, fails=False):
    await asyncio.sleep(seconds)
    if fails:
        raise ValueError(name)
    print(name, "is done")
    return name


async def main():
    a, b = await asyncio.gather(fetch("a", 2), fetch("b", 1))
    print("got", a, b)
    try:
        await asyncio.gather(fetch("c", 3), fetch("d", 1, True))
    except ValueError as e:
        print("failed", e)
    await asyncio.sleep(3)
    print("main ends")


asyncio.run(main())
