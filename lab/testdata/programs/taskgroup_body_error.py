import asyncio
async def child():
    try:
        await asyncio.sleep(5)
    finally:
        print("child out")
async def main():
    try:
        async with asyncio.TaskGroup() as tg:
            tg.create_task(child())
            await asyncio.sleep(1)
            raise RuntimeError("body")
    except ExceptionGroup as eg:
        print(eg, eg.exceptions)
asyncio.run(main())
