import asyncio
async def main():
    try:
        async with asyncio.timeout(2):
            try:
                async with asyncio.timeout(1):
                    await asyncio.sleep(10)
            except TimeoutError:
                print("inner")
            await asyncio.sleep(10)
    except TimeoutError:
        print("outer")
    try:
        async with asyncio.timeout(1):
            async with asyncio.timeout(2):
                await asyncio.sleep(10)
    except TimeoutError as e:
        print("outer first", repr(e))
asyncio.run(main())
