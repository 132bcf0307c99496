import asyncio
async def main():
    for thing in (1, None, [1], print):
        try:
            await thing
        except TypeError as e:
            print(e)
    try:
        asyncio.create_task(len)
    except TypeError as e:
        print("TypeError")
    try:
        asyncio.run(main())
    except RuntimeError as e:
        print(e)
asyncio.run(main())
