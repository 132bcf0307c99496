import asyncio
async def child(n):
    print("child", n)
async def main():
    print("before")
    t = asyncio.create_task(child(1))
    print("after create")
    await child(2)
    print("after await")
    await t
    print("done")
asyncio.run(main())
