import asyncio
async def main():
    loop = asyncio.get_running_loop()
    begin = loop.time()
    try:
        async with asyncio.timeout(1) as cm:
            print("inside")
            await asyncio.sleep(5)
            print("not reached")
    except TimeoutError:
        print("timed out after", loop.time() - begin, cm.expired())
    async with asyncio.timeout(3) as cm:
        await asyncio.sleep(1)
        cm.reschedule(loop.time() + 10)
        await asyncio.sleep(5)
    print("in time", cm.expired(), loop.time() - begin)
asyncio.run(main())
