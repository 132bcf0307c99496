package asyncio

import (
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/goasyncio/asyncio/internal/driver"
)

// An Executor runs functions outside of the loop, for [RunInExecutor]. Its methods are called on
// any goroutine. Python: concurrent.futures.Executor.
type Executor interface {
	// Submit runs job on some goroutine, now or later, without waiting for it.
	Submit(job func()) error

	// Shutdown refuses further jobs, lets the submitted ones finish and, if wait is true, waits for
	// them.
	Shutdown(wait bool)
}

// A ThreadPoolExecutor runs jobs on at most a fixed number of goroutines at a time, first come,
// first served. It keeps the name that Python programs know. It makes goroutines when there is
// work, and they end when there is none, so an idle executor costs nothing. Only the default
// executor of a loop keeps one goroutine, until the loop shuts it down.
type ThreadPoolExecutor struct {
	mu      sync.Mutex
	changed sync.Cond
	queue   []job
	head    int // of the queue: the jobs before it have been taken
	max     int
	workers int
	closed  bool
	worker  func() // work, made once

	// One goroutine of a loop's own executor stays when there is no work. It gets its next job
	// through more, without the lock: the goroutine that sets idle to false sends exactly one
	// value, a job or, at the shutdown, nil. idle becomes true under the lock, and only while the
	// queue is empty, so no job overtakes another. more has room for every worker, so sending does
	// not block.
	more chan job // nil if no goroutine stays
	idle atomic.Bool
}

// A job is a function to run.
type job interface {
	run()

	// labels returns a context with the labels for the job, nil if there can be none.
	labels() context.Context
}

type jobFunc func()

func (fn jobFunc) run()                    { fn() }
func (fn jobFunc) labels() context.Context { return context.Background() }

// NewThreadPoolExecutor makes an executor that runs at most maxWorkers jobs at a time. Any
// goroutine may call it. It panics with [ErrInvalidArgument] if maxWorkers is not positive.
func NewThreadPoolExecutor(maxWorkers int) *ThreadPoolExecutor {
	if maxWorkers <= 0 {
		panic(fmt.Errorf("%w: maxWorkers is %d, must be positive (in NewThreadPoolExecutor)", ErrInvalidArgument, maxWorkers))
	}
	e := &ThreadPoolExecutor{max: maxWorkers}
	e.changed.L = &e.mu
	e.worker = e.work
	return e
}

// Submit runs job as soon as fewer than the maximum are running. It returns
// [ErrExecutorShutDown] after Shutdown. Any goroutine may call it; it does not block.
func (e *ThreadPoolExecutor) Submit(job func()) error {
	if job == nil {
		return fmt.Errorf("%w: nil job (in Submit)", ErrInvalidArgument)
	}
	return e.submit(jobFunc(job))
}

func (e *ThreadPoolExecutor) submit(j job) error {
	if e.idle.Load() && e.idle.Swap(false) {
		e.more <- j
		return nil
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return ErrExecutorShutDown
	}
	if e.idle.Load() && e.idle.Swap(false) {
		e.more <- j
		return nil
	}
	if e.head > len(e.queue)/2 { // rare enough not to matter
		e.queue = slices.Delete(e.queue, 0, e.head)
		e.head = 0
	}
	e.queue = append(e.queue, j)
	if e.workers < e.max {
		e.workers++
		go e.worker()
	}
	return nil
}

func (e *ThreadPoolExecutor) work() {
	defer func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		// A job that exits its goroutine takes this worker with it, and a job submitted just now
		// may have relied on it.
		if e.head < len(e.queue) {
			go e.worker()
			return
		}
		e.workers--
		e.changed.Broadcast()
	}()
	pprof.SetGoroutineLabels(context.Background()) // not the labels of the first submitter
	for j := e.next(); j != nil; j = e.next() {
		if ctx := j.labels(); ctx != nil {
			setLabels(ctx)
		}
		j.run()
		if j.labels() != nil {
			pprof.SetGoroutineLabels(context.Background())
		}
	}
}

// next returns the next job for a goroutine, nil if the goroutine is to end.
func (e *ThreadPoolExecutor) next() job {
	e.mu.Lock()
	if e.head == len(e.queue) {
		stays := e.more != nil && !e.closed && e.idle.CompareAndSwap(false, true)
		e.mu.Unlock()
		if !stays {
			return nil
		}
		return <-e.more
	}
	j := e.queue[e.head]
	e.queue[e.head] = nil
	e.head++
	e.mu.Unlock()
	return j
}

// Shutdown refuses further jobs and, if wait is true, blocks until the submitted ones are done. Any
// goroutine may call it, any number of times.
func (e *ThreadPoolExecutor) Shutdown(wait bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.closed = true
	if e.idle.Swap(false) {
		e.more <- nil
	}
	for wait && e.workers > 0 {
		e.changed.Wait()
	}
}

// measure describes the executor at one moment.
func (e *ThreadPoolExecutor) measure() (threads, most, running, queued int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	running = e.workers
	if e.idle.Load() {
		running--
	}
	return e.workers, e.max, running, len(e.queue) - e.head
}

// defaultWorkers is CPython's default for its thread pool.
func defaultWorkers() int { return min(32, runtime.NumCPU()+4) }

// SetDefaultExecutor replaces the executor that [ToThread], and [RunInExecutor] with nil, use. The
// loop shuts it down, unless it is replaced in turn. SetDefaultExecutor is for the loop only and
// panics with [ErrLoopClosed], [ErrForeignGoroutine] or, if e is nil, [ErrInvalidArgument]. Python:
// loop.set_default_executor.
func (l *EventLoop) SetDefaultExecutor(e Executor) {
	l.mustBeOwner("SetDefaultExecutor")
	if e == nil {
		panic(fmt.Errorf("%w: nil executor (in SetDefaultExecutor)", ErrInvalidArgument))
	}
	executors.of(l).current = e
}

// defaultExecutor is what a loop knows of its default executor.
type defaultExecutor struct {
	current Executor            // made by its first use
	own     *ThreadPoolExecutor // the one that the loop made, in use or not
	closed  bool
}

var executors = newEndingPart[defaultExecutor](endWorkers)

// end shuts the executors down without waiting, because the loop closes.
func (d *defaultExecutor) end(l *EventLoop) {
	if d.current != nil {
		l.reportShutdown(shutDown(d.current, false))
	}
	if d.own != nil {
		l.reportShutdown(shutDown(d.own, false))
	}
}

// hasExecutor reports whether a default executor has been made or set.
func (l *EventLoop) hasExecutor() bool {
	d := executors.ifAny(l)
	return d != nil && d.current != nil
}

func (l *EventLoop) defaultExecutor() (Executor, error) {
	d := executors.of(l)
	if d.closed {
		return nil, ErrExecutorShutDown
	}
	if d.current == nil {
		if e, ok := l.drv.(driver.Executor); ok {
			d.current = e
			return e, nil
		}
		d.own = NewThreadPoolExecutor(defaultWorkers())
		d.own.more = make(chan job, d.own.max) // the loop shuts it down
		d.current = d.own
	}
	return d.current, nil
}

// ShutdownDefaultExecutor refuses further jobs for the default executor and suspends until the
// submitted ones are done. After timeout, or at once if that is not positive, it gives up, logs the
// stacks of the jobs that go on, and returns [context.DeadlineExceeded]. The timeout is real time,
// because jobs take real time. Run calls it. A cancel ends the wait; the executor stays shut down.
func (l *EventLoop) ShutdownDefaultExecutor(ctx context.Context, timeout time.Duration) error {
	if t, err := taskOf(ctx, "ShutdownDefaultExecutor"); err != nil {
		return err
	} else if t.loop() != l {
		return fmt.Errorf("%w (in ShutdownDefaultExecutor)", ErrDifferentLoop)
	}
	d := executors.of(l)
	d.closed = true
	if d.current == nil {
		return nil
	}
	e, own := d.current, d.own
	done := CreateFuture[error](ctx)
	l.drv.Hold()
	go func() {
		defer l.drv.Release()
		joined := make(chan error, 1)
		go func() {
			failed := shutDown(e, true)
			if own != nil {
				_ = shutDown(own, true) // it may have been replaced; ours does not panic
			}
			joined <- failed
		}()
		limit := time.NewTimer(timeout)
		defer limit.Stop()
		var err, failed error
		select {
		case failed = <-joined:
		case <-limit.C:
			logReport(ctx, slog.LevelWarn, fmt.Sprintf("asyncio: the executor did not finish its jobs within %v; they are left behind", timeout),
				slog.String("stacks", string(stacksWith("asyncio.(*threadJob["))))
			err = context.DeadlineExceeded
		}
		_ = l.post(&Handle{loop: l, fn: func() {
			l.reportShutdown(failed)
			if !done.Done() {
				_ = done.SetResult(err)
			}
		}})
	}()
	err, waitErr := done.Await(ctx)
	return joinErrors(err, waitErr)
}

// shutDown shuts e down. It returns a [*PanicError] if that panicked, and [ErrGoexit] if it exited
// the goroutine, which is therefore one of its own: a loop that closes must get to its end.
func shutDown(e Executor, wait bool) error {
	ended := make(chan error, 1)
	go func() {
		err := ErrGoexit // unless Shutdown returns
		defer func() {
			if v := recover(); v != nil {
				err = &PanicError{Value: v, Stack: debug.Stack()}
			}
			ended <- err
		}()
		e.Shutdown(wait)
		err = nil
	}()
	return <-ended
}

func (l *EventLoop) reportShutdown(err error) {
	if err != nil {
		l.CallExceptionHandler(ExceptionContext{Message: "panic or exit in the shutdown of an executor", Exception: err})
	}
}
