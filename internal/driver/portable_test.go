package driver_test

import (
	"io"
	"net"
	"os"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/goasyncio/asyncio/internal/driver"
)

// An odd connection does what its functions do, and otherwise nothing until it is closed. All
// methods of its kinds are here: of a connection, a listener and a socket for datagrams.
type odd struct {
	read, write, accept, from, to func() error
	deadline                      func(time.Time)

	once   sync.Once
	closed chan struct{}
}

func newOdd() *odd { return &odd{closed: make(chan struct{})} }

func (o *odd) do(op func() error) error {
	if op != nil {
		return op()
	}
	<-o.closed
	return net.ErrClosed
}

func (o *odd) Read(p []byte) (int, error)                       { return 0, o.do(o.read) }
func (o *odd) Write(p []byte) (int, error)                      { return 0, o.do(o.write) }
func (o *odd) Accept() (net.Conn, error)                        { return nil, o.do(o.accept) }
func (o *odd) ReadFrom(p []byte) (int, net.Addr, error)         { return 0, nil, o.do(o.from) }
func (o *odd) WriteTo(p []byte, to net.Addr) (n int, err error) { return 0, o.do(o.to) }

func (o *odd) Close() error {
	o.once.Do(func() { close(o.closed) })
	return nil
}

func (o *odd) LocalAddr() net.Addr  { return &net.TCPAddr{} }
func (o *odd) RemoteAddr() net.Addr { return &net.TCPAddr{} }
func (o *odd) Addr() net.Addr       { return &net.TCPAddr{} }

func (o *odd) SetDeadline(t time.Time) error     { return o.SetWriteDeadline(t) }
func (o *odd) SetReadDeadline(t time.Time) error { return nil }

func (o *odd) SetWriteDeadline(t time.Time) error {
	if o.deadline != nil {
		o.deadline(t)
	}
	return nil
}

// isClosed reports whether Close was called.
func (o *odd) isClosed() bool {
	select {
	case <-o.closed:
		return true
	default:
		return false
	}
}

// conn, listener and packets show one of its kinds.
func (o *odd) conn() net.Conn          { return struct{ net.Conn }{o} }
func (o *odd) listener() net.Listener  { return struct{ net.Listener }{o} }
func (o *odd) packets() net.PacketConn { return struct{ net.PacketConn }{o} }

// inBoth runs test in each poller with an odd connection, which no poller of the system takes.
func inBoth(t *testing.T, test func(w *world, o *odd)) {
	inEach(t, func(w *world) { test(w, newOdd()) })
}

func goexit() error { runtime.Goexit(); return nil }

// What exits the goroutine that calls it has failed with ErrGoexit (portable 6). Whoever waits is
// told, and the driver can be closed.
func TestPortable_Goexit(t *testing.T) {
	for what, test := range map[string]func(w *world, o *odd) error{
		"Read": func(w *world, o *odd) error {
			o.read = goexit
			_, err := w.adopt(o.conn()).read(make([]byte, 1))
			return err
		},
		"Write": func(w *world, o *odd) error {
			o.write = goexit
			e := w.adopt(o.conn())
			for {
				if _, err := e.write(make([]byte, 1<<16)); err != nil {
					return err
				}
			}
		},
		"Accept": func(w *world, o *odd) error {
			o.accept = goexit
			_, err := w.adoptListener(o.listener(), false).tryAccept()
			return err
		},
		"ReadFrom": func(w *world, o *odd) error {
			o.from = goexit
			_, _, err := w.packetEnd(o.packets()).receive(make([]byte, 1))
			return err
		},
		"WriteTo": func(w *world, o *odd) error {
			o.to = goexit
			e := w.packetEnd(o.packets())
			for {
				if err := e.send(make([]byte, 1), o.LocalAddr()); err != nil {
					return err
				}
			}
		},
	} {
		t.Run(what, func(t *testing.T) {
			inBoth(t, func(w *world, o *odd) {
				w.is(what, test(w, o), driver.ErrGoexit)
			})
		})
	}
}

// Closing the driver gives the accepted bytes lingerLimit, and then gives them up (portable 3).
func TestPortable_Lingers(t *testing.T) {
	for what, use := range map[string]func(w *world, o *odd){
		"an open connection": func(w *world, o *odd) {
			e := w.adopt(o.conn())
			e.send([]byte("accepted"))
			e.closed = true
		},
		"a closed connection": func(w *world, o *odd) {
			e := w.adopt(o.conn())
			e.send([]byte("accepted"))
			w.must(e.Close())
		},
		"an open socket for datagrams": func(w *world, o *odd) {
			e := w.packetEnd(o.packets())
			w.must(e.send([]byte("accepted"), o.LocalAddr()))
			e.closed = true
		},
		"a closed socket for datagrams": func(w *world, o *odd) {
			e := w.packetEnd(o.packets())
			w.must(e.send([]byte("accepted"), o.LocalAddr()))
			w.must(e.Close())
		},
	} {
		t.Run(what, func(t *testing.T) {
			inBoth(t, func(w *world, o *odd) {
				over := make(chan struct{})
				var left time.Duration
				o.deadline = func(at time.Time) {
					left = time.Until(at)
					close(over)
				}
				o.write = func() error { <-over; return os.ErrDeadlineExceeded }
				o.to = o.write
				use(w, o)
				closed := make(chan error)
				go func() { closed <- w.d.Close() }()
				select {
				case err := <-closed:
					w.must(err)
				case <-time.After(patience):
					close(over)
					w.Fatal("Close does not return")
				}
				if left <= driver.LingerLimit/2 || left > driver.LingerLimit {
					w.Errorf("the bytes had %v", left)
				}
				if !o.isClosed() {
					w.Error("it is open")
				}
			})
		})
	}
}

// A goroutine that reads nothing and meets no error tries again, and an error comes after the bytes
// that came with it.
func TestPortable_ReadsAgain(t *testing.T) {
	inBoth(t, func(w *world, o *odd) {
		calls := 0
		o.read = func() error {
			if calls++; calls < 5 {
				return nil
			}
			return io.EOF
		}
		if n, err := w.adopt(o.conn()).read(make([]byte, 1)); n != 0 || err != io.EOF || calls != 5 {
			w.Errorf("Read = %d, %v after %d calls", n, err, calls)
		}
	})
}

// A write error is reported by a later write, and stays (portable 2).
func TestPortable_WriteError(t *testing.T) {
	inBoth(t, func(w *world, o *odd) {
		o.write = func() error { return syscall.EPIPE }
		e := w.adopt(o.conn())
		n, err := e.Write([]byte("x"))
		if n != 1 || err != nil {
			w.Errorf("Write = %d, %v", n, err)
		}
		w.until("the error", func() bool { return e.writes > 0 })
		for range 3 {
			_, err := e.Write([]byte("x"))
			w.is("Write", err, syscall.EPIPE)
		}
	})
}

// Close does not wait for the goroutines, and closing the driver does.
func TestPortable_CloseDoesNotWait(t *testing.T) {
	inBoth(t, func(w *world, o *odd) {
		reading := make(chan struct{})
		more := make(chan struct{})
		o.read = func() error { close(reading); <-more; return io.EOF }
		e := w.adopt(o.conn())
		e.again()
		<-reading
		w.must(e.Close())
		if !o.isClosed() {
			w.Error("it is open")
		}
		closed := make(chan error, 1)
		go func() { closed <- w.d.Close() }()
		for range 100 {
			runtime.Gosched()
		}
		select {
		case <-closed:
			w.Error("Close did not wait for the goroutine")
			close(more)
		default:
			close(more)
			w.must(<-closed)
		}
	})
}
