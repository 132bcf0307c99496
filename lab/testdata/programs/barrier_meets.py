import asyncio
async def walker(b, n):
    await asyncio.sleep(n)
    print("walker", n, "waits")
    async with b as position:
        print("passed", position >= 0)
async def main():
    b = asyncio.Barrier(3)
    await asyncio.gather(*(walker(b, n) for n in range(1, 4)))
    print(b.parties, b.n_waiting, b.broken)
asyncio.run(main())
