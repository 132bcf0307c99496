import asyncio
async def worker():
    task = asyncio.current_task()
    try:
        await asyncio.sleep(5)
    except asyncio.CancelledError:
        print("cancelling", task.cancelling())
        print("uncancel", task.uncancel())
    await asyncio.sleep(1)
    return "went on"
async def main():
    t = asyncio.create_task(worker())
    await asyncio.sleep(1)
    t.cancel()
    print(await t)
asyncio.run(main())
