package driver_test

import (
	"errors"
	"io"
	"net"
	"syscall"
	"testing"

	"github.com/goasyncio/asyncio/internal/driver"
)

// An operation that has to wait has done nothing, and Ready comes when it is worthwhile (endpoint
// 1, endpoint 3). A wait that is given up loses nothing (portable 1).
func TestStream_Waits(t *testing.T) {
	onStreams(t, func(w *world, k stream, a, b *end) {
		p := make([]byte, 100)
		for range 30 {
			b.again()
			b.again()
			before := b.reads
			a.send([]byte("hello"))
			w.until("Ready to read", func() bool { return b.reads > before })
			if n, err := b.Read(p[:2]); string(p[:n]) != "he" || err != nil {
				w.Fatalf("Read = %q, %v", p[:n], err)
			}
			b.expect([]byte("llo"))
		}
		if n, err := b.Read(nil); n != 0 || err != nil && err != driver.ErrAgain {
			w.Errorf("a read into nothing: %d, %v", n, err)
		}
		if n, err := a.write(nil); n != 0 || err != nil {
			w.Errorf("a write of nothing: %d, %v", n, err)
		}
	})
}

// Both ends write and read at once. A wait in one direction is not taken for one in the other.
func TestStream_BothDirections(t *testing.T) {
	onStreams(t, func(w *world, k stream, a, b *end) {
		for i := range 30 {
			a.again()
			b.again()
			a.send(pattern(i, 1000))
			b.send(pattern(i+1, 1000))
			a.expect(pattern(i+1, 1000))
			b.expect(pattern(i, 1000))
		}
	})
}

// A write that found no room is told when there is some (epoll 3), and every accepted byte arrives,
// in order (portable 2).
func TestStream_Full(t *testing.T) {
	onStreams(t, func(w *world, k stream, a, b *end) {
		for range 3 {
			sent := a.stuck()
			before := a.writes
			b.expect(pattern(0, sent))
			w.until("Ready to write", func() bool { return a.writes > before })
			a.send([]byte("more"))
			b.expect([]byte("more"))
		}
	})
}

// The last byte and the end of the stream may be one edge: a read that does not fill its buffer has
// not found out about the end (epoll 2). Every read at the end returns the same.
func TestStream_End(t *testing.T) {
	for _, told := range []string{"of each", "of both at once"} {
		t.Run(told, func(t *testing.T) {
			onStreams(t, func(w *world, k stream, a, b *end) {
				b.again()
				a.send([]byte("last"))
				if told == "of each" {
					w.until("the last byte", func() bool { return b.reads > 0 })
				}
				if k.halves {
					w.must(a.CloseWrite())
				} else {
					w.must(a.Close())
				}
				p := make([]byte, 100) // which the last bytes do not fill
				for got := 0; got < 4; {
					n, err := b.read(p)
					w.must(err)
					got += n
				}
				for range 3 {
					b.ends(0, 0)
				}
				if n, err := b.Read(make([]byte, 9)); n != 0 || err != io.EOF {
					w.Errorf("Read = %d, %v at the end", n, err)
				}
			})
		})
	}
}

// A write that waits fails when CloseWrite is called: there need not be a reader. Once a direction
// has ended the other still carries bytes. Accepted bytes come before the end (portable 3).
func TestStream_HalfClose(t *testing.T) {
	onStreams(t, func(w *world, k stream, a, b *end) {
		sent := a.stuck()
		before := a.writes
		err := a.CloseWrite()
		if !k.halves {
			// it is refused also while bytes are under way
			w.is("CloseWrite", err, driver.ErrSockets)
			b.expect(pattern(0, sent))
			w.is("CloseWrite", a.CloseWrite(), driver.ErrSockets)
			w.is("CloseRead", a.CloseRead(), driver.ErrSockets)
			a.send([]byte("more"))
			b.expect([]byte("more"))
			return
		}
		w.must(err)
		w.must(a.CloseWrite())
		w.until("Ready for the write that waits", func() bool { return a.writes > before })
		_, err = a.write([]byte("x"))
		w.is("Write after CloseWrite", err, syscall.EPIPE)
		b.ends(0, sent)
		b.send([]byte("the other way"))
		a.expect([]byte("the other way"))
		_, err = a.Write([]byte("x"))
		w.is("Write after CloseWrite", err, syscall.EPIPE)
		w.must(b.CloseWrite())
		a.ends(0, 0)
	})
}

// What CloseWrite has to tell is not told after Close (endpoint 4).
func TestStream_CloseWriteAndClose(t *testing.T) {
	onStreams(t, func(w *world, k stream, a, b *end) {
		a.stuck()
		_ = a.CloseWrite()
		w.must(a.Close())
		w.poll()
	})
}

// CloseRead ends a read that waits, and later ones.
func TestStream_CloseRead(t *testing.T) {
	onStreams(t, func(w *world, k stream, a, b *end) {
		if !k.halves {
			w.is("CloseRead", b.CloseRead(), driver.ErrSockets)
			return
		}
		b.again()
		before := b.reads
		w.must(b.CloseRead())
		w.until("Ready to read", func() bool { return b.reads > before })
		b.ends(0, 0)
		b.send([]byte("the other way"))
		a.expect([]byte("the other way"))
		if k.name == "unix" { // TCP has no message that refuses bytes
			for err := error(nil); err == nil; {
				if _, err = a.write([]byte("x")); err != nil {
					w.is("Write", err, syscall.EPIPE)
				}
			}
		}
	})
}

// A reset is readiness in both directions: each side that waits gets an error from its own attempt
// (epoll 4), and no later attempt waits.
func TestStream_Reset(t *testing.T) {
	onStreams(t, func(w *world, k stream, a, b *end) {
		if !k.tcp {
			w.Skip("it has no reset")
		}
		b.again()
		b.stuck()
		reads, writes := b.reads, b.writes
		w.must(a.Abort())
		w.until("Ready in both directions", func() bool { return b.reads > reads && b.writes > writes })
		p := make([]byte, 100)
		_, readErr := b.read(p)
		_, writeErr := b.write(p)
		for writeErr == nil { // it may come one write late (portable 2)
			_, writeErr = b.write(p)
		}
		if readErr == nil || writeErr == nil || !errors.Is(readErr, syscall.ECONNRESET) && !errors.Is(writeErr, syscall.ECONNRESET) {
			w.Errorf("after a reset: Read %v, Write %v", readErr, writeErr)
		}
		for range 3 {
			if _, err := b.Read(p); err == nil || err == driver.ErrAgain {
				w.Errorf("Read: %v", err)
			}
			if _, err := b.Write(p); err == nil || err == driver.ErrAgain {
				w.Errorf("Write: %v", err)
			}
		}
	})
}

// A writer that waits learns that its peer has gone.
func TestStream_PeerGone(t *testing.T) {
	onStreams(t, func(w *world, k stream, a, b *end) {
		b.again()
		b.stuck()
		w.must(a.Close()) // with bytes that it has not read
		for err := error(nil); err == nil; {
			_, err = b.write([]byte("x"))
		}
		if _, err := b.rest(0); err == nil {
			w.Error("the stream has no end")
		}
	})
}

// After Close no Ready comes, and every operation returns net.ErrClosed. Close may be called again
// (endpoint 4).
func TestStream_CloseWhileWaiting(t *testing.T) {
	onStreams(t, func(w *world, k stream, a, b *end) {
		other, witness := adopted("tcp", "127.0.0.1:0")(w)
		b.again()
		b.stuck()
		w.must(b.Close())
		w.must(b.Close())
		for what, op := range map[string]func() error{
			"Read":         func() error { _, err := b.Read(make([]byte, 1)); return err },
			"Write":        func() error { _, err := b.Write(make([]byte, 1)); return err },
			"CloseRead":    b.CloseRead,
			"CloseWrite":   b.CloseWrite,
			"Detach":       func() error { _, err := b.Detach(); return err },
			"SyscallConn":  func() error { _, err := b.SyscallConn(); return err },
			"SetOption":    func() error { return b.SetOption(driver.ReadBuffer, 10_000) },
			"other option": func() error { return b.SetOption(driver.Option(99), 1) },
		} {
			w.is(what+" after Close", op(), net.ErrClosed)
		}
		if b.LocalAddr() == nil || b.RemoteAddr() == nil {
			w.Error("no address after Close")
		}
		// What would make b ready, and then news of another connection.
		_, _ = a.Write([]byte("x"))
		w.must(a.Abort())
		witness.again()
		other.send([]byte("x"))
		witness.expect([]byte("x"))
		w.must(b.Abort())
		w.must(b.Close())
	})
}

// Accepted bytes arrive although the connection was closed (portable 3).
func TestStream_CloseDelivers(t *testing.T) {
	onStreams(t, func(w *world, k stream, a, b *end) {
		sent := a.stuck()
		w.must(a.Close())
		b.ends(0, sent)
	})
}

// Abort does not deliver the unsent bytes, even after Close. The peer of a TCP connection sees a
// reset.
func TestStream_Abort(t *testing.T) {
	for _, closed := range []bool{false, true} {
		t.Run(map[bool]string{false: "open", true: "closed"}[closed], func(t *testing.T) {
			onStreams(t, func(w *world, k stream, a, b *end) {
				sent := a.stuck()
				if closed {
					w.must(a.Close())
				}
				w.must(a.Abort())
				w.must(a.Abort())
				n, err := b.rest(0)
				switch {
				case closed && w.kernel: // the kernel has them already
				case k.tcp && !errors.Is(err, syscall.ECONNRESET):
					w.Errorf("the peer sees %v", err)
				case !w.kernel && k.tcp && n >= sent:
					w.Errorf("all %d bytes arrived", n)
				}
			})
		})
	}
}

// The addresses are those of the connection.
func TestStream_Addresses(t *testing.T) {
	for _, k := range []stream{{name: "tcp"}, {name: "unix"}} {
		t.Run(k.name, func(t *testing.T) {
			inEach(t, func(w *world) {
				ca, cb := w.connect(k.name, map[string]string{"tcp": "127.0.0.1:0"}[k.name])
				want := []net.Addr{ca.LocalAddr(), ca.RemoteAddr(), cb.LocalAddr(), cb.RemoteAddr()}
				a, b := w.adopt(ca), w.adopt(cb)
				for i, got := range []net.Addr{a.LocalAddr(), a.RemoteAddr(), b.LocalAddr(), b.RemoteAddr()} {
					if got.String() != want[i].String() || got.Network() != want[i].Network() {
						w.Errorf("address %d: %v, want %v", i, got, want[i])
					}
				}
			})
		})
	}
}

// Closing the driver closes the endpoints that are left (endpoint 5), whatever they are doing, and
// a closed driver adopts nothing.
func TestStream_DriverCloses(t *testing.T) {
	inEach(t, func(w *world) {
		ca, peer := w.connect("tcp", "127.0.0.1:0")
		defer peer.Close()
		a := w.adopt(ca)
		nl := w.listen("tcp", "127.0.0.1:0")
		l := w.adoptListener(nl, false)
		if _, err := l.Accept(); err != driver.ErrAgain {
			w.Fatal(err)
		}
		u, err := net.ListenPacket("udp", "127.0.0.1:0")
		w.must(err)
		pc, err := w.d.AdoptPacketConn(u)
		w.must(err)
		pc.Notify(&told{w: w})
		if _, _, err := pc.ReadFrom(make([]byte, 9)); err != driver.ErrAgain {
			w.Fatal(err)
		}
		a.again()
		a.send([]byte("accepted"))
		a.closed, l.closed = true, true
		w.must(w.d.Close())
		w.must(w.d.Close())
		if got, err := io.ReadAll(peer); string(got) != "accepted" || err != nil {
			w.Errorf("the peer reads %q, %v", got, err)
		}
		_, err = a.Read(make([]byte, 1))
		w.is("Read", err, net.ErrClosed)
		_, err = l.Accept()
		w.is("Accept", err, net.ErrClosed)
		_, _, err = pc.ReadFrom(make([]byte, 9))
		w.is("ReadFrom", err, net.ErrClosed)
		w.poll()

		ca, cb := w.connect("tcp", "127.0.0.1:0")
		defer cb.Close()
		_, err = w.d.Adopt(ca)
		w.is("Adopt", err, net.ErrClosed)
		_, err = ca.Write([]byte("x"))
		w.is("a connection that was not adopted", err, net.ErrClosed)
		ca, cb = net.Pipe()
		_, err = w.d.Adopt(ca)
		w.is("Adopt", err, net.ErrClosed)
		_, err = cb.Read([]byte("x"))
		w.is("the peer of a connection that was not adopted", err, io.EOF)
		nl = w.listen("tcp", "127.0.0.1:0")
		_, err = w.d.AdoptListener(nl, false)
		w.is("AdoptListener", err, net.ErrClosed)
		_, err = nl.Accept()
		w.is("a listener that was not adopted", err, net.ErrClosed)
		u, err = net.ListenPacket("udp", "127.0.0.1:0")
		w.must(err)
		_, err = w.d.AdoptPacketConn(u)
		w.is("AdoptPacketConn", err, net.ErrClosed)
		w.is("a socket that was not adopted", u.Close(), net.ErrClosed)
	})
}
