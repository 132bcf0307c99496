import asyncio


async def cook(dish, seconds):
    print("start", dish)
    await asyncio.sleep(seconds)
    print("done", dish)
    return dish


async def main():
    rice = asyncio.create_task(cook("rice", 3))
    soup = asyncio.create_task(cook("soup", 2))
    print("both ordered")
    print("got", await rice)
    print("got", await soup)


asyncio.run(main())
