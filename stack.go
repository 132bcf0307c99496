package asyncio

import "github.com/goasyncio/asyncio/internal/coro"

// Where code runs (design rule R8: on iter.Pull coroutines, here called stacks).
//
//	K1 One stack is the dispatcher: it takes callbacks off the ready queue and runs
//	   them. A new task is simply called on it, so a task that never suspends costs no switch.
//	K2 If a task suspends on the dispatcher's stack, the stack becomes the task's own
//	   and yields to the hub, which makes another stack the dispatcher: two switches.
//	K3 The dispatcher resumes a suspended task on the task's stack and gets control back
//	   when it suspends again or ends: two switches.
//	K4 A stack whose task has ended is idle: it yields to whoever resumed it and can
//	   serve again. So a stack is, at any time, the dispatcher, a task's, or idle.
//	K5 A task that is started eagerly runs on a stack of its own, resumed by its starter.
//	K6 A task that suspends while it alone is ready goes on at once (see task.suspend):
//	   that is the order the queue would give, without a switch.
//	K7 A stack whose body calls runtime.Goexit is dead. Whoever resumed it buries it.
//	   The run halts, so no dispatcher is needed.

type stack struct {
	*coro.Coro
	start *task  // to be started here, eagerly (K5)
	id    uint64 // of its goroutine; found in debug mode only
}

type stackPool struct {
	loop       *EventLoop
	dispatcher *stack
	idle       []*stack
	burials    []<-chan struct{}
}

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
	s := new(stack)
	s.Coro = coro.New(func(*coro.Coro) { p.serve(s) })
	return s
}

// serve is the body of every stack.
func (p *stackPool) serve(s *stack) {
	for {
		if t := s.start; t != nil {
			s.start = nil
			p.loop.begin(t, s)
		} else {
			p.dispatch(s)
		}
		if len(p.idle) >= maxIdle {
			return
		}
		p.idle = append(p.idle, s)
		if !s.Yield() {
			return
		}
	}
}

// hub runs on a plain goroutine and keeps a dispatcher at work until the run halts.
func (p *stackPool) hub() {
	for !p.loop.halted {
		s := p.take()
		p.dispatcher = s
		p.resume(s)
		p.dispatcher = nil
	}
}

// dispatch runs callbacks until the run halts or s is no longer the dispatcher: a task
// that was started here suspended, and has ended only now (K2).
func (p *stackPool) dispatch(s *stack) {
	l := p.loop
	for !l.halted {
		if l.todo == 0 && !l.beginIteration() {
			return
		}
		e := l.next()
		if t, ok := e.cb.(*task); !ok {
			l.enter(s)
			e.cb.fire(e.fut)
		} else if t.stack != nil {
			l.current = t
			p.resume(t.stack)
			l.current = nil
		} else {
			l.begin(t, s)
			if p.dispatcher != s {
				return
			}
		}
	}
}

// resume gives control to s and returns when it comes back.
func (p *stackPool) resume(s *stack) {
	s.Resume()
	if s.Dead() {
		p.bury(s)
	}
}

func (p *stackPool) bury(s *stack) { p.burials = append(p.burials, s.Bury()) }

// drain ends all stacks of a loop that is being closed. Those of tasks are gone already.
func (p *stackPool) drain() {
	for _, s := range p.idle {
		<-s.Kill()
	}
	for _, gone := range p.burials {
		<-gone
	}
	p.idle, p.burials = nil, nil
}

// enter notes that s has control, for telling foreign goroutines apart.
func (l *EventLoop) enter(s *stack) {
	if !l.debug.Load() {
		if l.guard.Load() != 0 {
			l.guard.Store(0)
		}
		return
	}
	if s.id == 0 {
		s.id = goroutineID() // s is the stack we are on
	}
	l.guard.Store(s.id)
}
