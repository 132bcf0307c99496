package sim_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"time"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/sim"
)

// A program is given the virtual clock by its context. In a test that is t.Context().
func ExampleNewEventLoop() {
	poll := func(ctx context.Context) (string, error) {
		for n := 1; n < 4; n++ {
			if err := asyncio.Sleep(ctx, time.Hour); err != nil {
				return "", err
			}
		}
		loop, err := asyncio.GetRunningLoop(ctx)
		return fmt.Sprint("after ", loop.Time()), err
	}

	ctx := asyncio.WithLoopFactory(context.Background(), sim.NewEventLoop)
	fmt.Println(asyncio.Run(ctx, poll)) // takes no time
	// Output: after 3h0m0s <nil>
}

// A program that can never go on does not hang: the error says which task waits for what, and
// where.
func ExampleNewEventLoop_deadlock() {
	ctx := asyncio.WithLoopFactory(context.Background(), sim.NewEventLoop)
	jobs := asyncio.NewQueue[int](0)
	_, err := asyncio.Run(ctx, func(ctx context.Context) (int, error) {
		return jobs.Get(ctx) // and nobody puts
	})

	fmt.Println(errors.Is(err, asyncio.ErrDeadlock))
	for line := range strings.Lines(err.Error()) {
		if strings.Contains(line, "waits for") {
			fmt.Print(strings.TrimSpace(line))
		}
	}
	// Output:
	// true
	// task 'Task-1', sim_test.ExampleNewEventLoop_deadlock.func1(), waits for <Queue maxsize=0 _getters[1]>
}

// inventory sells its stock, and takes a while to book a sale.
type inventory struct{ stock int }

func (i *inventory) sell(ctx context.Context) error {
	if i.stock == 0 {
		return nil
	}
	if err := asyncio.Sleep(ctx, time.Duration(asyncio.Rand(ctx).IntN(20))*time.Millisecond); err != nil {
		return err
	}
	i.stock--
	return nil
}

// shop has two customers, the second a little later than the first.
func shop(ctx context.Context) error {
	i := &inventory{stock: 1}
	sim.Always(ctx, "nothing is sold twice", func() error {
		if i.stock < 0 {
			return fmt.Errorf("stock is %d", i.stock)
		}
		return nil
	})
	return asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg *asyncio.TaskGroup) error {
		tg.CreateTask(ctx, i.sell, asyncio.TaskName("alice"))
		if err := asyncio.Sleep(ctx, 19*time.Millisecond); err != nil {
			return err
		}
		tg.CreateTask(ctx, i.sell, asyncio.TaskName("bob"))
		return nil
	})
}

// In a test it is sim.Explore(t, shop), which fails t with all of the explanation.
func ExampleCheck() {
	report := sim.Check(shop)
	f := report.Failure
	fmt.Println(f.Err)
	fmt.Println("run", f.Run, "seed", f.Seed)
	fmt.Println("first in, first out everywhere, except that", f.Deviations[0])
	// Output:
	// invariant "nothing is sold twice" does not hold: stock is -1
	// run 66 seed 65
	// first in, first out everywhere, except that at step 4 'main' ran before 'sleep of alice'
}

// Every schedule of a small program can be run.
func ExampleExhaustive() {
	report := sim.Check(func(ctx context.Context) error {
		var mu asyncio.Lock
		work := func(ctx context.Context) error {
			if err := mu.Acquire(ctx); err != nil {
				return err
			}
			defer mu.Release()
			return asyncio.Sleep(ctx, 0)
		}
		return asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg *asyncio.TaskGroup) error {
			tg.CreateTask(ctx, work)
			tg.CreateTask(ctx, work)
			return nil
		})
	}, sim.WithStrategy(sim.Exhaustive(0)), sim.Runs(1000))
	fmt.Println(report.Failure == nil, report.Coverage)
	// Output: true 16 runs, 152 steps: every schedule there is
}

// An exploration that never gets to the interesting state has tested nothing.
func ExampleSometimes() {
	report := sim.Check(func(ctx context.Context) error {
		q := asyncio.NewQueue[int](3)
		for i := range 3 {
			if err := q.Put(ctx, i); err != nil {
				return err
			}
			sim.Sometimes(ctx, "a producer has to wait", q.Full() && i < 2)
			if _, err := q.Get(ctx); err != nil {
				return err
			}
		}
		return nil
	}, sim.Runs(100))
	fmt.Println(report.Failure != nil)
	fmt.Println(report.Reached[0])
	// Output:
	// true
	// 'a producer has to wait': 0 of 300 times, in 0 runs
}

// A condition may have to become true in the end, whatever happens before.
func ExampleEventually() {
	report := sim.Check(func(ctx context.Context) error {
		leader := ""
		for _, name := range []string{"a", "b"} {
			asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error {
				err := asyncio.Sleep(ctx, time.Minute)
				leader = name
				return err
			}))
		}
		return sim.Eventually(ctx, 30*time.Second, "there is a leader", func() bool { return leader != "" })
	})
	fmt.Println(report.Failure.Err)
	// Output: main returned an error: sim: there is a leader: not within 30s
}

// Two hosts; one of them serves and loses power. The programs are those that production would run.
func ExampleNewHost() {
	greeter := func(ctx context.Context) error {
		s, err := asyncio.StartServer(ctx, func(ctx context.Context, r *asyncio.StreamReader, w *asyncio.StreamWriter) error {
			_, err := w.Write(ctx, []byte("hello\n"))
			return err
		}, ":7001")
		if err != nil {
			return err
		}
		return s.Serve(ctx)
	}
	var log []string
	r := sim.Check(func(ctx context.Context) error {
		log = nil // of the last run only
		host := sim.NewHost(ctx, "greeter", greeter)
		if err := asyncio.Sleep(ctx, time.Second); err != nil {
			return err
		}
		for range 2 {
			in, out, err := asyncio.OpenConnection(ctx, "greeter:7001")
			if err != nil {
				log = append(log, fmt.Sprint("no answer: ", errors.Is(err, syscall.ETIMEDOUT)))
				return nil
			}
			line, err := in.ReadLine(ctx)
			log = append(log, fmt.Sprintf("%q %v", line, err))
			if err := out.Close(ctx); err != nil {
				return err
			}
			host.Crash()
		}
		return nil
	})
	fmt.Println(strings.Join(log, "\n"))
	fmt.Println(r.Failure == nil)
	// Output:
	// "hello\n" <nil>
	// no answer: true
	// true
}
