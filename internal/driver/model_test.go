package driver_test

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/goasyncio/asyncio/internal/driver"
)

// A queue is one direction of a connection as it must be: the bytes of the pattern that were
// accepted, and how many of them were read.
type queue struct {
	accepted, read int
	ended          bool // by CloseWrite or Close
	atEnd          bool // the reader has seen the end
	lossy          bool // the connection was broken: bytes may be missing, and errors may come
}

// A side is an end in the model.
type side struct {
	name    string
	e       *end
	out, in *queue
	closed  bool
	peer    *side
}

// A model runs a script of operations on the two ends of a connection, and compares what they do
// with two queues of bytes.
type model struct {
	w      *world
	k      stream
	sides  [2]*side
	script []byte
	log    strings.Builder
}

func newModel(w *world, k stream, script []byte) *model {
	a, b := k.pair(w)
	ab, ba := new(queue), new(queue)
	x, y := &side{name: "a", e: a, out: ab, in: ba}, &side{name: "b", e: b, out: ba, in: ab}
	x.peer, y.peer = y, x
	return &model{w: w, k: k, sides: [2]*side{x, y}, script: script}
}

// next takes a number below n from the script.
func (m *model) next(n int) int {
	if len(m.script) == 0 {
		return 0
	}
	b := m.script[0]
	m.script = m.script[1:]
	return int(b) % n
}

// sizes are those of reads and writes.
var sizes = []int{0, 1, 5, 100, 4096, 30_000, 70_000}

func (m *model) fail(format string, args ...any) {
	m.w.Helper()
	m.w.Fatalf("%s\nafter%s", fmt.Sprintf(format, args...), m.log.String())
}

// run runs the script, and then reads what is left.
func (m *model) run() {
	for len(m.script) > 0 {
		s := m.sides[m.next(2)]
		switch op := m.next(32); {
		case op < 11:
			m.write(s, sizes[m.next(len(sizes))])
		case op < 22:
			m.read(s, sizes[m.next(len(sizes))])
		case op < 28:
			m.log.WriteString(" poll")
			m.w.poll()
		case op < 30:
			m.closeWrite(s)
		case op == 30:
			m.close(s, false)
		default:
			m.close(s, true)
		}
	}
	for _, s := range m.sides {
		m.settle(s)
	}
}

func (m *model) write(s *side, size int) {
	n, err := s.e.Write(pattern(s.out.accepted, size))
	fmt.Fprintf(&m.log, " %s.Write(%d)=%d,%v", s.name, size, n, err)
	switch {
	case n < 0 || n > size || err != nil && n != 0:
		m.fail("it wrote %d, %v", n, err)
	case s.closed:
		m.w.is("Write after Close", err, net.ErrClosed)
	case err == driver.ErrAgain:
	case s.out.ended:
		if size > 0 && !s.out.lossy && !s.in.lossy && !s.peer.closed {
			m.w.is("Write after CloseWrite", err, syscall.EPIPE)
		}
	case err != nil:
		if !s.out.lossy && !s.peer.closed {
			m.fail("it failed")
		}
	default:
		if s.peer.closed && size > 0 { // the peer's answer is a reset, which loses what it sent
			s.in.lossy, s.out.lossy = true, true
		}
		s.out.accepted += n
	}
}

func (m *model) read(s *side, size int) {
	p := make([]byte, size)
	n, err := s.e.Read(p)
	fmt.Fprintf(&m.log, " %s.Read(%d)=%d,%v", s.name, size, n, err)
	m.check(s, p, n, err)
}

// check compares the result of a read with the queue.
func (m *model) check(s *side, p []byte, n int, err error) {
	m.w.Helper()
	q := s.in
	switch {
	case n < 0 || n > len(p) || err != nil && n != 0:
		m.fail("it read %d, %v", n, err)
	case s.closed:
		m.w.is("Read after Close", err, net.ErrClosed)
	case q.atEnd && len(p) > 0 && !q.lossy:
		if err != io.EOF {
			m.fail("it was at the end before")
		}
	case err == driver.ErrAgain:
	case err == io.EOF:
		if (!q.ended || q.read != q.accepted) && !q.lossy {
			m.fail("it is at the end after %d of %d bytes, and the writer has ended it: %v", q.read, q.accepted, q.ended)
		}
		q.atEnd = true
	case err != nil:
		if !q.lossy {
			m.fail("it failed")
		}
	case n == 0 && len(p) > 0:
		m.fail("it read nothing")
	case string(p[:n]) != string(pattern(q.read, n)):
		m.fail("it read other bytes than were written")
	case q.read+n > q.accepted:
		m.fail("it read %d bytes, and %d were written", q.read+n, q.accepted)
	default:
		q.read += n
	}
}

func (m *model) closeWrite(s *side) {
	err := s.e.CloseWrite()
	fmt.Fprintf(&m.log, " %s.CloseWrite()=%v", s.name, err)
	switch {
	case s.closed:
		m.w.is("CloseWrite after Close", err, net.ErrClosed)
	case !m.k.halves:
		m.w.is("CloseWrite", err, driver.ErrSockets)
	case err != nil:
		// once both directions have ended there is no connection any more
		over := s.out.ended && s.in.ended && errors.Is(err, syscall.ENOTCONN)
		if !over && !s.out.lossy && !s.peer.closed {
			m.fail("it failed")
		}
	default:
		s.out.ended = true
	}
}

// close closes or aborts one end. If bytes for it are unread, or come later, its peer may see a
// reset instead of the bytes that are under way.
func (m *model) close(s *side, abort bool) {
	fmt.Fprintf(&m.log, " %s.close(%v)", s.name, abort)
	var err error
	if abort {
		err = s.e.Abort()
	} else {
		err = s.e.Close()
	}
	m.w.must(err)
	s.closed, s.out.ended = true, true
	if abort || s.in.read < s.in.accepted {
		s.out.lossy = true
	}
	s.in.lossy = true
}

// settle reads what is left for s.
func (m *model) settle(s *side) {
	q := s.in
	m.log.WriteString(" settle")
	for !s.closed && !q.atEnd && (q.read < q.accepted || q.ended) {
		p := make([]byte, 50_000)
		n, err := s.e.read(p)
		fmt.Fprintf(&m.log, " %s.read()=%d,%v", s.name, n, err)
		m.check(s, p, n, err)
		if err != nil {
			return
		}
	}
}

// Any sequence of operations on the two ends of a connection has the effects that it has on two
// queues of bytes, on every kind of endpoint.
func TestStream_Model(t *testing.T) {
	rounds := 12
	if n, err := strconv.Atoi(os.Getenv("ASYNCIO_MODELS")); err == nil {
		rounds = n
	}
	for i, k := range streams {
		t.Run(k.name, func(t *testing.T) {
			for _, p := range pollers {
				t.Run(p.name, func(t *testing.T) {
					for round := range rounds {
						t.Run(strconv.Itoa(round), func(t *testing.T) {
							r := rand.New(rand.NewPCG(uint64(i), uint64(round)))
							script := make([]byte, 50+r.IntN(250))
							for i := range script {
								script[i] = byte(r.Uint32())
							}
							inWorld(t, p, func(w *world) { newModel(w, k, script).run() })
						})
					}
				})
			}
		})
	}
}

func FuzzStream(f *testing.F) {
	f.Add(uint8(0), []byte("0123456789"))
	f.Fuzz(func(t *testing.T, kind uint8, script []byte) {
		k := streams[int(kind)%len(streams)]
		for _, p := range pollers {
			t.Run(p.name, func(t *testing.T) {
				inWorld(t, p, func(w *world) { newModel(w, k, script[:min(len(script), 2000)]).run() })
			})
		}
	})
}
