import asyncio
async def slow():
    try:
        await asyncio.sleep(10)
    except asyncio.CancelledError:
        print("slow is cancelled")
        raise
async def main():
    try:
        await asyncio.wait_for(slow(), 2)
    except TimeoutError as e:
        print("timeout", repr(e), repr(e.__cause__))
    print(await asyncio.wait_for(asyncio.sleep(1, "in time"), 2))
    t = asyncio.create_task(asyncio.sleep(5))
    try:
        await asyncio.wait_for(t, 0)
    except asyncio.TimeoutError:
        print("no time at all", t.cancelled())
asyncio.run(main())
