import asyncio
from contextlib import suppress, AsyncExitStack, contextmanager
@contextmanager
def step(n):
    print("in", n)
    try:
        yield n
    finally:
        print("out", n)
class A:
    async def __aenter__(self):
        print("aenter")
    async def __aexit__(self, *exc):
        await asyncio.sleep(1)
        print("aexit")
async def main():
    with suppress(ZeroDivisionError):
        1 / 0
    async with AsyncExitStack() as stack:
        for n in range(2):
            stack.enter_context(step(n))
        await stack.enter_async_context(A())
        stack.callback(print, "callback")
        print("body")
asyncio.run(main())
