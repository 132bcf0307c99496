import asyncio
async def ticker(n):
    try:
        for i in range(n):
            yield i
            await asyncio.sleep(1)
    finally:
        print("ticker closed")
async def main():
    async for t in ticker(3):
        print("tick", t)
    print([x async for x in ticker(2)])
    async for t in ticker(5):
        if t == 1:
            break
    print("left the loop")
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    g = ticker(5)
    print(await anext(g))
    await g.aclose()
    print("end")
asyncio.run(main())
