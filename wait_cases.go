package asyncio

import (
	"context"
	"fmt"
	"time"
)

// A Case is one branch of a [Select]: it names what to wait for, and has the result afterwards. It
// is made by [OnDone], [OnRecv], [OnSend], [OnGet], [OnPut], [OnAcquire], [OnTimeout] or
// [OnDefault]. It can be used again and again, by one Select at a time. Its methods are for the
// loop only and do not suspend.
type Case[T any] struct {
	_      noCopy
	branch branch
	from   *Future[T]           // of OnDone: the future that has the result,
	remote *ConcurrentFuture[T] // or this one
	value  T
	err    error
	ok     bool // of OnRecv
	won    bool
	used   bool // a Select is using it
}

// AnyCase is a [*Case] of any type. Only Case implements it.
type AnyCase interface {
	begin() (branch, error)
	end()
	win()
}

// Result returns the result of the branch, if it won its last Select:
//   - of OnDone the result of the future, task or coroutine; an error then counts as retrieved;
//   - of OnRecv the value received, the zero value if the channel is closed ([Case.OK] tells);
//   - of OnGet the value, or [ErrQueueShutDown];
//   - of OnPut nothing, or ErrQueueShutDown if the value was not put;
//   - of the others nothing.
//
// If the branch did not win, Result returns [ErrInvalidState]. But OnDone has a result whichever
// branch won: a coroutine that was cancelled too late has one as well, which would otherwise be
// lost.
func (c *Case[T]) Result() (T, error) {
	switch {
	case c.from != nil && c.from.state != pending:
		return c.from.Result()
	case c.remote != nil && c.remote.Done():
		return c.remote.value, c.remote.err
	case c.won:
		return c.value, c.err
	}
	var zero T
	return zero, fmt.Errorf("%w: this branch has not won a Select", ErrInvalidState)
}

// OK reports whether the branch won and succeeded. For OnRecv that means that the channel was open,
// as in v, ok := <-ch; for the others that Result has no error.
func (c *Case[T]) OK() bool {
	return c.won && c.ok
}

func (c *Case[T]) begin() (branch, error) {
	if c == nil || c.branch == nil {
		return nil, fmt.Errorf("%w: a Case that was not made with OnDone or its like (in Select)", ErrInvalidArgument)
	}
	if c.used {
		return nil, fmt.Errorf("%w: one Case for two branches at a time (in Select)", ErrInvalidArgument)
	}
	var zero T
	c.value, c.err, c.ok, c.won, c.used = zero, nil, false, false, true
	return c.branch, nil
}

func (c *Case[T]) end() { c.used = false }

func (c *Case[T]) win() { c.won = true }

// A branch implements the wait of a Case.
type branch interface {
	// check refuses a branch that t can never wait for, and forgets the Select before.
	check(t *task) error

	// try wins, if the branch need not wait.
	try(s *selecting) bool

	// bind refuses a branch for which t would have to wait and cannot. It is called before every
	// join.
	bind(t *task) error

	// join begins to wait, and does so again after a wake-up in vain.
	join(s *selecting)

	// leave stops waiting, and passes on a handed-over permit or wake-up that was not taken. It is
	// called after each Select, whether or not the branch has joined or won.
	leave(s *selecting)
}

// OnDone is a branch that wins when a future, a task or a [ConcurrentFuture] is done; if another
// branch wins they are left untouched. A coroutine, or any other awaitable, is awaited by a task
// that Select makes with its own ctx when no branch is ready, and cancels if another branch wins.
// Any goroutine may call it.
func OnDone[T any](aw Awaitable[T]) *Case[T] {
	c := new(Case[T])
	if remote, ok := aw.(*ConcurrentFuture[T]); ok && remote != nil {
		c.remote = remote
		c.branch = &remoteBranch[T]{c: c}
		return c
	}
	b := &doneBranch[T]{c: c, aw: aw}
	switch a := aw.(type) {
	case *Future[T]:
		b.f = a
	case *Task[T]:
		if a != nil {
			b.f = &a.Future
		}
	}
	c.from, c.branch = b.f, b
	return c
}

type doneBranch[T any] struct {
	c    *Case[T]
	aw   Awaitable[T]
	f    *Future[T] // nil if aw is to be run
	task *Task[T]   // runs aw
}

func (b *doneBranch[T]) check(t *task) error {
	b.c.from, b.task = b.f, nil
	switch {
	case b.f == nil && (b.aw == nil || isNil(b.aw) || isNilCoroutine(b.aw)):
		return fmt.Errorf("%w: nil awaitable (in OnDone)", ErrInvalidArgument)
	case b.f == nil:
		return nil
	case &b.f.future == t.fut:
		return fmt.Errorf("%w: %v (in OnDone)", ErrAwaitSelf, b.aw)
	}
	return t.loop().checkFuture(b.f, "OnDone")
}

func isNilCoroutine[T any](aw Awaitable[T]) bool {
	c, ok := aw.(Coroutine[T])
	return ok && c == nil
}

func (b *doneBranch[T]) try(*selecting) bool {
	if b.c.from == nil || b.c.from.state == pending {
		return false
	}
	b.c.ok = b.c.from.err == nil
	return true
}

func (b *doneBranch[T]) bind(*task) error { return nil }

func (b *doneBranch[T]) start(s *selecting) {
	if b.c.from == nil {
		coro, ok := b.aw.(Coroutine[T]) // for its name
		if !ok {
			coro = b.aw.Await
		}
		b.task = CreateTask(s.ctx, coro)
		b.c.from = &b.task.Future
		s.started = append(s.started, b.task)
	}
}

func (b *doneBranch[T]) join(s *selecting) {
	b.c.from.removeCallback(s)
	b.c.from.addCallback(s)
}

func (b *doneBranch[T]) leave(s *selecting) {
	if b.c.from != nil {
		b.c.from.removeCallback(s)
	}
}

// remoteBranch is OnDone of a ConcurrentFuture, whose end is posted to the loop's inbox.
type remoteBranch[T any] struct {
	c      *Case[T]
	forget func() // nil if there is no wait
}

func (b *remoteBranch[T]) check(*task) error {
	if b.c.remote.done == nil {
		return zeroConcurrentFuture("OnDone")
	}
	return nil
}

func (b *remoteBranch[T]) bind(*task) error { return nil }

func (b *remoteBranch[T]) try(*selecting) bool {
	if !b.c.remote.Done() {
		return false
	}
	b.c.ok = b.c.remote.err == nil
	return true
}

func (b *remoteBranch[T]) join(s *selecting) {
	if b.forget != nil {
		return // from the first time
	}
	l := s.t.loop()
	elsewhere := b.c.remote.loop != l
	if elsewhere {
		l.drv.Hold() // the other loop works in real time
	}
	forget := b.c.remote.whenDone(func() { _ = l.post(s) })
	b.forget = func() {
		forget()
		if elsewhere {
			l.drv.Release()
		}
	}
}

func (b *remoteBranch[T]) leave(*selecting) {
	if b.forget != nil {
		b.forget()
		b.forget = nil
	}
}

// AnyQueue is a [*Queue], [*LifoQueue] or [*PriorityQueue]. Only these implement it.
type AnyQueue[T any] interface {
	Put(ctx context.Context, v T) error
	Get(ctx context.Context) (T, error)
	queue() *Queue[T]
}

// OnGet is a branch that wins when it has taken a value out of q, or when q is shut down and empty.
// If it does not win it has taken nothing, and the value is there for the next getter. Any
// goroutine may call it.
func OnGet[T any](q AnyQueue[T]) *Case[T] {
	c := new(Case[T])
	b := &getBranch[T]{c: c}
	if q != nil && !isNil(q) {
		b.q = q.queue()
	}
	c.branch = b
	return c
}

func (q *Queue[T]) queue() *Queue[T] { return q }

type getBranch[T any] struct {
	waiter
	c *Case[T]
	q *Queue[T]
}

func (b *getBranch[T]) check(t *task) error {
	b.waiter = waiter{t: t}
	if b.q == nil {
		return fmt.Errorf("%w: nil queue (in OnGet)", ErrInvalidArgument)
	}
	return b.q.checkMade("OnGet")
}

func (b *getBranch[T]) try(*selecting) bool {
	if b.q.empty() && !b.q.down {
		return false
	}
	b.c.value, b.c.err = b.q.get()
	b.c.ok = b.c.err == nil
	b.woken = false
	return true
}

func (b *getBranch[T]) bind(t *task) error { return b.q.bind(t, "OnGet") }

func (b *getBranch[T]) join(*selecting) { b.q.getters.rejoin(&b.waiter) }

func (b *getBranch[T]) leave(*selecting) {
	b.q.getters.remove(&b.waiter)
	if b.woken && !b.q.empty() {
		b.q.getters.dismissNext() // a wake-up that was not used is passed on (queue 3)
	}
}

// OnPut is a branch that wins when it has put v into q, or when q is shut down. If it does not win
// it has put nothing. Any goroutine may call it.
func OnPut[T any](q AnyQueue[T], v T) *Case[None] {
	c := new(Case[None])
	b := &putBranch[T]{c: c, v: v}
	if q != nil && !isNil(q) {
		b.q = q.queue()
	}
	c.branch = b
	return c
}

type putBranch[T any] struct {
	waiter
	c *Case[None]
	q *Queue[T]
	v T
}

func (b *putBranch[T]) check(t *task) error {
	b.waiter = waiter{t: t}
	if b.q == nil {
		return fmt.Errorf("%w: nil queue (in OnPut)", ErrInvalidArgument)
	}
	return b.q.checkMade("OnPut")
}

func (b *putBranch[T]) try(*selecting) bool {
	if b.q.full() && !b.q.down {
		return false
	}
	b.c.err = b.q.put(b.v) // may panic, and has then put nothing
	b.c.ok = b.c.err == nil
	b.woken = false
	return true
}

func (b *putBranch[T]) bind(t *task) error { return b.q.bind(t, "OnPut") }

func (b *putBranch[T]) join(*selecting) { b.q.putters.rejoin(&b.waiter) }

func (b *putBranch[T]) leave(*selecting) {
	b.q.putters.remove(&b.waiter)
	if b.woken && !b.q.full() {
		b.q.putters.dismissNext() // a wake-up that was not used is passed on (queue 3)
	}
}

// AnyLock is a [*Lock], [*Condition], [*Semaphore] or [*BoundedSemaphore]. Only these implement it.
type AnyLock interface {
	Acquire(ctx context.Context) error
	Release()
	Locked() bool
	acquiring() acquiring
}

// OnAcquire is a branch that wins when it has acquired l; the caller must then release l. If it
// does not win it has acquired nothing. Any goroutine may call it.
func OnAcquire(l AnyLock) *Case[None] {
	c := new(Case[None])
	b := &acquireBranch{c: c}
	if l != nil && !isNil(l) {
		b.l = l.acquiring()
	}
	c.branch = b
	return c
}

type acquireBranch struct {
	waiter
	c *Case[None]
	l acquiring
}

func (b *acquireBranch) check(t *task) error {
	b.waiter = waiter{t: t}
	if b.l == nil {
		return fmt.Errorf("%w: nil lock (in OnAcquire)", ErrInvalidArgument)
	}
	return nil
}

func (b *acquireBranch) try(*selecting) bool {
	b.c.ok = b.l.tryAcquire(&b.waiter)
	return b.c.ok
}

func (b *acquireBranch) bind(t *task) error { return b.l.bindTo(t) }

func (b *acquireBranch) join(*selecting) { b.l.waiting().rejoin(&b.waiter) }

func (b *acquireBranch) leave(*selecting) { b.l.leave(&b.waiter, b.c.ok) }

// OnRecv is a branch that wins when it has received from ch, or ch is closed. A nil ch never wins.
// If it does not win nothing was received. See [Recv] for more about channels. Any goroutine may
// call it.
func OnRecv[T any](ch <-chan T) *Case[T] {
	c := new(Case[T])
	c.branch = &recvBranch[T]{c: c, op: channelOp[T]{in: ch}}
	return c
}

// channelBranch is a branch on a channel.
type channelBranch interface {
	// happened wins if over, an operation of a listener or another task, is this branch's.
	happened(over anyChannelOp) bool
}

type recvBranch[T any] struct {
	c  *Case[T]
	op channelOp[T]
}

func (b *recvBranch[T]) check(*task) error { return nil }
func (b *recvBranch[T]) bind(*task) error  { return nil }
func (b *recvBranch[T]) leave(*selecting)  {}
func (b *recvBranch[T]) join(s *selecting) { s.channels.add(&b.op) }

func (b *recvBranch[T]) try(s *selecting) bool {
	return s.channels.perform(&b.op) && b.happened(&b.op)
}

func (b *recvBranch[T]) happened(over anyChannelOp) bool {
	if over != anyChannelOp(&b.op) {
		return false
	}
	var zero T
	b.c.value, b.c.ok, b.op.v = b.op.v, b.op.ok, zero
	return true
}

// OnSend is a branch that wins when it has sent v to ch. A nil ch never wins. If ch is closed,
// Select panics. If it does not win nothing was sent. See [Send] for more about channels. Any
// goroutine may call it.
func OnSend[T any](ch chan<- T, v T) *Case[None] {
	c := new(Case[None])
	c.branch = &sendBranch[T]{c: c, op: channelOp[T]{out: ch, v: v}}
	return c
}

type sendBranch[T any] struct {
	c  *Case[None]
	op channelOp[T]
}

func (b *sendBranch[T]) check(*task) error { return nil }
func (b *sendBranch[T]) bind(*task) error  { return nil }
func (b *sendBranch[T]) leave(*selecting)  {}
func (b *sendBranch[T]) join(s *selecting) { s.channels.add(&b.op) }

func (b *sendBranch[T]) try(s *selecting) bool {
	return s.channels.perform(&b.op) && b.happened(&b.op)
}

func (b *sendBranch[T]) happened(over anyChannelOp) bool {
	if over != anyChannelOp(&b.op) {
		return false
	}
	b.op.finish()
	b.c.ok = true
	return true
}

// OnTimeout is a branch that wins when d has passed on the loop's clock since Select was called. If
// d is not positive, it wins in the next iteration; if d is [Forever], never. Any goroutine may
// call it.
func OnTimeout(d time.Duration) *Case[None] {
	c := new(Case[None])
	c.branch = &timeoutBranch{c: c, d: d}
	return c
}

type timeoutBranch struct {
	timer
	s       *selecting
	c       *Case[None]
	d       time.Duration
	expired bool
}

func (b *timeoutBranch) check(*task) error {
	b.expired, b.s = false, nil
	return nil
}

func (b *timeoutBranch) bind(*task) error { return nil }

func (b *timeoutBranch) try(*selecting) bool {
	b.c.ok = b.expired
	return b.expired
}

func (b *timeoutBranch) join(s *selecting) {
	if b.s != nil {
		return // from the first time
	}
	b.s = s
	l := s.t.loop()
	b.timer = timer{when: l.after(b.d), cb: &selectTimeout{b, s}}
	if b.when.age != Forever {
		l.setTimer(&b.timer)
	}
}

func (b *timeoutBranch) leave(s *selecting) { s.t.loop().timers.remove(&b.timer) }

// selectTimeout is a timeoutBranch as the callback of its timer. When its Select is over, the
// callback may still be in the ready queue while the branch is in another Select.
type selectTimeout struct {
	b *timeoutBranch
	s *selecting
}

func (st *selectTimeout) fire(f *future) {
	if st.b.s == st.s {
		st.b.expired = true
		st.s.fire(f)
	}
}

func (*selectTimeout) quick() {}

// OnDefault is a branch that wins if no other is ready when Select is called, wherever it stands
// among them. Select then does not suspend. Any goroutine may call it.
func OnDefault() *Case[None] {
	c := new(Case[None])
	c.branch = &defaultBranch{c}
	return c
}

type defaultBranch struct{ c *Case[None] }

func (b *defaultBranch) check(*task) error   { return nil }
func (b *defaultBranch) bind(*task) error    { return nil }
func (b *defaultBranch) try(*selecting) bool { return false }
func (b *defaultBranch) join(*selecting)     {}
func (b *defaultBranch) leave(*selecting)    {}
