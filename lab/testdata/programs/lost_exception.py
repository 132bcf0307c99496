import asyncio
def handler(loop, context):
    print("handler:", context["message"], repr(context.get("exception")))
async def boom():
    await asyncio.sleep(1)
    raise ValueError("lost")
async def main():
    asyncio.get_running_loop().set_exception_handler(handler)
    asyncio.create_task(boom())
    await asyncio.sleep(2)
    print("main ends")
asyncio.run(main())
