package asyncio_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
)

func cancel(task tasked) { task.Cancel() }

// expired returns a routine in which it is right for wait to time out.
func expired(tk *ticker, wait routine) routine {
	return func(ctx context.Context) error {
		if err := wait(ctx); !errors.Is(err, asyncio.ErrTimeout) {
			tk.t.Errorf("%v, want a timeout", err)
		}
		return nil
	}
}

func timingOut(d time.Duration, body routine) routine {
	return func(ctx context.Context) error {
		return asyncio.Timeout(ctx, d, func(ctx context.Context, _ *asyncio.TimeoutScope) error { return body(ctx) })
	}
}

func waitingFor(f asyncio.Awaitable[int], d time.Duration) routine {
	return func(ctx context.Context) error {
		_, err := asyncio.WaitFor(ctx, f, d)
		return err
	}
}

func shielding(f asyncio.Awaitable[int]) routine {
	return func(ctx context.Context) error { return awaiting(asyncio.Shield(ctx, f))(ctx) }
}

func completing(fs ...asyncio.AnyFuture) routine {
	return func(ctx context.Context) error {
		for _, err := range asyncio.AsCompleted(ctx, fs) {
			if err != nil {
				return err
			}
		}
		return nil
	}
}

// grouping runs children in a task group and then the body, if it is not nil.
func grouping(body routine, children ...routine) routine {
	return func(ctx context.Context) error {
		return asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg *asyncio.TaskGroup) error {
			for _, c := range children {
				tg.CreateTask(ctx, c)
			}
			if body == nil {
				return nil
			}
			return body(ctx)
		})
	}
}

func nothing(context.Context) error { return nil }

var groupTickRows = map[string]func(tk *ticker) int{
	"timeout_zero_around_a_sleep": func(tk *ticker) int {
		return tk.cost(expired(tk, timingOut(0, func(ctx context.Context) error { return asyncio.Sleep(ctx, 1000*time.Second) })))
	},
	"timeout_zero_around_sleep_zero": func(tk *ticker) int {
		return tk.cost(expired(tk, timingOut(0, func(ctx context.Context) error { return asyncio.Sleep(ctx, 0) })))
	},
	"timeout_zero_around_nothing": func(tk *ticker) int { return tk.cost(timingOut(0, nothing)) },
	"timeout_around_nothing":      func(tk *ticker) int { return tk.cost(timingOut(1000*time.Second, nothing)) },
	"timeout_of_timeout_zero": func(tk *ticker) int {
		return tk.cost(expired(tk, timingOut(0, timingOut(0, never))))
	},
	"timeout_rescheduled_to_the_past": func(tk *ticker) int {
		return tk.cost(expired(tk, func(ctx context.Context) error {
			return asyncio.Timeout(ctx, asyncio.Forever, func(ctx context.Context, tm *asyncio.TimeoutScope) error {
				must(tk.t, tm.Reschedule(tk.loop.Time().Add(-time.Second)))
				return never(ctx)
			})
		}))
	},
	"timeout_cancelled": func(tk *ticker) int { return tk.observe(timingOut(1000*time.Second, never), cancel) },
	"timeout_zero_around_a_task": func(tk *ticker) int {
		return tk.cost(expired(tk, timingOut(0, func(ctx context.Context) error {
			_, err := asyncio.CreateTask(ctx, asyncio.Do(never)).Await(ctx)
			return err
		})))
	},
	"wait_for_future": func(tk *ticker) int {
		f := tk.future()
		return tk.observe(waitingFor(f, 1000*time.Second), func(tasked) { must(tk.t, f.SetResult(1)) })
	},
	"wait_for_done_future": func(tk *ticker) int { return tk.cost(waitingFor(tk.doneFuture(), 1000*time.Second)) },
	"wait_for_instant_coroutine": func(tk *ticker) int {
		return tk.cost(waitingFor(asyncio.Coroutine[int](instant), 1000*time.Second))
	},
	"wait_for_zero_done_future":    func(tk *ticker) int { return tk.cost(waitingFor(tk.doneFuture(), 0)) },
	"wait_for_zero_pending_future": func(tk *ticker) int { return tk.cost(expired(tk, waitingFor(tk.future(), 0))) },
	"wait_for_zero_coroutine": func(tk *ticker) int {
		return tk.cost(expired(tk, waitingFor(asyncio.Coroutine[int](instant), 0)))
	},
	"wait_for_zero_task": func(tk *ticker) int {
		task := asyncio.CreateTask(tk.ctx, tk.future().Await)
		settle(tk.t, tk.ctx)
		return tk.cost(expired(tk, waitingFor(task, 0)))
	},
	"wait_for_cancelled": func(tk *ticker) int { return tk.observe(waitingFor(tk.future(), 1000*time.Second), cancel) },
	"wait_for_task_cancelled": func(tk *ticker) int {
		return tk.observe(waitingFor(asyncio.CreateTask(tk.ctx, tk.future().Await), 1000*time.Second), cancel)
	},
	"shield_future": func(tk *ticker) int {
		f := tk.future()
		return tk.observe(shielding(f), func(tasked) { must(tk.t, f.SetResult(1)) })
	},
	"shield_instant":     func(tk *ticker) int { return tk.cost(shielding(asyncio.Coroutine[int](instant))) },
	"shield_done_future": func(tk *ticker) int { return tk.cost(shielding(tk.doneFuture())) },
	"shield_cancelled":   func(tk *ticker) int { return tk.observe(shielding(tk.future()), cancel) },
	"shield_inner_cancelled": func(tk *ticker) int {
		f := tk.future()
		return tk.observe(shielding(f), func(tasked) { f.Cancel() })
	},
	"as_completed_future": func(tk *ticker) int {
		f := tk.future()
		return tk.observe(completing(f), func(tasked) { must(tk.t, f.SetResult(1)) })
	},
	"as_completed_done_future": func(tk *ticker) int { return tk.cost(completing(tk.doneFuture())) },
	"as_completed_two_instant_tasks": func(tk *ticker) int {
		return tk.cost(func(ctx context.Context) error {
			return completing(asyncio.CreateTask(ctx, instant), asyncio.CreateTask(ctx, instant))(ctx)
		})
	},
	"as_completed_nothing":   func(tk *ticker) int { return tk.cost(completing()) },
	"as_completed_cancelled": func(tk *ticker) int { return tk.observe(completing(tk.future()), cancel) },
	"group_of_nothing":       func(tk *ticker) int { return tk.cost(grouping(nil)) },
	"group_instant_child":    func(tk *ticker) int { return tk.cost(grouping(nil, nothing)) },
	"group_of_a_future": func(tk *ticker) int {
		f := tk.future()
		return tk.observe(grouping(nil, awaiting(f)), func(tasked) { must(tk.t, f.SetResult(1)) })
	},
	"group_child_fails": func(tk *ticker) int {
		f := tk.future()
		return tk.observe(grouping(nil, awaiting(f)), func(tasked) { must(tk.t, f.SetException(errTest)) })
	},
	"group_child_fails_beside_another": func(tk *ticker) int {
		f := tk.future()
		return tk.observe(grouping(nil, awaiting(f), never), func(tasked) { must(tk.t, f.SetException(errTest)) })
	},
	"group_child_fails_beside_the_body": func(tk *ticker) int {
		f := tk.future()
		return tk.observe(grouping(never, awaiting(f)), func(tasked) { must(tk.t, f.SetException(errTest)) })
	},
	"group_cancelled_in_the_body": func(tk *ticker) int { return tk.observe(grouping(never, never), cancel) },
	"group_cancelled_at_its_end":  func(tk *ticker) int { return tk.observe(grouping(nil, never), cancel) },
	"group_body_fails": func(tk *ticker) int {
		return tk.cost(func(ctx context.Context) error {
			err := grouping(func(context.Context) error { return errTest }, never)(ctx)
			if !errors.Is(err, errTest) {
				tk.t.Error(err)
			}
			return nil
		})
	},
	"group_in_a_group_child_fails": func(tk *ticker) int {
		f := tk.future()
		return tk.observe(grouping(grouping(nil, awaiting(f)), never), func(tasked) { must(tk.t, f.SetException(errTest)) })
	},
	"timeout_zero_around_a_group": func(tk *ticker) int {
		return tk.cost(expired(tk, timingOut(0, grouping(nil, never))))
	},
}

// TestTicks_Groups replays the tick table of timeouts, shield, as_completed and task groups.
func TestTicks_Groups(t *testing.T) { replayTicks(t, "groups_ticks.golden", groupTickRows) }
