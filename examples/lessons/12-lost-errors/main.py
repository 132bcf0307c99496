import asyncio


async def charge(amount):
    await asyncio.sleep(1)
    raise RuntimeError("card declined for " + str(amount))


def handler(loop, context):
    print("handler:", context["message"])


async def main():
    asyncio.get_running_loop().set_exception_handler(handler)
    forgotten = asyncio.create_task(charge(5))
    kept = asyncio.create_task(charge(7))
    await asyncio.sleep(2)
    print("main goes on")
    print("kept:", kept.exception())
    await asyncio.sleep(1)
    print("main ends" if forgotten.done() else "never printed")


asyncio.run(main())
