import asyncio
async def f(n):
    await asyncio.sleep(n)
    return asyncio.get_running_loop()
with asyncio.Runner() as r:
    a = r.run(f(1))
    b = r.run(f(2))
    print(a is b, r.get_loop() is a)
print(a.is_closed())
async def g():
    return "second run"
print(asyncio.run(g()))
