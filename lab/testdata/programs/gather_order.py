import asyncio
async def work(n, d):
    await asyncio.sleep(d)
    print("finished", n)
    return n
async def main():
    print(await asyncio.gather(work("a", 3), work("b", 1), work("c", 2)))
    c = asyncio.create_task(work("d", 1))
    print(await asyncio.gather(c, c))
    print(await asyncio.gather())
asyncio.run(main())
