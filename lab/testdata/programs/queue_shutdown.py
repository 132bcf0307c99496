import asyncio
async def consumer(q):
    try:
        while True:
            print("got", await q.get())
    except asyncio.QueueShutDown:
        print("shut down")
async def main():
    q = asyncio.Queue()
    t = asyncio.create_task(consumer(q))
    for i in range(3):
        await q.put(i)
    q.shutdown()
    await t
    try:
        q.put_nowait(9)
    except asyncio.QueueShutDown as e:
        print(repr(e))
asyncio.run(main())
