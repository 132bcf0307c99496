import asyncio, time
def blocking(n):
    time.sleep(n)
    return n * 2
async def tick():
    for i in range(3):
        await asyncio.sleep(1.1)
        print("tick", i)
async def main():
    t = asyncio.create_task(tick())
    print(await asyncio.to_thread(blocking, 2))
    loop = asyncio.get_running_loop()
    print(await loop.run_in_executor(None, blocking, 1))
    try:
        await asyncio.to_thread(int, "x")
    except ValueError as e:
        print(e)
    await t
asyncio.run(main())
