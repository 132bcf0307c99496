// The rows of the comparison, as a Go program that uses goroutines, channels and errgroup.
package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"runtime"
	"runtime/pprof"
	"sync"
	"time"

	"github.com/goasyncio/asyncio/bench/internal/peer"
	"golang.org/x/sync/errgroup"
)

var rows = map[string]peer.Row{
	"yield1":             peer.Timed("yield1", yields),
	"yield2":             peer.Timed("yield2", yieldsOfTwo),
	"spawn":              peer.Timed("spawn", spawnAndAwait),
	"spawn_end":          peer.Timed("spawn_end", spawnWithEnd),
	"gather_now":         peer.Timed("gather_now", gather(func() int { return 1 })),
	"gather_suspend":     peer.Timed("gather_suspend", gather(yielding)),
	"gather3000":         peer.Bursts("gather3000", 3000, gatherOf(yielding)),
	"gather10000":        peer.Bursts("gather10000", 10_000, gatherOf(yielding)),
	"gather100000":       peer.Bursts("gather100000", 100_000, gatherOf(yielding)),
	"queue1":             peer.Timed("queue1", channelPingPong),
	"queue1000":          peer.Timed("queue1000", channelThroughput),
	"lock":               peer.Timed("lock", uncontended),
	"lock100":            peer.Timed("lock100", contended),
	"sleepers":           peer.Timed("sleepers", sleepers),
	"suspended":          suspended,
	"growth":             growth,
	"timer":              peer.Timed("timer", timers),
	"cancel":             cancels,
	"taskgroup":          peer.Timed("taskgroup", errorGroup),
	"threadsafe":         peer.Timed("threadsafe", functionsToOne),
	"threadsafe_latency": peer.Timed("threadsafe_latency", functionAndAnswer),
	"printtasks":         printGoroutines,
	// where asyncio needs ToThread, a goroutine simply blocks
	"tothread": peer.Timed("tothread", spawnAndAwait),
}

var servers = map[string]peer.Server{
	"net":     echo(false),
	"net_new": echo(true),
	"http1":   serveHTTP(false, true),
	"chunks":  serveHTTP(false, false),
	"http2":   serveHTTP(true, true),
}

var clients = map[string]peer.Client{"http1": fetch}

func main() { peer.Main(rows, servers, clients) }

// echo is an echo server with a new buffer for each read or one for each connection. It does not
// use io.Copy, which would make the system move the bytes, in three calls.
func echo(always bool) peer.Server {
	return func(size int, listening func(net.Addr)) error {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		listening(ln.Addr())
		for {
			c, err := ln.Accept()
			if err != nil {
				return err
			}
			go func() {
				defer c.Close()
				for buf := make([]byte, size); ; {
					if always {
						buf = make([]byte, size)
					}
					n, err := c.Read(buf)
					if err != nil {
						return
					}
					if _, err := c.Write(buf[:n]); err != nil {
						return
					}
				}
			}()
		}
	}
}

func yields(n int) error {
	for range n {
		runtime.Gosched()
	}
	return nil
}

func yieldsOfTwo(n int) error {
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() { _ = yields(n / 2) })
	}
	wg.Wait()
	return nil
}

func spawnAndAwait(n int) error {
	for range n {
		result := make(chan int, 1)
		go func() { result <- 1 }()
		<-result
	}
	return nil
}

// spawnWithEnd is spawnAndAwait for callers that wait no longer than their context lasts.
func spawnWithEnd(n int) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	for range n {
		result := make(chan int, 1)
		go func() { result <- 1 }()
		select {
		case <-result:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return nil
}

const groupSize = 1000

func yielding() int { runtime.Gosched(); return 1 }

// gatherOf starts size goroutines and collects their results in order: each writes its own element.
func gatherOf(child func() int) func(size int) error {
	return func(size int) error {
		results := make([]int, size)
		var wg sync.WaitGroup
		for i := range results {
			wg.Go(func() { results[i] = child() })
		}
		wg.Wait()
		return nil
	}
}

func gather(child func() int) func(n int) error {
	group := gatherOf(child)
	return func(n int) error {
		for range max(1, n/groupSize) {
			if err := group(groupSize); err != nil {
				return err
			}
		}
		return nil
	}
}

func channelPingPong(n int) error {
	ping, pong := make(chan int, 1), make(chan int, 1)
	go func() {
		for v := range ping {
			pong <- v
		}
		close(pong)
	}()
	for i := range n {
		ping <- i
		<-pong
	}
	close(ping)
	<-pong
	return nil
}

func channelThroughput(n int) error {
	c := make(chan int, 1000)
	go func() {
		defer close(c)
		for i := range n {
			c <- i
		}
	}()
	got := 0
	for range c {
		got++
	}
	if got != n {
		return fmt.Errorf("got %d", got)
	}
	return nil
}

func uncontended(n int) error {
	var mu sync.Mutex
	held := 0
	for range n {
		mu.Lock()
		held++
		mu.Unlock()
	}
	if held != n {
		return fmt.Errorf("held %d times", held)
	}
	return nil
}

const contenders = 100

func contended(n int) error {
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range contenders {
		wg.Go(func() {
			for range max(1, n/contenders) {
				mu.Lock()
				runtime.Gosched()
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return nil
}

func sleepers(n int) error {
	var wg sync.WaitGroup
	for range n {
		wg.Go(func() { time.Sleep(time.Millisecond) })
	}
	wg.Wait()
	return nil
}

// waiting makes n goroutines that wait for a channel to be closed, and returns once they wait. The
// function that it returns closes the channel and waits until they have ended.
func waiting(n int) (release func()) {
	gate := make(chan struct{})
	var begun, ended sync.WaitGroup
	begun.Add(n)
	for range n {
		ended.Go(func() {
			begun.Done()
			<-gate
		})
	}
	begun.Wait()
	return func() {
		close(gate)
		ended.Wait()
	}
}

func suspend(n int) (create, finish time.Duration, bytes int64) {
	before := peer.Resident()
	start := time.Now()
	release := waiting(n)
	create = time.Since(start)
	bytes = peer.Resident() - before

	start = time.Now()
	release()
	return create, time.Since(start), bytes
}

func suspended(n int) ([]peer.Measurement, error) {
	create, finish, bytes := suspend(n)
	createAgain, finishAgain, _ := suspend(n)
	return peer.Suspended(n, bytes, create, finish, createAgain, finishAgain), nil
}

func growth(n int) ([]peer.Measurement, error) {
	create, finish, bytes := suspend(n)
	return []peer.Measurement{{Row: "growth", N: n, Total: create + finish, Bytes: bytes}}, nil
}

func timers(n int) error {
	for range n {
		time.AfterFunc(time.Hour, func() {}).Stop()
	}
	return nil
}

// cancels ends n goroutines with one context, which is how goroutines are cancelled.
func cancels(n int) ([]peer.Measurement, error) {
	ctx, cancel := context.WithCancel(context.Background())
	errs := make([]error, n)
	var waiting, ended sync.WaitGroup
	waiting.Add(n)
	for i := range errs {
		ended.Go(func() {
			waiting.Done()
			<-ctx.Done()
			errs[i] = ctx.Err()
		})
	}
	waiting.Wait()
	start := time.Now()
	cancel()
	ended.Wait()
	took := time.Since(start)
	for _, err := range errs {
		if err == nil {
			return nil, fmt.Errorf("one was not cancelled")
		}
	}
	return []peer.Measurement{{Row: "cancel", N: n, Total: took}}, nil
}

// printGoroutines writes the stacks of n goroutines that wait.
func printGoroutines(n int) ([]peer.Measurement, error) {
	defer waiting(n)()
	return peer.Bursts("printtasks", n, func(int) error {
		return pprof.Lookup("goroutine").WriteTo(io.Discard, 2)
	})(n)
}

func errorGroup(n int) error {
	for range max(1, n/groupSize) {
		g, _ := errgroup.WithContext(context.Background())
		for range groupSize {
			g.Go(func() error { return nil })
		}
		if err := g.Wait(); err != nil {
			return err
		}
	}
	return nil
}

// functionsToOne has one goroutine run the functions that another sends.
func functionsToOne(n int) error {
	functions := make(chan func(), 1024)
	calls := 0
	go func() {
		defer close(functions)
		for range n {
			functions <- func() { calls++ }
		}
	}()
	for f := range functions {
		f()
	}
	if calls != n {
		return fmt.Errorf("%d calls", calls)
	}
	return nil
}

func functionAndAnswer(n int) error {
	functions := make(chan func())
	go func() {
		defer close(functions)
		answer := make(chan struct{}, 1)
		for range n {
			functions <- func() { answer <- struct{}{} }
			<-answer
		}
	}()
	for f := range functions {
		f()
	}
	return nil
}
