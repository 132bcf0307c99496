import asyncio
async def main():
    fs = [lambda: i for i in range(3)]
    print([f() for f in fs])
    fs = [lambda i=i: i for i in range(3)]
    print([f() for f in fs])
    results = []
    for i in range(3):
        async def show():
            results.append(i)
        asyncio.create_task(show())
    await asyncio.sleep(0)
    print(results)
asyncio.run(main())
