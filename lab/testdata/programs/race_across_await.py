import asyncio
balance = 100
async def withdraw(n):
    global balance
    seen = balance
    await asyncio.sleep(0.1)
    balance = seen - n
async def main():
    await asyncio.gather(*(withdraw(10) for _ in range(5)))
    print("balance", balance)
asyncio.run(main())
