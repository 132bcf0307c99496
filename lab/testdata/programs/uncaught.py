import asyncio
async def main():
    print("before")
    await asyncio.sleep(1)
    raise RuntimeError("nobody catches this")
asyncio.run(main())
