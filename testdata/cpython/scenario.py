"""Runs scenarios (docs/scenarios.md) on CPython's asyncio and prints their traces.

    python3.13 testdata/cpython/scenario.py < scenarios > traces

Scenarios and traces are separated by lines that say %%. Each trace is written as soon as its
scenario has been read, so that a program can hold a conversation.

The clock is virtual. What CPython leaves open is made definite: timers with equal times fire in the
order they were set, and sets are iterated in the order of insertion. With --pure, tasks and futures are
those written in Python instead of those written in C.
"""
import asyncio
import gc
import inspect
import re
import sys
import textwrap
import warnings

CancelledError = asyncio.CancelledError


# What CPython leaves open.

class OrderedSet(dict):
    """A set in the order of insertion, as far as asyncio uses one."""

    def __init__(self, items=()):
        super().__init__((item, None) for item in items)

    def add(self, item):
        self[item] = None

    def discard(self, item):
        self.pop(item, None)

    def remove(self, item):
        del self[item]


class OrderedTimerHandle(asyncio.TimerHandle):
    """Equal deadlines are ordered by when they were set."""
    __slots__ = ('seq',)
    last = 0

    def __init__(self, *args):
        super().__init__(*args)
        OrderedTimerHandle.last += 1
        self.seq = OrderedTimerHandle.last

    def __lt__(self, other):
        return (self._when, self.seq) < (other._when, other.seq)

    def __hash__(self):
        return id(self)

    def __eq__(self, other):
        return self is other


def make_definite():
    asyncio.events.TimerHandle = OrderedTimerHandle
    asyncio.tasks.set = OrderedSet
    asyncio.taskgroups.set = OrderedSet
    asyncio.timeouts.Timeout = Timeout
    asyncio.Task = asyncio.tasks.Task = once(counting())
    asyncio.tasks._GatheringFuture = once(asyncio.tasks._GatheringFuture)
    # A set comprehension does not look its type up, so that line is replaced.
    completed = asyncio.tasks._AsCompletedIterator
    source = textwrap.dedent(inspect.getsource(completed.__init__))
    before = '{ensure_future(aw, loop=loop) for aw in set(aws)}'
    assert before in source
    namespace = {}
    exec(source.replace(before, f'set([{before[1:-1]}])'), asyncio.tasks.__dict__, namespace)
    completed.__init__ = namespace['__init__']


# Where the library is not to do what CPython 3.13.0 does; docs/scenarios.md says why. Each has a name, which is
# noted for a scenario in which it makes a difference.

rows = set()


def used(row):
    rows.add(row)


def counting():
    """Returns asyncio.Task with a count of the cancels that it has not been told of."""

    class Task(asyncio.Task):
        owed = 0
        expired = False  # an expiry of its own has cancelled what it waits for
        late = None  # the last cancel from elsewhere that came after that, as a list of its message

        def __init__(self, coro, **options):
            self.coro = coro
            super().__init__(self.resuming(coro), **options)

        def get_coro(self):
            return self.coro

        async def resuming(self, coro):
            return await Resuming(self, coro)

        def cancel(self, msg=None):
            waits_for = self._fut_waiter
            waited = waits_for is not None and not waits_for.done()
            accepted = super().cancel(msg)
            if not accepted:
                return accepted
            if Timeout.expiring is self:
                self.expired = self.expired or waited and waits_for.cancelled()
            elif self.expired:
                self.late = [msg]
            self.owed += 1
            return accepted

        def uncancel(self):
            left = super().uncancel()
            self.owed = min(self.owed, left)
            return left

    return Task


class Resuming:
    """Awaits a coroutine, and whenever its task resumes, notes that it has been told of every cancel so far."""

    def __init__(self, task, coro):
        self.task, self.coro = task, coro

    def __await__(self):
        resume, value = self.coro.send, None
        while True:
            try:
                waited = resume(value)
            except StopIteration as e:
                return e.value
            try:
                resume, value = self.coro.send, (yield waited)
            except GeneratorExit:
                self.coro.close()
                raise
            except BaseException as e:
                if isinstance(e, CancelledError) and self.task.late and self.task.late[0] is not None:
                    used('cancel-message')
                    e = CancelledError(*self.task.late)
                resume, value = self.coro.throw, e
            self.task.owed, self.task.expired, self.task.late = 0, False, None


class Timeout(asyncio.timeouts.Timeout):
    """A cancel that is still owed when the time is up does not count as one from before (gh-134471), and keeps its message."""

    expiring = None  # the task that is being cancelled by an expiry

    def _on_timeout(self):
        before = self._task.cancelling() - self._task.owed
        if before < self._cancelling:
            used('timeout-entry')
            self._cancelling = before
        message = self._task._cancel_message if self._task.owed else None
        Timeout.expiring = self._task
        super()._on_timeout()
        Timeout.expiring = None
        if message is not None:
            used('cancel-message')
            self._task._cancel_message = message


reached = None  # tasks and gatherings that have accepted the cancel that is being passed on


def once(cls):
    """Returns cls such that a cancel reaches each once, on however many ways it is passed on."""

    class Once(cls):

        def cancel(self, msg=None):
            global reached
            outermost = reached is None
            if outermost:
                reached = set()
            elif self in reached and not self.done():
                used('cancel-once')
                return True
            try:
                accepted = super().cancel(msg)
                if accepted:
                    reached.add(self)
                return accepted
            finally:
                if outermost:
                    reached = None

    return Once


class Barrier(asyncio.Barrier):
    """Indices are given when all are there, in the order they came (gh-155233)."""

    def __init__(self, parties):
        super().__init__(parties)
        self._indices = {}  # of those that are there

    async def wait(self):
        async with self._cond:
            await self._block()
            me = object()
            came = self._indices[me] = self._count
            self._count += 1
            try:
                if self._count == self._parties:
                    self._indices = {who: index for index, who in enumerate(self._indices)}
                    await self._release()
                else:
                    await self._wait()
                if self._indices[me] != came:
                    used('barrier-index')
                return self._indices[me]
            finally:
                del self._indices[me]
                self._count -= 1
                self._exit()


class TaskGroup(asyncio.TaskGroup):
    """A child of a group that is shutting down is cancelled before it starts. One that is started eagerly is called back as in
    CPython 3.14, also if it is done at once (gh-128550, gh-128588), and is cancelled if it has aborted the group (gh-155418)."""

    def create_task(self, coro, *, name=None, eager=False):
        if self._exiting and not self._tasks:
            coro.close()
            raise RuntimeError('finished')
        aborting = self._aborting
        if aborting:
            used('group-aborting')
            task = asyncio.Task(coro, loop=self._loop, name=name)
            task.cancel()
        elif eager:
            task = asyncio.Task(coro, loop=self._loop, name=name, eager_start=True)
        else:
            task = self._loop.create_task(coro, name=name)
        if task.done():
            used('group-eager')
        self._tasks.add(task)
        task.add_done_callback(self._on_task_done)
        if self._aborting and not aborting and not task.done():
            used('group-eager')
            task.cancel()
        return task


class CancellableTaskGroup(TaskGroup):
    """With CPython 3.15's cancel(), for scenarios that call it. An error of the body is never dropped."""

    def cancel(self):
        used('group-cancel')
        if self._aborting or self._exiting and not self._tasks:
            return
        self._abort()
        self._parent_cancel_requested = True
        self._parent_task.cancel()

    async def __aexit__(self, cls, error, traceback):
        self._exiting = True
        cancelled = error if isinstance(error, CancelledError) else None
        latest = None
        if error is not None and not self._aborting:
            self._abort()
        while self._tasks:
            self._on_completed_fut = self._loop.create_future()
            try:
                await self._on_completed_fut
            except CancelledError as e:
                latest = e
                if not self._aborting:
                    cancelled = e
                    self._abort()
            self._on_completed_fut = None
        if self._parent_cancel_requested:
            if self._parent_task.uncancel() == 0:
                cancelled = None
            elif cancelled is None:
                cancelled = latest  # gh-155433
        if error is not None and not isinstance(error, CancelledError):
            self._errors.append(error)
        if self._errors:
            if self._parent_task.cancelling():
                self._parent_task.uncancel()
                self._parent_task.cancel()
            raise BaseExceptionGroup('errors', self._errors)
        if cancelled is not None:
            raise cancelled
        return True


class Stalled(Exception):
    """Nothing can happen any more."""


class VirtualLoop(asyncio.base_events.BaseEventLoop):
    """A loop that waits for nothing but timers, by moving its clock."""

    def __init__(self):
        super().__init__()
        self._clock_resolution = 0.5  # times are whole numbers
        self._selector = self
        self.now = 0
        self.iteration = 0
        self.set_task_factory(lambda loop, coro, **options: asyncio.Task(coro, loop=loop, **options))

    def time(self):
        return self.now

    def select(self, timeout):
        if timeout is None:
            raise Stalled
        self.now += timeout

    def _process_events(self, events):
        pass

    def _run_once(self):
        self.iteration += 1
        super()._run_once()


# The language.

CLAUSES = ('except', 'finally')


class Instruction:
    __slots__ = ('line', 'verb', 'args', 'body', 'clauses')

    def __init__(self, line, words):
        self.line, self.verb, self.args = line, words[0], words[1:]
        self.body, self.clauses = [], []


def parse(text):
    """Returns the top level instructions, each with its body."""
    top = []
    blocks = [top]
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split('#')[0].split()
        if not words:
            continue
        depth = (len(line) - len(line.lstrip(' '))) // 2
        if depth >= len(blocks):
            raise ValueError(f'line {number}: badly indented')
        del blocks[depth + 1:]
        instruction = Instruction(number, words)
        if words[0] in CLAUSES:
            blocks[depth][-1].clauses.append(instruction)
        else:
            blocks[depth].append(instruction)
        blocks.append(instruction.body)
    return top


class Failure(Exception):
    """An error that a scenario raises."""


KINDS = (
    (CancelledError, 'cancelled'),
    (asyncio.InvalidStateError, 'invalid-state'),
    (asyncio.QueueEmpty, 'queue-empty'),
    (asyncio.QueueFull, 'queue-full'),
    (asyncio.QueueShutDown, 'queue-shutdown'),
    (asyncio.BrokenBarrierError, 'broken-barrier'),
    (TimeoutError, 'timeout'),
    (ValueError, 'value'),
    (RuntimeError, 'misuse'),
)


def kind(error):
    """Returns the name of an error in traces."""
    if isinstance(error, Failure):
        return '!' + error.args[0]
    if isinstance(error, BaseExceptionGroup):
        return '!group(' + ' '.join(kind(e) for e in error.exceptions) + ')'
    for cls, name in KINDS:
        if isinstance(error, cls):
            return '!' + name
    return f'!{type(error).__name__}({error})'


def failure(name):
    return CancelledError() if name == 'cancelled' else Failure(name)


PRIMITIVES = {
    'lock': asyncio.Lock,
    'event': asyncio.Event,
    'condition': asyncio.Condition,
    'semaphore': asyncio.Semaphore,
    'barrier': asyncio.Barrier,
    'queue': asyncio.Queue,
    'group': TaskGroup,
    'timeout': asyncio.timeouts.Timeout,
}


def state(thing):
    """Says what a thing has come to, None if it is nothing that comes to anything."""
    if isinstance(thing, asyncio.Queue):
        text = (f'size {thing.qsize()} unfinished {thing._unfinished_tasks}'
                f' getters {len(thing._getters)} putters {len(thing._putters)}')
        return text + ' shut down' if thing._is_shutdown else text
    if isinstance(thing, asyncio.timeouts.Timeout):
        when = thing.when()
        return thing._state.value + (f' when {when}' if when is not None else '')
    if not isinstance(thing, asyncio.Future):
        printed = re.search(r'\[(.*)\]', repr(thing))
        return printed[1] if isinstance(thing, tuple(PRIMITIVES.values())) and printed else None
    if not thing.done():
        return 'pending'
    if thing.cancelled():
        return 'cancelled'
    error = thing.exception()
    return kind(error) if error is not None else str(thing.result())


LOCKERS = (asyncio.Lock, asyncio.Semaphore, asyncio.Condition)


class Run:
    """One run of one scenario."""

    def __init__(self, text):
        self.loop = VirtualLoop()
        self.loop.set_exception_handler(lambda loop, context: None)
        self.trace = []
        self.programs = {}
        self.things = {}
        self.named = []  # what has a name and a state, in the order it was made
        self.coroutines = {}
        self.over = False
        self.group = CancellableTaskGroup if 'group.cancel' in text else TaskGroup
        for i in parse(text):
            if i.verb == 'task':
                self.programs[i.args[0]] = i.body
            else:
                self.declare(i)

    def declare(self, i):
        if i.verb == 'future':
            for name in i.args:
                self.declared(name, self.loop.create_future())
            return
        if i.verb == 'eager-tasks':
            self.loop.set_task_factory(asyncio.create_eager_task_factory(asyncio.Task))
            return
        number = int(i.args[1]) if len(i.args) > 1 and i.verb != 'condition' else 0
        match i.verb:
            case 'lock':
                thing = asyncio.Lock()
            case 'event':
                thing = asyncio.Event()
            case 'semaphore':
                thing = asyncio.Semaphore(number)
            case 'bounded':
                thing = asyncio.BoundedSemaphore(number)
            case 'condition':
                lock = self.things.get(i.args[1]) if len(i.args) > 1 else None
                thing = asyncio.Condition(lock if isinstance(lock, asyncio.Lock) else None)
            case 'barrier':
                thing = Barrier(number)
            case 'queue':
                thing = asyncio.Queue(number)
            case 'priority-queue':
                thing = asyncio.PriorityQueue(number)
            case 'lifo-queue':
                thing = asyncio.LifoQueue(number)
            case _:
                raise ValueError(f'line {i.line}: {i.verb}')
        self.declared(i.args[0], thing)

    def declared(self, name, thing):
        self.things[name] = thing
        self.named.append((name, thing))
        return thing

    def emit(self, who, what):
        if not self.over:
            self.trace.append(f'{self.loop.iteration} {self.loop.now} {who} {what}')

    def run(self):
        asyncio.set_event_loop(self.loop)
        try:
            self.drive()
        finally:
            self.over = True
            asyncio.set_event_loop(None)
            self.loop.close()
        return self.trace

    def drive(self):
        main = self.spawn('main', 'main', False)
        self.until(main)
        for _ in range(5):
            left = sorted(asyncio.all_tasks(self.loop), key=lambda t: self.coroutines[t.get_coro()])
            if not left:
                break
            self.emit('-', f'cancel {len(left)} left')
            for task in left:
                task.cancel()
            sweep = asyncio.wait(left)
            self.coroutines[sweep] = len(self.coroutines)
            self.until(self.loop.create_task(sweep))
        for name, f in self.named:
            count = f' cancelling {f.cancelling()}' if isinstance(f, asyncio.Task) else ''
            self.emit(name, f'final {state(f)}{count}')

    def until(self, task):
        try:
            self.loop.run_until_complete(task)
        except Stalled:
            self.emit('-', 'stalled')
        except (Exception, CancelledError):
            pass

    # Programs.

    def coroutine(self, label, program):
        body = self.body(label, self.programs[program])
        self.coroutines[body] = len(self.coroutines)
        return body

    def spawn(self, name, program, eager):
        coroutine = self.coroutine(name, program)
        if eager:
            task = asyncio.Task(coroutine, loop=self.loop, name=name, eager_start=True)
        else:
            task = self.loop.create_task(coroutine, name=name)
        return self.declared(name, task)

    async def body(self, label, block):
        self.emit(label, 'start')
        try:
            value = await self.block(label, block, None)
        except (Exception, CancelledError) as e:
            self.emit(label, f'exit {kind(e)} cancelling {asyncio.current_task().cancelling()}')
            raise
        if value is None:
            value = 0
        self.emit(label, f'exit {value} cancelling {asyncio.current_task().cancelling()}')
        return value

    async def block(self, label, block, caught):
        """Runs instructions. The result is that of a return, None if there was none."""
        for i in block:
            match i.verb:
                case 'return':
                    return int(i.args[0])
                case 'raise':
                    raise failure(i.args[0])
                case 'reraise':
                    if caught is not None:
                        raise caught
                    continue
                case 'try':
                    value = await self.attempt(label, i, caught)
                    if value is not None:
                        return value
                    continue
                case 'with' | 'timeout' | 'group':
                    if i.verb == 'with' and not isinstance(self.things.get(i.args[0]), LOCKERS):
                        self.emit(label, f'{i.line} with unset')
                        continue
                    try:
                        value = await self.scope(label, i, caught)
                    except (Exception, CancelledError) as e:
                        self.emit(label, f'{i.line} {i.verb} {kind(e)}')
                        raise
                    self.emit(label, f'{i.line} {i.verb} left')
                    if value is not None:
                        return value
                    continue
            try:
                outcome = self.effect(i)
                if outcome is None:
                    outcome = await self.operation(label, i)
            except (Exception, CancelledError) as e:
                self.emit(label, f'{i.line} {i.verb} {kind(e)}{self.message(i, e)}')
                raise
            self.emit(label, f'{i.line} {i.verb} {outcome}')
        return None

    def message(self, i, error):
        """Returns the message of a cancellation that reached its task directly: not by way of another
        task, of which CPython hands the message on only once."""
        match i.verb:
            case ('yield' | 'sleep' | 'wait' | 'lock.acquire' | 'semaphore.acquire' | 'condition.acquire'
                  | 'event.wait' | 'queue.put' | 'queue.get' | 'queue.join'):
                pass
            case 'await':
                thing = self.things.get(i.args[0])
                if not isinstance(thing, asyncio.Future) or isinstance(thing, asyncio.Task):
                    return ''
            case _:
                return ''
        if isinstance(error, CancelledError) and error.args and error.args[0]:
            return f' {error.args[0]}'
        return ''

    async def attempt(self, label, i, caught):
        value = error = None
        try:
            value = await self.block(label, i.body, caught)
        except (Exception, CancelledError) as e:
            error = e
        if error is not None and (clause := handler(i, error)) is not None:
            held, error = error, None
            self.emit(label, f'{clause.line} except {kind(held)}')
            try:
                value = await self.block(label, clause.body, held)
            except (Exception, CancelledError) as e:
                error = e
        for clause in i.clauses:
            if clause.verb == 'finally':
                last = await self.block(label, clause.body, caught)
                if last is not None:
                    return last
        if error is not None:
            raise error
        return value

    async def scope(self, label, i, caught):
        match i.verb:
            case 'with':
                async with self.things[i.args[0]]:
                    self.emit(label, f'{i.line} with entered')
                    return await self.block(label, i.body, caught)
            case 'timeout':
                async with asyncio.timeout(limit(i.args[0])) as timeout:
                    if len(i.args) > 1:
                        self.things[i.args[1]] = timeout
                    return await self.block(label, i.body, caught)
            case 'group':
                async with self.group() as group:
                    self.things[i.args[0]] = group
                    return await self.block(label, i.body, caught)

    # Instructions that do not wait. They are also what callbacks do.

    def effect(self, i):
        """Does it and returns the outcome, None if the instruction is of another kind."""
        verb, args = i.verb, i.args
        match verb:
            case 'spawn' | 'eager':
                self.spawn(args[0], args[1], verb == 'eager')
                return 'ok'
            case 'soon':
                self.things[args[0]] = self.loop.call_soon(self.callback, args[0], nested(i, 1))
                return 'ok'
            case 'later':
                self.things[args[0]] = self.loop.call_later(int(args[1]), self.callback, args[0], nested(i, 2))
                return 'ok'
        thing = self.thing(args[0]) if args else None
        if '.' in verb:
            if not isinstance(thing, PRIMITIVES[verb.split('.')[0]]):
                return 'unset'
        elif verb == 'state':
            return state(thing) or 'unset'
        elif verb == 'drop':
            if not isinstance(thing, asyncio.Handle):
                return 'unset'
        elif verb not in ('cancel', 'uncancel', 'set', 'fail', 'done', 'undone'):
            return None
        elif not isinstance(thing, asyncio.Task if verb == 'uncancel' else asyncio.Future):
            return 'unset'
        match verb:
            case 'cancel':
                return yes(thing.cancel(*args[1:]))
            case 'uncancel':
                return str(thing.uncancel())
            case 'set':
                thing.set_result(int(args[1]))
            case 'fail':
                thing.set_exception(failure(args[1]))
            case 'drop':
                thing.cancel()
            case 'done':
                callback = DoneCallback(self, args[1], nested(i, 2))
                self.things[args[1]] = callback
                thing.add_done_callback(callback)
            case 'undone':
                callback = self.things.get(args[1])
                if not isinstance(callback, DoneCallback):
                    return 'unset'
                return str(thing.remove_done_callback(callback))
            case 'lock.release' | 'semaphore.release' | 'condition.release':
                thing.release()
            case 'lock.locked' | 'semaphore.locked':
                return yes(thing.locked())
            case 'event.set':
                thing.set()
            case 'event.clear':
                thing.clear()
            case 'condition.notify':
                thing.notify(int(args[1]))
            case 'queue.put-nowait':
                thing.put_nowait(int(args[1]))
            case 'queue.get-nowait':
                return str(thing.get_nowait())
            case 'queue.task-done':
                thing.task_done()
            case 'queue.shutdown':
                thing.shutdown(immediate=args[1:] == ['now'])
            case 'group.cancel':
                thing.cancel()
            case 'group.spawn' | 'group.eager':
                coroutine = self.coroutine(args[1], args[2])
                self.declared(args[1], thing.create_task(coroutine, name=args[1], eager=verb == 'group.eager'))
            case 'timeout.reschedule':
                after = limit(args[1])
                thing.reschedule(self.loop.time() + after if after is not None else None)
            case _:
                return None
        return 'ok'

    def callback(self, label, i):
        try:
            outcome = self.effect(i)
        except Exception as e:
            outcome = kind(e)
        self.emit(label, f'{i.line} {i.verb} {outcome}')

    def thing(self, name):
        if name == 'self':
            return asyncio.current_task()
        return self.things.get(name)

    def future(self, name):
        thing = self.thing(name)
        return thing if isinstance(thing, asyncio.Future) else None

    # Instructions that may wait.

    def awaitable(self, i, n, word):
        if word.endswith('()'):
            return self.coroutine(f'{i.line}.{n}', word[:-2])
        return self.future(word)

    def awaitables(self, i, words):
        """Returns those that exist."""
        found = [self.awaitable(i, n, word) for n, word in enumerate(words)]
        return [f for f in found if f is not None]

    async def operation(self, label, i):
        args = i.args
        match i.verb:
            case 'yield':
                await asyncio.sleep(0)
                return 'ok'
            case 'sleep':
                await asyncio.sleep(int(args[0]))
                return 'ok'
            case 'await':
                if args[0].endswith('()'):
                    value = await self.block(label, self.programs[args[0][:-2]], None)
                    return str(value or 0)
                if (thing := self.future(args[0])) is None:
                    return 'unset'
                return str(await thing)
            case 'gather' | 'gather-results':
                keep = i.verb == 'gather-results'
                values = await asyncio.gather(*self.awaitables(i, args), return_exceptions=keep)
                return '[' + ' '.join(kind(v) if isinstance(v, BaseException) else str(v) for v in values) + ']'
            case 'wait':
                names = {}
                for w in args[2:]:
                    if (f := self.future(w)) is not None:
                        names.setdefault(f, w)
                if not names:
                    return 'unset'
                when = {'all': asyncio.ALL_COMPLETED, 'first': asyncio.FIRST_COMPLETED,
                        'error': asyncio.FIRST_EXCEPTION}[args[0]]
                done, pending = await asyncio.wait(list(names), timeout=limit(args[1]), return_when=when)
                return f'done [{" ".join(names[f] for f in done)}] pending [{" ".join(names[f] for f in pending)}]'
            case 'wait-for':
                if (thing := self.awaitable(i, 0, args[1])) is None:
                    return 'unset'
                return str(await asyncio.wait_for(thing, limit(args[0])))
            case 'shield':
                if (thing := self.awaitable(i, 0, args[0])) is None:
                    return 'unset'
                return str(await asyncio.shield(thing))
            case 'as-completed':
                n = 0
                async for f in asyncio.as_completed(self.awaitables(i, args[1:]), timeout=limit(args[0])):
                    n += 1
                    self.emit(label, f'{i.line} {i.verb} {n} {state(f)}')
                return 'ok'
        thing = self.thing(args[0])
        match i.verb:
            case 'lock.acquire' | 'semaphore.acquire' | 'condition.acquire':
                return yes(await thing.acquire())
            case 'event.wait' | 'condition.wait':
                return yes(await thing.wait())
            case 'barrier.wait':
                return str(await thing.wait())
            case 'barrier.reset':
                await thing.reset()
                return 'ok'
            case 'barrier.abort':
                await thing.abort()
                return 'ok'
            case 'queue.put':
                await thing.put(int(args[1]))
                return 'ok'
            case 'queue.get':
                return str(await thing.get())
            case 'queue.join':
                await thing.join()
                return 'ok'
        raise ValueError(f'line {i.line}: {i.verb}')


class DoneCallback:
    __slots__ = ('run', 'label', 'instruction')

    def __init__(self, run, label, instruction):
        self.run, self.label, self.instruction = run, label, instruction

    def __call__(self, future):
        self.run.emit(self.label, f'called {state(future)}')
        self.run.callback(self.label, self.instruction)


def handler(i, error):
    """Returns the clause of a try that catches error."""
    which = 'cancelled' if isinstance(error, CancelledError) else 'error'
    for clause in i.clauses:
        if clause.verb == 'except' and clause.args[0] in ('any', which):
            return clause
    return None


def nested(i, n):
    """Returns the instruction that begins with the n-th argument of i."""
    return Instruction(i.line, i.args[n:])


def limit(word):
    return int(word) if word != '-' else None


def yes(b):
    return 'true' if b else 'false'


def without_accelerator():
    """Replaces the classes written in C by those written in Python."""
    asyncio.Task = asyncio.tasks.Task = asyncio.tasks._PyTask
    asyncio.Future = asyncio.futures.Future = asyncio.futures._PyFuture
    for name in ('current_task', '_register_task', '_register_eager_task', '_unregister_task',
                 '_unregister_eager_task', '_enter_task', '_leave_task', '_swap_current_task'):
        python = getattr(asyncio.tasks, '_py' + name if name[0] == '_' else '_py_' + name)
        setattr(asyncio.tasks, name, python)
    asyncio.current_task = asyncio.tasks.current_task
    # Defined before, with the class written in C as its base.
    source = inspect.getsource(asyncio.tasks._GatheringFuture)
    exec(source, asyncio.tasks.__dict__)


def main():
    if '--pure' in sys.argv[1:]:
        without_accelerator()
    make_definite()
    # Tasks that outlive five rounds of cancels are left to the collector, and complain. Their finally blocks run
    # then, and what one cancels as the running task must not be a task of a later scenario: so between two.
    sys.unraisablehook = lambda complaint: None
    warnings.simplefilter('ignore', RuntimeWarning)
    gc.freeze()
    gc.disable()
    lines, since = [], 0
    for line in sys.stdin:
        if line.rstrip() != '%%':
            lines.append(line)
            continue
        rows.clear()
        sys.stdout.write('\n'.join(Run(''.join(lines)).run()))
        sys.stdout.write('\n' + ' '.join(['%%', *sorted(rows)]) + '\n')
        sys.stdout.flush()
        lines, since = [], since + 1
        if since == 50:
            gc.collect()
            since = 0


if __name__ == '__main__':
    main()
