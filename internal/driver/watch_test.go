//go:build linux || darwin || freebsd

package driver_test

import (
	"errors"
	"net"
	"os"
	"syscall"
	"testing"

	"github.com/goasyncio/asyncio/internal/driver"
)

// inKernel runs test with the system's poller. The portable one watches nothing.
func inKernel(t *testing.T, test func(w *world)) {
	inEach(t, func(w *world) {
		if !w.kernel {
			w.is("Watch", w.d.Watch(0, true, false, &told{w: w}), driver.ErrSockets)
			return
		}
		test(w)
	})
}

// pipe makes a pipe of package os, in blocking mode.
func (w *world) pipe() (r, wr *os.File) {
	w.Helper()
	r, wr, err := os.Pipe()
	w.must(err)
	w.Cleanup(func() { r.Close(); wr.Close() })
	return r, wr
}

// A watched descriptor is level-triggered: as long as it is ready, in a direction that is asked
// for, each Wait and Poll tells (epoll 9).
func TestWatch_Levels(t *testing.T) {
	inKernel(t, func(w *world) {
		r, wr := w.pipe()
		n := &told{w: w}
		w.must(w.d.Watch(r.Fd(), true, false, n))
		w.poll()
		if n.calls != 0 {
			w.Error("told of an empty pipe")
		}
		_, err := wr.Write([]byte("x"))
		w.must(err)
		for i := range 5 {
			if i%2 == 0 {
				w.wait("the byte")
			} else {
				w.poll()
			}
			if n.reads != i+1 || n.writes != 0 {
				w.Fatalf("told of %d reads and %d writes, want %d and none", n.reads, n.writes, i+1)
			}
		}
		_, err = r.Read(make([]byte, 1))
		w.must(err)
		calls := n.calls
		w.poll()
		if n.calls != calls {
			w.Error("told of a pipe that is empty again")
		}
		w.must(w.d.Watch(r.Fd(), false, false, nil))
		w.must(w.d.Watch(r.Fd(), false, false, nil))
		if w.d.Watched() != 0 {
			w.Errorf("%d descriptors are left", w.d.Watched())
		}
		_, err = wr.Write([]byte("x"))
		w.must(err)
		w.poll()
		if n.calls != calls {
			w.Error("told of a descriptor that is not watched any more")
		}
	})
}

// The directions and the notifier can be changed, and only those that are asked for are told.
func TestWatch_Directions(t *testing.T) {
	inKernel(t, func(w *world) {
		a, b := w.connect("tcp", "127.0.0.1:0")
		defer a.Close()
		defer b.Close()
		f, err := a.(*net.TCPConn).File()
		w.must(err)
		defer f.Close()
		_, err = b.Write([]byte("x"))
		w.must(err)
		for _, d := range []struct{ read, write bool }{{true, true}, {true, false}, {false, true}, {true, true}, {false, true}, {true, false}} {
			n := &told{w: w}
			w.must(w.d.Watch(f.Fd(), d.read, d.write, n))
			w.until("the news", func() bool { return (n.reads > 0 || !d.read) && (n.writes > 0 || !d.write) })
			w.poll()
			if n.reads > 0 != d.read || n.writes > 0 != d.write {
				w.Errorf("told of %d reads and %d writes, asked for %v and %v", n.reads, n.writes, d.read, d.write)
			}
		}
	})
}

// What cannot be watched is refused, and does not stay in the table.
func TestWatch_Refused(t *testing.T) {
	inKernel(t, func(w *world) {
		n := &told{w: w}
		a, _ := adopted("tcp", "127.0.0.1:0")(w)
		r, _ := w.pipe()
		closed := r.Fd()
		w.must(r.Close())
		for _, fd := range []uintptr{closed, 1 << 30, 1 << 31, ^uintptr(0)} {
			w.is("Watch", w.d.Watch(fd, true, false, n), syscall.EBADF)
			w.must(w.d.Watch(fd, false, false, n))
		}
		raw, err := a.SyscallConn()
		w.must(err)
		w.must(raw.Control(func(fd uintptr) {
			if w.d.Watch(fd, true, false, n) == nil {
				w.Error("a connection's own descriptor is watched")
			}
		}))
		if got := w.d.Watched(); got != 2 {
			w.Errorf("%d descriptors, want those of the connection", got)
		}
		if n.calls != 0 {
			w.Error("told")
		}
		w.must(w.d.Close())
		w.is("Watch on a closed driver", w.d.Watch(0, true, false, n), net.ErrClosed)
	})
}

// The owner may close a descriptor that is watched, and the number may become another file's.
func TestWatch_NumberUsedAgain(t *testing.T) {
	inKernel(t, func(w *world) {
		r, wr := w.pipe()
		old, n := &told{w: w}, &told{w: w}
		number := int(r.Fd())
		w.must(w.d.Watch(uintptr(number), true, false, old))
		w.must(r.Close())
		r2, wr2 := w.pipe()
		for int(r2.Fd()) != number { // a system gives out the lowest number that is free
			r2, wr2 = w.pipe()
		}
		w.must(w.d.Watch(uintptr(number), true, false, n))
		_, _ = wr.Write([]byte("x"))
		_, err := wr2.Write([]byte("x"))
		w.must(err)
		w.until("the byte", func() bool { return n.reads > 0 })
		if old.calls != 0 {
			w.Error("the former notifier was told")
		}
		w.must(w.d.Watch(uintptr(number), false, false, nil))

		// it may also become a connection's
		w.must(w.d.Watch(uintptr(number), true, false, old))
		w.must(r2.Close())
		var ends []*end
		for range 20 {
			a, b := adopted("tcp", "127.0.0.1:0")(w)
			ends = append(ends, a, b)
		}
		for i := 0; i < len(ends); i += 2 {
			a, b := ends[i], ends[i+1]
			b.again()
			a.send([]byte("x"))
			b.expect([]byte("x"))
		}
		if old.calls != 0 {
			w.Error("the former notifier was told")
		}
		if got := w.d.Watched(); got != len(ends) {
			w.Errorf("%d descriptors, want %d", got, len(ends))
		}
	})
}

// Watching ends also if the owner has closed the descriptor, and closing the driver leaves the
// descriptors of others open.
func TestWatch_Owner(t *testing.T) {
	inKernel(t, func(w *world) {
		r, wr := w.pipe()
		n := &told{w: w}
		w.must(w.d.Watch(r.Fd(), true, false, n))
		fd := r.Fd()
		w.must(r.Close())
		w.must(w.d.Watch(fd, false, false, n))
		if got := w.d.Watched(); got != 0 {
			w.Errorf("%d descriptors", got)
		}
		if err := w.d.Watch(wr.Fd(), true, true, n); err != nil {
			w.Fatal(err)
		}
		w.must(w.d.Close())
		if _, err := wr.Write([]byte("x")); !errors.Is(err, syscall.EPIPE) { // the reader has gone
			w.Errorf("a write to the descriptor after Close: %v", err)
		}
	})
}

// A file that is always ready is refused by Linux, and does not keep the driver in its poller.
func TestWatch_PlainFile(t *testing.T) {
	inKernel(t, func(w *world) {
		f, err := os.Create(w.TempDir() + "/f")
		w.must(err)
		defer f.Close()
		n := &told{w: w}
		if err := w.d.Watch(f.Fd(), true, true, n); err != nil {
			w.is("Watch", err, syscall.EPERM)
			if w.d.Watched() != 0 {
				w.Error("it is in the table")
			}
			return
		}
		w.until("the news", func() bool { return n.calls > 0 })
	})
}
