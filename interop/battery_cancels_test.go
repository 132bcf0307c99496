//go:build unix

package interop

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/goasyncio/asyncio"
)

func (b *run) cancel(ctx context.Context) error {
	_, err := b.givesUp(ctx, trial{
		want: b.row.cancel, err: asyncio.ErrCancelled,
		derive: asyncio.WithCancel,
		end:    func(task *asyncio.Task[string], _ context.CancelFunc) { task.Cancel() },
	})
	return err
}

// doneContext: where the library does not heed the end of a ctx that it is given, or is given none,
// the end of its task's ctx does what a cancel does.
func (b *run) doneContext(ctx context.Context) error {
	tr := trial{
		want: b.row.done, err: context.Canceled,
		derive: asyncio.WithCancel,
		end:    func(_ *asyncio.Task[string], cancel context.CancelFunc) { cancel() },
	}
	if _, err := b.givesUp(ctx, tr); err != nil || tr.want.task != ignored {
		return err
	}
	tr.want, tr.own = b.row.cancel, true
	_, err := b.givesUp(ctx, tr)
	return err
}

// deadline: where the library does not heed the deadline of a ctx, a Timeout does what a cancel
// does.
func (b *run) deadline(ctx context.Context) error {
	err := b.inTime(ctx, func(d time.Duration) trial {
		return trial{
			want: b.row.done, err: context.DeadlineExceeded,
			derive: func(ctx context.Context) (context.Context, context.CancelFunc) { return asyncio.WithTimeout(ctx, d) },
		}
	})
	if err != nil || b.row.done.task != ignored {
		return err
	}
	return b.inTime(ctx, func(d time.Duration) trial {
		return trial{want: b.row.cancel, err: asyncio.ErrTimeout, derive: asyncio.WithCancel, limit: d}
	})
}

// inTime makes a trial that is limited by a time. That must not pass before the server has the
// request, which takes a while on a busy machine.
func (b *run) inTime(ctx context.Context, limited func(d time.Duration) trial) error {
	for d := 200 * time.Millisecond; ; d *= 2 {
		tr := limited(d)
		tr.end = func(*asyncio.Task[string], context.CancelFunc) {}
		if early, err := b.givesUp(ctx, tr); err != nil || !early {
			return err
		}
	}
}

// A trial is one way to make a task give up an operation.
type trial struct {
	want outcome
	err  error // what the await returns

	// derive returns the operation's ctx, which is the ctx of its task if own is set. end is called
	// when the server has the request.
	own    bool
	limit  time.Duration // of a Timeout around the operation, if it is not 0
	derive func(ctx context.Context) (context.Context, context.CancelFunc)
	end    func(task *asyncio.Task[string], cancel context.CancelFunc)
}

// givesUp makes a task give up an operation that the server holds back, and compares what happens
// with what the row says. early says that the ctx ended before the server had the request.
func (b *run) givesUp(ctx context.Context, tr trial) (early bool, _ error) {
	return early, b.with(ctx, 1, func(c *client) error {
		before, err := c.connection(ctx)
		if err != nil {
			return err
		}
		value := b.value()
		operation, cancel := tr.derive(ctx)
		defer cancel()
		outer := ctx
		if tr.own {
			outer = operation
		}
		task := asyncio.CreateTask(outer, func(ctx context.Context) (got string, err error) {
			if tr.limit == 0 {
				return c.hold(operation, value)
			}
			err = asyncio.Timeout(ctx, tr.limit, func(context.Context, *asyncio.TimeoutScope) error {
				got, err = c.hold(operation, value)
				return err
			})
			return got, err
		})
		for n := 0; n != 1; {
			if n, err = b.held(ctx); err != nil {
				return err
			}
			if early = operation.Err() != nil || tr.limit > 0 && task.Done(); early {
				return b.tooEarly(ctx, task, value)
			}
		}
		if err := b.beatsOn(ctx); err != nil {
			return err
		}
		tr.end(task, cancel)
		if err := b.afterwards(ctx, task, value, tr); err != nil {
			return err
		}
		if tr.want.task == ignored {
			return b.check(ctx, c, 20)
		}
		return b.sameConnection(ctx, c, before, tr.want.conn)
	})
}

// tooEarly cleans up after an operation whose deadline has passed before the server had the
// request. Some libraries send it all the same, later.
func (b *run) tooEarly(ctx context.Context, task *asyncio.Task[string], value string) error {
	for quiet := 0; quiet < 50; quiet++ {
		n, err := b.held(ctx)
		if err != nil {
			return err
		}
		if n > 0 || !task.Done() {
			quiet = 0
		}
		if err := errors.Join(b.release(ctx, value), asyncio.Sleep(ctx, time.Millisecond)); err != nil {
			return err
		}
	}
	_, err := task.Await(ctx)
	b.t.Logf("the deadline has passed too early: %v", err)
	return nil
}

// afterwards looks what becomes of the task and of its operation.
func (b *run) afterwards(ctx context.Context, task *asyncio.Task[string], value string, tr trial) error {
	if tr.want.task == ignored {
		if err := b.stays(ctx, "the task has ended", func(int) bool { return task.Done() }); err != nil {
			return err
		}
		if err := b.release(ctx, value); err != nil {
			return err
		}
		return answers(ctx, func(ctx context.Context, _ string) (string, error) { return task.Await(ctx) }, value)
	}
	if _, _, err := asyncio.Wait(ctx, []*asyncio.Task[string]{task}, asyncio.WaitTimeout(patience/4)); err != nil {
		return err
	}
	if !task.Done() {
		return errors.New("the task does not end")
	}
	got, err := task.Await(ctx)
	if !errors.Is(err, tr.err) {
		return fmt.Errorf("the operation returns %q and the error %w, want %w", got, orNone(err), tr.err)
	}
	b.t.Logf("the operation's error: %v", err)
	if tr.want.work == runsOn {
		if err := b.stays(ctx, "the server has dropped the operation", func(held int) bool { return held != 1 }); err != nil {
			return err
		}
		if err := b.release(ctx, value); err != nil {
			return err
		}
	}
	return b.untilHeld(ctx, 0)
}

// sameConnection looks what has become of the connection, and whether the client gets right answers
// afterwards.
func (b *run) sameConnection(ctx context.Context, c *client, before, want string) error {
	if want == closed {
		if answer, err := c.ask(ctx, b.value()); err == nil {
			return fmt.Errorf("the client still works: it answers %q", answer)
		}
		return b.with(ctx, 1, func(c *client) error { return b.check(ctx, c, 20) })
	}
	after, err := c.connection(ctx)
	if err != nil {
		return err
	}
	if same := after == before; same != (want == kept) {
		return fmt.Errorf("the connection was %q and is %q, want it %s", before, after, want)
	}
	return b.check(ctx, c, 20)
}

// randomCancels cancels tasks at random points. Each gets its own answer or the cancel, and the
// client is sound afterwards.
func (b *run) randomCancels(ctx context.Context) error {
	n := b.cancels
	//asynciovet:allow mathrand the seed is logged
	seed := rand.Uint64()
	b.t.Logf("seed %d", seed)
	cancelled := 0
	// some cancels n tasks, one after the other.
	some := func(ctx context.Context, r *rand.Rand, n int) (err error) {
		for left := n; left > 0; {
			if e := b.with(ctx, 1, func(c *client) error {
				for range left {
					left--
					value := b.value()
					task := asyncio.CreateTask(ctx, func(ctx context.Context) (string, error) { return c.ask(ctx, value) })
					for range r.IntN(4) {
						if err := asyncio.Sleep(ctx, 0); err != nil {
							return err
						}
					}
					if r.IntN(2) == 0 {
						if err := asyncio.Sleep(ctx, time.Duration(r.IntN(1000))*time.Microsecond); err != nil {
							return err
						}
					}
					task.Cancel()
					switch got, err := task.Await(ctx); {
					case errors.Is(err, asyncio.ErrCancelled):
						cancelled++
						if b.row.cancel.conn == closed {
							return nil // another client
						}
					case err != nil || got != value:
						return fmt.Errorf("answer %q (error: %w), want %q", got, orNone(err), value)
					}
					if err := b.check(ctx, c, 1); err != nil {
						return err
					}
				}
				return nil
			}); e != nil {
				return e
			}
		}
		return nil
	}
	err := asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg *asyncio.TaskGroup) error {
		for i := range uint64(4) {
			tg.CreateTask(ctx, func(ctx context.Context) error { return some(ctx, rand.New(rand.NewPCG(seed, i)), n/4) })
		}
		return nil
	})
	b.t.Logf("%d of %d tasks were cancelled", cancelled, n)
	return err
}
