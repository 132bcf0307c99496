"""Prints the tick table of CPython's asyncio: how many iterations of the event loop pass
between a trigger and its effect. ticks.golden is its output under CPython 3.13.0;
TestTicks replays each row. Python and Go rows have the same names.

    python3.13 testdata/cpython/ticks.py > testdata/cpython/ticks.golden
"""
import asyncio

ROWS = {}


def row(fn):
    ROWS[fn.__name__] = fn
    return fn


class Ticker:
    """Counts iterations: first in each, because it was first in the one before."""

    def __init__(self):
        self.n = 0
        self.loop = asyncio.get_running_loop()
        self.handle = self.loop.call_soon(self.tick)

    def tick(self):
        self.n += 1
        self.handle = self.loop.call_soon(self.tick)


async def instant():
    return 1


async def settle():
    for _ in range(5):
        await asyncio.sleep(0)


async def observe(t, wait, trigger):
    """Runs wait in a task until it blocks, then trigger; returns the ticks to its end."""
    end = None

    async def waiter():
        nonlocal end
        try:
            await wait()
        except (Exception, asyncio.CancelledError):
            pass
        end = t.n

    task = asyncio.create_task(waiter())
    await settle()
    start = t.n
    trigger(task)
    await settle()
    await settle()
    assert task.done()
    return end - start


async def cost(t, wait):
    start = t.n
    await wait()
    return t.n - start


@row
async def future_set_result(t):
    f = t.loop.create_future()
    return await observe(t, lambda: f, lambda _: f.set_result(1))


@row
async def future_set_exception(t):
    f = t.loop.create_future()
    return await observe(t, lambda: f, lambda _: f.set_exception(ValueError()))


@row
async def future_cancel(t):
    f = t.loop.create_future()
    return await observe(t, lambda: f, lambda _: f.cancel())


@row
async def done_callback(t):
    f = t.loop.create_future()
    start, end = t.n, None

    def cb(_):
        nonlocal end
        end = t.n
    f.add_done_callback(cb)
    f.set_result(1)
    await settle()
    return end - start


@row
async def done_callback_of_done_future(t):
    f = t.loop.create_future()
    f.set_result(1)
    start, end = t.n, None

    def cb(_):
        nonlocal end
        end = t.n
    f.add_done_callback(cb)
    await settle()
    return end - start


@row
async def await_done_future(t):
    f = t.loop.create_future()
    f.set_result(1)
    return await cost(t, lambda: f)


@row
async def await_coroutine(t):
    return await cost(t, instant)


@row
async def await_done_task(t):
    task = asyncio.create_task(instant())
    await settle()
    return await cost(t, lambda: task)


@row
async def task_awaiting_future(t):
    f = t.loop.create_future()

    async def inner():
        await f
    task = asyncio.create_task(inner())
    return await observe(t, lambda: task, lambda _: f.set_result(1))


@row
async def await_new_instant_task(t):
    return await cost(t, lambda: asyncio.create_task(instant()))


@row
async def sleep_zero(t):
    return await cost(t, lambda: asyncio.sleep(0))


@row
async def sleep_negative(t):
    return await cost(t, lambda: asyncio.sleep(-1))


@row
async def gather_future(t):
    f = t.loop.create_future()
    return await observe(t, lambda: asyncio.gather(f), lambda _: f.set_result(1))


@row
async def gather_future_exception(t):
    f = t.loop.create_future()
    return await observe(t, lambda: asyncio.gather(f), lambda _: f.set_exception(ValueError()))


@row
async def gather_two_instant(t):
    return await cost(t, lambda: asyncio.gather(instant(), instant()))


@row
async def gather_return_exceptions_two_instant(t):
    return await cost(t, lambda: asyncio.gather(instant(), instant(), return_exceptions=True))


@row
async def gather_done_future(t):
    f = t.loop.create_future()
    f.set_result(1)
    return await cost(t, lambda: asyncio.gather(f, f))


@row
async def gather_nothing(t):
    return await cost(t, lambda: asyncio.gather())


@row
async def gather_cancelled(t):
    f = t.loop.create_future()
    return await observe(t, lambda: asyncio.gather(f), lambda task: task.cancel())


@row
async def gather_of_tasks_cancelled(t):
    f = t.loop.create_future()

    async def inner():
        await f
    return await observe(t, lambda: asyncio.gather(inner(), inner()), lambda task: task.cancel())


@row
async def wait_future(t):
    f = t.loop.create_future()
    return await observe(t, lambda: asyncio.wait({f}), lambda _: f.set_result(1))


@row
async def wait_done_future(t):
    f = t.loop.create_future()
    f.set_result(1)
    return await cost(t, lambda: asyncio.wait({f}))


@row
async def wait_instant_task(t):
    return await cost(t, lambda: asyncio.wait([asyncio.create_task(instant())]))


@row
async def wait_timeout_zero(t):
    f = t.loop.create_future()
    return await cost(t, lambda: asyncio.wait([f], timeout=0))


@row
async def wait_first_completed(t):
    f, g = t.loop.create_future(), t.loop.create_future()
    return await observe(
        t, lambda: asyncio.wait([f, g], return_when=asyncio.FIRST_COMPLETED),
        lambda _: g.set_result(1))


@row
async def wait_first_exception(t):
    f, g = t.loop.create_future(), t.loop.create_future()
    return await observe(
        t, lambda: asyncio.wait([f, g], return_when=asyncio.FIRST_EXCEPTION),
        lambda _: g.set_exception(ValueError()))


@row
async def wait_cancelled(t):
    f = t.loop.create_future()
    return await observe(t, lambda: asyncio.wait({f}), lambda task: task.cancel())


@row
async def cancel_blocked_on_future(t):
    f = t.loop.create_future()
    return await observe(t, lambda: f, lambda task: task.cancel())


@row
async def cancel_sleeping(t):
    return await observe(t, lambda: asyncio.sleep(1000), lambda task: task.cancel())


@row
async def cancel_not_started(t):
    entered = False

    async def body():
        nonlocal entered
        entered = True
    task = asyncio.create_task(body())
    start, end = t.n, None
    # The done callback runs one iteration after the task is done.

    def cb(_):
        nonlocal end
        end = t.n - 1
    task.add_done_callback(cb)
    task.cancel()
    await settle()
    assert not entered and task.cancelled()
    return end - start


@row
async def cancel_through_a_task(t):
    f = t.loop.create_future()

    async def inner():
        await f
    task = asyncio.create_task(inner())
    return await observe(t, lambda: task, lambda outer: outer.cancel())


@row
async def cancel_twice_delivers_once(t):
    f = t.loop.create_future()
    seen = 0

    async def body():
        nonlocal seen
        for _ in range(2):
            try:
                await f
            except asyncio.CancelledError:
                seen += 1
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                return
    task = asyncio.create_task(body())
    await settle()
    task.cancel()
    task.cancel()
    await settle()
    assert task.cancelling() == 2
    return seen


@row
async def eager_instant_task(t):
    return await cost(t, lambda: asyncio.eager_task_factory(t.loop, instant()))


@row
async def eager_gather_two_instant(t):
    return await cost(t, lambda: asyncio.gather(
        asyncio.eager_task_factory(t.loop, instant()), asyncio.eager_task_factory(t.loop, instant())))


@row
async def eager_suspending_task(t):
    return await cost(t, lambda: asyncio.eager_task_factory(t.loop, asyncio.sleep(0)))


@row
async def call_soon(t):
    start, end = t.n, None

    def cb():
        nonlocal end
        end = t.n
    t.loop.call_soon(cb)
    await settle()
    return end - start


@row
async def call_soon_threadsafe(t):
    start, end = t.n, None

    def cb():
        nonlocal end
        end = t.n
    t.loop.call_soon_threadsafe(cb)
    await settle()
    return end - start


@row
async def call_later_zero(t):
    start, end = t.n, None

    def cb():
        nonlocal end
        end = t.n
    t.loop.call_later(0, cb)
    await settle()
    return end - start


@row
async def await_self(t):
    task = None

    async def body():
        await task
    end = None

    async def outer():
        nonlocal end
        try:
            await task
        except RuntimeError:
            pass
    start = t.n
    task = asyncio.create_task(body())
    await asyncio.wait([task])
    # create -> first step 1, refused 1, done callback 1, waiter 1
    assert isinstance(task.exception(), RuntimeError)
    return t.n - start


async def main():
    for name, fn in ROWS.items():
        t = Ticker()
        # The ticker must be first in the queue from the next iteration on.
        await asyncio.sleep(0)
        print(name, await fn(t))
        t.handle.cancel()


if __name__ == "__main__":
    asyncio.run(main())
