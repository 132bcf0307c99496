package asynciosql

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/goasyncio/asyncio"
)

// goroutines is an executor that runs each job on a goroutine of its own (sql 1).
type goroutines struct{}

func (goroutines) Submit(job func()) error { go job(); return nil }
func (goroutines) Shutdown(bool)           {}

// An operation is work that a goroutine does for a task: one or more calls of database/sql.
type operation struct {
	loop  *asyncio.EventLoop
	in    asyncio.Executor
	grace time.Duration
	work  func() error
	undo  func() // puts the result of work in order if nobody takes it; nil if there is no need
	// ends the context that the driver has; nil if there is none
	end context.CancelCauseFunc
	// the same for a context that does not end before the grace has passed (sql 7)
	endLate context.CancelCauseFunc

	job    *asyncio.Future[asyncio.None] // nil if no goroutine has it
	behind bool                          // the task has gone on before work had returned (sql 5)
	over   chan struct{}                 // closed when the goroutine is done with everything

	mu       sync.Mutex
	returned bool // work has returned
	left     bool // the task has gone on
	err      error
}

// newOperation returns an operation that has not begun.
func (d *DB) newOperation(work func() error, undo func(), end context.CancelCauseFunc) *operation {
	return &operation{in: d.executor, grace: d.grace, work: work, undo: undo, end: end, over: make(chan struct{})}
}

// begin gives the operation to a goroutine. It fails if it cannot: the loop closes, or its executor
// has been shut down, or this is a deferred function that runs somewhere else.
func (o *operation) begin(ctx context.Context) (err error) {
	defer func() {
		if v := recover(); v != nil {
			refused, ok := v.(error)
			if !ok {
				panic(v)
			}
			o.job, err = nil, refused
		}
	}()
	if o.loop, err = asyncio.GetRunningLoop(ctx); err != nil {
		return err
	}
	o.job = asyncio.RunInExecutor(ctx, o.in, func() (asyncio.None, error) { o.run(); return asyncio.None{}, nil })
	if o.job.Done() { // the end of a job that has begun reaches the loop in a later step
		refused := o.job.Exception()
		o.job = nil
		return refused
	}
	return nil
}

// start is begin for work that has to be done. An executor of the program may refuse it; then it
// has a goroutine of its own. So start fails only if the loop closes.
func (o *operation) start(ctx context.Context) error {
	err := o.begin(ctx)
	if err != nil {
		o.in = goroutines{}
		err = o.begin(ctx)
	}
	return err
}

// run is the goroutine's. A panic of work goes on to the executor's job, which reports it.
func (o *operation) run() {
	defer close(o.over)
	err := o.work()
	o.mu.Lock()
	o.returned, o.err = true, err
	left := o.left
	o.mu.Unlock()
	if left && err == nil && o.undo != nil {
		o.undo()
	}
}

// leave has the goroutine go on alone. It reports false if work has returned already.
func (o *operation) leave() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.left = true
	return !o.returned
}

// perform begins the operation and suspends the calling task until it is over. The task has just
// resumed from an await, so that no cancel is owed to it (sql 3).
//
// If a cancel or the end of ctx comes meanwhile, cut is what came (sql 4). If err is then nil, the
// operation has succeeded all the same, and the caller has to have cut delivered again. Otherwise
// err is an [interrupted].
func (o *operation) perform(ctx context.Context) (cut, err error) {
	if err := o.begin(ctx); err != nil {
		close(o.over)
		return nil, err
	}
	settled := false
	defer func() {
		if !settled { // a closing loop unwinds the task
			o.abandon()
		}
	}()
	_, cut = asyncio.Shield(ctx, o.job).Await(ctx)
	if !o.job.Done() {
		over := false
		_ = asyncio.Cleanup(ctx, asyncio.Forever, func(ctx context.Context) error {
			if o.end != nil {
				o.end(cut)
			}
			if over = o.within(ctx, o.grace); !over && o.endLate != nil {
				o.endLate(cut)
				over = o.within(ctx, o.grace)
			}
			return nil
		})
		settled = true
		if !over && o.leave() {
			o.behind = true
			err := &interrupted{cause: cut, grace: o.grace}
			o.report(ctx, err)
			return cut, err
		}
		if err := o.outcome(); err != nil {
			return cut, &interrupted{cause: cut, driver: err}
		}
		return cut, nil
	}
	settled = true
	err = o.outcome()
	if cut != nil && cut == o.job.Exception() {
		cut = nil
	}
	if cut != nil { // the result had come (sql 4)
		asyncio.DeliverAgain(ctx, cut)
	}
	return nil, err
}

// outcome returns the error of an operation that is over.
func (o *operation) outcome() error {
	if o.job.Done() {
		if err := o.job.Exception(); err != nil { // a panic
			return err
		}
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.err
}

// abandon leaves the goroutine alone because the loop closes (sql 10).
func (o *operation) abandon() {
	if o.end != nil {
		o.end(asyncio.ErrLoopClosed)
	}
	if o.endLate != nil {
		time.AfterFunc(o.grace, func() { o.endLate(asyncio.ErrLoopClosed) })
	}
	if !o.leave() && o.err == nil && o.undo != nil {
		go o.undo()
	}
}

// report tells the exception handler that the driver does not heed the end of its context.
func (o *operation) report(ctx context.Context, err error) {
	o.loop.CallExceptionHandler(asyncio.ExceptionContext{
		Message:   fmt.Sprintf("asynciosql: the driver has not returned within %v after the end of its context; the operation is left behind", o.grace),
		Exception: err, Task: asyncio.CurrentTask(ctx), Context: ctx,
	})
}

// within suspends the calling task, which is in a Cleanup, until the operation is over or d has
// passed, and reports whether it is over. d is real time, because goroutines take real time. In the
// default executor it is the loop's: in a simulation an operation takes no time there, however long
// the machine stands still.
func (o *operation) within(ctx context.Context, d time.Duration) (over bool) {
	if o.job.Done() {
		return true
	}
	news := asyncio.CreateFuture[asyncio.None](ctx)
	wake := func() {
		if !news.Done() {
			_ = news.SetResult(asyncio.None{})
		}
	}
	defer o.job.RemoveDoneCallback(o.job.AddDoneCallback(func(*asyncio.Future[asyncio.None]) { wake() }))
	if o.in == nil {
		defer o.loop.CallLater(d, wake).Cancel()
	} else {
		defer time.AfterFunc(d, func() { _, _ = o.loop.CallSoonThreadsafe(wake) }).Stop()
	}
	_, _ = news.Await(ctx)
	return o.job.Done()
}

// finish is perform for work that has to be done whatever happens to the task: neither a cancel nor
// the end of ctx interrupts it, and no executor refuses it. When gently has passed, the driver's
// context ends, if there is one; after the grace, the goroutine is left alone.
func (o *operation) finish(ctx context.Context, gently time.Duration) {
	if o.start(ctx) != nil { // the goroutine goes on alone (sql 10)
		o.behind, o.left = true, true
		go func() {
			if o.end != nil {
				defer time.AfterFunc(o.grace, func() { o.end(asyncio.ErrLoopClosed) }).Stop()
			}
			o.run()
		}()
		return
	}
	settled := false
	defer func() {
		if !settled {
			o.abandon()
		}
	}()
	over := false
	_ = asyncio.Cleanup(ctx, asyncio.Forever, func(ctx context.Context) error {
		if over = o.within(ctx, gently); !over && o.end != nil {
			o.end(errTooLong)
			over = o.within(ctx, o.grace)
		}
		return nil
	})
	settled = true
	if !over && o.leave() {
		o.behind = true
		o.report(ctx, errTooLong)
	}
}

// interrupt ends the contexts of the operation.
func (o *operation) interrupt(err error) {
	for _, end := range []context.CancelCauseFunc{o.end, o.endLate} {
		if end != nil {
			end(err)
		}
	}
}

// whenOver calls fn on the loop when the goroutine is done with everything; at once if it is. A
// loop that closes does not call it any more.
func (o *operation) whenOver(fn func()) {
	defer func() {
		if v := recover(); v != nil && !isClosed(v) {
			panic(v)
		}
	}()
	switch {
	case o.job == nil && o.behind: // the loop closes
	case o.job == nil || o.job.Done():
		fn()
	default:
		o.job.AddDoneCallback(func(*asyncio.Future[asyncio.None]) { fn() })
	}
}

// isClosed reports whether a panic says that the loop is closed, or closes.
func isClosed(v any) bool {
	err, ok := v.(error)
	return ok && errors.Is(err, asyncio.ErrLoopClosed)
}
