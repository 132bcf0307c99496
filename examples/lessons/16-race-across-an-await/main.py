import asyncio


class Account:
    balance = 100


async def withdraw(account, name, amount):
    seen = account.balance
    print(name, "sees", seen)
    await asyncio.sleep(1)
    account.balance = seen - amount
    print(name, "leaves", account.balance)


async def main():
    account = Account()
    await asyncio.gather(withdraw(account, "a", 30), withdraw(account, "b", 50))
    print("balance", account.balance)


asyncio.run(main())
