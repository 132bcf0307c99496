// The rows of the comparison, as a program that uses this library.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"runtime/pprof"
	"time"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/bench/internal/peer"
)

var rows = map[string]peer.Row{
	"yield1":             onLoop("yield1", yields),
	"yield2":             onLoop("yield2", yieldsOfTwo),
	"spawn":              onLoop("spawn", spawnAndAwait),
	"spawn_end":          spawnWithEnd,
	"gather_now":         onLoop("gather_now", gather(instant)),
	"gather_suspend":     onLoop("gather_suspend", gather(suspending)),
	"gather3000":         bursts("gather3000", 3000),
	"gather10000":        bursts("gather10000", 10_000),
	"gather100000":       bursts("gather100000", 100_000),
	"queue1":             onLoop("queue1", queuePingPong),
	"queue1000":          onLoop("queue1000", queueThroughput),
	"lock":               onLoop("lock", uncontended),
	"lock100":            onLoop("lock100", contended),
	"sleepers":           onLoop("sleepers", sleepers),
	"suspended":          suspended,
	"growth":             growth,
	"timer":              onLoop("timer", timers),
	"cancel":             cancels,
	"taskgroup":          onLoop("taskgroup", taskGroup),
	"threadsafe":         onLoop("threadsafe", threadsafe),
	"threadsafe_latency": onLoop("threadsafe_latency", threadsafeLatency),
	"printtasks":         printTasks,
	"tothread":           onLoop("tothread", toThread),
}

var servers = map[string]peer.Server{
	"conn":            echoConn,
	"streams":         echoing(read),
	"streams_into":    echoing(readInto),
	"streams_exactly": echoing(readExactly),
	"http1":           serveHTTP(false, true),
	"chunks":          serveHTTP(false, false),
	"http2":           serveHTTP(true, true),
}

var clients = map[string]peer.Client{"http1": fetch}

func main() {
	profile := flag.String("cpuprofile", "", "write a profile of the row to this `file`")
	flag.Parse()
	if err := profiled(*profile, func() error {
		return peer.Run(os.Stdout, rows, servers, clients, flag.Args())
	}); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// untilInterrupted runs a server until an interrupt, so that a profile of it can be written.
func untilInterrupted(serve func(ctx context.Context) error) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	_, err := asyncio.Run(ctx, asyncio.Do(serve))
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// A reading returns a function that reads the messages of a connection, of size bytes or parts of
// them.
type reading func(r *asyncio.StreamReader, size int) func(ctx context.Context) ([]byte, error)

func read(r *asyncio.StreamReader, size int) func(ctx context.Context) ([]byte, error) {
	return func(ctx context.Context) ([]byte, error) { return r.Read(ctx, size) }
}

func readInto(r *asyncio.StreamReader, size int) func(ctx context.Context) ([]byte, error) {
	buf := make([]byte, size)
	return func(ctx context.Context) ([]byte, error) {
		n, err := r.ReadInto(ctx, buf)
		return buf[:n], err
	}
}

func readExactly(r *asyncio.StreamReader, size int) func(ctx context.Context) ([]byte, error) {
	return func(ctx context.Context) ([]byte, error) { return r.ReadExactly(ctx, size) }
}

// echoing is an echo server written as in Python.
func echoing(reading reading) peer.Server {
	return func(size int, listening func(net.Addr)) error {
		return untilInterrupted(func(ctx context.Context) error {
			server, err := asyncio.StartServer(ctx, func(ctx context.Context, r *asyncio.StreamReader, w *asyncio.StreamWriter) error {
				for next := reading(r, size); ; {
					data, err := next(ctx)
					if err != nil {
						return nil // the end of the stream, or the peer is gone
					}
					if _, err := w.Write(ctx, data); err != nil {
						return nil
					}
				}
			}, "127.0.0.1:0")
			if err != nil {
				return err
			}
			listening(server.Addrs()[0])
			return server.Serve(ctx)
		})
	}
}

// echoConn is an echo server written as with package net, except for the go statement.
func echoConn(size int, listening func(net.Addr)) error {
	return untilInterrupted(func(ctx context.Context) error {
		ln, err := asyncio.Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		listening(ln.Addr())
		for {
			c, err := ln.AcceptContext(ctx)
			if err != nil {
				return err
			}
			asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error {
				defer c.Close()
				buf := make([]byte, size)
				for {
					n, err := c.Read(buf)
					if err != nil {
						return nil
					}
					if _, err := c.Write(buf[:n]); err != nil {
						return nil
					}
				}
			}))
		}
	})
}

// profiled runs fn, and writes a CPU profile to file if file is not empty.
func profiled(file string, fn func() error) error {
	if file == "" {
		return fn()
	}
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	if err := pprof.StartCPUProfile(f); err != nil {
		return err
	}
	err = fn()
	pprof.StopCPUProfile()
	if e := f.Close(); err == nil {
		err = e
	}
	return err
}

// onLoop makes a row from a function that runs in a task of a running loop.
func onLoop(name string, run func(ctx context.Context, n int) error) peer.Row {
	return func(n int) ([]peer.Measurement, error) {
		return asyncio.Run(context.Background(), func(ctx context.Context) ([]peer.Measurement, error) {
			return peer.Timed(name, func(n int) error { return run(ctx, n) })(n)
		})
	}
}

func instant(context.Context) (int, error) { return 1, nil }

func suspending(ctx context.Context) (int, error) { return 1, asyncio.Sleep(ctx, 0) }

func yields(ctx context.Context, n int) error {
	for range n {
		if err := asyncio.Sleep(ctx, 0); err != nil {
			return err
		}
	}
	return nil
}

func yieldsOfTwo(ctx context.Context, n int) error {
	half := asyncio.Do(func(ctx context.Context) error { return yields(ctx, n/2) })
	_, err := asyncio.Gather(ctx, half, half)
	return err
}

func spawnAndAwait(ctx context.Context, n int) error {
	for range n {
		if _, err := asyncio.CreateTask(ctx, instant).Await(ctx); err != nil {
			return err
		}
	}
	return nil
}

// spawnWithEnd is spawnAndAwait on a loop whose context can end, as under signal.NotifyContext.
func spawnWithEnd(n int) ([]peer.Measurement, error) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	return asyncio.Run(ctx, func(ctx context.Context) ([]peer.Measurement, error) {
		return peer.Timed("spawn_end", func(n int) error { return spawnAndAwait(ctx, n) })(n)
	})
}

const groupSize = 1000

func gather(child asyncio.Coroutine[int]) func(ctx context.Context, n int) error {
	return func(ctx context.Context, n int) error {
		for range max(1, n/groupSize) {
			if err := gatherOf(ctx, child, groupSize); err != nil {
				return err
			}
		}
		return nil
	}
}

func gatherOf(ctx context.Context, child asyncio.Coroutine[int], size int) error {
	children := make([]asyncio.Coroutine[int], size)
	for i := range children {
		children[i] = child
	}
	results, err := asyncio.Gather(ctx, children...)
	if err != nil {
		return err
	}
	if len(results) != size {
		return fmt.Errorf("%d results", len(results))
	}
	return nil
}

// bursts makes a row of gathers of this many tasks that suspend once.
func bursts(name string, size int) peer.Row {
	return func(n int) ([]peer.Measurement, error) {
		return asyncio.Run(context.Background(), func(ctx context.Context) ([]peer.Measurement, error) {
			return peer.Bursts(name, size, func(size int) error { return gatherOf(ctx, suspending, size) })(n)
		})
	}
}

func queuePingPong(ctx context.Context, n int) error {
	ping, pong := asyncio.NewQueue[int](1), asyncio.NewQueue[int](1)
	echo := asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error {
		for range n {
			v, err := ping.Get(ctx)
			if err != nil {
				return err
			}
			if err := pong.Put(ctx, v); err != nil {
				return err
			}
		}
		return nil
	}))
	for i := range n {
		if err := ping.Put(ctx, i); err != nil {
			return err
		}
		if _, err := pong.Get(ctx); err != nil {
			return err
		}
	}
	_, err := echo.Await(ctx)
	return err
}

func queueThroughput(ctx context.Context, n int) error {
	q := asyncio.NewQueue[int](1000)
	producer := asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error {
		for i := range n {
			if err := q.Put(ctx, i); err != nil {
				return err
			}
		}
		return nil
	}))
	for range n {
		if _, err := q.Get(ctx); err != nil {
			return err
		}
	}
	_, err := producer.Await(ctx)
	return err
}

func uncontended(ctx context.Context, n int) error {
	var lock asyncio.Lock
	held := 0
	for range n {
		if err := lock.Acquire(ctx); err != nil {
			return err
		}
		held++
		lock.Release()
	}
	if held != n {
		return fmt.Errorf("held %d times", held)
	}
	return nil
}

const contenders = 100

func contended(ctx context.Context, n int) error {
	var lock asyncio.Lock
	return asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg *asyncio.TaskGroup) error {
		for range contenders {
			tg.CreateTask(ctx, func(ctx context.Context) error {
				for range max(1, n/contenders) {
					if err := lock.Acquire(ctx); err != nil {
						return err
					}
					err := asyncio.Sleep(ctx, 0)
					lock.Release()
					if err != nil {
						return err
					}
				}
				return nil
			})
		}
		return nil
	})
}

func sleepers(ctx context.Context, n int) error {
	return asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg *asyncio.TaskGroup) error {
		for range n {
			tg.CreateTask(ctx, func(ctx context.Context) error { return asyncio.Sleep(ctx, time.Millisecond) })
		}
		return nil
	})
}

// suspend makes n tasks that wait for an event, and lets them go. It reports how long the two steps
// took and how many bytes the tasks held in between.
func suspend(ctx context.Context, n int) (create, finish time.Duration, bytes int64, err error) {
	before := peer.Resident()
	start := time.Now()
	var gate asyncio.Event
	tasks := make([]*asyncio.Task[asyncio.None], n)
	for i := range tasks {
		tasks[i] = asyncio.CreateTask(ctx, asyncio.Do(gate.Wait))
	}
	if err := asyncio.Sleep(ctx, 0); err != nil { // all of them start, and wait
		return 0, 0, 0, err
	}
	create = time.Since(start)
	bytes = peer.Resident() - before
	if waiting := len(gate.Statistics().Waiters); waiting != n {
		return 0, 0, 0, fmt.Errorf("%d wait", waiting)
	}

	start = time.Now()
	gate.Set()
	for _, t := range tasks {
		if _, err := t.Await(ctx); err != nil {
			return 0, 0, 0, err
		}
	}
	return create, time.Since(start), bytes, nil
}

func suspended(n int) ([]peer.Measurement, error) {
	return asyncio.Run(context.Background(), func(ctx context.Context) ([]peer.Measurement, error) {
		create, finish, bytes, err := suspend(ctx, n)
		if err != nil {
			return nil, err
		}
		createAgain, finishAgain, _, err := suspend(ctx, n)
		return peer.Suspended(n, bytes, create, finish, createAgain, finishAgain), err
	})
}

func growth(n int) ([]peer.Measurement, error) {
	return asyncio.Run(context.Background(), func(ctx context.Context) ([]peer.Measurement, error) {
		create, finish, bytes, err := suspend(ctx, n)
		return []peer.Measurement{{Row: "growth", N: n, Total: create + finish, Bytes: bytes}}, err
	})
}

func timers(ctx context.Context, n int) error {
	loop, err := asyncio.GetRunningLoop(ctx)
	if err != nil {
		return err
	}
	for range n {
		loop.CallLater(time.Hour, func() {}).Cancel()
	}
	return nil
}

// cancels measures the cancelling alone: the tasks already exist and wait.
func cancels(n int) ([]peer.Measurement, error) {
	return asyncio.Run(context.Background(), func(ctx context.Context) ([]peer.Measurement, error) {
		var never asyncio.Event
		tasks := make([]*asyncio.Task[asyncio.None], n)
		for i := range tasks {
			tasks[i] = asyncio.CreateTask(ctx, asyncio.Do(never.Wait))
		}
		if err := asyncio.Sleep(ctx, 0); err != nil {
			return nil, err
		}
		start := time.Now()
		for _, t := range tasks {
			t.Cancel()
		}
		_, err := asyncio.GatherResults(ctx, tasks...)
		took := time.Since(start)
		for _, t := range tasks {
			if !t.Cancelled() {
				return nil, fmt.Errorf("%v was not cancelled", t)
			}
		}
		return []peer.Measurement{{Row: "cancel", N: n, Total: took}}, err
	})
}

// printTasks describes n tasks that wait.
func printTasks(n int) ([]peer.Measurement, error) {
	return asyncio.Run(context.Background(), func(ctx context.Context) ([]peer.Measurement, error) {
		var gate asyncio.Event
		tasks := make([]*asyncio.Task[asyncio.None], n)
		for i := range tasks {
			tasks[i] = asyncio.CreateTask(ctx, asyncio.Do(gate.Wait))
		}
		if err := asyncio.Sleep(ctx, 0); err != nil {
			return nil, err
		}
		measured, err := peer.Bursts("printtasks", n, func(int) error { return asyncio.PrintTasks(ctx, io.Discard) })(n)
		if err != nil {
			return nil, err
		}
		gate.Set()
		_, err = asyncio.Gather(ctx, tasks...)
		return measured, err
	})
}

func taskGroup(ctx context.Context, n int) error {
	for range max(1, n/groupSize) {
		err := asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg *asyncio.TaskGroup) error {
			for range groupSize {
				tg.CreateTask(ctx, func(context.Context) error { return nil })
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// threadsafe has another goroutine call n functions on the loop.
func threadsafe(ctx context.Context, n int) error {
	loop, err := asyncio.GetRunningLoop(ctx)
	if err != nil {
		return err
	}
	done := asyncio.CreateFuture[int](ctx)
	calls := 0
	call := func() {
		if calls++; calls == n {
			_ = done.SetResult(calls) // it is pending: this is the only one
		}
	}
	failed := make(chan error, 1)
	go func() {
		for range n {
			if _, err := loop.CallSoonThreadsafe(call); err != nil {
				failed <- err
				return
			}
		}
		failed <- nil
	}()
	if _, err := done.Await(ctx); err != nil {
		return err
	}
	return <-failed
}

// threadsafeLatency has another goroutine call a function on the loop and wait for it, n times.
func threadsafeLatency(ctx context.Context, n int) error {
	loop, err := asyncio.GetRunningLoop(ctx)
	if err != nil {
		return err
	}
	caller := asyncio.CreateFuture[asyncio.None](ctx)
	go func() {
		answer := make(chan struct{}, 1)
		for range n {
			if _, err := loop.CallSoonThreadsafe(func() { answer <- struct{}{} }); err != nil {
				return // the loop is closed, and nobody waits
			}
			<-answer
		}
		_, _ = loop.CallSoonThreadsafe(func() { _ = caller.SetResult(asyncio.None{}) })
	}()
	_, err = caller.Await(ctx)
	return err
}

func toThread(ctx context.Context, n int) error {
	for range n {
		if _, err := asyncio.ToThread(ctx, instant); err != nil {
			return err
		}
	}
	return nil
}
