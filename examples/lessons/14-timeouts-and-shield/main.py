import asyncio


async def save(name, seconds):
    try:
        await asyncio.sleep(seconds)
        print("saved", name)
    except asyncio.CancelledError:
        print("gave up", name)
        raise


async def main():
    try:
        async with asyncio.timeout(2):
            await save("A", 5)
    except TimeoutError:
        print("A took too long")

    b = asyncio.create_task(save("B", 3))
    try:
        await asyncio.wait_for(asyncio.shield(b), 1)
    except TimeoutError:
        print("B takes long, and goes on")
    await b
    print("main ends")


asyncio.run(main())
