"""The rows of the comparison, as a program for asyncio; with --uvloop, on uvloop's loop.

The lines it prints are those of internal/peer. It runs on Python 3.11 and later.
"""

import asyncio
import io
import os
import platform
import sys
import threading
import time

GROUP = 1000
CONTENDERS = 100


def timed(row):
    """A row that is measured as a whole, after a tenth of n to warm up."""

    async def run(name, n):
        await row(max(1, n // 10))
        start = time.perf_counter_ns()
        await row(n)
        return [(name, n, time.perf_counter_ns() - start, 0)]

    return run


def resident():
    try:
        with open("/proc/self/statm", "rb") as f:
            return int(f.read().split()[1]) * os.sysconf("SC_PAGESIZE")
    except OSError:
        return 0


async def instant():
    return 1


async def suspending():
    await asyncio.sleep(0)
    return 1


async def yields(n):
    for _ in range(n):
        await asyncio.sleep(0)


async def yields_of_two(n):
    await asyncio.gather(yields(n // 2), yields(n // 2))


async def spawn_and_await(n):
    for _ in range(n):
        await asyncio.create_task(instant())


async def gather_now(n):
    for _ in range(max(1, n // GROUP)):
        await asyncio.gather(*[instant() for _ in range(GROUP)])


async def gather_suspend(n):
    for _ in range(max(1, n // GROUP)):
        await asyncio.gather(*[suspending() for _ in range(GROUP)])


def bursts(size):
    """Gathers of so many that suspend once. The first is not measured."""

    async def burst(size):
        await asyncio.gather(*[suspending() for _ in range(size)])

    async def run(name, n):
        each = min(size, n)
        await burst(each)
        start = time.perf_counter_ns()
        for _ in range(n // each):
            await burst(each)
        return [(name, n // each * each, time.perf_counter_ns() - start, 0)]

    return run


async def queue_ping_pong(n):
    ping, pong = asyncio.Queue(1), asyncio.Queue(1)

    async def echo():
        for _ in range(n):
            await pong.put(await ping.get())

    task = asyncio.create_task(echo())
    for i in range(n):
        await ping.put(i)
        await pong.get()
    await task


async def queue_throughput(n):
    queue = asyncio.Queue(1000)

    async def produce():
        for i in range(n):
            await queue.put(i)

    task = asyncio.create_task(produce())
    for _ in range(n):
        await queue.get()
    await task


async def uncontended(n):
    lock = asyncio.Lock()
    held = 0
    for _ in range(n):
        async with lock:
            held += 1
    assert held == n


async def contended(n):
    lock = asyncio.Lock()

    async def contend():
        for _ in range(max(1, n // CONTENDERS)):
            async with lock:
                await asyncio.sleep(0)

    async with asyncio.TaskGroup() as tg:
        for _ in range(CONTENDERS):
            tg.create_task(contend())


async def sleepers(n):
    async with asyncio.TaskGroup() as tg:
        for _ in range(n):
            tg.create_task(asyncio.sleep(0.001))


async def suspend(n):
    before = resident()
    start = time.perf_counter_ns()
    gate = asyncio.Event()
    tasks = [asyncio.create_task(gate.wait()) for _ in range(n)]
    await asyncio.sleep(0)  # all of them start, and wait
    create = time.perf_counter_ns() - start
    held = resident() - before

    start = time.perf_counter_ns()
    gate.set()
    for task in tasks:
        await task
    return create, time.perf_counter_ns() - start, held


async def suspended(_, n):
    create, finish, held = await suspend(n)
    create_again, finish_again, _ = await suspend(n)
    return [
        ("suspended_create", n, create, held),
        ("suspended_finish", n, finish, 0),
        ("suspended_create_again", n, create_again, 0),
        ("suspended_finish_again", n, finish_again, 0),
    ]


async def growth(name, n):
    create, finish, held = await suspend(n)
    return [(name, n, create + finish, held)]


async def timers(n):
    loop = asyncio.get_running_loop()
    for _ in range(n):
        loop.call_later(3600, print).cancel()


async def cancels(name, n):
    never = asyncio.Event()
    tasks = [asyncio.create_task(never.wait()) for _ in range(n)]
    await asyncio.sleep(0)
    start = time.perf_counter_ns()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    took = time.perf_counter_ns() - start
    assert all(task.cancelled() for task in tasks)
    return [(name, n, took, 0)]


async def print_tasks(name, n):
    gate = asyncio.Event()
    tasks = [asyncio.create_task(gate.wait()) for _ in range(n)]
    await asyncio.sleep(0)

    def print_all():
        to = io.StringIO()
        for task in asyncio.all_tasks():
            task.print_stack(file=to)

    print_all()
    start = time.perf_counter_ns()
    print_all()
    took = time.perf_counter_ns() - start
    gate.set()
    await asyncio.gather(*tasks)
    return [(name, n, took, 0)]


async def task_group(n):
    for _ in range(max(1, n // GROUP)):
        async with asyncio.TaskGroup() as tg:
            for _ in range(GROUP):
                tg.create_task(instant())


async def threadsafe(n):
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    calls = 0

    def call():
        nonlocal calls
        calls += 1
        if calls == n:
            done.set_result(None)

    def send():
        for _ in range(n):
            loop.call_soon_threadsafe(call)

    thread = threading.Thread(target=send)
    thread.start()
    await done
    thread.join()


async def threadsafe_latency(n):
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    answer = threading.Semaphore(0)

    def send():
        for _ in range(n):
            loop.call_soon_threadsafe(answer.release)
            answer.acquire()
        loop.call_soon_threadsafe(done.set_result, None)

    thread = threading.Thread(target=send)
    thread.start()
    await done
    thread.join()


async def to_thread(n):
    for _ in range(n):
        await asyncio.to_thread(int)


async def echo_streams(size):
    """An echo server; its buffers have size bytes. So do those of the other kind, which come from the loop."""

    async def handle(reader, writer):
        try:
            while data := await reader.read(size):
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()

    return await asyncio.start_server(handle, "127.0.0.1", 0, backlog=4096)


class EchoProtocol(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.transport.write(data)

    # What is not read slows its sender down.
    def pause_writing(self):
        self.transport.pause_reading()

    def resume_writing(self):
        self.transport.resume_reading()


async def echo_protocol(_):
    return await asyncio.get_running_loop().create_server(EchoProtocol, "127.0.0.1", 0, backlog=4096)


async def echo(kind, size):
    server = await {"streams": echo_streams, "protocol": echo_protocol}[kind](size)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


ROWS = {
    "yield1": timed(yields),
    "yield2": timed(yields_of_two),
    "spawn": timed(spawn_and_await),
    "gather_now": timed(gather_now),
    "gather_suspend": timed(gather_suspend),
    "gather3000": bursts(3000),
    "gather10000": bursts(10_000),
    "gather100000": bursts(100_000),
    "queue1": timed(queue_ping_pong),
    "queue1000": timed(queue_throughput),
    "lock": timed(uncontended),
    "lock100": timed(contended),
    "sleepers": timed(sleepers),
    "suspended": suspended,
    "growth": growth,
    "timer": timed(timers),
    "cancel": cancels,
    "taskgroup": timed(task_group),
    "threadsafe": timed(threadsafe),
    "threadsafe_latency": timed(threadsafe_latency),
    "printtasks": print_tasks,
    "tothread": timed(to_thread),
}


def main(args):
    loop_factory = None
    version = f"{platform.python_implementation()} {platform.python_version()}"
    if args[:1] == ["--uvloop"]:
        import uvloop

        args = args[1:]
        loop_factory = uvloop.new_event_loop
        version = f"uvloop {uvloop.__version__}, {version}"
    if args == ["version"]:
        print(version)
    elif args == ["rows"]:
        print("\n".join(sorted(ROWS)))
    elif args[0] == "serve":
        _, kind, size = args
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            runner.run(echo(kind, int(size)))
    else:
        name, n = args
        with asyncio.Runner(loop_factory=loop_factory) as runner:
            for measurement in runner.run(ROWS[name](name, int(n))):
                print(*measurement, sep=",")


if __name__ == "__main__":
    main(sys.argv[1:])
