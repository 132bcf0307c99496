package driver_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/goasyncio/asyncio/internal/driver"
	"github.com/goasyncio/asyncio/internal/leaktest"
)

// A poller is one way in which a Real waits for connections. Every test of endpoints runs with each
// of them.
type poller struct {
	name string
	new  func() *driver.Real
}

// pollers are the ways there are. Without a poller of the system both are the same.
var pollers = []poller{
	{"poller", driver.NewReal},
	{"portable", driver.NewPortable},
}

// patience is how long a test waits for an event that must come.
const patience = 20 * time.Second

// A world is a driver under test.
type world struct {
	*testing.T
	d       *driver.Real
	kernel  bool // connections that are descriptors are in the system's poller
	waiting bool // in Wait or Poll
}

// inEach runs test with each poller. What the driver still holds at the end must go when it is
// closed.
func inEach(t *testing.T, test func(w *world)) {
	for _, p := range pollers {
		t.Run(p.name, func(t *testing.T) { inWorld(t, p, test) })
	}
}

func inWorld(t *testing.T, p poller, test func(w *world)) {
	before := leaktest.Descriptors()
	t.Cleanup(func() {
		if t.Failed() || t.Skipped() {
			return
		}
		if after := leaktest.Descriptors(); after > before {
			t.Errorf("%d descriptors before, %d after", before, after)
		}
	})
	w := &world{T: t, d: p.new(), kernel: driver.PollerExists && p.name == "poller"}
	t.Cleanup(func() {
		if err := w.d.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
	test(w)
}

// must fails the test if there is an error.
func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// is fails the test if an error is not the one that is wanted.
func (w *world) is(what string, err, want error) {
	w.Helper()
	if !errors.Is(err, want) {
		w.Errorf("%s: %v, want %v", what, err, want)
	}
}

// wait is one Wait, for something that must come.
func (w *world) wait(what string) {
	w.Helper()
	until := w.d.Now() + patience
	w.waiting = true
	err := w.d.Wait(until)
	w.waiting = false
	w.must(err)
	if w.d.Now() >= until {
		w.Fatalf("%s does not come", what)
	}
}

func (w *world) poll() {
	w.Helper()
	w.waiting = true
	err := w.d.Poll()
	w.waiting = false
	w.must(err)
}

// until waits until something has come.
func (w *world) until(what string, come func() bool) {
	w.Helper()
	for !come() {
		w.wait(what)
	}
}

// told is a notifier that counts, and checks when it is called.
type told struct {
	w                    *world
	reads, writes, calls int
	closed               bool
}

func (n *told) Ready(read, write bool) {
	n.w.Helper()
	if !n.w.waiting {
		n.w.Error("Ready outside of Wait and Poll (endpoint 2)")
	}
	if n.closed {
		n.w.Error("Ready after Close (endpoint 4)")
	}
	if !read && !write {
		n.w.Error("Ready in no direction")
	}
	n.calls++
	if read {
		n.reads++
	}
	if write {
		n.writes++
	}
}

// An end is an endpoint with its notifier.
type end struct {
	driver.Endpoint
	told
}

// adopt makes an endpoint of c.
func (w *world) adopt(c net.Conn) *end {
	w.Helper()
	e, err := w.d.Adopt(c)
	w.must(err)
	return w.end(e)
}

func (w *world) end(e driver.Endpoint) *end {
	x := &end{Endpoint: e, told: told{w: w}}
	x.Notify(&x.told)
	return x
}

func (e *end) Close() error {
	err := e.Endpoint.Close()
	e.closed = true
	return err
}

func (e *end) Abort() error {
	err := e.Endpoint.Abort()
	e.closed = true
	return err
}

// read reads once. It tries again only when it is told to (endpoint 1).
func (e *end) read(p []byte) (int, error) {
	e.w.Helper()
	for {
		before := e.reads
		n, err := e.Read(p)
		if err != driver.ErrAgain {
			return n, err
		}
		if n != 0 {
			e.w.Errorf("Read = %d, %v", n, err)
		}
		e.w.until("Ready to read", func() bool { return e.reads > before })
	}
}

// write writes once. It tries again only when it is told to (endpoint 1).
func (e *end) write(p []byte) (int, error) {
	e.w.Helper()
	for {
		before := e.writes
		n, err := e.Write(p)
		if err != driver.ErrAgain {
			return n, err
		}
		if n != 0 {
			e.w.Errorf("Write = %d, %v", n, err)
		}
		e.w.until("Ready to write", func() bool { return e.writes > before })
	}
}

// send writes all of p.
func (e *end) send(p []byte) {
	e.w.Helper()
	for len(p) > 0 {
		n, err := e.write(p)
		e.w.must(err)
		p = p[n:]
	}
}

// expect reads exactly want.
func (e *end) expect(want []byte) {
	e.w.Helper()
	got := make([]byte, len(want))
	for n := 0; n < len(got); {
		m, err := e.read(got[n:])
		if err != nil {
			e.w.Fatalf("Read: %v, after %d of %d bytes", err, n, len(got))
		}
		n += m
	}
	if !bytes.Equal(got, want) {
		e.w.Fatalf("read other bytes than were written")
	}
}

// rest reads until an error, and returns the number of bytes before it. They must be the bytes of
// the pattern from off on.
func (e *end) rest(off int) (int, error) {
	e.w.Helper()
	got := 0
	for p := make([]byte, 50_000); ; {
		n, err := e.read(p)
		if err != nil {
			return got, err
		}
		if !bytes.Equal(p[:n], pattern(off+got, n)) {
			e.w.Fatal("read other bytes than were written")
		}
		got += n
	}
}

// ends reads to the end of the stream, which must come after want bytes of the pattern.
func (e *end) ends(off, want int) {
	e.w.Helper()
	if n, err := e.rest(off); n != want || err != io.EOF {
		e.w.Fatalf("read %d bytes and %v, want %d and the end", n, err, want)
	}
}

// again checks that a read has to wait.
func (e *end) again() {
	e.w.Helper()
	if n, err := e.Read(make([]byte, 100)); n != 0 || err != driver.ErrAgain {
		e.w.Fatalf("Read = %d, %v, want ErrAgain", n, err)
	}
}

// fill writes the pattern until a write has to wait, and returns how many bytes were accepted.
func (e *end) fill() int {
	e.w.Helper()
	for sent := 0; ; {
		n, err := e.Write(pattern(sent, 30_000))
		if err == driver.ErrAgain {
			return sent
		}
		e.w.must(err)
		if sent += n; sent > 1<<28 {
			e.w.Fatal("a write never waits")
		}
	}
}

// stuck fills e until nothing more is accepted although the driver has told all news, and returns
// how many bytes were accepted.
func (e *end) stuck() int {
	e.w.Helper()
	sent := e.fill()
	for quiet := 0; quiet < 5; quiet++ {
		e.w.waiting = true
		e.w.must(e.w.d.Wait(e.w.d.Now() + time.Millisecond)) // a goroutine may be at work
		e.w.waiting = false
		n, err := e.Write(pattern(sent, 30_000))
		switch {
		case err == nil:
			quiet = 0
		case err != driver.ErrAgain:
			e.w.Fatal(err)
		}
		sent += n
	}
	return sent
}

// pattern returns n bytes of an endless text, from off on. No part of the text is like the part
// beside it.
func pattern(off, n int) []byte {
	const period = 251 * 256
	if len(text) == 0 {
		for i := range 2 * period {
			text = append(text, byte(i%251+i/251%256))
		}
	}
	if n > period {
		return append(pattern(off, period), pattern(off+period, n-period)...)
	}
	off %= period
	return text[off : off+n : off+n]
}

var text []byte

// A stream is a kind of connection that carries bytes.
type stream struct {
	name   string
	pair   func(w *world) (a, b *end)
	halves bool // each direction ends by itself
	tcp    bool
}

// streams are the kinds that can be here.
var streams = []stream{
	{name: "tcp", pair: adopted("tcp", "127.0.0.1:0"), halves: true, tcp: true},
	{name: "tcp6", pair: adopted("tcp", "[::1]:0"), halves: true, tcp: true},
	{name: "tcp accepted", pair: accepted("tcp", "127.0.0.1:0"), halves: true, tcp: true},
	{name: "unix", pair: adopted("unix", ""), halves: true},
	{name: "unix accepted", pair: accepted("unix", ""), halves: true},
	{name: "tcp in a wrapper", pair: wrapped, halves: true},
	{name: "net.Pipe", pair: inMemory},
}

// onStreams runs test on each kind of stream in each poller, with the two ends of a connection.
func onStreams(t *testing.T, test func(w *world, k stream, a, b *end)) {
	for _, k := range streams {
		t.Run(k.name, func(t *testing.T) {
			inEach(t, func(w *world) {
				a, b := k.pair(w)
				test(w, k, a, b)
			})
		})
	}
}

// listen listens outside of the driver, or skips the test if the system has no such network. An
// empty address is a new file.
func (w *world) listen(network, address string) net.Listener {
	w.Helper()
	if address == "" {
		address = filepath.Join(w.TempDir(), "s")
	}
	l, err := net.Listen(network, address)
	if err != nil {
		w.Skip(err)
	}
	w.Cleanup(func() { l.Close() })
	return l
}

// connect returns the two ends of a connection of package net.
func (w *world) connect(network, address string) (a, b net.Conn) {
	w.Helper()
	l := w.listen(network, address)
	defer l.Close()
	a, err := net.Dial(l.Addr().Network(), l.Addr().String())
	w.must(err)
	b, err = l.Accept()
	w.must(err)
	return a, b
}

func adopted(network, address string) func(w *world) (a, b *end) {
	return func(w *world) (a, b *end) {
		ca, cb := w.connect(network, address)
		return w.adopt(ca), w.adopt(cb)
	}
}

func accepted(network, address string) func(w *world) (a, b *end) {
	return func(w *world) (a, b *end) {
		nl := w.listen(network, address)
		address, name := nl.Addr().Network(), nl.Addr().String()
		l := w.adoptListener(nl, true)
		c, err := net.Dial(address, name)
		w.must(err)
		a, b = w.adopt(c), l.accept()
		w.must(l.Close())
		return a, b
	}
}

// wrapped hides the descriptors from the driver.
func wrapped(w *world) (a, b *end) {
	ca, cb := w.connect("tcp", "127.0.0.1:0")
	type both interface {
		net.Conn
		CloseWrite() error
		CloseRead() error
	}
	return w.adopt(struct{ both }{ca.(both)}), w.adopt(struct{ both }{cb.(both)})
}

func inMemory(w *world) (a, b *end) {
	ca, cb := net.Pipe()
	return w.adopt(ca), w.adopt(cb)
}

// A listening is a listener with its notifier.
type listening struct {
	driver.Listener
	told
}

func (w *world) adoptListener(nl net.Listener, named bool) *listening {
	w.Helper()
	l, err := w.d.AdoptListener(nl, named)
	w.must(err)
	x := &listening{Listener: l, told: told{w: w}}
	x.Notify(&x.told)
	return x
}

func (l *listening) Close() error {
	err := l.Listener.Close()
	l.closed = true
	return err
}

// accept accepts a connection. It tries again only when it is told to (endpoint 1).
func (l *listening) accept() *end {
	l.w.Helper()
	e, err := l.tryAccept()
	l.w.must(err)
	return l.w.end(e)
}

func (l *listening) tryAccept() (driver.Endpoint, error) {
	l.w.Helper()
	for {
		before := l.reads
		e, err := l.Accept()
		if err != driver.ErrAgain {
			return e, err
		}
		l.w.until("a connection", func() bool { return l.reads > before })
	}
}
