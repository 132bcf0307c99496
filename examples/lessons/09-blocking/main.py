import asyncio
import time


async def heartbeat():
    for n in range(1, 4):
        await asyncio.sleep(1)
        print("beat", n)


async def report(name):
    print("writing", name)
    time.sleep(3)
    print("wrote", name)


async def main():
    beats = asyncio.create_task(heartbeat())
    await asyncio.sleep(0)
    await report("A")
    await beats

    beats = asyncio.create_task(heartbeat())
    print("writing B in a thread")
    await asyncio.to_thread(time.sleep, 2.5)
    print("wrote B")
    await beats


asyncio.run(main())
