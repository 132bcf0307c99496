import asyncio
async def producer(q):
    for i in range(5):
        await q.put(i)
        print("put", i, q.qsize())
    await q.put(None)
async def consumer(q):
    while (item := await q.get()) is not None:
        await asyncio.sleep(1)
        print("got", item)
async def main():
    q = asyncio.Queue(maxsize=2)
    await asyncio.gather(producer(q), consumer(q))
    try:
        q.get_nowait()
    except asyncio.QueueEmpty as e:
        print(repr(e))
asyncio.run(main())
