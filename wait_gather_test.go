package asyncio_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
)

func TestGather_OrderOfArguments(t *testing.T) {
	run(t, func(ctx context.Context) error {
		task := asyncio.CreateTask(ctx, after(time.Second, 2, nil))
		future := asyncio.CreateFuture[int](ctx)
		loop(t, ctx).CallLater(2*time.Second, func() { must(t, future.SetResult(3)) })
		got, err := asyncio.Gather(ctx, []asyncio.Awaitable[int]{after(3*time.Second, 1, nil), task, future, task}...)
		equal(t, "results", got, []int{1, 2, 3, 2})
		if now := loop(t, ctx).Time().SinceStart(); now != 3*time.Second {
			t.Errorf("took %v", now)
		}
		return err
	})
}

func TestGather_FirstErrorReturnsAndTheOthersGoOn(t *testing.T) {
	run(t, func(ctx context.Context) error {
		slow := asyncio.CreateTask(ctx, after(5*time.Second, 1, nil))
		late := asyncio.CreateTask(ctx, after(6*time.Second, 1, errors.New("late")))
		_, err := asyncio.Gather(ctx, slow, asyncio.CreateTask(ctx, after(time.Second, 0, errTest)), late)
		if err != errTest || loop(t, ctx).Time().SinceStart() != time.Second {
			t.Errorf("%v at %v", err, loop(t, ctx).Time())
		}
		v, err := slow.Await(ctx)
		if v != 1 {
			t.Errorf("slow = %v", v)
		}
		settle(t, ctx)
		return errors.Join(err, asyncio.Sleep(ctx, time.Minute)) // late's error is not reported
	})
}

func TestGatherResults(t *testing.T) {
	run(t, func(ctx context.Context) error {
		doomed := asyncio.CreateTask(ctx, after(time.Hour, 0, nil))
		loop(t, ctx).CallLater(time.Second, func() { doomed.Cancel("x") })
		got, err := asyncio.GatherResults(ctx, asyncio.CreateTask(ctx, after(2, 7, nil)), asyncio.CreateTask(ctx, after(1, 0, errTest)), doomed)
		if len(got) != 3 || got[0].Value != 7 || got[0].Err != nil || got[1].Err != errTest || !errors.Is(got[2].Err, asyncio.ErrCancelled) {
			t.Errorf("%v", got)
		}
		return err
	})
}

func TestGather_CancelledChildIsAnError(t *testing.T) {
	run(t, func(ctx context.Context) error {
		child := asyncio.CreateTask(ctx, sleeper(time.Hour))
		gather := asyncio.CreateTask(ctx, func(ctx context.Context) ([]asyncio.None, error) { return asyncio.Gather(ctx, child) })
		settle(t, ctx)
		child.Cancel()
		if _, err := gather.Await(ctx); !errors.Is(err, asyncio.ErrCancelled) || gather.Cancelling() != 0 {
			t.Errorf("%v", err)
		}
		return nil
	})
}

// With return_exceptions, a cancelled gather still waits for all children and then reports the
// cancel.
func TestGatherResults_Cancelled(t *testing.T) {
	run(t, func(ctx context.Context) error {
		var ended []int
		stubborn := func(i int, d time.Duration) *asyncio.Task[asyncio.None] {
			return asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error {
				err := asyncio.Sleep(ctx, time.Hour)
				_ = asyncio.Sleep(ctx, d)
				ended = append(ended, i)
				return err
			}))
		}
		a, b := stubborn(1, 2*time.Second), stubborn(2, time.Second)
		gather := asyncio.CreateTask(ctx, func(ctx context.Context) ([]asyncio.Result[asyncio.None], error) {
			return asyncio.GatherResults(ctx, a, b)
		})
		settle(t, ctx)
		gather.Cancel()
		_, err := gather.Await(ctx)
		if !errors.Is(err, asyncio.ErrCancelled) || !gather.Cancelled() {
			t.Errorf("%v", err)
		}
		equal(t, "ended", ended, []int{2, 1})
		return nil
	})
}

func TestGather_CancelKeepsItsMessage(t *testing.T) {
	run(t, func(ctx context.Context) error {
		for name, gather := range map[string]func(ctx context.Context) error{
			"Gather": func(ctx context.Context) error { _, err := asyncio.Gather(ctx, sleeper(time.Second)); return err },
			"GatherResults": func(ctx context.Context) error {
				_, err := asyncio.GatherResults(ctx, sleeper(time.Second))
				return err
			},
		} {
			task := asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error {
				for {
					if err := gather(ctx); err != nil {
						return err
					}
				}
			}))
			must(t, asyncio.Sleep(ctx, 5*time.Second/2))
			task.Cancel("my message")
			_, err := task.Await(ctx)
			var c *asyncio.CancelledError
			if !errors.As(err, &c) || c.Msg != "my message" {
				t.Errorf("%s: %v", name, err)
			}
		}
		return nil
	})
}

// A cancel of Gather cancels every child, and no child does what comes after its wait.
func TestGather_CancelReachesEveryChild(t *testing.T) {
	run(t, func(ctx context.Context) error {
		f, proof := asyncio.CreateFuture[int](ctx), 0
		child := func() *asyncio.Task[int] {
			return asyncio.CreateTask(ctx, func(ctx context.Context) (int, error) {
				v, err := f.Await(ctx)
				if err == nil {
					proof++
				}
				return v, err
			})
		}
		a, b := child(), child()
		c := asyncio.CreateTask(ctx, after(time.Hour, 1, nil))
		task := asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error {
			_, err := asyncio.Gather(ctx, a, b, c)
			if err == nil {
				proof += 100
			}
			return err
		}))
		must(t, yields(ctx, 1))
		is(t, "Cancel", task.Cancel(), true)
		endsCancelled(t, ctx, task)
		if !f.Cancelled() || !a.Cancelled() || !b.Cancelled() || !c.Cancelled() || proof != 0 {
			t.Error(f, a, b, c, proof)
		}
		return nil
	})
}

func TestGather_BadArgumentsStartNothing(t *testing.T) {
	run(t, func(ctx context.Context) error {
		started := false
		ok := asyncio.Coroutine[int](func(context.Context) (int, error) { started = true; return 0, nil })
		var noFuture *asyncio.Future[int]
		for _, bad := range []asyncio.Awaitable[int]{nil, asyncio.Coroutine[int](nil), noFuture} {
			if _, err := asyncio.Gather[int, asyncio.Awaitable[int]](ctx, ok, bad); !errors.Is(err, asyncio.ErrInvalidArgument) {
				t.Errorf("%T: %v", bad, err)
			}
		}
		settle(t, ctx)
		if started {
			t.Error("a coroutine was started")
		}
		return nil
	})
}

func TestGather_NothingNeedsALoopToo(t *testing.T) {
	_, err := asyncio.Gather[int, *asyncio.Task[int]](t.Context())
	wantErr(t, "Gather()", err, asyncio.ErrNoRunningLoop)
	run(t, func(ctx context.Context) error {
		got, err := asyncio.Gather[int, *asyncio.Task[int]](ctx)
		if got == nil || len(got) != 0 {
			t.Errorf("%v, want an empty slice", got)
		}
		return err
	})
}

// A coroutine given twice is run twice: it is a function, not an object that is used up.
func TestGather_TheSameCoroutineTwice(t *testing.T) {
	run(t, func(ctx context.Context) error {
		n := 0
		count := asyncio.Coroutine[int](func(context.Context) (int, error) { n++; return n, nil })
		got, err := asyncio.Gather(ctx, count, count, instant, count)
		equal(t, "results", got, []int{1, 2, 1, 3})
		return err
	})
}

// Gather looks at each argument when it takes it. Here a later child, started eagerly, completes a
// future that was pending when Gather took it. So Gather ends by the future's callback, one
// iteration later, and not in the same step.
func TestGather_LooksAtEachArgumentWhenItTakesIt(t *testing.T) {
	for _, c := range []struct {
		childFirst bool
		want       []string
	}{{false, []string{"callback", "gathered"}}, {true, []string{"gathered", "callback"}}} {
		for _, gather := range []func(ctx context.Context, a, b asyncio.Awaitable[int]) error{
			func(ctx context.Context, a, b asyncio.Awaitable[int]) error {
				_, err := asyncio.Gather(ctx, a, b)
				return err
			},
			func(ctx context.Context, a, b asyncio.Awaitable[int]) error {
				_, err := asyncio.GatherResults(ctx, a, b)
				return err
			},
			func(ctx context.Context, a, b asyncio.Awaitable[int]) error {
				_, _, err := asyncio.Gather2(ctx, a, b)
				return err
			},
		} {
			run(t, func(ctx context.Context) error {
				loop(t, ctx).SetTaskFactory(asyncio.EagerTaskFactory)
				var order []string
				f := asyncio.CreateFuture[int](ctx)
				loop(t, ctx).CallSoon(func() { order = append(order, "callback") })
				args := []asyncio.Awaitable[int]{f, asyncio.Coro(func(context.Context) (int, error) { return 0, f.SetResult(7) })}
				if c.childFirst {
					slices.Reverse(args)
				}
				must(t, gather(ctx, args[0], args[1]))
				order = append(order, "gathered")
				settle(t, ctx)
				equal(t, "order", order, c.want)
				return nil
			})
		}
	}
}

// If a task factory panics in the middle, the tasks made so far are as if nobody had gathered them.
func TestGather_FactoryPanics(t *testing.T) {
	r, err := runReporting(t, func(ctx context.Context) error {
		made := 0
		loop(t, ctx).SetTaskFactory(func(*asyncio.EventLoop, *asyncio.TaskRequest) {
			if made++; made == 2 {
				panic(errTest)
			}
		})
		fails := asyncio.Coroutine[int](func(context.Context) (int, error) { return 0, errTest })
		if err := panicOf(func() { _, _ = asyncio.Gather(ctx, fails, fails) }); err != errTest {
			t.Error(err)
		}
		settle(t, ctx)
		return nil
	})
	must(t, err)
	equal(t, "reports", r.messages(), []string{"Task exception was never retrieved"})
}

// A cancel reaches each task once, however many paths lead to it (future 4). Here there are two to
// the power of the number of layers.
func TestGather_LatticeIsCancelledOnce(t *testing.T) {
	for what, wait := range map[string]func(ctx context.Context, below []*asyncio.Task[int]) error{
		"Gather": func(ctx context.Context, below []*asyncio.Task[int]) error {
			_, err := asyncio.Gather(ctx, below...)
			return err
		},
		"GatherResults": func(ctx context.Context, below []*asyncio.Task[int]) error {
			_, err := asyncio.GatherResults(ctx, below...)
			return err
		},
		"Gather of tasks that wait for them": func(ctx context.Context, below []*asyncio.Task[int]) error {
			_, err := asyncio.Gather(ctx, asyncio.Coroutine[int](below[0].Await), below[1].Await)
			return err
		},
		"a group of tasks that wait for them": func(ctx context.Context, below []*asyncio.Task[int]) error {
			return asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg *asyncio.TaskGroup) error {
				for _, b := range below {
					asyncio.GroupTask(ctx, tg, b.Await)
				}
				return nil
			})
		},
		"StaggeredRace": func(ctx context.Context, below []*asyncio.Task[int]) error {
			_, _, _, err := asyncio.StaggeredRace(ctx, 0, asyncio.Coroutine[int](below[0].Await), below[1].Await)
			return err
		},
	} {
		runFast(t, func(ctx context.Context) error {
			const layers = 16
			forever := func(ctx context.Context) (int, error) { return 0, asyncio.Sleep(ctx, asyncio.Forever) }
			below := []*asyncio.Task[int]{asyncio.CreateTask(ctx, forever), asyncio.CreateTask(ctx, forever)}
			bottom := below
			all := below
			for range layers {
				under := below
				layer := func(ctx context.Context) (int, error) { return 0, wait(ctx, under) }
				below = []*asyncio.Task[int]{asyncio.CreateTask(ctx, layer), asyncio.CreateTask(ctx, layer)}
				all = append(all, below...)
			}
			for range 4 * layers {
				must(t, asyncio.Sleep(ctx, 0))
			}
			below[0].Cancel()
			most := 0
			for _, task := range bottom {
				_, err := task.Await(ctx)
				asCancelled(t, err)
			}
			for _, task := range all {
				most = max(most, task.Cancelling())
			}
			if most > 4 {
				t.Errorf("%s: a task was cancelled %d times", what, most)
			}
			if strings.HasPrefix(what, "Gather") && most != 1 {
				t.Errorf("%s: a task was cancelled %d times, want once", what, most)
			}
			_, err := asyncio.GatherResults(ctx, all...)
			return err
		})
	}
}

// gatherings are the ways to gather the same awaitables of ints: in a slice, and as arguments of
// several types. All types are int here, so the results can be compared.
var gatherings = map[string]func(ctx context.Context, a []asyncio.Awaitable[int]) ([]int, error){
	"Gather": func(ctx context.Context, a []asyncio.Awaitable[int]) ([]int, error) { return asyncio.Gather(ctx, a...) },
	"mixed": func(ctx context.Context, a []asyncio.Awaitable[int]) (vs []int, err error) {
		switch vs = make([]int, len(a)); len(a) {
		case 2:
			vs[0], vs[1], err = asyncio.Gather2(ctx, a[0], a[1])
		case 3:
			vs[0], vs[1], vs[2], err = asyncio.Gather3(ctx, a[0], a[1], a[2])
		case 4:
			vs[0], vs[1], vs[2], vs[3], err = asyncio.Gather4(ctx, a[0], a[1], a[2], a[3])
		}
		if err != nil {
			if !reflect.DeepEqual(vs, make([]int, len(a))) {
				err = fmt.Errorf("values beside an error: %v, %w", vs, err)
			}
			return nil, err
		}
		return vs, nil
	},
}

// Gather2 to Gather4 do the same as Gather in as many iterations. The test has each kind of
// awaitable in each place, errors, cancels from below and above, and the end of the context.
func TestGatherMixed_AsGather(t *testing.T) {
	var trigger *asyncio.Future[int] // completed once the gathering waits
	kinds := map[string]func(tk *ticker) asyncio.Awaitable[int]{
		"done future":    func(tk *ticker) asyncio.Awaitable[int] { return tk.doneFuture() },
		"future":         func(tk *ticker) asyncio.Awaitable[int] { return trigger },
		"coroutine":      func(*ticker) asyncio.Awaitable[int] { return asyncio.Coroutine[int](instant) },
		"other":          func(*ticker) asyncio.Awaitable[int] { return other{} },
		"waiting":        func(*ticker) asyncio.Awaitable[int] { return asyncio.Coroutine[int](trigger.Await) },
		"task":           func(tk *ticker) asyncio.Awaitable[int] { return asyncio.CreateTask(tk.ctx, instant) },
		"failing":        func(*ticker) asyncio.Awaitable[int] { return after(0, 0, errTest) },
		"cancelled task": func(tk *ticker) asyncio.Awaitable[int] { return cancelledTask(tk) },
	}
	triggers := map[string]func(task *asyncio.Task[asyncio.None], end context.CancelFunc){
		"result":  func(*asyncio.Task[asyncio.None], context.CancelFunc) { _ = trigger.SetResult(7) },
		"error":   func(*asyncio.Task[asyncio.None], context.CancelFunc) { _ = trigger.SetException(errTest) },
		"cancel":  func(task *asyncio.Task[asyncio.None], _ context.CancelFunc) { task.Cancel("above") },
		"below":   func(*asyncio.Task[asyncio.None], context.CancelFunc) { trigger.Cancel("below") },
		"context": func(_ *asyncio.Task[asyncio.None], end context.CancelFunc) { end() },
	}
	var r reports
	_, err := asyncio.Run(onVirtualTime(context.WithoutCancel(t.Context()), &r), asyncio.Do(func(ctx context.Context) error {
		tk := newTicker(t, ctx)
		must(t, asyncio.Sleep(ctx, 0))
		compared := 0
		for n := 2; n <= 4; n++ {
			for one, first := range kinds {
				for two, second := range kinds {
					for what, act := range triggers {
						saw := make(map[string]string)
						for name, gather := range gatherings {
							trigger = tk.future()
							inner, end := asyncio.WithCancel(ctx)
							ticks := tk.observe(func(context.Context) error {
								aws := []asyncio.Awaitable[int]{first(tk), second(tk), trigger, asyncio.Coroutine[int](instant)}[:n]
								vs, err := gather(inner, aws)
								if c, ok := err.(*asyncio.CancelledError); ok {
									c.By = "" // removed, because it contains task numbers
								}
								saw[name] = fmt.Sprintf("%v, %v", vs, err)
								return nil
							}, func(task *asyncio.Task[asyncio.None]) { act(task, end) })
							end()
							saw[name] += fmt.Sprintf(" after %d ticks; future: %v", ticks, trigger)
							_ = trigger.SetResult(0) // so that all children end
							_ = trigger.Exception()
							settle(t, ctx)
						}
						if saw["Gather"] != saw["mixed"] {
							t.Errorf("%d of (%s, %s, …), %s:\n\tGather: %s\n\tmixed:  %s", n, one, two, what, saw["Gather"], saw["mixed"])
						}
						compared++
					}
				}
			}
		}
		tk.h.Cancel()
		t.Logf("%d gatherings compared", compared)
		return nil
	}))
	must(t, err)
	if m := r.messages(); len(m) > 0 {
		t.Errorf("exception handler: %v", m)
	}
}

// other is an awaitable that the library does not know.
type other struct{}

func (other) Await(ctx context.Context) (int, error) { return 3, asyncio.Sleep(ctx, 0) }

func cancelledTask(tk *ticker) *asyncio.Task[int] {
	task := asyncio.CreateTask(tk.ctx, instant)
	task.Cancel("before")
	return task
}

func TestGatherMixed_Types(t *testing.T) {
	run(t, func(ctx context.Context) error {
		f := asyncio.CreateFuture[error](ctx)
		loop(t, ctx).CallLater(time.Second, func() { must(t, f.SetResult(errTest)) })
		task := asyncio.CreateTask(ctx, after(time.Second, 2, nil))
		s, n, none, e, err := asyncio.Gather4(ctx, fetch("a", time.Second), task, asyncio.Do(nothing), f)
		if s != "a" || n != 2 || none != (asyncio.None{}) || e != errTest || err != nil {
			t.Errorf("%v, %v, %v, %v, %v", s, n, none, e, err)
		}
		a, b, err := asyncio.Gather2(ctx, task, task) // the same task twice
		if a != 2 || b != 2 || err != nil {
			t.Errorf("%v, %v, %v", a, b, err)
		}
		return nil
	})
}

// A wrong argument in any place starts nothing.
func TestGatherMixed_Misuse(t *testing.T) {
	run(t, func(ctx context.Context) error {
		started := false
		ok := asyncio.Coroutine[int](func(context.Context) (int, error) { started = true; return 1, nil })
		foreign := asyncio.NewEventLoop(context.WithoutCancel(ctx))
		defer func() { must(t, foreign.Close()) }()
		strange := asyncio.CreateFuture[string](foreign.Context())
		for what, c := range map[string]struct {
			err, want error
		}{
			"nil interface": {third(asyncio.Gather2[int, string](ctx, ok, nil)), asyncio.ErrInvalidArgument},
			"nil coroutine": {third(asyncio.Gather2(ctx, ok, asyncio.Coroutine[string](nil))), asyncio.ErrInvalidArgument},
			"nil future":    {third(asyncio.Gather2(ctx, ok, (*asyncio.Future[string])(nil))), asyncio.ErrInvalidArgument},
			"nil task":      {third(asyncio.Gather2(ctx, (*asyncio.Task[string])(nil), ok)), asyncio.ErrInvalidArgument},
			"another loop":  {third(asyncio.Gather2(ctx, ok, strange)), asyncio.ErrDifferentLoop},
			"no loop":       {third(asyncio.Gather2(context.Background(), ok, ok)), asyncio.ErrNoRunningLoop},
			"nil context":   {third(asyncio.Gather2(nil, ok, ok)), asyncio.ErrInvalidArgument}, //nolint:staticcheck // that is the test
		} {
			if !errors.Is(c.err, c.want) || !strings.Contains(c.err.Error(), "(in Gather2)") {
				t.Errorf("%s: %v, want %v in Gather2", what, c.err, c.want)
			}
		}
		_, _, _, err3 := asyncio.Gather3(ctx, ok, ok, strange)
		_, _, _, _, err4 := asyncio.Gather4(ctx, ok, ok, ok, strange)
		_, errs := asyncio.GatherResults(ctx, strange)
		for name, err := range map[string]error{"Gather3": err3, "Gather4": err4, "GatherResults": errs} {
			if err == nil || !strings.Contains(err.Error(), "(in "+name+")") {
				t.Errorf("%s: %v", name, err)
			}
		}
		settle(t, ctx)
		if started {
			t.Error("a refused gathering has started a coroutine")
		}
		return nil
	})
}

func third[A, B any](_ A, _ B, err error) error { return err }

func ExampleGather2() {
	_, err := asyncio.Run(background, asyncio.Do(func(ctx context.Context) error {
		count := asyncio.CreateTask(ctx, func(ctx context.Context) (int, error) { return 42, asyncio.Sleep(ctx, time.Second) })
		page, n, err := asyncio.Gather2(ctx, fetch("page", 2*time.Second), count)
		fmt.Println(page, n)
		return err
	}))
	fmt.Println(err)
	// Output:
	// page 42
	// <nil>
}

func ExampleGather3() {
	_, err := asyncio.Run(background, asyncio.Do(func(ctx context.Context) error {
		saved := asyncio.Do(func(ctx context.Context) error { return asyncio.Sleep(ctx, time.Second) })
		price := asyncio.Coroutine[float64](func(context.Context) (float64, error) { return 9.5, nil })
		name, p, _, err := asyncio.Gather3(ctx, fetch("tea", time.Second), price, saved)
		fmt.Println(name, p)
		return err
	}))
	fmt.Println(err)
	// Output:
	// tea 9.5
	// <nil>
}

func ExampleGather4() {
	_, err := asyncio.Run(background, asyncio.Do(func(ctx context.Context) error {
		broken := asyncio.Coroutine[bool](func(context.Context) (bool, error) { return false, errors.New("no connection") })
		count := asyncio.CreateFuture[int](ctx)
		a, b, n, ok, err := asyncio.Gather4(ctx, fetch("a", time.Second), fetch("b", time.Second), count, broken)
		fmt.Printf("%q %q %d %t\n", a, b, n, ok)
		return err
	}))
	fmt.Println(err)
	// Output:
	// "" "" 0 false
	// no connection
}
