import asyncio


async def main():
    loop = asyncio.get_running_loop()
    loop.call_soon(print, "tick")
    loop.call_later(1, print, "tock")
    loop.call_later(5, print, "too late")
    total = 0
    for n in range(50_000):
        total += n
    print("counted", total)
    await asyncio.sleep(2)
    print("main returns")


asyncio.run(main())
