package gallery

import (
	"context"
	"strconv"
	"time"

	"github.com/goasyncio/asyncio"
)

// A branch of a bank keeps an account, and moves money from it to that of the other branch. The
// mistake is to hold the account while the other branch is asked: if that does the same at the same
// time, each waits for the other. No timer ends that, because both are well.
//
// Actors that wait for each other do so as well: "Request scheduling" in the documentation of
// Orleans, https://learn.microsoft.com/en-us/dotnet/orleans/grains/request-scheduling
type branch struct {
	mistake bool
	other   string
	account asyncio.Lock
	balance int
}

func (b *branch) run(ctx context.Context) error {
	return serve(ctx, func(ctx context.Context, request string) (string, error) {
		if request == "credit" {
			return b.change(ctx, 1)
		}
		if b.mistake {
			if err := b.account.Acquire(ctx); err != nil {
				return "", err
			}
			defer b.account.Release()
			b.balance--
			return b.credit(ctx) // BUG: the other branch may be waiting for this account
		}
		if _, err := b.change(ctx, -1); err != nil {
			return "", err
		}
		return b.credit(ctx)
	})
}

// credit asks the other branch to take the money. What becomes of it if that does not answer is
// another story.
func (b *branch) credit(ctx context.Context) (string, error) {
	answer, err := ask(ctx, b.other, "credit")
	if err != nil {
		return "failed", gone(err)
	}
	return answer, nil
}

func (b *branch) change(ctx context.Context, by int) (string, error) {
	if err := b.account.Acquire(ctx); err != nil {
		return "", err
	}
	defer b.account.Release()
	b.balance += by
	return strconv.Itoa(b.balance), nil
}

// lockedAcross is two branches, and a customer of each. Both must get their answers in the end.
func lockedAcross(mistake bool) program {
	return staged(func(ctx context.Context, s *stage) error {
		s.server("north", func(ctx context.Context) error { return (&branch{mistake: mistake, other: "south"}).run(ctx) })
		s.server("south", func(ctx context.Context) error { return (&branch{mistake: mistake, other: "north"}).run(ctx) })
		var customers []*asyncio.Task[asyncio.None]
		for i, name := range []string{"north", "south"} {
			customers = append(customers, s.start("customer of "+name, func(ctx context.Context) error {
				if err := asyncio.Sleep(ctx, time.Duration(i)*think/2); err != nil {
					return err
				}
				for range 10 {
					if _, err := ask(ctx, name, "transfer"); err != nil && gone(err) != nil {
						return err
					}
					if err := asyncio.Sleep(ctx, think); err != nil {
						return err
					}
				}
				return nil
			}))
		}
		s.after = func(ctx context.Context) error {
			_, err := asyncio.Gather(ctx, customers...)
			return err
		}
		return asyncio.Sleep(ctx, 10*time.Second)
	})
}
