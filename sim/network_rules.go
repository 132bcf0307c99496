package sim

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/goasyncio/asyncio"
)

// Rules for messages: what a test does to single messages, by what they are.
//
//	rule 1: A message is asked about when it is sent, once. The rules are asked in the order in
//	   which they were added. All that match count it, and the first of them that does anything
//	   decides.
//	rule 2: A write to a stream is a message of its own, though it travels in segments with bytes of
//	   other writes. A rule for it acts on the segments that carry its bytes, and no segment then
//	   carries bytes of two writes of which only one is affected. The bytes of a stream stay in
//	   order, so what happens to a write happens to everything behind it.
//	rule 3: A dropped packet has used the wire and drawn its numbers like any other (link 3).
//	rule 4: Without a rule nothing is asked, and nothing costs time.

// A MessageKind says what a [Message] is. Any goroutine may use it.
type MessageKind uint8

// The kinds of messages. A program makes writes and datagrams; the others are packets that its
// system makes.
const (
	KindWrite    MessageKind = iota + 1 // the bytes that one call has written to a stream
	KindDatagram                        // one datagram
	KindRequest                         // a request to connect, or the answer to it
	KindSegment                         // bytes of a stream, or its end
	KindAck                             // an acknowledgment without bytes
	KindReset                           // the reset of a connection
	KindRefusal                         // the refusal of a datagram
)

var kindWords = [...]string{KindWrite: "write", KindDatagram: "datagram", KindRequest: "request", KindSegment: "segment", KindAck: "acknowledgment", KindReset: "reset", KindRefusal: "refusal"}

func (k MessageKind) String() string {
	if int(k) < len(kindWords) && k > 0 {
		return kindWords[k]
	}
	return fmt.Sprintf("MessageKind(%d)", uint8(k))
}

// A Message is something that one host sends to another. Any goroutine may use it.
type Message struct {
	ID                  uint64 // counted from 1 in each run
	Kind                MessageKind
	From, To            string         // names of hosts
	Source, Destination netip.AddrPort // not valid for Unix sockets
	Size                int            // bytes, without headers
	// the bytes, nil for packets without any; they must not be changed, and are valid only until
	// the function that was given them returns
	Data []byte
}

func (m Message) String() string {
	s := fmt.Sprintf("%v %d from %s to %s", m.Kind, m.ID, m.From, m.To)
	if m.Kind == KindWrite || m.Size > 0 {
		s += ", " + counted(m.Size, "byte")
	}
	return s
}

// A RuleAction is what a [Rule] does to the messages that it is for. Any goroutine may use it.
type RuleAction uint8

const (
	// Watch does nothing. It is for [ActiveRule.Wait] and [ActiveRule.Count].
	Watch RuleAction = iota

	// Drop loses the message. Lost bytes of a stream are sent again after some time, and that
	// attempt gets through: a stream loses nothing and is only late. To lose them for good, use
	// Break or Hold.
	Drop

	// Delay makes the message arrive later, by Rule.Delay. Later datagrams overtake it. Later bytes
	// of its stream do not.
	Delay

	// Hold keeps the message back until [ActiveRule.Release].
	Hold

	// Duplicate makes a datagram arrive twice. A stream hides that from the program.
	Duplicate

	// Break resets the connection when the message would arrive: the peer has got everything before
	// it, and both ends get ECONNRESET; a request to connect is refused. It is for streams only.
	Break
)

var actionWords = [...]string{Watch: "watch", Drop: "drop", Delay: "delay", Hold: "hold", Duplicate: "duplicate", Break: "break the connection at"}

func (a RuleAction) String() string {
	if int(a) < len(actionWords) {
		return actionWords[a]
	}
	return fmt.Sprintf("RuleAction(%d)", uint8(a))
}

// A Rule says what happens to which messages. The zero Rule watches every write and datagram
// between two hosts. Any goroutine may make one.
type Rule struct {
	Name     string               // in traces and reports; may be empty
	From, To string               // hosts; an empty one is any other host
	Kinds    []MessageKind        // writes and datagrams, if there are none
	Match    func(m Message) bool // nil: all; it must not await, nor change the simulation

	Skip  int // let this many pass first
	Times int // and do it to this many, or to all if it is zero

	Do    RuleAction
	Delay time.Duration // of Do: Delay

	// If it is not zero, the rule acts only with this probability: then it is a fault as [Fault]
	// defines it, which does not happen in order, and is in the schedule.
	Probability float64
}

// An ActiveRule is a [Rule] of a network. Its methods are for the loop only.
type ActiveRule struct {
	n        *network
	rule     Rule
	from, to *system // nil: any
	kinds    [KindRefusal + 1]bool
	matched  int // with those before it began and behind its last one
	held     []heldParcel
	waiting  []ruleWait
	removed  bool
}

type heldParcel struct {
	w *wire
	p parcel
}

type ruleWait struct {
	count int
	hope  *hope
}

// AddRule adds a rule for messages that are sent from now on, behind the rules that are there. Of
// several that match a message the first one with an action decides, but all count it. What a host
// sends to itself is affected only by rules that name it twice. A rule lasts until
// [ActiveRule.Remove], or [StopFaults]; [Network.Heal] does not end it. Every time it acts, the
// trace says so.
//
//	lost := network.AddRule(sim.Rule{
//		From: "db", To: "app", Do: sim.Break, Skip: 2, Times: 1, // the third answer
//	})
func (n *Network) AddRule(r Rule) *ActiveRule {
	const caller = "AddRule"
	wrong := ""
	switch {
	case r.Do > Break:
		wrong = fmt.Sprintf("%v is no action", r.Do)
	case r.Skip < 0 || r.Times < 0:
		wrong = "a negative number of messages"
	case !(r.Probability >= 0 && r.Probability <= 1):
		wrong = fmt.Sprintf("%v is not a probability; those are from 0 to 1", r.Probability)
	case r.Delay < 0 || (r.Delay > 0) != (r.Do == Delay):
		wrong = fmt.Sprintf("a Delay of %v does not go with %v", r.Delay, r.Do)
	}
	a := &ActiveRule{n: n.n, rule: r}
	kinds := r.Kinds
	if len(kinds) == 0 {
		kinds = []MessageKind{KindWrite, KindDatagram}
		switch r.Do {
		case Duplicate:
			kinds = kinds[1:]
		case Break:
			kinds = kinds[:1]
		}
	}
	for _, k := range kinds {
		switch datagram := k == KindDatagram || k == KindRefusal; {
		case k < KindWrite || k > KindRefusal:
			wrong = fmt.Sprintf("%v is no kind of message", k)
			continue
		case r.Do == Duplicate && !datagram:
			wrong = fmt.Sprintf("to duplicate a %v changes nothing: a stream hides it from the program", k)
		case r.Do == Break && datagram:
			wrong = fmt.Sprintf("a %v belongs to no connection that could break", k)
		}
		a.kinds[k] = true
	}
	if wrong != "" {
		panic(fmt.Errorf("%w: %s (in sim.Network.%s)", asyncio.ErrInvalidArgument, wrong, caller))
	}
	if r.From != "" {
		a.from = n.n.must(r.From, caller)
	}
	if r.To != "" {
		a.to = n.n.must(r.To, caller)
	}
	n.n.rules = append(n.n.rules, a)
	return a
}

// Count returns how many messages the rule has been for, without those of Rule.Skip.
func (a *ActiveRule) Count() int {
	n := max(a.matched-a.rule.Skip, 0)
	if a.rule.Times > 0 {
		n = min(n, a.rule.Times)
	}
	return n
}

// Wait suspends the calling task until the rule has been for n messages, as [ActiveRule.Count]
// counts them. The messages have been sent by then, and need not have arrived. A cancel, or the end
// of ctx, ends the wait.
func (a *ActiveRule) Wait(ctx context.Context, n int) error {
	lifeOf(ctx, "ActiveRule.Wait")
	if a.Count() >= n {
		return nil
	}
	h := newHope(ctx, "", nil)
	defer h.done.Cancel()
	a.waiting = append(a.waiting, ruleWait{n, h})
	_, err := h.done.Await(ctx)
	return err
}

// Release lets the messages that are held arrive now, in the order in which they were sent.
func (a *ActiveRule) Release() {
	if len(a.held) == 0 {
		return
	}
	a.n.say("the network: %s are released", counted(len(a.held), "packet"))
	for _, h := range a.held {
		h.w.n.at(h.w.n.now(), func() { h.w.arrive(h.p) })
	}
	a.held = nil
}

// Remove ends the rule, and releases what it holds. Delayed messages stay delayed.
func (a *ActiveRule) Remove() {
	a.removed = true
	a.n.rules = slices.DeleteFunc(a.n.rules, func(o *ActiveRule) bool { return o == a })
	a.Release()
}

// endRules removes the rules that do anything.
func (n *network) endRules() {
	for _, a := range slices.Clone(n.rules) {
		if a.rule.Do != Watch {
			a.Remove()
		}
	}
}

func (a *ActiveRule) isFor(m *Message, w *wire) bool {
	if !a.kinds[m.Kind] || a.from != nil && a.from != w.from || a.to != nil && a.to != w.to {
		return false
	}
	if w.from == w.to && (a.from == nil || a.to == nil) {
		return false
	}
	return a.rule.Match == nil || a.rule.Match(*m)
}

// decide returns the rule that acts on a message, nil if none does (rule 1).
func (n *network) decide(w *wire, m Message) *ActiveRule {
	var acts *ActiveRule
	for _, a := range slices.Clone(n.rules) {
		if !a.isFor(&m, w) {
			continue
		}
		before := a.Count()
		a.matched++
		if a.Count() == before {
			continue
		}
		a.tell()
		if acts == nil && a.rule.Do != Watch && a.happens() {
			acts = a
			name := ""
			if a.rule.Name != "" {
				name = fmt.Sprintf(" (%s)", a.rule.Name)
			}
			n.say("the network: %v %v%s", a.rule.Do, m, name)
		}
	}
	return acts
}

// tell wakes the tasks that wait for so many messages.
func (a *ActiveRule) tell() {
	rest := a.waiting[:0]
	for _, w := range a.waiting {
		if w.count <= a.Count() {
			w.hope.comeTrue()
		} else if !w.hope.done.Done() {
			rest = append(rest, w)
		}
	}
	clear(a.waiting[len(rest):])
	a.waiting = rest
}

// happens reports whether the rule acts: always, or by chance.
func (a *ActiveRule) happens() bool {
	p := a.rule.Probability
	if p == 0 || p == 1 {
		return true
	}
	name := a.rule.Name
	if name == "" {
		any := func(s *system) string {
			if s == nil {
				return "any host"
			}
			return s.name
		}
		name = fmt.Sprintf("%v a message from %s to %s", a.rule.Do, any(a.from), any(a.to))
	}
	return a.n.happens(a.n.question(name, inTime), p)
}

// A mark is a write to a stream that a rule acts on (rule 2): the bytes with the numbers from up to
// to, of which those up to sent have left once.
type mark struct {
	from, to, sent int64
	by             *ActiveRule
}

// message numbers a message. Writes and datagrams are numbered in any case, packets only where
// there are rules: whether a trace is made changes no number.
func (w *wire) message(kind MessageKind, src, dst netip.AddrPort, data []byte) Message {
	w.n.messages++
	return Message{ID: w.n.messages, Kind: kind, From: w.from.name, To: w.to.name, Source: src, Destination: dst, Size: len(data), Data: data}
}

// written is told of a write of the program, before the bytes are sent.
func (c *tcpConn) written(p []byte) {
	if c.out == nil {
		return
	}
	m := c.out.message(KindWrite, c.flow.local, c.flow.remote, p)
	if c.unix {
		m.Source, m.Destination = netip.AddrPort{}, netip.AddrPort{}
	}
	if c.sys.n.seen != nil {
		c.sys.n.seen(m)
	}
	if c.sys.n.picture != nil {
		c.ids = append(c.ids, numbered{c.end - int64(len(p)), m.ID})
	}
	if a := c.sys.n.decide(c.out, m); a != nil {
		c.marks = append(c.marks, &mark{from: c.end - int64(len(p)), to: c.end, by: a})
	}
}

// untilMark cuts a segment of n bytes that begins at next, so that it ends where a marked write
// begins or ends.
func (c *tcpConn) untilMark(n int64) int64 {
	for _, m := range c.marks {
		for _, edge := range []int64{m.from, m.to} {
			if edge > c.next && edge < c.next+n {
				n = edge - c.next
			}
		}
	}
	return n
}

// marked returns the rule that acts on the bytes of a segment, nil if there is none.
func (c *tcpConn) marked(p *segment) *ActiveRule {
	c.marks = slices.DeleteFunc(c.marks, func(m *mark) bool { return m.to <= c.una || m.by.removed })
	for _, m := range c.marks {
		if end := p.number + int64(len(p.data)); p.number < m.to && end > m.from {
			again := end <= m.sent
			m.sent = max(m.sent, end)
			if !again || m.by.rule.Do == Hold {
				return m.by
			}
		}
	}
	return nil
}

// ruleFor returns the rule that acts on cargo, nil if none does. For a datagram datagramRule is
// asked, so that the copies of one are one message.
func (w *wire) ruleFor(c cargo) *ActiveRule {
	if p, ok := c.(*segment); ok {
		if p.from != nil && len(p.from.marks) > 0 && len(p.data) > 0 {
			if a := p.from.marked(p); a != nil {
				return a
			}
		}
		if len(w.n.rules) > 0 {
			return w.n.decide(w, w.message(p.kind(), p.src, p.dst, p.data))
		}
	}
	return nil
}

// kind returns the kind of message that a segment is.
func (p *segment) kind() MessageKind {
	switch p.noun() {
	case aReset:
		return KindReset
	case aRequest:
		return KindRequest
	case aSegment:
		return KindSegment
	}
	return KindAck
}

// ruleForDatagram is ruleFor for datagrams and refusals.
func (w *wire) ruleForDatagram(c cargo) *ActiveRule {
	switch d := c.(type) {
	case *datagram:
		m := w.message(KindDatagram, d.src, d.dst, d.data)
		if w.n.seen != nil {
			w.n.seen(m)
		}
		return w.n.decide(w, m)
	case *refusal:
		if len(w.n.rules) == 0 {
			break
		}
		return w.n.decide(w, w.message(KindRefusal, d.from, d.to, nil))
	}
	return nil
}

// carryBy is carry for cargo that a rule acts on.
func (w *wire) carryBy(a *ActiveRule, c cargo, number int, last *time.Duration) (left time.Duration) {
	left = w.leave(c.size())
	arrival := later(left, w.latency(c.noun()))
	switch a.rule.Do {
	case Drop:
		w.lose(number)
		return left
	case Delay:
		arrival = later(arrival, a.rule.Delay)
		if _, stream := c.(*segment); !stream {
			last = new(time.Duration)
		}
	case Hold:
		w.n.picture.holds(number)
		a.held = append(a.held, heldParcel{w, parcel{c, w.epoch, number}})
		return left
	case Break:
		if p, ok := c.(*segment); ok {
			c = breaking{p}
		}
	case Duplicate:
		w.deliver(c, w.n.picture.sent(w, c), later(arrival, w.latency(c.noun())))
	}
	*last = max(*last, arrival)
	w.deliver(c, number, *last)
	return left
}

// breaking is a segment at whose arrival the connection breaks.
type breaking struct{ *segment }

func (b breaking) arrive(*system) {
	c := b.from
	if c == nil { // the reset of a connection that is unknown where it comes from
		return
	}
	ends := []*tcpConn{c}
	if c.peer != nil {
		ends = append(ends, c.peer)
	}
	slices.SortFunc(ends, oldestFirst)
	for _, c := range ends {
		c.reset()
	}
}
