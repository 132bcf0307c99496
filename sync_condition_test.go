package asyncio_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
)

// notified starts tasks that acquire c, wait and note their number. release says whether they
// release the lock afterwards.
func notified(ctx context.Context, c *asyncio.Condition, got *[]int, release bool, n ...int) []*asyncio.Task[asyncio.None] {
	var tasks []*asyncio.Task[asyncio.None]
	for _, n := range n {
		tasks = append(tasks, start(ctx, func(ctx context.Context) error {
			if err := c.Acquire(ctx); err != nil {
				return err
			}
			if err := c.Wait(ctx); err != nil {
				return err
			}
			*got = append(*got, n)
			if release {
				c.Release()
			}
			return nil
		}))
	}
	return tasks
}

// holding runs fn while it holds the lock of c.
func holding(t *testing.T, ctx context.Context, c *asyncio.Condition, fn func()) {
	t.Helper()
	must(t, c.Acquire(ctx))
	defer c.Release()
	fn()
}

func TestCondition_NotifiedTasksNeedTheLock(t *testing.T) {
	run(t, func(ctx context.Context) error {
		c := asyncio.NewCondition(nil)
		var got []int
		tasks := notified(ctx, c, &got, false, 1, 2, 3)
		iterate(t, ctx, 1)
		equal(t, "not notified", got, nil)
		is(t, "locked while all wait", c.Locked(), false)

		must(t, c.Acquire(ctx))
		c.Notify(1)
		iterate(t, ctx, 1)
		equal(t, "notified, but the lock is held", got, nil)
		c.Release()
		iterate(t, ctx, 1)
		equal(t, "released", got, []int{1})
		is(t, "locked", c.Locked(), true)

		c.Notify(2)
		iterate(t, ctx, 1)
		equal(t, "two more notified", got, []int{1})
		c.Release()
		iterate(t, ctx, 1)
		equal(t, "released", got, []int{1, 2})
		is(t, "locked", c.Locked(), true)
		c.Release()
		iterate(t, ctx, 1)
		equal(t, "released", got, []int{1, 2, 3})
		is(t, "locked", c.Locked(), true)
		await(t, ctx, tasks...)
		return nil
	})
}

func TestCondition_CancelledWaitHasTheLock(t *testing.T) {
	run(t, func(ctx context.Context) error {
		c := asyncio.NewCondition(nil)
		must(t, c.Acquire(ctx))
		task := start(ctx, c.Wait)
		loop(t, ctx).CallSoon(func() { task.Cancel() })
		endsCancelled(t, ctx, task)
		is(t, "waiters", len(c.Statistics().Waiters), 0)
		is(t, "locked", c.Locked(), true)
		return nil
	})
}

// A task is notified, then cancelled while it waits for the lock. The lock is released in the same
// iteration.
func TestCondition_CancelledWhileReacquiring(t *testing.T) {
	run(t, func(ctx context.Context) error {
		c := asyncio.NewCondition(nil)
		must(t, c.Acquire(ctx))
		task := start(ctx, c.Wait)
		iterate(t, ctx, 1)
		is(t, "locked while it waits", c.Locked(), false)
		must(t, c.Acquire(ctx))
		c.Notify(1)
		l := loop(t, ctx)
		l.CallSoon(func() { task.Cancel() })
		l.CallSoon(c.Release)
		_, _ = task.Await(ctx) // only its end matters
		is(t, "locked", c.Locked(), true)
		return nil
	})
}

func TestCondition_CancelledAfterNotify(t *testing.T) {
	run(t, func(ctx context.Context) error {
		c := asyncio.NewCondition(nil)
		waited := false
		task := start(ctx, func(ctx context.Context) (err error) {
			holding(t, ctx, c, func() {
				waited = true
				err = c.Wait(ctx)
			})
			return err
		})
		iterate(t, ctx, 1)
		must(t, c.Acquire(ctx))
		c.Notify(1)
		iterate(t, ctx, 1) // it now waits for the lock
		task.Cancel()
		iterate(t, ctx, 1)
		is(t, "done without the lock", task.Done(), false)
		c.Release()
		iterate(t, ctx, 1)
		is(t, "cancelled", task.Cancelled(), true)
		is(t, "waited", waited, true)
		return nil
	})
}

func TestCondition_WithoutTheLock(t *testing.T) {
	run(t, func(ctx context.Context) error {
		c := asyncio.NewCondition(nil)
		for name, err := range map[string]error{
			"Wait":      c.Wait(ctx),
			"WaitFor":   c.WaitFor(ctx, func() bool { return false }),
			"Notify":    panicOf(func() { c.Notify(1) }),
			"NotifyAll": panicOf(c.NotifyAll),
			"Release":   panicOf(c.Release),
		} {
			if !errors.Is(err, asyncio.ErrNotAcquired) {
				t.Errorf("%s: %v, want ErrNotAcquired", name, err)
			}
		}
		// A condition that already holds needs no lock.
		must(t, c.WaitFor(ctx, func() bool { return true }))
		if err := c.WaitFor(ctx, nil); !errors.Is(err, asyncio.ErrInvalidArgument) {
			t.Errorf("WaitFor(nil) = %v", err)
		}
		return nil
	})
}

func TestCondition_WaitFor(t *testing.T) {
	run(t, func(ctx context.Context) error {
		c := asyncio.NewCondition(nil)
		so := false
		var got []int
		task := start(ctx, func(ctx context.Context) error {
			must(t, c.Acquire(ctx))
			must(t, c.WaitFor(ctx, func() bool { return so }))
			got = append(got, 1)
			c.Release()
			return nil
		})
		iterate(t, ctx, 1)
		holding(t, ctx, c, func() { c.Notify(1) })
		iterate(t, ctx, 1)
		equal(t, "notified too early", got, nil)
		so = true
		holding(t, ctx, c, func() { c.Notify(1) })
		iterate(t, ctx, 1)
		equal(t, "notified", got, []int{1})
		await(t, ctx, task)
		return nil
	})
}

func TestCondition_Notify(t *testing.T) {
	run(t, func(ctx context.Context) error {
		c := asyncio.NewCondition(nil)
		var got []int
		tasks := notified(ctx, c, &got, true, 1, 2, 3)
		iterate(t, ctx, 1)
		equal(t, "waiters", c.Statistics().Waiters, []asyncio.AnyTask{tasks[0], tasks[1], tasks[2]})
		holding(t, ctx, c, func() {
			c.Notify(0)
			c.Notify(-1)
			c.Notify(1)
		})
		iterate(t, ctx, 1)
		equal(t, "one", got, []int{1})
		holding(t, ctx, c, func() {
			c.Notify(1)
			c.Notify(2048)
		})
		iterate(t, ctx, 1)
		equal(t, "all, one behind the other", got, []int{1, 2, 3})
		await(t, ctx, tasks...)
		return nil
	})
}

func TestCondition_NotifyAll(t *testing.T) {
	run(t, func(ctx context.Context) error {
		c := asyncio.NewCondition(nil)
		var got []int
		tasks := notified(ctx, c, &got, true, 1, 2)
		iterate(t, ctx, 1)
		holding(t, ctx, c, c.NotifyAll)
		iterate(t, ctx, 1)
		equal(t, "all", got, []int{1, 2})
		await(t, ctx, tasks...)
		return nil
	})
}

func TestCondition_String(t *testing.T) {
	run(t, func(ctx context.Context) error {
		var c asyncio.Condition // the zero value can be used
		is(t, "new", c.String(), "<asyncio.Condition [unlocked]>")
		must(t, c.Acquire(ctx))
		is(t, "locked", c.String(), "<asyncio.Condition [locked]>")
		is(t, "owner", c.Statistics().Lock.Owner, asyncio.CurrentTask(ctx))
		c.Release()
		var got []int
		tasks := notified(ctx, &c, &got, true, 1, 2)
		iterate(t, ctx, 1)
		is(t, "with waiters", c.String(), "<asyncio.Condition [unlocked, waiters:2]>")
		holding(t, ctx, &c, c.NotifyAll)
		await(t, ctx, tasks...)
		return nil
	})
}

func TestCondition_SharesItsLock(t *testing.T) {
	run(t, func(ctx context.Context) error {
		var l asyncio.Lock
		c := asyncio.NewCondition(&l)
		for _, a := range []locker{&l, c} {
			must(t, a.Acquire(ctx))
			is(t, "lock locked", l.Locked(), true)
			is(t, "condition locked", c.Locked(), true)
			a.Release()
			is(t, "lock locked", l.Locked(), false)
			is(t, "condition locked", c.Locked(), false)
		}
		return nil
	})
}

func TestCondition_ContextEndsTheWait(t *testing.T) {
	run(t, func(ctx context.Context) error {
		c := asyncio.NewCondition(nil)
		limited, cancel := asyncio.WithTimeout(ctx, time.Second)
		defer cancel()
		must(t, c.Acquire(ctx))
		for _, what := range []string{"ends", "has ended"} {
			if err := c.Wait(limited); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("ctx %s: %v", what, err)
			}
			is(t, "locked", c.Locked(), true)
			is(t, "owner", c.Statistics().Lock.Owner, asyncio.CurrentTask(ctx))
		}
		c.Release()
		return nil
	})
}

// The context ends while a notified task waits for the lock. The task still gets its notification.
func TestCondition_ContextEndsAfterNotify(t *testing.T) {
	run(t, func(ctx context.Context) error {
		c := asyncio.NewCondition(nil)
		limited, cancel := asyncio.WithTimeout(ctx, time.Second)
		defer cancel()
		var got []int
		tasks := notified(limited, c, &got, true, 1)
		iterate(t, ctx, 1)
		must(t, c.Acquire(ctx))
		c.Notify(1)
		must(t, asyncio.Sleep(ctx, time.Minute))
		is(t, "done without the lock", tasks[0].Done(), false)
		c.Release()
		await(t, ctx, tasks...)
		equal(t, "notified", got, []int{1})
		return nil
	})
}

// A context's cause that is itself a cancellation must not be taken for a cancel of the task.
func TestCondition_ContextWithACancellationAsCause(t *testing.T) {
	run(t, func(ctx context.Context) error {
		c := asyncio.NewCondition(nil)
		limited, cancel := context.WithCancelCause(ctx)
		must(t, c.Acquire(ctx))
		task := start(limited, c.Wait)
		iterate(t, ctx, 1)
		must(t, c.Acquire(ctx))
		cancel(asyncio.ErrCancelled)
		settle(t, ctx)
		c.Release()
		if _, err := task.Await(ctx); !errors.Is(err, asyncio.ErrCancelled) {
			t.Errorf("Wait = %v", err)
		}
		is(t, "locked", c.Locked(), true)
		return nil
	})
}

// Wait returns the error of the cancel itself, whether it came during the wait or while
// re-acquiring. Of several cancels it returns the last.
func TestCondition_ReturnsTheCancellationItself(t *testing.T) {
	for name, cancels := range map[string][]string{
		"waiting": {"foo"}, "reacquiring": {"", "foo"}, "both": {"bar", "foo"},
	} {
		t.Run(name, func(t *testing.T) {
			run(t, func(ctx context.Context) error {
				c := asyncio.NewCondition(nil)
				var raised error
				so := false
				task := start(ctx, func(ctx context.Context) error {
					holding(t, ctx, c, func() { raised = c.WaitFor(ctx, func() bool { return so }) })
					return raised
				})
				iterate(t, ctx, 1)
				must(t, c.Acquire(ctx))
				so = true
				if cancels[0] == "" {
					c.Notify(1)
				} else {
					task.Cancel(cancels[0])
				}
				iterate(t, ctx, 1)
				if len(cancels) > 1 {
					task.Cancel(cancels[1])
				}
				iterate(t, ctx, 1)
				c.Release()
				_, err := task.Await(ctx)
				var cancelled *asyncio.CancelledError
				if !errors.As(err, &cancelled) || cancelled.Msg != "foo" || err != raised {
					t.Errorf("%v, want the error that Wait returned: %v", err, raised)
				}
				return nil
			})
		})
	}
}

// One item is produced and one consumer is notified. That consumer is cancelled, at once or while
// it re-acquires the lock. The other consumer must get the item.
func TestCondition_NotificationOfACancelledTaskGoesOn(t *testing.T) {
	for name, pause := range map[string]int{"woken": 0, "reacquiring": 1} {
		t.Run(name, func(t *testing.T) {
			run(t, func(ctx context.Context) error {
				c := asyncio.NewCondition(nil)
				items := 0
				consume := func(ctx context.Context) error {
					if err := c.Acquire(ctx); err != nil {
						return err
					}
					defer c.Release()
					for {
						if err := c.WaitFor(ctx, func() bool { return items != 0 }); err != nil || items < 0 {
							return err
						}
						items--
					}
				}
				first, second := start(ctx, consume), start(ctx, consume)
				iterate(t, ctx, 1)
				holding(t, ctx, c, func() {
					items++
					c.Notify(1)
					iterate(t, ctx, pause)
					first.Cancel()
					limited, cancel := asyncio.WithTimeout(ctx, time.Second)
					defer cancel()
					_ = c.WaitFor(limited, func() bool { return items == 0 })
					is(t, "items", items, 0)
					items = -1
					c.NotifyAll()
				})
				endsCancelled(t, ctx, first)
				await(t, ctx, second)
				return nil
			})
		})
	}
}

// A search for the next waiter to wake looks at each waiter only a few times, however many wait and
// however many of them are cancelled (waiter 5). Cancelled tasks search, and so do tasks that hand
// something over many times in one step.
func TestWaiters_AreLookedAtOnce(t *testing.T) {
	const n = 2000
	type scene struct {
		wait func(ctx context.Context) error
		end  func(ctx context.Context, tasks []tasked)
	}
	cancel := func(_ context.Context, tasks []tasked) {
		for _, task := range tasks {
			task.Cancel()
		}
	}
	allButTheFirst := func(ctx context.Context, tasks []tasked) { cancel(ctx, tasks[1:]) }
	inCondition := func(c *asyncio.Condition) func(ctx context.Context) error {
		return func(ctx context.Context) error {
			if err := c.Acquire(ctx); err != nil {
				return err
			}
			defer c.Release()
			return c.Wait(ctx)
		}
	}
	for name, make := range map[string]func() scene{
		"condition, cancelled": func() scene { return scene{inCondition(new(asyncio.Condition)), cancel} },
		"condition, notified one by one": func() scene {
			c := new(asyncio.Condition)
			return scene{inCondition(c), func(ctx context.Context, _ []tasked) {
				must(t, c.Acquire(ctx))
				for range n {
					c.Notify(1)
				}
				c.Release()
			}}
		},
		"semaphore, cancelled": func() scene { return scene{asyncio.NewSemaphore(0).Acquire, cancel} },
		"semaphore, released": func() scene {
			s := asyncio.NewSemaphore(0)
			return scene{s.Acquire, func(context.Context, []tasked) {
				for range n {
					s.Release()
				}
			}}
		},
		"semaphore, asked while those before are on their way out": func() scene {
			s := asyncio.NewSemaphore(0)
			return scene{s.Acquire, func(ctx context.Context, tasks []tasked) {
				cancel(ctx, tasks)
				s.Release()
				for range n {
					s.Locked()
				}
			}}
		},
		"lock, cancelled": func() scene { return scene{new(asyncio.Lock).Acquire, allButTheFirst} },
		"event, set again and again": func() scene {
			e := new(asyncio.Event)
			return scene{e.Wait, func(context.Context, []tasked) {
				for range n {
					e.Set()
					e.Clear()
				}
			}}
		},
		"limiter, tokens added while all are on their way out": func() scene {
			l := asyncio.NewCapacityLimiter(1)
			return scene{l.Acquire, func(ctx context.Context, tasks []tasked) {
				cancel(ctx, tasks[1:])
				for i := range n {
					l.SetTotalTokens(i + 2)
				}
			}}
		},
		"queue, done with again and again": func() scene {
			q := asyncio.NewQueue[int](0)
			_ = q.PutNowait(0)
			return scene{q.Join, func(context.Context, []tasked) {
				for range n {
					q.TaskDone()
					_ = q.PutNowait(1)
				}
				q.TaskDone()
			}}
		},
	} {
		runFast(t, func(ctx context.Context) error {
			s := make()
			var tasks []tasked
			for range n {
				tasks = append(tasks, asyncio.CreateTask(ctx, asyncio.Do(s.wait)))
			}
			settle(t, ctx)
			var err error
			looked := asyncio.PassedOver(func() {
				s.end(ctx, tasks)
				_, err = asyncio.GatherResults(ctx, tasks...)
			})
			if looked > 4*n {
				t.Errorf("%s: %d were looked at for %d that waited", name, looked, n)
			}
			return err
		})
	}
}

// A task that gives up waiting for a notification still has the lock.
func TestCondition_TimeoutInsideTheLock(t *testing.T) {
	run(t, func(ctx context.Context) error {
		c := asyncio.NewCondition(nil)
		must(t, c.Acquire(ctx))
		timedOut(t, waitFor(ctx, c.Wait, time.Second))
		is(t, "locked", c.Locked(), true)
		is(t, "owner", c.Statistics().Lock.Owner, self(ctx))
		c.Release()
		return nil
	})
}
