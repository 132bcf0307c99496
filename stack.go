package asyncio

import "github.com/goasyncio/asyncio/internal/coro"

// Where code runs (design rule R8: on iter.Pull coroutines, here called stacks).
//
//	K1 One stack is the dispatcher: it takes callbacks off the ready queue and runs
//	   them. A new task is simply called on it, so a task that never suspends costs no switch.
//	K2 If a task suspends on the dispatcher's stack, that goes on dispatching on top of the
//	   suspended task. When the task's own turn comes, it just returns: no switch. So a
//	   task that is alone never switches, and two that take turns switch once each.
//	K3 The dispatcher resumes a task that is suspended on another stack and gets control
//	   back when it suspends again or ends: two switches.
//	K4 What might not come back, a new task or a user's callback, must not run on top of a
//	   suspended task. When it is next, the dispatcher leaves its stack to the task
//	   and yields to the hub, which makes another stack the dispatcher: two switches.
//	K5 One exception to K4: a new task may be called on top of the task that waits for it,
//	   because that cannot go on before the new one has ended. It must be so without
//	   exception: not if a context could end the wait (a cancel is passed on to the new
//	   task, and the wait goes on). The two then share a stack; resuming it goes on with
//	   the upper one, and the lower one is not scheduled before that has ended. So
//	   "create a task and await it" costs no switch.
//	K6 A stack whose task has ended is idle: it yields to whoever resumed it and can
//	   serve again. So a stack is the dispatcher's, of one or more tasks, both, or idle.
//	K7 A task that is started eagerly runs on a stack of its own, resumed by its starter.
//	K8 A stack whose body calls runtime.Goexit is dead. Whoever resumed it buries it.
//	   The run halts, so no dispatcher is needed. If the task that did it was on top of
//	   another (K5), that one is unwound with it.
//	K9 The frames between the bottom of a stack and a wait are few and small, which is why some
//	   functions here are in several parts: a goroutine begins with 2 KiB, of which about 1100
//	   bytes are for frames (hence go:noinline here and there), and what does not fit doubles every suspended task and copies its stack.

type stack struct {
	coro.Coro
	pool  *stackPool
	start *task  // to be started here, eagerly (K7)
	id    uint64 // of its goroutine; found only where it is needed (see noteStep)

	asked  bool      // to note what is on it, and to yield again (callgraph.go)
	frames []uintptr // the answer

	abandoned bool // Close has given up on it; guarded by EventLoop.unwinding
}

type stackPool struct {
	loop       *EventLoop
	dispatcher *stack // K1
	idle       []*stack
	burials    []<-chan struct{}
	noticed    []*stack // that have noted what is on them (V3)
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
	s := &stack{pool: p}
	s.Init(s)
	return s
}

// Run is the body of every stack. It starts the task it was resumed for, or else is the dispatcher.
func (s *stack) Run() {
	l := s.pool.loop
	for {
		if t := s.start; t != nil {
			s.start = nil
			l.begin(t, s)
		} else {
			for t := s.dispatch(); t != nil; t = s.dispatch() {
				l.begin(t, s)
				if s.pool.dispatcher != s {
					break // it was left to this task (K4), which has ended only now
				}
			}
		}
		if !s.rest() {
			return
		}
	}
}

// dispatch runs callbacks until a new task is next, which it returns, or the run halts.
func (s *stack) dispatch() *task {
	p := s.pool
	l := p.loop
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
		} else if other := t.stack; other != nil { // K3
			l.current = t
			if signal := other.Resume(); signal != coro.Suspended {
				p.heed(signal, other, s)
			}
			l.current = nil
		} else {
			return t
		}
	}
	return nil
}

// rest makes s idle (K6) and reports whether it is to serve again. It is a function of its own because of K9, as dispatch is.
func (s *stack) rest() bool {
	p := s.pool
	if len(p.idle) >= maxIdle {
		return false
	}
	p.idle = append(p.idle, s)
	return s.Yield(coro.Suspended)
}

// hub runs on a plain goroutine and keeps a dispatcher at work until the run halts.
func (p *stackPool) hub() {
	for !p.loop.halted {
		s := p.take()
		p.dispatcher = s
		p.resume(s, nil)
		p.dispatcher = nil
	}
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

// dispatchOn runs callbacks on top of t, which is suspended on the dispatcher's stack,
// until t's turn comes (K2). It reports false if that must wait for another dispatcher, because
// of K4 or because this stack is the dispatcher no longer, or for another run.
func (p *stackPool) dispatchOn(t *task) bool {
	l := p.loop
	for !l.halted {
		if l.todo == 0 && !l.beginIteration() {
			return false
		}
		e := l.upcoming(t.stack)
		if next, ok := e.cb.(*task); !ok {
			if _, ok := e.cb.(quick); !ok {
				return false
			}
			l.advance()
			e.cb.fire(e.fut)
		} else if next == t {
			l.advance()
			return true
		} else if s := next.stack; s != nil {
			l.advance()
			l.current = next
			if signal := s.Resume(); signal != coro.Suspended {
				p.heed(signal, s, t.stack)
			}
			l.current = nil
		} else if t.waiter == next.fut && !t.watching {
			l.advance()
			t.covered = true // K5
			l.begin(next, t.stack)
			t.covered = false
			if p.dispatcher != t.stack {
				return false
			}
		} else {
			return false
		}
	}
	return false
}

// resume gives control to s and returns when it comes back. It is called on the stack below,
// nil for the hub's goroutine. Where tasks are resumed it is written out: after a switch every
// return is mispredicted, and this would be one more.
func (p *stackPool) resume(s, below *stack) {
	if signal := s.Resume(); signal != coro.Suspended {
		p.heed(signal, s, below)
	}
}

// heed does what s, resumed on the stack below, gave control back for.
func (p *stackPool) heed(signal coro.Signal, s, below *stack) {
	for signal == coro.Asks {
		if below != nil {
			p.notice(below)
		}
		signal = s.Resume()
	}
	if signal == coro.Died {
		p.burials = append(p.burials, s.Bury())
	}
}

// drain ends all stacks of a loop that is being closed. Those of tasks are gone already.
func (p *stackPool) drain() {
	for _, s := range p.idle {
		<-s.Kill()
	}
	p.idle = nil
	p.mourn()
}

// mourn waits until the dead stacks are gone.
func (p *stackPool) mourn() {
	for _, gone := range p.burials {
		<-gone
	}
	p.burials = nil
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
