import asyncio


class Account:
    def __init__(self):
        self.balance = 100
        self.lock = asyncio.Lock()


async def withdraw(account, name, amount):
    async with account.lock:
        seen = account.balance
        await asyncio.sleep(1)
        account.balance = seen - amount
        print(name, "leaves", account.balance)


async def download(slots, name, seconds):
    async with slots:
        print("start", name)
        await asyncio.sleep(seconds)
        print("end", name)


async def main():
    account = Account()
    await asyncio.gather(withdraw(account, "a", 30), withdraw(account, "b", 50))
    print("balance", account.balance)

    slots = asyncio.Semaphore(2)
    files = [("one", 4), ("two", 1), ("three", 1), ("four", 1)]
    await asyncio.gather(*[download(slots, name, seconds) for name, seconds in files])
    print("main ends")


asyncio.run(main())
