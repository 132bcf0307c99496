package asyncio_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
)

func TestGroupStart(t *testing.T) {
	run(t, func(ctx context.Context) error {
		l := loop(t, ctx)
		return asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg group) error {
			for _, eager := range []bool{false, true} {
				began := l.Time()
				served := false
				addr, err := asyncio.GroupStart(ctx, tg, func(ctx context.Context, s *asyncio.TaskStatus[string]) error {
					must(t, asyncio.Sleep(ctx, time.Second))
					must(t, s.Started("localhost:80"))
					if err := s.Started("again"); !errors.Is(err, asyncio.ErrInvalidState) {
						t.Error(err)
					}
					must(t, asyncio.Sleep(ctx, time.Second))
					served = true
					return nil
				}, asyncio.EagerStart(eager))
				if addr != "localhost:80" || err != nil || l.Time().Sub(began) != time.Second || served {
					t.Error(addr, err, l.Time().Sub(began), served)
				}
				must(t, asyncio.Sleep(ctx, 2*time.Second))
				if !served {
					t.Error("it did not go on")
				}
			}
			return nil
		})
	})
}

func TestGroupStart_DoesNotGetReady(t *testing.T) {
	run(t, func(ctx context.Context) error {
		start := func(ctx context.Context, tg group, fn routine) error {
			_, err := asyncio.GroupStart(ctx, tg, func(ctx context.Context, _ *asyncio.TaskStatus[int]) error { return fn(ctx) })
			return err
		}
		if err := asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg group) error {
			if err := start(ctx, tg, failsAfter(time.Second, errA)); err != errA {
				t.Error(err)
			}
			if err := start(ctx, tg, nothing); !errors.Is(err, asyncio.ErrInvalidState) {
				t.Error(err)
			}
			return asyncio.Sleep(ctx, time.Second) // the group goes on
		}); err != nil {
			t.Error(err)
		}
		// A cancel of the waiting caller reaches the child, and GroupStart waits for its clean-up.
		cleaned := false
		task, err := inTask(t, ctx, time.Second, func(ctx context.Context) error {
			return asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg group) error {
				err := start(ctx, tg, func(ctx context.Context) error {
					err := cleaning(time.Hour, time.Second)(ctx)
					cleaned = true
					return err
				})
				if !cleaned {
					t.Error("did not wait for the clean-up")
				}
				return err
			})
		})
		asCancelled(t, err)
		if task.Cancelling() != 1 {
			t.Error(task)
		}
		// The end of the caller's context does the same.
		cleaned = false
		return asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg group) error {
			hurried, cancel := asyncio.WithTimeout(ctx, time.Second)
			defer cancel()
			err := start(hurried, tg, func(ctx context.Context) error {
				err := cleaning(time.Hour, time.Second)(ctx)
				cleaned = true
				return err
			})
			if err != context.DeadlineExceeded || !cleaned {
				t.Error(err, cleaned)
			}
			// A cancel that arrives during that clean-up is not lost.
			task, err := inTask(t, ctx, time.Second, func(ctx context.Context) error {
				hurried, cancel := asyncio.WithTimeout(ctx, time.Second/2)
				defer cancel()
				return start(hurried, tg, cleaning(time.Hour, time.Minute))
			})
			asCancelled(t, err)
			if errors.Is(err, context.DeadlineExceeded) && !task.Cancelled() {
				t.Error(task, err)
			}
			// A child that gets ready all the same has started.
			hurried, cancel2 := asyncio.WithTimeout(ctx, time.Second)
			defer cancel2()
			v, err := asyncio.GroupStart(hurried, tg, func(ctx context.Context, s *asyncio.TaskStatus[int]) error {
				_ = asyncio.Sleep(ctx, time.Hour)
				return s.Started(7)
			})
			if v != 7 || err != nil {
				t.Error(v, err)
			}
			return nil
		})
	})
}

func TestGroupStart_FailsLater(t *testing.T) {
	run(t, func(ctx context.Context) error {
		failsWith(t, asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg group) error {
			v, err := asyncio.GroupStart(ctx, tg, func(ctx context.Context, s *asyncio.TaskStatus[int]) error {
				must(t, s.Started(1))
				return failsAfter(time.Second, errA)(ctx)
			})
			if v != 1 || err != nil {
				t.Error(v, err)
			}
			return asyncio.Sleep(ctx, time.Hour)
		}), errA)
		return nil
	})
}
