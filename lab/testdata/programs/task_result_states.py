import asyncio
async def ok():
    return "r"
async def bad():
    raise ValueError("b")
async def main():
    a, b, c = (asyncio.create_task(x) for x in (ok(), bad(), asyncio.sleep(9)))
    print(a.done())
    c.cancel()
    await asyncio.wait([a, b, c])
    print(a.done(), a.result(), a.exception())
    print(repr(b.exception()))
    try:
        b.result()
    except ValueError as e:
        print("b", e)
    for m in (c.result, c.exception):
        try:
            m()
        except asyncio.CancelledError:
            print("c is cancelled")
asyncio.run(main())
