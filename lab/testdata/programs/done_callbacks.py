import asyncio
async def work():
    print("work")
    return 1
def cb(n, t):
    print("callback", n, t.result())
async def main():
    from functools import partial
    t = asyncio.create_task(work(), name="worker")
    t.add_done_callback(partial(cb, 1))
    t.add_done_callback(partial(cb, 2))
    await t
    print("after await", t.get_name())
    await asyncio.sleep(0)
asyncio.run(main())
