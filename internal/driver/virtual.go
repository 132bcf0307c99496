package driver

import (
	"sync"
	"sync/atomic"
	"time"
)

// Virtual owns its clock: when the loop would wait for a deadline, the clock jumps there. While
// work outside is held, Virtual waits for it in real time and the clock stands still.
type Virtual struct {
	now atomic.Int64 // nanoseconds; read by any goroutine

	mu    sync.Mutex
	woken sync.Cond // signalled when pending becomes true or held becomes zero

	pending bool // guarded by mu
	held    int  // guarded by mu
}

// VirtualStart is the time at which every virtual clock starts: a fixed moment, because everything
// that a program can observe must be the same in every run.
var VirtualStart = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

// NewVirtual returns a driver whose clock stands at zero.
func NewVirtual() *Virtual {
	d := new(Virtual)
	d.woken.L = &d.mu
	return d
}

func (d *Virtual) Now() time.Duration { return time.Duration(d.now.Load()) }

func (d *Virtual) Start() time.Time { return VirtualStart }
func (d *Virtual) Wall() time.Time  { return VirtualStart.Add(d.Now()) }

func (d *Virtual) Wait(until time.Duration) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	for !d.pending && d.held > 0 {
		d.woken.Wait()
	}
	switch {
	case d.pending:
		d.pending = false
	case until == Never:
		return ErrStalled
	case until > d.Now():
		d.now.Store(int64(until))
	}
	return nil
}

// Pass moves the clock forward by span, as a step that takes so long does. It is for the goroutine
// that does the loop's work.
func (d *Virtual) Pass(span time.Duration) { d.now.Add(int64(max(span, 0))) }

// Jumps reports whether nothing is held, so that the clock jumps.
func (d *Virtual) Jumps() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.pending || d.held == 0
}

func (d *Virtual) Wake() {
	d.mu.Lock()
	d.pending = true
	d.mu.Unlock()
	d.woken.Signal()
}

func (d *Virtual) Hold() {
	d.mu.Lock()
	d.held++
	d.mu.Unlock()
}

func (d *Virtual) Release() {
	d.mu.Lock()
	d.held--
	d.mu.Unlock()
	d.woken.Signal()
}

// Seed makes the random numbers the same in every run.
func (d *Virtual) Seed(consumer string) (uint64, uint64) { return Derive(0, consumer) }

func (d *Virtual) Polls() bool  { return true }
func (d *Virtual) Close() error { return nil }
