//go:build !race

package asyncio_test

import (
	"cmp"
	"context"
	"errors"
	"io"
	"math"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"
	"unsafe"

	"github.com/goasyncio/asyncio"
)

// These are the promises about allocation. (The race detector allocates on its own.)
func TestAllocations(t *testing.T) { promised(t, 0) }

// They hold with a flight recorder, too.
func TestAllocations_Recorded(t *testing.T) { promised(t, 4096) }

func promised(t *testing.T, ring int) {
	t.Helper()
	run(t, func(ctx context.Context) error {
		loop(t, ctx).SetDebug(false) // debug mode allocates to find the goroutine's id
		loop(t, ctx).SetFlightRecorder(ring)
		for range 10 * ring { // until the ring is full, it grows
			_ = asyncio.Sleep(ctx, 0)
		}
		settle(t, ctx)
		done := asyncio.CreateFuture[int](ctx)
		must(t, done.SetResult(1))
		var lock asyncio.Lock
		var set asyncio.Event
		set.Set()
		cond, sem := asyncio.NewCondition(nil), asyncio.NewSemaphore(1)
		bounded, limiter, barrier := asyncio.NewBoundedSemaphore(1), asyncio.NewCapacityLimiter(1), asyncio.NewBarrier(1)
		ch := make(chan int, 1)
		through := func(q queueOf[int]) func() {
			return func() {
				_ = q.Put(ctx, 1)
				_ = q.PutNowait(2) // full
				_, _ = q.Get(ctx)
				_, _ = q.GetNowait() // empty
				q.TaskDone()
				_ = q.Join(ctx)
			}
		}
		for name, fn := range map[string]func(){
			"lock":          func() { _ = lock.Acquire(ctx); lock.Release() },
			"event":         func() { _ = set.Wait(ctx) },
			"condition":     func() { _ = cond.Acquire(ctx); cond.NotifyAll(); cond.Release() },
			"wait for":      func() { _ = cond.WaitFor(ctx, set.IsSet) },
			"semaphore":     func() { _ = sem.Acquire(ctx); sem.Release() },
			"bounded":       func() { _ = bounded.Acquire(ctx); bounded.Release() },
			"limiter":       func() { _ = limiter.Acquire(ctx); limiter.Release(ctx) },
			"barrier":       func() { _, _ = barrier.Wait(ctx) },
			"Queue":         through(asyncio.NewQueue[int](1)),
			"LifoQueue":     through(asyncio.NewLifoQueue[int](1)),
			"PriorityQueue": through(asyncio.NewPriorityQueue(1, cmp.Compare[int])),
			"Send and Recv": func() {
				_ = asyncio.Send(ctx, ch, 1)
				_, _, _ = asyncio.Recv(ctx, ch)
			},
			"yield":             func() { _ = asyncio.Sleep(ctx, 0) },
			"await of a future": func() { _, _ = done.Await(ctx) },
			"sleep":             func() { _ = asyncio.Sleep(ctx, time.Second) },
		} {
			if n := testing.AllocsPerRun(1000, fn); n != 0 {
				t.Errorf("%s allocates %v times", name, n)
			}
		}
		if n := testing.AllocsPerRun(1000, func() { _, _ = asyncio.ToThread(ctx, instant) }); n > 1 {
			t.Errorf("ToThread allocates %v times, want once", n)
		}
		l := loop(t, ctx)
		ran := 0
		call := func() { ran++ }
		// It repeats ten times: what the runtime allocates meanwhile is counted too, and
		// AllocsPerRun rounds the mean down.
		if n := testing.AllocsPerRun(10, func() {
			for range 21 * 100 {
				_, _ = l.CallSoonThreadsafe(call)
				_ = asyncio.Sleep(ctx, 0)
			}
		}); n > 101 || ran == 0 {
			t.Errorf("2100 calls from elsewhere allocate %v times, want a hundred batches of handles", n)
		}
		// AllocsPerRun uses one processor, so the loop enters Go's scheduler now and then (loop 7).
		if n := testing.AllocsPerRun(10, func() {
			for range 10_000 {
				_ = asyncio.Sleep(ctx, 0)
			}
		}); n != 0 {
			t.Errorf("10,000 yields allocate %v times", n)
		}
		if n := testing.AllocsPerRun(1000, func() { _, _ = asyncio.CreateTask(ctx, instant).Await(ctx) }); n > 1 {
			t.Errorf("spawn and await allocates %v times, want the task alone", n)
		}
		return nil
	})
}

// A waiting coroutine holds one stack of the smallest size, 2 KiB. That has room for some variables
// of its own (stack 9).
func TestAllocations_FirstStack(t *testing.T) {
	if runtime.GOARCH != "amd64" || testing.CoverMode() != "" {
		return // frames have other sizes there
	}
	const n = 4000
	for name, waiting := range map[string]func(ctx context.Context) asyncio.Coroutine[int]{
		"Event.Wait": func(context.Context) asyncio.Coroutine[int] {
			var e asyncio.Event
			return func(ctx context.Context) (int, error) { return 0, spacious(func() error { return e.Wait(ctx) }) }
		},
		"Future.Await": func(ctx context.Context) asyncio.Coroutine[int] {
			f := asyncio.CreateFuture[int](ctx)
			return func(ctx context.Context) (int, error) {
				return 0, spacious(func() error { _, err := f.Await(ctx); return err })
			}
		},
		"Lock.Acquire": func(ctx context.Context) asyncio.Coroutine[int] {
			var l asyncio.Lock
			must(t, l.Acquire(ctx))
			return func(ctx context.Context) (int, error) { return 0, spacious(func() error { return l.Acquire(ctx) }) }
		},
		"Queue.Get": func(context.Context) asyncio.Coroutine[int] {
			q := asyncio.NewQueue[int](0)
			return func(ctx context.Context) (int, error) {
				return 0, spacious(func() error { _, err := q.Get(ctx); return err })
			}
		},
		"Sleep": func(context.Context) asyncio.Coroutine[int] {
			return func(ctx context.Context) (int, error) {
				return 0, spacious(func() error { return asyncio.Sleep(ctx, time.Hour) })
			}
		},
	} {
		// The three kinds of context: one that cannot end, one that the loop watches for all its
		// tasks, and one that the program made.
		for _, kind := range []string{"loop", "root", "own"} {
			outer, cancel := context.Background(), func() {}
			if kind == "root" {
				outer, cancel = context.WithCancel(outer)
			}
			_, err := asyncio.Run(outer, asyncio.Do(func(ctx context.Context) error {
				inner := ctx
				if kind == "own" {
					c, cancel := context.WithCancel(ctx)
					defer cancel()
					inner = c
				}
				// A signal that preempts a goroutine needs room on its stack, which then grows. So
				// the least of a few attempts counts.
				least := int64(math.MaxInt64)
				for range 3 {
					coro := waiting(ctx)
					before := stacksInUse()
					tasks := make([]*asyncio.Task[int], n)
					for i := range tasks {
						tasks[i] = asyncio.CreateTask(inner, coro)
					}
					settle(t, ctx)
					least = min(least, (stacksInUse()-before)/n)
					for _, task := range tasks {
						task.Cancel()
					}
					_, err := asyncio.GatherResults(ctx, tasks...)
					must(t, err)
					runtime.GC() // gives back the stacks of the attempt before
				}
				most := int64(2500) // some stacks are those of the attempt before
				if runtime.GOOS == "windows" {
					most = 9000 // the runtime's smallest stack has 8 KiB there
				}
				if least > most {
					t.Errorf("%s, %s: a task that waits has a stack of %d bytes", name, kind, least)
				}
				return nil
			}), asyncio.HandleSIGINT(false))
			cancel()
			must(t, err)
		}
	}
}

// A task that echoes a message on a connection, and waits for the next, has room on such a stack.
// When a stack grows it moves, and with it the variables.
func TestAllocations_FirstStackOfConnections(t *testing.T) {
	if runtime.GOARCH != "amd64" || runtime.GOOS == "windows" || testing.CoverMode() != "" {
		return // frames, or the smallest stack, have other sizes there
	}
	const n = 100
	onRealTime(t, func(ctx context.Context) error {
		ln, err := asyncio.Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		moved := 0
		var clients []*asyncio.Conn
		var tasks []*asyncio.Task[asyncio.None]
		accepting := start(ctx, func(ctx context.Context) error {
			for {
				server, err := ln.AcceptContext(ctx)
				if err != nil {
					return nil
				}
				tasks = append(tasks, asyncio.CreateTask(ctx, asyncio.Do(func(context.Context) error {
					defer server.Close()
					var mark [64]byte // stays on the stack
					message := make([]byte, 64)
					before := addressOf(&mark)
					for {
						n, err := server.Read(message)
						if err != nil {
							break
						}
						if _, err := server.Write(message[:n]); err != nil {
							return err
						}
					}
					if addressOf(&mark) != before {
						moved++
					}
					return nil
				})))
			}
		})
		for range n {
			client, err := asyncio.Dial(ctx, "tcp", ln.Addr().String())
			if err != nil {
				return err
			}
			clients = append(clients, client)
		}
		for range 3 {
			for _, c := range clients {
				if _, err := c.Write([]byte("message")); err != nil {
					return err
				}
			}
			for _, c := range clients {
				if _, err := io.ReadFull(c, make([]byte, len("message"))); err != nil {
					return err
				}
			}
		}
		for _, c := range clients {
			c.Close()
		}
		ln.Close()
		await(t, ctx, accepting)
		if _, err := asyncio.GatherResults(ctx, tasks...); err != nil {
			return err
		}
		if moved > n/2 { // a signal that preempts a goroutine also needs room on its stack
			t.Errorf("%d of %d stacks have grown", moved, n)
		}
		return nil
	})
}

// addressOf does not make its argument escape.
func addressOf(p *[64]byte) uintptr { return uintptr(unsafe.Pointer(p)) }

// spacious calls fn with some variables on the stack.
func spacious(fn func() error) error {
	var variables [64]byte
	touch(&variables)
	err := fn()
	touch(&variables)
	return err
}

//go:noinline
func touch(p *[64]byte) { p[0]++ }

func stacksInUse() int64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.StackInuse)
}

// Two tasks echo a message; each waits for it.
func TestAllocations_Echo(t *testing.T) {
	onSystem(t, func(t *testing.T, ctx context.Context) error {
		if strings.HasSuffix(t.Name(), "portable") || runtime.GOOS == "windows" {
			return nil // goroutines are started there
		}
		ctx = loop(t, ctx).Context() // the time limit of the test is not part of the promise
		client, server := connect(t, ctx)
		echo := start(ctx, func(ctx context.Context) error {
			p := make([]byte, 4096)
			for {
				n, err := server.Read(p)
				if err == io.EOF {
					return server.Close()
				} else if err != nil {
					return err
				}
				if _, err := server.Write(p[:n]); err != nil {
					return err
				}
			}
		})
		measured := start(ctx, func(ctx context.Context) error {
			message := make([]byte, 64)
			var failed error
			allocated := testing.AllocsPerRun(1000, func() {
				if _, err := client.Write(message); err != nil {
					failed = err
				}
				if _, err := io.ReadFull(client, message); err != nil {
					failed = err
				}
			})
			if allocated != 0 {
				t.Errorf("an echo allocates %v times", allocated)
			}
			return failed
		})
		return errors.Join(ended(ctx, measured), client.Close(), ended(ctx, echo))
	})
}

// Datagrams go there and back; each side waits for the other's.
func TestAllocations_Datagrams(t *testing.T) {
	for _, address := range loopbacks(t) {
		onSystem(t, func(t *testing.T, ctx context.Context) error {
			if strings.Contains(t.Name(), "portable") || runtime.GOOS != "linux" || runtime.GOARCH == "386" || runtime.GOARCH == "s390x" {
				// goroutines are started there, or package syscall allocates the addresses
				return nil
			}
			ctx = loop(t, ctx).Context() // the time limit of the test is not part of the promise
			a, err := asyncio.ListenPacket(ctx, "udp", address)
			if err != nil {
				return err
			}
			b, err := asyncio.ListenPacket(ctx, "udp", address)
			if err != nil {
				return err
			}
			to := b.LocalAddr().(*net.UDPAddr).AddrPort()
			toAddr := b.LocalAddr()
			echo := start(ctx, func(ctx context.Context) error {
				p := make([]byte, 2000)
				for {
					n, from, err := b.ReadFromUDPAddrPort(p)
					if errors.Is(err, net.ErrClosed) {
						return nil
					} else if err != nil {
						return err
					}
					if _, err := b.WriteToUDPAddrPort(p[:n], from); err != nil {
						return err
					}
				}
			})
			measured := start(ctx, func(ctx context.Context) error {
				message, p := make([]byte, 64), make([]byte, 2000)
				var failed error
				note := func(err error) {
					if err != nil {
						failed = err
					}
				}
				for _, c := range []struct {
					what string
					want float64
					send func() error
					read func() error
				}{
					{"with values", 0, func() error {
						_, err := a.WriteToUDPAddrPort(message, to)
						return err
					}, func() error {
						_, _, err := a.ReadFromUDPAddrPort(p)
						return err
					}},
					{"with net.Addr", 1, func() error { // for the address that is returned
						_, err := a.WriteTo(message, toAddr)
						return err
					}, func() error {
						_, _, err := a.ReadFrom(p)
						return err
					}},
				} {
					if n := testing.AllocsPerRun(1000, func() { note(c.send()); note(c.read()) }); n > c.want {
						t.Errorf("%s, %s: an echo allocates %v times, want %v", address, c.what, n, c.want)
					}
				}
				return failed
			})
			return errors.Join(ended(ctx, measured), a.Close(), b.Close(), ended(ctx, echo))
		})
	}
}

// A description of many tasks that do the same finds the words for it only once.
func TestAllocations_FormatTasks(t *testing.T) {
	runFast(t, func(ctx context.Context) error {
		const n = 1000
		var gate asyncio.Event
		for range n {
			asyncio.CreateTask(ctx, asyncio.Do(gate.Wait))
		}
		settle(t, ctx)
		_ = asyncio.FormatTasks(ctx) // gives the tasks their names
		if allocs := testing.AllocsPerRun(5, func() { _ = asyncio.FormatTasks(ctx) }); allocs > 3*n {
			t.Errorf("FormatTasks allocates %v times for %d tasks", allocs, n)
		}
		gate.Set()
		return nil
	})
}
