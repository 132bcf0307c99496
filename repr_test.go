package asyncio_test

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/goasyncio/asyncio"
)

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
		check(f, "<Future pending cb=[asyncio_test.TestRepr.func1.2() at repr_test.go:LINE]>")
		f.AddDoneCallback(func(*asyncio.Future[int]) {})
		f.AddDoneCallback(func(*asyncio.Future[int]) {})
		f.AddDoneCallback(func(*asyncio.Future[int]) {})
		check(f, "<Future pending cb=[asyncio_test.TestRepr.func1.2() at repr_test.go:LINE, <2 more>, asyncio_test.TestRepr.func1.5() at repr_test.go:LINE]>")

		waiter := asyncio.CreateTask(ctx, f.Await, asyncio.TaskName("it's"))
		check(waiter, `<Task pending name="it's" coro=<asyncio.(*Future).Await() running>>`)
		g := asyncio.CreateFuture[string](ctx)
		task := asyncio.CreateTask(ctx, reprCoroutine(g))
		settle(t, ctx)
		check(task, "<Task pending name='Task-2' coro=<asyncio_test.reprCoroutine.func() running, defined at repr_test.go:LINE> wait_for=<Future pending cb=[Task.task_wakeup()]>>")
		task.Cancel()
		check(task, "<Task cancelling name='Task-2' coro=<asyncio_test.reprCoroutine.func() running, defined at repr_test.go:LINE> wait_for=<Future cancelled>>")
		settle(t, ctx)
		check(task, "<Task cancelled name='Task-2' coro=<asyncio_test.reprCoroutine.func() done, defined at repr_test.go:LINE>>")
		check(g, "<Future cancelled>")
		must(t, f.SetResult(42))
		settle(t, ctx)
		check(f, "<Future finished result=42>")

		// A task's description shows what it waits for until it has resumed.
		lock, failing := new(asyncio.Lock), asyncio.CreateFuture[int](ctx)
		must(t, lock.Acquire(ctx))
		locked := asyncio.CreateTask(ctx, func(ctx context.Context) (int, error) { return 0, lock.Acquire(ctx) }, asyncio.TaskName("t"))
		other := asyncio.CreateTask(ctx, failing.Await, asyncio.TaskName("u"))
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
		check(named, "<Task pending name='Task-3' coro=<asyncio_test.reprAction() running, defined at repr_test.go:LINE>>")
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

func TestRepr_OfWhatHoldsItself(t *testing.T) {
	l := newLoop(t)
	f, g := asyncio.CreateFuture[any](l.Context()), asyncio.CreateFuture[any](l.Context())
	must(t, f.SetResult([]any{f}))
	must(t, g.SetResult(g))
	if f.String() != "<Future finished result=[...]>" || g.String() != "<Future finished result=...>" {
		t.Errorf("%v, %v", f, g)
	}
}
