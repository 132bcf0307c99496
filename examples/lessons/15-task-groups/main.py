import asyncio


async def fetch(name, seconds, fails=False):
    try:
        await asyncio.sleep(seconds)
    except asyncio.CancelledError:
        print(name, "is cancelled")
        await asyncio.sleep(1)
        print(name, "has tidied up")
        raise
    if fails:
        raise ValueError(name)
    print(name, "is done")


async def main():
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(fetch("a", 1))
            group.create_task(fetch("b", 2, True))
            group.create_task(fetch("c", 5))
            print("all started")
    except* ValueError as failed:
        for e in failed.exceptions:
            print("failed", e)
    print("main ends")


asyncio.run(main())
