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
//     A [Conn] is a net.Conn: a library that reads and writes where it is called, and not on
//     goroutines of its own, can use it in a task.
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
//	asyncio.run(main())              asyncio.Run(ctx, main)
//	asyncio.Runner                   asyncio.NewRunner, RunIn
//	async def f(): return 1          func f(ctx context.Context) (int, error)
//	async def f(): (no result)       func f(ctx context.Context) error, wrapped: asyncio.Do(f)
//	f(x)  (a coroutine object)       a closure, or a func that returns Coroutine[T]
//	f where any awaitable will do    asyncio.Coro(f), as in WaitFor(ctx, asyncio.Coro(f), time.Second)
//	await f()                        f(ctx)
//	await fut                        fut.Await(ctx), or asyncio.Await(ctx, fut)
//	create_task(f(), name="x")       CreateTask(ctx, f, Name("x"))
//	eager_start=True                 EagerStart(true)
//	loop.set_task_factory(f)         SetTaskFactory(f), with a TaskRequest to change
//	eager_task_factory               EagerTaskFactory
//	task.get_coro(), get_context()   GetCoro(), GetContext()
//	ensure_future(x)                 EnsureFuture(ctx, x)
//	sleep(1)                         Sleep(ctx, time.Second); a bare 1 is a nanosecond, here and in every timeout
//	gather(a, b)                     Gather(ctx, a, b); of different types: Gather2(ctx, a, b)
//	gather(…, return_exceptions=True) GatherResults(ctx, …)
//	wait(ts, timeout=1, return_when=FIRST_COMPLETED)
//	                                 Wait(ctx, ts, WaitTimeout(time.Second), ReturnWhen(FirstCompleted))
//	(the first of several: Go's select) Select(ctx, OnDone(t), OnGet(q), OnRecv(ch), OnTimeout(d), …)
//	as_completed(ts, timeout=1)      AsCompleted(ctx, ts, AsCompletedTimeout(time.Second)), with range
//	shield(x)                        Shield(ctx, x)
//	wait_for(x, 1)                   WaitFor(ctx, x, time.Second)
//	async with timeout(1) as tm: …   Timeout(ctx, time.Second, func(ctx, tm) error { … })
//	timeout(None)                    Timeout(ctx, Forever, …)
//	timeout_at(when)                 TimeoutAt(ctx, when, …)
//	tm.reschedule(when), expired()   tm.Reschedule(when), tm.Expired()
//	async with TaskGroup() as tg: …  RunTaskGroup(ctx, func(ctx, tg) error { … })
//	tg.create_task(f())              CreateTask(ctx, f, InGroup(tg)); with the group's ctx GroupTask(tg, f), tg.CreateTask(g)
//	tg.cancel()                      tg.Cancel()
//	ExceptionGroup                   *GroupError
//	TimeoutError                     ErrTimeout, *TimeoutError
//	loop.run_until_complete(wait(ts)) RunUntilComplete(loop, Do(func(ctx) error { Wait(ctx, ts) … }))
//	current_task(), all_tasks()      CurrentTask(ctx), AllTasks(ctx)
//	task.cancel("msg"), uncancel()   task.Cancel("msg"), Uncancel()
//	fut.set_result, set_exception    SetResult, SetException
//	fut.result(), exception()        Result, Exception
//	add_done_callback                AddDoneCallback
//	set_exception_handler(f)         SetExceptionHandler(f), with an ExceptionContext
//	loop.add_signal_handler(SIGTERM, main_task.cancel)
//	                                 HandleSignals(syscall.SIGTERM), an option of Run
//	loop.add_signal_handler(SIGTERM, f), remove_signal_handler(SIGTERM)
//	                                 AddSignalHandler(syscall.SIGTERM, f), RemoveSignalHandler(syscall.SIGTERM);
//	                                 in a task: signal.Notify(ch, …), and Recv(ctx, ch) or OnRecv(ch)
//	get_running_loop()               GetRunningLoop(ctx)
//	new_event_loop()                 NewEventLoop(ctx)
//	loop.create_future()             CreateFuture[T](ctx)
//	loop.call_soon, call_later, call_at, time, stop, run_forever, close
//	                                 the same in CamelCase
//	Lock(), Event()                  var l Lock, var e Event
//	Condition(lock)                  NewCondition(lock)
//	Semaphore(2), BoundedSemaphore(2), Barrier(2)
//	                                 NewSemaphore(2), NewBoundedSemaphore(2), NewBarrier(2)
//	async with lock: …               if err := l.Acquire(ctx); err != nil { … }; defer l.Release()
//	Queue(maxsize=3)                 NewQueue[T](3)
//	PriorityQueue(), LifoQueue()     NewPriorityQueue(0, cmp.Compare[T]), NewLifoQueue[T](0)
//	q.put(v), get(), join()          Put(ctx, v), Get(ctx), Join(ctx)
//	q.put_nowait(v), get_nowait()    PutNowait(v), GetNowait()
//	q.qsize(), empty(), full(), maxsize, task_done(), shutdown()
//	                                 the same in CamelCase
//	while True: v = await q.get()    for v, err := range q.All(ctx)
//	QueueEmpty, QueueFull, QueueShutDown
//	                                 ErrQueueEmpty, ErrQueueFull, ErrQueueShutDown
//	loop.set_debug(True), slow_callback_duration
//	                                 SetDebug(true), SetSlowCallbackDuration
//	capture_call_graph(), format_call_graph(), print_call_graph()
//	                                 CaptureCallGraph, FormatCallGraph, PrintCallGraph
//	python -m asyncio pstree         PrintTasks(ctx, w), on the loop
//	task.get_stack(), print_stack()  GetStack(), PrintStack(w)
//	open_connection(host, port)      OpenConnection(ctx, "host:port")
//	open_unix_connection(path)       OpenUnixConnection(ctx, path)
//	start_server(cb, host, port)     StartServer(ctx, handler, "host:port")
//	start_unix_server(cb, path)      StartUnixServer(ctx, handler, path)
//	limit=n, ssl=context             Limit(n), StreamTLS(config)
//	reader.read(n), readexactly(n), readline(), at_eof()
//	                                 r.Read(ctx, n), ReadExactly, ReadLine, AtEOF
//	reader.readuntil((b"a", b"b"))   r.ReadUntil(ctx, []byte("a"), []byte("b"))
//	async for line in reader         for line, err := range r.Lines(ctx)
//	async generator, anext(it)       iter.Seq whose body awaits, next() of iter.Pull
//	writer.write(b); await writer.drain()
//	                                 w.Write(ctx, b)
//	writer.writelines, write_eof     WriteLines, WriteEOF
//	writer.close(); await writer.wait_closed()
//	                                 w.Close(ctx)
//	writer.close(), transport.abort() w.CloseSoon(), w.Abort()
//	writer.start_tls(context)        w.StartTLS(ctx, config, false)
//	writer.get_extra_info(…)         w.LocalAddr(), RemoteAddr(), Conn()
//	server.serve_forever(), start_serving(), close(), wait_closed()
//	                                 s.Serve(ctx), StartServing(ctx), Close(), WaitClosed(ctx)
//	server.close_clients(), abort_clients(), sockets
//	                                 s.CloseClients(), AbortClients(), Addrs()
//	IncompleteReadError, LimitOverrunError
//	                                 *IncompleteReadError, *LimitOverrunError
//	loop.create_connection           Dial(ctx, "tcp", "host:port"), a net.Conn
//	loop.create_server               Listen(ctx, "tcp", "host:port"), NewServer
//	loop.create_datagram_endpoint    ListenPacket(ctx, "udp", …), DialPacket(ctx, "udp", …)
//	loop.start_tls                   TLSClient(ctx, conn, config), TLSServer
//	loop.add_reader(fd, f), remove_reader, add_writer, remove_writer
//	                                 AddReader(fd, f) and so on
//	create_subprocess_exec("ls", "-l", stdout=PIPE)
//	                                 CreateSubprocessExec(ctx, "ls", []string{"-l"}, Stdout(Pipe))
//	create_subprocess_shell("ls -l") CreateSubprocessShell(ctx, "ls -l")
//	PIPE, DEVNULL, STDOUT, a descriptor
//	                                 Pipe, DevNull, ToStdout, Stdio(file.Fd())
//	env, cwd, pass_fds, start_new_session, limit
//	                                 Env, Dir, ExtraFiles, StartNewSession, PipeLimit
//	p.stdin, stdout, stderr, pid     p.Stdin, Stdout, Stderr, Pid
//	p.wait(), communicate(b), returncode
//	                                 p.Wait(ctx), Communicate(ctx, b), ReturnCode()
//	p.send_signal(s), terminate(), kill()
//	                                 p.SendSignal(s), Terminate(), Kill()
//	open(name), which blocks         OpenFile(ctx, name, flag, perm), ReadFile(ctx, name), WriteFile(ctx, name, data, perm)
//	os.fsync(f.fileno())             f.Sync(ctx); of a directory SyncDir(ctx, name)
//	to_thread(f)                     ToThread(ctx, f)
//	loop.run_in_executor(ex, f)      RunInExecutor(ctx, ex, f)
//	loop.set_default_executor(ex)    SetDefaultExecutor(ex)
//	staggered.staggered_race(fs, 1)  StaggeredRace(ctx, time.Second, fs...)
//	loop.call_soon_threadsafe(f)     CallSoonThreadsafe(f)
//	run_coroutine_threadsafe(c, loop) RunCoroutineThreadsafe(c, loop), with a ctx StartCall(ctx, loop, c)
//	wrap_future(run_coroutine_threadsafe(c, loop)), awaited
//	                                 Call(ctx, loop, c)
//	wrap_future(cf)                  cf.Await(ctx)
//	CancelledError                   ErrCancelled, *CancelledError
//	InvalidStateError                ErrInvalidState
//	BrokenBarrierError               ErrBrokenBarrier
//	None, where there is no result   None
//	random                           Rand(ctx), which a simulation can repeat
//	contextvars                      context values
package asyncio
