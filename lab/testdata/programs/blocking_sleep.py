import asyncio, time
async def tick():
    for i in range(3):
        print("tick", i, time.monotonic())
        await asyncio.sleep(1)
async def main():
    t = asyncio.create_task(tick())
    await asyncio.sleep(0.5)
    time.sleep(3)
    print("blocked until", time.monotonic())
    await t
    print("end", time.monotonic())
asyncio.run(main())
