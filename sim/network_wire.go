package sim

import (
	"fmt"
	"strings"
	"time"
)

// Wires (link 1 to link 5): when a packet leaves and when it arrives, and how it is lost, held,
// repeated or reordered.

// maxHeld is how many packets a held wire keeps. Further ones are lost.
const maxHeld = 1 << 14

// maxQueued is how many bytes of datagrams wait for a wire's bandwidth. Further ones are lost.
const maxQueued = 256 << 10

// A wire carries everything from one host to another, in one direction (link 1).
type wire struct {
	n        *network
	from, to *system
	own      *Link // nil: the network's

	cut     bool
	apart   bool // separated by a partition
	severed int  // how many troubles let nothing through
	holding bool
	epoch   uint64 // how often it has gone down

	free         time.Duration // when the wire has taken everything sent so far
	lastDatagram time.Duration // when the last datagram in order arrives
	held         []parcel

	late        time.Duration // everything takes longer by this,
	lateUntil   time.Duration // until then,
	bandwidth   int           // and has only this bandwidth,
	narrowUntil time.Duration // until then
	troubles    wireTroubles

	questions map[mishap]*question
	sizes     *question // of segments
	traffic   Traffic
}

// cargo is what a wire carries.
type cargo interface {
	arrive(at *system)
	noun() noun
	size() int // bytes
}

// noun names cargo in faults.
type noun string

const (
	aRequest         noun = "connection request"
	aSegment         noun = "segment"
	anAcknowledgment noun = "acknowledgment"
	aReset           noun = "reset"
	aDatagram        noun = "datagram"
	aRefusal         noun = "refusal of a datagram"
)

// a is the noun with its article.
func (n noun) a() string {
	if strings.ContainsAny(string(n[:1]), "aeiou") {
		return "an " + string(n)
	}
	return "a " + string(n)
}

type mishap struct {
	verb string
	what noun
}

// A parcel is cargo under way.
type parcel struct {
	cargo
	epoch  uint64 // in which it was sent
	number int    // in the picture of the run, 0 if there is none of it
}

func (w *wire) link() *Link {
	if w.own != nil {
		return w.own
	}
	if z := w.n.zones; z != nil {
		if l := z.linkOf(w.from, w.to); l != nil {
			return l
		}
	}
	return &w.n.link
}

func (w *wire) down() bool { return w.cut || w.apart || w.severed > 0 }

// capacity returns the bandwidth, 0 for no limit.
func (w *wire) capacity() int {
	if w.n.now() < w.narrowUntil {
		return w.bandwidth
	}
	return w.link().Bandwidth
}

// silent reports whether nothing comes through for the time being.
func (w *wire) silent() bool { return w.down() || w.holding || w.link().Loss >= 1 && !w.n.calm }

// ask returns the question of whether something happens to cargo of this noun, or of how much if
// the words go on behind it.
func (w *wire) ask(verb string, what noun, behind string) *question {
	m := mishap{verb, what}
	if q := w.questions[m]; q != nil {
		return q
	}
	q := w.n.question(strings.TrimSpace(fmt.Sprintf("%s %s from %s to %s %s", verb, what.a(), w.from.name, w.to.name, behind)), inTime)
	q.usual = behind != ""
	if w.questions == nil {
		w.questions = make(map[mishap]*question)
	}
	w.questions[m] = q
	return q
}

// happens reports whether a fault happens (link 3).
func (w *wire) happens(verb string, what noun, p float64) bool {
	return p > 0 && w.n.happens(w.ask(verb, what, ""), p)
}

// leave returns when cargo of this size, sent now, has left (link 2).
func (w *wire) leave(size int) time.Duration {
	now := w.n.now()
	if b := w.capacity(); b > 0 {
		w.free = max(w.free, now) + time.Duration(size)*time.Second/time.Duration(b)
		return w.free
	}
	return now
}

// latency asks how long cargo takes (link 3).
func (w *wire) latency(what noun) time.Duration {
	l := w.link()
	if l.MaxLatency <= l.MinLatency {
		return l.MinLatency
	}
	least, most := int64(l.MinLatency), int64(l.MaxLatency)
	return time.Duration(w.n.amount(w.ask("", what, "took"), span{usual: least, least: least, most: most, p: 1, tried: most}))
}

// segmentSize asks where a segment ends that could have n bytes (tcp 3).
func (w *wire) segmentSize(n int64) int64 {
	if n < 2 {
		return n
	}
	if w.sizes == nil {
		w.sizes = w.n.question(fmt.Sprintf("a segment from %s to %s had", w.from.name, w.to.name), inBytes)
		w.sizes.usual = true
	}
	return min(n, max(1, w.n.amount(w.sizes, span{usual: n, least: 1, most: n - 1, p: 0.25, tried: n / 2})))
}

// carry sends c, to arrive after last, and returns when it has left.
func (w *wire) carry(c cargo, last *time.Duration) (left time.Duration) {
	number := w.n.picture.sent(w, c)
	if w.down() {
		w.lose(number)
		return w.n.now()
	}
	w.troubled()
	if a := w.ruleFor(c); a != nil {
		return w.carryBy(a, c, number, last)
	}
	left = w.leave(c.size())
	arrival := later(left, w.latency(c.noun())+w.lateness(c.noun()))
	if w.happens("lose", c.noun(), w.link().Loss) || w.lostToChaos(c.noun()) {
		w.lose(number)
		return left
	}
	*last = max(*last, arrival)
	w.deliver(c, number, *last)
	return left
}

// carryDatagram is carry for datagrams, which may also be duplicated, reordered, and lost because
// too many bytes wait (udp 3).
func (w *wire) carryDatagram(c cargo) {
	l := w.link()
	if b := w.capacity(); b > 0 && w.free-w.n.now() > maxQueued*time.Second/time.Duration(b) {
		w.lose(w.n.picture.sent(w, c))
		return
	}
	if a := w.ruleForDatagram(c); a != nil && !w.down() {
		w.carryBy(a, c, w.n.picture.sent(w, c), &w.lastDatagram)
		return
	}
	copies := 1
	if !w.down() && (w.happens("duplicate", c.noun(), l.Duplicate) || w.doubled()) {
		copies = 2
	}
	for range copies {
		if w.down() {
			w.carry(c, &w.lastDatagram)
			continue
		}
		if d := w.overtaken(); d > 0 {
			late := later(max(w.lastDatagram, w.n.now()), d)
			w.carry(c, &late)
			continue
		}
		if !w.happens("reorder", c.noun(), l.Reorder) {
			w.carry(c, &w.lastDatagram)
			continue
		}
		// It is late, and datagrams sent meanwhile overtake it.
		most := max(4*l.MaxLatency, 4*l.MinLatency, 4*time.Millisecond)
		behind := w.n.amount(w.ask("others overtook", c.noun(), "for"), span{usual: int64(most), least: 1, most: int64(most), p: 1, tried: int64(most)})
		late := max(w.lastDatagram, w.n.now()) + time.Duration(behind)
		w.carry(c, &late)
	}
}

// deliver lets c arrive at a time, between two steps (link 6).
func (w *wire) deliver(c cargo, number int, when time.Duration) {
	p := parcel{c, w.epoch, number}
	w.n.at(when, func() { w.arrive(p) })
}

// arrive delivers a parcel, keeps it while the wire is held, or loses it (link 4).
func (w *wire) arrive(p parcel) {
	switch {
	case p.epoch != w.epoch:
		w.lose(p.number)
	case !w.holding:
		w.traffic.Delivered++
		w.n.picture.arrives(p.number)
		p.cargo.arrive(w.to)
	case len(w.held) < maxHeld:
		w.held = append(w.held, p)
		w.n.picture.holds(p.number)
	default:
		w.lose(p.number)
	}
}

// lose counts a packet that is lost.
func (w *wire) lose(number int) {
	w.traffic.Lost++
	w.n.picture.loses(number)
}

// change changes the wire with fn and then handles the packets under way (link 4).
func (w *wire) change(fn func()) {
	was := w.down()
	fn()
	if w.down() && !was {
		w.epoch++
		for _, p := range w.held {
			w.lose(p.number)
		}
		w.held = nil
	}
	if !w.holding {
		held := w.held
		w.held = nil
		for _, p := range held {
			w.n.at(w.n.now(), func() { w.arrive(p) })
		}
	}
}
