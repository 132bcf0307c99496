package asyncio_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
)

// runner is a coroutine of a race: it takes d, and then succeeds with v or fails.
func runner(d time.Duration, v string, err error) asyncio.Coroutine[string] {
	return func(ctx context.Context) (string, error) {
		if e := asyncio.Sleep(ctx, d); e != nil {
			return "", e
		}
		return v, err
	}
}

func TestStaggeredRace(t *testing.T) {
	const s = time.Second
	now := func(v string, err error) asyncio.Coroutine[string] {
		return func(context.Context) (string, error) { return v, err }
	}
	for _, row := range []struct {
		name   string
		delay  time.Duration
		coros  []asyncio.Coroutine[string]
		winner string
		index  int
		errs   []error
		took   time.Duration
	}{
		{"nothing", asyncio.Forever, nil, "", -1, nil, 0},
		{"the first succeeds at once", asyncio.Forever, []asyncio.Coroutine[string]{now("a", nil), now("b", nil)}, "a", 0, []error{nil}, 0},
		{"the first fails", asyncio.Forever, []asyncio.Coroutine[string]{now("", errA), now("b", nil)}, "b", 1, []error{errA, nil}, 0},
		{"the first is slow", s, []asyncio.Coroutine[string]{runner(10*s, "a", nil), now("b", nil)}, "b", 1, []error{asyncio.ErrCancelled, nil}, s},
		{"the first is slow and sequential", asyncio.Forever, []asyncio.Coroutine[string]{runner(10*s, "a", nil), now("b", nil)}, "a", 0, []error{nil}, 10 * s},
		{"all fail", asyncio.Forever, []asyncio.Coroutine[string]{now("", errA), now("", errB)}, "", -1, []error{errA, errB}, 0},
		{"all fail, slowly", s, []asyncio.Coroutine[string]{runner(3*s, "", errA), runner(3*s, "", errB)}, "", -1, []error{errA, errB}, 4 * s},
		{"a failure starts the next before the delay", 5 * s, []asyncio.Coroutine[string]{runner(s, "", errA), runner(s, "b", nil), now("c", nil)}, "b", 1, []error{errA, nil}, 2 * s},
		{"the first wins after all", s, []asyncio.Coroutine[string]{runner(5*s/2, "a", nil), runner(9*s, "b", nil), runner(9*s, "c", nil), runner(9*s, "d", nil)},
			"a", 0, []error{nil, asyncio.ErrCancelled, asyncio.ErrCancelled}, 5 * s / 2},
		{"no delay", 0, []asyncio.Coroutine[string]{runner(2*s, "a", nil), runner(s, "b", nil)}, "b", 1, []error{asyncio.ErrCancelled, nil}, s},
	} {
		for name, factory := range map[string]asyncio.TaskFactory{"": nil, ", eagerly": asyncio.EagerTaskFactory} {
			t.Run(row.name+name, func(t *testing.T) {
				run(t, func(ctx context.Context) error {
					loop(t, ctx).SetTaskFactory(factory)
					began := loop(t, ctx).Time()
					winner, index, errs, err := asyncio.StaggeredRace(ctx, row.delay, row.coros...)
					if winner != row.winner || index != row.index || len(errs) != len(row.errs) {
						t.Fatalf("%q, %d, %v", winner, index, errs)
					}
					for i, want := range row.errs {
						if !errors.Is(errs[i], want) {
							t.Errorf("errs = %v", errs)
						}
					}
					is(t, "took", loop(t, ctx).Time().Sub(began), row.took)
					is(t, "tasks left", len(asyncio.AllTasks(ctx)), 1)
					return err
				})
			})
		}
	}
}

// The race waits for its losers, and drops their results.
func TestStaggeredRace_LosersCleanUp(t *testing.T) {
	run(t, func(ctx context.Context) error {
		stubborn := func(ctx context.Context) (string, error) {
			_ = asyncio.Sleep(ctx, time.Hour)
			return "late", asyncio.Sleep(ctx, time.Second)
		}
		winner, index, errs, err := asyncio.StaggeredRace(ctx, time.Minute, stubborn, runner(0, "b", nil))
		if winner != "b" || index != 1 || len(errs) != 2 || !errors.Is(errs[0], asyncio.ErrInvalidState) {
			t.Errorf("%q, %d, %v", winner, index, errs)
		}
		is(t, "took", loop(t, ctx).Time().SinceStart(), 61*time.Second)
		return err
	})
}

// A cancel, or the end of the context, comes in any iteration. Everything that runs is stopped and
// waited for.
func TestStaggeredRace_Left(t *testing.T) {
	logged := captureLog(t)
	defer func() {
		if logged() != "" { // such as a warning that a cancel was swallowed
			t.Error(logged())
		}
	}()
	for _, how := range []string{"cancel", "context", "both"} {
		t.Run(how, func(t *testing.T) {
			run(t, func(ctx context.Context) error {
				for n := range 12 {
					entered, left := 0, 0
					slow := func(ctx context.Context) (string, error) {
						entered++
						err := yields(ctx, 100)
						_ = asyncio.Sleep(context.WithoutCancel(ctx), time.Second)
						left++
						return "", err
					}
					inner, cancel := asyncio.WithCancel(ctx)
					task := asyncio.CreateTask(inner, asyncio.Do(func(ctx context.Context) error {
						_, index, _, err := asyncio.StaggeredRace(ctx, 0, slow, slow, slow)
						is(t, "index", index, -1)
						return err
					}))
					must(t, yields(ctx, n))
					if how != "context" {
						task.Cancel("enough")
					}
					if how != "cancel" {
						cancel()
					}
					_, err := task.Await(ctx)
					var c *asyncio.CancelledError
					if how == "context" && err != context.Canceled || how != "context" && (!errors.As(err, &c) || c.Msg != "enough") {
						t.Errorf("after %d iterations: %v", n, err)
					}
					if entered != left || len(asyncio.AllTasks(ctx)) != 1 {
						t.Errorf("after %d iterations: %d entered, %d left, %v", n, entered, left, asyncio.AllTasks(ctx))
					}
					cancel()
				}
				return nil
			})
		})
	}
}

func TestStaggeredRace_Panic(t *testing.T) {
	var first error
	r, err := runReporting(t, func(ctx context.Context) error {
		_, _, errs, err := asyncio.StaggeredRace(ctx, time.Second, runner(time.Hour, "a", nil),
			func(context.Context) (string, error) { panic("x") }, runner(0, "c", nil))
		if len(errs) > 0 {
			first = errs[0]
		}
		is(t, "at", loop(t, ctx).Time().SinceStart(), time.Second)
		return err
	})
	var p *asyncio.PanicError
	if !errors.As(err, &p) || p.Value != "x" || !errors.Is(first, asyncio.ErrCancelled) {
		t.Error(err, first)
	}
	equal(t, "reports", r.messages(), []string{"panic in task"})
}

// Only the winner's entry is nil. A cancel from outside that keeps a coroutine from starting ends
// the race.
func TestStaggeredRace_Entries(t *testing.T) {
	r, err := runReporting(t, func(ctx context.Context) error {
		bad := func(context.Context) (string, error) { panic(errTest) }
		_, index, errs, err := asyncio.StaggeredRace(ctx, time.Second, runner(time.Hour, "a", nil), bad)
		var p *asyncio.PanicError
		if index != -1 || len(errs) != 2 || !errors.Is(errs[0], asyncio.ErrCancelled) || !errors.As(errs[1], &p) || err != errs[1] {
			t.Errorf("%d, %v, %v", index, errs, err)
		}

		for entered := range 3 { // how many have started when all tasks are cancelled
			me := asyncio.CurrentTask(ctx)
			cancelAll := func() {
				for _, task := range asyncio.AllTasks(ctx) {
					if task != me {
						task.Cancel("all of you")
					}
				}
			}
			if entered == 0 {
				loop(t, ctx).CallSoon(cancelAll)
			} else {
				loop(t, ctx).CallLater(time.Duration(entered)*time.Second-time.Millisecond, cancelAll)
			}
			slow := runner(time.Hour, "a", nil)
			_, index, errs, err := asyncio.StaggeredRace(ctx, time.Second, slow, slow, slow, slow)
			var c *asyncio.CancelledError
			if index != -1 || len(errs) != entered || !errors.As(err, &c) || c.Msg != "all of you" {
				t.Errorf("with %d entered: %d, %v, %v", entered, index, errs, err)
			}
			for _, err := range errs {
				wantErr(t, "an entry", err, asyncio.ErrCancelled)
			}
		}
		return nil
	})
	must(t, err)
	equal(t, "reports", r.messages(), []string{"panic in task"})
}

func TestStaggeredRace_Misuse(t *testing.T) {
	run(t, func(ctx context.Context) error {
		_, _, _, nilErr := asyncio.StaggeredRace(ctx, 0, runner(0, "a", nil), nil)
		wantErr(t, "a nil coroutine", nilErr, asyncio.ErrInvalidArgument)
		_, _, _, loopErr := asyncio.StaggeredRace(t.Context(), 0, runner(0, "a", nil))
		wantErr(t, "no loop", loopErr, asyncio.ErrNoRunningLoop)
		return nil
	})
}

func ExampleStaggeredRace() {
	dial := func(address string, takes time.Duration) asyncio.Coroutine[string] {
		return func(ctx context.Context) (string, error) {
			fmt.Println("trying", address)
			return "connected to " + address, asyncio.Sleep(ctx, takes)
		}
	}
	_, err := asyncio.Run(context.Background(), asyncio.Do(func(ctx context.Context) error {
		conn, _, _, err := asyncio.StaggeredRace(ctx, 250*time.Microsecond, dial("[2001:db8::1]", time.Hour), dial("192.0.2.1", 0))
		fmt.Println(conn)
		return err
	}))
	fmt.Println(err)
	// Output:
	// trying [2001:db8::1]
	// trying 192.0.2.1
	// connected to 192.0.2.1
	// <nil>
}
