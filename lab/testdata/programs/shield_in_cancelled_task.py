import asyncio
async def inner():
    await asyncio.sleep(2)
    print("inner survives")
async def outer(t):
    try:
        await asyncio.shield(t)
    except asyncio.CancelledError:
        print("outer cancelled")
        raise
async def main():
    t = asyncio.create_task(inner())
    o = asyncio.create_task(outer(t))
    await asyncio.sleep(1)
    o.cancel()
    r = await asyncio.gather(o, t, return_exceptions=True)
    print(r)
asyncio.run(main())
