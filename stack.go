package asyncio

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
	"time"

	"github.com/goasyncio/asyncio/internal/coro"
)

// Where code runs (design rule design 8: on goroutines of iter.Pull, here called stacks).
//
//	stack 1: One stack has control. Each of the others waits at a place ([coro.Place]); the one in
//	   control can change places with it. The one in control runs a step of a task or,
//	   between steps, dispatches: it takes callbacks off the ready queue and runs them. A new task
//	   is simply called, so a task that never suspends costs no switch.
//	stack 2: A task that suspends leaves its stack dispatching on top of it. When its own turn
//	   comes, the wait just returns: no switch. So a task that is alone never switches.
//	stack 3: When the turn is another suspended task's, that task's stack is given control: one
//	   switch. The stack that gives it away is then suspended, or idle if no task is on it.
//	stack 4: What might not come back, a new task or a user's callback, must not run on top of a
//	   suspended task. When that is next, an idle stack is given control: one switch. The same
//	   goes for waiting in the poller: it takes more frames than the first 2 KiB of a stack
//	   have room for (stack 9).
//	stack 5: One exception to stack 4: a new task may be called on top of the task that waits for
//	   it, because the lower one cannot go on before the upper one has ended. That must hold without
//	   exception, so not if a context could end the wait, and not if tasks may have labels (label
//	   4). (A cancel is no problem: it is passed on to the new task, and the wait goes on.) The two
//	   then share a stack. Whoever gives it control goes on with the upper one; the lower one is not
//	   scheduled before the upper one has ended. So "create a task and await it" costs no switch. No
//	   more than maxCovers tasks are on top of others: the collector and debug mode (goroutineID)
//	   walk the whole stack, and the runtime ends the program when one reaches a gigabyte.
//	stack 6: A stack whose task has ended goes on dispatching with nothing on it. When it gives
//	   control away it becomes idle, until it gets control again: to be used, or with the order to
//	   end (idle 1). Then whoever waits at its home goes on, and gives control back to where the
//	   order came from (stack 10).
//	stack 7: A task that is started eagerly runs on an idle stack. That gives control back to the
//	   starter when the task first suspends or ends. Nothing is dispatched in between.
//	stack 8: A stack on which runtime.Goexit is called is dead. Its last deferred function gives
//	   control to the starter (stack 7) or else to the hub, because the run halts. The goroutine is
//	   still there then, and is ended after the run: iter.Pull passes a Goexit on to whoever waits
//	   at the stack's home at that moment, so that is a goroutine made for it. If the task that
//	   called Goexit was on top of another (stack 5), the other one is unwound with it.
//	stack 9: The frames between the bottom of a stack and a wait are to be few and small. That is
//	   why some functions here are in several parts, and some are go:noinline. A goroutine begins
//	   with 2 KiB, of which about 1100 bytes are for frames; what does not fit doubles the memory of
//	   every suspended task and copies its stack. And the collector walks the frames of every
//	   suspended task, which costs as much as all the rest.
//	stack 10: There may be an order in the pool. Whoever gets control looks for one first: it then
//	   has control only to carry the order out, and does not go on yet.

type stack struct {
	at   *coro.Place // where it waits, while it has not got control
	home coro.Place  // the one that its goroutine was made with
	pool *stackPool

	start   *task  // to be started here, eagerly (stack 7)
	starter *stack // who gets control back then

	waiter waiter      // see waiterOf
	alarm  *sleepTimer // see setAlarm
	notes  *stackNotes // nil while nobody has asked

	hub uint64 // id of the goroutine that made it (foreign 4)

	covers uint8 // tasks on top of others (stack 5)
	killed bool  // it is to be unwound
	done   bool  // its body is to return
	// Close does not wait any longer for it to unwind; guarded by EventLoop.unwinding
	abandoned bool
}

// stackNotes is what is known of a stack once somebody has asked.
type stackNotes struct {
	id     uint64 // of its goroutine (noteStep)
	blocks blocks // of memory that it is known to be in (foreign 6)
}

// note returns s's notes.
func (s *stack) note() *stackNotes {
	if s.notes == nil {
		s.notes = new(stackNotes)
	}
	return s.notes
}

// goroutine returns the id of the goroutine of s. It must be called on s, or on a sequence of
// iter.Pull that s has entered, whose id is returned if that of s is not known.
func (s *stack) goroutine() uint64 {
	n := s.note()
	if n.id != 0 {
		return n.id
	}
	me := self()
	s.pool.loop.kin.add(me.id)
	if s.pool.loop.kin.isHub(me.by) {
		n.id = me.id
	}
	return me.id
}

type stackPool struct {
	loop       *EventLoop
	dispatcher *stack // the one that dispatched last
	hub        stack  // of the goroutine that a run begins and ends with; it dispatches nothing
	hubID      uint64 // of its goroutine; all stacks are made on it (foreign 4)
	eager      eagerStart
	order      order // stack 10
	idle       []*stack
	low        int           // the fewest that were idle in this period (idle 1)
	since      time.Duration // when it began
	dead       []*stack      // to be ended after the run (stack 8)
	noted      []uintptr     // what is on a stack that is looked at (callgraph 2)
	notes      int           // how much of it
}

// An eagerStart asks the hub for a stack to start a task on (stack 7).
type eagerStart struct {
	t       *task
	starter *stack
}

// An order is what the stack that gets control next is to do (stack 10).
type order struct {
	what orderKind
	to   *stack // who is to have control then
}

type orderKind uint8

const (
	goOn    orderKind = iota // no order
	noteIt                   // note in noted what is on the stack, and give control to order.to
	pass                     // only give control to order.to
	goHome                   // give control to order.to and wait at home
	dieHere                  // unwind and end; order.to is not used
	endHere                  // end, with nothing on the stack, and have control given to order.to
)

// maxCovers is stack 5.
const maxCovers = 16

// take returns an idle stack. It is for the hub, unless there is one (foreign 4).
func (p *stackPool) take() *stack {
	if n := len(p.idle); n > 0 {
		s := p.idle[n-1]
		p.idle[n-1] = nil
		p.idle = p.idle[:n-1]
		p.low = min(p.low, n-1)
		return s
	}
	s := &stack{pool: p, hub: p.hubID}
	p.loop.kin.makes(s.hub, 1)
	s.at = &s.home
	s.home.Init(func(yield func(struct{}) bool) {
		s.home.Yield = yield
		debug.SetPanicOnFault(true) // foreign 2
		var t *task                 // the lowest task on the stack, nil if there is none
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

// obey carries out orders (stack 10) until there is none for s. It returns when s is to go on, or
// to be unwound.
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
		case endHere:
			p.order = order{pass, o.to}
			s.killed = true
			return
		case noteIt:
			p.notes = runtime.Callers(2, p.noted)
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

// dispatch runs callbacks while no task is on s. It returns a task that it has begun and that is to
// be run on s, or else the stack that is to be given control.
func (s *stack) dispatch() (*task, *stack) {
	p := s.pool
	l := p.loop
	if t := s.start; t != nil {
		s.start = nil
		if s.begin(t) {
			return t, nil
		}
	}
	if to := s.starter; to != nil { // stack 7: the task has ended
		s.starter = nil
		return nil, to
	}
	if p.dispatcher != s { // storing a pointer costs more than comparing
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
		} else if t.stack != nil { // stack 3
			l.current = t
			return nil, t.stack
		} else if s.begin(t) {
			return t, nil
		}
	}
	return nil, &p.hub
}

// begin makes t run on s. It reports false if t was cancelled before, and has ended so (task 5).
func (s *stack) begin(t *task) bool {
	l := s.pool.loop
	if t.fut.state != pending {
		crash("asyncio: internal error: a task was scheduled that has ended (task 2)")
	}
	l.current, t.stack = t, s
	l.noteStep(s, t)
	if t.state != noCancel { // evicted while it waited for its turn to start
		t.end(t.deliver(), asCancellation)
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
	l := s.pool.loop
	l.current = nil
	l.unlabel()
}

// rest gives control to another stack and makes s idle (stack 6).
func (s *stack) rest(to *stack) {
	p := s.pool
	p.idle = append(p.idle, s)
	at := to.at
	s.at = at
	if at.Toggle() { // as give, with fewer frames (stack 9)
		at.Yield(struct{}{})
	} else {
		at.Next()
	}
	s.wake()
}

// wake is what a stack does first that was idle, or is new, and has got control.
func (s *stack) wake() {
	if s.pool.order.what != goOn {
		s.obey()
	}
	s.done = s.killed
}

// crash ends the program because the loop cannot go on. A panic here would come out in whichever
// task is lower on the stack, which could recover it; so it is another goroutine that panics, and
// this one waits for the end.
func crash(v any) {
	report := fmt.Sprintf("%v\n\n%s", v, debug.Stack())
	go panic(report)
	select {}
}

// leave is the end of every stack s. t is the lowest task on it, which ends as well, nil if there
// is none. v is what s panicked with, nil if it did not. If s is done or killed, whoever waits at
// its home knows what to do; otherwise this is a Goexit (stack 8).
func (s *stack) leave(t *task, v any) {
	if v != nil { // the library's own: tasks and callbacks recover theirs
		crash(v)
	}
	s.pool.loop.kin.makes(s.hub, -1)
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
	p.dead = append(p.dead, s) // stack 8
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

// dispatchOn runs callbacks on top of t, which is suspended. It returns nil when t's turn has come
// (stack 2), or else the stack that is to be given control.
func (p *stackPool) dispatchOn(t *task) *stack {
	l := p.loop
	if to := t.stack.starter; to != nil { // stack 7
		t.stack.starter = nil
		return to
	}
	if p.dispatcher != t.stack {
		p.dispatcher = t.stack
	}
	for !l.halted {
		if l.todo == 0 {
			if l.sockets != nil && l.ready.n == 0 {
				return p.spare() // stack 4
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
				return p.spare() // stack 4
			}
			l.advance()
			e.cb.fire(e.fut)
		} else if next == t {
			l.advance()
			l.current = t
			return nil
		} else if next.stack != nil { // stack 3
			l.advance()
			l.current = next
			return next.stack
		} else if t.waiter == next.fut && t.watching == withNone && t.stack.covers < maxCovers && !l.labelled() {
			l.advance()
			t.covered = true // stack 5
			t.stack.cover(next)
			t.covered = false
			p.dispatcher = t.stack
		} else {
			return p.spare() // stack 4
		}
	}
	return &p.hub
}

// cover runs t to its end on top of the task on s that waits for it (stack 5). If t calls Goexit,
// call does not return, and the deferred function ends t.
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

// spare returns an idle stack. If there is none it returns the hub, which makes one: that takes
// more of a stack than a suspended task should have (stack 9).
func (p *stackPool) spare() *stack {
	if len(p.idle) > 0 {
		return p.take()
	}
	return &p.hub
}

// run gives stacks control until the run halts. It is called on a plain goroutine of the loop's
// own; the hub is that goroutine as the stacks see it.
func (p *stackPool) run() {
	debug.SetPanicOnFault(true)             // foreign 2
	pprof.SetGoroutineLabels(p.loop.labels) // label 2
	me := self()
	p.hub.pool, p.hubID = p, me.id
	p.loop.runner.Store(me.by)
	for !p.loop.halted || p.eager.t != nil {
		s := p.take()
		s.start, s.starter = p.eager.t, p.eager.starter
		p.eager = eagerStart{}
		p.hub.give(s)
	}
	p.dispatcher = nil
	p.dismiss(&p.hub, max(0, len(p.idle)-restingIdle))
	for _, s := range p.dead { // stack 8
		p.end(s)
	}
	p.dead = nil
}

// end unwinds s and returns when its goroutine has ended. It is called while nothing runs, on a
// goroutine that has control and is no stack.
func (p *stackPool) end(s *stack) {
	from := &stack{pool: p}
	if s.at != &s.home {
		p.order = order{goHome, from}
		from.give(s)
	}
	gone := make(chan struct{})
	go func() { // it has to exit with s if s calls Goexit
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
		p.dismiss(&stack{pool: p}, len(p.idle))
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
