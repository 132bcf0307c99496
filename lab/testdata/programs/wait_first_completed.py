import asyncio
async def work(n, d):
    await asyncio.sleep(d)
    return n
async def main():
    tasks = [asyncio.create_task(work(i, d)) for i, d in enumerate([3, 1, 2])]
    done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    print([t.result() for t in done], len(pending))
    done, pending = await asyncio.wait(pending, timeout=1.5)
    print(sorted(t.result() for t in done), len(pending))
    for t in pending:
        t.cancel()
    print(await asyncio.gather(*pending, return_exceptions=True))
asyncio.run(main())
