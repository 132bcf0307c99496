package asyncio_test

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"maps"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
)

// loopThings returns one value of each type that belongs to a loop. Each is in use, so a call on
// any of them can tell its loop.
func loopThings(t *testing.T, ctx context.Context) map[string]any {
	l := loop(t, ctx)
	client, server := connect(t, ctx)
	clientConfig, serverConfig := configs(t)
	secure, insecure := connectTLS(t, ctx, clientConfig, serverConfig)
	datagrams, err := asyncio.DialPacket(ctx, "udp", "127.0.0.1:1")
	must(t, err)
	ln, err := asyncio.Listen(ctx, "tcp", "127.0.0.1:0")
	must(t, err)
	packets, err := asyncio.ListenPacket(ctx, "udp", "127.0.0.1:0")
	must(t, err)
	toStreams, fromStreams := connect(t, ctx)
	reader, writer := asyncio.NewStreams(toStreams)
	srv, err := asyncio.StartServer(ctx, func(context.Context, *asyncio.StreamReader, *asyncio.StreamWriter) error { return nil }, "127.0.0.1:0")
	must(t, err)
	file, err := asyncio.OpenFile(ctx, filepath.Join(t.TempDir(), "file"), os.O_RDWR|os.O_CREATE, 0o600)
	must(t, err)
	process, err := asyncio.CreateSubprocessExec(ctx, "sleep", []string{"100"})
	must(t, err)

	lock, cond, event := new(asyncio.Lock), asyncio.NewCondition(nil), new(asyncio.Event)
	sem, bounded := asyncio.NewSemaphore(0), asyncio.NewBoundedSemaphore(1)
	must(t, bounded.Acquire(ctx))
	barrier, limiter := asyncio.NewBarrier(3), asyncio.NewCapacityLimiter(1)
	must(t, limiter.Acquire(ctx))
	q, lifo, priority := asyncio.NewQueue[int](1), asyncio.NewLifoQueue[int](1), asyncio.NewPriorityQueue(1, cmp.Compare[int])
	never := asyncio.CreateFuture[int](ctx)
	waiters := []*asyncio.Task[asyncio.None]{ // each object has a waiting task
		start(ctx, func(ctx context.Context) error { return second(q.Get(ctx)) }),
		start(ctx, func(ctx context.Context) error { return second(lifo.Get(ctx)) }),
		start(ctx, func(ctx context.Context) error { return second(priority.Get(ctx)) }),
		start(ctx, func(ctx context.Context) error { return second(never.Await(ctx)) }),
		start(ctx, event.Wait), start(ctx, sem.Acquire), start(ctx, bounded.Acquire), start(ctx, limiter.Acquire),
		start(ctx, func(ctx context.Context) error { return second(barrier.Wait(ctx)) }),
		start(ctx, func(ctx context.Context) error {
			must(t, cond.Acquire(ctx))
			defer cond.Release()
			return cond.Wait(ctx)
		}),
		start(ctx, func(ctx context.Context) error { // so that a task waits for the lock
			must(t, lock.Acquire(ctx))
			defer lock.Release()
			return second(never.Await(ctx))
		}),
		start(ctx, lock.Acquire),
	}
	settle(t, ctx)
	must(t, cond.Acquire(ctx))
	// so that a task waits for the condition's lock
	waiters = append(waiters, start(ctx, func(ctx context.Context) error {
		must(t, cond.Acquire(ctx))
		cond.Release()
		return nil
	}))
	t.Cleanup(func() {
		for _, c := range []io.Closer{client, server, datagrams, secure, insecure, ln, packets, toStreams, fromStreams, process} {
			c.Close()
		}
	})
	var status *asyncio.TaskStatus[int]
	var tg *asyncio.TaskGroup
	var tm *asyncio.TimeoutScope
	waiters = append(waiters, start(ctx, func(ctx context.Context) error {
		return asyncio.RunTaskGroup(ctx, func(ctx context.Context, group *asyncio.TaskGroup) error {
			tg = group
			return asyncio.Timeout(ctx, time.Hour, func(ctx context.Context, scope *asyncio.TimeoutScope) error {
				tm = scope
				_, err := asyncio.GroupStart(ctx, group, func(ctx context.Context, s *asyncio.TaskStatus[int]) error {
					status = s
					return second(never.Await(ctx))
				})
				return err
			})
		})
	}))
	settle(t, ctx)
	settle(t, ctx)
	task := asyncio.CreateTask(ctx, func(ctx context.Context) (int, error) { return never.Await(ctx) })
	settle(t, ctx)
	t.Cleanup(func() { // on the loop at rest, or closed
		for _, w := range waiters {
			w.Cancel()
		}
		task.Cancel()
	})
	return map[string]any{
		"Conn": client, "DatagramConn": datagrams, "TLSConn": secure, "Listener": ln, "PacketConn": packets, "StreamReader": reader, "StreamWriter": writer,
		"Server": srv, "File": file, "Process": process, "Lock": lock, "Condition": cond, "Event": event, "Semaphore": sem, "BoundedSemaphore": bounded,
		"Barrier": barrier, "CapacityLimiter": limiter, "Queue": q, "LifoQueue": lifo, "PriorityQueue": priority, "Future": never,
		"Task": task, "TaskGroup": tg, "TimeoutScope": tm, "TaskStatus": status, "EventLoop": l,
		"TimerHandle": l.CallLater(time.Hour, func() {}), "Handle": l.CallSoon(func() {}),
	}
}

// loopFunctions returns calls of the functions that are not methods.
func loopFunctions(ctx context.Context, l *asyncio.EventLoop, things map[string]any) map[string]func() error {
	f := things["Future"].(*asyncio.Future[int])
	q := things["Queue"].(*asyncio.Queue[int])
	tg := things["TaskGroup"].(*asyncio.TaskGroup)
	conn := things["Conn"].(*asyncio.Conn)
	body := func(context.Context) error { return nil }
	withScope := func(context.Context, *asyncio.TimeoutScope) error { return nil }
	ch := make(chan int)
	pipe, _ := net.Pipe()
	return map[string]func() error{
		"AsCompleted":     func() error { return firstError(asyncio.AsCompleted(ctx, []*asyncio.Future[int]{f})) },
		"Await":           func() error { return second(asyncio.Await(ctx, f)) },
		"Cleanup":         func() error { return asyncio.Cleanup(ctx, time.Second, body) },
		"DeliverAgain":    func() error { asyncio.DeliverAgain(ctx, asyncio.ErrCancelled); return nil },
		"FailAfter":       func() error { return asyncio.FailAfter(ctx, time.Second, body) },
		"FormatCallGraph": func() error { asyncio.FormatCallGraph(ctx, f); return nil },
		"FormatTasks":     func() error { asyncio.FormatTasks(ctx); return nil },
		"Gather":          func() error { return second(asyncio.Gather(ctx, f)) },
		"Gather2":         func() error { _, _, err := asyncio.Gather2(ctx, f, f); return err },
		"Gather3":         func() error { _, _, _, err := asyncio.Gather3(ctx, f, f, f); return err },
		"Gather4":         func() error { _, _, _, _, err := asyncio.Gather4(ctx, f, f, f, f); return err },
		"GatherResults":   func() error { return second(asyncio.GatherResults(ctx, f)) },
		"GroupCompleted":  func() error { return firstError(asyncio.GroupCompleted[int](ctx, tg)) },
		"GroupTask":       func() error { asyncio.GroupTask(ctx, tg, instant); return nil },
		"GroupStart": func() error {
			return second(asyncio.GroupStart(ctx, tg, func(context.Context, *asyncio.TaskStatus[int]) error { return nil }))
		},
		"MkdirAll":           func() error { return asyncio.MkdirAll(ctx, "x", 0o700) },
		"MoveOnAfter":        func() error { return second(asyncio.MoveOnAfter(ctx, time.Second, body)) },
		"NewStreams":         func() error { asyncio.NewStreams(conn); return nil },
		"OpenConnection":     func() error { _, _, err := asyncio.OpenConnection(ctx, "127.0.0.1:1"); return err },
		"OpenUnixConnection": func() error { _, _, err := asyncio.OpenUnixConnection(ctx, "x"); return err },
		"PrintCallGraph":     func() error { return asyncio.PrintCallGraph(ctx, f, io.Discard) },
		"PrintTasks":         func() error { return asyncio.PrintTasks(ctx, io.Discard) },
		"Rand":               func() error { asyncio.Rand(ctx); return nil },
		"ReadDir":            func() error { return second(asyncio.ReadDir(ctx, ".")) },
		"ReadFile":           func() error { return second(asyncio.ReadFile(ctx, "x")) },
		"Recv":               func() error { _, _, err := asyncio.Recv(ctx, ch); return err },
		"Remove":             func() error { return asyncio.Remove(ctx, "x") },
		"Rename":             func() error { return asyncio.Rename(ctx, "x", "y") },
		"RunTaskGroup": func() error {
			return asyncio.RunTaskGroup(ctx, func(context.Context, *asyncio.TaskGroup) error { return nil })
		},
		"Select":                  func() error { return second(asyncio.Select(ctx, asyncio.OnDone(f), asyncio.OnGet(q))) },
		"Send":                    func() error { return asyncio.Send(ctx, ch, 1) },
		"Sleep":                   func() error { return asyncio.Sleep(ctx, 1) },
		"StaggeredRace":           func() error { _, _, _, err := asyncio.StaggeredRace(ctx, 1, asyncio.Coro(instant)); return err },
		"Stat":                    func() error { return second(asyncio.Stat(ctx, "x")) },
		"SyncDir":                 func() error { return asyncio.SyncDir(ctx, ".") },
		"Timeout":                 func() error { return asyncio.Timeout(ctx, time.Second, withScope) },
		"TimeoutAt":               func() error { return asyncio.TimeoutAt(ctx, asyncio.Never, withScope) },
		"ToThread":                func() error { return second(asyncio.ToThread(ctx, instant)) },
		"Wait":                    func() error { _, _, err := asyncio.Wait(ctx, []*asyncio.Future[int]{f}); return err },
		"WaitFor":                 func() error { return second(asyncio.WaitFor(ctx, f, time.Second)) },
		"WithCancel":              func() error { asyncio.WithCancel(ctx); return nil },
		"WithDeadline":            func() error { asyncio.WithDeadline(ctx, asyncio.Never); return nil },
		"WithTimeout":             func() error { asyncio.WithTimeout(ctx, time.Hour); return nil },
		"WriteFile":               func() error { return asyncio.WriteFile(ctx, "x", nil, 0o600) },
		"AllTasks":                func() error { asyncio.AllTasks(ctx); return nil },
		"CurrentTask":             func() error { asyncio.CurrentTask(ctx); return nil },
		"ThreadsafeDialer":        func() error { return second(asyncio.ThreadsafeDialer(ctx)(ctx, "tcp", "127.0.0.1:1")) },
		"Conn.Threadsafe":         func() error { return second(things["Conn"].(*asyncio.Conn).Threadsafe().Read(nil)) },
		"DatagramConn.Threadsafe": func() error { return second(things["DatagramConn"].(*asyncio.DatagramConn).Threadsafe().Read(nil)) },
		"Listener.Threadsafe":     func() error { return second(things["Listener"].(*asyncio.Listener).Threadsafe().Accept()) },
		"PacketConn.Threadsafe":   func() error { return third(things["PacketConn"].(*asyncio.PacketConn).Threadsafe().ReadFrom(nil)) },
		"DialPacket":              func() error { return second(asyncio.DialPacket(ctx, "udp", "127.0.0.1:1")) },
		"StreamReader.ReadUntil": func() error {
			return second(things["StreamReader"].(*asyncio.StreamReader).ReadUntil(ctx, []byte("x")))
		},
		"ConcurrentFuture.Await": func() error {
			return second(asyncio.RunCoroutineThreadsafe(func(ctx context.Context) (int, error) { return 0, asyncio.Sleep(ctx, time.Hour) }, l).Await(ctx))
		},
		"Dial":                  func() error { return second(asyncio.Dial(ctx, "tcp", "127.0.0.1:1")) },
		"NewConn":               func() error { return second(asyncio.NewConn(ctx, pipe)) },
		"OpenFile":              func() error { return second(asyncio.OpenFile(ctx, "x", 0, 0)) },
		"CreateFuture":          func() error { asyncio.CreateFuture[int](ctx); return nil },
		"EnsureFuture":          func() error { asyncio.EnsureFuture(ctx, asyncio.Coro(instant)); return nil },
		"RunInExecutor":         func() error { asyncio.RunInExecutor(ctx, nil, func() (int, error) { return 0, nil }); return nil },
		"Shield":                func() error { asyncio.Shield(ctx, f); return nil },
		"CaptureCallGraph":      func() error { asyncio.CaptureCallGraph(ctx, f); return nil },
		"Listen":                func() error { return second(asyncio.Listen(ctx, "tcp", "127.0.0.1:0")) },
		"NewListener":           func() error { ln, _ := net.Listen("tcp", "127.0.0.1:0"); return second(asyncio.NewListener(ctx, ln)) },
		"ListenPacket":          func() error { return second(asyncio.ListenPacket(ctx, "udp", "127.0.0.1:0")) },
		"CreateSubprocessExec":  func() error { return second(asyncio.CreateSubprocessExec(ctx, "true", nil)) },
		"CreateSubprocessShell": func() error { return second(asyncio.CreateSubprocessShell(ctx, "true")) },
		"StartServer":           func() error { return second(asyncio.StartServer(ctx, idleHandler, "127.0.0.1:0")) },
		"StartUnixServer":       func() error { return second(asyncio.StartUnixServer(ctx, idleHandler, "x")) },
		"NewServer":             func() error { asyncio.NewServer(ctx, nil, idleHandler); return nil },
		"NewStreamReader":       func() error { asyncio.NewStreamReader(ctx); return nil },
		"CreateTask":            func() error { asyncio.CreateTask(ctx, instant); return nil },
		"TLSClient":             func() error { return second(asyncio.TLSClient(ctx, conn, new(tls.Config))) },
		"TLSServer":             func() error { return second(asyncio.TLSServer(ctx, conn, new(tls.Config))) },
	}
}

func idleHandler(context.Context, *asyncio.StreamReader, *asyncio.StreamWriter) error { return nil }

func firstError[T any](seq func(yield func(T, error) bool)) (first error) {
	for _, err := range seq {
		return err
	}
	return nil
}

// readOnly matches methods that only look at plain fields and are documented to be for the loop.
var readOnly = regexp.MustCompile(`\.(Cancelled|Cancelling|Done|Result|Exception|Locked|IsSet|NWaiting|Broken|Qsize|Empty|Full|When|Deadline|Expired|` +
	`BorrowedTokens|AvailableTokens|TotalTokens|GetExceptionHandler|GetTaskFactory|GetCoro|ConnectionState|NetConn|SyscallConn|Buffered|AtEOF|` +
	`Conn|Returncode|Pid|Name|String|Context|IsServing|IsClosing|Addrs|GetStack|PrintStack|Len|Stdin|Stdout|Stderr|ReturnCode|Exited|` +
	`GetContext|GetLoop|GetName|SetName|PID|LocalAddr|RemoteAddr|Limit|ProcessState|SetWriteBufferLimits|` +
	`Clients|Reader|Writer|CanWriteEOF|OK|Error|Is|Unwrap|Timeout|First|Split|Subgroup)$`)

// fromOutside matches functions that are for goroutines by their nature, or that touch no loop.
var fromOutside = regexp.MustCompile(`^(Call|Run|RunIn|RunLoopGroup|RunUntilComplete|DialContext|EagerTaskFactory|Runner\.Close|TaskRequest\.(Coroutine|Wrap)|` +
	`Instant\.\w+|Threadsafe(Conn|Listener|PacketConn)\.\w+|Net\.\w+|ConcurrentFuture\.(Cancel|Finished)|Coroutine\.Await|LoopGroup\.\w+|DatagramConn\.WriteTo|EventLoop\.(Close|RunForever|CallExceptionHandler))$`)

// anyones matches documentation that says that anybody may call the function.
var anyones = regexp.MustCompile(`(?i)any\s+goroutine|is\s+for\s+goroutines|is\s+\[(Conn|TLSConn|PacketConn)\.(Set\w*Deadline|Close|Abort)\]`)

// TestForeign_Everything calls every exported method and function from a foreign goroutine, except
// those that the documentation allows to any goroutine.
func TestForeign_Everything(t *testing.T) {
	captureLog(t)
	inBothModes(t, func(t *testing.T, ctx context.Context) error {
		l := loop(t, ctx)
		things := loopThings(t, ctx)
		defer things["Condition"].(*asyncio.Condition).Release() // lets its waiter end
		calls := foreignCalls(t, ctx, l, things)
		refused := make(chan error)
		for _, parked := range []bool{false, true} {
			go func() {
				for _, name := range slices.Sorted(maps.Keys(calls)) {
					if parked {
						awaitParked(l)
					}
					refused <- refusal(name, calls[name])
				}
			}()
			for range calls {
				if parked {
					err, _, e := asyncio.Recv(ctx, refused)
					if e != nil {
						return e
					}
					report(t, "waits", err)
					continue
				}
				for done := false; !done; { // the loop is busy
					select {
					case err := <-refused:
						report(t, "is busy", err)
						done = true
					default:
						f := asyncio.CreateFuture[int](ctx)
						_ = f.SetResult(1)
						must(t, asyncio.Sleep(ctx, 0))
					}
				}
			}
		}
		return nil
	})
}

func report(t *testing.T, when string, err error) {
	if err != nil {
		t.Errorf("while the loop %s: %v", when, err)
	}
}

// refusal returns nil if the call was refused.
func refusal(name string, call func() error) error {
	var err error
	if p := panicOf(func() { err = call() }); p != nil {
		err = p
	}
	if errors.Is(err, asyncio.ErrForeignGoroutine) {
		return nil
	}
	return errors.Join(errors.New(name+" was not refused"), err)
}

// foreignCalls returns the calls that must be refused. The test fails for a function that is not
// among them, is not documented for any goroutine, and does not only read.
func foreignCalls(t *testing.T, ctx context.Context, l *asyncio.EventLoop, things map[string]any) map[string]func() error {
	calls := loopFunctions(ctx, l, things)
	known, types := make(map[string]bool), make(map[string]bool)
	p := packageDoc(t)
	for _, typ := range p.Types {
		types[typ.Name] = true
	}
	for _, d := range apiDocs(p) {
		known[d.name] = true
		typ, method, isMethod := strings.Cut(d.name, ".")
		switch {
		case types[d.name] || calls[d.name] != nil || fromOutside.MatchString(d.name):
		case anyones.MatchString(d.own) || isMethod && readOnly.MatchString(d.name) || !isMethod && anyones.MatchString(d.typ):
		case isMethod && things[typ] != nil:
			calls[d.name] = func() error { return callMethod(ctx, things[typ], method) }
		default:
			t.Errorf("%s: nobody says whether a foreign goroutine may call it: add a call to loopFunctions or loopMethods, or write \"any goroutine\" in its comment", d.name)
		}
	}
	for name := range calls {
		if !known[name] {
			t.Errorf("%s is not there any more", name)
		}
	}
	return calls
}

// callMethod calls a method with plausible arguments and returns its error.
func callMethod(ctx context.Context, on any, name string) error {
	m := reflect.ValueOf(on).MethodByName(name)
	if !m.IsValid() {
		return errors.New("there is no such method")
	}
	var in []reflect.Value
	for i := range m.Type().NumIn() {
		if m.Type().IsVariadic() && i == m.Type().NumIn()-1 {
			break
		}
		in = append(in, argument(ctx, m.Type().In(i)))
	}
	var err error
	for _, out := range m.Call(in) {
		if e, ok := out.Interface().(error); ok {
			err = e
		}
		if out.Kind() == reflect.Func && out.Type().CanSeq2() { // the All methods return a sequence
			for _, e := range out.Seq2() {
				err, _ = e.Interface().(error)
				break
			}
		}
	}
	return err
}

func argument(ctx context.Context, typ reflect.Type) reflect.Value {
	switch {
	case typ == reflect.TypeFor[context.Context]():
		return reflect.ValueOf(ctx)
	case typ == reflect.TypeFor[error]():
		return reflect.ValueOf(&[]error{errTest}[0]).Elem()
	case typ == reflect.TypeFor[os.Signal]():
		// SIGWINCH, on systems that have it
		return reflect.ValueOf(&[]os.Signal{syscall.Signal(28)}[0]).Elem()
	case typ == reflect.TypeFor[any]():
		return reflect.ValueOf(&[]any{1}[0]).Elem()
	case typ.Kind() == reflect.Func:
		return reflect.MakeFunc(typ, func([]reflect.Value) []reflect.Value {
			var out []reflect.Value
			for i := range typ.NumOut() {
				out = append(out, reflect.Zero(typ.Out(i)))
			}
			return out
		})
	case typ.Kind() == reflect.Slice && typ.Elem().Kind() == reflect.Uint8:
		return reflect.ValueOf([]byte{1})
	case typ.Kind() == reflect.Int || typ.Kind() == reflect.Int64:
		return reflect.ValueOf(1).Convert(typ)
	case typ.Kind() == reflect.Pointer:
		return reflect.New(typ.Elem())
	}
	return reflect.Zero(typ)
}
