"""What becomes of timeouts, wait_for, shield, as_completed and TaskGroup if their task is
cancelled in the j-th iteration, for every j. groups_cancels.golden is the output under CPython
3.13.0; TestCancels replays it. A line is the construct, j, the outcome, the iterations from the start
to the end of the task, its cancelling(), and how each task it had made ended.

    cd testdata/cpython && python3.13 groups_cancels.py > groups_cancels.golden
"""
import asyncio

CONSTRUCTS = {}
made = []


def construct(fn):
    CONSTRUCTS[fn.__name__] = fn
    return fn


async def yields(n):
    for _ in range(n):
        await asyncio.sleep(0)


async def value(n):
    await yields(n)
    return n


async def fails(n):
    await yields(n)
    raise ValueError(n)


async def cleans_up(n, m):
    try:
        await yields(n)
    except asyncio.CancelledError:
        await yields(m)
        raise


async def fails_cleaning_up(n):
    try:
        await yields(n)
    except asyncio.CancelledError:
        await yields(1)
        raise ValueError(n)


async def ignores(n, m):
    try:
        await yields(n)
    except asyncio.CancelledError:
        await yields(m)


def task(coro):
    made.append(asyncio.create_task(coro))
    return made[-1]


def child(tg, coro):
    made.append(tg.create_task(coro))
    return made[-1]


@construct
async def timeout_not_expiring():
    async with asyncio.timeout(None):
        await yields(3)


@construct
async def timeout_expiring():
    async with asyncio.timeout(0):
        await yields(3)


@construct
async def timeout_with_cleanup():
    async with asyncio.timeout(0):
        await cleans_up(2, 2)


@construct
async def timeout_failing_in_cleanup():
    async with asyncio.timeout(0):
        await fails_cleaning_up(2)


@construct
async def timeout_ignored():
    async with asyncio.timeout(0):
        await ignores(2, 3)
    await yields(1)


@construct
async def timeout_in_timeout():
    async with asyncio.timeout(0):
        try:
            async with asyncio.timeout(0):
                await cleans_up(2, 1)
        except TimeoutError:
            await yields(2)


@construct
async def timeout_rescheduled():
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(None) as tm:
        await yields(2)
        tm.reschedule(loop.time() - 1)
        await yields(3)


@construct
async def wait_for_coroutine():
    await asyncio.wait_for(value(3), None)


@construct
async def wait_for_task():
    await asyncio.wait_for(task(value(3)), None)


@construct
async def wait_for_task_with_cleanup():
    await asyncio.wait_for(task(cleans_up(3, 2)), None)


@construct
async def wait_for_zero_coroutine():
    await asyncio.wait_for(value(3), 0)


@construct
async def wait_for_zero_task():
    t = task(cleans_up(3, 2))
    await yields(1)
    await asyncio.wait_for(t, 0)


@construct
async def shield_task():
    await asyncio.shield(task(value(3)))


@construct
async def shield_failing_task():
    await asyncio.shield(task(fails(3)))


@construct
async def as_completed():
    async for _ in asyncio.as_completed([task(value(1)), task(value(3))]):
        await yields(1)


@construct
async def group():
    async with asyncio.TaskGroup() as tg:
        child(tg, value(1))
        child(tg, value(3))


@construct
async def group_with_body():
    async with asyncio.TaskGroup() as tg:
        child(tg, value(1))
        await yields(3)


@construct
async def group_with_cleanup():
    async with asyncio.TaskGroup() as tg:
        child(tg, cleans_up(2, 2))
        child(tg, cleans_up(3, 1))
        await cleans_up(1, 1)


@construct
async def group_child_failing():
    async with asyncio.TaskGroup() as tg:
        child(tg, fails(1))
        child(tg, cleans_up(5, 2))
        await cleans_up(4, 1)


@construct
async def group_child_failing_late():
    async with asyncio.TaskGroup() as tg:
        child(tg, fails(2))
        child(tg, ignores(5, 2))
    await yields(2)


@construct
async def group_failing_in_cleanup():
    async with asyncio.TaskGroup() as tg:
        child(tg, fails_cleaning_up(3))
        await yields(2)


@construct
async def group_body_failing():
    async with asyncio.TaskGroup() as tg:
        child(tg, cleans_up(5, 2))
        await yields(1)
        raise KeyError


@construct
async def group_error_caught():
    try:
        async with asyncio.TaskGroup() as tg:
            child(tg, fails(1))
            child(tg, cleans_up(5, 2))
    except ExceptionGroup:
        pass
    await yields(2)


@construct
async def group_in_group_failing():
    async with asyncio.TaskGroup() as outer:
        child(outer, cleans_up(6, 1))
        async with asyncio.TaskGroup() as tg:
            child(tg, fails(1))
            child(tg, cleans_up(6, 1))


@construct
async def group_in_group_outer_failing():
    async with asyncio.TaskGroup() as outer:
        child(outer, fails(1))
        async with asyncio.TaskGroup() as tg:
            child(tg, cleans_up(6, 2))


@construct
async def group_in_child():
    async def inner():
        async with asyncio.TaskGroup() as tg:
            child(tg, cleans_up(4, 1))
            await yields(2)
    async with asyncio.TaskGroup() as tg:
        child(tg, inner())


@construct
async def group_children_made_late():
    async def maker(tg):
        await yields(1)
        child(tg, value(2))
    async with asyncio.TaskGroup() as tg:
        child(tg, maker(tg))


@construct
async def timeout_around_group():
    async with asyncio.timeout(0):
        async with asyncio.TaskGroup() as tg:
            child(tg, cleans_up(5, 2))


@construct
async def timeout_around_group_failing_in_cleanup():
    async with asyncio.timeout(0):
        async with asyncio.TaskGroup() as tg:
            child(tg, fails_cleaning_up(5))


@construct
async def group_around_timeout():
    async with asyncio.TaskGroup() as tg:
        child(tg, cleans_up(4, 1))
        try:
            async with asyncio.timeout(0):
                await yields(4)
        except TimeoutError:
            await yields(1)


@construct
async def cleanup_after_a_cancel_caught():
    try:
        await yields(4)
    except asyncio.CancelledError:
        try:
            async with asyncio.timeout(0):
                await yields(3)
        except TimeoutError:
            pass
        async with asyncio.TaskGroup() as tg:
            child(tg, value(1))
        raise


def outcome(task):
    if not task.done():
        return "pending"
    if task.cancelled():
        return "cancelled"
    return kind(task.exception())


def kind(exc):
    if exc is None:
        return "ok"
    if isinstance(exc, ExceptionGroup):
        return "group(" + ",".join(kind(e) for e in exc.exceptions) + ")"
    return type(exc).__name__


async def scenario(fn, cancels):
    made.clear()
    n, end, running = 0, None, True

    async def body():
        nonlocal end
        try:
            await fn()
        finally:
            end = n

    t = asyncio.create_task(body())

    def tick():
        nonlocal n
        n += 1
        if n in cancels:
            t.cancel()
        if running:
            loop.call_soon(tick)
    loop = asyncio.get_running_loop()
    # As the task, tick is in the queue of the next iteration, but behind it.
    loop.call_soon(tick)
    await yields(40)
    running = False
    await yields(1)
    ends = " ".join(outcome(m) for m in made)
    print(fn.__name__, "+".join(map(str, cancels)) or "-", outcome(t), end, t.cancelling(), ends or "-")
    for m in made:
        m.cancel()


async def main():
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda *_: None)
    for fn in CONSTRUCTS.values():
        await scenario(fn, ())
        for j in range(1, 9):
            await scenario(fn, (j,))
        for j in range(1, 6):
            for k in range(1, 4):
                await scenario(fn, (j, j + k))


asyncio.run(main())
