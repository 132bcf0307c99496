import asyncio
async def child():
    print(asyncio.current_task().get_name())
async def main():
    print(asyncio.current_task().get_name(), len(asyncio.all_tasks()))
    a = asyncio.create_task(child())
    b = asyncio.create_task(child(), name="bob")
    print(sorted(t.get_name() for t in asyncio.all_tasks()))
    await a
    await b
    a.set_name("x")
    print(a.get_name(), len(asyncio.all_tasks()))
asyncio.run(main())
