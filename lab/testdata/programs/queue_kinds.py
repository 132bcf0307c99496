import asyncio
async def main():
    for kind in (asyncio.Queue, asyncio.LifoQueue, asyncio.PriorityQueue):
        q = kind()
        for x in [3, 1, 2]:
            await q.put(x)
        print(kind.__name__, [q.get_nowait() for _ in range(3)], q.empty())
    q = asyncio.PriorityQueue()
    q.put_nowait((2, "b"))
    q.put_nowait((1, "z"))
    print(await q.get())
asyncio.run(main())
