import asyncio
async def runner(n, start):
    print("runner", n, "ready")
    await start.wait()
    print("runner", n, "goes")
async def main():
    start = asyncio.Event()
    ts = [asyncio.create_task(runner(n, start)) for n in range(3)]
    await asyncio.sleep(1)
    print("set", start.is_set())
    start.set()
    await asyncio.gather(*ts)
    start.clear()
    print(start.is_set())
asyncio.run(main())
