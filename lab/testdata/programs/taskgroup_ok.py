import asyncio
async def work(n):
    await asyncio.sleep(n)
    print("work", n)
    return n * 10
async def main():
    async with asyncio.TaskGroup() as tg:
        a = tg.create_task(work(2))
        b = tg.create_task(work(1))
        print("body ends")
    print(a.result(), b.result())
asyncio.run(main())
