import asyncio
async def stubborn():
    for i in range(3):
        try:
            await asyncio.sleep(1)
        except asyncio.CancelledError:
            print("swallowed", i)
    return "finished anyway"
async def main():
    t = asyncio.create_task(stubborn())
    await asyncio.sleep(0.5)
    print(t.cancel())
    print(await t, t.cancelled(), t.cancelling())
asyncio.run(main())
