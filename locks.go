package asyncio

import "fmt"

// What the synchronization primitives have in common. Each is a few variables and a waitQueue.
//
//	P1 Between two awaits nothing else of the loop runs, so no operation is ever seen half done. One
//	   that need not wait does not suspend (S10) and does not allocate.
//	P2 Waiters are served in the order they came. What a waker hands over (the turn at a lock, a
//	   permit, a notification) is not lost: a waiter that was given it and ends with an
//	   error all the same (W3) passes it on before it returns.
//	P3 A primitive is bound to the loop of the first task that had to wait for it, until that loop
//	   is closed. A task of another loop that would have to wait is refused.
//	P4 A loop that is being closed unwinds tasks in the middle of their waits, and their deferred
//	   functions give back what they then do not have. That is not a mistake of theirs.
type primitive struct {
	_     noCopy
	queue waitQueue
	loop  *EventLoop // P3
}

// bind is P3, for a task that has to wait.
func (p *primitive) bind(t *task, caller string) error {
	l := t.loop()
	if p.loop != l {
		if p.loop != nil && !p.loop.closed.Load() {
			return fmt.Errorf("%w (in %s)", ErrDifferentLoop, caller)
		}
		p.loop = l
	}
	return nil
}

// mustBeOwner refuses, where it can be told, a foreign goroutine that is about to wake tasks.
func (p *primitive) mustBeOwner(caller string) {
	if p.queue.first != nil && p.loop.guard.Load() != guardClosed {
		p.loop.mustBeOwner(caller)
	}
}

// unwinding reports whether P4 is under way.
func (p *primitive) unwinding() bool {
	return p.loop != nil && p.loop.closing.Load() && !p.loop.closed.Load()
}

// waiters returns the tasks that wait, oldest first.
func (p *primitive) waiters() []AnyTask {
	var all []AnyTask
	for _, t := range p.queue.tasks() {
		all = append(all, t.self)
	}
	return all
}

// repr is Python's, without the address.
func (p *primitive) repr(class, state string) string {
	if n := p.queue.len(); n > 0 {
		state = fmt.Sprintf("%s, waiters:%d", state, n)
	}
	return fmt.Sprintf("<asyncio.%s [%s]>", class, state)
}
