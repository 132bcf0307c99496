package asyncio_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/sim"
)

// Close unwinds what is suspended: deferred functions run, their awaits fail, and the goroutines
// end.
func TestClose_UnwindsSuspendedTasks(t *testing.T) {
	l := sim.NewEventLoop(t.Context())
	var r reports
	l.SetExceptionHandler(r.handle)
	ctx := l.Context()
	var got []string
	note := func(s string, err error) { got = append(got, fmt.Sprint(s, ": ", err)) }
	f := asyncio.CreateFuture[int](ctx)
	suspended := asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error {
		defer note("outermost", nil)
		defer func() {
			err := asyncio.Sleep(ctx, time.Second)
			note("await in defer", err)
			if !errors.Is(err, asyncio.ErrLoopClosed) {
				t.Errorf("Sleep while closing: %v", err)
			}
			if err := panicOf(func() { asyncio.CreateTask(ctx, instant) }); !errors.Is(err, asyncio.ErrLoopClosed) {
				t.Errorf("CreateTask while closing: %v", err)
			}
			f.Cancel()
		}()
		for {
			_, err := f.Await(ctx)
			note("not reached", err)
		}
	}), asyncio.TaskName("suspended"))
	panics := asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error {
		defer panic("while unwinding")
		return asyncio.Sleep(ctx, time.Hour)
	}), asyncio.TaskName("panics"))
	l.CallSoon(func() { l.CallSoon(l.Stop) })
	must(t, l.RunForever())
	notStarted := asyncio.CreateTask(ctx, asyncio.Do(func(context.Context) error {
		note("not reached either", nil)
		return nil
	}), asyncio.TaskName("not started"))
	must(t, l.Close())
	must(t, l.Close())

	equal(t, "got", got[1:], []string{"outermost: <nil>"})
	for _, task := range []*asyncio.Task[asyncio.None]{suspended, notStarted} {
		if _, err := task.Result(); !task.Cancelled() || !errors.Is(err, asyncio.ErrLoopClosed) {
			t.Errorf("%v: %v", task, err)
		}
	}
	if _, err := panics.Result(); err == nil {
		t.Errorf("%v", panics)
	}
	equal(t, "reports", r.messages(), []string{
		"Task was destroyed but it is pending!", // suspended
		"Task was destroyed but it is pending!", // panics
		"Task was destroyed but it is pending!", // not started
		"panic in task",
	})
	if !l.IsClosed() || l.IsRunning() {
		t.Error("IsClosed, IsRunning")
	}
}

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
				}, asyncio.TaskName("upper")).Await(ctx)
			}, asyncio.TaskName("lower"))
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

// Tasks on top of each other are unwound together, the uppermost first. Each one's deferred
// functions run as that task, and their awaits fail.
func TestClose_UnwindsTasksOnTopOfEachOther(t *testing.T) {
	l := sim.NewEventLoop(context.Background())
	var r reports
	l.SetExceptionHandler(r.handle)
	limiter := asyncio.NewCapacityLimiter(3)
	var names []string
	var tasks []*asyncio.Task[int]
	var nest func(names string) *asyncio.Task[int]
	nest = func(rest string) *asyncio.Task[int] {
		task := asyncio.CreateTask(l.Context(), func(ctx context.Context) (int, error) {
			if err := limiter.Acquire(ctx); err != nil {
				return 0, err
			}
			defer limiter.Release(ctx)
			defer func() {
				names = append(names, asyncio.CurrentTask(ctx).GetName())
				wantErr(t, "Sleep while closing", asyncio.Sleep(ctx, 1), asyncio.ErrLoopClosed)
			}()
			if len(rest) == 1 {
				return 0, asyncio.Sleep(ctx, time.Hour)
			}
			return nest(rest[1:]).Await(ctx)
		}, asyncio.TaskName(rest[:1]))
		tasks = append(tasks, task)
		return task
	}
	nest("abc")
	l.CallLater(time.Second, l.Stop)
	must(t, l.RunForever())
	must(t, l.Close())
	equal(t, "unwound as", names, []string{"c", "b", "a"})
	if n := limiter.BorrowedTokens(); n != 0 {
		t.Errorf("%d tokens are still borrowed", n)
	}
	for _, task := range tasks {
		if !task.Cancelled() {
			t.Error(task)
		}
	}
	for _, c := range r.all {
		if c.Exception != nil {
			t.Errorf("%s: %v", c.Message, c.Exception)
		}
	}
	if len(r.all) != 3 {
		t.Errorf("reports: %v", r.messages())
	}
}

func TestClose_IsForGood(t *testing.T) {
	l := sim.NewEventLoop(t.Context())
	f := asyncio.CreateFuture[int](l.Context())
	is(t, "closed", l.IsClosed(), false)
	for range 3 {
		must(t, l.Close())
		is(t, "closed", l.IsClosed(), true)
	}
	wantErr(t, "RunForever", l.RunForever(), asyncio.ErrLoopClosed)
	_, err := asyncio.RunUntilComplete(l, f)
	wantErr(t, "RunUntilComplete", err, asyncio.ErrLoopClosed)
}

// Closing the loop drops callbacks and timers, even those that are due.
func TestClose_DropsCallbacksAndTimers(t *testing.T) {
	l := sim.NewEventLoop(t.Context())
	l.CallLater(0, func() { t.Error("a timer fired") })
	l.CallLater(-1, func() { t.Error("a timer fired") })
	l.CallSoon(func() { t.Error("a callback ran") })
	ran := false
	_, err := l.CallSoonThreadsafe(func() {
		ran = true
		l.CallLater(0, func() { t.Error("a timer set while closing fired") })
		l.CallSoon(func() { t.Error("a callback scheduled while closing ran") })
	})
	must(t, err)
	must(t, l.Close())
	if !ran {
		t.Error("what was accepted from outside did not run")
	}
}

func TestClose_RunsWhatWasAccepted(t *testing.T) {
	l := sim.NewEventLoop(t.Context())
	ran := 0
	for range 3 {
		_, err := l.CallSoonThreadsafe(func() { ran++ })
		must(t, err)
	}
	c := asyncio.RunCoroutineThreadsafe(instant, l)
	must(t, l.Close())
	if ran != 3 {
		t.Errorf("%d of 3 ran", ran)
	}
	if _, err := c.Result(t.Context()); !errors.Is(err, asyncio.ErrLoopClosed) {
		t.Errorf("err = %v", err)
	}
}

// Close also runs callbacks that an ended run took in and did not get to, even if one of them exits
// its goroutine (inbox 3).
func TestClose_RunsWhatWasAcceptedDespiteAll(t *testing.T) {
	l := sim.NewEventLoop(t.Context())
	ran := 0
	post := func(fn func()) {
		_, err := l.CallSoonThreadsafe(fn)
		must(t, err)
	}
	var results []*asyncio.ConcurrentFuture[int]
	l.CallSoon(l.Stop)
	l.CallSoon(func() {
		for range 3 {
			post(func() { ran++; runtime.Goexit() })
			results = append(results, asyncio.RunCoroutineThreadsafe(instant, l))
		}
		l.CallSoon(func() { t.Error("a dropped callback ran") }) // takes the inbox in
	})
	must(t, l.RunForever())
	exited := make(chan struct{})
	go func() {
		defer close(exited)
		must(t, l.Close())
	}()
	<-exited
	if ran != 3 || !l.IsClosed() {
		t.Errorf("%d of 3 ran", ran)
	}
	for _, c := range results {
		if _, err := c.Result(t.Context()); !errors.Is(err, asyncio.ErrLoopClosed) {
			t.Errorf("err = %v", err)
		}
	}
}

// Clean-up code that stops its loop or cancels its group while the loop unwinds it comes late,
// which is no mistake.
func TestClose_LateStopAndCancel(t *testing.T) {
	l := sim.NewEventLoop(t.Context())
	var r reports
	l.SetExceptionHandler(r.handle)
	cleaned := false
	asyncio.CreateTask(l.Context(), asyncio.Do(func(ctx context.Context) error {
		return asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg *asyncio.TaskGroup) error {
			defer func() {
				tg.Cancel()
				l.Stop()
				cleaned = true
			}()
			return asyncio.Sleep(ctx, time.Hour)
		})
	}))
	l.CallLater(time.Second, l.Stop)
	must(t, l.RunForever())
	must(t, l.Close())
	equal(t, "reports", r.messages(), []string{"Task was destroyed but it is pending!"})
	is(t, "cleaned", cleaned, true)
}

// On a closed loop any goroutine may ask whether something is there.
func TestClose_ManyAskAtOnce(t *testing.T) {
	l := asyncio.NewEventLoop(t.Context())
	must(t, l.Close())
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			//asynciovet:allow goroutine a closed loop has nothing to guard any more
			if l.RemoveReader(0) || l.RemoveWriter(0) || l.RemoveSignalHandler(os.Interrupt) {
				t.Error("there is something on a closed loop")
			}
		})
	}
	all.Wait()
}

// A runner whose loop was closed by hand says so.
func TestRunner_LoopClosedByHand(t *testing.T) {
	r := asyncio.NewRunner(t.Context())
	l, err := r.GetLoop()
	must(t, err)
	must(t, l.Close())
	if _, err := asyncio.RunIn(r, instant); !errors.Is(err, asyncio.ErrLoopClosed) {
		t.Error(err)
	}
	must(t, r.Close())
}
