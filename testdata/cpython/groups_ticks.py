"""The tick table, as ticks.py has it, of timeouts, wait_for, shield, as_completed and TaskGroup.
groups_ticks.golden is its output under CPython 3.13.0; TestTicks_Groups replays each row.

    cd testdata/cpython && python3.13 groups_ticks.py > groups_ticks.golden
"""
import asyncio

import ticks
from ticks import cost, instant, observe, row, settle

ticks.ROWS.clear()


async def forever():
    await asyncio.get_running_loop().create_future()


async def expired(coro):
    try:
        await coro
    except TimeoutError:
        return
    assert False


@row
async def timeout_zero_around_a_sleep(t):
    async def wait():
        async with asyncio.timeout(0):
            await asyncio.sleep(1000)
    return await cost(t, lambda: expired(wait()))


@row
async def timeout_zero_around_sleep_zero(t):
    async def wait():
        async with asyncio.timeout(0):
            await asyncio.sleep(0)
    return await cost(t, lambda: expired(wait()))


@row
async def timeout_zero_around_nothing(t):
    async def wait():
        async with asyncio.timeout(0):
            pass
    return await cost(t, wait)


@row
async def timeout_around_nothing(t):
    async def wait():
        async with asyncio.timeout(1000):
            pass
    return await cost(t, wait)


@row
async def timeout_of_timeout_zero(t):
    async def wait():
        async with asyncio.timeout(0):
            async with asyncio.timeout(0):
                await forever()
    return await cost(t, lambda: expired(wait()))


@row
async def timeout_rescheduled_to_the_past(t):
    async def wait():
        async with asyncio.timeout(None) as tm:
            tm.reschedule(t.loop.time() - 1)
            await forever()
    return await cost(t, lambda: expired(wait()))


@row
async def timeout_cancelled(t):
    async def wait():
        async with asyncio.timeout(1000):
            await forever()
    return await observe(t, wait, lambda task: task.cancel())


@row
async def timeout_zero_around_a_task(t):
    async def wait():
        async with asyncio.timeout(0):
            await asyncio.create_task(forever())
    return await cost(t, lambda: expired(wait()))


@row
async def wait_for_future(t):
    f = t.loop.create_future()
    return await observe(t, lambda: asyncio.wait_for(f, 1000), lambda _: f.set_result(1))


@row
async def wait_for_done_future(t):
    f = t.loop.create_future()
    f.set_result(1)
    return await cost(t, lambda: asyncio.wait_for(f, 1000))


@row
async def wait_for_instant_coroutine(t):
    return await cost(t, lambda: asyncio.wait_for(instant(), 1000))


@row
async def wait_for_zero_done_future(t):
    f = t.loop.create_future()
    f.set_result(1)
    return await cost(t, lambda: asyncio.wait_for(f, 0))


@row
async def wait_for_zero_pending_future(t):
    return await cost(t, lambda: expired(asyncio.wait_for(t.loop.create_future(), 0)))


@row
async def wait_for_zero_coroutine(t):
    return await cost(t, lambda: expired(asyncio.wait_for(instant(), 0)))


@row
async def wait_for_zero_task(t):
    task = asyncio.create_task(forever())
    await settle()
    return await cost(t, lambda: expired(asyncio.wait_for(task, 0)))


@row
async def wait_for_cancelled(t):
    return await observe(t, lambda: asyncio.wait_for(t.loop.create_future(), 1000), lambda task: task.cancel())


@row
async def wait_for_task_cancelled(t):
    inner = asyncio.create_task(forever())
    return await observe(t, lambda: asyncio.wait_for(inner, 1000), lambda task: task.cancel())


@row
async def shield_future(t):
    f = t.loop.create_future()
    return await observe(t, lambda: asyncio.shield(f), lambda _: f.set_result(1))


@row
async def shield_instant(t):
    return await cost(t, lambda: asyncio.shield(instant()))


@row
async def shield_done_future(t):
    f = t.loop.create_future()
    f.set_result(1)
    return await cost(t, lambda: asyncio.shield(f))


@row
async def shield_cancelled(t):
    f = t.loop.create_future()
    return await observe(t, lambda: asyncio.shield(f), lambda task: task.cancel())


@row
async def shield_inner_cancelled(t):
    f = t.loop.create_future()
    return await observe(t, lambda: asyncio.shield(f), lambda _: f.cancel())


@row
async def as_completed_future(t):
    f = t.loop.create_future()

    async def wait():
        async for _ in asyncio.as_completed([f]):
            pass
    return await observe(t, wait, lambda _: f.set_result(1))


@row
async def as_completed_done_future(t):
    f = t.loop.create_future()
    f.set_result(1)

    async def wait():
        async for _ in asyncio.as_completed([f]):
            pass
    return await cost(t, wait)


@row
async def as_completed_two_instant_tasks(t):
    async def wait():
        async for _ in asyncio.as_completed([asyncio.create_task(instant()), asyncio.create_task(instant())]):
            pass
    return await cost(t, wait)


@row
async def as_completed_nothing(t):
    async def wait():
        async for _ in asyncio.as_completed([]):
            pass
    return await cost(t, wait)


@row
async def as_completed_cancelled(t):
    f = t.loop.create_future()

    async def wait():
        async for _ in asyncio.as_completed([f]):
            pass
    return await observe(t, wait, lambda task: task.cancel())


@row
async def group_of_nothing(t):
    async def wait():
        async with asyncio.TaskGroup():
            pass
    return await cost(t, wait)


@row
async def group_instant_child(t):
    async def wait():
        async with asyncio.TaskGroup() as tg:
            tg.create_task(instant())
    return await cost(t, wait)


@row
async def group_of_a_future(t):
    f = t.loop.create_future()

    async def child():
        await f

    async def wait():
        async with asyncio.TaskGroup() as tg:
            tg.create_task(child())
    return await observe(t, wait, lambda _: f.set_result(1))


@row
async def group_child_fails(t):
    f = t.loop.create_future()

    async def child():
        await f

    async def wait():
        async with asyncio.TaskGroup() as tg:
            tg.create_task(child())
    return await observe(t, wait, lambda _: f.set_exception(ValueError()))


@row
async def group_child_fails_beside_another(t):
    f = t.loop.create_future()

    async def child():
        await f

    async def wait():
        async with asyncio.TaskGroup() as tg:
            tg.create_task(child())
            tg.create_task(forever())
    return await observe(t, wait, lambda _: f.set_exception(ValueError()))


@row
async def group_child_fails_beside_the_body(t):
    f = t.loop.create_future()

    async def child():
        await f

    async def wait():
        async with asyncio.TaskGroup() as tg:
            tg.create_task(child())
            await forever()
    return await observe(t, wait, lambda _: f.set_exception(ValueError()))


@row
async def group_cancelled_in_the_body(t):
    async def wait():
        async with asyncio.TaskGroup() as tg:
            tg.create_task(forever())
            await forever()
    return await observe(t, wait, lambda task: task.cancel())


@row
async def group_cancelled_at_its_end(t):
    async def wait():
        async with asyncio.TaskGroup() as tg:
            tg.create_task(forever())
    return await observe(t, wait, lambda task: task.cancel())


@row
async def group_body_fails(t):
    async def wait():
        try:
            async with asyncio.TaskGroup() as tg:
                tg.create_task(forever())
                raise ValueError
        except ExceptionGroup:
            pass
    return await cost(t, wait)


@row
async def group_in_a_group_child_fails(t):
    f = t.loop.create_future()

    async def child():
        await f

    async def wait():
        async with asyncio.TaskGroup() as outer:
            outer.create_task(forever())
            async with asyncio.TaskGroup() as tg:
                tg.create_task(child())
    return await observe(t, wait, lambda _: f.set_exception(ValueError()))


@row
async def timeout_zero_around_a_group(t):
    async def wait():
        async with asyncio.timeout(0):
            async with asyncio.TaskGroup() as tg:
                tg.create_task(forever())
    return await cost(t, lambda: expired(wait()))


asyncio.run(ticks.main())
