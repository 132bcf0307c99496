package sim

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"sync/atomic"
	"time"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/internal/driver"
)

// A Host is a machine in a simulation. It has a name and an address in its network, a clock, a
// disk, and a program that runs on a loop of its own. Make one with [NewHost]. The function given
// to [Run] or [Explore] runs on a host too, which is called main.
//
// Tasks of any host may call the methods, which do not suspend unless they say otherwise. Methods
// that turn a host on or off panic when called from a function given to [Always], [AtEnd] or
// [Eventually], and that fails the run.
//
//	host 1: A host that is on runs one life of its program, from [NewHost] or [Host.Restart] until
//	   the program returns or the host crashes. Everything in memory lasts for one life: the loop,
//	   its tasks, callbacks and timers. The disk, the address and the clock belong to the host.
//	host 2: A crash ends the life where it is: each task ends at the await it is in, even one whose
//	   turn would be next. Deferred functions of tasks are called, because Go cannot drop a stack,
//	   but they find no world to act on: every await fails with [asyncio.ErrLoopClosed], the network
//	   and the disk with [net.ErrClosed] and [fs.ErrClosed]. Other hosts see nothing of what they
//	   do, unless they share memory.
//	host 3: A program that returns ends its life as [asyncio.Run] does: the remaining tasks are
//	   cancelled and awaited, then everything open is closed.
//	host 4: The run ends with main's program. While the tasks that it has left are ended, other
//	   hosts go on, without faults. Then they are killed, and then [AtEnd] looks.
//	host 5: On and off describe the program, not the machine. The system of a host that is off still
//	   has power, and answers with refusals and resets, unless the host has crashed.
type Host struct {
	w       *world
	name    string
	prefix  string // of its tasks' names; empty for main
	index   int    // in w.hosts
	addr    netip.Addr
	process *process
	disk    *Disk
	program func(ctx context.Context) error

	life  *life // nil: it is off
	lives int
	err   error // with which the last life ended
	known bool  // somebody has been told of err
	ends  []*hope

	rate float64       // of the clock
	skew time.Duration // of the wall clock, while the host is off

	crashFault       string
	crashProbability float64       // after each step
	back             time.Duration // how long the host then stays off
	pauseFault       string
	pauseProbability float64 // after each step
	longestPause     time.Duration
}

// A life is one run of a host's program (host 1), and the driver of its loop.
type life struct {
	w         *world
	host      *Host
	loop      driver.Loop
	eventLoop *asyncio.EventLoop
	runner    *asyncio.Runner
	program   *asyncio.Task[asyncio.None]

	state   lifeState
	n       int           // choosing: how many are ready
	until   time.Duration // waiting: until when, on the world's clock
	fresh   bool          // an iteration has begun since its last step
	pending atomic.Bool   // woken since the last Wait returned
	tells   []tell
	baton   chan int // orders, with which it has the turn
	killed  bool     // the life has been ended by a crash or a kill (host 2)
	buried  chan struct{}
	held    int // this life's part of w.held, guarded by w.mu

	paused time.Duration // until when the life runs nothing, on the world's clock
	disk   driver.Disk   // as it is mounted
	clock  atomic.Pointer[clock]

	// for each ready callback: the step that made it ready, 0 if no step did; only kept with a
	// tracer
	causes  []int
	outside bool // callbacks that become ready now are not caused by the last step
}

// lifeState is the state that a life is in (world 5).
type lifeState uint8

const (
	starting lifeState = iota // it waits for its first turn
	running                   // it has the turn, or its step waits for a life that it ends
	choosing                  // it is parked in Choose
	waiting                   // it is parked in Wait
	gone                      // it has ended
)

// A tell is a readiness message to an endpoint.
type tell struct {
	to          driver.Notifier
	read, write bool
}

// A clock maps the world's time to a loop's.
type clock struct {
	rate  float64
	world time.Duration // the world time from which this rate holds,
	local time.Duration // and the local time at that moment
	start time.Time     // the wall-clock time at which it showed zero
}

func (c *clock) at(world time.Duration) time.Duration {
	if c.rate == 1 {
		return later(c.local, world-c.world)
	}
	f := c.rate * float64(world-c.world)
	if f >= math.MaxInt64 {
		return driver.Never
	}
	return later(c.local, time.Duration(f))
}

// reaches returns when, on the world's clock, the clock shows local.
func (c *clock) reaches(local time.Duration) time.Duration {
	switch {
	case local == driver.Never:
		return driver.Never
	case local <= c.local:
		return c.world
	case c.rate == 1:
		return later(c.world, local-c.local)
	}
	f := float64(local-c.local) / c.rate
	if f >= float64(math.MaxInt64-c.world) {
		return driver.Never
	}
	world := c.world + time.Duration(f)
	for c.at(world) < local { // rounding
		world++
	}
	return world
}

type hostKey struct{}

// lifeOf returns the life that ctx belongs to, and panics if there is none.
func lifeOf(ctx context.Context, caller string) *life {
	l, ok := ctx.Value(hostKey{}).(*life)
	if !ok {
		panic(fmt.Errorf("%w: this ctx does not come from sim.Run, Explore or Check (in sim.%s)", asyncio.ErrInvalidArgument, caller))
	}
	return l
}

func worldOf(ctx context.Context, caller string) *world { return lifeOf(ctx, caller).w }

// newHost makes a host that is off.
func (w *world) newHost(name string) *Host {
	i := len(w.hosts)
	h := &Host{w: w, name: name, index: i, rate: 1, crashFault: "crash of " + name, pauseFault: "pause of " + name, addr: netip.AddrFrom4([4]byte{10, 0, byte((i + 1) >> 8), byte(i + 1)})}
	if i > 0 {
		h.prefix = name + "/"
	}
	h.disk = newDisk(func(fault string, p float64) bool { return w.fault(name+": "+fault, p) }, w.stream("disk of "+name), h.wall)
	w.hosts = append(w.hosts, h)
	return h
}

// begin turns the host on, with a loop that is not running yet. main's loop is made by its runner.
// After the run nothing begins, though deferred functions may ask for it.
func (h *Host) begin(program func(ctx context.Context) error) *life {
	if h.w.ended {
		return nil
	}
	h.lives++
	l := &life{w: h.w, host: h, baton: make(chan int, 1)}
	now := h.w.time()
	l.clock.Store(&clock{rate: h.rate, world: now, start: driver.VirtualStart.Add(now + h.skew)})
	h.life = l
	l.disk = h.disk.fileSystem()
	h.process = h.w.net.attach(h.name, h.addr, l.tell)
	ctx := context.WithValue(context.Background(), hostKey{}, l)
	l.runner = asyncio.NewRunner(ctx, asyncio.LoopFactory(l.newLoop), asyncio.HandleSIGINT(false))
	if program == nil {
		return l
	}
	loop, err := l.runner.GetLoop()
	if err != nil {
		panic(err) // it was made by newLoop
	}
	l.program = asyncio.CreateTask(loop.Context(), asyncio.Do(program), asyncio.Name("main"))
	h.w.note(h.name + " is turned on")
	go l.live()
	return l
}

// wall is the host's wall clock.
func (h *Host) wall() time.Time {
	if h.life == nil {
		return driver.VirtualStart.Add(h.w.time() + h.skew)
	}
	return h.life.Wall()
}

// newLoop makes the loop.
func (l *life) newLoop(ctx context.Context) *asyncio.EventLoop {
	l.eventLoop = asyncio.NewEventLoop(ctx, asyncio.Driver(l))
	l.eventLoop.SetDebug(l.w.supervised)
	l.eventLoop.SetExceptionHandler(l.report)
	if l.w.watched {
		l.eventLoop.SetStallWatchdog(stepPatience, l.stalled)
	}
	return l.eventLoop
}

// live is the goroutine of a life that is not main's.
func (l *life) live() {
	err := errExited // unless the goroutine gets to the end
	defer func() {
		if l.killed { // the kill may have come while it closed
			err = ErrCrashed
			l.unwind()
		}
		l.end(err)
	}()
	if <-l.baton != die {
		l.state = running
		_, e := asyncio.RunUntilComplete(l.eventLoop, l.program)
		if !l.killed {
			if closed := l.runner.Close(); e == nil {
				e = closed
			}
		}
		err = e
	}
}

// unwind makes the tasks of a killed life call their deferred functions.
func (l *life) unwind() {
	late := time.AfterFunc(threadPatience, func() {
		l.w.leak(fmt.Sprintf("host %s is killed, and a deferred function of one of its tasks waits for something outside of the simulation, or for another task, or computes for longer than %v; it is\n%s",
			l.host.name, threadPatience, goroutineWith("runtime.Goexit(")))
	})
	defer late.Stop()
	_ = l.eventLoop.Close()
}

// end is the last act of a life: it reports the end to those that wait for it, and hands the turn
// on.
func (l *life) end(err error) {
	w, h := l.w, l.host
	if err == errExited {
		w.fail(err)
		l.killed = true
		_ = l.eventLoop.Close()
	}
	l.state = gone
	l.letGo(math.MaxInt)
	h.skew = l.Wall().Sub(driver.VirtualStart.Add(w.time()))
	if !l.killed {
		h.process.kill()
		h.disk.unmount()
	}
	h.life, h.err, h.known = nil, err, l.killed || err == nil
	for _, hope := range h.ends {
		hope.comeTrue()
	}
	h.ends = nil
	if l.buried != nil {
		close(l.buried)
		return
	}
	w.pass(l)
}

// kill ends the life at once (host 2).
func (l *life) kill() {
	l.killed = true
	if l.state == running { // the life kills itself; it ends with its step
		return
	}
	l.buried = make(chan struct{})
	l.baton <- die
	<-l.buried
}

// strike applies SetCrashes and SetPauses between two steps. It reports whether the life has ended.
func (l *life) strike() (crashed bool) {
	w, h := l.w, l.host
	if w.fault(h.crashFault, h.crashProbability) {
		lives := h.lives
		h.powerOff()
		l.killed = true
		w.at(later(w.time(), h.back), func() {
			if h.life == nil && h.lives == lives { // else somebody has turned it on meanwhile
				h.Restart()
			}
		})
		return true
	}
	if w.fault(h.pauseFault, h.pauseProbability) {
		// Each pause draws from a stream of its own, so that leaving one out changes no other.
		rng := w.stream(fmt.Sprintf("%s, number %d", h.pauseFault, w.times[h.pauseFault]))
		h.Pause(1 + time.Duration(rng.Int64N(int64(h.longestPause))))
	}
	return false
}

// isPaused reports whether the life is in a pause and runs nothing.
func (l *life) isPaused() bool { return l.paused > l.w.time() }

// next returns the earliest time at which the life can go on, as things are.
func (l *life) next() time.Duration {
	switch {
	case l.isPaused():
		return l.paused
	case l.state == waiting:
		return l.until
	}
	return driver.Never
}

// do acts on the loop while its life is parked, or from the life itself.
func (l *life) do(fn func()) {
	l.loop.Do(fn)
	if l.state == waiting {
		l.pending.Store(true)
	}
}

// tell records that an endpoint of the network is ready. It does not interrupt a step.
func (l *life) tell(to driver.Notifier, read, write bool) {
	l.tells = append(l.tells, tell{to, read, write})
}

// deliver passes the network's readiness messages on to the loop. cause is the step that they
// follow from.
func (l *life) deliver(cause int) {
	if len(l.tells) == 0 || l.state != choosing && l.state != waiting {
		return
	}
	for i := 0; i < len(l.tells); i++ {
		t := l.tells[i]
		t.to.Ready(t.read, t.write)
	}
	l.tells = l.tells[:0]
	if l.state == waiting {
		l.pending.Store(true)
	}
	if l.w.tracer != nil {
		l.note(cause)
	}
}

// note records step as the cause of every callback that has become ready since the last note.
func (l *life) note(step int) {
	for n := l.loop.Len(); len(l.causes) < n; {
		l.causes = append(l.causes, step)
	}
}

// The driver.

func (l *life) Attach(loop driver.Loop) { l.loop = loop }
func (l *life) Now() time.Duration      { return l.clock.Load().at(l.w.time()) }
func (l *life) Start() time.Time        { return l.clock.Load().start }
func (l *life) Wall() time.Time         { return l.Start().Add(l.Now()) }
func (l *life) Polls() bool             { return true }

func (l *life) Seed(consumer string) (uint64, uint64) {
	if l.w.main != l {
		// no name has a colon
		consumer = fmt.Sprintf("%s:%d/%s", l.host.name, l.host.lives, consumer)
	}
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
	l.w.mu.Lock()
	l.held++
	l.w.held++
	l.w.heldAt = l.w.heldAt[:runtime.Callers(2, l.w.heldAt[:cap(l.w.heldAt)])]
	l.w.mu.Unlock()
	if calledBy("asyncio.(*EventLoop).waitOrListen") {
		l.w.leak("a task waits for a channel, and only a goroutine outside of the simulation could still use it")
		l.wake()
	}
}

// Release implements [driver.Driver].
func (l *life) Release() {
	l.letGo(1)
	l.w.stir()
}

// letGo takes back up to n holds. A hold taken before a kill is released here, because its owner
// will not release it.
func (l *life) letGo(n int) {
	l.w.mu.Lock()
	n = min(n, l.held)
	l.held -= n
	l.w.held -= n
	l.w.mu.Unlock()
}

// Wake notices goroutines that reach into the simulation. Package context calls it too, on a
// goroutine of its own at an arbitrary time, when a context has ended. Such a call changes nothing,
// because contexts are looked at anyway before time moves.
func (l *life) Wake() {
	if !calledBy("asyncio.(*EventLoop).wake") {
		l.w.stir()
		return
	}
	if !l.w.leaking.Load() && !calledBy(
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

// stepPatience is how much real time a step may be blocked.
var stepPatience = 250 * time.Millisecond

// stalled is told of a step that does not return. Computing, or waiting for a processor, is no
// fault; sleeping or waiting for a goroutine is. A thread function that the step waits for has
// threadPatience.
func (l *life) stalled(s asyncio.Stall) {
	stack := string(s.Stack)
	if blocks(stack) && !strings.Contains(stack, "sim.(*life).kill(") && !strings.Contains(stack, "sim.(*life).Submit.") {
		l.w.leak(stepBlocks + stack)
	}
}

// Close does nothing: when the life ends, end closes what is left (endpoint 5), in the order of
// host 3.
func (l *life) Close() error { return nil }

// threadPatience is how much real time a thread function may take before the loop goes on without
// it.
var threadPatience = 2 * time.Second

// Submit implements the default executor. A thread function runs as one step of the loop, which
// waits for it, so the moment at which it ends does not depend on real time.
func (l *life) Submit(job func()) error {
	l.eventLoop.CallSoon(func() {
		done := make(chan struct{})
		go l.perform(job, done)
		limit := time.NewTimer(threadPatience)
		defer limit.Stop()
		select {
		case <-done:
		case <-limit.C:
			l.w.leak(fmt.Sprintf("a thread function waits for something outside of the simulation, or for the loop, or computes for longer than %v; it is\n%s",
				threadPatience, goroutineWith("sim.(*life).perform(")))
		}
	})
	return nil
}

func (l *life) perform(job func(), done chan<- struct{}) {
	defer close(done)
	job()
}

// Shutdown implements the default executor. No job is under way when it is called.
func (l *life) Shutdown(bool) {}

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

// Disk implements [driver.Storage].
func (l *life) Disk() driver.Disk { return l.disk }

// The interface for programs.

// ErrCrashed is the error of a life that [Host.Crash] or [Host.Kill] ended.
var ErrCrashed = errors.New("sim: the host has crashed")

// NewHost adds a host to the simulation that ctx belongs to, and turns it on: it runs main as its
// program, on a loop, a clock, a network address and a disk of its own. Other hosts reach it by
// name. The name must be new. It must be one word without spaces, slashes and colons, and not an IP
// address. [Host.Wait] returns main's error; an error that nobody asks for fails the run when it
// ends. When the function given to [Run] has returned, hosts that are still on are killed.
//
// main is a program as it would be given to [asyncio.Run], in a process of its own. It shares no
// memory with other hosts unless the test makes it. A test should do so only to record what
// [Always] and [AtEnd] look at, because variables outlive a crash. NewHost is for the loop only and
// does not suspend; it panics if ctx does not come from a simulation.
func NewHost(ctx context.Context, name string, main func(ctx context.Context) error) *Host {
	w := worldOf(ctx, "NewHost")
	w.mustNotLook("NewHost")
	if main == nil {
		panic(fmt.Errorf("%w: nil main (in sim.NewHost)", asyncio.ErrInvalidArgument))
	}
	if _, err := netip.ParseAddr(name); err == nil || name == "" || strings.ContainsAny(name, " \t\n/:'\"") || name == "localhost" {
		panic(fmt.Errorf("%w: %q is no name for a host (in sim.NewHost)", asyncio.ErrInvalidArgument, name))
	}
	for _, h := range w.hosts {
		if h.name == name {
			panic(fmt.Errorf("%w: there is a host %s already; Restart turns it on again (in sim.NewHost)", asyncio.ErrInvalidArgument, name))
		}
	}
	h := w.newHost(name)
	h.program = main
	h.begin(main)
	return h
}

// HostOf returns the host that the caller runs on. It is for the loop only and does not suspend; it
// panics if ctx does not come from a simulation.
func HostOf(ctx context.Context) *Host { return lifeOf(ctx, "HostOf").host }

// CurrentHost returns the running host of the simulation that ctx belongs to; ctx may be another
// host's. It is for functions that get no ctx of their own, such as a source of random numbers that
// replaces a package variable. Where a ctx is at hand, use [HostOf]. It is for the loop only and
// does not suspend; it panics if ctx does not come from a simulation.
func CurrentHost(ctx context.Context) *Host { return worldOf(ctx, "CurrentHost").turn.host }

// Name returns the name of the host.
func (h *Host) Name() string { return h.name }

// Addr returns its address in the network.
func (h *Host) Addr() netip.Addr { return h.addr }

// Disk returns its disk.
func (h *Host) Disk() *Disk { return h.disk }

// IsRunning reports whether its program is running (host 5).
func (h *Host) IsRunning() bool { return h.life != nil && !h.life.killed }

func (h *Host) String() string { return h.name }

// powerOff is the part of Crash that does not end the life.
func (h *Host) powerOff() {
	h.process.powerOff()
	h.disk.powerFail()
}

// Crash makes the host lose power at once: its program ends where it is, and connections vanish
// without a word to the other end. Data that was not synced to the disk may be lost, even if the
// program had ended before. If the program that runs on the host calls Crash, it ends with the
// step. Crash panics for main's host.
func (h *Host) Crash() {
	l := h.stop("Crash")
	h.w.note(h.name + " loses power")
	h.powerOff()
	if l != nil {
		l.kill()
	}
}

// SetCrashes makes the host crash after each of its steps with the probability p, which is less
// than 1. The host is turned on again after back, unless somebody has turned it on by then. So its
// tasks die at any await: with [Exhaustive] at each of them in turn. A crash is a [Fault]: it does
// not happen in the order of production, nor after [StopFaults]. SetCrashes panics for main's host.
func (h *Host) SetCrashes(p float64, back time.Duration) {
	h.stop("SetCrashes")
	if !(p >= 0 && p < 1) || back < 0 {
		panic(fmt.Errorf("%w: a probability of %v, and %v until it is on again (in Host.SetCrashes)", asyncio.ErrInvalidArgument, p, back))
	}
	h.crashProbability, h.back = p, back
}

// Kill kills the program, as SIGKILL does: it ends where it is, but its host keeps its power. The
// system closes its connections, and nothing written is lost. A host that is off is left alone.
// Otherwise Kill behaves like [Host.Crash].
func (h *Host) Kill() {
	if l := h.stop("Kill"); l != nil {
		if !h.w.ended {
			h.w.note(h.name + " is killed")
		}
		h.process.kill()
		h.disk.unmount()
		l.kill()
	}
}

func (h *Host) stop(caller string) *life {
	h.w.mustNotLook("Host." + caller)
	if h.index == 0 {
		panic(fmt.Errorf("%w: main's host runs the test itself (in Host.%s)", asyncio.ErrInvalidArgument, caller))
	}
	if !h.IsRunning() {
		return nil
	}
	return h.life
}

// Pause makes the host's program run nothing for d, as during a long garbage collection or on an
// overloaded machine. Its clock goes on, the system below goes on receiving, and timers that come
// due meanwhile are late. A longer pause replaces a shorter one. A program that is not running is
// left alone. Pause panics for main's host.
func (h *Host) Pause(d time.Duration) {
	if l := h.stop("Pause"); l != nil && d > 0 {
		h.w.note(fmt.Sprintf("%s pauses for %v", h.name, d))
		l.paused = max(l.paused, later(h.w.time(), d))
	}
}

// SetPauses makes the host pause after each of its steps with the probability p, for a time up to
// most. A pause is a [Fault], as a crash of [Host.SetCrashes] is. SetPauses panics for main's host.
func (h *Host) SetPauses(p float64, most time.Duration) {
	h.stop("SetPauses")
	if !(p >= 0 && p < 1) || p > 0 && most <= 0 {
		panic(fmt.Errorf("%w: a probability of %v, and pauses up to %v (in Host.SetPauses)", asyncio.ErrInvalidArgument, p, most))
	}
	h.pauseProbability, h.longestPause = p, most
}

// Restart turns the host on again: its program starts from the beginning, with the disk as it is.
// Restart panics if the host is on. In deferred functions, after the run is over, it does nothing.
func (h *Host) Restart() {
	h.w.mustNotLook("Host.Restart")
	if h.life != nil {
		panic(fmt.Errorf("%w: host %s is on, or in the step in which it has crashed itself: Crash, Kill or Shutdown it, and Wait, first (in Host.Restart)", asyncio.ErrInvalidArgument, h.name))
	}
	h.known = true
	h.begin(h.program)
}

// Shutdown cancels the program, as SIGTERM does: its main task gets [asyncio.ErrCancelled].
// [Host.Wait] waits until it has ended.
func (h *Host) Shutdown() {
	if l := h.stop("Shutdown"); l != nil {
		l.do(func() { l.program.Cancel("the host is shut down") })
	}
}

// Wait suspends the calling task until the host's program has ended, and returns the program's
// error, or [ErrCrashed]. If the host is off, Wait returns that at once. A cancel, or the end of
// ctx, ends the wait.
func (h *Host) Wait(ctx context.Context) error {
	l := lifeOf(ctx, "Host.Wait")
	if l.host == h {
		return fmt.Errorf("%w: a program cannot wait for its own end (in Host.Wait)", asyncio.ErrInvalidArgument)
	}
	if h.life != nil {
		hope := newHope(ctx, "", nil)
		defer hope.done.Cancel()
		h.ends = append(h.ends, hope)
		if _, err := hope.done.Await(ctx); err != nil {
			return err
		}
	}
	h.known = true
	return h.err
}

// SetClockRate makes the host's clock go faster or slower than the world's: at 1.001 it gains a
// millisecond each second. The default is 1. Timers of its loop, deadlines,
// [asyncio.EventLoop.Time] and Now follow it; a trace shows the world's time. rate must be
// positive. A rate that is drawn ([asyncio.Rand]) is not a fault; a failure that depends on it is
// reported as depending on the seed.
func (h *Host) SetClockRate(rate float64) {
	if !(rate > 0) || math.IsInf(rate, 1) {
		panic(fmt.Errorf("%w: a clock rate of %v (in Host.SetClockRate)", asyncio.ErrInvalidArgument, rate))
	}
	h.rate = rate
	h.setClock(func(c *clock) { c.rate = rate })
}

// JumpClock sets the host's wall clock forward by d, or back. [asyncio.EventLoop.Now] shows the
// jump; timers, which are monotonic, do not.
func (h *Host) JumpClock(d time.Duration) {
	if h.life == nil {
		h.skew += d
		return
	}
	h.setClock(func(c *clock) { c.start = c.start.Add(d) })
}

// setClock changes the clock from now on.
func (h *Host) setClock(change func(*clock)) {
	l := h.life
	if l == nil {
		return
	}
	now := l.w.time()
	old := l.clock.Load()
	c := &clock{rate: old.rate, world: now, local: old.at(now), start: old.start}
	if l.state == waiting { // for a time on the old clock
		l.pending.Store(true)
	}
	change(c)
	l.clock.Store(c)
}

// Fault reports whether a fault happens now, which it does with the probability p; what names the
// fault in traces and reports. In the order of production no fault happens. An exploration makes
// faults happen at random, each by a stream of its own, and [Exhaustive] makes each happen in turn.
// They are recorded in the schedule, and minimised away where the failure does not need them.
//
//	if sim.Fault(ctx, "crash of node2", 0.01) {
//		node2.Crash()
//	}
//
// With a p of 1 or more it always happens, and is not recorded. It is for the loop only and does
// not suspend; it panics if ctx does not come from a simulation.
func Fault(ctx context.Context, what string, p float64) bool {
	return worldOf(ctx, "Fault").fault(what, p)
}

// StopFaults ends all faults: from now on [Fault] reports false, the network is as after
// [Network.Heal] and its links lose, repeat and reorder nothing, and disks work. Hosts that are off
// stay off, except those that [Host.SetCrashes] will turn on again. A pause goes on to its end, and
// clocks keep their rates. After StopFaults a liveness check with [Eventually] can demand what must
// happen in the end. It is for the loop only and does not suspend; it panics if ctx does not come
// from a simulation.
func StopFaults(ctx context.Context) {
	w := worldOf(ctx, "StopFaults")
	w.calm, w.net.calm = true, true
	(&Network{w.net}).Heal()
}
