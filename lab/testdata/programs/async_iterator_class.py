import asyncio
class Counter:
    def __init__(self, n):
        self.n = n
    def __aiter__(self):
        return self
    async def __anext__(self):
        if self.n == 0:
            raise StopAsyncIteration
        self.n -= 1
        await asyncio.sleep(0.5)
        return self.n
async def main():
    async for i in Counter(3):
        print(i)
    else:
        print("else")
    print({i: i * i async for i in Counter(3)})
asyncio.run(main())
