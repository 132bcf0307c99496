import asyncio
async def child(n):
    try:
        await asyncio.sleep(n)
    except asyncio.CancelledError:
        print("child", n, "cancelled")
        raise
async def group():
    async with asyncio.TaskGroup() as tg:
        tg.create_task(child(5))
        tg.create_task(child(6))
async def main():
    t = asyncio.create_task(group())
    await asyncio.sleep(1)
    t.cancel()
    try:
        await t
    except asyncio.CancelledError:
        print("group cancelled")
asyncio.run(main())
