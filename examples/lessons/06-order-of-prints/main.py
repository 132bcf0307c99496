import asyncio


async def worker(name, turns):
    for i in range(turns):
        print(name, i)
        await asyncio.sleep(0)
    print(name, "done")


async def main():
    a = asyncio.create_task(worker("A", 2))
    b = asyncio.create_task(worker("B", 1))
    c = asyncio.create_task(worker("C", 3))
    print("main waits for B")
    await b
    print("main goes on")
    await a
    await c
    print("main returns")


asyncio.run(main())
