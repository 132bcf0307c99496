package asyncio

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"runtime/pprof"
	"time"

	"github.com/goasyncio/asyncio/internal/coro"
)

// Where code runs: on goroutines of iter.Pull, called stacks here (design 8).
//
//	stack 1: One stack has control. Every other stack waits at a place ([coro.Place]), and the stack
//	   in control can change places with any of them. The stack in control runs a step of a task.
//	   Between steps it dispatches: it takes callbacks off the ready queue and runs them. A new task
//	   is simply called, so a task that never suspends costs no switch.
//	stack 2: When a task suspends, its stack goes on dispatching on top of it. When the task's own
//	   turn comes, the wait just returns, without a switch. So a task that is alone never switches.
//	stack 3: When it is the turn of another suspended task, the dispatching stack gives control to
//	   that task's stack: one switch. The dispatching stack is then suspended, or idle if no task is
//	   on it.
//	stack 4: A new task or a user's callback might not come back, so neither may run on top of a
//	   suspended task. When one of them is next, an idle stack gets control: one switch. The same
//	   goes for waiting in the poller, which needs more frames than the first 2 KiB of a stack have
//	   room for (stack 9).
//	stack 5: There is one exception to stack 4: a new task may be called on top of the task that
//	   waits for it, because the lower task cannot go on before the upper one has ended. That must
//	   hold in every case, so the exception does not apply if a context could end the wait, or if
//	   tasks may have labels (label 4). (A cancel is no problem: it is passed on to the new task,
//	   and the wait goes on.) The two tasks then share a stack. When that stack gets control, the
//	   upper task goes on; the lower one is not scheduled before the upper one has ended. So "create
//	   a task and await it" costs no switch. At most maxCovers tasks are on top of others, because
//	   the collector and debug mode (goroutineID) walk the whole stack, and the runtime ends the
//	   program when a stack reaches a gigabyte.
//	stack 6: A stack whose task has ended goes on dispatching with no task on it. When it gives
//	   control away it becomes idle. It gets control again either to be used, or with the order to
//	   end (idle 1). When it ends, the goroutine that waits at its home goes on, and gives control
//	   back to the stack that the order came from (stack 10).
//	stack 7: A task that is started eagerly runs on an idle stack. That stack gives control back to
//	   the starter when the task first suspends or ends. Nothing is dispatched in between.
//	stack 8: A stack on which runtime.Goexit is called is dead. The run halts, so the stack's last
//	   deferred function gives control to the starter (stack 7) or else to the hub. The stack's
//	   goroutine still exists then, and is ended after the run. iter.Pull passes a Goexit on to the
//	   goroutine that waits at the stack's home at that moment, so a goroutine is made to wait
//	   there. If the task that called Goexit was on top of another (stack 5), the other one is
//	   unwound with it.
//	stack 9: The frames between the bottom of a stack and a wait must be few and small. That is why
//	   some functions here are split into several parts, and some are go:noinline. A goroutine
//	   begins with 2 KiB, of which about 1100 bytes are for frames. Frames that do not fit double
//	   the memory of every suspended task and make the runtime copy its stack. Besides, the
//	   collector walks the frames of every suspended task, which costs as much as all the rest.
//	stack 10: The pool may hold an order. A stack that gets control looks for an order first. If
//	   there is one, the stack has control only to carry the order out, and does not go on yet.

type stack struct {
	at   *coro.Place // where it waits while it does not have control
	home coro.Place  // the place that its goroutine was made with
	pool *stackPool

	start   *task  // a task to be started here, eagerly (stack 7)
	starter *stack // the stack that gets control back then

	waiter waiter      // see waiterOf
	alarm  *alarm      // see setAlarm
	notes  *stackNotes // nil until somebody asks

	hub uint64 // id of the goroutine that made it (foreign 4)

	covers uint8 // how many tasks on it are on top of others (stack 5)
	killed bool  // the stack is to be unwound
	done   bool  // its body is to return
	// Close no longer waits for the stack to unwind; guarded by EventLoop.unwinding
	abandoned bool
}

// stackNotes holds facts about a stack that are kept only once somebody has asked.
type stackNotes struct {
	id     uint64 // of the stack's goroutine (noteStep)
	blocks blocks // of memory that are known to be the stack's (foreign 6)
}

// note returns s's notes, making them if there are none.
func (s *stack) note() *stackNotes {
	if s.notes == nil {
		s.notes = new(stackNotes)
	}
	return s.notes
}

// goroutine returns the id of s's goroutine. It must be called on s, or on a sequence of iter.Pull
// that s has entered. In a sequence, if the id of s is not known, it returns the id of the
// sequence's goroutine.
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
	dispatcher *stack // the stack that dispatched last
	hub        stack  // the goroutine that a run begins and ends with; it dispatches nothing
	hubID      uint64 // id of the hub's goroutine, which makes all stacks (foreign 4)
	eager      eagerStart
	order      order // for the stack that gets control next (stack 10)
	idle       []*stack
	low        int           // the fewest idle stacks at any moment of this period (idle 1)
	since      time.Duration // when this period began
	dead       []*stack      // stacks to be ended after the run (stack 8)
	noted      []uintptr     // the callers noted on a stack that is looked at (callgraph 2)
	notes      int           // how many of them there are
}

// An eagerStart asks the hub for a stack to start a task on (stack 7).
type eagerStart struct {
	t       *task
	starter *stack
}

// An order tells the stack that gets control next what to do (stack 10).
type order struct {
	what orderKind
	to   *stack // the stack that is to have control then
}

type orderKind uint8

const (
	goOn    orderKind = iota // no order
	noteIt                   // note the stack's callers in noted, and give control to order.to
	pass                     // only give control to order.to
	goHome                   // give control to order.to and wait at home
	dieHere                  // unwind and end; order.to is not used
	endHere                  // end, with no task on the stack, and have control given to order.to
)

// maxCovers limits how many tasks on a stack are on top of others (stack 5).
const maxCovers = 16

// take returns an idle stack, and makes one if there is none. Only the hub may make one (foreign
// 4), so other callers first check that there is an idle stack.
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
		debug.SetPanicOnFault(true) // a stack has the bit on from its first moment (foreign 2)
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

// give parks s and gives control to the stack to. It returns when s has control again.
func (s *stack) give(to *stack) {
	s.at = to.at
	s.at.Cross()
	if s.pool.order.what != goOn {
		s.obey()
	}
}

// obey carries out orders (stack 10) until none is left for s. It returns when s is to go on or to
// be unwound.
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

// dispatch runs callbacks while no task is on s. It returns either a task that it has begun and
// that is to run on s, or the stack that is to get control.
func (s *stack) dispatch() (*task, *stack) {
	p := s.pool
	l := p.loop
	if t := s.start; t != nil {
		s.start = nil
		if s.begin(t) {
			return t, nil
		}
	}
	if to := s.starter; to != nil { // the eager task has ended (stack 7)
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
		} else if t.stack != nil { // another suspended task's turn (stack 3)
			l.current = t
			return nil, t.stack
		} else if s.begin(t) {
			return t, nil
		}
	}
	return nil, &p.hub
}

// begin makes t run on s. It reports false if t was cancelled before it started and has thereby
// ended (task 5).
func (s *stack) begin(t *task) bool {
	l := s.pool.loop
	if t.fut.state != pending {
		crash("asyncio: internal error: a task was scheduled that has ended (task 2)")
	}
	l.current, t.stack = t, s
	l.noteStep(s, t)
	if t.state != noCancel { // evicted while it waited for its turn to start
		t.end(t.deliver(), asCancellation)
		t.leaves(l.modes.Load())
		l.current = nil
		return false
	}
	return true
}

// end ends t, which has run on s. err and as are the results of t.call.
func (s *stack) end(t *task, err error, as outcome) {
	if p := t.fut.err; p != nil { // it panicked
		err, as = p, asSeen
	}
	t.end(err, as)
	l := s.pool.loop
	l.current = nil
	if modes := l.modes.Load(); modes&(labelledMode|recordMode) != 0 {
		t.leaves(modes)
	}
}

// rest gives control to another stack and makes s idle (stack 6).
func (s *stack) rest(to *stack) {
	p := s.pool
	p.idle = append(p.idle, s)
	at := to.at
	s.at = at
	if at.Toggle() { // like give, but with fewer frames (stack 9)
		at.Yield(struct{}{})
	} else {
		at.Next()
	}
	s.wake()
}

// wake runs first whenever a stack that is new or was idle gets control.
func (s *stack) wake() {
	if s.pool.order.what != goOn {
		s.obey()
	}
	s.done = s.killed
}

// crash ends the program because the loop cannot go on. A task lower on this stack could recover a
// panic here, so another goroutine panics, and this one waits for the end.
func crash(v any) {
	report := fmt.Sprintf("%v\n\n%s", v, debug.Stack())
	go panic(report)
	select {}
}

// leave runs at the end of every stack s. t is the lowest task on s, which ends as well, or nil if
// there is none. v is the value that s panicked with, nil if it did not panic. If s is done or
// killed, the goroutine that waits at its home knows what to do; otherwise s ends by a Goexit
// (stack 8).
func (s *stack) leave(t *task, v any) {
	if v != nil { // a panic of the library's own: tasks and callbacks recover theirs
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
	p.dead = append(p.dead, s) // its goroutine is ended after the run (stack 8)
	to := s.starter
	if to == nil {
		to = &p.hub
	}
	s.give(to)
}

// A quick callback is the library's own: it runs no user code and comes back. Its type says so by
// having this method.
type quick interface{ quick() }

// dispatchOn runs callbacks on top of t, which is suspended. It returns nil when t's turn has come
// (stack 2), and otherwise the stack that is to get control.
func (p *stackPool) dispatchOn(t *task) *stack {
	l := p.loop
	if to := t.stack.starter; to != nil { // t was started eagerly and suspends (stack 7)
		t.stack.starter = nil
		return to
	}
	if p.dispatcher != t.stack {
		p.dispatcher = t.stack
	}
	for !l.halted {
		if l.todo == 0 {
			if l.sockets != nil && l.ready.n == 0 {
				return p.spare() // the poller is not entered on top of a task (stack 4)
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
				return p.spare() // nor is a user's callback run there (stack 4)
			}
			l.advance()
			e.cb.fire(e.fut)
		} else if next == t {
			l.advance()
			l.current = t
			return nil
		} else if next.stack != nil { // another suspended task's turn (stack 3)
			l.advance()
			l.current = next
			return next.stack
		} else if t.waiter == next.fut && t.watching == withNone && t.stack.covers < maxCovers && !l.labelled() {
			l.advance()
			t.covered = true // t waits for the new task, which may run on top (stack 5)
			t.stack.cover(next)
			t.covered = false
			p.dispatcher = t.stack
		} else {
			return p.spare() // other new tasks may not (stack 4)
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
		if v := recover(); v != nil { // a panic of the library's own, as in leave
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

// spare returns an idle stack. If there is none, it returns the hub, which makes one: making a
// stack takes more room than there should be on the stack of a suspended task (stack 9).
func (p *stackPool) spare() *stack {
	if len(p.idle) > 0 {
		return p.take()
	}
	return &p.hub
}

// run gives control to stacks until the run halts. It is called on a plain goroutine of the loop's
// own. The stacks know that goroutine as the hub.
func (p *stackPool) run() {
	debug.SetPanicOnFault(true)             // the hub does the loop's work (foreign 2)
	pprof.SetGoroutineLabels(p.loop.labels) // new stacks have them from the hub (label 2)
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
	p.dismiss(&p.hub, max(0, len(p.idle)-restingIdle)) // the rest stay (idle 5)
	// after the run, dead stacks are ended (stack 8)
	for _, s := range p.dead {
		p.end(s)
	}
	p.dead = nil
}

// end unwinds s and returns when its goroutine has ended. It is called while nothing runs, on a
// goroutine that has control and is not a stack.
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

// drain ends all stacks of a loop that is being closed. The stacks of tasks are gone already.
func (p *stackPool) drain() {
	gone := make(chan struct{})
	go func() { // the caller's goroutine may be locked to a thread
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

// noteStep notes that s has control and begins step, if the loop has observers (debug 1).
func (l *EventLoop) noteStep(s *stack, step callback) {
	if l.modes.Load()&stepModes != 0 {
		l.beginStep(s, step)
	}
}
