package sim

import (
	"errors"
	"fmt"
	"net"
	"runtime"
	"time"

	"github.com/goasyncio/asyncio/internal/driver"
)

// The driver of a simulated loop: what a life answers when its loop calls, and what it refuses
// because it would come from the real world.

func (l *life) Attach(loop driver.Loop) { l.loop = loop }

func (l *life) Polls() bool { return true }

// TakesTurns implements [driver.Turns] (world 5).
func (l *life) TakesTurns() {}

func (l *life) Seed(consumer string) (uint64, uint64) {
	if l.w.main != l {
		// no name has a colon
		consumer = fmt.Sprintf("%s:%d/%s", l.host.name, l.host.lives, consumer)
	}
	l.w.drew = true
	return driver.Derive(l.w.seed, consumer)
}

// Choose implements [driver.Chooser].
func (l *life) Choose(_, n int) int {
	if l.killed {
		return die
	}
	l.state, l.n = choosing, n
	return l.w.pass(l)
}

// Wait implements [driver.Driver].
func (l *life) Wait(until time.Duration) error {
	if l.killed {
		return driver.ErrKilled
	}
	l.state, l.until = waiting, l.clock.Load().reaches(until)
	order := l.w.pass(l)
	l.pending.Store(false)
	switch order {
	case die:
		return driver.ErrKilled
	case stall:
		return driver.ErrStalled
	}
	return nil
}

// BeginIteration implements [driver.Observer].
func (l *life) BeginIteration() {
	l.fresh = true
	if w := l.w; w.tracer != nil {
		if w.made && w.turn == l && !l.outside {
			l.note(w.step)
		} else {
			l.note(0)
		}
		l.outside = true
	}
}

// Hold is called when the loop waits in real time for a goroutine: to run a thread function, or on
// a channel that only a goroutine can still use.
func (l *life) Hold() {
	if l.w.bubble != nil {
		return // the clock moves only when all goroutines are at rest (bubble 1)
	}
	l.hold()
	if calledBy("asyncio.(*channelWaits).wait") {
		l.w.leak("a task waits for a channel, and only a goroutine outside of the simulation could still use it")
		l.wake()
	}
}

func (l *life) hold() {
	l.w.mu.Lock()
	l.held++
	l.w.held++
	l.w.heldAt = l.w.heldAt[:runtime.Callers(3, l.w.heldAt[:cap(l.w.heldAt)])]
	l.w.mu.Unlock()
}

// Release implements [driver.Driver].
func (l *life) Release() {
	if l.w.bubble != nil {
		return
	}
	l.letGo(1)
	l.w.stir()
}

// Wake notices goroutines that reach into the simulation. Package context calls it too, on a
// goroutine of its own at an arbitrary time, when a context has ended. Such a call changes nothing,
// because contexts are looked at anyway before time moves.
func (l *life) Wake() {
	if !calledBy("asyncio.(*EventLoop).wake") {
		l.w.stir()
		return
	}
	if l.w.bubble == nil && !l.w.leaking.Load() && !calledBy(
		"asyncio.(*stackPool).take.func1", "asyncio.(*stackPool).run", // a loop of the world
		"sim.(*exploration).run", "sim.(*life).live", // the goroutines that run them
		"sim.(*life).perform",                                // which a loop waits for
		"asyncio.(*EventLoop).ShutdownDefaultExecutor.func1", // likewise
	) {
		l.w.leak("a goroutine outside of the simulation has called the loop, at a time that no seed decides")
	}
	l.wake()
}

func (l *life) wake() {
	l.pending.Store(true)
	l.w.stir()
}

// Close does nothing: when the life ends, end closes what is left (endpoint 5), in the order of
// host 3.
func (l *life) Close() error { return nil }

// Submit implements the default executor. A thread function runs as a step of the loop, which waits
// for it, so the moment at which it ends does not depend on real time. If the function itself waits
// for the loop, as at a view of a connection, it is several steps (performance). In a bubble it may
// wait for anything.
func (l *life) Submit(job func()) error {
	b := l.w.bubble
	if b != nil {
		b.open = true
	}
	l.eventLoop.CallSoon(func() {
		if b != nil { // it runs beside the loop, as in production
			l.jobs.Go(job)
			return
		}
		p := &performance{life: l, paused: make(chan struct{}), done: make(chan struct{})}
		go l.perform(job, p)
		p.attend()
	})
	return nil
}

// A performance is a thread function and its goroutine, which runs only while a step attends to it.
// It implements [driver.Performance].
type performance struct {
	life         *life
	paused, done chan struct{}
}

func (l *life) perform(job func(), p *performance) {
	id := goroutineID()
	l.w.performing.Store(id, p)
	defer close(p.done)
	defer l.w.performing.Delete(id)
	job()
}

// Performing implements [driver.Performer].
func (l *life) Performing() driver.Performance {
	if p, ok := l.w.performing.Load(goroutineID()); ok && p.(*performance).life == l {
		return p.(*performance)
	}
	return nil
}

// attend waits, in a step, until the function has returned or waits for the loop.
func (p *performance) attend() {
	limit := time.NewTimer(threadPatience)
	defer limit.Stop()
	select {
	case <-p.paused:
	case <-p.done:
	case <-limit.C:
		p.life.w.leak(fmt.Sprintf("a thread function waits for something outside of the simulation, or for the loop, or computes for longer than %v; it is\n%s",
			threadPatience, goroutineWith("sim.(*life).perform(")))
	}
}

// Pause lets the clock go on: the function waits for something that takes simulated time.
func (p *performance) Pause() {
	p.life.letGo(1)
	select {
	case p.paused <- struct{}{}:
	case <-time.After(threadPatience): // the step has given up, and has reported that
	}
}

func (p *performance) Resume(release func(), closing bool) {
	perform := func() {
		p.life.hold()
		release()
		p.attend()
	}
	if closing {
		perform()
	} else {
		p.life.eventLoop.CallSoon(perform)
	}
}

// goroutineID reads the id that stack traces begin with.
func goroutineID() (id uint64) {
	var buf [40]byte
	_, _ = fmt.Sscanf(string(buf[:runtime.Stack(buf[:], false)]), "goroutine %d ", &id)
	return id
}

// Shutdown implements the default executor. Outside of bubbles no job is under way when it is
// called.
func (l *life) Shutdown(wait bool) {
	if wait {
		l.jobs.Wait()
	}
}

// The network.

// real refuses a connection, listener or file of the operating system.
func (l *life) real(what string, addr net.Addr) error {
	l.w.leak(fmt.Sprintf("a real %s (%s) in a simulation: its data comes at a time that no seed decides; Dial, Listen and ListenPacket are for simulated ones", what, addr))
	return fmt.Errorf("a real %s in a simulation: %w", what, errors.ErrUnsupported)
}

func (l *life) Adopt(c net.Conn) (driver.Endpoint, error) {
	defer c.Close()
	return nil, l.real("connection", c.LocalAddr())
}

func (l *life) Share(c net.Conn) (driver.Endpoint, error) {
	return nil, l.real("connection", c.LocalAddr())
}

func (l *life) AdoptListener(ln net.Listener, _ bool) (driver.Listener, error) {
	defer ln.Close()
	return nil, l.real("listener", ln.Addr())
}

func (l *life) AdoptPacketConn(c net.PacketConn) (driver.PacketEndpoint, error) {
	defer c.Close()
	return nil, l.real("socket", c.LocalAddr())
}

func (l *life) Watch(fd uintptr, _, _ bool, _ driver.Notifier) error {
	l.w.leak(fmt.Sprintf("a real descriptor (%d) is watched in a simulation", fd))
	return fmt.Errorf("a real descriptor in a simulation: %w", errors.ErrUnsupported)
}

// Poll is called by a busy loop. It does nothing: readiness is delivered between two steps.
func (l *life) Poll() error { return nil }

func (l *life) Dial(network, address string, local net.Addr) (driver.Connecting, error) {
	return l.host.process.Dial(network, address, local)
}

func (l *life) Listen(network, address string) (driver.Listener, error) {
	return l.host.process.Listen(network, address)
}

func (l *life) ListenPacket(network, address string) (driver.PacketEndpoint, error) {
	return l.host.process.ListenPacket(network, address)
}

// LookupHost implements [driver.Resolver]. It answers at once: who asks for addresses alone does
// not wait for the time that a lookup takes (dns 3).
func (l *life) LookupHost(host string) ([]string, error) {
	found := l.host.process.sys.resolve(0, host, false)
	var addrs []string
	for _, addr := range found.addrs {
		addrs = append(addrs, addr.String())
	}
	return addrs, found.err
}

// Disk implements [driver.Storage].
func (l *life) Disk() driver.Disk { return l.disk }
