package asyncio_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/sim"
)

// Deferred functions may clean up while the loop closes.
func TestClose_DeferredFunctionsCleanUp(t *testing.T) {
	l := sim.NewEventLoop(context.Background())
	var r reports
	l.SetExceptionHandler(r.handle)
	asyncio.CreateTask(l.Context(), asyncio.Do(func(ctx context.Context) error {
		h := l.CallLater(time.Hour, func() {})
		defer h.Cancel()
		f := asyncio.CreateFuture[int](ctx)
		c := f.AddDoneCallback(func(*asyncio.Future[int]) {})
		defer f.RemoveDoneCallback(c)
		defer f.Cancel()
		inner, cancel := asyncio.WithTimeout(ctx, time.Hour)
		defer cancel()
		return asyncio.Sleep(inner, time.Hour)
	}))
	l.CallLater(time.Second, l.Stop)
	must(t, l.RunForever())
	must(t, l.Close())
	equal(t, "reports", r.messages(), []string{"Task was destroyed but it is pending!"})
}

// While the loop closes, deferred functions run as their own task, even if that task lies on top of
// another.
func TestClose_DeferredFunctionsRunAsTheirTask(t *testing.T) {
	l := sim.NewEventLoop(context.Background())
	var r reports
	l.SetExceptionHandler(r.handle)
	limiter := asyncio.NewCapacityLimiter(3)
	var names []string
	var nest func(names string) asyncio.Coroutine[int]
	nest = func(rest string) asyncio.Coroutine[int] {
		return func(ctx context.Context) (int, error) {
			if err := limiter.Acquire(ctx); err != nil {
				return 0, err
			}
			defer limiter.Release(ctx)
			defer func() { names = append(names, asyncio.CurrentTask(ctx).GetName()) }()
			if len(rest) == 1 {
				return 0, asyncio.Sleep(ctx, time.Hour)
			}
			return asyncio.CreateTask(ctx, nest(rest[1:]), asyncio.Name(rest[1:2])).Await(ctx)
		}
	}
	asyncio.CreateTask(l.Context(), nest("abc"), asyncio.Name("a"))
	l.CallLater(time.Second, l.Stop)
	must(t, l.RunForever())
	must(t, l.Close())
	equal(t, "unwound as", names, []string{"c", "b", "a"})
	if n := limiter.BorrowedTokens(); n != 0 {
		t.Errorf("%d tokens are still borrowed", n)
	}
	for _, c := range r.all {
		if c.Exception != nil {
			t.Errorf("%s: %v", c.Message, c.Exception)
		}
	}
}

// A deferred function may block for longer than Close waits for it. Its task counts as ended, and
// letting the function go on afterwards does no harm: it once ended the process.
func TestClose_LeavesWhatBlocks(t *testing.T) {
	defer asyncio.Impatient(time.Millisecond)()
	var r reports
	l := asyncio.NewEventLoop(onVirtualTime(context.Background(), &r))
	blocked, gone := make(chan struct{}), make(chan struct{})
	task := asyncio.CreateTask(l.Context(), asyncio.Do(func(ctx context.Context) error {
		defer close(gone)
		defer func() { <-blocked }()
		_, err := asyncio.CreateFuture[int](ctx).Await(ctx)
		return err
	}))
	if err := l.RunForever(); !errors.Is(err, asyncio.ErrDeadlock) {
		t.Fatal(err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if !task.Cancelled() || len(r.all) != 2 || !strings.Contains(r.all[1].Message, "does not unwind") {
		t.Errorf("cancelled %v; reports: %v", task.Cancelled(), r.all)
	}
	close(blocked)
	<-gone
}

// Close waits for a blocking deferred function once for all tasks on its stack. It reports the
// function once, as that of the task it belongs to.
func TestClose_LeavesWhatBlocksOnTop(t *testing.T) {
	for blocks, want := range map[string][]string{"lower": {"upper", "lower"}, "upper": {"upper"}} {
		func() {
			// long enough for the one that does not block to unwind on a machine that is slow
			defer asyncio.Impatient(300 * time.Millisecond)()
			l := sim.NewEventLoop(context.Background())
			var r reports
			l.SetExceptionHandler(r.handle)
			blocked, gone := make(chan struct{}), make(chan struct{})
			var unwound []string
			cleanUp := func(name string) {
				unwound = append(unwound, name)
				if name == blocks {
					<-blocked
				}
				if name == "lower" {
					close(gone)
				}
			}
			lower := asyncio.CreateTask(l.Context(), func(ctx context.Context) (int, error) {
				defer cleanUp("lower")
				return asyncio.CreateTask(ctx, func(ctx context.Context) (int, error) {
					defer cleanUp("upper")
					return 0, asyncio.Sleep(ctx, time.Hour)
				}, asyncio.Name("upper")).Await(ctx)
			}, asyncio.Name("lower"))
			l.CallLater(time.Second, l.Stop)
			must(t, l.RunForever())
			must(t, l.Close())
			var blamed []string
			for _, c := range r.all {
				if strings.Contains(c.Message, "does not unwind") {
					blamed = append(blamed, c.Task.GetName())
				}
			}
			equal(t, "blamed", blamed, []string{blocks})
			if !lower.Cancelled() {
				t.Errorf("%v", lower)
			}
			close(blocked)
			<-gone
			equal(t, "unwound", unwound[:len(want)], want)
		}()
	}
}
