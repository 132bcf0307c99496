package asyncio

import (
	"fmt"
	"net"
	"os"
	"slices"
	"time"
)

// Errands for which no goroutine waits (errand 8).

// maxAhead is how many bytes of a direction may be accepted and not written yet.
const maxAhead = 16 << 20

// writeAhead has the loop write t.p, and waits for that only if too much waits already.
func (q *errands) writeAhead(t *transfer) error {
	k := t.line
	if err := k.broken.Load(); err != nil {
		return *err
	}
	if d := k.until.Load(); d != nil && !time.Now().Before(*d) {
		return os.ErrDeadlineExceeded
	}
	size := int64(len(t.p))
	if k.ahead.Load()+size > maxAhead {
		return q.ask(k, t)
	}
	if err := k.enter(); err != nil { // until it is written
		return err
	}
	k.ahead.Add(size)
	t.p = slices.Clone(t.p)
	return q.post(&errand{line: k, do: t, ahead: true, size: size})
}

// doAhead has the loop do something behind what is written ahead.
func (q *errands) doAhead(k *errandLine, do attempter) error {
	return q.post(&errand{line: k, do: do, ahead: true})
}

func (q *errands) post(r *errand) error {
	if q.loop.post(r) != nil {
		return net.ErrClosed
	}
	return nil
}

// wroteAhead is called when an errand is settled for which nobody waits.
func (k *errandLine) wroteAhead(r *errand) {
	if r.size == 0 {
		return
	}
	k.ahead.Add(-r.size)
	if r.err != nil {
		k.broken.CompareAndSwap(nil, &r.err)
	}
	k.leave()
}

// limitAhead notes the deadline for writes.
func (k *errandLine) limitAhead(d time.Time) {
	if k == nil || k.half == nil || k.half.loop.gate == nil {
		return
	}
	if d.IsZero() {
		k.until.Store(nil)
	} else {
		k.until.Store(&d)
	}
}

// A closing closes a connection behind what was written ahead. Reads end at once.
type closing struct {
	rd  *errandLine
	end func() error
}

func (q *errands) closeBehind(rd, wr *errandLine, end func() error) error {
	_ = q.post(&errand{line: wr, do: &closing{rd, end}, ahead: true}) // a closed loop has closed it
	return nil
}

func (c *closing) attempt() error { return c.end() }

// refuse ends the reads, on the loop.
func (c *closing) refuse() {
	c.rd.closing = true
	for _, r := range c.rd.waiting {
		r.giveUp(errandWaits, net.ErrClosed)
	}
}

// setDeadlineAtGate has set called on the loop. The goroutine's clock need not show what the
// loop's shows, which a test may have set.
func (q *errands) setDeadlineAtGate(k *errandLine, d time.Time, set func(time.Time)) error {
	left := time.Until(d)
	err := q.loop.post(&gateCall{k.number, func() {
		if !d.IsZero() {
			d = q.loop.Now().Add(left)
		}
		set(d)
	}})
	if err != nil {
		return fmt.Errorf("set deadline: %w", net.ErrClosed)
	}
	return nil
}

// A gateCall is a call that acts where it arrives, and has the place of a connection at the gate.
type gateCall struct {
	number uint64
	fn     func()
}

func (c *gateCall) arrive()                 { c.fn() }
func (c *gateCall) fire(*future)            {}
func (c *gateCall) order() (uint64, string) { return c.number, "" }

func (a *dialling) order() (uint64, string) { return 0, "dial " + a.network + " " + a.address }

func (r *errand) readyName() string { return r.line.nameFor(r) }

func (r *errand) order() (uint64, string) {
	if o, ok := r.do.(ordered); ok {
		return o.order()
	}
	return r.line.number, ""
}
