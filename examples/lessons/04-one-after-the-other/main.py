import asyncio


async def fetch(page, seconds):
    print("ask for", page)
    await asyncio.sleep(seconds)
    print("have", page)
    return page


async def main():
    loop = asyncio.get_running_loop()
    begin = loop.time()
    news = await fetch("news", 2)
    mail = await fetch("mail", 3)
    seconds = round(loop.time() - begin)
    print(news, "and", mail, "after", seconds, "seconds")


asyncio.run(main())
