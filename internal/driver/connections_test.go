package driver_test

import (
	"errors"
	"io"
	"net"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/goasyncio/asyncio/internal/driver"
)

// detached checks that c is the end of a connection whose other end is peer, whose driver may be
// closed.
func (w *world) detached(c net.Conn, peer io.ReadWriter, unread string, off int) {
	w.Helper()
	w.must(c.SetDeadline(time.Now().Add(patience)))
	done := make(chan error)
	go func() {
		p := make([]byte, off+len("from c"))
		_, err := io.ReadFull(peer, p)
		if err == nil && (string(p[:off]) != string(pattern(0, off)) || string(p[off:]) != "from c") {
			err = errors.New("the peer read other bytes than were written")
		}
		if err == nil {
			_, err = peer.Write([]byte("from peer"))
		}
		done <- err
	}()
	_, err := c.Write([]byte("from c"))
	w.must(err)
	p := make([]byte, len(unread)+len("from peer"))
	n, err := io.ReadFull(c, p)
	if string(p[:n]) != unread+"from peer" || err != nil {
		w.Errorf("read %q, %v after Detach, want %q and more", p[:n], err, unread)
	}
	w.must(<-done)
}

// A detached connection is for goroutines, with everything that was under way (portable 5). Its
// endpoint is closed (endpoint 4), and its driver may be.
func TestStream_Detach(t *testing.T) {
	for _, kind := range []struct{ name, network, address string }{{"tcp", "tcp", "127.0.0.1:0"}, {"unix", "unix", ""}, {"net.Pipe", "", ""}} {
		for _, state := range []string{"idle", "waiting", "unread", "writing", "closed driver"} {
			t.Run(kind.name+"/"+state, func(t *testing.T) {
				inEach(t, func(w *world) {
					var ca, peer net.Conn
					if kind.network == "" {
						ca, peer = net.Pipe()
					} else {
						ca, peer = w.connect(kind.network, kind.address)
					}
					defer peer.Close()
					a := w.adopt(ca)
					unread, sent := "", 0
					switch state {
					case "waiting", "closed driver":
						a.again()
					case "unread":
						a.again()
						_, err := peer.Write([]byte("xunread"))
						w.must(err)
						p := make([]byte, 1)
						_, err = a.read(p)
						w.must(err)
						unread = "unread"
					case "writing":
						sent = a.stuck()
					}
					c, err := a.Detach()
					w.must(err)
					defer c.Close()
					a.closed = true
					_, err = a.Read(make([]byte, 1))
					w.is("Read", err, net.ErrClosed)
					_, err = a.Write(nil)
					w.is("Write", err, net.ErrClosed)
					_, err = a.Detach()
					w.is("Detach", err, net.ErrClosed)
					_, err = a.SyscallConn()
					w.is("SyscallConn", err, net.ErrClosed)
					w.is("CloseRead", a.CloseRead(), net.ErrClosed)
					w.is("SetOption", a.SetOption(driver.KeepAlive, 1), net.ErrClosed)
					w.must(a.Abort())
					w.must(a.Close())
					if state == "closed driver" {
						w.must(w.d.Close())
					}
					if c.LocalAddr().String() != a.LocalAddr().String() || c.RemoteAddr().String() != a.RemoteAddr().String() {
						w.Errorf("addresses %v, %v, want %v, %v", c.LocalAddr(), c.RemoteAddr(), a.LocalAddr(), a.RemoteAddr())
					}
					w.detached(c, peer, unread, sent)
					w.poll()
				})
			})
		}
	}
}

// option returns the value of an option of a socket.
type option struct{ level, name int }

// value asks the system for an option.
func (w *world) value(c syscall.Conn, o option) (value int) {
	w.Helper()
	raw, err := c.SyscallConn()
	w.must(err)
	w.must(raw.Control(func(fd uintptr) {
		if value, err = getOption(fd, o.level, o.name); err != nil {
			w.Fatal(err)
		}
	}))
	return value
}

// Options have their effect, and an unknown one is refused by every kind of endpoint.
func TestStream_Options(t *testing.T) {
	onStreams(t, func(w *world, k stream, a, b *end) {
		for _, o := range []driver.Option{200, 255} {
			if a.SetOption(o, 1) == nil {
				w.Errorf("unknown option %d is accepted", o)
			}
		}
		if !k.tcp {
			if a.SetOption(driver.NoDelay, 1) == nil {
				w.Error("NoDelay of what is no TCP connection")
			}
			return
		}
		for _, o := range []struct {
			o          driver.Option
			value      int
			is         option
			want, most int
		}{
			{driver.NoDelay, 0, noDelay, 0, 0},
			{driver.NoDelay, 1, noDelay, 1, 1 << 30},
			{driver.KeepAlive, 0, keepAlive, 0, 0},
			{driver.KeepAlive, 1, keepAlive, 1, 1 << 30},
			{driver.ReadBuffer, 20_000, readBuffer, 20_000, 40_000},
			{driver.WriteBuffer, 30_000, writeBuffer, 30_000, 60_000},
		} {
			w.must(a.SetOption(o.o, o.value))
			if runtime.GOOS == "windows" {
				continue
			}
			if got := w.value(a, o.is); got < o.want || got > o.most {
				w.Errorf("option %d is %d, want %d", o.o, got, o.want)
			}
		}
		if runtime.GOOS == "linux" {
			for i, o := range keepAlives {
				if got, want := w.value(a, o), []int{15, 15, 9}[i]; got != want {
					w.Errorf("keep-alive option %d is %d, want %d", i, got, want)
				}
			}
		}
		w.must(a.SetOption(driver.Linger, -1))
		w.must(a.SetOption(driver.Linger, 5))
		b.again()
		a.send([]byte("unread"))
		w.until("a byte", func() bool { return b.reads > 0 })
		w.must(b.SetOption(driver.Linger, 0))
		w.must(b.Close()) // which resets the connection
		if _, err := a.read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			w.Errorf("Read: %v", err)
		}
	})
}

// An accepted connection sends at once and keeps itself alive, as package net's do.
func TestListener_Options(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("Windows: no option can be read back through its descriptor here")
	}
	inEach(t, func(w *world) {
		a, b := accepted("tcp", "127.0.0.1:0")(w)
		for what, o := range map[string]option{"NoDelay": noDelay, "KeepAlive": keepAlive} {
			if w.value(a, o) == 0 || w.value(b, o) == 0 {
				w.Errorf("%s is off", what)
			}
		}
	})
}

// Options that were set survive Detach.
func TestStream_DetachKeepsOptions(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("Windows: no option can be read back through its descriptor here")
	}
	for _, value := range []int{0, 1} {
		inEach(t, func(w *world) {
			a, _ := adopted("tcp", "127.0.0.1:0")(w)
			w.must(a.SetOption(driver.NoDelay, value))
			w.must(a.SetOption(driver.KeepAlive, value))
			all := append([]option{noDelay, keepAlive}, keepAlives...)
			var want []int
			for _, o := range all {
				want = append(want, w.value(a, o))
			}
			c, err := a.Detach()
			w.must(err)
			defer c.Close()
			for i, o := range all {
				if got := w.value(c.(syscall.Conn), o); got != want[i] {
					w.Errorf("option %v is %d after Detach, was %d", o, got, want[i])
				}
			}
		})
	}
}

// Access to the descriptor does not wait, and ends with the endpoint.
func TestStream_SyscallConn(t *testing.T) {
	onStreams(t, func(w *world, k stream, a, b *end) {
		raw, err := b.SyscallConn()
		if k.name == "net.Pipe" || k.name == "tcp in a wrapper" {
			w.is("SyscallConn", err, driver.ErrSockets)
			return
		}
		w.must(err)
		b.again() // a goroutine may be reading
		called := 0
		for _, op := range []func(func(uintptr) bool) error{raw.Read, raw.Write} {
			w.must(op(func(uintptr) bool { called++; return true }))
			w.is("waiting for a descriptor", op(func(uintptr) bool { called++; return false }), errors.ErrUnsupported)
		}
		w.must(raw.Control(func(uintptr) { called++ }))
		if called != 5 {
			w.Errorf("%d calls, want 5", called)
		}
		w.must(b.Close())
		w.is("Control after Close", raw.Control(func(uintptr) { w.Error("called") }), net.ErrClosed)
		w.is("Read after Close", raw.Read(func(uintptr) bool { w.Error("called"); return true }), net.ErrClosed)
	})
}
