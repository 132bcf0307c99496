"""Runs programs under CPython on a virtual clock: paths come on standard input, one a line, each
program runs in a process of its own, and its output goes to PATH.out and PATH.err.

The clock jumps to the next timer where a loop would wait, counts whole nanoseconds, and stands while
code runs, except for time.sleep, which moves it. Timers with equal times fire in the order they were
set, as they do on a real clock, which has moved on between the two. Sets of tasks keep their order.
A function in a thread runs to its next
time.sleep while the loop waits for it, and is woken by a timer of the loop. The time at
the end, in nanoseconds, and the status go to PATH.end. A loop that could only wait for ever ends the program with status 5.
"""
import asyncio
import asyncio.base_events
import gc
import inspect
import linecache
import os
import signal
import sys
import textwrap
import threading
import time
import traceback

now = 0  # nanoseconds
loops = []
workers = []  # a future for each function in a thread
busy = 0  # threads that are neither done nor asleep
idle = threading.Condition()
numbers = iter(range(1 << 60))


def seconds():
    return now / 1e9


def advance(to):
    global now
    now = max(now, to)


class TimerHandle(asyncio.events.TimerHandle):
    def __init__(self, when, *args, **kwds):
        super().__init__(when, *args, **kwds)
        self.number = next(numbers)

    def __lt__(self, other):
        if isinstance(other, TimerHandle):
            return (self._when, self.number) < (other._when, other.number)
        return NotImplemented


asyncio.events.TimerHandle = TimerHandle


class OrderedSet(dict):
    def __init__(self, items=()):
        super().__init__((i, None) for i in items)

    def add(self, x):
        self[x] = None

    def discard(self, x):
        self.pop(x, None)

    def remove(self, x):
        del self[x]

    def __repr__(self):
        return '{' + ', '.join(map(repr, self)) + '}' if self else 'set()'


class Selector:
    def select(self, timeout):
        if timeout is None:
            finish(5)
        advance(now + round(timeout * 1e9))
        return []

    def close(self):
        pass


class Loop(asyncio.base_events.BaseEventLoop):
    def __init__(self):
        super().__init__()
        self._clock_resolution = 1e-10
        self._selector = Selector()
        loops.append(self)

    def time(self):
        return seconds()

    def call_at(self, when, callback, *args, context=None):
        return super().call_at(round(when, 9), callback, *args, context=context)

    def _process_events(self, events):
        pass

    def _write_to_self(self):
        pass

    async def shutdown_default_executor(self, timeout=None):
        if workers:
            await asyncio.wait(workers)

    def run_in_executor(self, executor, func, *args):
        global busy
        future = self.create_future()
        worker = self.create_future()
        workers.append(worker)
        with idle:
            busy += 1

        def thread():
            global busy
            try:
                value, error = func(*args), None
            except BaseException as e:
                value, error = None, e

            def set():
                worker.set_result(None)
                if not future.done():
                    if error is not None:
                        future.set_exception(error)
                    else:
                        future.set_result(value)
            self._ready.append(asyncio.events.Handle(set, (), self, None))
            with idle:
                busy -= 1
                idle.notify_all()
        threading.Thread(target=thread, daemon=True).start()
        with idle:
            while busy:
                idle.wait()
        return future


def sleep(s):
    global busy
    if s < 0:
        raise ValueError('sleep length must be non-negative')
    if threading.current_thread() is threading.main_thread():
        advance(now + round(s * 1e9))
        return
    event = threading.Event()

    def resume():
        global busy
        with idle:
            busy += 1
            event.set()
            while busy:
                idle.wait()
    loop = loops[-1]
    loop.call_at(loop.time() + s, loop.call_soon, resume)
    with idle:
        busy -= 1
        idle.notify_all()
    event.wait()


BEGIN = 946684800
time.sleep = sleep
time.monotonic = time.perf_counter = seconds
time.time = lambda: BEGIN + now / 1e9
time.monotonic_ns = time.perf_counter_ns = lambda: now
time.time_ns = lambda: BEGIN * 10**9 + now
strftime = time.strftime
time.strftime = lambda f, t=None: strftime(f, time.gmtime(BEGIN + now // 10**9) if t is None else t)


class Policy(asyncio.DefaultEventLoopPolicy):
    def new_event_loop(self):
        return Loop()


asyncio.set_event_loop_policy(Policy())
asyncio.tasks.set = asyncio.taskgroups.set = OrderedSet
inner_all_tasks = asyncio.tasks.all_tasks
inner_init = asyncio.Task.__init__


class Task(asyncio.Task):
    def __init__(self, *args, **kwds):
        super().__init__(*args, **kwds)
        numbered[id(self)] = next(numbers)


numbered = {}
asyncio.base_events.tasks.Task = asyncio.Task = asyncio.tasks.Task = Task


def ordered_tasks(loop=None):
    return OrderedSet(sorted(inner_all_tasks(loop), key=lambda t: numbered.get(id(t), -1)))


asyncio.all_tasks = asyncio.tasks.all_tasks = ordered_tasks

# A set comprehension does not look its type up, so that line is replaced.
completed = asyncio.tasks._AsCompletedIterator
source = textwrap.dedent(inspect.getsource(completed.__init__))
before = '{ensure_future(aw, loop=loop) for aw in set(aws)}'
namespace = {}
exec(source.replace(before, f'set([{before[1:-1]}])'), asyncio.tasks.__dict__, namespace)
completed.__init__ = namespace['__init__']


def finish(status):
    sys.stdout.flush()
    sys.stderr.flush()
    with open(target + '.end', 'w') as f:
        f.write(f'{now} {status}')
    os._exit(0)


def run(path):
    with open(path, encoding='utf-8') as f:
        text = f.read()
    name = os.path.basename(path)
    linecache.cache[name] = (len(text), None, text.splitlines(True), name)
    module = type(sys)('__main__')
    module.__file__ = name
    sys.modules['__main__'] = module
    status = 0
    try:
        exec(compile(text, name, 'exec'), module.__dict__)
    except SystemExit as e:
        status = e.code if isinstance(e.code, int) else 0 if e.code is None else 1
        if status == 1 and not isinstance(e.code, int):
            print(e.code, file=sys.stderr)
    except BaseException as e:
        e.__traceback__ = e.__traceback__.tb_next
        traceback.print_exception(e)
        status = 1
    module.__dict__.clear()
    gc.collect()
    finish(status & 255)


def main():
    global target
    for line in sys.stdin:
        target = line.rstrip('\n')
        child = os.fork()
        if not child:
            for suffix, fd in (('.out', 1), ('.err', 2)):
                file = os.open(target + suffix, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
                os.dup2(file, fd)
            signal.alarm(20)
            run(target)
        os.waitpid(child, 0)
        print('done', flush=True)


main()
