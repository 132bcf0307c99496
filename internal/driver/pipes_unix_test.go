//go:build linux || darwin || freebsd

package driver_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"

	"github.com/goasyncio/asyncio/internal/driver"
	"github.com/goasyncio/asyncio/internal/leaktest"
)

// openPipe makes a pipe of the driver's.
func (w *world) openPipe(read bool) (*end, *os.File) {
	w.Helper()
	e, theirs, err := w.d.OpenPipe(read)
	w.must(err)
	w.Cleanup(func() { theirs.Close() })
	return w.end(e), theirs
}

// A pipe carries bytes in one direction, up to its end. Neither end is for a child that is not
// given it.
func TestPipe_Reads(t *testing.T) {
	inEach(t, func(w *world) {
		e, theirs := w.openPipe(true)
		if flags, _, errno := syscall.Syscall(syscall.SYS_FCNTL, theirs.Fd(), syscall.F_GETFD, 0); errno != 0 || flags&syscall.FD_CLOEXEC == 0 {
			w.Errorf("their end has the flags %d, %v", flags, errno)
		}
		if e.LocalAddr().Network() != "pipe" || e.RemoteAddr().String() != "pipe" {
			w.Errorf("addresses %v, %v", e.LocalAddr(), e.RemoteAddr())
		}
		for i := range 5 {
			e.again()
			_, err := theirs.Write(pattern(i, 5000))
			w.must(err)
			e.expect(pattern(i, 5000))
		}
		_, err := e.write([]byte("x"))
		for err == nil { // perhaps one write late (portable 2)
			_, err = e.write([]byte("x"))
		}
		w.is("CloseWrite", e.CloseWrite(), driver.ErrSockets)
		w.is("SetOption", e.SetOption(driver.ReadBuffer, 1000), driver.ErrSockets)
		e.again()
		_, err = theirs.Write([]byte("last"))
		w.must(err)
		w.must(theirs.Close())
		e.expect([]byte("last"))
		for range 3 {
			e.ends(0, 0)
		}
		w.must(e.Close())
		_, err = e.Read(make([]byte, 1))
		if !errors.Is(err, net.ErrClosed) && err != io.EOF { // the descriptor went at the end
			w.Errorf("Read after Close: %v", err)
		}
	})
}

// A writer that waits is told of room, and that nobody reads any more.
func TestPipe_Writes(t *testing.T) {
	inEach(t, func(w *world) {
		e, theirs := w.openPipe(false)
		if _, err := e.read(make([]byte, 1)); err == nil {
			w.Error("a read from the end that writes")
		}
		sent := e.stuck()
		before := e.writes
		got := make([]byte, sent)
		_, err := io.ReadFull(theirs, got)
		w.must(err)
		if !bytes.Equal(got, pattern(0, sent)) {
			w.Error("read other bytes than were written")
		}
		w.until("Ready to write", func() bool { return e.writes > before })
		e.stuck()
		before = e.writes
		w.must(theirs.Close())
		w.until("Ready to write", func() bool { return e.writes > before })
		for range 3 {
			err := error(nil)
			for i := 0; err == nil && i < 3; i++ {
				_, err = e.write([]byte("x"))
			}
			w.is("Write without a reader", err, syscall.EPIPE)
		}
	})
}

// The accepted bytes come before the end of a pipe (portable 3), by CloseWrite and by Close.
func TestPipe_CloseWrite(t *testing.T) {
	for _, how := range []string{"CloseWrite", "Close"} {
		t.Run(how, func(t *testing.T) {
			inEach(t, func(w *world) {
				e, theirs := w.openPipe(false)
				sent := e.stuck()
				if how == "Close" {
					w.must(e.Close())
				} else {
					w.must(e.CloseWrite())
				}
				if got, err := io.ReadAll(theirs); !bytes.Equal(got, pattern(0, sent)) || err != nil {
					w.Errorf("read %d bytes, %v, want %d", len(got), err, sent)
				}
				_, err := e.Write([]byte("x"))
				if err == nil || err == driver.ErrAgain {
					w.Errorf("Write: %v", err)
				}
			})
		})
	}
}

// Shed takes out what has come and gives the descriptor back once there is no writer. Reads return
// the same as before.
func TestPipe_Shed(t *testing.T) {
	for _, size := range []int{0, 5, 511, 512, 513, 5000, 64 << 10} {
		inEach(t, func(w *world) {
			before := leaktest.Descriptors()
			e, theirs := w.openPipe(true)
			s := e.Endpoint.(driver.Shedder)
			_, err := theirs.Write(pattern(0, size))
			w.must(err)
			if s.Shed() && size < 64<<10 {
				w.Error("shed although there is a writer")
			}
			w.must(theirs.Close())
			if size < 64<<10 {
				w.until("the end", s.Shed)
				if got := leaktest.Descriptors(); got > before {
					w.Errorf("%d descriptors before, %d after", before, got)
				}
			}
			e.ends(0, size)
			e.ends(0, 0)
			if got := leaktest.Descriptors(); got > before {
				w.Errorf("%d descriptors at the end, %d before", got, before)
			}
		})
	}
}

// An endpoint at which a goroutine or the poller waits is shed too, and goes on being read.
func TestPipe_ShedWhileWaiting(t *testing.T) {
	inEach(t, func(w *world) {
		e, theirs := w.openPipe(true)
		s := e.Endpoint.(driver.Shedder)
		e.again()
		if s.Shed() {
			w.Error("shed although there is a writer")
		}
		_, err := theirs.Write(pattern(0, 1000))
		w.must(err)
		e.expect(pattern(0, 1000))
		e.again()
		w.must(theirs.Close())
		w.until("the end", s.Shed)
		e.ends(0, 0)
		w.must(e.Close())
	})
}

// A writing endpoint is shed once nobody reads.
func TestPipe_ShedWriter(t *testing.T) {
	inEach(t, func(w *world) {
		e, theirs := w.openPipe(false)
		s, ok := e.Endpoint.(driver.Shedder)
		if !ok {
			w.Fatal("no Shedder")
		}
		w.poll()
		reads := e.reads
		w.must(theirs.Close())
		if !w.kernel { // nothing tells, and nothing is shed
			if s.Shed() {
				w.Error("shed")
			}
			return
		}
		w.until("Ready to read", func() bool { return e.reads > reads })
		if !s.Shed() {
			w.Error("not shed")
		}
		_, err := e.Write([]byte("x"))
		w.is("Write", err, syscall.EPIPE)
	})
}
