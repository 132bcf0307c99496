import asyncio
async def setter(f):
    await asyncio.sleep(1)
    f.set_result("value")
async def main():
    loop = asyncio.get_running_loop()
    f = loop.create_future()
    print(f.done())
    f.add_done_callback(lambda f: print("callback", f.result()))
    asyncio.create_task(setter(f))
    print(await f)
    try:
        f.set_result(2)
    except asyncio.InvalidStateError:
        print("invalid state")
    g = loop.create_future()
    try:
        g.result()
    except asyncio.InvalidStateError as e:
        print(e)
    g.set_exception(ValueError("x"))
    try:
        await g
    except ValueError as e:
        print("raised", e)
    h = loop.create_future()
    print(h.cancel(), h.cancelled(), h.cancel())
asyncio.run(main())
