"""Prints what CPython's asyncio queues do, step by step: each line is a scenario's name and its
events, each with the iteration of the event loop, counted from the start of the scenario.
queues_ticks.golden is its output under CPython 3.13.0; TestQueue_Traces replays each scenario. Python and
Go scenarios have the same names.

    python3.13 testdata/cpython/queues_ticks.py > testdata/cpython/queues_ticks.golden
"""
import asyncio

SCENARIOS = {}


def scenario(fn):
    SCENARIOS[fn.__name__] = fn
    return fn


class Trace:
    """Counts iterations: first in each, because it was first in the one before."""

    def __init__(self):
        self.n = 0
        self.events = []
        self.loop = asyncio.get_running_loop()
        self.handle = self.loop.call_soon(self.tick)

    def tick(self):
        self.n += 1
        self.handle = self.loop.call_soon(self.tick)

    def note(self, what):
        self.events.append(f'{self.n}:{what}')

    def task(self, name, wait):
        async def body():
            try:
                v = await wait()
                self.note(name if v is None else f'{name}={v}')
            except asyncio.CancelledError:
                self.note(f'{name}!cancelled')
                raise
            except asyncio.QueueShutDown:
                self.note(f'{name}!shutdown')
        return asyncio.create_task(body())

    def get(self, name, q):
        return self.task(name, q.get)

    def put(self, name, q, v):
        return self.task(name, lambda: q.put(v))

    def join(self, name, q):
        return self.task(name, q.join)


async def settle(n=5):
    for _ in range(n):
        await asyncio.sleep(0)


@scenario
async def get_of_a_value_does_not_suspend(t):
    q = asyncio.Queue()
    q.put_nowait(1)
    t.note(await q.get())


@scenario
async def put_with_room_does_not_suspend(t):
    q = asyncio.Queue(1)
    await q.put(1)
    t.note(q.qsize())


@scenario
async def put_wakes_getter(t):
    q = asyncio.Queue()
    t.get('a', q)
    await settle()
    t.note('put')
    q.put_nowait(1)
    await settle()


@scenario
async def get_wakes_putter(t):
    q = asyncio.Queue(1)
    q.put_nowait(1)
    t.put('a', q, 2)
    await settle()
    t.note(q.get_nowait())
    await settle()
    t.note(q)


@scenario
async def getters_in_order(t):
    q = asyncio.Queue()
    for name in 'abc':
        t.get(name, q)
    await settle()
    for v in range(3):
        q.put_nowait(v)
    t.note(q)
    await settle()


@scenario
async def putters_in_order(t):
    q = asyncio.Queue(1)
    q.put_nowait(0)
    for v, name in enumerate('abc', 1):
        t.put(name, q, v)
    await settle()
    t.note(q)
    for _ in range(4):
        t.note(q.get_nowait())
        await asyncio.sleep(0)


@scenario
async def robbed_getter_goes_to_the_end(t):
    q = asyncio.Queue()
    t.get('a', q)
    t.get('b', q)
    await settle()
    q.put_nowait(1)
    t.note(q.get_nowait())
    await settle()
    t.note(q)
    q.put_nowait(2)
    await settle()
    q.put_nowait(3)
    await settle()


@scenario
async def robbed_putter_goes_to_the_end(t):
    q = asyncio.Queue(1)
    q.put_nowait(1)
    t.put('a', q, 2)
    t.put('b', q, 3)
    await settle()
    t.note(q.get_nowait())
    q.put_nowait(9)
    await settle()
    t.note(q)
    for _ in range(3):
        t.note(q.get_nowait())
        await settle()


@scenario
async def cancelled_getter_passes_the_wake_up_on(t):
    q = asyncio.Queue()
    a = t.get('a', q)
    t.get('b', q)
    await settle()
    q.put_nowait(1)
    a.cancel()
    t.note(q)
    await settle()


@scenario
async def cancelled_putter_passes_the_wake_up_on(t):
    q = asyncio.Queue(1)
    q.put_nowait(1)
    a = t.put('a', q, 2)
    t.put('b', q, 3)
    await settle()
    t.note(q.get_nowait())
    a.cancel()
    t.note(q)
    await settle()
    t.note(q)


@scenario
async def cancelled_getter_with_nothing_left_wakes_nobody(t):
    q = asyncio.Queue()
    a = t.get('a', q)
    t.get('b', q)
    await settle()
    q.put_nowait(1)
    a.cancel()
    t.note(q.get_nowait())
    await settle()
    t.note(q)
    q.put_nowait(2)
    await settle()


@scenario
async def cancelled_getter_is_counted_until_it_has_left(t):
    q = asyncio.Queue()
    a = t.get('a', q)
    t.get('b', q)
    await settle()
    a.cancel()
    t.note(q)
    q.put_nowait(1)
    t.note(q)
    await settle()


@scenario
async def cancelled_getter_behind_is_counted(t):
    q = asyncio.Queue()
    t.get('a', q)
    b = t.get('b', q)
    await settle()
    b.cancel()
    q.put_nowait(1)
    t.note(q)
    await settle()
    t.note(q)


@scenario
async def cancel_then_put_in_one_iteration(t):
    q = asyncio.Queue()
    a = t.get('a', q)
    await settle()
    a.cancel()
    q.put_nowait(1)
    await settle()
    t.note(q)


@scenario
async def cancelled_and_uncancelled_getter_gets(t):
    q = asyncio.Queue()
    a = t.get('a', q)
    await settle()
    q.put_nowait(1)
    a.cancel()
    a.uncancel()
    await settle()
    t.note(q)


@scenario
async def cancel_not_started(t):
    q = asyncio.Queue()
    q.put_nowait(1)
    a = t.get('a', q)
    a.cancel()
    await settle()
    t.note(q)


@scenario
async def all_woken_and_one_cancelled(t):
    q = asyncio.Queue()
    tasks = [t.get(name, q) for name in 'abcd']
    await settle()
    for v in range(3):
        q.put_nowait(v)
    tasks[1].cancel()
    t.note(q)
    await settle()
    t.note(q)


@scenario
async def newcomer_overtakes_the_woken(t):
    q = asyncio.Queue()
    t.get('a', q)
    await settle()
    t.get('new', q)
    q.put_nowait(1)
    await settle()
    t.note(q)
    q.put_nowait(2)
    await settle()


@scenario
async def producer_and_consumer(t):
    q = asyncio.Queue(2)

    async def produce():
        for v in range(6):
            await q.put(v)
            t.note(f'put{v}')

    async def consume():
        for _ in range(6):
            t.note(f'got{await q.get()}')
    asyncio.create_task(consume())
    asyncio.create_task(produce())
    await settle(10)


@scenario
async def two_producers_two_consumers(t):
    q = asyncio.Queue(1)

    async def produce(name):
        for v in range(3):
            await q.put(f'{name}{v}')
            t.note(f'put-{name}{v}')

    async def consume(name):
        for _ in range(3):
            t.note(f'{name}-got-{await q.get()}')
    for name in 'xy':
        asyncio.create_task(produce(name))
    for name in 'cd':
        asyncio.create_task(consume(name))
    await settle(15)


@scenario
async def join_waits_for_task_done(t):
    q = asyncio.Queue()
    q.put_nowait(1)
    q.put_nowait(2)
    t.join('j', q)
    t.join('k', q)
    await settle()
    q.get_nowait()
    q.task_done()
    await settle()
    t.note(q)
    q.get_nowait()
    q.task_done()
    q.put_nowait(3)
    await settle()
    t.note(q)


@scenario
async def join_of_nothing_does_not_suspend(t):
    q = asyncio.Queue()
    await q.join()
    t.note('joined')


@scenario
async def join_cancelled(t):
    q = asyncio.Queue()
    q.put_nowait(1)
    j = t.join('j', q)
    k = t.join('k', q)
    await settle()
    j.cancel()
    await settle()
    q.task_done()
    k.cancel()
    await settle()


@scenario
async def shutdown_wakes_getters_then_putters(t):
    q = asyncio.Queue(1)
    t.get('a', q)
    t.get('b', q)
    await settle()

    async def shutdown():
        t.note(q)
        q.shutdown()
        t.note(q)
    t.put('p', q, 2)
    t.task('s', shutdown)
    q.put_nowait(1)
    await settle()
    t.note(q)


@scenario
async def shutdown_lets_what_is_there_be_got(t):
    q = asyncio.Queue(2)
    q.put_nowait(1)
    q.put_nowait(2)
    t.put('p', q, 3)
    await settle()
    q.shutdown()
    t.note(q)
    await settle()
    for name in 'abc':
        t.get(name, q)
    await settle()
    t.note(q)


@scenario
async def shutdown_immediately(t):
    q = asyncio.Queue(2)
    q.put_nowait(1)
    q.put_nowait(2)
    t.put('p', q, 3)
    t.join('j', q)
    await settle()
    q.shutdown(immediate=True)
    t.note(q)
    await settle()
    t.note(q)


@scenario
async def shutdown_immediately_with_one_being_worked_on(t):
    q = asyncio.Queue()
    q.put_nowait(1)
    q.put_nowait(2)
    t.join('j', q)
    await settle()
    t.note(q.get_nowait())
    q.shutdown(immediate=True)
    await settle()
    t.note(q)
    q.task_done()
    await settle()


@scenario
async def shutdown_immediately_with_too_few_unfinished(t):
    q = asyncio.Queue()
    q.put_nowait(1)
    q.put_nowait(2)
    q.task_done()
    t.join('j', q)
    await settle()
    q.shutdown(immediate=True)
    t.note(q)
    await settle()
    await q.join()
    t.note(q)


@scenario
async def shutdown_and_cancel_of_a_getter(t):
    q = asyncio.Queue()
    a = t.get('a', q)
    t.get('b', q)
    await settle()
    q.shutdown()
    a.cancel()
    await settle()
    t.note(q)


@scenario
async def shutdown_of_a_woken_getter(t):
    q = asyncio.Queue()
    t.get('a', q)
    t.get('b', q)
    await settle()
    q.put_nowait(1)
    q.shutdown(immediate=True)
    await settle()
    t.note(q)


@scenario
async def priority_queue(t):
    q = asyncio.PriorityQueue()
    for v in [5, 3, 8, 1, 9, 2, 7, 4, 6, 0]:
        q.put_nowait(v)
        t.note(q)
    while not q.empty():
        t.note(q.get_nowait())
        t.note(q)


@scenario
async def priority_queue_with_getters(t):
    q = asyncio.PriorityQueue()
    for name in 'abc':
        t.get(name, q)
    await settle()
    for v in [3, 1, 2]:
        q.put_nowait(v)
    await settle()


@scenario
async def lifo_queue(t):
    q = asyncio.LifoQueue(3)
    for v in [1, 2, 3]:
        q.put_nowait(v)
    t.put('p', q, 4)
    await settle()
    t.note(q)
    for _ in range(4):
        t.note(q.get_nowait())
        await asyncio.sleep(0)


async def main():
    for name, fn in SCENARIOS.items():
        t = Trace()
        # The counter must be first in the queue from the next iteration on.
        await asyncio.sleep(0)
        t.n = 0
        await fn(t)
        t.handle.cancel()
        print(name, '|'.join(t.events), sep='|')
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        await settle()


asyncio.run(main())
