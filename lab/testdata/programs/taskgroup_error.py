import asyncio
async def bad(n, e):
    await asyncio.sleep(n)
    raise e
async def good():
    try:
        await asyncio.sleep(10)
    except asyncio.CancelledError:
        print("good is cancelled")
        raise
async def main():
    try:
        async with asyncio.TaskGroup() as tg:
            tg.create_task(good())
            tg.create_task(bad(1, ValueError("v")))
            tg.create_task(bad(1, TypeError("t")))
            await asyncio.sleep(5)
            print("not reached")
    except* ValueError as eg:
        print("values", eg.exceptions)
    except* TypeError as eg:
        print("types", eg.exceptions, eg)
asyncio.run(main())
