package asyncio

import (
	"fmt"
	"runtime/debug"

	"github.com/goasyncio/asyncio/internal/coro"
)

// Where code runs (design rule R8: on goroutines of iter.Pull, here called stacks).
//
//	K1 One stack has control; each of the others waits at a place ([coro.Place]), where who
//	   has control can change places with it. The one in control runs a step of a task or,
//	   between steps, dispatches: it takes callbacks off the ready queue and runs them. A new task
//	   is simply called, so a task that never suspends costs no switch.
//	K2 A task that suspends leaves its stack dispatching on top of it. When its own turn comes
//	   the wait just returns: no switch. So a task that is alone never switches.
//	K3 When the turn is another suspended task's, its stack is given control: one switch. What
//	   it leaves behind is suspended, or idle if no task is on it.
//	K4 What might not come back, a new task or a user's callback, must not run on top of a
//	   suspended task. When it is next, an idle stack is given control: one switch. So it is when the loop has to wait in
//	   the poller, which takes more frames than the first 2 KiB of a stack have room for (K9).
//	K5 One exception to K4: a new task may be called on top of the task that waits for it,
//	   because that cannot go on before the new one has ended. It must be so without
//	   exception: not if a context could end the wait (a cancel is passed on to the new
//	   task, and the wait goes on). The two then share a stack; giving it control goes on with
//	   the upper one, and the lower one is not scheduled before that has ended. So
//	   "create a task and await it" costs no switch. At most maxCovers are on top of one another: a stack that grows
//	   without bound is one that the collector stops the loop for while it walks it, that debug mode walks in every call (goroutineID), and that the
//	   runtime ends the program for at a gigabyte.
//	K6 A stack whose task has ended goes on dispatching with nothing on it. It is idle from when it gives control
//	   away to when it gets it again, and ends then if there are idle ones enough.
//	K7 A task that is started eagerly runs on an idle stack, which gives control back to the
//	   starter when the task first suspends or ends. Nothing is dispatched in between.
//	K8 A stack on which runtime.Goexit is called is dead. At its bottom it gives control to whom
//	   it would have, the hub as the run halts, and is buried then: whoever waits at its home when its goroutine ends would
//	   have to exit as well, so that is a goroutine made for it. If the task that did it was on top of another (K5), that
//	   one is unwound with it.
//	K9 The frames between the bottom of a stack and a wait are few and small, which is why some
//	   functions here are in several parts: a goroutine begins with 2 KiB, of which about 1100
//	   bytes are for frames (hence go:noinline here and there), and what does not fit doubles every suspended task and copies its
//	   stack. And the collector walks the frames of every suspended task, which costs as much as all else.
//	K10 Whoever gets control first sees to the order, if the pool has one: it is not meant to go on yet.

type stack struct {
	at   *coro.Place // where it waits, while it has not got control
	home coro.Place  // the one that its goroutine was made with
	pool *stackPool

	start   *task  // to be started here, eagerly, by
	starter *stack // (K7)

	waiter waiter      // see waiterOf
	alarm  *sleepTimer // see setAlarm
	notes  *stackNotes // nil while nobody has asked

	covers    uint8 // tasks on top of others (K5)
	killed    bool  // it is to be unwound
	done      bool  // its body returns
	abandoned bool  // Close has given up on that; guarded by EventLoop.unwinding
}

// stackNotes is what is known of a stack once somebody has asked.
type stackNotes struct {
	id     uint64    // of its goroutine (noteStep)
	frames []uintptr // what is on it, while that is being looked at (callgraph.go)
}

// note returns s's notes.
func (s *stack) note() *stackNotes {
	if s.notes == nil {
		s.notes = new(stackNotes)
	}
	return s.notes
}

// goroutine returns the id of the goroutine of s, on which it must be called the first time.
func (s *stack) goroutine() uint64 {
	n := s.note()
	if n.id == 0 {
		n.id = goroutineID()
	}
	return n.id
}

type stackPool struct {
	loop       *EventLoop
	dispatcher *stack // the one that dispatched last
	hub        stack  // of the goroutine that a run begins and ends with; it dispatches nothing
	order      order  // K10
	idle       []*stack
	dead       []*stack // K8
}

// An order is for whoever gets control next.
type order struct {
	what orderKind
	to   *stack // whom to give control to then
}

type orderKind uint8

const (
	goOn    orderKind = iota // no order
	noteIt                   // note what is on the stack
	pass                     // nothing but to give control on
	goHome                   // wait at home
	dieHere                  // unwind and end; to is not used
)

// maxCovers is K5.
const maxCovers = 16

// maxIdle bounds the stacks kept for later, and with them the memory after a burst.
const maxIdle = 1024

// take returns an idle stack.
func (p *stackPool) take() *stack {
	if n := len(p.idle); n > 0 {
		s := p.idle[n-1]
		p.idle[n-1] = nil
		p.idle = p.idle[:n-1]
		return s
	}
	s := &stack{pool: p}
	s.at = &s.home
	s.home.Init(func(yield func(struct{}) bool) {
		s.home.Yield = yield
		var t *task // that runs or is suspended here, on top of no other
		defer func() { s.leave(t, recover()) }()
		s.wake()
		for !s.done {
			var next *stack
			if t, next = s.dispatch(); t == nil {
				s.rest(next)
				continue
			}
			err, as := t.call()
			s.end(t, err, as)
			t = nil
		}
	})
	return s
}

// give parks s and gives control to another stack. It returns when s has control again.
func (s *stack) give(to *stack) {
	s.at = to.at
	s.at.Cross()
	if s.pool.order.what != goOn {
		s.obey()
	}
}

// obey is K10. It returns when s is to go on, or to be unwound.
func (s *stack) obey() {
	p := s.pool
	for {
		o := p.order
		p.order = order{}
		switch o.what {
		case goOn:
			return
		case dieHere:
			s.killed = true
			return
		case noteIt:
			s.note().frames = callers(0)
		case goHome:
			p.order = order{pass, o.to}
			s.at = &s.home
			s.at.Cross()
			continue
		}
		if o.to == s {
			return
		}
		s.at = o.to.at
		s.at.Cross()
	}
}

// dispatch runs callbacks, with no task on s, until there is a task to be run on s, which it has begun, or
// control is to be given to another stack.
func (s *stack) dispatch() (*task, *stack) {
	p := s.pool
	l := p.loop
	if t := s.start; t != nil {
		s.start = nil
		if s.begin(t) {
			return t, nil
		}
	}
	if to := s.starter; to != nil { // K7: the task has ended
		s.starter = nil
		return nil, to
	}
	if p.dispatcher != s { // a store of a pointer costs more
		p.dispatcher = s
	}
	for !l.halted {
		if l.todo == 0 && !l.beginIteration() {
			break
		}
		e := l.upcoming(s)
		if e.cb == nil {
			break
		}
		l.advance()
		if t, ok := e.cb.(*task); !ok {
			l.noteStep(s, e.cb)
			e.cb.fire(e.fut)
		} else if t.stack != nil { // K3
			l.current = t
			return nil, t.stack
		} else if s.begin(t) {
			return t, nil
		}
	}
	return nil, &p.hub
}

// begin makes t run on s. It reports false if t was cancelled before, and has ended so (T5).
func (s *stack) begin(t *task) bool {
	l := s.pool.loop
	if t.fut.state != pending {
		crash("asyncio: internal error: a task was scheduled that has ended (T2)")
	}
	l.current, t.stack = t, s
	l.noteStep(s, t)
	if t.mustCancel || t.evicted { // evicted while it waited for its turn to start
		t.mustCancel, t.evicted = false, false
		t.end(t.cancelErr, asCancellation)
		l.current = nil
		return false
	}
	return true
}

// end ends t, which has run on s, with what call returned.
func (s *stack) end(t *task, err error, as outcome) {
	if p := t.fut.err; p != nil { // it panicked
		err, as = p, asSeen
	}
	t.end(err, as)
	s.pool.loop.current = nil
}

// rest gives control to another stack, and makes s idle or ends it (K6).
func (s *stack) rest(to *stack) {
	p := s.pool
	if len(p.idle) >= maxIdle {
		p.order = order{pass, to}
		s.done = true
		return
	}
	p.idle = append(p.idle, s)
	at := to.at
	s.at = at
	if at.Toggle() { // as give, with fewer frames (K9)
		at.Yield(struct{}{})
	} else {
		at.Next()
	}
	s.wake()
}

// wake is how a stack that was idle begins, after it has obeyed.
func (s *stack) wake() {
	if s.pool.order.what != goOn {
		s.obey()
	}
	s.done = s.killed
}

// crash ends the program because the loop cannot go on. A panic would come out in whichever task is below, which could recover it.
func crash(v any) {
	report := fmt.Sprintf("%v\n\n%s", v, debug.Stack())
	go panic(report)
	select {}
}

// leave is the end of every stack; t is the task that it is the end of, too, nil if it comes between tasks. If the stack is done, or killed, whoever waits
// at its home knows what to do.
func (s *stack) leave(t *task, v any) {
	if v != nil { // not of a task or callback: they recover theirs
		crash(v)
	}
	if s.done {
		return
	}
	p := s.pool
	if t != nil {
		t.exited(s)
	}
	if s.killed {
		return
	}
	p.loop.haltByGoexit()
	p.dead = append(p.dead, s) // K8
	to := s.starter
	if to == nil {
		to = &p.hub
	}
	s.give(to)
}

// A quick callback is the library's own: it runs no user code and comes back.
type quick interface{ quick() }

func (*sleepTimer) quick()    {}
func (*clockContext) quick()  {}
func (*waiting) quick()       {}
func (*waitTimeout) quick()   {}
func (*gathering) quick()     {}
func (*threadJob[T]) quick()  {}
func (*stopCallback) quick()  {}
func (*expiry) quick()        {}
func (*groupChild) quick()    {}
func (*selecting) quick()     {}
func (*selectTimeout) quick() {}
func (*half) quick()          {}

func (*shield[T]) quick()            {}
func (*shieldOuter[T]) quick()       {}
func (*completing[F]) quick()        {}
func (*completionTimeout[F]) quick() {}

// dispatchOn runs callbacks on top of t, which is suspended, until t's turn comes (K2), and returns nil then; or
// until control is to be given to another stack.
func (p *stackPool) dispatchOn(t *task) *stack {
	l := p.loop
	if to := t.stack.starter; to != nil { // K7
		t.stack.starter = nil
		return to
	}
	if p.dispatcher != t.stack {
		p.dispatcher = t.stack
	}
	for !l.halted {
		if l.todo == 0 {
			if l.sockets != nil && l.ready.n == 0 {
				return p.spare() // K4
			}
			if !l.beginIteration() {
				break
			}
		}
		e := l.upcoming(t.stack)
		if next, ok := e.cb.(*task); !ok {
			if e.cb == nil {
				break
			}
			if _, ok := e.cb.(quick); !ok {
				return p.spare() // K4
			}
			l.advance()
			e.cb.fire(e.fut)
		} else if next == t {
			l.advance()
			l.current = t
			return nil
		} else if next.stack != nil { // K3
			l.advance()
			l.current = next
			return next.stack
		} else if t.waiter == next.fut && !t.watching && t.stack.covers < maxCovers {
			l.advance()
			t.covered = true // K5
			t.stack.cover(next)
			t.covered = false
			p.dispatcher = t.stack
		} else {
			return p.spare() // K4
		}
	}
	return &p.hub
}

// cover runs t to its end on top of the task on s that waits for it (K5). If t calls Goexit it ends t, because it does not return then.
func (s *stack) cover(t *task) {
	s.covers++
	returned := false
	defer func() {
		if v := recover(); v != nil { // as in leave
			crash(v)
		}
		if !returned {
			t.exited(s)
		}
	}()
	if s.begin(t) {
		err, as := t.call()
		s.end(t, err, as)
	}
	returned = true
	s.covers--
}

// spare returns an idle stack, or the hub if there is none: making one takes more of a stack than a suspended task should have (K9).
func (p *stackPool) spare() *stack {
	if len(p.idle) > 0 {
		return p.take()
	}
	return &p.hub
}

// run gives stacks control until the run halts. It is called on a plain goroutine of the loop's own, for which the hub stands.
func (p *stackPool) run() {
	p.hub.pool = p
	for !p.loop.halted {
		p.hub.give(p.take())
	}
	p.dispatcher = nil
	for _, s := range p.dead { // K8
		p.end(s)
	}
	p.dead = nil
}

// end unwinds s and returns when its goroutine has ended. It is called while nothing runs, on a goroutine that has
// control and is no stack.
func (p *stackPool) end(s *stack) {
	from := &stack{pool: p}
	if s.at != &s.home {
		p.order = order{goHome, from}
		from.give(s)
	}
	gone := make(chan struct{})
	go func() { // which may have to exit with it
		defer close(gone)
		p.order = order{what: dieHere}
		s.home.Cross()
	}()
	<-gone
}

// drain ends all stacks of a loop that is being closed. Those of tasks are gone already.
func (p *stackPool) drain() {
	gone := make(chan struct{})
	go func() { // the caller's may be locked to a thread
		defer close(gone)
		for _, s := range p.idle {
			p.end(s)
		}
	}()
	<-gone
	p.idle = nil
}

// stackInControl returns the stack that has control while the loop runs.
func (l *EventLoop) stackInControl() *stack {
	if l.current != nil {
		return l.current.stack
	}
	return l.stacks.dispatcher
}

// noteStep notes that s has control and begins step, if anybody wants to know.
func (l *EventLoop) noteStep(s *stack, step callback) {
	if l.modes.Load() != 0 {
		l.beginStep(s, step)
	}
}
