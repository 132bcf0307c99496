import asyncio
running = peak = 0
async def job(sem, n):
    global running, peak
    async with sem:
        running += 1
        peak = max(peak, running)
        await asyncio.sleep(1)
        running -= 1
        print("job", n)
async def main():
    sem = asyncio.Semaphore(2)
    async with asyncio.TaskGroup() as tg:
        for n in range(5):
            tg.create_task(job(sem, n))
    print("peak", peak)
    b = asyncio.BoundedSemaphore(1)
    try:
        b.release()
    except ValueError as e:
        print(e)
asyncio.run(main())
