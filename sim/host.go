package sim

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"strings"
	"time"

	"github.com/goasyncio/asyncio"
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

	rate float64        // of the clock
	skew time.Duration  // of the wall clock, while the host is off
	zone *time.Location // of the wall clock

	crashFault       string
	crashProbability float64       // after each step
	back             time.Duration // how long the host then stays off
	pauses           *question
	pauseProbability float64 // after each step
	longestPause     time.Duration
	spared           Trouble
	troubles         *hostTroubles // once used
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
	h := &Host{w: w, name: name, index: i, rate: 1, zone: w.epoch.Location(), crashFault: "crash of " + name, pauses: w.question(name+" paused for", inTime), addr: netip.AddrFrom4([4]byte{10, 0, byte((i + 1) >> 8), byte(i + 1)})}
	if i > 0 {
		h.prefix = name + "/"
	}
	h.disk = newDisk(func(fault string, p float64) bool { return w.fault(name+": "+fault, p) }, w.stream("disk of "+name), h.wall)
	h.disk.amount = func(what string, s span) int64 {
		q := w.question(name+": "+what, inTime)
		q.usual = true
		return w.amount(q, s)
	}
	h.disk.endure = func(t Trouble) bool { return i > 0 && h.suffers(t) }
	h.disk.ask = func(what string, t Trouble) bool {
		return w.happens(w.trouble(name+": "+what, inTime, t), 0)
	}
	h.disk.late = func(what string) time.Duration {
		return time.Duration(w.amount(w.trouble(name+": "+what+" was late by", inTime, Delays), lasting(100*time.Millisecond)))
	}
	w.hosts = append(w.hosts, h)
	h.observe()
	return h
}

// wall is the host's wall clock.
func (h *Host) wall() time.Time {
	if h.life == nil {
		return h.w.epoch.Add(h.w.time() + h.skew).In(h.zone)
	}
	return h.life.Wall()
}

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

// NetworkOf returns the network of the simulation that ctx belongs to. It is for the loop only and
// does not suspend; it panics if ctx does not come from a simulation.
func NetworkOf(ctx context.Context) *Network { return &Network{worldOf(ctx, "NetworkOf").net} }

// Name returns the name of the host.
func (h *Host) Name() string { return h.name }

// Addr returns its address of IPv4 in the network.
func (h *Host) Addr() netip.Addr { return h.addr }

// Addr6 returns its address of IPv6, which reaches it while the network has IPv6
// ([Network.SetIPv6]).
func (h *Host) Addr6() netip.Addr { return sixOf(h.addr) }

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
// left alone. Pause panics for a negative d.
func (h *Host) Pause(d time.Duration) {
	h.w.mustNotLook("Host.Pause")
	if d < 0 {
		panic(fmt.Errorf("%w: a pause of %v (in Host.Pause)", asyncio.ErrInvalidArgument, d))
	}
	if d > 0 && h.IsRunning() {
		h.w.note(fmt.Sprintf("%s pauses for %v", h.name, d))
		h.life.pause(d)
	}
}

// SetPauses makes the host pause after each of its steps with the probability p, for a time up to
// most. A pause is a [Fault], as a crash of [Host.SetCrashes] is. Main's host can pause too.
func (h *Host) SetPauses(p float64, most time.Duration) {
	h.w.mustNotLook("Host.SetPauses")
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

// RestartWith is [Host.Restart] with another program, which the host keeps: the next version in a
// rolling upgrade, or the old one again. It finds the disk that the program before has left. A
// crash by [Host.SetCrashes] restarts the program that the host has then.
func (h *Host) RestartWith(main func(ctx context.Context) error) {
	if main == nil {
		panic(fmt.Errorf("%w: nil main (in Host.RestartWith)", asyncio.ErrInvalidArgument))
	}
	if h.life == nil { // else it is refused
		h.program = main
	}
	h.Restart()
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
