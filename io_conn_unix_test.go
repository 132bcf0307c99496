//go:build linux || darwin || freebsd

package asyncio_test

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
)

// The peer resets the connection, whatever this side is doing.
func TestConn_Reset(t *testing.T) {
	onSockets(t, func(t *testing.T, ctx context.Context) error {
		reset := func(what string, err error) {
			t.Helper()
			if !errors.Is(err, syscall.ECONNRESET) && !errors.Is(err, syscall.EPIPE) {
				t.Errorf("%s: %v, want ECONNRESET or EPIPE", what, err)
			}
		}
		client, server := connect(t, ctx)
		reader := start(ctx, func(ctx context.Context) error {
			_, err := client.Read(make([]byte, 1))
			return err
		})
		writer := start(ctx, func(ctx context.Context) error {
			for {
				if _, err := client.Write(pattern(1 << 20)); err != nil {
					return err
				}
			}
		})
		if err := stuck(ctx, client); err != nil {
			return err
		}
		server.Abort()
		// The system reports the reset to either the reader or the writer. The other one sees the
		// end of the stream or a broken pipe.
		if err := ended(ctx, reader); err != io.EOF {
			reset("a reader that waits", err)
		}
		reset("a writer that waits", ended(ctx, writer))
		for range 3 {
			_, err := client.Write([]byte("x"))
			if err == nil { // the goroutine reports the error one write late
				_, err = client.Write([]byte("x"))
			}
			reset("a later Write", err)
		}
		client.Close()

		client, server = connect(t, ctx)
		reader = start(ctx, func(ctx context.Context) error {
			_, err := client.Read(make([]byte, 1))
			return err
		})
		settle(t, ctx)
		server.Abort()
		reset("a reader alone", ended(ctx, reader))
		client.Close()

		// After both directions were half-closed, nothing is left to reset.
		client, server = connect(t, ctx)
		must(t, client.CloseWrite())
		if _, err := server.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("%v, want EOF", err)
		}
		server.Abort()
		if _, err := io.ReadAll(client); err != nil {
			reset("after half-close", err)
		}
		return client.Close()
	})
}

// A listener that runs out of descriptors reports it once, waits, and goes on. The connections that
// were waiting are not lost.
func TestListener_OutOfDescriptors(t *testing.T) {
	onSystem(t, func(t *testing.T, ctx context.Context) error {
		l := loop(t, ctx)
		var r reports
		handler := l.GetExceptionHandler()
		l.SetExceptionHandler(r.handle)
		defer l.SetExceptionHandler(handler)

		ln, err := asyncio.Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		defer ln.Close()
		const n = 3
		var clients []*asyncio.Conn
		for range n {
			c, err := asyncio.Dial(ctx, "tcp", ln.Addr().String())
			if err != nil {
				return err
			}
			defer c.Close()
			clients = append(clients, c)
		}
		release := useUpDescriptors(t)
		defer release()
		accepting := start(ctx, func(ctx context.Context) error {
			for range n {
				c, err := ln.AcceptContext(ctx)
				if err != nil {
					return err
				}
				if _, err := c.Write([]byte("!")); err != nil {
					return err
				}
				defer c.Close()
			}
			return nil
		})
		for len(r.messages()) == 0 {
			must(t, asyncio.Sleep(ctx, 0))
		}
		settle(t, ctx)
		release()
		for _, c := range clients {
			if _, err := c.Read(make([]byte, 1)); err != nil {
				t.Error(err)
			}
		}
		equal(t, "reports", r.messages(), []string{"socket.accept() out of system resource"})
		return ended(ctx, accepting)
	})
}

// Detach without a spare descriptor fails and leaves the connection intact on its loop.
func TestConn_DetachOutOfDescriptors(t *testing.T) {
	onRealTime(t, func(ctx context.Context) error {
		client, server := connect(t, ctx)
		defer client.Close()
		defer server.Close()
		if _, err := server.Write([]byte("hello")); err != nil {
			return err
		}
		release := useUpDescriptors(t)
		_, err := client.Detach()
		release()
		if !errors.Is(err, syscall.EMFILE) {
			t.Errorf("Detach: %v, want EMFILE", err)
		}
		p := make([]byte, 5)
		if _, err := io.ReadFull(client, p); string(p) != "hello" || err != nil {
			t.Errorf("%q, %v", p, err)
		}
		// the connection is still in the poller
		reader := start(ctx, func(ctx context.Context) error {
			_, err := client.Read(p)
			return err
		})
		settle(t, ctx)
		if _, err := server.Write([]byte("again")); err != nil {
			return err
		}
		return ended(ctx, reader)
	})
}

// useUpDescriptors takes all free descriptors until release is called.
func useUpDescriptors(t *testing.T) (release func()) {
	t.Helper()
	var limit syscall.Rlimit
	must(t, syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit))
	low := limit
	low.Cur = 256
	must(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &low))
	var taken []int
	for {
		fd, err := syscall.Open(os.DevNull, syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
		if err == syscall.EMFILE {
			break
		}
		must(t, err)
		taken = append(taken, fd)
	}
	return func() {
		for _, fd := range taken {
			syscall.Close(fd)
		}
		taken = nil
		must(t, syscall.Setrlimit(syscall.RLIMIT_NOFILE, &limit))
	}
}

func pipe(t *testing.T) (r, w int) {
	t.Helper()
	var p [2]int
	must(t, syscall.Pipe(p[:]))
	for _, fd := range p {
		must(t, syscall.SetNonblock(fd, true))
	}
	return p[0], p[1]
}

// Readers and writers of plain descriptors are called in every iteration in which their descriptor
// is ready.
func TestAddReader(t *testing.T) {
	onRealTime(t, func(ctx context.Context) error {
		l := loop(t, ctx)
		r, w := pipe(t)
		var log []string
		note := func(what string) func() { return func() { log = append(log, what) } }
		expect := func(when string, want ...string) {
			t.Helper()
			must(t, asyncio.Sleep(ctx, 1)) // one wait of the loop
			got := slices.Compact(slices.Clone(log))
			equal(t, when, got, want)
			log = nil
		}
		must(t, l.AddReader(uintptr(r), note("first")))
		expect("nothing to read")
		must(t, l.AddReader(uintptr(r), note("read"))) // replaces the first callback
		must(t, second(syscall.Write(w, []byte("ab"))))
		expect("readable", "read")
		must(t, second(syscall.Read(r, make([]byte, 1))))
		expect("still readable: level-triggered", "read")
		must(t, second(syscall.Read(r, make([]byte, 1))))
		expect("read empty")

		must(t, l.AddWriter(uintptr(w), note("write")))
		expect("writable", "write")
		if !l.RemoveWriter(uintptr(w)) || l.RemoveWriter(uintptr(w)) || l.RemoveWriter(uintptr(r)) {
			t.Error("RemoveWriter reports the wrong thing")
		}
		expect("removed")
		must(t, syscall.Close(w))
		expect("the end is readable", "read")

		// The descriptor is closed without a call of RemoveReader, and its number is used again.
		must(t, syscall.Close(r))
		r2, w2 := pipe(t)
		if r2 != r {
			t.Fatalf("the number %d was not used again, but %d", r, r2)
		}
		must(t, l.AddReader(uintptr(r2), note("again")))
		must(t, second(syscall.Write(w2, []byte("x"))))
		expect("the next with that number", "again")
		if !l.RemoveReader(uintptr(r2)) || l.RemoveReader(uintptr(r2)) {
			t.Error("RemoveReader reports the wrong thing")
		}
		must(t, syscall.Close(r2))
		return syscall.Close(w2)
	})
}

// A callback that was due does not run after it was removed, even by the callback just before it.
func TestAddReader_RemovedWhileDue(t *testing.T) {
	onRealTime(t, func(ctx context.Context) error {
		l := loop(t, ctx)
		r1, w1 := pipe(t)
		r2, w2 := pipe(t)
		calls := 0
		fn := func() {
			calls++
			l.RemoveReader(uintptr(r1))
			l.RemoveReader(uintptr(r2))
		}
		must(t, l.AddReader(uintptr(r1), fn))
		must(t, l.AddReader(uintptr(r2), fn))
		must(t, second(syscall.Write(w1, []byte("x"))))
		must(t, second(syscall.Write(w2, []byte("x"))))
		must(t, asyncio.Sleep(ctx, 1))
		if calls != 1 {
			t.Errorf("%d calls, want 1", calls)
		}
		for _, fd := range []int{r1, w1, r2, w2} {
			must(t, syscall.Close(fd))
		}
		return nil
	})
}

func TestAddReader_Refused(t *testing.T) {
	onRealTime(t, func(ctx context.Context) error {
		l := loop(t, ctx)
		file, err := os.Create(filepath.Join(t.TempDir(), "file"))
		if err != nil {
			return err
		}
		defer file.Close()
		regular := l.AddReader(file.Fd(), func() {})
		if l.RemoveReader(file.Fd()) != (regular == nil) { // kqueue watches regular files
			t.Errorf("a regular file: %v", regular)
		}
		if regular != nil && !errors.Is(regular, os.ErrInvalid) {
			t.Errorf("a regular file: %v", regular)
		}
		if err := l.AddReader(0, nil); !errors.Is(err, asyncio.ErrInvalidArgument) {
			t.Errorf("a nil function: %v", err)
		}
		client, server := connect(t, ctx)
		defer client.Close()
		defer server.Close()
		raw, err := client.SyscallConn()
		if err != nil {
			return err
		}
		must(t, raw.Control(func(fd uintptr) {
			if err := l.AddReader(fd, func() {}); err == nil {
				t.Error("the descriptor of a Conn was taken")
			}
		}))
		// the last is what Fd of a closed file returns
		for _, fd := range []uintptr{1 << 20, ^uintptr(0) >> 2, ^uintptr(0)} {
			if err := l.AddWriter(fd, func() {}); !errors.Is(err, syscall.EBADF) {
				t.Errorf("no descriptor: %v", err)
			}
		}
		return nil
	})
}

// On Unix sockets a read stops short at a message that carries descriptors, even if more data
// follows.
func TestConn_UnixReadStopsShort(t *testing.T) {
	onRealTime(t, func(ctx context.Context) error {
		fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
		if err != nil {
			return err
		}
		defer syscall.Close(fds[1])
		file := os.NewFile(uintptr(fds[0]), "")
		nc, err := netFileConn(file)
		if err != nil {
			return err
		}
		c, err := asyncio.NewConn(ctx, nc)
		if err != nil {
			return err
		}
		defer c.Close()
		got := asyncio.CreateTask(ctx, func(ctx context.Context) (string, error) {
			p := make([]byte, 100)
			n, err := io.ReadAtLeast(c, p, 3)
			return string(p[:n]), err
		})
		settle(t, ctx) // the read waits now
		for _, message := range []string{"a", "b", "c"} {
			must(t, syscall.Sendmsg(fds[1], []byte(message), syscall.UnixRights(fds[1]), nil, 0))
		}
		if s, err := got.Await(ctx); s != "abc" || err != nil {
			t.Errorf("%q, %v", s, err)
		}
		return nil
	})
}

func netFileConn(f *os.File) (net.Conn, error) {
	defer f.Close()
	return net.FileConn(f)
}

// One iteration takes in what goroutines sent, then I/O, then the timers (CPython 1, loop 6). The
// order holds even if the loop is late for all of them.
func TestIteration_Order(t *testing.T) {
	onRealTime(t, func(ctx context.Context) error {
		l := loop(t, ctx)
		client, server := connect(t, ctx)
		defer client.Close()
		defer server.Close()
		var log []string
		reader := start(ctx, func(ctx context.Context) error {
			_, err := server.Read(make([]byte, 1))
			log = append(log, "I/O")
			return err
		})
		settle(t, ctx)
		late := l.Time() + time.Millisecond
		l.CallAt(late, func() { log = append(log, "timer") })
		if _, err := client.Write([]byte("x")); err != nil {
			return err
		}
		sent := make(chan error)
		go func() {
			_, err := l.CallSoonThreadsafe(func() { log = append(log, "goroutine") })
			sent <- err
		}()
		must(t, <-sent)
		for l.Time() < late { // this step takes too long
		}
		err := ended(ctx, reader)
		must(t, asyncio.Sleep(ctx, 0))
		equal(t, "order", log, []string{"goroutine", "I/O", "timer"})
		return err
	})
}

// An event may still be pending when the loop is run again. It does not call a reader that was
// removed meanwhile. (CPython: test_single_selecter_event_callback_after_stopping.)
func TestAddReader_StoppedAndRunAgain(t *testing.T) {
	r, w, err := os.Pipe()
	must(t, err)
	defer r.Close()
	defer w.Close()
	_, err = w.Write([]byte("x"))
	must(t, err)
	l := asyncio.NewEventLoop(t.Context())
	calls := 0
	must(t, l.AddReader(r.Fd(), func() {
		calls++
		l.CallSoon(func() { l.RemoveReader(r.Fd()) })
	}))
	for run := range 3 {
		l.Stop() // so that each run is one iteration
		must(t, l.RunForever())
		if calls != 1 {
			t.Errorf("after run %d: %d calls, want 1", run+1, calls)
		}
	}
	must(t, l.Close())
}

// The file of a Unix socket belongs to the maker of the socket, such as a service manager, which
// goes on listening there. NewListener does not remove it.
func TestNewListener_LeavesTheFile(t *testing.T) {
	onSystem(t, func(t *testing.T, ctx context.Context) error {
		path := filepath.Join(t.TempDir(), "s")
		owner, err := net.Listen("unix", path)
		if err != nil {
			return err
		}
		defer owner.Close()
		f, err := owner.(*net.UnixListener).File()
		if err != nil {
			return err
		}
		defer f.Close()
		passed, err := net.FileListener(f)
		if err != nil {
			return err
		}
		made, err := net.Listen("unix", path+"2")
		if err != nil {
			return err
		}
		for _, nl := range []net.Listener{passed, made} {
			ln, err := asyncio.NewListener(ctx, nl)
			if err != nil {
				return err
			}
			at := ln.Addr().String()
			if err := ln.Close(); err != nil {
				t.Error(err)
			}
			if _, err := os.Stat(at); err != nil {
				t.Errorf("the file is gone: %v", err)
			}
		}
		c, err := net.Dial("unix", path)
		if err != nil {
			t.Fatalf("the owner is not to be reached any more: %v", err)
		}
		return c.Close()
	})
}

// A socket file left by a server that has ended does not keep the next server from listening. Any
// other file does, and is left alone.
func TestListen_ReplacesStaleFile(t *testing.T) {
	onSystem(t, func(t *testing.T, ctx context.Context) error {
		path := filepath.Join(t.TempDir(), "s")
		old, err := net.Listen("unix", path)
		if err != nil {
			return err
		}
		old.(*net.UnixListener).SetUnlinkOnClose(false)
		old.Close()
		ln, err := asyncio.Listen(ctx, "unix", path)
		if err != nil {
			t.Fatalf("Listen: %v", err)
		}
		if err := ln.Close(); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("its own file: %v", err)
		}
		// the file of a datagram socket stays after a close, in package net and in Python
		for range 2 {
			pc, err := asyncio.ListenPacket(ctx, "unixgram", path+"g")
			if err != nil {
				t.Fatalf("ListenPacket: %v", err)
			}
			pc.Close()
		}
		must(t, os.WriteFile(path, []byte("precious"), 0o600))
		if _, err := asyncio.Listen(ctx, "unix", path); !errors.Is(err, syscall.EADDRINUSE) {
			t.Errorf("Listen at a file that is no socket: %v", err)
		}
		if b, err := os.ReadFile(path); string(b) != "precious" || err != nil {
			t.Errorf("the file: %q, %v", b, err)
		}
		return nil
	})
}

// A server can take the path of a running one, as Python's does. It keeps the path when the other
// closes.
func TestListen_TakesThePlace(t *testing.T) {
	onSockets(t, func(t *testing.T, ctx context.Context) error {
		path := filepath.Join(t.TempDir(), "s")
		var servers []*asyncio.Listener
		for range 2 {
			ln, err := asyncio.Listen(ctx, "unix", path)
			if err != nil {
				return err
			}
			servers = append(servers, ln)
		}
		for range 2 {
			c, err := asyncio.Dial(ctx, "unix", path)
			if err != nil {
				return err
			}
			s, err := servers[1].AcceptContext(ctx)
			if err != nil {
				return err
			}
			if err := errors.Join(c.Close(), s.Close(), servers[0].Close()); err != nil {
				t.Error(err)
			}
		}
		if err := servers[1].Close(); err != nil {
			t.Error(err)
		}
		if _, err := asyncio.Dial(ctx, "unix", path); !errors.Is(err, syscall.ENOENT) {
			t.Errorf("Dial after both have closed: %v", err)
		}
		return nil
	})
}
