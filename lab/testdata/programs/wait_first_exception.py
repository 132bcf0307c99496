import asyncio
async def ok():
    await asyncio.sleep(1)
async def bad():
    await asyncio.sleep(2)
    raise KeyError("k")
async def slow():
    await asyncio.sleep(5)
async def main():
    ts = [asyncio.create_task(c) for c in (ok(), bad(), slow())]
    done, pending = await asyncio.wait(ts, return_when=asyncio.FIRST_EXCEPTION)
    for t in ts:
        if t in done:
            print("done", repr(t.exception()))
        else:
            print("pending")
asyncio.run(main())
