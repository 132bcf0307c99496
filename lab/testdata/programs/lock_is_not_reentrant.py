import asyncio
async def main():
    lock = asyncio.Lock()
    async with lock:
        try:
            async with asyncio.timeout(1):
                async with lock:
                    print("not reached")
        except TimeoutError:
            print("deadlock avoided")
    try:
        lock.release()
    except RuntimeError as e:
        print(e)
asyncio.run(main())
