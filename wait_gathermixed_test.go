package asyncio_test

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
)

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
