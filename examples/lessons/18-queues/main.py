import asyncio


async def produce(queue):
    for job in range(1, 6):
        await queue.put(job)
        print("put", job)


async def consume(queue, name, seconds):
    while True:
        job = await queue.get()
        print(name, "takes", job)
        await asyncio.sleep(seconds)
        print(name, "did", job)
        queue.task_done()


async def main():
    queue = asyncio.Queue(maxsize=2)
    a = asyncio.create_task(consume(queue, "a", 2))
    b = asyncio.create_task(consume(queue, "b", 5))
    await produce(queue)
    print("all put")
    await queue.join()
    print("all done")
    a.cancel()
    b.cancel()
    await asyncio.gather(a, b, return_exceptions=True)


asyncio.run(main())
