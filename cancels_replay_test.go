package asyncio_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
)

// cancelled is one run of a construct of groups_cancels.py, with the tasks it has made.
type cancelled struct {
	ctx  context.Context
	made []tasked
}

// These errors have the names used in the golden file.
type (
	valueError struct{ n int }
	keyError   struct{}
)

func (valueError) Error() string { return "ValueError" }
func (keyError) Error() string   { return "KeyError" }

func yielding(n int) routine {
	return func(ctx context.Context) error { return yields(ctx, n) }
}

func failing(n int) routine {
	return func(ctx context.Context) error {
		if err := yields(ctx, n); err != nil {
			return err
		}
		return valueError{n}
	}
}

func isCancelled(err error) bool { return errors.Is(err, asyncio.ErrCancelled) }

func cleaningUp(n, m int) routine {
	return func(ctx context.Context) error {
		err := yields(ctx, n)
		if isCancelled(err) {
			if err := yields(ctx, m); err != nil {
				return err
			}
		}
		return err
	}
}

func failingInCleanup(n int) routine {
	return func(ctx context.Context) error {
		err := yields(ctx, n)
		if isCancelled(err) {
			if err := yields(ctx, 1); err != nil {
				return err
			}
			return valueError{n}
		}
		return err
	}
}

func ignoring(n, m int) routine {
	return func(ctx context.Context) error {
		if err := yields(ctx, n); isCancelled(err) {
			return yields(ctx, m)
		}
		return nil
	}
}

// then runs the routines one after the other until one fails.
func then(all ...routine) routine {
	return func(ctx context.Context) error {
		for _, fn := range all {
			if err := fn(ctx); err != nil {
				return err
			}
		}
		return nil
	}
}

// except runs fn, and runs handler in its place if fn's error matches.
func except(fn routine, matches func(error) bool, handler routine) routine {
	return func(ctx context.Context) error {
		err := fn(ctx)
		if err != nil && matches(err) {
			return handler(ctx)
		}
		return err
	}
}

func isTimeout(err error) bool { return errors.Is(err, asyncio.ErrTimeout) }

func isGroup(err error) bool {
	var g *asyncio.GroupError
	return errors.As(err, &g)
}

func (c *cancelled) task(fn routine) tasked {
	c.made = append(c.made, asyncio.CreateTask(c.ctx, asyncio.Do(fn)))
	return c.made[len(c.made)-1]
}

func (c *cancelled) group(body routine, children ...routine) routine {
	return func(ctx context.Context) error {
		return asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg *asyncio.TaskGroup) error {
			for _, fn := range children {
				c.made = append(c.made, tg.CreateTask(ctx, fn))
			}
			return body(ctx)
		})
	}
}

func (c *cancelled) waitFor(a asyncio.Awaitable[asyncio.None], d time.Duration) error {
	_, err := asyncio.WaitFor(c.ctx, a, d)
	return err
}

// constructs are the constructs of groups_cancels.py, by name.
var constructs = map[string]func(c *cancelled) error{
	"timeout_not_expiring":       func(c *cancelled) error { return timingOut(asyncio.Forever, yielding(3))(c.ctx) },
	"timeout_expiring":           func(c *cancelled) error { return timingOut(0, yielding(3))(c.ctx) },
	"timeout_with_cleanup":       func(c *cancelled) error { return timingOut(0, cleaningUp(2, 2))(c.ctx) },
	"timeout_failing_in_cleanup": func(c *cancelled) error { return timingOut(0, failingInCleanup(2))(c.ctx) },
	"timeout_ignored":            func(c *cancelled) error { return then(timingOut(0, ignoring(2, 3)), yielding(1))(c.ctx) },
	"timeout_in_timeout": func(c *cancelled) error {
		return timingOut(0, except(timingOut(0, cleaningUp(2, 1)), isTimeout, yielding(2)))(c.ctx)
	},
	"timeout_rescheduled": func(c *cancelled) error {
		return asyncio.Timeout(c.ctx, asyncio.Forever, func(ctx context.Context, tm *asyncio.TimeoutScope) error {
			return then(yielding(2), func(context.Context) error { return tm.Reschedule(asyncio.Instant{}) }, yielding(3))(ctx)
		})
	},
	"wait_for_coroutine":         func(c *cancelled) error { return c.waitFor(asyncio.Do(yielding(3)), asyncio.Forever) },
	"wait_for_task":              func(c *cancelled) error { return c.waitFor(c.task(yielding(3)), asyncio.Forever) },
	"wait_for_task_with_cleanup": func(c *cancelled) error { return c.waitFor(c.task(cleaningUp(3, 2)), asyncio.Forever) },
	"wait_for_zero_coroutine":    func(c *cancelled) error { return c.waitFor(asyncio.Do(yielding(3)), 0) },
	"wait_for_zero_task": func(c *cancelled) error {
		t := c.task(cleaningUp(3, 2))
		return then(yielding(1), func(context.Context) error { return c.waitFor(t, 0) })(c.ctx)
	},
	"shield_task": func(c *cancelled) error {
		_, err := asyncio.Shield(c.ctx, c.task(yielding(3))).Await(c.ctx)
		return err
	},
	"shield_failing_task": func(c *cancelled) error {
		_, err := asyncio.Shield(c.ctx, c.task(failing(3))).Await(c.ctx)
		return err
	},
	"as_completed": func(c *cancelled) error {
		for _, err := range asyncio.AsCompleted(c.ctx, []tasked{c.task(yielding(1)), c.task(yielding(3))}) {
			if err == nil {
				err = yields(c.ctx, 1)
			}
			if err != nil {
				return err
			}
		}
		return nil
	},
	"group":               func(c *cancelled) error { return c.group(nothing, yielding(1), yielding(3))(c.ctx) },
	"group_with_body":     func(c *cancelled) error { return c.group(yielding(3), yielding(1))(c.ctx) },
	"group_with_cleanup":  func(c *cancelled) error { return c.group(cleaningUp(1, 1), cleaningUp(2, 2), cleaningUp(3, 1))(c.ctx) },
	"group_child_failing": func(c *cancelled) error { return c.group(cleaningUp(4, 1), failing(1), cleaningUp(5, 2))(c.ctx) },
	"group_child_failing_late": func(c *cancelled) error {
		return then(c.group(nothing, failing(2), ignoring(5, 2)), yielding(2))(c.ctx)
	},
	"group_failing_in_cleanup": func(c *cancelled) error { return c.group(yielding(2), failingInCleanup(3))(c.ctx) },
	"group_body_failing": func(c *cancelled) error {
		return c.group(then(yielding(1), func(context.Context) error { return keyError{} }), cleaningUp(5, 2))(c.ctx)
	},
	"group_error_caught": func(c *cancelled) error {
		return then(except(c.group(nothing, failing(1), cleaningUp(5, 2)), isGroup, nothing), yielding(2))(c.ctx)
	},
	"group_in_group_failing": func(c *cancelled) error {
		return c.group(c.group(nothing, failing(1), cleaningUp(6, 1)), cleaningUp(6, 1))(c.ctx)
	},
	"group_in_group_outer_failing": func(c *cancelled) error { return c.group(c.group(nothing, cleaningUp(6, 2)), failing(1))(c.ctx) },
	"group_in_child":               func(c *cancelled) error { return c.group(nothing, c.group(yielding(2), cleaningUp(4, 1)))(c.ctx) },
	"group_children_made_late": func(c *cancelled) error {
		return asyncio.RunTaskGroup(c.ctx, func(ctx context.Context, tg *asyncio.TaskGroup) error {
			c.made = append(c.made, tg.CreateTask(ctx, func(ctx context.Context) error {
				err := yields(ctx, 1)
				if err == nil {
					c.made = append(c.made, tg.CreateTask(ctx, yielding(2)))
				}
				return err
			}))
			return nil
		})
	},
	"timeout_around_group":                    func(c *cancelled) error { return timingOut(0, c.group(nothing, cleaningUp(5, 2)))(c.ctx) },
	"timeout_around_group_failing_in_cleanup": func(c *cancelled) error { return timingOut(0, c.group(nothing, failingInCleanup(5)))(c.ctx) },
	"group_around_timeout": func(c *cancelled) error {
		return c.group(except(timingOut(0, yielding(4)), isTimeout, yielding(1)), cleaningUp(4, 1))(c.ctx)
	},
	"cleanup_after_a_cancel_caught": func(c *cancelled) error {
		err := yields(c.ctx, 4)
		if isCancelled(err) {
			if err := then(except(timingOut(0, yielding(3)), isTimeout, nothing), c.group(nothing, yielding(1)))(c.ctx); err != nil {
				return err
			}
		}
		return err
	},
}

func outcome(t tasked) string {
	switch {
	case !t.Done():
		return "pending"
	case t.Cancelled():
		return "cancelled"
	}
	return kind(t.Exception())
}

func kind(err error) string {
	var group *asyncio.GroupError
	var timeout *asyncio.TimeoutError
	switch {
	case err == nil:
		return "ok"
	case errors.As(err, &group):
		var all []string
		for _, e := range group.Exceptions {
			all = append(all, kind(e))
		}
		return "group(" + strings.Join(all, ",") + ")"
	case errors.As(err, new(valueError)):
		return "ValueError"
	case errors.As(err, new(keyError)):
		return "KeyError"
	case errors.As(err, &timeout):
		return "TimeoutError"
	}
	return err.Error()
}

// runCancelled runs construct and cancels it in the given iterations.
func runCancelled(t *testing.T, ctx context.Context, construct func(c *cancelled) error, cancels []int) string {
	l := loop(t, ctx)
	c := &cancelled{}
	n, end, running := 0, 0, true
	task := asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error {
		c.ctx = ctx
		err := construct(c)
		end = n
		return err
	}))
	var tick func()
	tick = func() {
		n++
		for _, j := range cancels {
			if j == n {
				task.Cancel()
			}
		}
		if running {
			l.CallSoon(tick)
		}
	}
	l.CallSoon(tick)
	must(t, yields(ctx, 40))
	running = false
	must(t, yields(ctx, 1))
	ends := []string{}
	for _, m := range c.made {
		ends = append(ends, outcome(m))
		m.Cancel()
	}
	if len(ends) == 0 {
		ends = []string{"-"}
	}
	return fmt.Sprint(outcome(task), " ", end, " ", task.Cancelling(), " ", strings.Join(ends, " "))
}

// TestCancels replays groups_cancels.golden: each construct is cancelled once or twice, in any of
// its iterations.
func TestCancels(t *testing.T) {
	golden, err := os.Open("testdata/cpython/groups_cancels.golden")
	if err != nil {
		t.Fatal(err)
	}
	defer golden.Close()
	seen := map[string]bool{}
	lines := bufio.NewScanner(golden)
	run(t, func(ctx context.Context) error {
		if len(seen) > 0 { // the second run
			if _, err := golden.Seek(0, 0); err != nil {
				return err
			}
			lines = bufio.NewScanner(golden)
		}
		// CPython's recording ignores reports too
		loop(t, ctx).SetExceptionHandler(func(*asyncio.EventLoop, asyncio.ExceptionContext) {})
		for lines.Scan() {
			f := strings.SplitN(lines.Text(), " ", 3)
			name, when, want := f[0], f[1], f[2]
			if constructs[name] == nil {
				t.Fatalf("no construct %s", name)
			}
			seen[name] = true
			var cancels []int
			for j := range strings.SplitSeq(when, "+") {
				if n, err := strconv.Atoi(j); err == nil {
					cancels = append(cancels, n)
				}
			}
			if got := runCancelled(t, ctx, constructs[name], cancels); got != want {
				t.Errorf("%s, cancelled at %s: %s; CPython: %s", name, when, got, want)
			}
		}
		return lines.Err()
	})
	if len(seen) != len(constructs) {
		t.Errorf("%d constructs in the golden file, %d in Go", len(seen), len(constructs))
	}
}
