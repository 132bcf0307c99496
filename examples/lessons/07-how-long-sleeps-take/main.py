import asyncio
import time


async def nap(name, seconds):
    loop = asyncio.get_running_loop()
    begin = loop.time()
    await asyncio.sleep(seconds)
    slept = round(loop.time() - begin)
    print(f"{name} asked for {seconds}s, slept {slept}s")


async def main():
    loop = asyncio.get_running_loop()
    begin = loop.time()
    naps = [
        asyncio.create_task(nap("A", 1)),
        asyncio.create_task(nap("B", 2)),
        asyncio.create_task(nap("C", 4)),
    ]
    await asyncio.sleep(0)
    time.sleep(3)
    print("main was busy for 3s")
    for task in naps:
        await task
    print(f"all of it took {round(loop.time() - begin)}s")


asyncio.run(main())
