import asyncio
async def f():
    try:
        await asyncio.sleep(1)
        return "value"
    finally:
        await asyncio.sleep(1)
        print("finally at", asyncio.get_running_loop().time())
async def main():
    print(await f())
    t = asyncio.create_task(f())
    await asyncio.sleep(0.5)
    t.cancel()
    try:
        await t
    except asyncio.CancelledError:
        print("cancelled at", asyncio.get_running_loop().time())
asyncio.run(main())
