import asyncio
async def consumer(cond, items, n):
    async with cond:
        await cond.wait_for(lambda: items)
        print("consumer", n, "takes", items.pop(0))
async def producer(cond, items):
    for i in range(3):
        await asyncio.sleep(1)
        async with cond:
            items.append(i)
            cond.notify()
async def main():
    cond, items = asyncio.Condition(), []
    await asyncio.gather(producer(cond, items), *(consumer(cond, items, n) for n in range(3)))
    try:
        cond.notify()
    except RuntimeError as e:
        print(e)
asyncio.run(main())
