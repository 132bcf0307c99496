package asyncio

import (
	"cmp"
	"context"
	"fmt"
	"reflect"
	"slices"
)

// A CapacityLimiter bounds how many borrowers do something at a time. It is a semaphore that knows
// the holders of its tokens, and whose number of tokens can be changed. A borrower is the calling
// task, or any comparable value on whose behalf it asks, and holds one token at most. The limiter
// is fair: tokens go to borrowers in the order they asked. Make one with [NewCapacityLimiter]; the
// zero value has no tokens. It must not be copied.
//
// Its methods are for the loop only. asyncio has no equivalent; it follows trio.CapacityLimiter,
// which anyio has too.
type CapacityLimiter struct {
	primitive
	total     int
	used      *EventLoop      // the loop of the last task to acquire
	borrowers map[any]uint64  // the values number them in the order of borrowing
	pending   map[any]*waiter // borrowers for which a task waits
	seq       uint64
}

// CapacityLimiterStatistics is a [CapacityLimiter] at one moment, for debugging.
type CapacityLimiterStatistics struct {
	BorrowedTokens int
	TotalTokens    int
	Borrowers      []any     // tasks and others, in the order they got their tokens
	Waiters        []AnyTask // in the order they will be served
}

// NewCapacityLimiter makes a limiter with total tokens. math.MaxInt is as good as no limit; with
// zero every borrower waits until there are more. Any goroutine may call it. It panics with
// [ErrInvalidArgument] if total is negative.
func NewCapacityLimiter(total int) *CapacityLimiter {
	return &CapacityLimiter{total: tokens(total, "NewCapacityLimiter")}
}

func tokens(n int, caller string) int {
	if n < 0 {
		panic(fmt.Errorf("%w: a limiter cannot have %d tokens (in %s)", ErrInvalidArgument, n, caller))
	}
	return n
}

// Acquire borrows a token for the calling task. If none is left it suspends the task until its turn
// has come; otherwise it does not suspend.
//
// A cancel of the task, or the end of ctx, ends the wait with an error, and no token is then
// borrowed; a token that had been set aside goes to the next borrower. Acquire returns
// [ErrInvalidState] if the borrower has a token already or waits for one, and the errors of
// [Lock.Acquire]. trio: CapacityLimiter.acquire.
func (c *CapacityLimiter) Acquire(ctx context.Context) error {
	t, err := enter(ctx, "Acquire")
	if err != nil {
		return err
	}
	return c.acquire(ctx, t, t.self, "Acquire")
}

// AcquireOnBehalfOf is [CapacityLimiter.Acquire] for borrower. It returns [ErrInvalidArgument] if
// that is nil or not comparable. trio: CapacityLimiter.acquire_on_behalf_of.
func (c *CapacityLimiter) AcquireOnBehalfOf(ctx context.Context, borrower any) error {
	t, err := enter(ctx, "AcquireOnBehalfOf")
	if err != nil {
		return err
	}
	return c.acquire(ctx, t, borrower, "AcquireOnBehalfOf")
}

func (c *CapacityLimiter) acquire(ctx context.Context, t *task, borrower any, caller string) (err error) {
	c.used = t.loop()
	free, err := c.try(borrower, caller)
	if free || err != nil {
		return err
	}
	if err := c.bind(t, caller); err != nil {
		return err
	}
	w := &waiter{what: borrower}
	if c.pending == nil {
		c.pending = make(map[any]*waiter)
	}
	c.pending[borrower] = w
	acquired := false
	defer func() { // also when the task is unwound
		switch {
		case !w.woken:
			delete(c.pending, borrower)
		case !acquired:
			delete(c.borrowers, borrower)
			c.wake()
		}
	}()
	err = c.queue.waitWith(ctx, t, w, c)
	acquired = err == nil
	return err
}

// AcquireNowait borrows a token for the calling task, or returns [ErrWouldBlock] if none is left.
// It does not suspend, and does not look whether ctx is done. The other errors are those of
// [CapacityLimiter.Acquire]. trio: CapacityLimiter.acquire_nowait.
func (c *CapacityLimiter) AcquireNowait(ctx context.Context) error {
	t, err := taskOf(ctx, "AcquireNowait")
	if err != nil {
		return err
	}
	c.used = t.loop()
	return c.nowait(t.self, "AcquireNowait")
}

// AcquireOnBehalfOfNowait is [CapacityLimiter.AcquireNowait] for borrower. A callback may call it
// too. trio: CapacityLimiter.acquire_on_behalf_of_nowait.
func (c *CapacityLimiter) AcquireOnBehalfOfNowait(borrower any) error {
	return c.nowait(borrower, "AcquireOnBehalfOfNowait")
}

func (c *CapacityLimiter) nowait(borrower any, caller string) error {
	if err := c.checkOwner(caller); err != nil {
		return err
	}
	free, err := c.try(borrower, caller)
	if !free && err == nil {
		return fmt.Errorf("%w: all %d tokens are borrowed (in %s)", ErrWouldBlock, c.total, caller)
	}
	return err
}

// try borrows a token if one is left. Waiting borrowers get a token as soon as there is one, so a
// token that is left is nobody's.
func (c *CapacityLimiter) try(borrower any, caller string) (free bool, err error) {
	if !isBorrower(borrower) {
		return false, fmt.Errorf("%w: a borrower of type %T cannot be told from others (in %s)", ErrInvalidArgument, borrower, caller)
	}
	if c.borrowers[borrower] != 0 {
		return false, fmt.Errorf("%w: %v has a token already (in %s)", ErrInvalidState, borrower, caller)
	}
	if c.pending[borrower] != nil {
		return false, fmt.Errorf("%w: %v waits for a token already (in %s)", ErrInvalidState, borrower, caller)
	}
	if c.AvailableTokens() == 0 {
		return false, nil
	}
	c.lend(borrower)
	return true, nil
}

// isBorrower reports whether v can be told from other values. (NaN is not equal to itself.)
func isBorrower(v any) bool {
	if v == nil {
		return false
	}
	switch t := reflect.TypeOf(v); t.Kind() {
	// comparable only if the contents are; looking at them allocates
	case reflect.Array, reflect.Struct:
		return reflect.ValueOf(v).Comparable() && v == v
	default:
		return t.Comparable() && v == v
	}
}

func (c *CapacityLimiter) lend(borrower any) {
	if c.borrowers == nil {
		c.borrowers = make(map[any]uint64)
	}
	c.seq++
	c.borrowers[borrower] = c.seq
}

// wake lends the tokens that are left to the borrowers that wait.
func (c *CapacityLimiter) wake() {
	for c.AvailableTokens() > 0 {
		w := c.queue.firstPending()
		if w == nil {
			return
		}
		w.wake()
		delete(c.pending, w.what)
		c.lend(w.what)
	}
}

// Release gives the calling task's token back and wakes the task that has waited longest. It does
// not suspend. It panics with [ErrNotAcquired] if the task has no token, and with [ErrNotInTask] or
// [ErrNoRunningLoop]. trio: CapacityLimiter.release.
func (c *CapacityLimiter) Release(ctx context.Context) {
	l := loopOf(ctx)
	if l == nil {
		panic(noLoop(ctx, "Release"))
	}
	l.mustNotBeForeign("Release")
	if l.current == nil {
		panic(fmt.Errorf("%w (in Release)", ErrNotInTask))
	}
	c.release(l.current.self, "Release")
}

// ReleaseOnBehalfOf gives borrower's token back and wakes the task that has waited longest. It does
// not suspend. Any task or callback of the loop may call it. It panics with [ErrNotAcquired] if
// borrower has no token. trio: CapacityLimiter.release_on_behalf_of.
func (c *CapacityLimiter) ReleaseOnBehalfOf(borrower any) {
	c.release(borrower, "ReleaseOnBehalfOf")
}

func (c *CapacityLimiter) release(borrower any, caller string) {
	c.mustBeOwner(caller)
	if !isBorrower(borrower) || c.borrowers[borrower] == 0 {
		panic(fmt.Errorf("%w: %v has no token (in %s)", ErrNotAcquired, borrower, caller))
	}
	delete(c.borrowers, borrower)
	c.wake()
}

// checkOwner is the binding's checkOwner. A limiter for which no task ever had to wait counts as
// belonging to the loop that used it last, because a goroutine beside that loop would corrupt its
// maps.
func (c *CapacityLimiter) checkOwner(caller string) error {
	if c.loop == nil && c.used != nil {
		return c.used.checkForeign(caller)
	}
	return c.binding.checkOwner(caller)
}

func (c *CapacityLimiter) mustBeOwner(caller string) {
	if err := c.checkOwner(caller); err != nil {
		panic(err)
	}
}

// TotalTokens returns how many tokens there are. It does not suspend.
func (c *CapacityLimiter) TotalTokens() int { return c.total }

// SetTotalTokens changes how many tokens there are. If there are more, waiting borrowers get them.
// If there are fewer, no token is taken away, and the next borrowers wait until enough are back. It
// does not suspend. It panics with [ErrInvalidArgument] if n is negative. trio: assigning to
// CapacityLimiter.total_tokens.
func (c *CapacityLimiter) SetTotalTokens(n int) {
	c.mustBeOwner("SetTotalTokens")
	c.total = tokens(n, "SetTotalTokens")
	c.wake()
}

// BorrowedTokens returns how many tokens are borrowed, including those set aside for tasks about to
// resume. It does not suspend.
func (c *CapacityLimiter) BorrowedTokens() int { return len(c.borrowers) }

// AvailableTokens returns how many tokens are left, never less than zero. It does not suspend.
func (c *CapacityLimiter) AvailableTokens() int { return max(0, c.total-len(c.borrowers)) }

// Statistics describes the limiter. It does not suspend. trio: CapacityLimiter.statistics.
func (c *CapacityLimiter) Statistics() CapacityLimiterStatistics {
	c.mustBeOwner("Statistics")
	s := CapacityLimiterStatistics{BorrowedTokens: len(c.borrowers), TotalTokens: c.total, Waiters: c.waiters()}
	for b := range c.borrowers {
		s.Borrowers = append(s.Borrowers, b)
	}
	slices.SortFunc(s.Borrowers, func(a, b any) int { return cmp.Compare(c.borrowers[a], c.borrowers[b]) })
	return s
}

// String returns a repr in the style of the other primitives: <asyncio.CapacityLimiter
// [borrowed:2/3]>.
func (c *CapacityLimiter) String() string {
	return c.repr("CapacityLimiter", fmt.Sprintf("borrowed:%d/%d", len(c.borrowers), c.total))
}
