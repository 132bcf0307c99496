package asyncio_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
)

func TestTask_CancelCarriesMessageAndAsker(t *testing.T) {
	run(t, func(ctx context.Context) error {
		task := asyncio.CreateTask(ctx, sleeper(time.Hour))
		settle(t, ctx)
		task.Cancel("enough")
		_, err := task.Await(ctx)
		var c *asyncio.CancelledError
		if !errors.As(err, &c) || c.Msg != "enough" || c.By != "Task-1" {
			t.Errorf("%#v", err)
		}
		if err.Error() != "asyncio: cancelled: enough (by Task-1)" {
			t.Error(err)
		}
		if now := loop(t, ctx).Time().SinceStart(); now != 0 {
			t.Errorf("took %v", now)
		}
		return nil
	})
}

func TestTask_CancelMessage(t *testing.T) {
	for name, start := range map[string]int{"before it starts": 0, "while it waits": 1} {
		for _, msg := range [][]string{nil, {"my message"}} {
			t.Run(name, func(t *testing.T) {
				run(t, func(ctx context.Context) error {
					task := asyncio.CreateTask(ctx, asyncio.Do(sleeping(time.Hour)))
					must(t, yields(ctx, start))
					task.Cancel(msg...)
					_, _, err := asyncio.Wait(ctx, []tasked{task})
					must(t, err)
					_, result := task.Result()
					_, awaited := task.Await(ctx)
					for what, err := range map[string]error{"Result": result, "Exception": task.Exception(), "Await": awaited} {
						var c *asyncio.CancelledError
						if !errors.As(err, &c) || c.Msg != strings.Join(msg, "") {
							t.Errorf("%s: %v, want %q", what, err, msg)
						}
					}
					is(t, "Cancel once more", task.Cancel(), false)
					return nil
				})
			})
		}
	}
}

// A task may catch a cancel, clean up, and go on.
func TestTask_CancelCaught(t *testing.T) {
	run(t, func(ctx context.Context) error {
		var got []string
		task := asyncio.CreateTask(ctx, func(ctx context.Context) (string, error) {
			defer func() { got = append(got, "deferred") }()
			if err := asyncio.Sleep(ctx, time.Hour); errors.Is(err, asyncio.ErrCancelled) {
				got = append(got, "caught")
				if n := asyncio.CurrentTask(ctx).Uncancel(); n != 0 {
					t.Errorf("Uncancel() = %d", n)
				}
			}
			if err := asyncio.Sleep(ctx, time.Second); err != nil { // the clean-up is not disturbed
				return "", err
			}
			return "carried on", nil
		})
		settle(t, ctx)
		task.Cancel()
		v, err := task.Await(ctx)
		if v != "carried on" || err != nil || task.Cancelled() || task.Cancelling() != 0 {
			t.Errorf("%v, %v", v, err)
		}
		equal(t, "got", got, []string{"caught", "deferred"})
		return nil
	})
}

func TestTask_CancelAgainAfterUncancel(t *testing.T) {
	run(t, func(ctx context.Context) error {
		task := asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error {
			asCancelled(t, asyncio.Sleep(ctx, time.Hour))
			self(ctx).Uncancel()
			return asyncio.Sleep(ctx, time.Hour)
		}))
		cancelling := func(n int) {
			t.Helper()
			is(t, "Cancelling", task.Cancelling(), n)
			is(t, "shown as cancelling", strings.Contains(task.String(), "<Task cancelling "), n > 0)
			is(t, "cancelled", task.Cancelled(), false)
		}
		must(t, yields(ctx, 1))
		cancelling(0)
		is(t, "Cancel", task.Cancel(), true)
		cancelling(1)
		must(t, yields(ctx, 1))
		cancelling(0)
		is(t, "Cancel", task.Cancel(), true)
		is(t, "Cancel", task.Cancel(), true)
		cancelling(2)
		endsCancelled(t, ctx, task)
		task.Uncancel() // too late: the task is done
		is(t, "cancelled", task.Cancelled(), true)
		return nil
	})
}

// A wrapped cancellation ends the task cancelled; one that is joined to another error does not.
func TestTask_CancelledByWhatItReturns(t *testing.T) {
	run(t, func(ctx context.Context) error {
		for _, row := range []struct {
			wrap      func(error) error
			cancelled bool
		}{
			{func(err error) error { return err }, true},
			{func(err error) error { return fmt.Errorf("fetch: %w", err) }, true},
			{func(err error) error { return errors.Join(err, errTest) }, false},
			// as after a Close that worked
			{func(err error) error { return errors.Join(nil, err, nil) }, true},
			{func(err error) error { return &asyncio.GroupError{Exceptions: []error{err}} }, false},
			{func(error) error { return context.Canceled }, false},
		} {
			task := asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error {
				return row.wrap(asyncio.Sleep(ctx, time.Hour))
			}))
			settle(t, ctx)
			task.Cancel()
			_, err := task.Await(ctx)
			if task.Cancelled() != row.cancelled {
				t.Errorf("%v: Cancelled() = %v", err, task.Cancelled())
			}
		}
		return nil
	})
}

// The table shows how a cancel affects the task, the thing it waits for, and its next wait.
func TestTask_CancelByWhatItDoes(t *testing.T) {
	type scene struct {
		ctx     context.Context
		a, b, c *asyncio.Future[int]
		task    *asyncio.Task[int]
	}
	for name, row := range map[string]struct {
		body    func(s *scene, ctx context.Context) (int, error)
		act     func(s *scene)
		value   int // checked if the task does not end cancelled
		a, b, c string
	}{
		"it yields": {
			body: func(s *scene, ctx context.Context) (int, error) { return 12, yields(ctx, 2) },
			act:  func(s *scene) { s.task.Cancel() },
			a:    "pending", b: "pending", c: "pending",
		},
		"the future is cancelled, not the task": {
			body: func(s *scene, ctx context.Context) (int, error) { return s.a.Await(ctx) },
			act:  func(s *scene) { s.a.Cancel() },
			a:    "cancelled", b: "pending", c: "pending",
		},
		"both are": {
			body: func(s *scene, ctx context.Context) (int, error) { return s.a.Await(ctx) },
			act:  func(s *scene) { s.a.Cancel(); s.task.Cancel() },
			a:    "cancelled", b: "pending", c: "pending",
		},
		"it catches the cancel and returns": {
			body: func(s *scene, ctx context.Context) (int, error) {
				_, err := s.b.Await(ctx)
				asCancelled(t, err)
				return 42, nil
			},
			act:   func(s *scene) { s.task.Cancel() },
			value: 42, a: "pending", b: "cancelled", c: "pending",
		},
		"it ignores the cancel and waits for another": {
			body: func(s *scene, ctx context.Context) (int, error) {
				_, err := s.b.Await(ctx)
				asCancelled(t, err)
				return s.c.Await(ctx)
			},
			act: func(s *scene) {
				s.task.Cancel()
				must(t, yields(s.ctx, 1))
				must(t, s.c.SetResult(7))
			},
			value: 7, a: "pending", b: "cancelled", c: "finished",
		},
		"it cancels itself and then awaits a task": {
			body: func(s *scene, ctx context.Context) (int, error) {
				nested := asyncio.CreateTask(ctx, s.a.Await)
				must(t, yields(ctx, 1))
				s.task.Cancel()
				v, err := nested.Await(ctx)
				is(t, "nested cancelled", nested.Cancelled(), true)
				return v, err
			},
			act: func(s *scene) { must(t, yields(s.ctx, 5)) },
			a:   "cancelled", b: "pending", c: "pending",
		},
	} {
		t.Run(name, func(t *testing.T) {
			run(t, func(ctx context.Context) error {
				s := &scene{ctx: ctx, a: asyncio.CreateFuture[int](ctx), b: asyncio.CreateFuture[int](ctx), c: asyncio.CreateFuture[int](ctx)}
				s.task = asyncio.CreateTask(ctx, func(ctx context.Context) (int, error) { return row.body(s, ctx) })
				must(t, yields(ctx, 1))
				row.act(s)
				v, err := s.task.Await(ctx)
				if row.value == 0 {
					asCancelled(t, err)
				} else if v != row.value || err != nil {
					t.Errorf("%v, %v", v, err)
				}
				is(t, "cancelled", s.task.Cancelled(), row.value == 0)
				is(t, "Cancel once more", s.task.Cancel(), false)
				for want, f := range map[*asyncio.Future[int]]string{s.a: row.a, s.b: row.b, s.c: row.c} {
					if !strings.Contains(want.String(), " "+f) {
						t.Errorf("%v, want it %s", want, f)
					}
				}
				return nil
			})
		})
	}
}

// A cancel in the iteration in which a result arrives replaces the result (CPython 13).
func TestTask_CancelRacesResult(t *testing.T) {
	run(t, func(ctx context.Context) error {
		f := asyncio.CreateFuture[string](ctx)
		task := asyncio.CreateTask(ctx, f.Await)
		settle(t, ctx)
		must(t, f.SetResult("v"))
		if !task.Cancel() {
			t.Error("Cancel() = false")
		}
		if _, err := task.Await(ctx); !errors.Is(err, asyncio.ErrCancelled) || !task.Cancelled() {
			t.Errorf("err = %v", err)
		}
		return nil
	})
}

// A task that returns with a cancel still to be delivered ends cancelled (CPython 14). If it waits
// for something new, the cancel goes to that at once.
func TestTask_CancelItself(t *testing.T) {
	run(t, func(ctx context.Context) error {
		returns := asyncio.CreateTask(ctx, func(ctx context.Context) (int, error) {
			asyncio.CurrentTask(ctx).Cancel("me")
			return 1, nil
		})
		f := asyncio.CreateFuture[int](ctx)
		waits := asyncio.CreateTask(ctx, func(ctx context.Context) (int, error) {
			asyncio.CurrentTask(ctx).Cancel()
			_, err := f.Await(ctx)
			return 2, err
		})
		sleeps := asyncio.CreateTask(ctx, func(ctx context.Context) (int, error) {
			asyncio.CurrentTask(ctx).Cancel()
			return 3, asyncio.Sleep(ctx, time.Hour)
		})
		fails := asyncio.CreateTask(ctx, func(ctx context.Context) (int, error) {
			asyncio.CurrentTask(ctx).Cancel()
			return 4, errTest
		})
		done := asyncio.CreateTask(ctx, func(ctx context.Context) (int, error) {
			d := asyncio.CreateFuture[int](ctx)
			must(t, d.SetResult(5))
			asyncio.CurrentTask(ctx).Cancel()
			v, err := d.Await(ctx) // does not suspend, so the cancel is not delivered here
			asyncio.CurrentTask(ctx).Uncancel()
			return v, err
		})
		results, err := asyncio.GatherResults(ctx, returns, waits, sleeps, fails, done)
		if err != nil {
			return err
		}
		for i, want := range []error{asyncio.ErrCancelled, asyncio.ErrCancelled, asyncio.ErrCancelled, errTest, nil} {
			if !errors.Is(results[i].Err, want) {
				t.Errorf("%d: %v, want %v", i, results[i].Err, want)
			}
		}
		if !f.Cancelled() || results[4].Value != 5 {
			t.Errorf("f = %v, last = %v", f, results[4])
		}
		return nil
	})
}

func TestTask_UncancelDropsAPendingCancel(t *testing.T) {
	run(t, func(ctx context.Context) error {
		task := asyncio.CreateTask(ctx, instant)
		task.Cancel()
		if task.Cancelling() != 1 || task.Uncancel() != 0 || task.Uncancel() != 0 {
			t.Error("Uncancel")
		}
		if v, err := task.Await(ctx); v != 1 || err != nil {
			t.Errorf("%v, %v", v, err)
		}
		return nil
	})
}

// A cancel that is taken back before the task has resumed has no effect.
func TestTask_UncancelBeforeItResumes(t *testing.T) {
	run(t, func(ctx context.Context) error {
		f := asyncio.CreateFuture[int](ctx)
		task := asyncio.CreateTask(ctx, f.Await)
		must(t, yields(ctx, 1))
		must(t, f.SetResult(42))
		task.Cancel()
		is(t, "Cancelling", task.Cancelling(), 1)
		is(t, "Uncancel", task.Uncancel(), 0)
		v, err := task.Await(ctx)
		is(t, "value", v, 42)
		return err
	})
}

// A cancel goes to the innermost thing awaited and comes back up.
func TestTask_CancelTravelsDown(t *testing.T) {
	run(t, func(ctx context.Context) error {
		var got []string
		inner := asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error {
			err := asyncio.Sleep(ctx, time.Hour)
			got = append(got, "inner")
			return err
		}))
		outer := asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error {
			_, err := inner.Await(ctx)
			got = append(got, "outer")
			return err
		}))
		settle(t, ctx)
		outer.Cancel()
		if _, err := outer.Await(ctx); !errors.Is(err, asyncio.ErrCancelled) || !inner.Cancelled() {
			t.Errorf("%v, %v", err, inner)
		}
		equal(t, "got", got, []string{"inner", "outer"})
		return nil
	})
}

// If the inner task ignores the cancel, the outer one goes on too, and can be cancelled again.
func TestTask_InnerIgnoresCancel(t *testing.T) {
	run(t, func(ctx context.Context) error {
		inner := asyncio.CreateTask(ctx, func(ctx context.Context) (int, error) {
			for {
				if err := asyncio.Sleep(ctx, time.Second); err == nil {
					return 7, nil
				}
			}
		})
		outer := asyncio.CreateTask(ctx, inner.Await)
		for range 3 {
			settle(t, ctx)
			if !outer.Cancel() {
				t.Error("Cancel() = false")
			}
		}
		v, err := outer.Await(ctx)
		if v != 7 || err != nil || outer.Cancelling() != 3 || inner.Cancelling() != 3 {
			t.Errorf("%v, %v, %v", v, err, outer)
		}
		return nil
	})
}

// stopped checks that err is the cancel with message "stop" that main asked for.
func stopped(t *testing.T, err error) {
	t.Helper()
	var c *asyncio.CancelledError
	if !errors.As(err, &c) || c.Msg != "stop" || c.By != "Task-1" {
		t.Errorf("%v, want the cancel of Task-1 that says stop", err)
	}
}

// stopAt runs fn as a task, cancels it when d has passed, and waits for it.
func stopAt(t *testing.T, ctx context.Context, d time.Duration, fn routine) tasked {
	t.Helper()
	task := asyncio.CreateTask(ctx, asyncio.Do(fn))
	must(t, asyncio.Sleep(ctx, d))
	is(t, "accepted", task.Cancel("stop"), true)
	_, _, err := asyncio.Wait(ctx, []tasked{task})
	must(t, err)
	return task
}

// settled waits until the task is done, without awaiting it, and returns its error.
func settled(ctx context.Context, task tasked) error {
	if _, _, err := asyncio.Wait(ctx, []tasked{task}); err != nil {
		return errors.Join(err, errors.New("of the wait"))
	}
	return task.Exception()
}

// tidy sleeps for an hour. If that is cut short, it cleans up for three seconds, whatever comes.
func tidy(ctx context.Context) error {
	err := asyncio.Sleep(ctx, time.Hour)
	if e := asyncio.Cleanup(ctx, time.Minute, sleeping(3*time.Second)); e != nil {
		return e
	}
	return err
}

// A cancel has gone down to the awaited task, and then the context ends that wait. The cancel is
// still owed (cancel 2).
func TestCancel_OutlivesTheContextOfItsWait(t *testing.T) {
	ends := map[string]func(ctx context.Context, body routine) error{
		"MoveOnAfter": func(ctx context.Context, body routine) error {
			expired, err := asyncio.MoveOnAfter(ctx, 2*time.Second, body)
			if expired {
				return errors.New("it took the cancel for its own end")
			}
			return err
		},
		"FailAfter": func(ctx context.Context, body routine) error { return asyncio.FailAfter(ctx, 2*time.Second, body) },
		"WithTimeout": func(ctx context.Context, body routine) error {
			ctx, cancel := asyncio.WithTimeout(ctx, 2*time.Second)
			defer cancel()
			return body(ctx)
		},
		"a standard context": func(ctx context.Context, body routine) error {
			l, err := asyncio.GetRunningLoop(ctx)
			if err != nil {
				return err
			}
			ctx, cancel := context.WithCancel(ctx)
			l.CallLater(2*time.Second, cancel)
			return body(ctx)
		},
	}
	waits := map[string]func(ctx context.Context, child tasked) error{
		"Await":  func(ctx context.Context, child tasked) error { _, err := child.Await(ctx); return err },
		"Gather": func(ctx context.Context, child tasked) error { _, err := asyncio.Gather(ctx, child); return err },
		"WaitFor": func(ctx context.Context, child tasked) error {
			_, err := asyncio.WaitFor(ctx, child, time.Hour)
			return err
		},
		"a group": func(ctx context.Context, child tasked) error {
			return grouping(func(ctx context.Context) error { _, err := child.Await(ctx); return err })(ctx)
		},
		"through another task": func(ctx context.Context, child tasked) error {
			task := asyncio.CreateTask(context.WithoutCancel(ctx), child.Await)
			_, err := task.Await(ctx)
			return err
		},
	}
	for end, within := range ends {
		for how, wait := range waits {
			t.Run(end+" "+how, func(t *testing.T) {
				run(t, func(ctx context.Context) error {
					task := stopAt(t, ctx, time.Second, func(ctx context.Context) error {
						child := asyncio.CreateTask(ctx, asyncio.Do(tidy))
						err := within(ctx, func(ctx context.Context) error { return wait(ctx, child) })
						is(t, "at", loop(t, ctx).Time().SinceStart(), 2*time.Second)
						stopped(t, err)
						// the cancel is delivered only once
						must(t, asyncio.Sleep(ctx, time.Second))
						return err
					})
					is(t, "cancelled", task.Cancelled(), true)
					is(t, "Cancelling", task.Cancelling(), 1)
					return asyncio.Sleep(ctx, time.Minute)
				})
			})
		}
	}
}

// If the cancel is taken back before the context ends, the wait returns only the end of the
// context.
func TestCancel_TakenBackBeforeTheContextEnds(t *testing.T) {
	run(t, func(ctx context.Context) error {
		task := asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error {
			child := asyncio.CreateTask(ctx, asyncio.Do(tidy))
			expired, err := asyncio.MoveOnAfter(ctx, 2*time.Second, func(ctx context.Context) error { _, err := child.Await(ctx); return err })
			if !expired || err != nil {
				t.Error(expired, err)
			}
			asCancelled(t, settled(ctx, child))
			return asyncio.Sleep(ctx, time.Second)
		}))
		must(t, asyncio.Sleep(ctx, time.Second))
		task.Cancel()
		is(t, "Uncancel", task.Uncancel(), 0)
		_, err := task.Await(ctx)
		return err
	})
}

// A Cleanup holds back a cancel. Inside the Cleanup, a group or a timeout still works as usual
// (cancel 3, cancel 4).
func TestCancel_HeldBackAroundOtherScopes(t *testing.T) {
	for name, inside := range map[string]routine{
		"a group whose child fails": func(ctx context.Context) error {
			err := grouping(sleeping(time.Hour), failsAfter(2*time.Second, errA))(ctx)
			if !errors.Is(err, errA) {
				return fmt.Errorf("the group: %w", err)
			}
			return nil
		},
		"a group that is cancelled": func(ctx context.Context) error {
			return asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg group) error {
				tg.CreateTask(ctx, func(ctx context.Context) error {
					err := asyncio.Sleep(ctx, 2*time.Second)
					tg.Cancel()
					return err
				})
				return asyncio.Sleep(ctx, time.Hour)
			})
		},
		"a timeout": func(ctx context.Context) error {
			err := timingOut(2*time.Second, sleeping(time.Hour))(ctx)
			if !errors.Is(err, asyncio.ErrTimeout) || isCancelled(err) {
				return fmt.Errorf("the timeout: %w", err)
			}
			return nil
		},
		"a timeout around a group": func(ctx context.Context) error {
			err := timingOut(2*time.Second, grouping(nil, sleeping(time.Hour)))(ctx)
			if !errors.Is(err, asyncio.ErrTimeout) || isCancelled(err) {
				return fmt.Errorf("the timeout: %w", err)
			}
			return nil
		},
		"a timeout that takes its own cancel back by hand": func(ctx context.Context) error {
			return timingOut(2*time.Second, func(ctx context.Context) error {
				asCancelled(t, asyncio.Sleep(ctx, time.Hour))
				is(t, "Uncancel", self(ctx).Uncancel(), 1)
				return nil
			})(ctx)
		},
		"a cleanup in a timeout": func(ctx context.Context) error {
			err := timingOut(time.Second, func(ctx context.Context) error {
				must(t, asyncio.Cleanup(ctx, time.Minute, sleeping(2*time.Second)))
				return asyncio.Sleep(ctx, time.Hour)
			})(ctx)
			if !errors.Is(err, asyncio.ErrTimeout) {
				return fmt.Errorf("the timeout: %w", err)
			}
			return nil
		},
	} {
		// the cancel comes before the inner scope is entered
		for _, early := range []bool{false, true} {
			t.Run(fmt.Sprint(name, early), func(t *testing.T) {
				run(t, func(ctx context.Context) error {
					task := stopAt(t, ctx, time.Second, func(ctx context.Context) error {
						must(t, asyncio.Cleanup(ctx, time.Hour, func(ctx context.Context) error {
							if early {
								must(t, asyncio.Sleep(ctx, 2*time.Second))
							}
							must(t, inside(ctx))
							return asyncio.Sleep(ctx, time.Second) // undisturbed
						}))
						is(t, "Cancelling", self(ctx).Cancelling(), 1)
						err := asyncio.Sleep(ctx, time.Hour)
						stopped(t, err)
						must(t, asyncio.Sleep(ctx, time.Second))
						return err
					})
					is(t, "cancelled", task.Cancelled(), true)
					is(t, "Cancelling", task.Cancelling(), 1)
					return nil
				})
			})
		}
	}
}

// A cancel is never the end of a scope, whatever its cause. Nor is a panic, whatever its value.
func TestCancel_WithTheCauseOfAScope(t *testing.T) {
	for _, cause := range []error{context.DeadlineExceeded, context.Canceled, asyncio.ErrTimeout, nil} {
		for name, limit := range map[string]func(ctx context.Context, body routine) error{
			"MoveOnAfter": func(ctx context.Context, body routine) error {
				expired, err := asyncio.MoveOnAfter(ctx, time.Second, body)
				is(t, "expired", expired, false)
				return err
			},
			"FailAfter": func(ctx context.Context, body routine) error { return asyncio.FailAfter(ctx, time.Second, body) },
			"a group": func(ctx context.Context, body routine) error {
				inner, cancel := asyncio.WithTimeout(ctx, time.Second)
				defer cancel()
				return grouping(body)(inner)
			},
		} {
			run(t, func(ctx context.Context) error {
				task := asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error {
					return limit(ctx, func(ctx context.Context) error {
						_ = asyncio.Sleep(ctx, time.Hour)
						return asyncio.Sleep(context.WithoutCancel(ctx), time.Hour) // it cleans up
					})
				}))
				must(t, asyncio.Sleep(ctx, 2*time.Second))
				task.CancelCause(cause)
				_, _, err := asyncio.Wait(ctx, []tasked{task})
				var c *asyncio.CancelledError
				if !task.Cancelled() || !errors.As(task.Exception(), &c) || cause != nil && !errors.Is(task.Exception(), cause) {
					t.Errorf("%s, cancelled because of %v: %v", name, cause, task)
				}
				return err
			})
		}
	}
}

func TestPanic_StaysOneAroundACancel(t *testing.T) {
	_, err := runReporting(t, func(ctx context.Context) error {
		panics := func(value func(ctx context.Context) error) routine {
			return func(ctx context.Context) error {
				child := asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error { panic(value(ctx)) }))
				_, err := child.Await(context.WithoutCancel(ctx))
				return err
			}
		}
		isPanic := func(what string, err error) {
			t.Helper()
			var p *asyncio.PanicError
			if !errors.As(err, &p) {
				t.Errorf("%s: %v, want a panic", what, err)
			}
		}
		aCancel := panics(func(context.Context) error { return &asyncio.CancelledError{Msg: "x"} })
		theEnd := panics(sleeping(time.Hour))
		task := asyncio.CreateTask(ctx, asyncio.Do(aCancel))
		_, err := task.Await(ctx)
		isPanic("a task that awaits it", err)
		is(t, "cancelled", task.Cancelled(), false)
		isPanic("Timeout", timingOut(time.Second, func(ctx context.Context) error {
			_ = asyncio.Sleep(ctx, time.Hour)
			return aCancel(ctx)
		})(ctx))
		failsWith(t, grouping(aCancel)(ctx), asyncio.ErrCancelled)
		expired, err := asyncio.MoveOnAfter(ctx, time.Second, theEnd)
		is(t, "expired", expired, false)
		isPanic("MoveOnAfter", err)
		err = asyncio.FailAfter(ctx, time.Second, theEnd)
		isPanic("FailAfter", err)
		return nil
	})
	must(t, err)
}

// The cancel that is delivered belongs to somebody who still asks for it, and carries their
// message.
func TestCancel_SaysWhoStillAsks(t *testing.T) {
	run(t, func(ctx context.Context) error {
		// whether the cancel or the expiry comes first
		for _, first := range []time.Duration{time.Second, 3 * time.Second} {
			var inside error
			task := stopAt(t, ctx, first, func(ctx context.Context) error {
				must(t, timingOut(2*time.Second, func(ctx context.Context) error {
					return asyncio.Cleanup(ctx, time.Minute, sleeping(5*time.Second))
				})(ctx))
				return asyncio.Sleep(ctx, time.Hour)
			})
			stopped(t, task.Exception())
			task = stopAt(t, ctx, first, func(ctx context.Context) error {
				return timingOut(2*time.Second, func(ctx context.Context) error {
					must(t, asyncio.Cleanup(ctx, time.Minute, sleeping(5*time.Second)))
					inside = asyncio.Sleep(ctx, time.Hour)
					return inside
				})(ctx)
			})
			stopped(t, inside)
			stopped(t, task.Exception())
			is(t, "Cancelling", task.Cancelling(), 1)
		}
		// A failed group delivers a cancel that somebody else asked for, not its own.
		task := stopAt(t, ctx, 2*time.Second, func(ctx context.Context) error {
			failsWith(t, grouping(nil, failsAfter(time.Second, errA), cleaning(time.Hour, 5*time.Second))(ctx), errA)
			return asyncio.Sleep(ctx, time.Hour)
		})
		stopped(t, task.Exception())
		return nil
	})
}

// A cancel is on its way when the timeout is entered, and the body catches it. When the time is up
// it counts as one from before the timeout.
func TestTimeout_CancelFromBeforeThatWasCaught(t *testing.T) {
	run(t, func(ctx context.Context) error {
		for n := 1; n <= 2; n++ {
			task := asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error {
				for range n {
					self(ctx).Cancel("before")
				}
				err := timingOut(time.Second, func(ctx context.Context) error {
					asCancelled(t, asyncio.Sleep(ctx, 0))
					return asyncio.Sleep(ctx, time.Hour)
				})(ctx)
				timedOut(t, err)
				is(t, "Cancelling", self(ctx).Cancelling(), n)
				// It does not count as delivered while it is on its way down.
				self(ctx).Cancel("before")
				child := asyncio.CreateTask(ctx, asyncio.Do(tidy))
				must(t, asyncio.Cleanup(ctx, time.Minute, sleeping(0))) // the child begins
				err = timingOut(time.Second, func(ctx context.Context) error { _, err := child.Await(ctx); return err })(ctx)
				asCancelled(t, err)
				is(t, "Cancelling", self(ctx).Cancelling(), n+1)
				return err
			}))
			_, err := task.Await(ctx)
			asCancelled(t, err)
		}
		return nil
	})
}

// GroupStart is cut short while its child is in a Cleanup. A child that then says it is ready does
// not count as started.
func TestGroupStart_CancelledWhileTheChildCleansUp(t *testing.T) {
	for how, want := range map[string]error{"cancel": asyncio.ErrCancelled, "context": context.Canceled, "timeout": asyncio.ErrTimeout} {
		t.Run(how, func(t *testing.T) {
			run(t, func(ctx context.Context) error {
				began := loop(t, ctx).Time()
				return asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg group) error {
					served := errors.New("not yet")
					start := func(ctx context.Context) error {
						v, err := asyncio.GroupStart(ctx, tg, func(ctx context.Context, s *asyncio.TaskStatus[string]) error {
							must(t, asyncio.Cleanup(ctx, time.Minute, func(ctx context.Context) error {
								must(t, asyncio.Sleep(ctx, 2*time.Second))
								return s.Started("ready")
							}))
							served = asyncio.Sleep(ctx, time.Hour)
							return served
						})
						is(t, "value", v, "")
						return err
					}
					task := asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error {
						switch how {
						case "context":
							ctx, cancel := asyncio.WithCancel(ctx)
							loop(t, ctx).CallLater(time.Second, cancel)
							return start(ctx)
						case "timeout":
							return timingOut(time.Second, start)(ctx)
						}
						return start(ctx)
					}))
					must(t, asyncio.Sleep(ctx, time.Second))
					if how == "cancel" {
						task.Cancel("stop")
					}
					_, err := task.Await(ctx)
					wantErr(t, "GroupStart", err, want)
					is(t, "took", loop(t, ctx).Time().Sub(began), 2*time.Second)
					is(t, "cancelled", task.Cancelled(), how == "cancel")
					must(t, yields(ctx, 3))
					asCancelled(t, served)
					return nil
				})
			})
		})
	}
}

// The caller is cancelled and its context ends, one after the other, while the child cleans up.
func TestGroupStart_CancelAndContext(t *testing.T) {
	run(t, func(ctx context.Context) error {
		for _, first := range []time.Duration{time.Second, 3 * time.Second} {
			ended := time.Duration(0)
			err := asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg group) error {
				task := stopAt(t, ctx, first, func(ctx context.Context) error {
					inner, cancel := asyncio.WithTimeout(ctx, 2*time.Second)
					defer cancel()
					_, err := asyncio.GroupStart(inner, tg, func(ctx context.Context, _ *asyncio.TaskStatus[int]) error {
						began := loop(t, ctx).Time()
						defer func() { ended = loop(t, ctx).Time().Sub(began) }()
						return tidy(ctx)
					})
					return err
				})
				stopped(t, task.Exception())
				is(t, "cancelled", task.Cancelled(), true)
				return nil
			})
			must(t, err)
			is(t, "the child took", ended, min(first, 2*time.Second)+3*time.Second)
		}
		return nil
	})
}

// Of several cancels that come after an expiry has woken the task, the last is delivered, whatever
// the task has waited for. (CPython delivers the expiry's, without a message.)
func TestCancel_AfterAnExpiryTheLastSpeaks(t *testing.T) {
	for name, wait := range map[string]func(ctx context.Context, f *asyncio.Future[int]) error{
		"a future": func(ctx context.Context, f *asyncio.Future[int]) error { _, err := f.Await(ctx); return err },
		"Wait": func(ctx context.Context, f *asyncio.Future[int]) error {
			_, _, err := asyncio.Wait(ctx, []*asyncio.Future[int]{f})
			return err
		},
		"Sleep": func(ctx context.Context, _ *asyncio.Future[int]) error { return asyncio.Sleep(ctx, time.Hour) },
	} {
		t.Run(name, func(t *testing.T) {
			run(t, func(ctx context.Context) error {
				f := asyncio.CreateFuture[int](ctx)
				var got error
				task := asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error {
					return asyncio.Timeout(ctx, asyncio.Forever, func(ctx context.Context, tm scope) error {
						loop(t, ctx).CallSoon(func() { must(t, tm.Reschedule(asyncio.Instant{})) })
						got = wait(ctx, f)
						return got
					})
				}))
				must(t, yields(ctx, 2)) // the expiry is the next callback
				loop(t, ctx).CallSoon(func() {
					task.Cancel("first")
					task.Cancel("second")
				})
				endsCancelled(t, ctx, task)
				if got.Error() != "asyncio: cancelled: second" {
					t.Error(got)
				}
				return nil
			})
		})
	}
}

// A library's operation succeeds although a cancel has ended its wait. The cancel then comes at the
// next await, as the same request that it was.
func TestDeliverAgain(t *testing.T) {
	// succeeds is the operation.
	succeeds := func(ctx context.Context) (ended error) {
		if ended = asyncio.Sleep(ctx, 10*time.Second); ended != nil {
			asyncio.DeliverAgain(ctx, ended)
		}
		return ended
	}
	run(t, func(ctx context.Context) error {
		task := stopAt(t, ctx, time.Second, func(ctx context.Context) error {
			first := succeeds(ctx)
			stopped(t, first)
			again := asyncio.Sleep(ctx, time.Hour)
			is(t, "the same", again, first)
			is(t, "Cancelling", self(ctx).Cancelling(), 1)
			must(t, asyncio.Sleep(ctx, time.Second)) // it is delivered once
			return again
		})
		is(t, "Cancelled", task.Cancelled(), true)

		task = stopAt(t, ctx, time.Second, func(ctx context.Context) error {
			ended := asyncio.Sleep(ctx, 10*time.Second)
			self(ctx).Uncancel()
			asyncio.DeliverAgain(ctx, ended)
			return asyncio.Sleep(ctx, time.Second)
		})
		must(t, task.Exception())
		return nil
	})
	// A timeout knows its own request, also in a Cleanup, which would hold back any other.
	run(t, func(ctx context.Context) error {
		for _, around := range []func(routine) routine{
			func(body routine) routine { return body },
			func(body routine) routine {
				return func(ctx context.Context) error { return asyncio.Cleanup(ctx, time.Hour, body) }
			},
		} {
			timedOut(t, around(timingOut(time.Second, func(ctx context.Context) error {
				asCancelled(t, succeeds(ctx))
				return asyncio.Sleep(ctx, time.Hour)
			}))(ctx))
			must(t, around(timingOut(time.Second, func(ctx context.Context) error {
				asCancelled(t, succeeds(ctx))
				return nil
			}))(ctx))
			is(t, "Cancelling", self(ctx).Cancelling(), 0)
			must(t, asyncio.Sleep(ctx, time.Second))
		}
		return nil
	})
	run(t, func(ctx context.Context) error {
		ended, cancel := context.WithCancelCause(ctx)
		cancel(&asyncio.CancelledError{Msg: "the end of a context"})
		asyncio.DeliverAgain(ended, context.Cause(ended))
		asyncio.DeliverAgain(ctx, errA)
		asyncio.DeliverAgain(ctx, nil)
		asyncio.DeliverAgain(ctx, &asyncio.CancelledError{Msg: "nobody's"})
		return asyncio.Sleep(ctx, time.Second)
	})
	if err := panicOf(func() { asyncio.DeliverAgain(t.Context(), asyncio.ErrCancelled) }); !errors.Is(err, asyncio.ErrNoRunningLoop) {
		t.Error(err)
	}
}
