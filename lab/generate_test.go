package lab_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
)

// A generator writes random programs on everything that tasks do to each other. They end by
// themselves: whatever could wait for ever has a timeout around it.
type generator struct {
	*rand.Rand
	b      strings.Builder
	indent int
	names  int
	coros  int
	depth  int
	scope  []string // tasks that are known here
	main   bool
	blocks bool // the loop, with time.sleep; otherwise it uses threads
}

func (g *generator) line(format string, args ...any) {
	g.b.WriteString(strings.Repeat("    ", g.indent) + fmt.Sprintf(format, args...) + "\n")
}

func (g *generator) name(kind string) string {
	g.names++
	return fmt.Sprintf("%s%d", kind, g.names)
}

func (g *generator) delay() string {
	return fmt.Sprintf("%g", float64(g.IntN(40))/10)
}

func (g *generator) short() string { return fmt.Sprintf("%g", float64(1+g.IntN(9))/10) }

func (g *generator) one(options ...string) string { return options[g.IntN(len(options))] }

// coro is a call of one of the coroutine functions that have been written already.
func (g *generator) coro() string {
	if g.coros == 0 {
		return fmt.Sprintf("asyncio.sleep(%s, %d)", g.delay(), g.IntN(100))
	}
	if g.IntN(4) == 0 {
		return fmt.Sprintf("asyncio.sleep(%s, %d)", g.delay(), g.IntN(100))
	}
	return fmt.Sprintf("w%d(%d)", g.IntN(g.coros), g.IntN(10))
}

func (g *generator) error() string {
	return g.one("ValueError", "KeyError", "RuntimeError", "OSError", "TypeError")
}

// program writes a program.
func generate(seed uint64) string {
	g := &generator{Rand: rand.New(rand.NewPCG(seed, 1))}
	g.blocks = g.IntN(2) == 0
	g.line("import asyncio, time, contextlib, functools")
	g.line("")
	g.line("def log(*what):")
	g.line("    print(f\"{asyncio.get_running_loop().time():.3f}\", *what)")
	g.line("")
	g.line("lock = asyncio.Lock()")
	g.line("sem = asyncio.Semaphore(%d)", 1+g.IntN(2))
	g.line("event = asyncio.Event()")
	g.line("cond = asyncio.Condition()")
	g.line("queue = asyncio.%s(%d)", g.one("Queue", "Queue", "LifoQueue", "PriorityQueue"), g.IntN(3))
	g.line("counter = 0")
	g.line("")
	if g.IntN(3) == 0 {
		g.line("@contextlib.asynccontextmanager")
		g.line("async def scope(n):")
		g.line("    log('scope', n)")
		g.line("    try:")
		g.line("        await asyncio.sleep(%s)", g.short())
		g.line("        yield n * 2")
		g.line("    finally:")
		g.line("        log('scope ends', n)")
	} else {
		g.line("class scope:")
		g.line("    def __init__(self, n):")
		g.line("        self.n = n")
		g.line("    async def __aenter__(self):")
		g.line("        log('enter', self.n)")
		g.line("        return self.n * 2")
		g.line("    async def __aexit__(self, et, e, tb):")
		g.line("        log('exit', self.n, et.__name__ if et else None)")
		g.line("        await asyncio.sleep(%s)", g.short())
		g.line("        return et is %s", g.error())
	}
	g.line("")
	g.line("async def numbers(n):")
	g.line("    try:")
	g.line("        for i in range(n):")
	g.line("            yield i")
	g.line("            await asyncio.sleep(%s)", g.short())
	g.line("    finally:")
	g.line("        log('numbers end')")
	g.line("")
	for i := range 2 + g.IntN(3) {
		g.line("async def w%d(n):", i)
		g.indent++
		g.line("global counter")
		g.line("log('w%d begins', n)", i)
		g.scope, g.depth = nil, 0
		g.block(2 + g.IntN(4))
		g.line("counter += 1")
		g.line("return n * %d + counter", 1+g.IntN(9))
		g.indent--
		g.line("")
		g.coros = i + 1
	}
	g.line("async def main():")
	g.indent++
	g.line("global counter")
	g.scope, g.depth, g.main = nil, 0, true
	g.block(4 + g.IntN(6))
	if len(g.scope) > 0 {
		g.line("log(await asyncio.gather(%s, return_exceptions=True))", strings.Join(g.scope, ", "))
	}
	g.line("log('end', counter)")
	g.indent--
	g.line("")
	g.line("try:")
	g.line("    asyncio.run(main())")
	g.line("except Exception as e:")
	g.line("    print('main failed', repr(e), repr(e.__cause__), repr(e.__context__))")
	return g.b.String()
}

func (g *generator) block(n int) {
	for range n {
		g.statement()
	}
}

// inner writes a block one deeper. Tasks that are made there are not known outside.
func (g *generator) inner() {
	g.indent++
	g.depth++
	scope := g.scope
	if g.depth > 2 {
		g.simple()
	} else {
		g.block(1 + g.IntN(3))
	}
	g.scope = scope[:len(scope):len(scope)]
	g.depth--
	g.indent--
}

func (g *generator) task() string {
	if len(g.scope) == 0 {
		t := g.name("t")
		g.line("%s = asyncio.create_task(%s)", t, g.coro())
		g.scope = append(g.scope, t)
		return t
	}
	return g.scope[g.IntN(len(g.scope))]
}

func (g *generator) simple() {
	switch g.IntN(14) {
	case 0, 1, 2:
		g.line("await asyncio.sleep(%s)", g.delay())
	case 3:
		g.line("log(%d, counter)", g.IntN(100))
	case 4:
		t := g.name("t")
		g.line("%s = asyncio.create_task(%s, name=%q)", t, g.coro(), t)
		g.scope = append(g.scope, t)
	case 5:
		g.line("log(await %s)", g.coro())
	case 6:
		g.line("log('cancel', %s.cancel())", g.task())
	case 7:
		g.line("event.%s()", g.one("set", "clear", "set"))
	case 8:
		g.line("await asyncio.sleep(0)")
	case 9:
		g.line("%s.add_done_callback(lambda t: log('done', t.cancelled()))", g.task())
	case 10:
		g.line("asyncio.get_running_loop().call_later(%s, functools.partial(log, 'later', %d))", g.delay(), g.IntN(100))
	case 11:
		g.line("log(sorted(t.get_name() for t in asyncio.all_tasks() if not t.get_name().startswith('Task-'))[:4])")
	case 12:
		g.line("asyncio.get_running_loop().call_soon(event.set)")
	default:
		if g.blocks {
			g.line("time.sleep(%s)", g.short())
		} else {
			g.line("await asyncio.sleep(%s)", g.short())
		}
	}
}

func (g *generator) statement() {
	if g.depth > 1 && g.IntN(2) == 0 {
		g.simple()
		return
	}
	switch g.IntN(26) {
	case 0:
		g.line("try:")
		g.inner()
		g.line("except (%s, %s) as e:", g.error(), g.error())
		g.line("    log('caught', repr(e))")
	case 1:
		g.line("try:")
		g.inner()
		g.line("finally:")
		g.line("    log('finally')")
		if g.IntN(3) == 0 {
			g.line("    await asyncio.sleep(%s)", g.short())
		}
	case 2:
		g.line("try:")
		g.inner()
		g.line("except asyncio.CancelledError as e:")
		g.line("    log('cancelled', e.args)")
		if g.IntN(2) == 0 {
			g.line("    raise")
		}
	case 3:
		g.line("try:")
		g.line("    async with asyncio.timeout(%s):", g.delay())
		g.indent++
		g.inner()
		g.indent--
		g.line("except TimeoutError:")
		g.line("    log('timeout')")
	case 4:
		g.line("async with lock:")
		g.indent++
		g.line("log('locked')")
		g.indent--
		g.indent++
		g.line("await asyncio.sleep(%s)", g.delay())
		g.indent--
	case 5:
		g.line("async with sem:")
		g.line("    log('in', sem.locked())")
		g.line("    await asyncio.sleep(%s)", g.delay())
	case 6:
		g.line("try:")
		g.line("    log(await asyncio.wait_for(%s, %s))", g.one("event.wait()", g.coro(), "queue.get()"), g.delay())
		g.line("except TimeoutError:")
		g.line("    log('gave up')")
	case 7:
		g.line("try:")
		g.line("    log(await asyncio.gather(%s, %s))", g.coro(), g.coro())
		g.line("except Exception as e:")
		g.line("    log('gather failed', repr(e))")
	case 8:
		g.line("log(await asyncio.gather(%s, %s, return_exceptions=True))", g.coro(), g.coro())
	case 9:
		a, b := g.task(), g.name("t")
		g.line("%s = asyncio.create_task(%s)", b, g.coro())
		g.scope = append(g.scope, b)
		g.line("done, pending = await asyncio.wait([%s, %s], timeout=%s, return_when=asyncio.%s)", a, b, g.delay(), g.one("FIRST_COMPLETED", "FIRST_EXCEPTION", "ALL_COMPLETED"))
		g.line("log(len(done), len(pending), %s in done)", b)
	case 10:
		g.line("try:")
		g.line("    async with asyncio.TaskGroup() as tg:")
		g.line("        a = tg.create_task(%s)", g.coro())
		g.line("        b = tg.create_task(%s)", g.coro())
		g.indent++
		g.inner()
		g.indent--
		g.line("    log('group', a.result(), b.result())")
		if g.IntN(2) == 0 {
			g.line("except* %s as eg:", g.error())
			g.line("    log('group of', eg.exceptions)")
			g.line("except* Exception as eg:")
			g.line("    log('others', eg)")
		} else {
			g.line("except ExceptionGroup as eg:")
			g.line("    log('group failed', eg.exceptions)")
		}
	case 11:
		g.line("raise %s(%d)", g.error(), g.IntN(100))
		if g.main && g.depth == 0 {
			g.b.Reset() // not at the top of main, where nothing would follow
			panic(again{})
		}
	case 12:
		t := g.task()
		g.line("try:")
		g.line("    log('shield', await asyncio.wait_for(asyncio.shield(%s), %s))", t, g.delay())
		g.line("except (TimeoutError, asyncio.CancelledError, Exception) as e:")
		g.line("    log('shield', type(e).__name__)")
	case 13:
		g.line("for f in asyncio.as_completed([%s, %s]):", g.coro(), g.coro())
		g.line("    try:")
		g.line("        log('completed', await f)")
		g.line("    except Exception as e:")
		g.line("        log('completed', repr(e))")
	case 14:
		g.line("if queue.full():")
		g.line("    log('full', queue.qsize(), queue.get_nowait())")
		g.line("queue.put_nowait(%d)", g.IntN(10))
	case 15:
		g.line("async with scope(%d) as s:", g.IntN(10))
		g.inner()
		g.line("log('after scope')")
	case 16:
		g.line("async for i in numbers(%d):", 1+g.IntN(4))
		g.line("    log('number', i)")
		if g.IntN(3) == 0 {
			g.line("    if i == 1:")
			g.line("        break")
		}
	case 17:
		g.line("for i in range(%d):", 1+g.IntN(3))
		g.inner()
	case 18:
		f := g.name("f")
		g.line("%s = asyncio.get_running_loop().create_future()", f)
		g.line("asyncio.get_running_loop().call_later(%s, lambda: %s.done() or %s.%s)", g.delay(), f, f, g.one("set_result(5)", "set_exception(ValueError(6))", "cancel()"))
		g.line("try:")
		g.line("    log('future', await asyncio.wait_for(%s, %s))", f, g.delay())
		g.line("except (TimeoutError, ValueError, asyncio.CancelledError) as e:")
		g.line("    log('future', repr(e))")
	case 19:
		g.line("try:")
		g.line("    async with asyncio.timeout(%s), cond:", g.delay())
		g.line("        log('cond', await cond.wait())")
		g.line("except TimeoutError:")
		g.line("    log('no notify')")
	case 20:
		g.line("async with cond:")
		g.line("    cond.%s", g.one("notify()", "notify_all()", "notify(2)"))
	case 21:
		t := g.task()
		g.line("try:")
		g.line("    log('awaited', await %s)", t)
		g.line("except (Exception, asyncio.CancelledError) as e:")
		g.line("    log('awaited', type(e).__name__, %s.cancelled())", t)
	case 22:
		if g.blocks {
			g.simple()
			return
		}
		// A thread that ends when a timer is due races with it.
		g.names++
		g.line("log(await asyncio.to_thread(lambda: time.sleep(%s%03d) or %d))", g.short(), g.names, g.IntN(100))
	default:
		g.simple()
	}
}

type again struct{}

// program is generate, with another seed where the first one leads nowhere.
func program(seed uint64) string {
	for try := uint64(0); ; try++ {
		if src := attempt(seed + try<<32); src != "" {
			return src
		}
	}
}

func attempt(seed uint64) (src string) {
	defer func() {
		if r := recover(); r != nil {
			if _, ok := r.(again); !ok {
				panic(r)
			}
			src = ""
		}
	}()
	return generate(seed)
}
