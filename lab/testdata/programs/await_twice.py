import asyncio
async def f():
    return 1
async def main():
    c = f()
    print(await c)
    try:
        await c
    except RuntimeError as e:
        print(e)
    t = asyncio.create_task(f())
    print(await t, await t)
asyncio.run(main())
