//go:build linux || darwin || freebsd

package asyncio_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
)

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
		late := l.Time().Add(time.Millisecond)
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
		for l.Time().Before(late) { // this step takes too long
		}
		err := ended(ctx, reader)
		must(t, asyncio.Sleep(ctx, 0))
		equal(t, "order", log, []string{"goroutine", "I/O", "timer"})
		return err
	})
}
