package asyncio_test

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
)

// recordingExecutor runs jobs on goroutines and records the calls it gets. Its Shutdown ends with
// the function shutdown.
type recordingExecutor struct {
	*asyncio.ThreadPoolExecutor
	submitted atomic.Int32
	shutdown  func(wait bool)
}

func (e *recordingExecutor) Submit(job func()) error {
	e.submitted.Add(1)
	return e.ThreadPoolExecutor.Submit(job)
}

func (e *recordingExecutor) Shutdown(wait bool) {
	e.ThreadPoolExecutor.Shutdown(wait)
	if e.shutdown != nil {
		e.shutdown(wait)
	}
}

// The default executor runs as many jobs at a time as CPython's.
func TestExecutor_DefaultSize(t *testing.T) {
	want := min(32, runtime.NumCPU()+4)
	_, err := asyncio.Run(t.Context(), asyncio.Do(func(ctx context.Context) error {
		started, release := make(chan struct{}, 2*want), make(chan struct{})
		var fs []*asyncio.Future[int]
		for range 2 * want {
			fs = append(fs, asyncio.RunInExecutor(ctx, nil, func() (int, error) {
				started <- struct{}{}
				<-release
				return 1, nil
			}))
		}
		for range want {
			<-started // hangs if fewer jobs run
		}
		for range 1000 {
			runtime.Gosched()
		}
		is(t, "more than the limit", len(started), 0)
		close(release)
		_, err := asyncio.Gather(ctx, fs...)
		return err
	}))
	must(t, err)
}

func TestExecutor_SetDefault(t *testing.T) {
	var waits []bool
	e := &recordingExecutor{ThreadPoolExecutor: asyncio.NewThreadPoolExecutor(2), shutdown: func(wait bool) { waits = append(waits, wait) }}
	var l *asyncio.EventLoop
	_, err := asyncio.Run(onVirtualTime(t.Context(), new(reports)), asyncio.Do(func(ctx context.Context) error {
		l = loop(t, ctx)
		l.SetDefaultExecutor(e)
		_, err := asyncio.ToThread(ctx, instant)
		must(t, err)
		is(t, "jobs after ToThread", e.submitted.Load(), int32(1))
		_, err = asyncio.RunInExecutor(ctx, nil, func() (int, error) { return 1, nil }).Await(ctx)
		is(t, "jobs after RunInExecutor", e.submitted.Load(), int32(2))
		return err
	}))
	must(t, err)
	equal(t, "shut down", waits, []bool{true, false}) // Shutdown waits; Close calls it once more
	wantErr(t, "Submit", e.Submit(func() {}), asyncio.ErrExecutorShutDown)
}

// The loop waits for the executor that it made even after another one replaced it.
func TestExecutor_ReplacedDefaultIsWaitedFor(t *testing.T) {
	release := make(chan struct{})
	var done atomic.Bool
	e := &recordingExecutor{ThreadPoolExecutor: asyncio.NewThreadPoolExecutor(1), shutdown: func(wait bool) {
		if wait {
			close(release)
		}
	}}
	_, err := asyncio.Run(t.Context(), asyncio.Do(func(ctx context.Context) error {
		asyncio.RunInExecutor(ctx, nil, func() (int, error) {
			<-release
			for range 10_000 {
				runtime.Gosched()
			}
			done.Store(true)
			return 1, nil
		})
		loop(t, ctx).SetDefaultExecutor(e)
		_, err := asyncio.ToThread(ctx, instant)
		return err
	}))
	must(t, err)
	is(t, "the job had ended when Run returned", done.Load(), true)
}

func TestExecutor_BoundAndOrder(t *testing.T) {
	run(t, func(ctx context.Context) error {
		e := asyncio.NewThreadPoolExecutor(3)
		var running, most atomic.Int32
		var fs []*asyncio.Future[int]
		for i := range 50 {
			fs = append(fs, asyncio.RunInExecutor(ctx, e, func() (int, error) {
				n := running.Add(1)
				for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
				}
				runtime.Gosched()
				running.Add(-1)
				return i, nil
			}))
		}
		got, err := asyncio.Gather(ctx, fs...)
		for i, v := range got {
			if v != i {
				t.Errorf("%d: %d", i, v)
			}
		}
		if m := most.Load(); m > 3 || m < 1 {
			t.Errorf("%d at a time", m)
		}
		e.Shutdown(true)
		if _, err := asyncio.RunInExecutor(ctx, e, func() (int, error) { return 0, nil }).Await(ctx); !errors.Is(err, asyncio.ErrExecutorShutDown) {
			t.Errorf("after Shutdown: %v", err)
		}
		return err
	})
}

// Cancelling the future keeps a job that waits its turn from running.
func TestExecutor_CancelBeforeStart(t *testing.T) {
	run(t, func(ctx context.Context) error {
		e := asyncio.NewThreadPoolExecutor(1)
		block := make(chan struct{})
		first := asyncio.RunInExecutor(ctx, e, func() (int, error) { <-block; return 1, nil })
		ran := false
		second := asyncio.RunInExecutor(ctx, e, func() (int, error) { ran = true; return 2, nil })
		second.Cancel()
		settle(t, ctx)
		close(block)
		_, err := first.Await(ctx)
		e.Shutdown(true)
		if ran {
			t.Error("a cancelled job ran")
		}
		return err
	})
}

func TestExecutor_ShutdownDefault(t *testing.T) {
	run(t, func(ctx context.Context) error {
		l := loop(t, ctx)
		done := false
		f := asyncio.RunInExecutor(ctx, nil, func() (int, error) { done = true; return 0, nil })
		if err := l.ShutdownDefaultExecutor(ctx, time.Minute); err != nil || !done {
			t.Errorf("%v, done = %v", err, done)
		}
		if _, err := asyncio.ToThread(ctx, instant); !errors.Is(err, asyncio.ErrExecutorShutDown) {
			t.Errorf("ToThread afterwards: %v", err)
		}
		_, err := f.Await(ctx)
		return err
	})
}

// A job that does not end is named with its stack, and Run returns all the same.
func TestExecutor_ShutdownGivesUp(t *testing.T) {
	logged := captureLog(t)
	release, gone := make(chan struct{}), make(chan struct{})
	_, err := asyncio.Run(t.Context(), asyncio.Do(func(ctx context.Context) error {
		begun := make(chan struct{})
		asyncio.RunInExecutor(ctx, nil, func() (int, error) { return stuckJob(begun, release, gone) })
		<-begun
		return nil
	}), asyncio.ShutdownTimeout(time.Millisecond))
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(logged(), "stuckJob") {
		t.Errorf("%v\n%s", err, logged())
	}
	close(release)
	<-gone
}

func stuckJob(begun, release, gone chan struct{}) (int, error) {
	defer close(gone)
	close(begun)
	<-release
	return 0, nil
}

// The executor is shut down while it works. Jobs that were submitted are done, and later ones are
// refused.
func TestExecutor_ShutdownWhileWorking(t *testing.T) {
	for _, wait := range []bool{false, true} {
		run(t, func(ctx context.Context) error {
			e := asyncio.NewThreadPoolExecutor(1)
			release := make(chan struct{})
			var fs []*asyncio.Future[int]
			for i := range 5 {
				fs = append(fs, asyncio.RunInExecutor(ctx, e, func() (int, error) { <-release; return i, nil }))
			}
			settle(t, ctx)
			shut := make(chan struct{})
			go func() {
				defer close(shut)
				e.Shutdown(wait)
			}()
			if wait {
				for range 100 {
					runtime.Gosched()
				}
				select {
				case <-shut:
					t.Error("did not wait")
				default:
				}
				for e.Submit(func() {}) == nil {
					runtime.Gosched() // until Shutdown has begun
				}
			} else {
				<-shut
			}
			wantErr(t, "Submit", e.Submit(func() {}), asyncio.ErrExecutorShutDown)
			_, err := asyncio.RunInExecutor(ctx, e, func() (int, error) { return 0, nil }).Await(ctx)
			wantErr(t, "RunInExecutor", err, asyncio.ErrExecutorShutDown)
			close(release)
			got, err := asyncio.Gather(ctx, fs...)
			equal(t, "results", got, []int{0, 1, 2, 3, 4})
			<-shut
			e.Shutdown(true)
			return err
		})
	}
}

func TestExecutor_ShutdownDefaultTimesOut(t *testing.T) {
	logged := captureLog(t)
	release, gone := make(chan struct{}), make(chan struct{})
	_, err := asyncio.Run(t.Context(), asyncio.Do(func(ctx context.Context) error {
		l := loop(t, ctx)
		begun := make(chan struct{})
		f := asyncio.RunInExecutor(ctx, nil, func() (int, error) { return stuckJob(begun, release, gone) })
		<-begun
		for _, limit := range []time.Duration{0, -1, time.Millisecond} {
			wantErr(t, limit.String(), l.ShutdownDefaultExecutor(ctx, limit), context.DeadlineExceeded)
		}
		if !strings.Contains(logged(), "did not finish its jobs within 1ms") || !strings.Contains(logged(), "stuckJob") {
			t.Error(logged())
		}
		// A cancel ends the wait, and the executor stays shut down.
		task := asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error { return l.ShutdownDefaultExecutor(ctx, time.Hour) }))
		must(t, yields(ctx, 1))
		task.Cancel()
		endsCancelled(t, ctx, task)
		_, err := asyncio.ToThread(ctx, instant)
		wantErr(t, "ToThread", err, asyncio.ErrExecutorShutDown)
		l.SetDefaultExecutor(asyncio.NewThreadPoolExecutor(1)) // does not open it again
		_, err = asyncio.ToThread(ctx, instant)
		wantErr(t, "ToThread with another", err, asyncio.ErrExecutorShutDown)
		is(t, "the job goes on", f.Done(), false)
		close(release)
		<-gone
		_, err = f.Await(ctx)
		return err
	}))
	must(t, err)
}

// If an executor refuses a job, the future gets the error, and nothing is left behind.
func TestExecutor_Refuses(t *testing.T) {
	run(t, func(ctx context.Context) error {
		e := refusingExecutor{}
		loop(t, ctx).SetDefaultExecutor(e)
		_, err := asyncio.ToThread(ctx, instant)
		wantErr(t, "ToThread", err, errTest)
		f := asyncio.RunInExecutor(ctx, e, func() (int, error) { return 1, nil })
		is(t, "done", f.Done(), true)
		wantErr(t, "RunInExecutor", f.Exception(), errTest)
		return asyncio.Sleep(ctx, time.Hour) // the clock is not held
	})
}

type refusingExecutor struct{}

func (refusingExecutor) Submit(func()) error { return errors.Join(errTest) }
func (refusingExecutor) Shutdown(bool)       {}

// A job that is submitted just as the only worker is about to end still runs. Each round submits
// while the previous worker looks at its empty queue.
func TestExecutor_SubmitAsTheWorkerEnds(t *testing.T) {
	e := asyncio.NewThreadPoolExecutor(1)
	late := time.NewTimer(time.Hour)
	for i := range 300_000 {
		ran := make(chan struct{})
		must(t, e.Submit(func() { close(ran) }))
		late.Reset(20 * time.Second)
		select {
		case <-ran:
		case <-late.C:
			t.Fatalf("job %d was accepted and did not run", i)
		}
	}
	e.Shutdown(true)
}

// panickyExecutor is an Executor that panics.
type panickyExecutor struct{}

func (panickyExecutor) Submit(func()) error { panic("Submit panics") }
func (panickyExecutor) Shutdown(bool)       {}

// eagerRefuser is an Executor that runs the job and then refuses it.
type eagerRefuser struct{}

func (eagerRefuser) Submit(job func()) error { job(); return asyncio.ErrExecutorShutDown }
func (eagerRefuser) Shutdown(bool)           {}

// An executor that fails in odd ways does not stop the virtual clock.
func TestExecutor_ThatFails(t *testing.T) {
	run(t, func(ctx context.Context) error {
		job := func() (int, error) { return 1, nil }
		if err := panicOf(func() { asyncio.RunInExecutor(ctx, panickyExecutor{}, job) }); err == nil {
			t.Error("the panic of Submit did not come through")
		}
		if _, err := asyncio.RunInExecutor(ctx, eagerRefuser{}, job).Await(ctx); !errors.Is(err, asyncio.ErrExecutorShutDown) {
			t.Errorf("refused: %v", err)
		}
		return asyncio.Sleep(ctx, time.Hour)
	})
}

// shuttingDown returns an executor whose Shutdown ends with fn.
func shuttingDown(fn func()) asyncio.Executor {
	return &recordingExecutor{ThreadPoolExecutor: asyncio.NewThreadPoolExecutor(1), shutdown: func(bool) { fn() }}
}

// A loop whose executor panics at its shutdown can be closed all the same.
func TestExecutor_ShutdownPanicsInClose(t *testing.T) {
	l := quietLoop(t.Context())
	l.SetDefaultExecutor(shuttingDown(func() { panic("Shutdown panics") }))
	asyncio.CreateTask(l.Context(), asyncio.Do(never))
	l.CallSoon(func() { l.CallSoon(l.Stop) })
	must(t, l.RunForever())
	if err := panicOf(func() { must(t, l.Close()) }); err != nil || !l.IsClosed() {
		t.Errorf("Close: %v, closed: %v", err, l.IsClosed())
	}
}

// An executor whose Shutdown panics does not end the program: Run calls Shutdown on a goroutine of
// its own.
func TestExecutor_ShutdownPanicsInRun(t *testing.T) {
	_, _ = asyncio.Run(t.Context(), asyncio.Do(func(ctx context.Context) error {
		loop(t, ctx).SetDefaultExecutor(shuttingDown(func() { panic("Shutdown panics") }))
		return nil
	}), asyncio.LoopFactory(quietLoop))
}

// An executor whose Shutdown exits its goroutine does not hang Close, which does not wait for it,
// nor Run, which does.
func TestExecutor_ShutdownExits(t *testing.T) {
	var r reports
	factory := func(ctx context.Context) *asyncio.EventLoop {
		l := asyncio.NewEventLoop(ctx)
		l.SetExceptionHandler(r.handle)
		l.SetDefaultExecutor(shuttingDown(runtime.Goexit))
		return l
	}
	l := factory(t.Context())
	if exits(func() { must(t, l.Close()) }) || !l.IsClosed() {
		t.Errorf("Close exited, closed: %v", l.IsClosed())
	}
	_, err := asyncio.Run(t.Context(), asyncio.Do(func(ctx context.Context) error {
		_, err := asyncio.ToThread(ctx, func(context.Context) (int, error) { return 1, nil })
		return err
	}), asyncio.LoopFactory(factory))
	must(t, err)
	for _, c := range r.all {
		if c.Exception != asyncio.ErrGoexit {
			t.Errorf("%s: %v", c.Message, c.Exception)
		}
	}
	if len(r.all) != 3 { // Run waits for Shutdown, and then closes the loop
		t.Errorf("%d reports", len(r.all))
	}
}
