"""Prints what CPython's asyncio does with its synchronisation primitives, one program a line:

    program => trace

A program is the steps of three tasks, and what the main task does to them at the start of which
iteration (! cancel, ~ uncancel). A trace has what each step came to: iteration, task, step, outcome (nothing,
! cancelled, x misuse, b broken barrier, the index of a barrier), the primitive afterwards; and how the
tasks and primitives were left. locks.golden is the output under CPython 3.13.0; TestLocksReplay
runs each program in Go and compares. The programs are scenarios with a cancel of every task at every
iteration, and random ones.

    python3.13 testdata/cpython/locks.py > testdata/cpython/locks.golden

Steps: La Lr acquire, release a Lock; Sa Sr a Semaphore(1), Ta Tr a Semaphore(2), Za Zr a Semaphore(0),
Na Nr a BoundedSemaphore(1); Ew Es Ec wait for, set, clear an Event; Ca Cr acquire, release
a Condition, Cw wait, Cf wait until the event is set, Cn CN notify one, all; Gw Gr Ga wait at, reset,
abort a Barrier(3), Hw Hr Ha a Barrier(2); Kn Un cancel, uncancel task n; .. sleep(0).
"""
import asyncio
import random

ITERATIONS = 30


def state(primitive):
    s = repr(primitive)
    s = s[s.index('[') + 1:-2]
    return s.replace(', waiters:', '+').replace(', value:', '=')


async def run(program):
    scripts, _, orders = program.partition(' @ ')
    scripts = [s.split() for s in scripts.split(' | ')]
    orders = [(o[0], int(o[1]), int(o[2:])) for o in orders.split()]
    event = asyncio.Event()
    primitives = {
        'L': asyncio.Lock(), 'S': asyncio.Semaphore(1), 'T': asyncio.Semaphore(2),
        'Z': asyncio.Semaphore(0), 'N': asyncio.BoundedSemaphore(1), 'E': event,
        'C': asyncio.Condition(), 'G': asyncio.Barrier(3), 'H': asyncio.Barrier(2)}
    trace, tick, stopped = [], 0, False
    tasks = []

    async def step(op):
        p, verb = primitives.get(op[0]), op[1]
        if op == '..':
            await asyncio.sleep(0)
        elif op[0] == 'K':
            tasks[int(verb)].cancel()
        elif op[0] == 'U':
            tasks[int(verb)].uncancel()
        elif op[0] in 'LSTZNC' and verb == 'a':
            await p.acquire()
        elif op[0] in 'LSTZNC' and verb == 'r':
            p.release()
        elif op[0] in 'EC' and verb == 'w':
            await p.wait()
        elif op == 'Es':
            p.set()
        elif op == 'Ec':
            p.clear()
        elif op == 'Cf':
            await p.wait_for(event.is_set)
        elif op == 'Cn':
            p.notify()
        elif op == 'CN':
            p.notify_all()
        elif verb == 'w':
            return str(await p.wait())
        elif verb == 'r':
            await p.reset()
        elif verb == 'a':
            await p.abort()
        return ''

    async def body(n):
        for op in scripts[n]:
            try:
                outcome = await step(op)
            except asyncio.CancelledError:
                outcome = '!'
            except asyncio.BrokenBarrierError:
                outcome = 'b'
            except (RuntimeError, ValueError):
                outcome = 'x'
            if stopped:
                return
            after = f'[{state(primitives[op[0]])}]' if op[0] in primitives else ''
            trace.append(f'{tick}:{n}{op}{outcome}{after}')

    tasks += [asyncio.create_task(body(n)) for n in range(len(scripts))]
    for tick in range(ITERATIONS):
        for what, n, at in orders:
            if at == tick:
                tasks[n].cancel() if what == '!' else tasks[n].uncancel()
        await asyncio.sleep(0)
    for n, task in enumerate(tasks):
        how = 'cancelled' if task.cancelled() else 'done' if task.done() else 'waits'
        trace.append(f'{n}:{how}:{task.cancelling()}')
    trace += [f'{name}[{state(p)}]' for name, p in primitives.items() if f'{name}' in {s[0] for t in scripts for s in t}]
    stopped = True
    while not all(t.done() for t in tasks):
        for task in tasks:
            task.cancel()
        if primitives['C'].locked():
            primitives['C'].release()
        await asyncio.sleep(0)
    return ' '.join(trace)


SCENARIOS = [
    'La .. Lr | La .. Lr | La .. Lr',
    'La Lr La Lr | La Lr La Lr | La Lr',
    'La .. .. Lr | La K2 Lr | La Lr Lr',
    'Sa .. Sr | Sa .. Sr | Sa .. Sr',
    'Ta .. Tr Ta Tr | Ta .. Tr | Ta .. Tr',
    'Za Za | Za .. Zr | .. Zr Zr Za',
    'Na .. Nr | Na .. Nr | .. Na Nr Nr',
    'Ew .. Ew | Ew Ew | .. .. Es Ec .. Es',
    'Ca Cw Cr | Ca Cw Cr | .. .. Ca Cn Cr .. .. Ca Cn Cr',
    'Ca Cw Cr | Ca Cw Cr | .. .. Ca Cn .. .. Cr .. Ca CN .. Cr',
    'Ca Cf Cr | Ca Cf Cr Ec | .. .. Ca CN Es Cr .. Ca Cn Cr',
    'Gw Gw | Gw Gw | .. Gw Gw',
    'Gw Gw | Gw Gw | .. Gr Gw Gw',
    'Gw Gw | Gw Gr Gw | .. Ga Gr Gw',
    'Hw Hw | .. Hw | Hw Hr Hw',
]


def programs():
    for s in SCENARIOS:
        yield s
        for n in range(3):
            for at in range(9):
                yield f'{s} @ !{n}{at}'
    # The main task takes a cancel back in the iteration in which it gave it, or in the next.
    for s in SCENARIOS[0], SCENARIOS[3], SCENARIOS[9]:
        for at in range(2, 8):
            yield f'{s} @ !1{at} ~1{at}'
            yield f'{s} @ !1{at} !0{at} ~1{at + 1}'
    rnd = random.Random(1)
    families = [
        ['La', 'La', 'Lr', 'Lr'], ['Sa', 'Sa', 'Sr', 'Ta', 'Tr', 'Za', 'Zr', 'Na', 'Nr'],
        ['Ew', 'Ew', 'Es', 'Ec', 'Ca', 'Cf', 'Cr', 'CN'],
        ['Ca', 'Ca', 'Cw', 'Cw', 'Cr', 'Cn', 'CN'], ['Gw', 'Gw', 'Gw', 'Gr', 'Ga', 'Hw', 'Hw', 'Hr'],
    ]
    for i in range(250):
        steps = families[i % 5] if i < 200 else sum(families, [])
        steps = steps * 4 + ['..'] * 6 + ['K0', 'K1', 'K2', 'U0', 'U1', 'U2']
        scripts = [' '.join(rnd.choice(steps) for _ in range(rnd.randint(3, 9))) for _ in range(3)]
        orders = ' '.join(f'{rnd.choice("!!!~")}{rnd.randrange(3)}{rnd.randrange(1, 14)}' for _ in range(rnd.randrange(4)))
        yield ' | '.join(scripts) + (f' @ {orders}' if orders else '')


for program in programs():
    print(program, '=>', asyncio.run(run(program)))
