import asyncio


class Account:
    balance = 0


async def deposit(account, amount):
    seen = account.balance
    await asyncio.sleep(0)
    account.balance = seen + amount


async def two_deposits(account):
    first = asyncio.create_task(deposit(account, 10), name="first")
    await asyncio.sleep(0)
    second = asyncio.create_task(deposit(account, 10), name="second")
    await first
    await second


async def main():
    account = Account()
    await two_deposits(account)
    print("balance", account.balance)


asyncio.run(main())
