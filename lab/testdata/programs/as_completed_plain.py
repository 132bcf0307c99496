import asyncio
async def work(n):
    await asyncio.sleep(n)
    return n
async def main():
    for c in asyncio.as_completed([work(3), work(1), work(2)]):
        print(await c)
    ts = [asyncio.create_task(work(n)) for n in (2, 1)]
    async for t in asyncio.as_completed(ts):
        print(ts.index(t), await t)
    try:
        for c in asyncio.as_completed([work(1), work(5)], timeout=2):
            print(await c)
    except TimeoutError:
        print("timeout")
asyncio.run(main())
