import asyncio
from contextlib import asynccontextmanager
class Connection:
    async def __aenter__(self):
        await asyncio.sleep(1)
        print("open")
        return self
    async def __aexit__(self, et, e, tb):
        print("close", et.__name__ if et else None)
        await asyncio.sleep(1)
        return et is ValueError
@asynccontextmanager
async def session(name):
    print("enter", name)
    try:
        yield name.upper()
    except KeyError as e:
        print("session saw", repr(e))
    finally:
        await asyncio.sleep(1)
        print("exit", name)
async def main():
    async with Connection() as c:
        raise ValueError("swallowed")
    async with session("s") as s, Connection():
        print("in", s)
    async with session("t"):
        raise KeyError("k")
    print(asyncio.get_running_loop().time())
asyncio.run(main())
