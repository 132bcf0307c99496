import asyncio
async def hello():
    print("hello")
async def main():
    hello()
    print("nothing was greeted")
    await hello()
asyncio.run(main())
