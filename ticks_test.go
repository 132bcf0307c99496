package asyncio_test

import (
	"bufio"
	"context"
	"errors"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
)

// ticker counts iterations, like its namesake in testdata/cpython/ticks.py.
type ticker struct {
	t    *testing.T
	ctx  context.Context
	loop *asyncio.EventLoop
	n    int
	h    *asyncio.Handle
}

func newTicker(t *testing.T, ctx context.Context) *ticker {
	tk := &ticker{t: t, ctx: ctx, loop: loop(t, ctx)}
	var tick func()
	tick = func() {
		tk.n++
		tk.h = tk.loop.CallSoon(tick)
	}
	tk.h = tk.loop.CallSoon(tick)
	return tk
}

// observe runs wait in a task until it blocks, then trigger, and returns the number of ticks until
// wait ends.
func (tk *ticker) observe(wait func(ctx context.Context) error, trigger func(*asyncio.Task[asyncio.None])) int {
	end := 0
	task := asyncio.CreateTask(tk.ctx, asyncio.Do(func(ctx context.Context) error {
		_ = wait(ctx) // other tests check how it ends
		end = tk.n
		return nil
	}))
	settle(tk.t, tk.ctx)
	start := tk.n
	trigger(task)
	settle(tk.t, tk.ctx)
	settle(tk.t, tk.ctx)
	if !task.Done() {
		tk.t.Fatal("the waiter has not ended")
	}
	return end - start
}

func (tk *ticker) cost(wait func(ctx context.Context) error) int {
	start := tk.n
	if err := wait(tk.ctx); err != nil {
		tk.t.Error(err)
	}
	return tk.n - start
}

func (tk *ticker) future() *asyncio.Future[int] { return asyncio.CreateFuture[int](tk.ctx) }

func (tk *ticker) doneFuture() *asyncio.Future[int] {
	f := tk.future()
	must(tk.t, f.SetResult(1))
	return f
}

func awaiting(f asyncio.Awaitable[int]) func(ctx context.Context) error {
	return func(ctx context.Context) error {
		_, err := f.Await(ctx)
		return err
	}
}

func gathering(f ...asyncio.Awaitable[int]) func(ctx context.Context) error {
	return func(ctx context.Context) error {
		_, err := asyncio.Gather(ctx, f...)
		return err
	}
}

func waiting(fs []*asyncio.Future[int], opts ...asyncio.WaitOption) func(ctx context.Context) error {
	return func(ctx context.Context) error {
		_, _, err := asyncio.Wait(ctx, fs, opts...)
		return err
	}
}

// tickRows are the rows of ticks.py, by name.
var tickRows = map[string]func(tk *ticker) int{
	"future_set_result": func(tk *ticker) int {
		f := tk.future()
		return tk.observe(awaiting(f), func(*asyncio.Task[asyncio.None]) { must(tk.t, f.SetResult(1)) })
	},
	"future_set_exception": func(tk *ticker) int {
		f := tk.future()
		return tk.observe(awaiting(f), func(*asyncio.Task[asyncio.None]) { must(tk.t, f.SetException(errTest)) })
	},
	"future_cancel": func(tk *ticker) int {
		f := tk.future()
		return tk.observe(awaiting(f), func(*asyncio.Task[asyncio.None]) { f.Cancel() })
	},
	"done_callback": func(tk *ticker) int {
		f := tk.future()
		start, end := tk.n, 0
		f.AddDoneCallback(func(*asyncio.Future[int]) { end = tk.n })
		must(tk.t, f.SetResult(1))
		settle(tk.t, tk.ctx)
		return end - start
	},
	"done_callback_of_done_future": func(tk *ticker) int {
		f := tk.doneFuture()
		start, end := tk.n, 0
		f.AddDoneCallback(func(*asyncio.Future[int]) { end = tk.n })
		settle(tk.t, tk.ctx)
		return end - start
	},
	"await_done_future": func(tk *ticker) int { return tk.cost(awaiting(tk.doneFuture())) },
	"await_coroutine":   func(tk *ticker) int { return tk.cost(awaiting(asyncio.Coroutine[int](instant))) },
	"await_done_task": func(tk *ticker) int {
		task := asyncio.CreateTask(tk.ctx, instant)
		settle(tk.t, tk.ctx)
		return tk.cost(awaiting(task))
	},
	"task_awaiting_future": func(tk *ticker) int {
		f := tk.future()
		task := asyncio.CreateTask(tk.ctx, f.Await)
		return tk.observe(awaiting(task), func(*asyncio.Task[asyncio.None]) { must(tk.t, f.SetResult(1)) })
	},
	"await_new_instant_task": func(tk *ticker) int {
		return tk.cost(func(ctx context.Context) error { return awaiting(asyncio.CreateTask(ctx, instant))(ctx) })
	},
	"sleep_zero": func(tk *ticker) int {
		return tk.cost(func(ctx context.Context) error { return asyncio.Sleep(ctx, 0) })
	},
	"sleep_negative": func(tk *ticker) int {
		return tk.cost(func(ctx context.Context) error { return asyncio.Sleep(ctx, -time.Second) })
	},
	"gather_future": func(tk *ticker) int {
		f := tk.future()
		return tk.observe(gathering(f), func(*asyncio.Task[asyncio.None]) { must(tk.t, f.SetResult(1)) })
	},
	"gather_future_exception": func(tk *ticker) int {
		f := tk.future()
		return tk.observe(gathering(f), func(*asyncio.Task[asyncio.None]) { must(tk.t, f.SetException(errTest)) })
	},
	"gather_two_instant": func(tk *ticker) int {
		return tk.cost(gathering(asyncio.Coroutine[int](instant), asyncio.Coroutine[int](instant)))
	},
	"gather_return_exceptions_two_instant": func(tk *ticker) int {
		return tk.cost(func(ctx context.Context) error {
			_, err := asyncio.GatherResults(ctx, asyncio.Coroutine[int](instant), asyncio.Coroutine[int](instant))
			return err
		})
	},
	"gather_done_future": func(tk *ticker) int {
		f := tk.doneFuture()
		return tk.cost(gathering(f, f))
	},
	"gather_nothing": func(tk *ticker) int { return tk.cost(gathering()) },
	"gather_cancelled": func(tk *ticker) int {
		return tk.observe(gathering(tk.future()), func(task *asyncio.Task[asyncio.None]) { task.Cancel() })
	},
	"gather_of_tasks_cancelled": func(tk *ticker) int {
		inner := asyncio.Coroutine[int](tk.future().Await)
		return tk.observe(gathering(inner, inner), func(task *asyncio.Task[asyncio.None]) { task.Cancel() })
	},
	"wait_future": func(tk *ticker) int {
		f := tk.future()
		return tk.observe(waiting([]*asyncio.Future[int]{f}), func(*asyncio.Task[asyncio.None]) { must(tk.t, f.SetResult(1)) })
	},
	"wait_done_future": func(tk *ticker) int {
		return tk.cost(waiting([]*asyncio.Future[int]{tk.doneFuture()}))
	},
	"wait_instant_task": func(tk *ticker) int {
		return tk.cost(func(ctx context.Context) error {
			_, _, err := asyncio.Wait(ctx, []*asyncio.Task[int]{asyncio.CreateTask(ctx, instant)})
			return err
		})
	},
	"wait_timeout_zero": func(tk *ticker) int {
		return tk.cost(waiting([]*asyncio.Future[int]{tk.future()}, asyncio.WaitTimeout(0)))
	},
	"wait_first_completed": func(tk *ticker) int {
		f, g := tk.future(), tk.future()
		return tk.observe(waiting([]*asyncio.Future[int]{f, g}, asyncio.ReturnWhen(asyncio.FirstCompleted)),
			func(*asyncio.Task[asyncio.None]) { must(tk.t, g.SetResult(1)) })
	},
	"wait_first_exception": func(tk *ticker) int {
		f, g := tk.future(), tk.future()
		return tk.observe(waiting([]*asyncio.Future[int]{f, g}, asyncio.ReturnWhen(asyncio.FirstException)),
			func(*asyncio.Task[asyncio.None]) {
				must(tk.t, g.SetException(errTest))
				_ = g.Exception() // Wait does not retrieve it
			})
	},
	"wait_cancelled": func(tk *ticker) int {
		return tk.observe(waiting([]*asyncio.Future[int]{tk.future()}), func(task *asyncio.Task[asyncio.None]) { task.Cancel() })
	},
	"cancel_blocked_on_future": func(tk *ticker) int {
		return tk.observe(awaiting(tk.future()), func(task *asyncio.Task[asyncio.None]) { task.Cancel() })
	},
	"cancel_sleeping": func(tk *ticker) int {
		return tk.observe(func(ctx context.Context) error { return asyncio.Sleep(ctx, 1000*time.Second) },
			func(task *asyncio.Task[asyncio.None]) { task.Cancel() })
	},
	"cancel_not_started": func(tk *ticker) int {
		entered := false
		task := asyncio.CreateTask(tk.ctx, asyncio.Do(func(context.Context) error {
			entered = true
			return nil
		}))
		start, end := tk.n, 0
		task.AddDoneCallback(func(*asyncio.Task[asyncio.None]) { end = tk.n - 1 })
		task.Cancel()
		settle(tk.t, tk.ctx)
		if entered || !task.Cancelled() {
			tk.t.Errorf("entered = %v, cancelled = %v", entered, task.Cancelled())
		}
		return end - start
	},
	"cancel_through_a_task": func(tk *ticker) int {
		task := asyncio.CreateTask(tk.ctx, tk.future().Await)
		return tk.observe(awaiting(task), func(outer *asyncio.Task[asyncio.None]) { outer.Cancel() })
	},
	"cancel_twice_delivers_once": func(tk *ticker) int {
		f := tk.future()
		seen := 0
		task := asyncio.CreateTask(tk.ctx, asyncio.Do(func(ctx context.Context) error {
			for range 2 {
				if _, err := f.Await(ctx); errors.Is(err, asyncio.ErrCancelled) {
					seen++
					if err := asyncio.Sleep(ctx, 0); err != nil {
						return err
					}
					return asyncio.Sleep(ctx, 0)
				}
			}
			return nil
		}))
		settle(tk.t, tk.ctx)
		task.Cancel()
		task.Cancel()
		settle(tk.t, tk.ctx)
		if task.Cancelling() != 2 {
			tk.t.Errorf("Cancelling() = %d, want 2", task.Cancelling())
		}
		return seen
	},
	"eager_instant_task": func(tk *ticker) int {
		return tk.cost(func(ctx context.Context) error {
			return awaiting(asyncio.CreateTask(ctx, instant, asyncio.EagerStart(true)))(ctx)
		})
	},
	"eager_gather_two_instant": func(tk *ticker) int {
		return tk.cost(func(ctx context.Context) error {
			return gathering(
				asyncio.CreateTask(ctx, instant, asyncio.EagerStart(true)),
				asyncio.CreateTask(ctx, instant, asyncio.EagerStart(true)))(ctx)
		})
	},
	"eager_suspending_task": func(tk *ticker) int {
		return tk.cost(func(ctx context.Context) error {
			_, err := asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error {
				return asyncio.Sleep(ctx, 0)
			}), asyncio.EagerStart(true)).Await(ctx)
			return err
		})
	},
	"call_soon": func(tk *ticker) int {
		start, end := tk.n, 0
		tk.loop.CallSoon(func() { end = tk.n })
		settle(tk.t, tk.ctx)
		return end - start
	},
	"call_soon_threadsafe": func(tk *ticker) int {
		start, end := tk.n, 0
		_, err := tk.loop.CallSoonThreadsafe(func() { end = tk.n })
		must(tk.t, err)
		settle(tk.t, tk.ctx)
		return end - start
	},
	"call_later_zero": func(tk *ticker) int {
		start, end := tk.n, 0
		tk.loop.CallLater(0, func() { end = tk.n })
		settle(tk.t, tk.ctx)
		return end - start
	},
	"await_self": func(tk *ticker) int {
		var task *asyncio.Task[int]
		start := tk.n
		task = asyncio.CreateTask(tk.ctx, func(ctx context.Context) (int, error) { return task.Await(ctx) })
		_, _, err := asyncio.Wait(tk.ctx, []*asyncio.Task[int]{task})
		must(tk.t, err)
		if !errors.Is(task.Exception(), asyncio.ErrAwaitSelf) {
			tk.t.Errorf("awaiting oneself: %v, want ErrAwaitSelf", task.Exception())
		}
		return tk.n - start
	},
}

// TestTicks replays the tick table recorded from CPython.
func TestTicks(t *testing.T) { replayTicks(t, "ticks.golden", tickRows) }

func replayTicks(t *testing.T, file string, rows map[string]func(tk *ticker) int) {
	golden, err := os.Open("testdata/cpython/" + file)
	if err != nil {
		t.Fatal(err)
	}
	defer golden.Close()
	seen := 0
	lines := bufio.NewScanner(golden)
	for lines.Scan() {
		name, n, _ := strings.Cut(lines.Text(), " ")
		want, err := strconv.Atoi(n)
		if err != nil {
			t.Fatalf("%s: %q: %v", file, lines.Text(), err)
		}
		row := rows[name]
		if row == nil {
			t.Errorf("no Go row for %s", name)
			continue
		}
		seen++
		t.Run(name, func(t *testing.T) {
			run(t, func(ctx context.Context) error {
				tk := newTicker(t, ctx)
				// From the next iteration on, the ticker is first in the queue.
				if err := asyncio.Sleep(ctx, 0); err != nil {
					return err
				}
				if got := row(tk); got != want {
					t.Errorf("%d ticks, CPython %d", got, want)
				}
				tk.h.Cancel()
				return nil
			})
		})
	}
	if seen != len(rows) {
		t.Errorf("%d rows in %s, %d in Go", seen, file, len(rows))
	}
}
