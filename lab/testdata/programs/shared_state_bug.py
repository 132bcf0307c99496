import asyncio
cache = {}
calls = 0
async def load(key):
    global calls
    if key not in cache:
        calls += 1
        await asyncio.sleep(1)
        cache[key] = calls
    return cache[key]
async def main():
    print(await asyncio.gather(*(load("k") for _ in range(3))), calls)
    pending = {}
    async def once(key):
        if key not in pending:
            pending[key] = asyncio.create_task(asyncio.sleep(1, "loaded"))
        return await pending[key]
    print(await asyncio.gather(*(once("k") for _ in range(3))), len(pending))
asyncio.run(main())
