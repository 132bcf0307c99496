package driver_test

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/goasyncio/asyncio/internal/driver"
)

// inEpoll runs test in the kernel's poller, with the two ends of a connection.
func inEpoll(t *testing.T, network string, test func(w *world, a, b *end)) {
	inWorld(t, pollers[0], func(w *world) {
		a, b := adopted(network, map[string]string{"tcp": "127.0.0.1:0"}[network])(w)
		w.poll() // the first readiness
		a.calls, b.calls, b.reads, b.writes = 0, 0, 0, 0
		test(w, a, b)
	})
}

// A read on TCP that does not fill its buffer has taken everything: the next one is not made before
// there is an edge (epoll 1). On a Unix socket it is made, because a read stops early at a message
// with descriptors (epoll 2).
func TestEpoll_ShortRead(t *testing.T) {
	for _, network := range []string{"tcp", "unix"} {
		t.Run(network, func(t *testing.T) {
			inEpoll(t, network, func(w *world, a, b *end) {
				a.send([]byte("hello"))
				b.expect([]byte("hello")) // fills its buffer
				a.send([]byte("hello"))
				p := make([]byte, 100)
				if n, err := b.Read(p); n != 5 || err != nil {
					w.Fatalf("Read = %d, %v", n, err)
				}
				a.send([]byte("more"))
				n, err := b.Read(p)
				if network == "tcp" && err != driver.ErrAgain || network == "unix" && n != 4 {
					w.Fatalf("Read = %d, %v after a short one", n, err)
				}
				if network == "tcp" {
					b.expect([]byte("more"))
				}
			})
		})
	}
}

// A short write does not clear the flag: whether there is room again is found out by an attempt
// (epoll 3).
func TestEpoll_ShortWrite(t *testing.T) {
	inWorld(t, pollers[0], func(w *world) {
		c, peer := w.connect("unix", "")
		defer peer.Close()
		a := w.adopt(c)
		n, err := a.Write(pattern(0, 4<<20))
		if n == 0 || n == 4<<20 || err != nil {
			w.Skipf("no short write: %d, %v", n, err)
		}
		_, err = io.ReadFull(peer, make([]byte, n))
		w.must(err)
		if n, err := a.Write([]byte("more")); n != 4 || err != nil {
			w.Errorf("Write = %d, %v after a short one", n, err)
		}
	})
}

// An edge is reported once (epoll 1), and both directions are told in one call (epoll 5).
func TestEpoll_Edges(t *testing.T) {
	for _, network := range []string{"tcp", "unix"} {
		t.Run(network, func(t *testing.T) {
			inEpoll(t, network, func(w *world, a, b *end) {
				b.again()
				sent := b.stuck()
				b.calls, b.reads, b.writes = 0, 0, 0
				for got, p := 0, make([]byte, 1<<16); got < sent; {
					n, err := a.Read(p)
					if err == driver.ErrAgain {
						a.readable(w)
						continue
					}
					w.must(err)
					got += n
				}
				a.send([]byte("x"))
				b.calls, b.reads, b.writes = 0, 0, 0
				w.poll()
				if b.calls != 1 || b.reads != 1 || b.writes != 1 {
					w.Errorf("%d calls, %d reads, %d writes, want one of each", b.calls, b.reads, b.writes)
				}
				w.poll()
				if b.calls != 1 {
					w.Error("an edge was reported twice")
				}
				b.expect([]byte("x"))
			})
		})
	}
}

// readable makes the driver look for what has come, until e may be readable.
func (e *end) readable(w *world) {
	w.Helper()
	before := e.reads
	w.until("Ready to read", func() bool { return e.reads > before })
}

// A read stops early at the mark of urgent data; what is behind it has come with the same edge
// (epoll 2).
func TestEpoll_UrgentData(t *testing.T) {
	inWorld(t, pollers[0], func(w *world) {
		peer, c := w.connect("tcp", "127.0.0.1:0")
		defer peer.Close()
		b := w.adopt(c)
		for range 3 {
			b.again()
			raw, err := peer.(*net.TCPConn).SyscallConn()
			w.must(err)
			w.must(raw.Control(func(fd uintptr) {
				for _, m := range []struct {
					text  string
					flags int
				}{{"before", 0}, {"!", syscall.MSG_OOB}, {"behind", 0}} {
					w.must(syscall.Sendto(int(fd), []byte(m.text), m.flags, nil))
				}
			}))
			b.readable(w)
			p := make([]byte, 100)
			n, err := b.read(p)
			if string(p[:n]) != "before" || err != nil {
				w.Fatalf("Read = %q, %v", p[:n], err)
			}
			n, err = b.read(p)
			if string(p[:n]) != "behind" || err != nil {
				w.Fatalf("Read = %q, %v", p[:n], err)
			}
		}
	})
}

// A read on a Unix socket stops early at a message that carried descriptors (epoll 2). These are
// closed.
func TestEpoll_MessageWithDescriptors(t *testing.T) {
	inWorld(t, pollers[0], func(w *world) {
		peer, c := w.connect("unix", "")
		defer peer.Close()
		b := w.adopt(c)
		r, wr, err := os.Pipe()
		w.must(err)
		defer r.Close()
		b.again()
		u := peer.(*net.UnixConn)
		_, _, err = u.WriteMsgUnix([]byte("with"), syscall.UnixRights(int(wr.Fd())), nil)
		w.must(err)
		w.must(wr.Close())
		_, err = u.Write([]byte("behind"))
		w.must(err)
		b.readable(w)
		p := make([]byte, 100)
		for _, want := range []string{"with", "behind"} {
			if n, err := b.read(p); string(p[:n]) != want || err != nil {
				w.Fatalf("Read = %q, %v, want %q", p[:n], err, want)
			}
		}
		if _, err := r.Read(p); err != io.EOF {
			w.Errorf("the descriptor is open: %v", err)
		}
	})
}

// An error that comes without a byte, and the end that comes with the last one, are found though a
// read before stopped early (epoll 2, epoll 4).
func TestEpoll_ResetBehindBytes(t *testing.T) {
	inEpoll(t, "tcp", func(w *world, a, b *end) {
		b.again()
		a.send([]byte("last"))
		b.readable(w)
		w.must(a.Abort())
		p := make([]byte, 100)
		for err := error(nil); err == nil; {
			if _, err = b.read(p); err != nil {
				w.is("Read", err, syscall.ECONNRESET)
			}
		}
	})
}

// An event of a descriptor that was closed, but has a duplicate, is not taken for one of the
// descriptor that has its number now (epoll 6).
func TestEpoll_OldGeneration(t *testing.T) {
	inEpoll(t, "tcp", func(w *world, a, b *end) {
		spare, other := w.connect("tcp", "127.0.0.1:0")
		defer other.Close()
		var number, dup int
		raw, err := b.SyscallConn()
		w.must(err)
		w.must(raw.Control(func(fd uintptr) {
			number = int(fd)
			dup, err = syscall.Dup(number)
			w.must(err)
		}))
		defer syscall.Close(dup)
		w.must(b.Close())
		c := w.adopt(spare)
		raw, err = c.SyscallConn()
		w.must(err)
		w.must(raw.Control(func(fd uintptr) {
			if int(fd) != number {
				w.Skipf("descriptor %d, want %d again", fd, number)
			}
		}))
		w.poll()
		c.again()
		reads := c.reads
		a.send([]byte("x")) // arrives at the duplicate
		for range 10 {
			w.poll()
		}
		if c.reads != reads {
			w.Error("told of what another connection got")
		}
		_, err = other.Write([]byte("y"))
		w.must(err)
		c.expect([]byte("y"))
	})
}

// A detached connection ends no wait of the driver any more, although its descriptor lives on.
func TestEpoll_Detached(t *testing.T) {
	inEpoll(t, "tcp", func(w *world, a, b *end) {
		adopted("tcp", "127.0.0.1:0")(w) // so that the driver waits in its poller
		w.poll()
		f, err := b.Detach()
		w.must(err)
		defer f.Close()
		const rounds = 20
		waits := 0
		for range rounds {
			a.send([]byte("x"))
			until := w.d.Now() + 200*time.Microsecond
			w.waiting = true
			for ; w.d.Now() < until; waits++ {
				w.must(w.d.Wait(until))
			}
			w.waiting = false
		}
		if waits > rounds*3/2 {
			w.Errorf("waited %d times in %d rounds", waits, rounds)
		}
	})
}

// More descriptors than one look at the kernel reports are all told, and each once.
func TestEpoll_ManyReady(t *testing.T) {
	inWorld(t, pollers[0], func(w *world) {
		const many = 300 // more than the events of one look
		var as, bs []*end
		nl := w.listen("unix", "")
		for range many {
			ca, err := net.Dial("unix", nl.Addr().String())
			w.must(err)
			cb, err := nl.Accept()
			w.must(err)
			as, bs = append(as, w.adopt(ca)), append(bs, w.adopt(cb))
		}
		for range 10 {
			w.poll()
		}
		for _, b := range bs {
			b.again()
			b.reads = 0
		}
		for _, a := range as {
			a.send([]byte("x"))
		}
		for range 10 {
			w.poll()
		}
		for i, b := range bs {
			if b.reads != 1 {
				w.Fatalf("connection %d was told %d times", i, b.reads)
			}
		}
	})
}

// Out of descriptors, Accept fails, and again succeeds when there are some, without a new
// connection.
func TestListener_OutOfDescriptors(t *testing.T) {
	inEach(t, func(w *world) {
		nl := w.listen("tcp", "127.0.0.1:0")
		l := w.adoptListener(nl, false)
		if _, err := l.Accept(); err != driver.ErrAgain {
			w.Fatal(err)
		}
		w.poll()
		c := w.dial(l.LocalAddr())
		defer c.Close()
		c2 := w.dial(l.LocalAddr())
		defer c2.Close()
		if !w.kernel {
			l.accept() // a goroutine was waiting
		}
		restore := w.limitDescriptors()
		for range 3 {
			if _, err := l.tryAccept(); !errors.Is(err, syscall.EMFILE) {
				w.Errorf("Accept: %v, want EMFILE", err)
			}
		}
		restore()
		l.accept()
		if w.kernel {
			l.accept()
		}
	})
}

// limitDescriptors lets no more descriptors be opened.
func (w *world) limitDescriptors() (restore func()) {
	w.Helper()
	var limit syscall.Rlimit
	w.must(syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit))
	lower := limit
	next, err := syscall.Dup(0)
	w.must(err)
	w.must(syscall.Close(next))
	lower.Cur = uint64(next) // every number below is taken
	w.must(syscall.Setrlimit(syscall.RLIMIT_NOFILE, &lower))
	restore = func() { w.must(syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit)) }
	w.Cleanup(restore)
	return restore
}

// Without a descriptor to spare Adopt fails and closes the connection, and Detach leaves the
// endpoint as it was.
func TestStream_OutOfDescriptors(t *testing.T) {
	inEach(t, func(w *world) {
		a, b := adopted("tcp", "127.0.0.1:0")(w)
		c, peer := w.connect("tcp", "127.0.0.1:0")
		defer peer.Close()
		restore := w.limitDescriptors()
		e, err := w.d.Adopt(c)
		if w.kernel {
			w.is("Adopt", err, syscall.EMFILE)
			_, err = b.Detach()
			w.is("Detach", err, syscall.EMFILE)
		} else { // which needs none
			w.must(err)
			w.must(e.Close())
		}
		restore()
		if _, err := peer.Read(make([]byte, 1)); err != io.EOF {
			w.Errorf("the peer reads %v", err)
		}
		a.send([]byte("hello"))
		b.expect([]byte("hello"))
	})
}
