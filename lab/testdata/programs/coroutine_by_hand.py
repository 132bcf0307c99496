import asyncio
async def coro():
    print("runs")
    await asyncio.sleep(0)
    print("resumed")
    return 7
c = coro()
print(type(c).__name__)
print(c.send(None))
try:
    c.send(None)
except StopIteration as e:
    print("returned", e.value)
c = coro()
c.close()
print(asyncio.iscoroutine(c), asyncio.iscoroutinefunction(coro))
try:
    c.send(None)
except RuntimeError as e:
    print(e)
