package simtest_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/sim"
	"github.com/goasyncio/asyncio/sim/simtest"
)

// passes runs main once in order, and then explores it.
func passes(t *testing.T, main func(ctx context.Context) error, opts ...sim.Option) {
	t.Helper()
	opts = append([]sim.Option{simtest.Bubble(t), sim.Runs(20)}, opts...)
	sim.Run(t, main, opts...)
	if r := sim.Check(main, opts...); r.Failure != nil {
		t.Fatal(r.Failure)
	}
}

// fails runs main once and returns the failure, which has all of these words.
func fails(t *testing.T, main func(ctx context.Context) error, words ...string) {
	t.Helper()
	r := sim.Check(main, simtest.Bubble(t), sim.Runs(20))
	if r.Failure == nil {
		t.Fatal("the exploration passed")
	}
	for _, w := range words {
		if !strings.Contains(r.Failure.Error(), w) {
			t.Errorf("the failure does not say %q:\n%v", w, r.Failure)
		}
	}
}

func sleepInThread(ctx context.Context, d time.Duration) *asyncio.Task[asyncio.None] {
	return asyncio.CreateTask(ctx, func(ctx context.Context) (asyncio.None, error) {
		return asyncio.ToThread(ctx, func(ctx context.Context) (asyncio.None, error) {
			time.Sleep(d)
			return asyncio.None{}, nil
		})
	})
}

// Package time, contexts and the loop are on one clock, which stands still while anything runs.
func TestClock(t *testing.T) {
	passes(t, func(ctx context.Context) error {
		loop, err := asyncio.GetRunningLoop(ctx)
		if err != nil {
			return err
		}
		same := func(what string, want time.Duration) error {
			if a, b := time.Now(), loop.Now(); !a.Equal(b) || loop.Time() != (asyncio.Instant{}).Add(want) {
				return fmt.Errorf("%s: package time has %v, the loop %v at %v; want %v", what, a, b, loop.Time(), want)
			}
			return nil
		}
		if err := same("at the beginning", 0); err != nil {
			return err
		}
		thread := sleepInThread(ctx, 3*time.Second)
		if err := asyncio.Sleep(ctx, time.Second); err != nil {
			return err
		}
		if err := same("after a sleep beside a thread function", time.Second); err != nil {
			return err
		}
		if _, err := thread.Await(ctx); err != nil {
			return err
		}
		if err := same("after the thread function", 3*time.Second); err != nil {
			return err
		}
		short, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		if err := asyncio.Sleep(short, time.Hour); !errors.Is(err, context.DeadlineExceeded) {
			return fmt.Errorf("a sleep under a deadline of package context: %w", err)
		}
		return same("after the deadline", 8*time.Second)
	})
}

func TestEpoch(t *testing.T) {
	epoch := time.Date(2028, 2, 28, 23, 59, 0, 0, time.UTC)
	passes(t, func(ctx context.Context) error {
		if now := time.Now(); !now.Equal(epoch) {
			return fmt.Errorf("it is %v", now)
		}
		return nil
	}, sim.Epoch(epoch))
	r := sim.Check(func(context.Context) error { return nil }, simtest.Bubble(t), sim.Epoch(time.Date(1999, 12, 31, 0, 0, 0, 0, time.UTC)))
	if r.Failure == nil || !strings.Contains(r.Failure.Error(), "cannot begin before") {
		t.Errorf("a run in 1999: %v", r.Failure)
	}
}

// Goroutines that post to a loop at one instant do so in every order, and the order is recorded.
func TestPosts(t *testing.T) {
	orders := make(map[string]int)
	main := func(ctx context.Context) error {
		loop, err := asyncio.GetRunningLoop(ctx)
		if err != nil {
			return err
		}
		var order strings.Builder
		var posted sync.WaitGroup
		for _, name := range []string{"a", "b", "c"} {
			posted.Go(func() {
				time.Sleep(time.Second)
				f := asyncio.RunCoroutineThreadsafe(func(context.Context) (int, error) { order.WriteString(name); return 7, nil }, loop)
				if v, err := f.Result(context.Background()); v != 7 || err != nil {
					panic(fmt.Sprint(v, err))
				}
			})
		}
		if _, err := asyncio.ToThread(ctx, func(context.Context) (asyncio.None, error) { posted.Wait(); return asyncio.None{}, nil }); err != nil {
			return err
		}
		orders[order.String()]++
		return nil
	}
	r := sim.Check(main, simtest.Bubble(t), sim.WithStrategy(sim.Exhaustive(3)), sim.Runs(2000))
	if r.Failure != nil {
		t.Fatal(r.Failure)
	}
	if len(orders) != 6 {
		t.Errorf("the orders were %v, want all six (%s)", orders, r.Coverage)
	}
}

// Tasks and goroutines meet at channels.
func TestChannels(t *testing.T) {
	passes(t, func(ctx context.Context) error {
		in, out := make(chan int), make(chan int)
		go func() {
			defer close(out)
			for v := range in {
				time.Sleep(time.Second)
				out <- 2 * v
			}
		}()
		for i := range 5 {
			if err := asyncio.Send(ctx, in, i); err != nil {
				return err
			}
			v, _, err := asyncio.Recv(ctx, out)
			if v != 2*i || err != nil {
				return fmt.Errorf("received %d, %w", v, err)
			}
		}
		close(in)
		loop, err := asyncio.GetRunningLoop(ctx)
		if at := loop.Time(); at != (asyncio.Instant{}).Add(5*time.Second) {
			return fmt.Errorf("it took until %v", at)
		}
		return err
	})
}

// echo serves with package net's interfaces until its host ends.
func echo(ctx context.Context) error {
	ln, err := asyncio.NetOf(ctx).Listen(ctx, "tcp", ":7")
	if err != nil {
		return err
	}
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = io.Copy(c, c)
			}()
		}
	}()
	_, err = asyncio.CreateFuture[asyncio.None](ctx).Await(ctx)
	return err
}

// inThread calls fn in a thread function.
func inThread(ctx context.Context, fn func(n *asyncio.Net) error) error {
	n := asyncio.NetOf(ctx)
	_, err := asyncio.ToThread(ctx, func(ctx context.Context) (asyncio.None, error) { return asyncio.None{}, fn(n) })
	return err
}

func TestStreams(t *testing.T) {
	passes(t, func(ctx context.Context) error {
		sim.NewHost(ctx, "echo", echo)
		if err := asyncio.Sleep(ctx, time.Second); err != nil {
			return err
		}
		return inThread(ctx, func(n *asyncio.Net) error {
			if addrs, err := n.LookupHost(context.Background(), "echo"); err != nil || len(addrs) != 1 {
				return fmt.Errorf("the host echo is at %v, %w", addrs, err)
			}
			if _, err := n.LookupHost(context.Background(), "nobody"); err == nil {
				return errors.New("the host nobody was found")
			}
			if _, err := n.Dial("tcp", "echo:8"); err == nil || !strings.Contains(err.Error(), "refused") {
				return fmt.Errorf("where nobody listens: %w", err)
			}
			c, err := n.Dial("tcp", "echo:7")
			if err != nil {
				return err
			}
			defer c.Close()
			// far more than the buffers have room for; a Write does not wait
			text := strings.Repeat("0123456789abcdef", 1<<16)
			began := time.Now()
			if _, err := io.WriteString(c, text); err != nil {
				return err
			}
			if d := time.Since(began); d > 0 {
				return fmt.Errorf("the write took %v", d)
			}
			if err := c.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
				return err
			}
			b, err := io.ReadAll(c)
			if string(b) != text || err != nil {
				return fmt.Errorf("%d bytes came back, %w", len(b), err)
			}
			return nil
		})
	}, sim.Runs(3))
}

func TestDeadlines(t *testing.T) {
	passes(t, func(ctx context.Context) error {
		h := sim.NewHost(ctx, "echo", echo)
		h.JumpClock(time.Hour)
		sim.HostOf(ctx).JumpClock(-time.Hour) // goroutines have the world's clock
		if err := asyncio.Sleep(ctx, time.Second); err != nil {
			return err
		}
		return inThread(ctx, func(n *asyncio.Net) error {
			c, err := n.Dial("tcp", "echo:7")
			if err != nil {
				return err
			}
			defer c.Close()
			began := time.Now()
			_ = c.SetReadDeadline(began.Add(3 * time.Second))
			if _, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(began) != 3*time.Second {
				return fmt.Errorf("after %v: %w", time.Since(began), err)
			}
			_ = c.SetReadDeadline(time.Time{})
			time.AfterFunc(time.Second, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
			if _, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(began) != 4*time.Second {
				return fmt.Errorf("aborted after %v: %w", time.Since(began), err)
			}
			if _, err := c.Write([]byte("x")); !errors.Is(err, os.ErrDeadlineExceeded) {
				return fmt.Errorf("a write after its deadline: %w", err)
			}
			time.AfterFunc(time.Second, func() { _ = c.Close() })
			_ = c.SetDeadline(time.Time{})
			if _, err := c.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) || time.Since(began) != 5*time.Second {
				return fmt.Errorf("closed after %v: %w", time.Since(began), err)
			}
			short, cancel := context.WithTimeout(context.Background(), 100*time.Microsecond)
			defer cancel()
			if _, err := n.DialContext(short, "tcp", "10.99.99.99:7"); !errors.Is(err, context.DeadlineExceeded) {
				return fmt.Errorf("a dial that is given up: %w", err)
			}
			return nil
		})
	})
}

func TestDatagrams(t *testing.T) {
	passes(t, func(ctx context.Context) error {
		sim.NewHost(ctx, "clock", func(ctx context.Context) error {
			c, err := asyncio.NetOf(ctx).ListenPacket(ctx, "udp", ":37")
			if err != nil {
				return err
			}
			go func() {
				p := make([]byte, 100)
				for {
					_, from, err := c.ReadFrom(p)
					if err != nil {
						return
					}
					_, _ = c.WriteTo([]byte("noon"), from)
				}
			}()
			_, err = asyncio.CreateFuture[asyncio.None](ctx).Await(ctx)
			return err
		})
		if err := asyncio.Sleep(ctx, time.Second); err != nil {
			return err
		}
		return inThread(ctx, func(n *asyncio.Net) error {
			c, err := n.Dial("udp", "clock:37")
			if err != nil {
				return err
			}
			defer c.Close()
			if _, err := c.Write([]byte("?")); err != nil {
				return err
			}
			p := make([]byte, 100)
			k, err := c.Read(p)
			if string(p[:k]) != "noon" {
				return fmt.Errorf("the answer is %q, %w", p[:k], err)
			}
			return nil
		})
	})
}

// In a task there is Dial; the network of goroutines would block the loop.
func TestInATask(t *testing.T) {
	passes(t, func(ctx context.Context) error {
		n := asyncio.NetOf(ctx)
		//asynciovet:allow nestedrun it is refused, which is what the test wants
		if _, err := n.Dial("tcp", "main:7"); !errors.Is(err, asyncio.ErrLoopBlocked) {
			return fmt.Errorf("a dial in a task: %w", err)
		}
		//asynciovet:allow nestedrun it is refused, which is what the test wants
		if _, err := n.LookupHost(ctx, "main"); !errors.Is(err, asyncio.ErrLoopBlocked) {
			return fmt.Errorf("a look-up in a task: %w", err)
		}
		if asyncio.NetOf(asyncio.Outside(ctx)) == nil {
			return errors.New("no network outside")
		}
		_, err := asyncio.NetOf(asyncio.Outside(ctx)).Listen(ctx, "tcp", "10.9.9.9:1")
		if err == nil || !strings.Contains(err.Error(), "cannot assign") {
			return fmt.Errorf("the context of Outside has another network: %w", err)
		}
		return nil
	})
}

// Without a bubble goroutines have no network, and the error says what to do.
func TestWithoutABubble(t *testing.T) {
	sim.Run(t, func(ctx context.Context) error {
		for _, err := range []error{
			//asynciovet:allow nestedrun it is refused, which is what the test wants
			second(asyncio.NetOf(ctx).Dial("tcp", "main:7")),
			second(asyncio.NetOf(ctx).Listen(ctx, "tcp", ":7")),
			second(asyncio.NetOf(ctx).ListenPacket(ctx, "udp", ":7")),
			//asynciovet:allow nestedrun it is refused, which is what the test wants
			second(asyncio.NetOf(ctx).LookupHost(ctx, "main")),
		} {
			if !errors.Is(err, errors.ErrUnsupported) || !strings.Contains(err.Error(), "simtest.Bubble") {
				return fmt.Errorf("without a bubble: %w", err)
			}
		}
		return nil
	})
}

func second[T any](_ T, err error) error { return err }

// What can never go on is a deadlock, also with goroutines; one that sleeps long is not.
func TestDeadlock(t *testing.T) {
	passes(t, func(ctx context.Context) error {
		f := asyncio.CreateFuture[int](ctx)
		loop, err := asyncio.GetRunningLoop(ctx)
		if err != nil {
			return err
		}
		time.AfterFunc(24*time.Hour, func() { _, _ = loop.CallSoonThreadsafe(func() { _ = f.SetResult(1) }) })
		_, err = f.Await(ctx)
		return err
	})
	fails(t, func(ctx context.Context) error {
		sim.NewHost(ctx, "echo", echo)
		return inThread(ctx, func(n *asyncio.Net) error {
			time.Sleep(time.Second)
			c, err := n.Dial("tcp", "echo:7")
			if err != nil {
				return err
			}
			defer c.Close()
			_, err = c.Read(make([]byte, 1)) // echo waits too
			return err
		})
	}, "deadlock", "echo")
}

// A step that sleeps is found by the clock, with its place.
func TestStepThatSleeps(t *testing.T) {
	for _, d := range []time.Duration{time.Nanosecond, time.Hour} {
		fails(t, func(ctx context.Context) error {
			//asynciovet:allow blocking that is what must be found
			time.Sleep(d)
			return nil
		}, "not deterministic", "blocks")
	}
	//asynciovet:allow blocking that is what must be found
	fails(t, func(context.Context) error { time.Sleep(time.Second); return nil }, "bubble_test.go")
}

// A step that is blocked for ever is found at once, although nothing can end it.
func TestStepThatIsBlocked(t *testing.T) {
	if alone(t) {
		return
	}
	began := time.Now()
	fails(t, func(ctx context.Context) error {
		sim.NewHost(ctx, "echo", echo)
		<-make(chan int)
		return nil
	}, "given up at step", "a step blocks", "bubble_test.go")
	if d := time.Since(began); d > 2*time.Second {
		t.Errorf("it took %v", d)
	}
}

// Goroutines that do not end are named.
func TestGoroutinesLeftBehind(t *testing.T) {
	if alone(t) {
		return
	}
	fails(t, func(ctx context.Context) error {
		go forgotten()
		return nil
	}, "goroutines of the program are left", "forgotten", "bubble_test.go")
	passes(t, func(ctx context.Context) error {
		go time.Sleep(10 * time.Minute)
		return nil
	})
}

// A goroutine for which the run never comes to rest is named.
func TestGoroutineThatNeverRests(t *testing.T) {
	if alone(t) {
		return
	}
	fails(t, func(ctx context.Context) error {
		sim.NewHost(ctx, "echo", echo)
		if err := asyncio.Sleep(ctx, time.Second); err != nil {
			return err
		}
		return inThread(ctx, func(n *asyncio.Net) error {
			c, err := n.Dial("tcp", "echo:7")
			if err != nil {
				return err
			}
			var mu sync.Mutex
			go func() {
				mu.Lock()
				defer mu.Unlock()
				_, _ = c.Read(make([]byte, 1))
			}()
			time.Sleep(time.Second)
			mu.Lock()
			return c.Close()
		})
	}, "given up", "never comes to rest", "bubble_test.go")
}

func forgotten() { <-make(chan int) }

// What differs between runs is noticed.
func TestDifferences(t *testing.T) {
	runs := 0
	fails(t, func(ctx context.Context) error {
		sim.NewHost(ctx, "echo", echo)
		if err := asyncio.Sleep(ctx, time.Second); err != nil {
			return err
		}
		runs++
		return inThread(ctx, func(n *asyncio.Net) error {
			for range runs {
				c, err := n.Dial("tcp", "echo:7")
				if err != nil {
					return err
				}
				_ = c.Close()
			}
			return nil
		})
	}, "not deterministic", "two runs with the same seed differ", "goroutines have asked for different things", "goroutine: dial tcp echo:7 (after step ", "bubble_test.go")
}
