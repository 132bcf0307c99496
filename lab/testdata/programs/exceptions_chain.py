import asyncio
async def low():
    raise KeyError("low")
async def mid():
    try:
        await low()
    except KeyError as e:
        raise ValueError("mid") from e
async def main():
    try:
        await mid()
    except ValueError as e:
        print(repr(e), repr(e.__cause__), e.__suppress_context__)
    try:
        try:
            1 / 0
        finally:
            int("x")
    except ValueError as e:
        print(e, repr(e.__context__))
    e = RuntimeError("note")
    e.add_note("first")
    print(e.__notes__)
asyncio.run(main())
