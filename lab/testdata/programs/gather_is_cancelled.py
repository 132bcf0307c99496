import asyncio
async def child(n):
    try:
        await asyncio.sleep(10)
    finally:
        print("child", n, "ends")
async def main():
    g = asyncio.gather(child(1), child(2))
    await asyncio.sleep(1)
    g.cancel()
    try:
        await g
    except asyncio.CancelledError:
        print("cancelled")
asyncio.run(main())
