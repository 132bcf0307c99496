import asyncio


async def child():
    print("task 1")
    await asyncio.sleep(0)
    print("task 2")


async def main():
    loop = asyncio.get_running_loop()

    def soon():
        print("soon 1")
        loop.call_soon(print, "soon 2")

    loop.call_later(1, print, "second 1")
    loop.call_later(0, print, "timer")
    loop.call_soon(soon)
    task = asyncio.create_task(child())
    print("main 0")
    await asyncio.sleep(0)
    print("main 1")
    await asyncio.sleep(0)
    print("main 2")
    await asyncio.sleep(1)
    print("main 3")
    await task


asyncio.run(main())
