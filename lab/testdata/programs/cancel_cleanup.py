import asyncio
async def worker():
    try:
        print("working")
        await asyncio.sleep(10)
    except asyncio.CancelledError as e:
        print("cancelled", e.args)
        raise
    finally:
        print("cleanup")
async def main():
    t = asyncio.create_task(worker())
    await asyncio.sleep(1)
    t.cancel("enough")
    try:
        await t
    except asyncio.CancelledError as e:
        print("main saw", repr(e), t.cancelled(), t.done())
asyncio.run(main())
