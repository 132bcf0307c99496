import asyncio, sys
async def quitter():
    await asyncio.sleep(1)
    print("quitting")
    sys.exit(3)
async def main():
    t = asyncio.create_task(quitter())
    await asyncio.sleep(5)
    print("not reached")
asyncio.run(main())
