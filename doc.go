// Package asyncio is Python's asyncio for Go: coroutines, tasks and an event loop. Tasks are
// concurrent but run one step at a time, and their order and time are under control.
//
//	func main() {
//		_, err := asyncio.Run(context.Background(), asyncio.Do(func(ctx context.Context) error {
//			a := asyncio.CreateTask(ctx, fetch("a")) // both run
//			b := asyncio.CreateTask(ctx, fetch("b")) // concurrently
//			results, err := asyncio.Gather(ctx, a, b)
//			fmt.Println(results)
//			return err
//		}))
//		…
//	}
//
//	func fetch(name string) asyncio.Coroutine[string] {
//		return func(ctx context.Context) (string, error) {
//			err := asyncio.Sleep(ctx, time.Second)
//			return name, err
//		}
//	}
//
// # The model
//
// A coroutine function is any func(ctx context.Context) (T, error). A value of it with its
// arguments bound is a [Coroutine], Python's coroutine object; making one runs nothing. Calling a
// coroutine awaits it, here and now. [CreateTask] makes it a [Task] that runs beside the others.
// Only one task of a loop runs at any moment, and it runs until it awaits something that is not
// done. Between two awaits nothing else happens, so data that only the loop's tasks touch needs no
// lock.
//
// ctx leads to the loop. Pass on the one the coroutine was given, or one derived from it.
//
// # Rules
//
//   - Order. Ready callbacks and tasks run first in, first out; what they schedule runs in the next
//     iteration. Timers fire in the order of their deadlines, equal ones in the order they were
//     set, and never early. Every operation takes as many iterations as in CPython.
//   - Cancelling a task ([Future.Cancel]) works as in asyncio: one error, matching [ErrCancelled],
//     at the task's current or next await. It may be caught. It does not close the task's ctx.
//   - A context that is done works as in Go: every await made with it fails with its cause, until
//     the code stops using it (context.WithoutCancel, for cleanup). [WithTimeout] and its kin give
//     contexts on the loop's clock.
//   - [Timeout] and [WaitFor] limit by one cancel, as Python does; [MoveOnAfter] and [FailAfter] by
//     a context. [Cleanup] is for code that neither may interrupt.
//   - Nothing is lost. Tasks are kept until they are done. An error that nobody retrieved reaches
//     the exception handler, at the latest when the loop closes.
//   - A panic in a task is reported at once and becomes the task's [*PanicError]. A t.FailNow in a
//     task ends the test.
//   - When [Run] returns, its tasks and goroutines are gone.
//   - A task must not await with its goroutine locked to a thread (runtime.LockOSThread): the Go
//     runtime ends the program then.
//   - Other goroutines may call only [EventLoop.CallSoonThreadsafe], [RunCoroutineThreadsafe] and
//     functions whose comment says so. A function that any goroutine may call neither suspends nor
//     blocks, unless its comment says so. Options are plain values. [ToThread] and [RunInExecutor]
//     lead into other goroutines; [Recv], [Send] and [Select] wait for Go channels.
//   - [Dial], [Listen] and [OpenConnection] give connections that suspend tasks instead of threads.
//     A [Conn] is a net.Conn: a library that reads and writes where it is called can use it in a
//     task. A library with goroutines of its own gets a [ThreadsafeConn] and is called in
//     [ToThread].
//   - [OpenFile] and its kin have the default executor do what package os does with files. A cancel
//     ends the wait, not the operation.
//   - A subprocess ends with its scope, and everything that it has started ends with it; see
//     [Process].
//   - Only separate loops run in parallel: [RunLoopGroup] makes one for each core. A loop does not
//     touch what belongs to another; [Call] has the other loop do the work, and waits.
//   - In profiles of package runtime/pprof a task has the labels of its ctx, and labels that it
//     sets itself stay its own. [EventLoop.SetTaskLabels] labels tasks with their names.
//   - Misuse is answered with an error that names the fix. The error is returned if there is an
//     error result; otherwise the function panics where Python would raise.
//
// # From Python
//
// Names are Python's in CamelCase, and constructors begin with New. Whatever waits takes a ctx and
// returns an error. Keyword arguments are options at the end of the call.
//
//	asyncio.run(main())              asyncio.Run(ctx, main)
//	async def f() -> int             func f(ctx context.Context) (int, error)
//	async def g(), without a result  func g(ctx context.Context) error, wrapped: asyncio.Do(g)
//	await f(), await task            f(ctx), task.Await(ctx)
//	create_task(f(), name="x")       CreateTask(ctx, f, TaskName("x"))
//	sleep(1)                         Sleep(ctx, time.Second); a bare 1 is a nanosecond, here and in every timeout
//	gather(a, b)                     Gather(ctx, a, b)
//	loop.time() + 1                  loop.Time().Add(time.Second), an Instant
//	async with timeout(1) as tm: …   Timeout(ctx, time.Second, func(ctx, tm) error { … })
//	async with TaskGroup() as tg: …  RunTaskGroup(ctx, func(ctx, tg) error { … })
//	except CancelledError            errors.Is(err, ErrCancelled)
//
// The file docs/python.md of the repository has a row for every name of asyncio's: its name in Go,
// or why there is none and what to use instead. It also translates what has no name, such as
// generators, context variables and except blocks.
package asyncio
