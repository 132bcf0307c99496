package gallery

import (
	"fmt"
	"math"

	"github.com/anishathalye/porcupine"
)

// A history is what clients did to one number, and what they saw, in the order in which it
// happened: each call and each return has the next time.
type history struct {
	now     int64
	written int
	ops     []*operation
}

// An operation is a write of a value, or a read that returned it.
type operation struct {
	h         *history
	write     bool
	value     int
	call, end int64
}

// write begins the write of a value that nobody else writes.
func (h *history) write() *operation {
	h.written++
	return h.begin(&operation{h: h, write: true, value: h.written})
}

// read begins a read. If it is not ended, it has seen nothing.
func (h *history) read() *operation { return h.begin(&operation{h: h}) }

func (h *history) begin(o *operation) *operation {
	h.now++
	o.call, o.end = h.now, math.MaxInt64
	h.ops = append(h.ops, o)
	return o
}

// done ends a write, or a read that has seen a value.
func (o *operation) done(value int) {
	o.h.now++
	o.value, o.end = value, o.h.now
}

// check has porcupine look for an order of the operations, each at a moment between its call and
// its end, in which each read returns what was written last. A write without an end may have
// happened at any time after its call, or never: never, if nobody has read it.
func (h *history) check() error {
	seen := make(map[int]bool)
	for _, o := range h.ops {
		seen[o.value] = seen[o.value] || !o.write
	}
	var ops []porcupine.Operation
	for i, o := range h.ops {
		if o.end != math.MaxInt64 || o.write && seen[o.value] {
			ops = append(ops, porcupine.Operation{ClientId: i, Input: o, Call: o.call, Return: o.end})
		}
	}
	if porcupine.CheckOperations(register, ops) {
		return nil
	}
	return fmt.Errorf("not linearizable:%s", h)
}

func (h *history) String() (s string) {
	for _, o := range h.ops {
		what := "read"
		if o.write {
			what = "write"
		}
		if o.end == math.MaxInt64 {
			s += fmt.Sprintf(" %s %d from %d,", what, o.value, o.call)
		} else {
			s += fmt.Sprintf(" %s %d from %d to %d,", what, o.value, o.call, o.end)
		}
	}
	return s[:max(0, len(s)-1)]
}

// register is the model of one number, which is 0 at first.
var register = porcupine.Model{
	Init: func() any { return 0 },
	Step: func(state, input, _ any) (bool, any) {
		if o := input.(*operation); o.write {
			return true, o.value
		} else {
			return o.value == state, state
		}
	},
}
