import asyncio
async def main():
    a = asyncio.create_task(asyncio.sleep(5))
    b = asyncio.create_task(asyncio.sleep(1, "b"))
    asyncio.get_running_loop().call_later(0.5, a.cancel)
    try:
        await asyncio.gather(a, b)
    except asyncio.CancelledError:
        print("gather was cancelled by a child", a.cancelled(), b.done())
    print(await b)
asyncio.run(main())
