package asyncio

import "fmt"

// The synchronization primitives have this in common. Each is a few variables and a waitQueue.
//
//	primitive 1: Between two awaits nothing else of the loop runs, so no operation is ever seen half
//	   done. An operation that need not wait does not suspend (CPython 10) and does not allocate.
//	primitive 2: Waiters are served in the order they came. What a waker hands over (the turn at a
//	   lock, a permit, a notification) is not lost: a waiter that was given it but ends with an
//	   error all the same (waiter 3) passes it on before it returns.
//	primitive 3: A primitive is bound to the loop of the first task that had to wait for it, until
//	   that loop is closed. A task of another loop that would have to wait is refused. So is a
//	   foreign goroutine that changes the primitive once it is bound. While locked, a lock belongs
//	   to its owner's loop.
//	primitive 4: A loop that is being closed unwinds tasks in the middle of their waits. Their
//	   deferred functions then give back things that they did not get. That is not a mistake of
//	   theirs.
type primitive struct {
	_ noCopy
	binding
	queue waitQueue // waiters in the order they came (primitive 2)
}

// A binding is the loop of an object that was made without one (primitive 3): of a primitive or a
// queue.
type binding struct {
	loop *EventLoop // nil until a task has had to wait
}

// bind is called for a task that has to wait (primitive 3).
func (b *binding) bind(t *task, caller string) error {
	if b.loop == t.loop() {
		return nil
	}
	return b.rebind(t.loop(), caller)
}

// rebind is the rest of bind, which is inlined.
func (b *binding) rebind(l *EventLoop, caller string) error {
	if b.loop != nil && !b.loop.closed.Load() {
		return fmt.Errorf("%w (in %s)", ErrDifferentLoop, caller)
	}
	b.loop = l
	return nil
}

// checkOwner refuses a foreign goroutine, once there is a loop to be foreign to (primitive 3). A
// closed loop has no tasks that could wait, so any goroutine may then use its primitives. In
// deferred functions of tasks that the loop unwinds, they work to the end.
func (b *binding) checkOwner(caller string) error {
	if b.loop == nil {
		return nil
	}
	return b.loop.checkForeign(caller)
}

func (b *binding) mustBeOwner(caller string) {
	if err := b.checkOwner(caller); err != nil {
		panic(err)
	}
}

// unwinding reports whether the loop is being closed and unwinds tasks (primitive 4).
func (b *binding) unwinding() bool {
	return b.loop != nil && b.loop.closing.Load() && !b.loop.closed.Load()
}

// waiters returns the tasks that wait, oldest first.
func (p *primitive) waiters() []AnyTask {
	p.mustBeOwner("Statistics")
	var all []AnyTask
	for _, t := range p.queue.tasks() {
		all = append(all, t.self)
	}
	return all
}

// repr returns Python's repr, without the address.
func (p *primitive) repr(class, state string) string {
	if p.checkOwner("String") != nil {
		return fmt.Sprintf("<asyncio.%s>", class)
	}
	if n := p.queue.len(); n > 0 {
		state = fmt.Sprintf("%s, waiters:%d", state, n)
	}
	return fmt.Sprintf("<asyncio.%s [%s]>", class, state)
}

// acquiring is the part of a lock or semaphore that OnAcquire needs. The waiter is the branch's.
type acquiring interface {
	// tryAcquire acquires the lock if that need not wait, or if the lock was handed to w.
	tryAcquire(w *waiter) bool
	bindTo(t *task) error
	waiting() *waitQueue
	// leave takes w out of the queue. If w was handed the lock and is not to have it, it is passed
	// on.
	leave(w *waiter, acquired bool)
}
