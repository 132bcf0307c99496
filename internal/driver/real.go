package driver

import (
	"sync/atomic"
	"time"
)

// Real runs on the machine's monotonic clock and parks on a channel: while there
// is no I/O to wait for, waiting needs nothing of the kernel that the Go runtime
// does not do for it.
type Real struct {
	start time.Time
	timer *time.Timer // made by the first Wait with a deadline, then reused

	// parked is set while Wait is about to block or blocked. Wake sends only
	// then, so that a busy loop is woken at the cost of one atomic load.
	//
	// No wake-up is lost: Wake publishes its work (in the loop's inbox) and
	// then looks at pending; Wait sets parked, then takes pending.
	pending atomic.Bool
	parked  atomic.Bool
	wake    chan struct{} // capacity 1
}

// NewReal returns a driver whose clock starts now.
func NewReal() *Real {
	return &Real{start: time.Now(), wake: make(chan struct{}, 1)}
}

func (d *Real) Now() time.Duration { return time.Since(d.start) }

func (d *Real) Start() time.Time { return d.start }

func (d *Real) Wait(until time.Duration) error {
	d.parked.Store(true)
	defer d.parked.Store(false)
	if d.pending.Swap(false) {
		return nil
	}
	if until == Never {
		<-d.wake
		d.pending.Store(false)
		return nil
	}
	now := d.Now()
	if until <= now {
		return nil
	}
	left := until - now
	if d.timer == nil {
		d.timer = time.NewTimer(left)
	} else {
		d.timer.Reset(left)
	}
	select {
	case <-d.wake:
		d.pending.Store(false)
	case <-d.timer.C:
	}
	d.timer.Stop()
	return nil
}

func (d *Real) Wake() {
	if d.pending.Swap(true) {
		return // an earlier Wake that Wait has not seen yet does for both
	}
	if d.parked.Load() {
		select {
		case d.wake <- struct{}{}:
		default:
		}
	}
}

func (d *Real) Hold()        {}
func (d *Real) Release()     {}
func (d *Real) Polls() bool  { return false }
func (d *Real) Close() error { return nil }
