package driver_test

import (
	"io"
	"net"
	"testing"
	"time"

	"github.com/goasyncio/asyncio/internal/driver"
)

// A goroutine and the loop use one socket by turns (share 1).
func TestStream_Share(t *testing.T) {
	onStreams(t, func(w *world, k stream, a, b *end) {
		s, ok := a.Endpoint.(driver.Sharer)
		if want := w.kernel && (k.tcp || k.name == "unix" || k.name == "unix accepted"); ok != want {
			t.Fatalf("is a Sharer: %v, want %v", ok, want)
		}
		if !ok {
			return
		}
		a.again()
		c, err := s.Share()
		w.must(err)
		defer c.Close()
		w.must(c.SetDeadline(time.Now().Add(patience)))

		for range 3 {
			// The goroutine's turn: nothing of it reaches the loop.
			w.poll()
			calls := a.calls
			b.send([]byte("for a goroutine"))
			got := make([]byte, len("for a goroutine"))
			_, err = io.ReadFull(c, got)
			w.must(err)
			if string(got) != "for a goroutine" {
				w.Errorf("the goroutine read %q", got)
			}
			w.poll()
			if a.calls != calls {
				w.Errorf("%d calls of Ready for what a goroutine has read", a.calls-calls)
			}
			_, err = c.Write([]byte("from a goroutine"))
			w.must(err)
			b.expect([]byte("from a goroutine"))

			// The loop's: it finds what is there, and is told of what comes.
			b.send([]byte("early"))
			a.expect([]byte("early"))
			a.again()
			b.send([]byte("late"))
			a.expect([]byte("late"))

			c.Close()
			c, err = s.Share() // for the goroutine's next turn
			w.must(err)
			w.must(c.SetDeadline(time.Now().Add(patience)))
		}

		// Each side closes its own.
		w.must(a.Close())
		_, err = c.Write([]byte("still open"))
		w.must(err)
		b.expect([]byte("still open"))
		w.must(c.Close())
		b.ends(0, 0)
		_, err = s.Share()
		w.is("Share after Close", err, net.ErrClosed)
	})
}

// A connection of package net gets an endpoint beside it.
func TestShare_OfANetConn(t *testing.T) {
	inEach(t, func(w *world) {
		c, peer := w.connect("tcp", "127.0.0.1:0")
		defer c.Close()
		defer peer.Close()
		e, err := w.d.Share(c)
		if !w.kernel {
			w.is("Share", err, driver.ErrSockets)
			return
		}
		w.must(err)
		a := w.end(e)
		a.again()
		_, err = peer.Write([]byte("loop"))
		w.must(err)
		a.expect([]byte("loop"))
		_, err = peer.Write([]byte("net"))
		w.must(err)
		got := make([]byte, 3)
		_, err = io.ReadFull(c, got)
		w.must(err)
		w.must(a.Close())
		_, err = c.Write([]byte("x"))
		w.must(err)
	})
}
