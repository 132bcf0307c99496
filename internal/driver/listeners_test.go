package driver_test

import (
	"io"
	"net"
	"os"
	"path/filepath"
	"testing"

	"github.com/goasyncio/asyncio/internal/driver"
)

// onListeners runs test on each kind of listener in each poller.
func onListeners(t *testing.T, test func(w *world, nl net.Listener)) {
	for _, k := range []struct{ name, network, address string }{
		{"tcp", "tcp", "127.0.0.1:0"},
		{"tcp6", "tcp", "[::1]:0"},
		{"unix", "unix", ""},
		{"in a wrapper", "tcp", "127.0.0.1:0"},
	} {
		t.Run(k.name, func(t *testing.T) {
			inEach(t, func(w *world) {
				nl := w.listen(k.network, k.address)
				if k.name == "in a wrapper" {
					nl = struct{ net.Listener }{nl}
				}
				test(w, nl)
			})
		})
	}
}

func (w *world) dial(nl net.Addr) net.Conn {
	w.Helper()
	c, err := net.Dial(nl.Network(), nl.String())
	w.must(err)
	return c
}

// An Accept that has to wait is told of a connection (endpoint 1). The accepted connection has the
// addresses and options that package net gives it.
func TestListener_Accepts(t *testing.T) {
	onListeners(t, func(w *world, nl net.Listener) {
		l := w.adoptListener(nl, false)
		for range 3 {
			if _, err := l.Accept(); err != driver.ErrAgain {
				w.Fatal(err)
			}
			if _, err := l.Accept(); err != driver.ErrAgain {
				w.Fatal(err)
			}
			c := w.dial(l.LocalAddr())
			defer c.Close()
			e := l.accept()
			if e.LocalAddr().String() != c.RemoteAddr().String() || e.LocalAddr().Network() != nl.Addr().Network() {
				w.Errorf("LocalAddr %v, want %v", e.LocalAddr(), c.RemoteAddr())
			}
			// a Unix socket that was not bound has no name
			if _, is := c.(*net.TCPConn); is && e.RemoteAddr().String() != c.LocalAddr().String() {
				w.Errorf("RemoteAddr %v, want %v", e.RemoteAddr(), c.LocalAddr())
			}
			if e.RemoteAddr().Network() != nl.Addr().Network() {
				w.Errorf("RemoteAddr is of %v", e.RemoteAddr().Network())
			}
			_, err := c.Write([]byte("hello"))
			w.must(err)
			e.expect([]byte("hello"))
			e.send([]byte("you"))
			got := make([]byte, 3)
			_, err = io.ReadFull(c, got)
			w.must(err)
			w.must(e.Close())
		}
		w.must(l.Close())
		w.must(l.Close())
		_, err := l.Accept()
		w.is("Accept after Close", err, net.ErrClosed)
		_, err = l.SyscallConn()
		w.is("SyscallConn after Close", err, net.ErrClosed)
	})
}

// The name of an unnamed peer is the same in both pollers, because it is package net's.
func TestListener_UnnamedPeer(t *testing.T) {
	inEach(t, func(w *world) {
		nl := w.listen("unix", "")
		c := w.dial(nl.Addr())
		defer c.Close()
		s, err := nl.Accept()
		w.must(err)
		want := s.RemoteAddr().String()
		s.Close()
		l := w.adoptListener(nl, false)
		c2 := w.dial(nl.Addr())
		defer c2.Close()
		if e := l.accept(); e.RemoteAddr().String() != want {
			w.Errorf("%q, package net has %q", e.RemoteAddr(), want)
		}
	})
}

// Many connections that came before the first Accept are one edge.
func TestListener_ManyPending(t *testing.T) {
	onListeners(t, func(w *world, nl net.Listener) {
		l := w.adoptListener(nl, false)
		if _, err := l.Accept(); err != driver.ErrAgain {
			w.Fatal(err)
		}
		const many = 50
		for i := range many {
			c := w.dial(l.LocalAddr())
			defer c.Close()
			_, err := c.Write([]byte{byte(i)})
			w.must(err)
		}
		seen := make(map[byte]bool)
		for range many {
			e := l.accept()
			p := make([]byte, 1)
			_, err := e.read(p)
			w.must(err)
			seen[p[0]] = true
			w.must(e.Close())
		}
		if len(seen) != many {
			w.Errorf("%d different connections, want %d", len(seen), many)
		}
		if _, err := l.Accept(); err != driver.ErrAgain {
			w.Errorf("one more: %v", err)
		}
	})
}

// A peer that gave up before it was accepted does not stop the listener.
func TestListener_PeerGaveUp(t *testing.T) {
	inEach(t, func(w *world) {
		nl := w.listen("tcp", "127.0.0.1:0")
		l := w.adoptListener(nl, false)
		if _, err := l.Accept(); err != driver.ErrAgain {
			w.Fatal(err)
		}
		c := w.dial(l.LocalAddr())
		w.must(c.(*net.TCPConn).SetLinger(0))
		w.must(c.Close())
		c = w.dial(l.LocalAddr())
		defer c.Close()
		_, err := c.Write([]byte("x"))
		w.must(err)
		for got := 0; got == 0; {
			e := l.accept()
			got, _ = e.read(make([]byte, 1))
			w.must(e.Close())
		}
	})
}

// Connections that were accepted ahead, or not at all, end with the listener.
func TestListener_CloseWithPending(t *testing.T) {
	onListeners(t, func(w *world, nl net.Listener) {
		l := w.adoptListener(nl, false)
		if _, err := l.Accept(); err != driver.ErrAgain {
			w.Fatal(err)
		}
		var all []net.Conn
		for range 5 {
			c := w.dial(l.LocalAddr())
			defer c.Close()
			all = append(all, c)
		}
		w.until("a connection", func() bool { return l.reads > 0 })
		w.must(l.Close())
		for _, c := range all {
			if _, err := c.Read(make([]byte, 1)); err == nil {
				w.Error("a connection that was not accepted is alive")
			}
		}
		w.poll()
	})
}

// The file of a Unix socket goes with its listener, but only if it belongs to the program and is
// still this listener's.
func TestListener_File(t *testing.T) {
	exists := func(name string) bool {
		_, err := os.Lstat(name)
		return err == nil
	}
	for what, test := range map[string]struct {
		named, replaced, viaDriver bool
		left                       bool
	}{
		"its own":                        {named: true},
		"its own, closed by the driver":  {named: true, viaDriver: true},
		"somebody else's":                {left: true},
		"replaced":                       {named: true, replaced: true, left: true},
		"replaced, closed by the driver": {named: true, replaced: true, viaDriver: true, left: true},
	} {
		t.Run(what, func(t *testing.T) {
			inEach(t, func(w *world) {
				name := filepath.Join(w.TempDir(), "s")
				l := w.adoptListener(w.listen("unix", name), test.named)
				if !exists(name) {
					w.Fatal("no file")
				}
				if test.replaced {
					w.must(driver.RemoveStale(name))
					w.must(driver.RemoveStale(name))
					other := w.listen("unix", name)
					other.(*net.UnixListener).SetUnlinkOnClose(false)
				}
				if test.viaDriver {
					l.closed = true
					w.must(w.d.Close())
				} else {
					w.must(l.Close())
				}
				if exists(name) != test.left {
					w.Errorf("the file exists: %v", !test.left)
				}
			})
		})
	}
}

// RemoveStale removes sockets only.
func TestRemoveStale(t *testing.T) {
	dir := t.TempDir()
	plain := filepath.Join(dir, "plain")
	if err := os.WriteFile(plain, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{plain, dir, filepath.Join(dir, "missing"), "", "@kernel", "\x00kernel"} {
		if err := driver.RemoveStale(name); err != nil {
			t.Errorf("%q: %v", name, err)
		}
	}
	if _, err := os.Stat(plain); err != nil {
		t.Error(err)
	}
}
