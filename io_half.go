package asyncio

import (
	"context"
	"fmt"
	"net"
	"time"
)

// One direction of a connection: who waits there, until when, and what wakes that task. The rules
// are at Conn (conn 1-5).

// half is one direction of a connection, or the event that a listener waits for.
type half struct {
	loop      *EventLoop
	t         *task   // the task that uses it, while that is suspended
	deadline  Instant // zero for none
	iteration uint64  // the loop's iteration in which
	unbroken  int     // this many operations were done without a wait
	timer     timer   // set while a task waits under a deadline

	outside outsiders // nil if there is no view for goroutines

	verb string   // names the wait, such as "read from"
	addr net.Addr // follows verb: the peer's address, or the socket's own
}

// outsiders are the goroutines that use a direction by a view.
type outsiders interface {
	// wake makes them look again.
	wake()

	// inUse reports whether one of them reads, writes or accepts, and busy is the error for a task
	// then.
	inUse() bool
	busy() error

	// take takes the direction for a task until release. It reports false if the task has it
	// already, and fails while a goroutine has it.
	take() (bool, error)
	release()
}

// A view is what goroutines have of a connection, a listener or a socket.
type view interface {
	// closeOwn closes it because the object is closed.
	closeOwn() error
}

func (h *half) String() string {
	if h.addr == nil {
		return h.verb
	}
	return h.verb + " " + h.addr.String()
}

// begin begins an operation of t. It returns ErrBusy if another task is suspended here or a
// goroutine is at it, and gives way if it is time to (conn 1).
func (h *half) begin(t *task) error {
	if h.t != nil {
		return fmt.Errorf("%w: %s by %s", ErrBusy, h, h.t.GetName())
	}
	if h.outside != nil && h.outside.inUse() {
		return h.outside.busy()
	}
	if h.mayGoOn() {
		return nil
	}
	h.t = t
	defer h.leave()
	return t.yield()
}

// mayGoOn counts an operation, and reports whether it may be done without giving way (conn 1).
func (h *half) mayGoOn() bool {
	if h.iteration != h.loop.iteration {
		h.iteration, h.unbroken = h.loop.iteration, 0
	}
	h.unbroken++
	return h.unbroken <= maxUnbroken
}

// limited reports whether there is a deadline.
func (h *half) limited() bool { return h.deadline != Instant{} }

// expired reports whether the deadline has passed.
func (h *half) expired() bool { return h.limited() && !h.deadline.After(h.loop.Time()) }

// wait suspends t until there is a reason to look again (conn 2).
func (h *half) wait(ctx context.Context, t *task) error {
	if h.outside != nil {
		taken, err := h.outside.take()
		if err != nil {
			return err
		}
		if taken {
			defer h.outside.release()
		}
	}
	h.t = t
	if h.limited() {
		h.arm()
	}
	defer h.leave()
	return t.park(ctx, h)
}

func (h *half) leave() {
	h.t = nil
	if h.timer.pos != 0 && h.outside == nil { // goroutines may wait under the same deadline
		h.loop.timers.remove(&h.timer)
	}
}

func (h *half) arm() {
	h.timer.when, h.timer.cb = h.deadline, h
	h.loop.setTimer(&h.timer)
}

// wake makes whoever waits here look again.
func (h *half) wake() {
	if h.t != nil {
		h.t.unpark()
	}
	if h.outside != nil {
		h.outside.wake()
	}
}

// fire is called by the timer. It may come late, when h is already in a later wait; that wait just
// looks again (conn 2).
func (h *half) fire(*future) { h.wake() }

func (*half) quick() {}

// at converts d to the loop's clock. Times before the start become the first Instant after it,
// because zero stands for no deadline.
func (l *EventLoop) at(d time.Time) Instant {
	when := Instant{d.Sub(l.drv.Start())}
	if l.isOfMachine(d) {
		when = l.Time().Add(max(l.Until(d), 0))
	}
	return Instant{max(when.age, 1)}
}

func (h *half) setDeadline(d time.Time) {
	h.loop.timers.remove(&h.timer)
	h.deadline = Instant{}
	if !d.IsZero() {
		h.deadline = h.loop.at(d)
	}
	if h.limited() && (h.t != nil && h.t.parked || h.outside != nil) {
		h.arm()
	}
}

// ways are the two directions of a connection, as its endpoint sees them.
type ways struct {
	rd, wr   half
	readable *readiness // nil before the first OnReadable
}

func (w *ways) Ready(read, write bool) {
	if read {
		w.wakeReaders()
	}
	if write {
		w.wr.wake()
	}
}

// wakeReaders makes whoever waits to read look again.
func (w *ways) wakeReaders() {
	w.rd.wake()
	if w.readable != nil {
		w.readable.tell()
	}
}

// readiness is what OnReadable has set. By it a protocol learns, without a task that waits, that an
// idle connection has something to read: a pool that the connection has died, a server that its
// client has gone. The fields are for the loop.
type readiness struct {
	handle Handle // calls fire
	fn     func() // nil if there is none
	due    bool   // handle is in the ready queue
}

// tell schedules the call, if there is one and it is not due already.
func (r *readiness) tell() {
	if r.fn != nil && !r.due {
		r.due = true
		r.handle.loop.schedule(&r.handle, nil)
	}
}

// fire runs on the loop. A call that was taken back or replaced meanwhile is one for no reason.
func (r *readiness) fire() {
	fn := r.fn
	r.fn, r.due = nil, false
	if fn != nil {
		fn()
	}
}
