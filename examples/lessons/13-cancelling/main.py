import asyncio


async def worker(name, stubborn):
    try:
        print(name, "works")
        await asyncio.sleep(10)
    except asyncio.CancelledError:
        print(name, "cleans up")
        await asyncio.sleep(1)
        if not stubborn:
            raise
    print(name, "goes on")


async def main():
    polite = asyncio.create_task(worker("polite", False))
    stubborn = asyncio.create_task(worker("stubborn", True))
    await asyncio.sleep(2)
    polite.cancel()
    stubborn.cancel()
    print("both were asked")
    await asyncio.wait([polite, stubborn])
    for task in [polite, stubborn]:
        print("cancelled" if task.cancelled() else "not cancelled")


asyncio.run(main())
