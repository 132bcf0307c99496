package asyncio_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
)

func TestFuture_States(t *testing.T) {
	run(t, func(ctx context.Context) error {
		f := asyncio.CreateFuture[int](ctx)
		if f.Done() || f.Cancelled() {
			t.Error("a new future is not pending")
		}
		if _, err := f.Result(); !errors.Is(err, asyncio.ErrInvalidState) {
			t.Errorf("Result of a pending future: %v", err)
		}
		if err := f.Exception(); !errors.Is(err, asyncio.ErrInvalidState) {
			t.Errorf("Exception of a pending future: %v", err)
		}
		must(t, f.SetResult(3))
		for what, err := range map[string]error{
			"SetResult": f.SetResult(4), "SetException": f.SetException(errTest),
		} {
			if !errors.Is(err, asyncio.ErrInvalidState) {
				t.Errorf("%s twice: %v", what, err)
			}
		}
		if f.Cancel() {
			t.Error("Cancel of a done future = true")
		}
		if v, err := f.Result(); v != 3 || err != nil || f.Exception() != nil {
			t.Errorf("Result() = %v, %v", v, err)
		}

		f = asyncio.CreateFuture[int](ctx)
		must(t, f.SetException(errTest))
		if _, err := f.Result(); err != errTest || f.Exception() != errTest || f.Cancelled() {
			t.Errorf("Result() = %v", err)
		}
		if err := f.SetException(nil); !errors.Is(err, asyncio.ErrInvalidArgument) {
			t.Errorf("SetException(nil) = %v", err)
		}
		for what, err := range map[string]error{"SetResult": f.SetResult(4), "SetException": f.SetException(errTest)} {
			if !errors.Is(err, asyncio.ErrInvalidState) {
				t.Errorf("%s after SetException: %v", what, err)
			}
		}
		if f.Cancel() {
			t.Error("Cancel of a future with an error = true")
		}

		f = asyncio.CreateFuture[int](ctx)
		if !f.Cancel("why") || !f.Cancelled() || !f.Done() {
			t.Error("Cancel of a pending future")
		}
		_, err := f.Await(ctx)
		var c *asyncio.CancelledError
		if !errors.As(err, &c) || c.Msg != "why" || c.By != "Task-1" ||
			!errors.Is(err, asyncio.ErrCancelled) || !errors.Is(err, context.Canceled) {
			t.Errorf("Await of a cancelled future: %v", err)
		}
		if err := f.SetResult(1); !errors.Is(err, asyncio.ErrInvalidState) {
			t.Errorf("SetResult of a cancelled future: %v", err)
		}
		return nil
	})
}

func TestFuture_CancelCause(t *testing.T) {
	run(t, func(ctx context.Context) error {
		f := asyncio.CreateFuture[int](ctx)
		f.CancelCause(errTest)
		if err := f.Exception(); !errors.Is(err, errTest) || !errors.Is(err, asyncio.ErrCancelled) {
			t.Errorf("err = %v", err)
		}
		return nil
	})
}

func TestFuture_DoneCallbacks(t *testing.T) {
	run(t, func(ctx context.Context) error {
		var got []string
		f := asyncio.CreateFuture[int](ctx)
		add := func(s string) *asyncio.DoneCallback {
			return f.AddDoneCallback(func(g *asyncio.Future[int]) {
				if g != f {
					t.Error("callback got another future")
				}
				got = append(got, s)
			})
		}
		add("a")
		b := add("b")
		add("c")
		d := add("d")
		if n := f.RemoveDoneCallback(b) + f.RemoveDoneCallback(d) + f.RemoveDoneCallback(b); n != 2 {
			t.Errorf("removed %d, want 2", n)
		}
		must(t, f.SetResult(1))
		equal(t, "inline", got, nil)
		e := add("e")
		if f.RemoveDoneCallback(e) != 0 {
			t.Error("removed a callback that is scheduled")
		}
		settle(t, ctx)
		equal(t, "order", got, []string{"a", "c", "e"})
		return nil
	})
}

// The exception handler is told which callback panicked.
func TestFuture_CallbackThatPanicsHasAHandle(t *testing.T) {
	r, err := runReporting(t, func(ctx context.Context) error {
		f := asyncio.CreateFuture[int](ctx)
		f.AddDoneCallback(func(*asyncio.Future[int]) { panic(errTest) })
		must(t, f.SetResult(1))
		settle(t, ctx)
		return nil
	})
	must(t, err)
	if len(r.all) != 1 || r.all[0].Handle == nil ||
		!strings.HasPrefix(r.all[0].Handle.String(), "<Handle asyncio_test.TestFuture_CallbackThatPanicsHasAHandle.") {
		t.Errorf("%+v", r.all)
	}
}

// The remaining callbacks run in the order of adding, whichever callbacks were removed and
// whenever.
func TestFuture_RemovesInAnyOrder(t *testing.T) {
	for seed := range uint64(60) {
		run(t, func(ctx context.Context) error {
			choose := rand.New(rand.NewPCG(seed, 0))
			f := asyncio.CreateFuture[int](ctx)
			type added struct {
				n  int
				cb *asyncio.DoneCallback
			}
			var want []added
			var got []int
			most := 1 + choose.IntN(300)
			for n := range 1000 {
				if len(want) < most && choose.IntN(5) < 3 {
					want = append(want, added{n, f.AddDoneCallback(func(*asyncio.Future[int]) { got = append(got, n) })})
				} else if len(want) > 0 {
					at := [...]int{0, len(want) - 1, choose.IntN(len(want)), choose.IntN(len(want))}[choose.IntN(4)]
					is(t, "removed", f.RemoveDoneCallback(want[at].cb), 1)
					is(t, "removed again", f.RemoveDoneCallback(want[at].cb), 0)
					want = slices.Delete(want, at, at+1)
				}
			}
			must(t, f.SetResult(1))
			settle(t, ctx)
			left := []int{}
			for _, a := range want {
				left = append(left, a.n)
			}
			equal(t, fmt.Sprintf("seed %d: called", seed), append([]int{}, got...), left)
			return nil
		})
	}
}

// Removing a callback from a future takes constant time in any order, even if the callback is not
// there.
func TestFuture_RemovingIsCheap(t *testing.T) {
	const n = 5000
	for name, order := range map[string]func(i int) int{
		"as they came": func(i int) int { return i },
		"in reverse":   func(i int) int { return n - 1 - i },
		"any":          func(i int) int { return i * 1237 % n },
		"from the middle": func(i int) int {
			if i%2 == 0 {
				return n/2 + i/2
			}
			return n/2 - 1 - i/2
		},
	} {
		runFast(t, func(ctx context.Context) error {
			f, none := asyncio.CreateFuture[int](ctx), new(asyncio.DoneCallback)
			all := make([]*asyncio.DoneCallback, n)
			for i := range all {
				all[i] = f.AddDoneCallback(func(*asyncio.Future[int]) {})
			}
			looked := asyncio.PassedOver(func() {
				for i := range all {
					is(t, "removed", f.RemoveDoneCallback(all[order(i)]), 1)
				}
			})
			looked += asyncio.PassedOver(func() {
				for i := range all {
					all[i] = f.AddDoneCallback(func(*asyncio.Future[int]) {})
				}
				for range n {
					is(t, "removed", f.RemoveDoneCallback(none), 0)
				}
			})
			if looked > 4*n {
				t.Errorf("%s: %d were looked at for %d that left", name, looked, n)
			}
			return nil
		})
	}
}

// Thousands of tasks wait for one future, and each can leave, in any order. Those that stay are
// woken in the order in which they came.
func TestFuture_ManyLeave(t *testing.T) {
	const n = 4_000
	leave := map[string]func(order []int){
		"oldest first": func([]int) {},
		"newest first": slices.Reverse[[]int],
		"at random": func(order []int) {
			rand.New(rand.NewPCG(1, 2)).Shuffle(n, func(i, j int) { order[i], order[j] = order[j], order[i] })
		},
	}
	for name, mix := range leave {
		runFast(t, func(ctx context.Context) error {
			f := asyncio.CreateFuture[int](ctx)
			var told []int
			callbacks := make([]*asyncio.DoneCallback, n)
			order := make([]int, n)
			for i := range n {
				callbacks[i] = f.AddDoneCallback(func(*asyncio.Future[int]) { told = append(told, i) })
				order[i] = i
			}
			mix(order)
			stays := make([]bool, n)
			for k, i := range order {
				if stays[i] = k%400 == 399; stays[i] {
					continue
				}
				if removed := f.RemoveDoneCallback(callbacks[i]); removed != 1 {
					t.Fatalf("%s: %d callbacks removed", name, removed)
				}
				if removed := f.RemoveDoneCallback(callbacks[i]); k%400 == 0 && removed != 0 {
					t.Fatalf("%s: removed again", name)
				}
			}
			callbacks[0] = f.AddDoneCallback(func(*asyncio.Future[int]) { told = append(told, n) })
			must(t, f.SetResult(1))
			settle(t, ctx)
			if len(told) != n/400+1 || !slices.IsSorted(told) || !slices.ContainsFunc(told, func(i int) bool { return i == n }) {
				t.Errorf("%s: told %v", name, told)
			}
			return nil
		})
	}
}

func TestFuture_CallbackThatPanics(t *testing.T) {
	r, err := runReporting(t, func(ctx context.Context) error {
		f := asyncio.CreateFuture[int](ctx)
		f.AddDoneCallback(func(*asyncio.Future[int]) { panic("oops") })
		must(t, f.SetResult(1))
		settle(t, ctx)
		return nil
	})
	if err != nil || len(r.all) != 1 || !strings.Contains(r.all[0].Message, "TestFuture_CallbackThatPanics") {
		t.Errorf("%v, %v", err, r.messages())
	}
}

func TestFuture_SeveralWaiters(t *testing.T) {
	run(t, func(ctx context.Context) error {
		f := asyncio.CreateFuture[string](ctx)
		var got []string
		var tasks []*asyncio.Task[string]
		for i := range 4 {
			tasks = append(tasks, asyncio.CreateTask(ctx, func(ctx context.Context) (string, error) {
				v, err := f.Await(ctx)
				got = append(got, fmt.Sprint(v, i))
				return v, err
			}))
		}
		settle(t, ctx)
		tasks[0].SetName("first")
		must(t, f.SetResult("x"))
		if _, err := asyncio.Gather(ctx, tasks...); err != nil {
			return err
		}
		equal(t, "order", got, []string{"x0", "x1", "x2", "x3"})
		return nil
	})
}

// An error that nobody retrieved is reported when the loop closes (design 3).
func TestReports_AtClose(t *testing.T) {
	r, err := runReporting(t, func(ctx context.Context) error {
		lost := asyncio.CreateFuture[int](ctx)
		must(t, lost.SetException(errTest))
		seen := asyncio.CreateFuture[int](ctx)
		must(t, seen.SetException(errTest))
		_ = seen.Exception()
		asyncio.CreateTask(ctx, func(context.Context) (int, error) { return 0, errTest }, asyncio.Name("lost"))
		asyncio.CreateTask(ctx, func(ctx context.Context) (int, error) { return 0, ctx.Err() })
		settle(t, ctx)
		return nil
	})
	must(t, err)
	equal(t, "reports", r.messages(), []string{"Future exception was never retrieved", "Task exception was never retrieved"})
	if len(r.all) == 2 && (!errors.Is(r.all[1].Exception, errTest) || !strings.Contains(r.all[1].Source, "<Task finished name='lost' coro=<asyncio_test.TestReports_AtClose.func1.1() done, defined at ")) {
		t.Errorf("%+v", r.all[1])
	}
}

// On the real clock, the garbage collector notices an unretrieved error earlier.
func TestReports_Collected(t *testing.T) {
	var r reports
	_, err := asyncio.Run(t.Context(), asyncio.Do(func(ctx context.Context) error {
		loop(t, ctx).SetExceptionHandler(r.handle)
		asyncio.CreateTask(ctx, func(context.Context) (int, error) { return 0, errTest })
		for end := time.Now().Add(10 * time.Second); len(r.messages()) == 0 && time.Now().Before(end); {
			runtime.GC()
			if err := asyncio.Sleep(ctx, time.Millisecond); err != nil {
				return err
			}
		}
		equal(t, "before the end", r.messages(), []string{"Task exception was never retrieved"})
		return nil
	}))
	must(t, err)
	equal(t, "in all", r.messages(), []string{"Task exception was never retrieved"})
}

func TestReports_DefaultLogs(t *testing.T) {
	logged := captureLog(t)
	_, err := asyncio.Run(t.Context(), asyncio.Do(func(ctx context.Context) error {
		asyncio.CreateTask(ctx, func(context.Context) (int, error) { return 0, errTest }, asyncio.Name("lost one"))
		return asyncio.Sleep(ctx, 0)
	}))
	must(t, err)
	for _, want := range []string{"level=ERROR", "asyncio: Task exception was never retrieved", "lost one", "exception=test"} {
		if !strings.Contains(logged(), want) {
			t.Errorf("logged %s\nwant %s", logged(), want)
		}
	}
}

func TestRepr(t *testing.T) {
	place := regexp.MustCompile(`(at) [^ >]*/(\w+\.go):\d+`)
	// the compiler numbers closures as it likes
	closure := regexp.MustCompile(`reprCoroutine\.func\d+`)
	run(t, func(ctx context.Context) error {
		check := func(v fmt.Stringer, want string) {
			t.Helper()
			if got := closure.ReplaceAllString(place.ReplaceAllString(v.String(), "$1 $2:LINE"), "reprCoroutine.func"); got != want {
				t.Errorf("%s\nwant %s", got, want)
			}
		}
		f := asyncio.CreateFuture[int](ctx)
		check(f, "<Future pending>")
		f.AddDoneCallback(func(*asyncio.Future[int]) {})
		check(f, "<Future pending cb=[asyncio_test.TestRepr.func1.2() at future_test.go:LINE]>")
		f.AddDoneCallback(func(*asyncio.Future[int]) {})
		f.AddDoneCallback(func(*asyncio.Future[int]) {})
		f.AddDoneCallback(func(*asyncio.Future[int]) {})
		check(f, "<Future pending cb=[asyncio_test.TestRepr.func1.2() at future_test.go:LINE, <2 more>, asyncio_test.TestRepr.func1.5() at future_test.go:LINE]>")

		waiter := asyncio.CreateTask(ctx, f.Await, asyncio.Name("it's"))
		check(waiter, `<Task pending name="it's" coro=<asyncio.(*Future).Await() running>>`)
		g := asyncio.CreateFuture[string](ctx)
		task := asyncio.CreateTask(ctx, reprCoroutine(g))
		settle(t, ctx)
		check(task, "<Task pending name='Task-2' coro=<asyncio_test.reprCoroutine.func() running, defined at future_test.go:LINE> wait_for=<Future pending cb=[Task.task_wakeup()]>>")
		task.Cancel()
		check(task, "<Task cancelling name='Task-2' coro=<asyncio_test.reprCoroutine.func() running, defined at future_test.go:LINE> wait_for=<Future cancelled>>")
		settle(t, ctx)
		check(task, "<Task cancelled name='Task-2' coro=<asyncio_test.reprCoroutine.func() done, defined at future_test.go:LINE>>")
		check(g, "<Future cancelled>")
		must(t, f.SetResult(42))
		settle(t, ctx)
		check(f, "<Future finished result=42>")

		// A task's description shows what it waits for until it has resumed.
		lock, failing := new(asyncio.Lock), asyncio.CreateFuture[int](ctx)
		must(t, lock.Acquire(ctx))
		locked := asyncio.CreateTask(ctx, func(ctx context.Context) (int, error) { return 0, lock.Acquire(ctx) }, asyncio.Name("t"))
		other := asyncio.CreateTask(ctx, failing.Await, asyncio.Name("u"))
		settle(t, ctx)
		lock.Release()
		must(t, failing.SetException(errTest))
		if s := locked.String(); !strings.HasSuffix(s, " wait_for=<asyncio.Lock [unlocked, waiters:1]>>") {
			t.Error(s)
		}
		check(other, "<Task pending name='u' coro=<asyncio.(*Future).Await() running> wait_for=<Future finished exception=errors.errorString('test')>>")
		settle(t, ctx)
		is(t, "retrieved", other.Exception(), errTest)

		for _, row := range []struct {
			value any
			want  string
		}{
			{"返回值", "'返回值'"}, {"it's", `"it's"`}, {`it's "x"`, `'it\'s "x"'`}, {"a\nb", `'a\nb'`},
			{strings.Repeat("x", 100), "'xxxxxxxxxxxxx...xxxxxxxxxxxxxx'"},
			{nil, "None"}, {asyncio.None{}, "None"}, {1.5, "1.5"}, {[]int{1, 2}, "[1 2]"},
		} {
			f := asyncio.CreateFuture[any](ctx)
			must(t, f.SetResult(row.value))
			check(f, "<Future finished result="+row.want+">")
		}
		e := asyncio.CreateFuture[any](ctx)
		must(t, e.SetException(errTest))
		check(e, "<Future finished exception=errors.errorString('test')>")
		_ = e.Exception()
		_ = asyncio.Sleep(ctx, 0)

		named := asyncio.CreateTask(ctx, asyncio.Do(reprAction))
		check(named, "<Task pending name='Task-3' coro=<asyncio_test.reprAction() running, defined at future_test.go:LINE>>")
		method := asyncio.CreateTask(ctx, reprReceiver{}.method)
		check(method, "<Task pending name='Task-4' coro=<asyncio_test.reprReceiver.method() running>>")
		_, err := asyncio.Gather[asyncio.None, asyncio.Awaitable[asyncio.None]](ctx, named, method)
		return err
	})
}

func reprCoroutine(f *asyncio.Future[string]) asyncio.Coroutine[string] {
	return func(ctx context.Context) (string, error) { return f.Await(ctx) }
}

func reprAction(context.Context) error { return nil }

type reprReceiver struct{}

func (reprReceiver) method(context.Context) (asyncio.None, error) { return asyncio.None{}, nil }

// The end of a task's context does not hide a failure that is joined to it.
func TestReports_FailureBesideTheEndOfTheContext(t *testing.T) {
	r, err := runReporting(t, func(ctx context.Context) error {
		sub, cancel := asyncio.WithCancel(ctx)
		asyncio.CreateTask(sub, asyncio.Do(func(ctx context.Context) error {
			return errors.Join(asyncio.Sleep(ctx, time.Hour), errTest)
		}))
		must(t, asyncio.Sleep(ctx, 0))
		cancel()
		return asyncio.Sleep(ctx, time.Second)
	})
	must(t, err)
	equal(t, "reports", r.messages(), []string{"Task exception was never retrieved"})
}
