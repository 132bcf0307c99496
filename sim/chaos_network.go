package sim

import (
	"fmt"
	"strings"
	"time"
)

// Troubles of the network (chaos 1): what is asked for each packet between two hosts.

// A wireTroubles is what chaos asks for each packet of a wire, once used.
type wireTroubles struct {
	losses, late                      map[noun]*question
	duplicates, overtaken             *question
	slow, narrow, cuts, resets, reads *question
}

// suffers reports whether a trouble may befall the wire now.
func (w *wire) suffers(t Trouble) bool {
	return w.n.endure != nil && w.from != w.to && w.n.endure(w.from, w.to, t)
}

// suffersQuality is suffers for what a test may have set (chaos 4).
func (w *wire) suffersQuality(t Trouble) bool {
	return w.own == nil && !w.n.linkIsSet && w.suffers(t)
}

func (w *wire) trouble(what string, u unit, of Trouble) *question {
	q := w.n.question(fmt.Sprintf(what, w.from.name, w.to.name), u)
	q.trouble = of
	return q
}

// troubled asks for the troubles that begin with a packet. They take effect behind the step (link
// 6).
func (w *wire) troubled() {
	t := &w.troubles
	n := w.n
	if w.suffersQuality(SlowLinks) {
		if t.slow == nil {
			t.slow = w.trouble("everything from %s to %s was late for a while, by", inTime, SlowLinks)
		}
		if d := time.Duration(n.amount(t.slow, lasting(200*time.Millisecond))); d != 0 {
			w.late, w.lateUntil = d, later(n.now(), 10*d)
		}
		if t.narrow == nil {
			t.narrow = w.trouble("for 10s the bandwidth from %s to %s, in a second, was", inBytes, SlowLinks)
		}
		if b := n.amount(t.narrow, span{least: 1000, most: 1_000_000, tried: 10_000}); b != 0 {
			w.bandwidth, w.narrowUntil = int(b), later(n.now(), 10*time.Second)
		}
	}
	if w.suffers(Cuts) {
		if t.cuts == nil {
			t.cuts = w.trouble("nothing from %s to %s arrived for", inTime, Cuts)
		}
		if d := time.Duration(n.amount(t.cuts, lasting(2*time.Second))); d != 0 {
			n.at(n.now(), func() { n.sever([]*wire{w}, d) })
		}
	}
	if w.suffers(Partitions) {
		n.divide(w)
	}
	if w.suffers(Resets) {
		if t.resets == nil {
			t.resets = w.trouble("connections between %s and %s are reset", inTime, Resets)
		}
		if n.happens(t.resets, 0) {
			n.at(n.now(), func() { n.resetBetween(w.from, w.to) })
		}
	}
}

// sever lets nothing through on some wires for d.
func (n *network) sever(wires []*wire, d time.Duration) {
	for _, w := range wires {
		w.change(func() { w.severed++ })
	}
	n.doubt()
	round := n.rounds
	n.at(later(n.now(), d), func() {
		if round != n.rounds {
			return // everything is healed
		}
		for _, w := range wires {
			w.change(func() { w.severed-- })
		}
		n.doubt()
	})
}

// resetBetween breaks the connections between two hosts.
func (n *network) resetBetween(a, b *system) {
	there, back := n.wire(a, b), n.wire(b, a)
	n.reset(func(c *tcpConn) bool { return c.out == there || c.out == back })
}

// divided says which division is asked for, by numbers of hosts, -1 for none.
type divided struct{ one, with, free, of int }

// A division separates some hosts from others.
type division struct {
	inside, outside []*system
	q               *question
}

// divide asks whether the sender of a packet is cut off now: alone or with another host, from all
// or from all but one. Each question asks for one of these divisions, in an order that looks
// random: to ask for all of them at each packet would be many more questions.
func (n *network) divide(w *wire) {
	if len(n.systems) < 3 {
		return
	}
	n.divided++
	d := dice(n.divided)
	with := int(d.next() % uint64(2*len(n.systems)))
	free := int(d.next() % uint64(2*len(n.systems)))
	if with >= len(n.systems) || with == w.from.number || len(n.systems) == 3 {
		with = -1
	}
	if free >= len(n.systems) || free == w.from.number || free == with {
		free = -1
	}
	key := divided{w.from.number, with, free, len(n.systems)}
	v, ok := n.divisions[key]
	if !ok {
		v = n.newDivision(key)
		if n.divisions == nil {
			n.divisions = make(map[divided]*division)
		}
		n.divisions[key] = v
	}
	if len(v.outside) == 0 {
		return
	}
	if d := time.Duration(n.amount(v.q, lasting(2*time.Second))); d != 0 {
		var wires []*wire
		for _, a := range v.inside {
			for _, b := range v.outside {
				wires = append(wires, n.wire(a, b), n.wire(b, a))
			}
		}
		n.at(n.now(), func() { n.sever(wires, d) })
	}
}

func (n *network) newDivision(key divided) *division {
	v := new(division)
	for i, s := range n.systems {
		switch {
		case i == key.one || i == key.with:
			v.inside = append(v.inside, s)
		case i != key.free && n.endure(s, s, Partitions):
			v.outside = append(v.outside, s)
		}
	}
	v.q = n.question(fmt.Sprintf("nothing passed between %s and %s for", names(v.inside), names(v.outside)), inTime)
	v.q.trouble = Partitions
	return v
}

func names(systems []*system) string {
	var all []string
	for _, s := range systems {
		all = append(all, s.name)
	}
	return strings.Join(all, ", ")
}

// lostToChaos reports whether cargo is lost.
func (w *wire) lostToChaos(what noun) bool {
	if !w.suffersQuality(Losses) {
		return false
	}
	q := w.troubles.losses[what]
	if q == nil {
		q = w.trouble(what.a()+" from %s to %s is lost", inTime, Losses)
		if w.troubles.losses == nil {
			w.troubles.losses = make(map[noun]*question)
		}
		w.troubles.losses[what] = q
	}
	return w.n.happens(q, 0)
}

// lateness returns how late cargo is because of chaos.
func (w *wire) lateness(what noun) (late time.Duration) {
	if w.n.now() < w.lateUntil {
		late = w.late
	}
	if !w.suffersQuality(Delays) {
		return late
	}
	q := w.troubles.late[what]
	if q == nil {
		q = w.trouble(what.a()+" from %s to %s was late by", inTime, Delays)
		if w.troubles.late == nil {
			w.troubles.late = make(map[noun]*question)
		}
		w.troubles.late[what] = q
	}
	return max(late, time.Duration(w.n.amount(q, lasting(100*time.Millisecond))))
}

// doubled reports whether a datagram arrives twice because of chaos.
func (w *wire) doubled() bool {
	if !w.suffersQuality(Duplicates) {
		return false
	}
	if w.troubles.duplicates == nil {
		w.troubles.duplicates = w.trouble("a datagram from %s to %s arrives twice", inTime, Duplicates)
	}
	return w.n.happens(w.troubles.duplicates, 0)
}

// overtaken returns for how long later datagrams overtake one because of chaos, 0 for not at all.
func (w *wire) overtaken() time.Duration {
	if !w.suffersQuality(Reordering) {
		return 0
	}
	if w.troubles.overtaken == nil {
		w.troubles.overtaken = w.trouble("a datagram from %s to %s was overtaken, and late by", inTime, Reordering)
	}
	return time.Duration(w.n.amount(w.troubles.overtaken, lasting(100*time.Millisecond)))
}

// readSize returns how many bytes of those that have come from the other end a read returns. It
// asks for all wires, also from a host to itself.
func (w *wire) readSize(most int) int {
	if w.n.endure == nil || !w.n.endure(w.from, w.to, ShortReads) {
		return most
	}
	if w.troubles.reads == nil {
		w.troubles.reads = w.trouble("a read at %s from %s returned", inBytes, ShortReads)
	}
	least := span{usual: int64(most), least: 1, most: int64(most - 1), tried: int64(most+1) / 2}
	return int(min(max(w.n.amount(w.troubles.reads, least), 1), int64(most)))
}

// misled asks for troubles of a lookup: how late the answer is, and whether the name server fails.
func (s *system) misled(name string) (late time.Duration, fails bool) {
	n := s.n
	if n.endure == nil || n.dns != (DNS{}) || !n.endure(s, s, NameErrors) {
		return 0, false
	}
	slow := n.question(fmt.Sprintf("lookup: %s: the answer for %s was late by", s.name, name), inTime)
	down := n.question(fmt.Sprintf("lookup: %s: no answer for %s", s.name, name), inTime)
	slow.trouble, down.trouble = NameErrors, NameErrors
	return time.Duration(n.amount(slow, lasting(5*time.Second))), n.happens(down, 0)
}

// heal ends all troubles of the network.
func (n *network) heal() {
	n.rounds++
	for _, w := range n.wires {
		w.lateUntil, w.narrowUntil = 0, 0
	}
	n.each(func(w *wire) { w.change(func() { w.severed = 0 }) })
}
