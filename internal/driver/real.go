package driver

import (
	"net"
	"runtime"
	"sync/atomic"
	"time"
)

// Real runs on the machine's monotonic clock. It parks on a channel while there is no I/O to wait
// for, because then the Go runtime does all that is needed of the kernel. While there are
// descriptors to wait for it parks in the system's poller.
type Real struct {
	start time.Time
	timer *time.Timer // made by the first Wait with a deadline, then reused

	// parked says where Wait is about to block or blocks. Wake sends only then, so that waking a
	// busy loop costs one atomic load.
	//
	// No wake-up is lost:
	//
	//   - Wake publishes its work (in the loop's inbox), sets pending and then looks at parked.
	//     Wait sets parked and then takes pending. So either Wait sees that it is pending, or Wake
	//     sees where Wait is parked and sends there.
	//   - A sent wake-up may arrive late, after Wait has taken pending. It then ends a later Wait
	//     early, for no reason, which the contract allows.
	//   - Wait takes pending back when it receives a wake-up. A Wake that came before that and sent
	//     nothing, because it found pending set, had published its work: the loop looks there after
	//     Wait.
	pending atomic.Bool
	parked  atomic.Uint32
	wake    chan struct{} // capacity 1
	held    atomic.Int64
	fresh   atomic.Bool // work has been given away since Wait, see waitOnChannel

	portable bool
	// made for the first descriptor, on the loop; Wake reads it only after it saw inPoller
	poller *poller
	news   news
	closed bool
}

// The places where Wait may be parked.
const (
	awake uint32 = iota
	onChannel
	inPoller
)

// NewReal returns a driver whose clock starts now.
func NewReal() *Real {
	return &Real{start: time.Now(), wake: make(chan struct{}, 1)}
}

// NewPortable returns a Real that does without the system's poller: goroutines do all waiting.
// NewReal does the same where there is no poller, and for connections that are not descriptors.
func NewPortable() *Real {
	d := NewReal()
	d.portable = true
	return d
}

func (d *Real) Now() time.Duration { return time.Since(d.start) }

func (d *Real) Start() time.Time { return d.start }
func (d *Real) Wall() time.Time  { return time.Now() }

func (d *Real) Wait(until time.Duration) error {
	if d.poller != nil && d.poller.count > 0 {
		err := d.waitInPoller(until)
		d.news.tell()
		return err
	}
	d.waitOnChannel(until)
	d.news.tell()
	return nil
}

func (d *Real) waitOnChannel(until time.Duration) {
	// A goroutine that has just been given work gets a turn before the loop parks: if it finishes
	// then, it need not wake the loop, which takes a tenth off the round trip. It gets one turn
	// only: long work would hold up a loop that has other things to wait for.
	if d.fresh.Load() {
		d.fresh.Store(false)
		if !d.pending.Load() {
			runtime.Gosched()
		}
	}
	d.parked.Store(onChannel)
	defer d.parked.Store(awake)
	if d.pending.Swap(false) {
		return
	}
	if until == Never {
		<-d.wake
		d.pending.Store(false)
		return
	}
	now := d.Now()
	if until <= now {
		return
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
}

// waitInPoller looks at the descriptors even if it is not to wait.
func (d *Real) waitInPoller(until time.Duration) error {
	if d.held.Load() > 0 && !d.pending.Load() {
		// If something is always ready, the wait below does not let other goroutines run. Those
		// that work for the loop get a turn first.
		runtime.Gosched()
	}
	d.parked.Store(inPoller)
	now := time.Duration(0)
	if d.pending.Swap(false) {
		until = 0
	} else if until != Never {
		now = d.Now()
	}
	woken, err := d.poller.wait(until, now)
	d.parked.Store(awake)
	if woken {
		d.pending.Store(false)
	}
	return err
}

// Poll tells the notifiers of ready endpoints, without waiting.
func (d *Real) Poll() error {
	d.news.tell()
	if d.poller == nil || d.poller.count == 0 {
		return nil
	}
	_, err := d.poller.wait(0, 0)
	return err
}

// OpenSockets implements [Census]. Endpoints that goroutines serve come all at once, at the first
// place.
func (d *Real) OpenSockets(from, most int, yield func(local net.Addr, listens bool)) (next int) {
	if from == 0 {
		d.news.each(yield)
	}
	if d.poller == nil {
		return -1
	}
	return d.poller.some(from, most, yield)
}

func (d *Real) Wake() {
	if d.pending.Load() || d.pending.Swap(true) {
		return // an earlier Wake that Wait has not seen yet covers both
	}
	switch d.parked.Load() {
	case onChannel:
		select {
		case d.wake <- struct{}{}:
		default:
		}
	case inPoller:
		d.poller.wake()
	}
}

func (d *Real) Hold() {
	d.held.Add(1)
	d.fresh.Store(true)
}

func (d *Real) Release()    { d.held.Add(-1) }
func (d *Real) Polls() bool { return false }

// Close closes the endpoints that are left.
func (d *Real) Close() error {
	if d.closed {
		return nil
	}
	d.closed = true
	d.news.close()
	if d.poller != nil {
		return d.poller.close()
	}
	return nil
}

// usePoller makes the poller if there is none yet. It reports false where the system has none. A
// closed driver gets no more endpoints.
func (d *Real) usePoller() (bool, error) {
	if d.closed {
		return false, net.ErrClosed
	}
	if d.portable || !pollerExists {
		return false, nil
	}
	if d.poller == nil {
		p, err := newPoller()
		if err != nil {
			return false, err
		}
		d.poller = p
	}
	return true, nil
}

// Adopt implements [Sockets].
func (d *Real) Adopt(c net.Conn) (Endpoint, error) {
	e, err := d.adopt(c)
	if err != nil {
		c.Close()
	}
	return e, err
}

func (d *Real) adopt(c net.Conn) (Endpoint, error) {
	use, err := d.usePoller()
	if err != nil {
		return nil, err
	}
	if use && isSocket(c) {
		e, err := d.poller.adopt(c)
		if err != nil {
			return nil, err
		}
		return e, nil
	}
	return d.news.adopt(d, c), nil
}

// Share implements [Sockets].
func (d *Real) Share(c net.Conn) (Endpoint, error) {
	use, err := d.usePoller()
	if err != nil {
		return nil, err
	}
	if !use || !isSocket(c) {
		return nil, ErrSockets
	}
	e, err := d.poller.share(c)
	if err != nil {
		return nil, err
	}
	return e, nil
}

// AdoptListener implements [Sockets].
func (d *Real) AdoptListener(l net.Listener, named bool) (Listener, error) {
	use, err := d.usePoller()
	if err == nil && use && isSocket(l) {
		var e *listenerSocket
		if e, err = d.poller.adoptListener(l, named); err == nil {
			return e, nil
		}
	}
	if err != nil {
		l.Close()
		return nil, err
	}
	return d.news.adoptListener(d, l, named), nil
}

// AdoptPacketConn implements [Sockets].
func (d *Real) AdoptPacketConn(c net.PacketConn) (PacketEndpoint, error) {
	use, err := d.usePoller()
	if err == nil && use && isSocket(c) {
		var e *packetSocket
		if e, err = d.poller.adoptPacketConn(c); err == nil {
			return e, nil
		}
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return d.news.adoptPacketConn(d, c), nil
}

// Watch implements [Sockets].
func (d *Real) Watch(fd uintptr, read, write bool, w Notifier) error {
	use, err := d.usePoller()
	if err != nil {
		return err
	}
	if !use {
		return ErrSockets
	}
	return d.poller.watch(int(fd), read, write, w)
}
