package sim

import (
	"bytes"
	"fmt"
	"hash/crc32"
	"hash/fnv"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/goasyncio/asyncio"
)

// The data of a run beside its steps: what programs send, write to disks and say, and how tasks
// end. Runs that are compared must agree in it, and where they do not, the words for the difference
// name what is likely to be its cause.
//
//	data 1: Each write to a stream, each datagram, each write to a disk and change of a name there,
//	   each note and the end of each task is a datum, in the order in which they come. Only runs
//	   with a trace have them.
//	data 2: Two runs that are compared must have the same data: the same kinds, sizes and bytes, in
//	   the same steps. Of what is encrypted by TLS the bytes do not count, because they are random
//	   numbers that nobody reads; their sizes do. With SameShape, and in runs in which goroutines
//	   have a part, no bytes count.
//	data 3: Of the first difference in data and the first in steps the earlier one is told: it is
//	   the cause of the other.
type datum struct {
	step int // behind which it came
	kind datumKind
	msg  Message // of a message, without its bytes
	what string  // of the others
	size int
	sum  uint32 // CRC-32C of the bytes
	head []byte // the first of them
}

type datumKind uint8

const (
	aMessage datumKind = iota
	aChange
	aNote
	anEnd
)

// headSize is how many bytes of a datum are kept to be shown.
const headSize = 64

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// addDatum adds a datum behind the last step.
func (t *tracer) addDatum(d datum, data []byte) {
	d.step, d.size, d.sum = t.len(), len(data), crc32.Checksum(data, castagnoli)
	d.head = bytes.Clone(data[:min(len(data), headSize)])
	t.data = append(t.data, d)
}

// observe makes the network and the disks of w tell its tracer what they carry and store.
func (w *world) observe() {
	w.net.seen = func(m Message) {
		data := m.Data
		m.Data = nil
		w.tracer.addDatum(datum{kind: aMessage, msg: m}, data)
	}
	if w.tracer.explains {
		w.net.who = w.userOfConnection
	}
	for _, h := range w.hosts {
		h.observe()
	}
}

func (h *Host) observe() {
	if t := h.w.tracer; t != nil {
		t.hosts[h.addr.String()], t.hosts[sixOf(h.addr).String()] = h.name, h.name
		h.disk.seen = func(what string, data []byte) {
			t.addDatum(datum{kind: aChange, what: h.name + ": " + what}, data)
		}
	}
}

// ending says how a task has ended, without its function: that is called otherwise where the
// compiler has inlined it, and its file lies elsewhere on another machine.
func ending(task asyncio.AnyTask) string {
	s := task.String()
	if from := strings.Index(s, " coro=<"); from >= 0 {
		if n := strings.IndexByte(s[from:], '>'); n >= 0 {
			s = s[:from] + s[from+n+1:]
		}
	}
	return s
}

// String says what the datum is, without its bytes.
func (d *datum) String() string {
	switch d.kind {
	case aMessage:
		return d.msg.String()
	case aChange:
		return fmt.Sprintf("%s, %s", d.what, counted(d.size, "byte"))
	}
	return d.what
}

// shown is the datum with its first bytes.
func (d *datum) shown() string {
	if d == nil {
		return "nothing more"
	}
	s := d.String()
	if d.size > 0 && d.kind != aNote {
		s += fmt.Sprintf(": %.64q", d.head)
		if d.size > len(d.head) {
			s += " …"
		}
	}
	return s
}

// isTLS reports whether the bytes begin like records of TLS.
func (d *datum) isTLS() bool {
	return d.kind == aMessage && len(d.head) >= 3 && d.head[0] >= 20 && d.head[0] <= 23 && d.head[1] == 3 && d.head[2] <= 4
}

// same reports whether two runs agree in a datum (data 2).
func (d *datum) same(e *datum, shape bool) bool {
	if d.step != e.step || d.kind != e.kind || d.size != e.size {
		return false
	}
	if d.kind == aMessage && (d.msg.Kind != e.msg.Kind || d.msg.From != e.msg.From || d.msg.To != e.msg.To) {
		return false
	}
	if shape || d.isTLS() && e.isTLS() {
		return true
	}
	return d.what == e.what && d.sum == e.sum
}

// dataDiffers returns the first datum in which two runs differ; one of them is nil if there is none
// in that run.
func (t *tracer) dataDiffers(u *tracer, shape bool) (d, e *datum) {
	for i := range max(len(t.data), len(u.data)) {
		d, e = nil, nil
		if i < len(t.data) {
			d = &t.data[i]
		}
		if i < len(u.data) {
			e = &u.data[i]
		}
		if d == nil || e == nil || !d.same(e, shape) {
			return d, e
		}
	}
	return nil, nil
}

// stepOf returns the step in which the earlier of the two came, -1 if there is neither.
func stepOf(d, e *datum) int {
	switch {
	case d == nil && e == nil:
		return -1
	case d == nil:
		return e.step
	case e == nil:
		return d.step
	}
	return min(d.step, e.step)
}

// dataHash returns a hash of the data: of what must agree in two runs (data 2).
func (t *tracer) dataHash() uint64 {
	h := fnv.New64a()
	for i := range t.data {
		d := &t.data[i]
		switch {
		case t.sameShape:
			fmt.Fprintf(h, "%d %d %d\n", d.step, d.kind, d.size)
		case d.isTLS():
			fmt.Fprintf(h, "%d %d %s %d\n", d.step, d.kind, d, d.size)
		default:
			fmt.Fprintf(h, "%d %d %s %d %08x\n", d.step, d.kind, d, d.size, d.sum)
		}
	}
	return h.Sum64()
}

// summary is the last line of a whole trace.
func (t *tracer) summary() string {
	var count, size [anEnd + 1]int
	for i := range t.data {
		count[t.data[i].kind]++
		size[t.data[i].kind] += t.data[i].size
	}
	return fmt.Sprintf("  steps %016x, data %016x: %s of %s, %s of disks of %s, %s, %s of tasks\n",
		t.hash(t.len()), t.dataHash(),
		counted(count[aMessage], "message"), counted(size[aMessage], "byte"), counted(count[aChange], "change"), counted(size[aChange], "byte"),
		counted(count[aNote], "note"), counted(count[anEnd], "end"))
}

// suspects names what may be the cause of a difference in data, empty if that says nothing.
func suspects(d, e *datum) string {
	if d == nil || e == nil || d.kind != e.kind {
		return ""
	}
	a, b := d.head, e.head
	if d.kind == aNote || d.kind == anEnd {
		a, b = []byte(d.what), []byte(e.what)
	}
	from, to := differing(a, b)
	switch {
	case d.isTLS() || e.isTLS():
		return "It is TLS, whose random numbers are the machine's: call cryptotest.SetGlobalRandom(t, asyncio.Rand(ctx).Uint64()) of package testing/cryptotest at the beginning of main"
	case d.size == e.size && len(a) == len(b) && sameBytes(a, b):
		return "Both have the same bytes in another order, as a range over a map gives them: sort the keys"
	case isTimestamp(a, from) && isTimestamp(b, from):
		return "A time is in it that is not the simulation's: take it from EventLoop.Now, not time.Now"
	case isHex(a[from:to(a)]) && isHex(b[from:to(b)]), !utf8.Valid(a) && !utf8.Valid(b):
		return "It looks like a random number or a UUID: draw it from asyncio.Rand, or call cryptotest.SetGlobalRandom(t, asyncio.Rand(ctx).Uint64()) of package testing/cryptotest at the beginning of main"
	}
	return ""
}

// differing returns where two byte strings begin to differ, and where that ends in each.
func differing(a, b []byte) (from int, to func([]byte) int) {
	for from < min(len(a), len(b)) && a[from] == b[from] {
		from++
	}
	back := 0
	for back < min(len(a), len(b))-from && a[len(a)-1-back] == b[len(b)-1-back] {
		back++
	}
	return from, func(s []byte) int { return len(s) - back }
}

func sameBytes(a, b []byte) bool {
	a, b = slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b))
	return bytes.Equal(a, b)
}

func isHex(p []byte) bool {
	return len(p) >= 4 && strings.Trim(string(p), "0123456789abcdefABCDEF-") == ""
}

// timestamp finds times as programs write them: with a date or a time of day, as seconds or parts
// of them since 1970, or as durations.
var timestamp = regexp.MustCompile(`\d{4}-\d\d-\d\d|\d\d:\d\d:\d\d|\b\d{10}(\d{3}){0,3}\b|\d\.\d+(ms|µs|s)\b|\b\d+(ns|µs|ms)\b`)

// isTimestamp reports whether the byte at from is a part of a time.
func isTimestamp(p []byte, from int) bool {
	for _, at := range timestamp.FindAllIndex(p, -1) {
		if from >= at[0] && from <= at[1]+16 {
			return true
		}
	}
	return false
}

// swapped says whether two runs have the same callbacks in another order from a step on, made ready
// by the same step: the mark of a range over a map, or of a select.
func (t *tracer) swapped(u *tracer, at int) string {
	cause := -1
	if at < min(t.len(), u.len()) {
		cause = t.step(at).cause
	}
	if cause < 1 || u.step(at).cause != cause {
		return ""
	}
	names := func(t *tracer) []string {
		var all []string
		for i := at; i < t.len() && len(all) < 100; i++ {
			if e := t.step(i); e.cause == cause {
				all = append(all, t.name(e))
			}
		}
		slices.Sort(all)
		return all
	}
	if mine := names(t); len(mine) < 2 || !slices.Equal(mine, names(u)) {
		return ""
	}
	return fmt.Sprintf("The same callbacks are ready in another order, made so by %s: a range over a map is there, or a select with two ready cases; sort the keys, and use asyncio.Select",
		t.sentence(cause-1))
}

// outsiders names goroutines that are no part of the simulation and run beside it. Where two runs
// differ they may be the cause.
func outsiders() string {
	var found []string
	for g := range goroutines {
		what := ""
		switch _, by, ok := strings.Cut(g, "created by "); {
		case strings.Contains(g, "net.(*Resolver)") || strings.Contains(g, "net._C_getaddrinfo") || strings.Contains(g, "net.cgoLookup"):
			what = "a name is looked up on the machine's network: use asyncio.Dial, or asyncio.NetOf for a library"
		case ok && !strings.Contains(g, rootPackage[:len(rootPackage)-1]+"/internal/leaktest"):
			by, _, _ = strings.Cut(by, "\n")
			by, _, _ = strings.Cut(by, " in goroutine")
			if isOutside(by) {
				what = "a goroutine runs beside the simulation, begun in " + by[strings.LastIndexByte(by, '/')+1:]
			}
		}
		if what != "" && !slices.Contains(found, what) && len(found) < 3 {
			found = append(found, what)
		}
	}
	return strings.Join(found, "; ")
}

// isOutside reports whether a function that has begun a goroutine belongs neither to the library
// nor to Go's own tools of testing.
func isOutside(function string) bool {
	for _, p := range []string{rootPackage, simPackage, "github.com/goasyncio/asyncio/internal/", "testing.", "runtime", "os/signal.", "internal/", "time.", "sync."} {
		if strings.HasPrefix(function, p) {
			return false
		}
	}
	return true
}
