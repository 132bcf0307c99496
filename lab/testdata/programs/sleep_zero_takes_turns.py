import asyncio
async def count(name):
    for i in range(3):
        print(name, i)
        await asyncio.sleep(0)
async def greedy():
    for i in range(3):
        print("greedy", i)
async def main():
    await asyncio.gather(count("a"), greedy(), count("b"))
asyncio.run(main())
