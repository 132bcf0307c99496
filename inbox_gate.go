package asyncio

// What other goroutines post to a loop whose driver has a gate (driver.Gate) goes through that.

// postAtGate is post for a goroutine that has to pass the gate.
func (l *EventLoop) postAtGate(cb callback) error {
	b := &l.inbox
	b.mu.Lock() // nothing is posted once the gate has been flushed (inbox 3)
	defer b.mu.Unlock()
	if b.closed {
		return ErrLoopClosed
	}
	l.gate.Post(&gatePost{l, cb})
	return nil
}

// A gatePost is a post that waits at the gate.
type gatePost struct {
	loop *EventLoop
	cb   callback
}

func (p *gatePost) Arrive() { p.loop.admit(p.cb) }

// An ordered post has a better place among those of the same instant than its name gives it.
type ordered interface {
	order() (number uint64, name string)
}

func (p *gatePost) Order() (uint64, string) {
	if o, ok := p.cb.(ordered); ok {
		return o.order()
	}
	return 0, nameOf(p.cb)
}

func (p *gatePost) Name() string { return nameOf(p.cb) }

func (r *errand) readyName() string { return r.line.nameFor(r) }

func (fn postedCall) readyName() string { return "callback " + functionName(fn) }

func (r *errand) order() (uint64, string) {
	if o, ok := r.do.(ordered); ok {
		return o.order()
	}
	return r.line.number, ""
}
