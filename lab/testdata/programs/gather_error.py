import asyncio
async def ok(n):
    await asyncio.sleep(n)
    print("ok", n)
    return n
async def bad():
    await asyncio.sleep(1.5)
    raise RuntimeError("bad")
async def main():
    try:
        await asyncio.gather(ok(1), bad(), ok(2))
    except RuntimeError as e:
        print("caught", e)
    await asyncio.sleep(1)
    print(await asyncio.gather(ok(1), bad(), return_exceptions=True))
asyncio.run(main())
