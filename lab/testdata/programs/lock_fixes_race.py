import asyncio
balance = 100
async def withdraw(lock, n):
    global balance
    async with lock:
        seen = balance
        await asyncio.sleep(0.1)
        balance = seen - n
async def main():
    lock = asyncio.Lock()
    await asyncio.gather(*[withdraw(lock, 10) for _ in range(5)])
    print("balance", balance, lock.locked())
asyncio.run(main())
