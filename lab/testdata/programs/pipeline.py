import asyncio, random
random.seed(7)
async def stage(name, source, sink, delay):
    while True:
        item = await source.get()
        if item is None:
            if sink:
                await sink.put(None)
            return
        await asyncio.sleep(delay)
        print(f"{name} {item} at {asyncio.get_running_loop().time():.2f}")
        if sink:
            await sink.put(item * 2)
async def main():
    a, b = asyncio.Queue(1), asyncio.Queue(1)
    ts = [asyncio.create_task(stage("one", a, b, 0.3)), asyncio.create_task(stage("two", b, None, 0.5))]
    for i in range(4):
        await a.put(random.randint(1, 100))
    await a.put(None)
    await asyncio.gather(*ts)
    print(random.random(), random.choice("abc"), random.sample(range(10), 3), random.uniform(1, 2))
asyncio.run(main())