import asyncio
async def f():
    return 1
async def main():
    c = f()
    try:
        await asyncio.wait([c])
    except TypeError as e:
        print("TypeError:", e)
    c.close()
    try:
        await asyncio.wait([])
    except ValueError as e:
        print("ValueError:", e)
asyncio.run(main())
