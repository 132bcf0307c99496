import asyncio, time
async def fetch(n):
    await asyncio.sleep(1)
    return n
async def main():
    t = time.perf_counter()
    for i in range(3):
        await fetch(i)
    print(f"one after the other: {time.perf_counter() - t:.1f}")
    t = time.perf_counter()
    await asyncio.gather(*(fetch(i) for i in range(3)))
    print(f"together: {time.perf_counter() - t:.1f}")
    t = time.perf_counter()
    for task in [asyncio.create_task(fetch(i)) for i in range(3)]:
        await task
    print(f"tasks: {time.perf_counter() - t:.1f}")
asyncio.run(main())
