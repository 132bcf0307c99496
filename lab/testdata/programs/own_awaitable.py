import asyncio
class Later:
    def __init__(self, d, v):
        self.d, self.v = d, v
    def __await__(self):
        yield from asyncio.sleep(self.d).__await__()
        return self.v
async def main():
    print(await Later(1, "a"))
    print(await asyncio.gather(Later(2, "b"), Later(1, "c")))
    print(await asyncio.wait_for(Later(1, "d"), 5))
asyncio.run(main())
