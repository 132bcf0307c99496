package asyncio

import "weak"

// largeQueue is the number of values from which on whoever looks at loops is told of a queue, each
// time it has become twice as long: nobody may ever wait for a queue that only grows.
const largeQueue = 1024

// observeLarge is told of a queue that has become large, by a call that puts a value into it. It
// must not keep the queue. A room sets it.
var observeLarge = func(q largeOne) {}

// A largeOne is a large queue. Its methods are for the loop, which is nil if no task has had to
// wait.
type largeOne interface {
	home() *EventLoop
	measure() queueMeasures
	weakly() func() largeOne // which returns nil once nobody holds the queue
}

type queueMeasures struct {
	name             string
	size, limit      int
	getters, putters int
	unfinished       int
}

func (q *Queue[T]) becomesLarge() {
	q.noted = q.n
	observeLarge(q)
}

func (q *Queue[T]) home() *EventLoop { return q.loop }

func (q *Queue[T]) measure() queueMeasures {
	return queueMeasures{q.name, q.n, q.maxsize, q.getters.len(), q.putters.len(), q.unfinished}
}

func (q *Queue[T]) weakly() func() largeOne {
	held := weak.Make(q)
	return func() largeOne {
		if q := held.Value(); q != nil {
			return q
		}
		return nil
	}
}

// A store keeps the values of a queue, and so decides the order in which they come out.
type store[T any] interface {
	push(v T)
	pop() T
	at(i int) T // in the order in which Python shows them
}

// keepStore is the capacity up to which an emptied store keeps its memory.
const keepStore = 1024

// ring is first in, first out.
type ring[T any] struct {
	buf  []T // its length is zero or a power of two
	head int
	n    int
}

func (r *ring[T]) at(i int) T { return r.buf[(r.head+i)&(len(r.buf)-1)] }

func (r *ring[T]) push(v T) {
	if r.n == len(r.buf) {
		grown := make([]T, max(8, 2*r.n))
		copied := copy(grown, r.buf[r.head:])
		copy(grown[copied:], r.buf[:r.head])
		r.buf, r.head = grown, 0
	}
	r.buf[(r.head+r.n)&(len(r.buf)-1)] = v
	r.n++
}

func (r *ring[T]) pop() T {
	var zero T
	v := r.buf[r.head]
	r.buf[r.head] = zero
	r.head = (r.head + 1) & (len(r.buf) - 1)
	if r.n--; r.n == 0 && len(r.buf) > keepStore {
		*r = ring[T]{}
	}
	return v
}

// pile is last in, first out.
type pile[T any] struct{ vs []T }

func (p *pile[T]) at(i int) T { return p.vs[i] }
func (p *pile[T]) push(v T)   { p.vs = append(p.vs, v) }

func (p *pile[T]) pop() T {
	var v T
	n := len(p.vs) - 1
	v, p.vs[n] = p.vs[n], v
	p.vs = p.vs[:n]
	if n == 0 && cap(p.vs) > keepStore {
		p.vs = nil
	}
	return v
}

// heapq is smallest first. Its layout is that of Python's module of the same name, so that String
// shows values in the same order. It compares before it moves anything: a compare that panics
// leaves it as it was.
type heapq[T any] struct {
	vs      []ranked[T]
	compare func(a, b T) int
	seq     uint64
}

// ranked is a value and its number in the order of puts, which decides among equal values.
type ranked[T any] struct {
	v   T
	seq uint64
}

func (h *heapq[T]) at(i int) T { return h.vs[i].v }

func (h *heapq[T]) before(a, b ranked[T]) bool {
	c := h.compare(a.v, b.v)
	return c < 0 || c == 0 && a.seq < b.seq
}

func (h *heapq[T]) push(v T) {
	e := ranked[T]{v, h.seq}
	i := len(h.vs)
	for i > 0 && h.before(e, h.vs[(i-1)/2]) {
		i = (i - 1) / 2
	}
	h.seq++
	h.vs = append(h.vs, e)
	for j := len(h.vs) - 1; j > i; j = (j - 1) / 2 {
		h.vs[j] = h.vs[(j-1)/2]
	}
	h.vs[i] = e
}

func (h *heapq[T]) pop() T {
	n := len(h.vs) - 1
	last := h.vs[n]
	// Walk from the top down to a leaf, by way of the smaller child, and up again to the place of
	// last; then everything above moves up by one, and the top falls out.
	i := 0
	for 2*i+1 < n {
		child := 2*i + 1
		if child+1 < n && !h.before(h.vs[child], h.vs[child+1]) {
			child++
		}
		i = child
	}
	for i > 0 && h.before(last, h.vs[i]) {
		i = (i - 1) / 2
	}
	out := last
	if n > 0 {
		out, h.vs[i] = h.vs[i], last
		for i > 0 {
			i = (i - 1) / 2
			out, h.vs[i] = h.vs[i], out
		}
	}
	h.vs[n] = ranked[T]{}
	h.vs = h.vs[:n]
	if n == 0 && cap(h.vs) > keepStore {
		h.vs = nil
	}
	return out.v
}
