import asyncio
def handler(loop, ctx):
    print(ctx["message"].split("(")[0].split(" at ")[0][:21], repr(ctx["exception"]))
def bad():
    raise ValueError("in a callback")
async def main():
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(handler)
    loop.call_soon(bad)
    await asyncio.sleep(1)
    print("still alive")
asyncio.run(main())
