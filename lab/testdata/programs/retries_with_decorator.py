import asyncio, functools
def retry(times, delay):
    def decorate(fn):
        @functools.wraps(fn)
        async def wrapper(*args, **kw):
            for attempt in range(1, times + 1):
                try:
                    return await fn(*args, **kw)
                except ConnectionError as e:
                    print(f"attempt {attempt}: {e!r}")
                    if attempt == times:
                        raise
                    await asyncio.sleep(delay * 2 ** attempt)
        return wrapper
    return decorate
calls = 0
@retry(times=3, delay=0.5)
async def fetch(url, *, ok_after):
    global calls
    calls += 1
    if calls < ok_after:
        raise ConnectionError(url)
    return f"<{url}>"
async def main():
    print(await fetch("a", ok_after=3), fetch.__name__)
    try:
        await fetch("b", ok_after=99)
    except ConnectionError as e:
        print("gave up", e)
asyncio.run(main())
