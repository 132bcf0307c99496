import asyncio, contextvars
user = contextvars.ContextVar("user", default="nobody")
async def show(name):
    token = user.set(name)
    await asyncio.sleep(1)
    print(user.get())
    user.reset(token)
    print(user.get())
async def main():
    user.set("main")
    await asyncio.gather(show("a"), show("b"))
    print(user.get())
asyncio.run(main())
print(user.get())
