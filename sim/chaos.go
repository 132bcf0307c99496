package sim

import (
	"errors"
	"fmt"
	"math/bits"
	"strings"
	"syscall"
	"time"

	"github.com/goasyncio/asyncio"
)

// Chaos: everything that production does to programs, without a line of the test for it.
//
//	chaos 1: Every trouble is the answer to a question (question 1), asked at each place at which
//	   the trouble could begin: after each step of a host, and for each packet between two hosts.
//	   It is recorded, minimised and explained like a fault that the test asks for.
//	chaos 2: The questions are the same in every run. How probable a trouble is, and whether a run
//	   has it at all, is the strategy's decision (mood): so a schedule fits whatever the mood was.
//	chaos 3: A trouble ends by itself: a host that was stopped is turned on again, a cut is
//	   mended. Only a clock that goes at another rate keeps it. Each run has a budget, so a
//	   program that tries again gets through in the end.
//	chaos 4: What a test sets stays as it is set: chaos leaves the latency, loss and bandwidth of
//	   a link alone for which the test has called SetLink or SetLinkBetween, and the times of a
//	   disk for which it has called SetLatency or SetSyncLatency, and name servers if it has
//	   called SetDNS.
//	chaos 5: Main's host is never stopped, and its disk does not fail: main is the test.

// A Trouble is a kind of thing that goes wrong under [Chaos], or several: Crashes|Kills.
type Trouble uint32

// The troubles. The times that they last, and how late something is, are drawn from a wide range,
// up to the time that the run in order takes.
const (
	Delays     Trouble = 1 << iota // a packet is late, or an operation of a disk
	Losses                         // a packet is lost
	Duplicates                     // a datagram arrives twice
	Reordering                     // a datagram is overtaken by later ones
	SlowLinks                      // a link has a long latency or little bandwidth for a while
	Cuts                           // nothing arrives from one host at another for a while
	Partitions                     // some hosts cannot reach the others for a while
	Resets                         // all connections between two hosts are reset
	ShortReads                     // a read returns less than there is
	Pauses                         // a host runs nothing for a while; main's host too
	ClockJumps                     // a host's wall clock is set forward or back
	ClockRates                     // a host's clock goes faster or slower from now on
	Crashes                        // a host loses power, and is turned on again later
	Kills                          // a program is killed, and started again later
	Shutdowns                      // a program is cancelled, as by SIGTERM, and started again later
	DiskErrors                     // an operation of a disk fails
	FullDisks                      // there is no room for a write
	NameErrors                     // a name server fails, or answers late
	endOfTroubles

	AllTroubles = endOfTroubles - 1
)

const troubleKinds = 18

var troubleNames = [troubleKinds]string{"Delays", "Losses", "Duplicates", "Reordering", "SlowLinks", "Cuts", "Partitions", "Resets", "ShortReads",
	"Pauses", "ClockJumps", "ClockRates", "Crashes", "Kills", "Shutdowns", "DiskErrors", "FullDisks", "NameErrors"}

// String returns the names of the constants: "Crashes|Kills". Any goroutine may call it.
func (t Trouble) String() string {
	if t == AllTroubles {
		return "AllTroubles"
	}
	var names []string
	for i, name := range troubleNames {
		if t&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	if rest := t &^ AllTroubles; rest != 0 || names == nil {
		names = append(names, fmt.Sprintf("Trouble(%d)", uint32(rest)))
	}
	return strings.Join(names, "|")
}

// index returns the number of a single trouble.
func (t Trouble) index() int { return bits.TrailingZeros32(uint32(t)) }

// Chaos makes everything go wrong that goes wrong in production, on all hosts and links: all
// troubles or only the given ones. Each run of an exploration draws which of them it has, and how
// bad each one is: one run loses a few packets, another one has crashes, clocks that jump, and a
// partition. Nothing goes wrong in the order of production. Every trouble that a failure needs is
// in its explanation, and the rest is minimised away. [Exhaustive] tries each trouble at each
// place.
//
//	sim.Explore(t, main, sim.Chaos())
//	sim.Explore(t, main, sim.Chaos(sim.AllTroubles&^sim.DiskErrors))
//
// Hosts that chaos has stopped are turned on again, unless the test has turned them on by then, and
// so is a program that ends with an error after its disk has failed. [StopFaults] ends all
// troubles, and [Host.Spare] keeps them away from a host. Main's host is not stopped, and its disk
// does not fail, but it pauses, and its connections break like others. Links, disks and name
// servers whose quality the test has set keep it.
//
// A program that Shutdowns cancels ends with [asyncio.ErrCancelled], or without an error; anything
// else fails the run. Chaos panics for a Trouble that is not known.
func Chaos(troubles ...Trouble) Option {
	var all Trouble
	for _, t := range troubles {
		if t == 0 || t&^AllTroubles != 0 {
			panic(fmt.Errorf("%w: %v (in sim.Chaos)", asyncio.ErrInvalidArgument, t))
		}
		all |= t
	}
	if len(troubles) == 0 {
		all = AllTroubles
	}
	return Option{func(x *exploration) { x.chaos = all }}
}

// Spare keeps troubles of [Chaos] away from the host, all if none is named, and from its links in
// both directions. It may be called again, for more of them.
func (h *Host) Spare(troubles ...Trouble) {
	h.w.mustNotLook("Host.Spare")
	if len(troubles) == 0 {
		h.spared = AllTroubles
	}
	for _, t := range troubles {
		h.spared |= t
	}
}

// suffers reports whether a trouble may befall a host now.
func (h *Host) suffers(t Trouble) bool {
	return h.w.chaos&t&^h.spared != 0 && !h.w.isCalm()
}

// endures is suffers for a wire.
func (w *world) endures(from, to *system, t Trouble) bool {
	if w.chaos&t == 0 || w.isCalm() {
		return false
	}
	for _, h := range w.hosts {
		if (h.name == from.name || h.name == to.name) && h.spared&t != 0 {
			return false
		}
	}
	return true
}

// trouble is the question of a trouble.
func (w *world) trouble(what string, u unit, of Trouble) *question {
	q := w.question(what, u)
	q.trouble = of
	return q
}

// The times that troubles last, and how late something is.
const (
	shortest = time.Millisecond
	longest  = time.Minute
)

// lasting is the span of a time, of which Exhaustive tries one.
func lasting(tried time.Duration) span {
	return span{least: int64(shortest), most: int64(longest), tried: int64(tried)}
}

// A hostTroubles is what chaos asks after each step of a host.
type hostTroubles struct {
	pauses, jumps, rates, crashes, kills, shutdowns *question
}

// suffer asks for troubles after a step of the life. It reports whether the life has ended.
func (l *life) suffer() (ended bool) {
	w, h := l.w, l.host
	if h.troubles == nil {
		h.troubles = &hostTroubles{
			pauses:    w.trouble(h.name+" paused for", inTime, Pauses),
			jumps:     w.trouble("the wall clock of "+h.name+" was set by", inTime, ClockJumps),
			rates:     w.trouble("from then on the rate of the clock of "+h.name+" was", inPPM, ClockRates),
			crashes:   w.trouble(h.name+" lost power for", inTime, Crashes),
			kills:     w.trouble(h.name+" was killed for", inTime, Kills),
			shutdowns: w.trouble(h.name+" was shut down for", inTime, Shutdowns),
		}
	}
	q := h.troubles
	if h.suffers(Pauses) {
		if d := w.amount(q.pauses, lasting(2*time.Second)); d != 0 {
			l.pause(time.Duration(d))
		}
	}
	if h.suffers(ClockJumps) {
		jump := lasting(time.Hour)
		jump.most, jump.signed = int64(24*time.Hour), true
		if d := w.amount(q.jumps, jump); d != 0 {
			h.JumpClock(time.Duration(d))
		}
	}
	if h.suffers(ClockRates) {
		if d := w.amount(q.rates, span{least: 100, most: 200_000, signed: true, tried: 100_000}); d != 0 {
			h.SetClockRate(1 + float64(d)/1e6)
		}
	}
	if h.index == 0 {
		return false
	}
	if h.suffers(Crashes) {
		if d := w.amount(q.crashes, lasting(time.Second)); d != 0 {
			h.powerOff()
			h.backAfter(time.Duration(d))
			l.killed = true
			return true
		}
	}
	if h.suffers(Kills) {
		if d := w.amount(q.kills, lasting(time.Second)); d != 0 {
			h.process.kill()
			h.disk.unmount()
			h.backAfter(time.Duration(d))
			l.killed = true
			return true
		}
	}
	if h.suffers(Shutdowns) && l.back == 0 {
		if d := w.amount(q.shutdowns, lasting(time.Second)); d != 0 {
			l.back = time.Duration(d)
			l.do(func() { l.program.Cancel("the host is shut down") })
		}
	}
	return false
}

// backAfter turns the host on again after d, unless somebody has turned it on by then.
func (h *Host) backAfter(d time.Duration) {
	w, lives := h.w, h.lives
	w.at(later(w.time(), d), func() {
		if h.life == nil && h.lives == lives {
			h.Restart()
		}
	})
}

// stoppedByChaos reports whether a life that has ended with an error has done so because of chaos:
// a shutdown, or a disk that failed.
func (l *life) stoppedByChaos(err error) bool {
	h := l.host
	failed := h.disk.failed
	h.disk.failed = false
	switch {
	case l.w.closing || l.w.over:
		return false
	case failed && (errors.Is(err, syscall.EIO) || errors.Is(err, syscall.ENOSPC)):
		l.w.note(h.name + " ends because its disk has failed: " + err.Error())
		l.back = max(l.back, time.Second)
		return true
	}
	return l.back > 0 && errors.Is(err, asyncio.ErrCancelled)
}
