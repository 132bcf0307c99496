import asyncio


async def bank(requests, paid, lost, remembers):
    while True:
        payment, answers = await requests.get()
        if not (remembers and payment in paid):
            paid.append(payment)
        if lost:
            print("lost:", lost.pop())
        else:
            answers.put_nowait("paid")


async def pay(requests, payment):
    answers = asyncio.Queue()
    while True:
        print("asks to pay", payment)
        requests.put_nowait((payment, answers))
        try:
            async with asyncio.timeout(1):
                return await answers.get()
        except TimeoutError:
            print("no answer")


async def main():
    for remembers in (False, True):
        requests = asyncio.Queue()
        paid = []
        server = asyncio.create_task(bank(requests, paid, ["the answer"], remembers))
        await pay(requests, "rent 1")
        print("remembers:", remembers, "payments:", len(paid))
        server.cancel()


asyncio.run(main())
