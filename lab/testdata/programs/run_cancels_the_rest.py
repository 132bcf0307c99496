import asyncio
async def background(n):
    try:
        await asyncio.sleep(100)
    except asyncio.CancelledError:
        print("background", n, "cancelled")
        await asyncio.sleep(n)
        print("background", n, "cleaned up")
        raise
async def main():
    ts = [asyncio.create_task(background(n)) for n in (2, 1)]
    await asyncio.sleep(1)
    print("main returns")
    return "value"
print(asyncio.run(main()))
