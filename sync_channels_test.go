package asyncio_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
)

func recv[T any](ch <-chan T) asyncio.Coroutine[T] {
	return func(ctx context.Context) (T, error) {
		v, ok, err := asyncio.Recv(ctx, ch)
		if err == nil && !ok {
			err = errors.New("closed")
		}
		return v, err
	}
}

// An operation that need not wait does not let others go first (channel 1).
func TestChannels_WithoutWaiting(t *testing.T) {
	onBothClocks(t, func(t *testing.T, ctx context.Context) error {
		others := false
		loop(t, ctx).CallSoon(func() { others = true })
		ch := make(chan int, 1)
		must(t, asyncio.Send(ctx, ch, 7))
		if v, ok, err := asyncio.Recv(ctx, ch); v != 7 || !ok || err != nil {
			t.Errorf("Recv = %v, %v, %v", v, ok, err)
		}
		close(ch)
		if v, ok, err := asyncio.Recv(ctx, ch); v != 0 || ok || err != nil {
			t.Errorf("Recv of a closed channel = %v, %v, %v", v, ok, err)
		}
		if err := panicOf(func() { _ = asyncio.Send(ctx, ch, 1) }); err == nil {
			t.Error("Send to a closed channel does not panic")
		}
		if others {
			t.Error("it suspended")
		}
		return nil
	})
}

// A task that waits for a channel does not hold the clock: the task that will send is asleep.
func TestRecv_FromATaskThatSleeps(t *testing.T) {
	for _, room := range []int{0, 1} {
		run(t, func(ctx context.Context) error {
			ch := make(chan string, room)
			task := asyncio.CreateTask(ctx, recv(ch))
			must(t, asyncio.Sleep(ctx, time.Hour))
			must(t, asyncio.Send(ctx, ch, "late"))
			v, err := task.Await(ctx)
			if now := loop(t, ctx).Time().SinceStart(); v != "late" || now != time.Hour {
				t.Errorf("%q at %v", v, now)
			}
			return err
		})
	}
}

func TestSend_ToATaskThatSleeps(t *testing.T) {
	for _, room := range []int{0, 1} {
		run(t, func(ctx context.Context) error {
			ch := make(chan int, room)
			task := asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error {
				for v := range 5 {
					if err := asyncio.Send(ctx, ch, v); err != nil {
						return err
					}
				}
				close(ch)
				return nil
			}))
			var got []int
			for {
				must(t, asyncio.Sleep(ctx, time.Hour))
				v, ok, err := asyncio.Recv(ctx, ch)
				must(t, err)
				if !ok {
					break
				}
				got = append(got, v)
			}
			equal(t, "received", got, []int{0, 1, 2, 3, 4})
			_, err := task.Await(ctx)
			return err
		})
	}
}

// On virtual time the number of iterations is the same in every run: one, as for a queue.
func TestChannels_Ticks(t *testing.T) {
	run(t, func(ctx context.Context) error {
		tk := newTicker(t, ctx)
		must(t, asyncio.Sleep(ctx, 0))
		full, open, empty := make(chan int, 1), make(chan int), make(chan int, 1)
		full <- 1
		for what, c := range map[string]struct {
			wait    func(ctx context.Context) error
			trigger func(*asyncio.Task[asyncio.None])
		}{
			"Recv, buffered":   {awaiting(recv(empty)), func(*asyncio.Task[asyncio.None]) { empty <- 1 }},
			"Recv, unbuffered": {awaiting(recv(open)), func(*asyncio.Task[asyncio.None]) { must(t, asyncio.Send(ctx, open, 1)) }},
			"Send, buffered":   {func(ctx context.Context) error { return asyncio.Send(ctx, full, 2) }, func(*asyncio.Task[asyncio.None]) { <-full }},
			"Recv, cancelled":  {awaiting(recv(make(chan int))), func(task *asyncio.Task[asyncio.None]) { task.Cancel() }},
		} {
			if n := tk.observe(c.wait, c.trigger); n != 1 {
				t.Errorf("%s takes %d ticks, want 1", what, n)
			}
		}
		tk.h.Cancel()
		return nil
	})
}

// A channel that is always ready does not keep other tasks from their turns, nor a cancel from
// arriving (channel 1).
func TestChannels_GiveWay(t *testing.T) {
	closed, deep := make(chan int), make(chan int, 1000)
	close(closed)
	for what, op := range map[string]func(ctx context.Context) error{
		"Recv": func(ctx context.Context) error { _, _, err := asyncio.Recv(ctx, closed); return err },
		"Send": func(ctx context.Context) error {
			if len(deep) == cap(deep) {
				for range cap(deep) {
					<-deep
				}
			}
			return asyncio.Send(ctx, deep, 1)
		},
		"Select": func(ctx context.Context) error {
			_, err := asyncio.Select(ctx, asyncio.OnRecv(closed), asyncio.OnTimeout(time.Hour))
			return err
		},
	} {
		for how, stop := range map[string]func(task *asyncio.Task[asyncio.None], end func()){
			"cancel":  func(task *asyncio.Task[asyncio.None], end func()) { task.Cancel() },
			"context": func(task *asyncio.Task[asyncio.None], end func()) { end() },
		} {
			run(t, func(ctx context.Context) error {
				inner, end := asyncio.WithCancel(ctx)
				defer end()
				n, turns := 0, 0
				busy := start(inner, func(ctx context.Context) error {
					// an eager start does not begin a new step, so the count of operations goes on
					asyncio.CreateTask(ctx, asyncio.Do(op), asyncio.EagerStart(true))
					for ; ; n++ {
						if err := op(ctx); err != nil {
							return err
						}
						if n > 1_000_000 {
							return errTest
						}
					}
				})
				for range 100 {
					must(t, asyncio.Sleep(ctx, 0))
					turns++
				}
				at := n
				stop(busy, end)
				if err := ended(ctx, busy); !errors.Is(err, context.Canceled) || at < 15*turns || at > 17*turns || n > at+17 {
					t.Errorf("%s, %s: %v; %d operations while another task had %d turns, %d at the end", what, how, err, at, turns, n)
				}
				return nil
			})
		}
	}
	run(t, func(ctx context.Context) error { // a Select with Default must not suspend, and does not
		others := 0
		loop(t, ctx).CallSoon(func() { others++ })
		for range 1000 {
			_, err := asyncio.Select(ctx, asyncio.OnRecv(closed), asyncio.OnDefault())
			must(t, err)
		}
		is(t, "others that had a turn", others, 0)
		return nil
	})
}

// On virtual time the looks at channels grow with the sum of tasks and operations, not with their
// product (channel 4).
func TestChannels_Linear(t *testing.T) {
	for what, program := range map[string]func(t *testing.T, ctx context.Context, n int){
		"one channel": func(t *testing.T, ctx context.Context, n int) {
			ch := make(chan int, 1)
			tasks := waitingTasks(ctx, n, func(ctx context.Context, _ int) error { _, _, err := asyncio.Recv(ctx, ch); return err })
			must(t, asyncio.Sleep(ctx, 0))
			for range n {
				ch <- 1
				must(t, asyncio.Sleep(ctx, 0))
			}
			awaitAll(t, ctx, tasks)
		},
		"a channel for each": func(t *testing.T, ctx context.Context, n int) {
			chs := make([]chan int, n)
			tasks := waitingTasks(ctx, n, func(ctx context.Context, i int) error {
				chs[i] = make(chan int)
				_, _, err := asyncio.Recv(ctx, chs[i])
				return err
			})
			must(t, asyncio.Sleep(ctx, 0))
			for _, ch := range chs {
				must(t, asyncio.Send(ctx, ch, 1))
				must(t, asyncio.Sleep(ctx, 0))
			}
			awaitAll(t, ctx, tasks)
		},
		"cancelled one by one": func(t *testing.T, ctx context.Context, n int) {
			ch := make(chan int)
			tasks := waitingTasks(ctx, n, func(ctx context.Context, _ int) error { _, _, err := asyncio.Recv(ctx, ch); return err })
			must(t, asyncio.Sleep(ctx, 0))
			for _, task := range tasks {
				task.Cancel()
				must(t, asyncio.Sleep(ctx, 0))
				wantErr(t, "a task", task.Exception(), asyncio.ErrCancelled)
			}
		},
		"Select of a channel and a stop": func(t *testing.T, ctx context.Context, n int) {
			ch, stop := make(chan int, 1), make(chan int)
			tasks := waitingTasks(ctx, n, func(ctx context.Context, _ int) error {
				job, over := asyncio.OnRecv(ch), asyncio.OnRecv(stop)
				for {
					if won, err := asyncio.Select(ctx, over, job); err != nil || won == asyncio.AnyCase(over) {
						return err
					}
				}
			})
			must(t, asyncio.Sleep(ctx, 0))
			for range n {
				ch <- 1
				must(t, asyncio.Sleep(ctx, 0))
			}
			close(stop)
			awaitAll(t, ctx, tasks)
		},
	} {
		looks := func(n int) (looked int) {
			runFast(t, func(ctx context.Context) error {
				looked = asyncio.PassedOver(func() { program(t, ctx, n) })
				return nil
			})
			return looked
		}
		few, many := looks(200), looks(2000)
		if many > 15*few+100*16 {
			t.Errorf("%s: %d looks in vain with 200 tasks, %d with 2000", what, few, many)
		}
	}
}

func waitingTasks(ctx context.Context, n int, fn func(ctx context.Context, i int) error) []*asyncio.Task[asyncio.None] {
	tasks := make([]*asyncio.Task[asyncio.None], n)
	for i := range tasks {
		tasks[i] = start(ctx, func(ctx context.Context) error { return fn(ctx, i) })
	}
	return tasks
}

func awaitAll(t *testing.T, ctx context.Context, tasks []*asyncio.Task[asyncio.None]) {
	t.Helper()
	for _, task := range tasks {
		must(t, ended(ctx, task))
	}
}

// A thread function holds the clock, so what it sends arrives before anything that takes time
// (channel 5).
func TestRecv_FromAThreadBeforeTimeGoesOn(t *testing.T) {
	for _, room := range []int{0, 3} {
		for range 50 {
			run(t, func(ctx context.Context) error {
				ch := make(chan int, room)
				feeder := asyncio.CreateTask(ctx, func(ctx context.Context) (int, error) {
					return asyncio.ToThread(ctx, func(context.Context) (int, error) {
						for v := range 10 {
							runtime.Gosched()
							ch <- v
						}
						return 10, nil
					})
				})
				sleeper := asyncio.CreateTask(ctx, fetch("", time.Hour))
				for v := range 10 {
					got, _, err := asyncio.Recv(ctx, ch)
					if now := loop(t, ctx).Time().SinceStart(); got != v || err != nil || now != 0 {
						t.Errorf("received %d, %v at %v, want %d", got, err, now, v)
					}
				}
				_, err := feeder.Await(ctx)
				sleeper.Cancel()
				return err
			})
		}
	}
}

// When there is nothing else to do, the loop waits for a goroutine that it does not know of.
func TestRecv_FromAGoroutine(t *testing.T) {
	onBothClocks(t, func(t *testing.T, ctx context.Context) error {
		there, back := make(chan int), make(chan int)
		go func() {
			for v := range there {
				back <- v + 1
			}
			close(back)
		}()
		for v := range 100 {
			must(t, asyncio.Send(ctx, there, v))
			if got, ok, err := asyncio.Recv(ctx, back); got != v+1 || !ok || err != nil {
				t.Fatalf("Recv = %v, %v, %v", got, ok, err)
			}
		}
		close(there)
		if _, ok, err := asyncio.Recv(ctx, back); ok || err != nil {
			t.Errorf("Recv of what is closed meanwhile = %v, %v", ok, err)
		}
		return nil
	})
}

func TestRecv_ClosedByATask(t *testing.T) {
	onBothClocks(t, func(t *testing.T, ctx context.Context) error {
		ch := make(chan int)
		task := asyncio.CreateTask(ctx, func(ctx context.Context) (bool, error) {
			_, ok, err := asyncio.Recv(ctx, ch)
			return ok, err
		})
		settle(t, ctx)
		close(ch)
		ok, err := task.Await(ctx)
		if ok {
			t.Error("a closed channel has a value")
		}
		return err
	})
}

func TestSend_ClosedMeanwhilePanicsInTheTask(t *testing.T) {
	clocks := map[string]context.Context{"virtual": onVirtualTime(t.Context(), new(reports))}
	// on the real clock a goroutine sends, and closing its channel is a race, in plain Go too
	if !raceEnabled {
		clocks["real"] = t.Context()
	}
	for what, ctx := range clocks {
		t.Run(what, func(t *testing.T) {
			_, err := asyncio.Run(ctx, asyncio.Do(func(ctx context.Context) error {
				var r reports
				loop(t, ctx).SetExceptionHandler(r.handle)
				ch := make(chan int)
				task := asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error { return asyncio.Send(ctx, ch, 1) }))
				settle(t, ctx)
				close(ch)
				_, err := task.Await(ctx)
				var p *asyncio.PanicError
				var re runtime.Error
				if !errors.As(err, &p) || !errors.As(p, &re) {
					t.Errorf("%v, want Go's panic", err)
				}
				equal(t, "reports", r.messages(), []string{"panic in task"})
				return nil
			}))
			must(t, err)
		})
	}
}

// A cancelled Recv has received nothing, and a cancelled Send has sent nothing (channel 3).
func TestChannels_CancelledTakesNothing(t *testing.T) {
	onBothClocks(t, func(t *testing.T, ctx context.Context) error {
		ch := make(chan int, 1)
		first := asyncio.CreateTask(ctx, recv(ch))
		settle(t, ctx)
		first.Cancel()
		_, err := first.Await(ctx)
		if !errors.Is(err, asyncio.ErrCancelled) {
			t.Errorf("Recv = %v", err)
		}
		ch <- 1
		second := asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error { return asyncio.Send(ctx, ch, 2) }))
		settle(t, ctx)
		second.Cancel()
		if _, err := second.Await(ctx); !errors.Is(err, asyncio.ErrCancelled) {
			t.Errorf("Send = %v", err)
		}
		if v := <-ch; v != 1 || len(ch) != 0 {
			t.Errorf("the channel has %d and %d more, want 1 alone", v, len(ch))
		}
		return nil
	})
}

// On virtual time a cancelled task does not take a value that comes in the same iteration.
func TestRecv_CancelThenSend(t *testing.T) {
	run(t, func(ctx context.Context) error {
		ch := make(chan int)
		first := asyncio.CreateTask(ctx, recv(ch))
		second := asyncio.CreateTask(ctx, recv(ch))
		settle(t, ctx)
		first.Cancel()
		must(t, asyncio.Send(ctx, ch, 1))
		if v, err := second.Await(ctx); v != 1 || err != nil {
			t.Errorf("second: %v, %v", v, err)
		}
		if _, err := first.Await(ctx); !errors.Is(err, asyncio.ErrCancelled) {
			t.Errorf("first: %v", err)
		}
		return nil
	})
}

// A value that was received for a task belongs to the task, even if it is cancelled before it
// resumes. The cancel is neither lost nor delivered twice (channel 3).
func TestRecv_ReceivedThenCancelled(t *testing.T) {
	run(t, func(ctx context.Context) error {
		ch := make(chan int)
		var next, after error
		task := asyncio.CreateTask(ctx, func(ctx context.Context) (int, error) {
			v, _, err := asyncio.Recv(ctx, ch)
			next = asyncio.Sleep(ctx, time.Hour)
			after = asyncio.Sleep(ctx, time.Hour)
			return v, err
		})
		settle(t, ctx)
		must(t, asyncio.Send(ctx, ch, 5))
		task.Cancel("enough")
		v, err := task.Await(ctx)
		var c *asyncio.CancelledError
		if v != 5 || err != nil || !errors.As(next, &c) || c.Msg != "enough" || after != nil {
			t.Errorf("%v, %v; next await: %v; the one after: %v", v, err, next, after)
		}
		return nil
	})
}

func TestRecv_ContextEnds(t *testing.T) {
	run(t, func(ctx context.Context) error {
		short, cancel := asyncio.WithTimeout(ctx, time.Minute)
		defer cancel()
		_, _, err := asyncio.Recv(short, make(chan int))
		if now := loop(t, ctx).Time().SinceStart(); !errors.Is(err, context.DeadlineExceeded) || now != time.Minute {
			t.Errorf("%v at %v", err, now)
		}
		ready := make(chan int, 1)
		ready <- 1
		if _, _, err := asyncio.Recv(short, ready); !errors.Is(err, context.DeadlineExceeded) || len(ready) != 1 {
			t.Errorf("with a done context: %v", err)
		}
		return nil
	})
}

// A loop on virtual time notices the end of a context even while it waits for a channel.
func TestRecv_ContextEndedByAGoroutine(t *testing.T) {
	onBothClocks(t, func(t *testing.T, ctx context.Context) error {
		for range 20 {
			inner, cancel := context.WithCancelCause(ctx)
			go cancel(errTest)
			if _, _, err := asyncio.Recv(inner, make(chan int)); !errors.Is(err, errTest) {
				t.Errorf("Recv = %v", err)
			}
		}
		return nil
	})
}

func TestRecv_NilChannel(t *testing.T) {
	_, err := runReporting(t, func(ctx context.Context) error {
		_, _, err := asyncio.Recv[int](ctx, nil)
		return err
	})
	if !errors.Is(err, asyncio.ErrDeadlock) {
		t.Errorf("Recv from nil = %v, want ErrDeadlock: it cannot end", err)
	}
	onBothClocks(t, func(t *testing.T, ctx context.Context) error {
		task := asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error { return asyncio.Send(ctx, nil, 1) }))
		settle(t, ctx)
		task.Cancel()
		if _, err := task.Await(ctx); !errors.Is(err, asyncio.ErrCancelled) {
			t.Errorf("Send to nil = %v", err)
		}
		return nil
	})
}

func TestChannels_Misuse(t *testing.T) {
	ch := make(chan int, 1)
	ch <- 1
	for ctx, want := range map[context.Context]error{nil: asyncio.ErrInvalidArgument, context.Background(): asyncio.ErrNoRunningLoop} {
		if _, _, err := asyncio.Recv(ctx, ch); !errors.Is(err, want) {
			t.Errorf("Recv = %v, want %v", err, want)
		}
		if err := asyncio.Send(ctx, ch, 2); !errors.Is(err, want) {
			t.Errorf("Send = %v, want %v", err, want)
		}
	}
	run(t, func(ctx context.Context) error {
		loop(t, ctx).CallSoon(func() {
			if _, _, err := asyncio.Recv(ctx, ch); !errors.Is(err, asyncio.ErrNotInTask) {
				t.Errorf("Recv in a callback = %v", err)
			}
		})
		return asyncio.Sleep(ctx, 0)
	})
	if len(ch) != 1 {
		t.Error("a refused call received")
	}
}

// A loop that is closed while tasks wait for channels leaves no goroutine behind (TestMain counts
// them).
func TestRecv_LoopClosed(t *testing.T) {
	l := asyncio.NewEventLoop(t.Context())
	l.SetExceptionHandler(new(reports).handle)
	unwound := false
	asyncio.CreateTask(l.Context(), asyncio.Do(func(ctx context.Context) error {
		defer func() { unwound = true }()
		_, _, err := asyncio.Recv(ctx, make(chan int))
		return err
	}))
	l.CallSoon(func() { l.CallSoon(l.Stop) })
	must(t, l.RunForever())
	must(t, l.Close())
	if !unwound {
		t.Error("the task was not unwound")
	}
}

// Goroutines send and tasks receive, and the tasks are cancelled and timed out all the while. Each
// value arrives once, and what a call returns is true.
func TestRecv_NothingLostConcurrentSafe(t *testing.T) {
	const senders, each = 8, 200
	for _, room := range []int{0, 1, 16} {
		t.Run(fmt.Sprint("room=", room), func(t *testing.T) {
			onBothClocks(t, func(t *testing.T, ctx context.Context) error {
				ch := make(chan int, room)
				var wg sync.WaitGroup
				for s := range senders {
					wg.Go(func() {
						for v := range each {
							ch <- s*each + v
						}
					})
				}
				seen := make([]int, senders*each)
				left := len(seen)
				for left > 0 {
					var tasks []*asyncio.Task[asyncio.None]
					for i := range 4 {
						tasks = append(tasks, asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error {
							for left > 0 {
								inner, cancel := ctx, func() {}
								if i == 0 {
									var c context.CancelFunc
									inner, c = asyncio.WithTimeout(ctx, 50*time.Microsecond)
									cancel = c
								}
								v, _, err := asyncio.Recv(inner, ch)
								cancel()
								if err == nil {
									seen[v]++
									left--
								} else if !errors.Is(err, context.DeadlineExceeded) {
									return err
								}
							}
							return nil
						})))
					}
					for i := 0; left > 0 && i < 5; i++ {
						must(t, asyncio.Sleep(ctx, 20*time.Microsecond))
						tasks[1+i%3].Cancel()
					}
					for _, task := range tasks {
						task.Cancel()
					}
					_, _, err := asyncio.Wait(ctx, tasks)
					must(t, err)
				}
				for v, n := range seen {
					if n != 1 {
						t.Errorf("value %d received %d times", v, n)
					}
				}
				//asynciovet:allow blocking the senders have nothing left to send
				wg.Wait()
				return nil
			})
		})
	}
}

func TestSend_NothingLostConcurrentSafe(t *testing.T) {
	const values = 800
	for _, room := range []int{0, 3} {
		t.Run(fmt.Sprint("room=", room), func(t *testing.T) {
			onBothClocks(t, func(t *testing.T, ctx context.Context) error {
				ch := make(chan int, room)
				got := make([]int, values)
				var mu sync.Mutex
				var wg sync.WaitGroup
				for range 4 {
					wg.Go(func() {
						for v := range ch {
							mu.Lock()
							got[v]++
							mu.Unlock()
						}
					})
				}
				sent := make([]int, values)
				for v := 0; v < values; v += 8 {
					var tasks []*asyncio.Task[asyncio.None]
					for i := range 8 {
						tasks = append(tasks, asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error {
							if err := asyncio.Send(ctx, ch, v+i); err != nil {
								return err
							}
							sent[v+i]++
							return nil
						})))
					}
					must(t, asyncio.Sleep(ctx, 0))
					for i := range tasks {
						if (v+i)%3 == 0 {
							tasks[i].Cancel()
						}
					}
					_, _, err := asyncio.Wait(ctx, tasks)
					must(t, err)
				}
				close(ch)
				//asynciovet:allow blocking their channel has just been closed
				wg.Wait()
				equal(t, "received", got, sent)
				return nil
			})
		})
	}
}
