import asyncio


async def mirror(name, seconds, fails=False):
    await asyncio.sleep(seconds)
    if fails:
        raise OSError(name + " is down")
    return name


async def main():
    tasks = [
        asyncio.create_task(mirror("Oslo", 1, True)),
        asyncio.create_task(mirror("Rome", 2)),
        asyncio.create_task(mirror("Lima", 5)),
    ]
    while tasks:
        done, _ = await asyncio.wait(tasks, timeout=2, return_when=asyncio.FIRST_COMPLETED)
        if not done:
            print("nothing for 2 seconds,", len(tasks), "pending")
            break
        for task in [t for t in tasks if t in done]:
            if task.exception():
                print("error:", task.exception())
            else:
                print("answer:", task.result())
        tasks = [t for t in tasks if t not in done]
    print("cancelled" if tasks[0].cancelled() else "still running")


asyncio.run(main())
