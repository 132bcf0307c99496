package asyncio_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/internal/leaktest"
)

// gatedExecutor does a job when the test says so, on the goroutine of the test.
type gatedExecutor struct {
	mu   sync.Mutex
	jobs []func()
}

func (e *gatedExecutor) Submit(job func()) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.jobs = append(e.jobs, job)
	return nil
}

func (e *gatedExecutor) Shutdown(bool) {}

func (e *gatedExecutor) waiting() int {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.jobs)
}

// next does the oldest job.
func (e *gatedExecutor) next(t *testing.T) {
	t.Helper()
	e.mu.Lock()
	if len(e.jobs) == 0 {
		e.mu.Unlock()
		t.Fatal("there is no job")
	}
	job := e.jobs[0]
	e.jobs = e.jobs[1:]
	e.mu.Unlock()
	job()
}

// open opens a file with flag and fails the test if it cannot.
func open(t *testing.T, ctx context.Context, name string, flag int) *asyncio.File {
	t.Helper()
	f, err := asyncio.OpenFile(ctx, name, flag|os.O_CREATE, 0o644)
	must(t, err)
	return f
}

// gated runs body with an open file and an executor that does jobs only when told to.
func gated(t *testing.T, flag int, body func(ctx context.Context, f *asyncio.File, e *gatedExecutor) error) {
	t.Helper()
	run(t, func(ctx context.Context) error {
		name := filepath.Join(t.TempDir(), "file")
		must(t, os.WriteFile(name, []byte("0123456789"), 0o644))
		f := open(t, ctx, name, flag)
		e := new(gatedExecutor)
		loop(t, ctx).SetDefaultExecutor(e)
		err := body(ctx, f, e)
		loop(t, ctx).SetDefaultExecutor(asyncio.NewThreadPoolExecutor(1))
		if closeErr := f.Close(ctx); !errors.Is(closeErr, fs.ErrClosed) {
			must(t, closeErr)
		}
		return err
	})
}

func contents(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(name)
	must(t, err)
	return string(b)
}

// All functions work on the real clock, and on a virtual clock without a simulated disk.
func TestFiles(t *testing.T) {
	onBothClocks(t, func(t *testing.T, ctx context.Context) error {
		dir := filepath.Join(t.TempDir(), "a", "b")
		must(t, asyncio.MkdirAll(ctx, dir, 0o755))
		name := filepath.Join(dir, "new")
		data := []byte(strings.Repeat("line\n", 100_000))
		must(t, asyncio.WriteFile(ctx, name, data, 0o600))
		must(t, asyncio.SyncDir(ctx, dir))
		got, err := asyncio.ReadFile(ctx, name)
		must(t, err)
		is(t, "ReadFile", bytes.Equal(got, data), true)
		info, err := asyncio.Stat(ctx, name)
		must(t, err)
		is(t, "Size", info.Size(), int64(len(data)))
		must(t, asyncio.WriteFile(ctx, name, []byte("short"), 0o600))
		is(t, "replaced", contents(t, name), "short")

		must(t, asyncio.Rename(ctx, name, filepath.Join(dir, "old")))
		must(t, asyncio.WriteFile(ctx, filepath.Join(dir, "another"), nil, 0o600))
		entries, err := asyncio.ReadDir(ctx, dir)
		must(t, err)
		is(t, "ReadDir", fmt.Sprintf("%d %s %s", len(entries), entries[0].Name(), entries[1].Name()), "2 another old")
		must(t, asyncio.Remove(ctx, filepath.Join(dir, "old")))

		var path *fs.PathError
		var link *os.LinkError
		_, openErr := asyncio.OpenFile(ctx, name, os.O_RDONLY, 0)
		_, readErr := asyncio.ReadFile(ctx, name)
		_, statErr := asyncio.Stat(ctx, name)
		_, dirErr := asyncio.ReadDir(ctx, name)
		for what, err := range map[string]error{
			"OpenFile": openErr, "ReadFile": readErr, "Stat": statErr, "ReadDir": dirErr,
			"Remove": asyncio.Remove(ctx, name), "SyncDir": asyncio.SyncDir(ctx, name),
			"WriteFile": asyncio.WriteFile(ctx, filepath.Join(name, "x"), nil, 0o600),
		} {
			if !errors.As(err, &path) || !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s of what is not there: %v", what, err)
			}
		}
		if err := asyncio.Rename(ctx, name, name+"2"); !errors.As(err, &link) || !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Rename: %v", err)
		}
		if err := asyncio.SyncDir(ctx, filepath.Join(dir, "another")); !errors.As(err, &path) {
			t.Errorf("SyncDir of a file: %v", err)
		}
		if err := asyncio.MkdirAll(ctx, filepath.Join(dir, "another", "x"), 0o755); !errors.As(err, &path) {
			t.Errorf("MkdirAll below a file: %v", err)
		}
		return nil
	})
}

// A File does the same as an os.File in any sequence of operations.
func TestFile_LikePackageOS(t *testing.T) {
	for seed := range uint64(40) {
		run(t, func(ctx context.Context) error {
			r := rand.New(rand.NewPCG(seed, 1))
			flag := []int{os.O_RDWR, os.O_RDWR, os.O_RDWR | os.O_APPEND, os.O_RDONLY, os.O_WRONLY, os.O_RDONLY | os.O_APPEND}[r.IntN(6)]
			if flag == os.O_RDONLY|os.O_APPEND && runtime.GOOS == "windows" {
				flag = os.O_RDONLY // package os would append to a read-only file
			}
			if runtime.GOOS == "js" {
				// there package syscall keeps the offset itself, and appending does not move it
				flag &^= os.O_APPEND
			}
			ours, theirs := filepath.Join(t.TempDir(), "file"), filepath.Join(t.TempDir(), "file")
			f := open(t, ctx, ours, flag)
			o, err := os.OpenFile(theirs, flag|os.O_CREATE, 0o644)
			must(t, err)
			defer o.Close()
			for i := range 60 {
				p, q := make([]byte, r.IntN(50)), make([]byte, 50)
				for i := range p {
					p[i] = byte(r.IntN(256))
				}
				q = q[:copy(q, p)]
				if len(p) == 0 && runtime.GOOS == "windows" {
					// package os makes a system call even for zero bytes, and the system may refuse
					// it
					continue
				}
				off := r.Int64N(100)
				var n, m int64
				var got, want error
				var what string
				switch k := r.IntN(8); k {
				case 0, 1:
					what = "Read"
					a, err := f.Read(ctx, p)
					b, oerr := o.Read(q)
					n, m, got, want = int64(a), int64(b), err, oerr
				case 2, 3:
					what = "Write"
					a, err := f.Write(ctx, p)
					b, oerr := o.Write(q)
					n, m, got, want = int64(a), int64(b), err, oerr
				case 4:
					what = "ReadAt"
					a, err := f.ReadAt(ctx, p, off)
					b, oerr := o.ReadAt(q, off)
					n, m, got, want = int64(a), int64(b), err, oerr
				case 5:
					if flag&os.O_APPEND != 0 {
						continue
					}
					what = "WriteAt"
					a, err := f.WriteAt(ctx, p, off)
					b, oerr := o.WriteAt(q, off)
					n, m, got, want = int64(a), int64(b), err, oerr
				case 6:
					what = "Seek"
					whence := []int{io.SeekStart, io.SeekCurrent, io.SeekEnd, 99}[r.IntN(4)]
					if whence == 99 && runtime.GOOS == "windows" {
						continue // package os does not mind there
					}
					n, got = f.Seek(ctx, off-30, whence)
					m, want = o.Seek(off-30, whence)
				case 7:
					what = "Truncate"
					got, want = f.Truncate(ctx, off-5), o.Truncate(off-5)
				}
				same := strings.ReplaceAll(fmt.Sprint(got), ours, theirs) == fmt.Sprint(want)
				if runtime.GOOS == "windows" { // Windows has other words for a negative offset
					same = (got == nil) == (want == nil)
				}
				if n != m || !bytes.Equal(p[:min(n, int64(len(p)))], q[:min(n, int64(len(p)))]) || !same {
					t.Fatalf("seed %d, flag %#x, operation %d: %s = %d, %v; package os has %d, %v", seed, flag, i, what, n, got, m, want)
				}
			}
			is(t, "contents", contents(t, ours), contents(t, theirs))
			must(t, f.Sync(ctx))
			info, err := f.Stat(ctx)
			must(t, err)
			is(t, "size", info.Size(), int64(len(contents(t, ours))))
			return f.Close(ctx)
		})
	}
}

// Several tasks write records to a log. Each record is whole, in the order of the calls of Write
// (file 4).
func TestFile_WritesTakeTurns(t *testing.T) {
	onBothClocks(t, func(t *testing.T, ctx context.Context) error {
		f := open(t, ctx, filepath.Join(t.TempDir(), "log"), os.O_RDWR)
		var called []byte
		var tasks []*asyncio.Task[asyncio.None]
		for i := range 8 {
			tasks = append(tasks, start(ctx, func(ctx context.Context) error {
				for range 20 {
					record := bytes.Repeat([]byte{byte('a' + i)}, 1+i*997)
					called = append(called, record...)
					if n, err := f.Write(ctx, record); n != len(record) || err != nil {
						return fmt.Errorf("%d of %d: %w", n, len(record), err)
					}
				}
				return nil
			}))
		}
		await(t, ctx, tasks...)
		must(t, f.Close(ctx))
		is(t, "in order", contents(t, f.Name()) == string(called), true)
		return nil
	})
}

// Tasks that read one file get each part of it once (file 4). Operations without an offset run at
// the same time.
func TestFile_ReadsTakeTurns(t *testing.T) {
	run(t, func(ctx context.Context) error {
		name := filepath.Join(t.TempDir(), "file")
		must(t, os.WriteFile(name, pattern(10_000), 0o644))
		f := open(t, ctx, name, os.O_RDWR)
		var got []byte
		reader := func(ctx context.Context) error {
			for {
				p := make([]byte, 777)
				n, err := f.Read(ctx, p)
				got = append(got, p[:n]...)
				if err == io.EOF {
					return nil
				}
				if err != nil {
					return err
				}
			}
		}
		a, b := start(ctx, reader), start(ctx, reader)
		p := make([]byte, 100)
		n, err := f.ReadAt(ctx, p, 5000)
		is(t, "ReadAt meanwhile", fmt.Sprint(n, err, bytes.Equal(p, pattern(10_000)[5000:5100])), "100 <nil> true")
		await(t, ctx, a, b)
		is(t, "together", bytes.Equal(got, pattern(10_000)), true)
		return f.Close(ctx)
	})
}

// Operations that take no turn go to the executor beside those under way. Operations that take
// turns do not.
func TestFile_WhatRunsBesideWhat(t *testing.T) {
	gated(t, os.O_RDWR, func(ctx context.Context, f *asyncio.File, e *gatedExecutor) error {
		p := make([]byte, 1)
		var tasks []*asyncio.Task[asyncio.None]
		for _, fn := range []func(ctx context.Context) error{
			func(ctx context.Context) error { _, err := f.Write(ctx, []byte("ab")); return err },
			func(ctx context.Context) error { _, err := f.Read(ctx, p); return err },
			func(ctx context.Context) error { _, err := f.WriteAt(ctx, []byte("z"), 9); return err },
			func(ctx context.Context) error { _, err := f.Stat(ctx); return err },
			f.Sync,
		} {
			tasks = append(tasks, start(ctx, fn))
		}
		settle(t, ctx)
		is(t, "jobs", e.waiting(), 4) // all but Read
		for range 5 {
			e.next(t)
			settle(t, ctx)
		}
		await(t, ctx, tasks...)
		is(t, "read behind what was written", string(p), "2")
		is(t, "contents", contents(t, f.Name()), "ab2345678z")
		return nil
	})
}

// A cancel before the executor has begun: the operation never happens (file 2).
func TestFile_CancelBeforeItBegins(t *testing.T) {
	gated(t, os.O_RDWR, func(ctx context.Context, f *asyncio.File, e *gatedExecutor) error {
		write := start(ctx, func(ctx context.Context) error { _, err := f.Write(ctx, []byte("xxx")); return err })
		settle(t, ctx)
		write.Cancel()
		endsCancelled(t, ctx, write)
		e.next(t)
		is(t, "contents", contents(t, f.Name()), "0123456789")

		ended, cancel := context.WithCancelCause(ctx)
		loop(t, ctx).CallSoon(func() { cancel(errTest) })
		_, err := f.Read(ended, make([]byte, 1)) // nobody runs the read
		wantErr(t, "Read with a context that ends", err, errTest)

		remove := start(ctx, func(ctx context.Context) error { return asyncio.Remove(ctx, f.Name()) })
		settle(t, ctx)
		remove.Cancel()
		endsCancelled(t, ctx, remove)
		for e.waiting() > 0 {
			e.next(t)
		}
		is(t, "still there", contents(t, f.Name()), "0123456789")
		return nil
	})
}

// A cancel after the job has begun: the operation has happened, and the offset has not moved (file
// 3). Doing it again does the same again.
func TestFile_CancelWhenItHasBegun(t *testing.T) {
	gated(t, os.O_RDWR, func(ctx context.Context, f *asyncio.File, e *gatedExecutor) error {
		write := start(ctx, func(ctx context.Context) error { _, err := f.Write(ctx, []byte("ab")); return err })
		settle(t, ctx)
		e.next(t)
		write.Cancel()
		endsCancelled(t, ctx, write)
		is(t, "contents", contents(t, f.Name()), "ab23456789")
		again := start(ctx, func(ctx context.Context) error { _, err := f.Write(ctx, []byte("abc")); return err })
		settle(t, ctx)
		e.next(t)
		await(t, ctx, again)
		is(t, "contents", contents(t, f.Name()), "abc3456789")

		p := []byte("--")
		read := start(ctx, func(ctx context.Context) error { _, err := f.Read(ctx, p); return err })
		settle(t, ctx)
		e.next(t)
		read.Cancel()
		endsCancelled(t, ctx, read)
		is(t, "p", string(p), "--")
		read = start(ctx, func(ctx context.Context) error { _, err := f.Read(ctx, p); return err })
		settle(t, ctx)
		e.next(t)
		await(t, ctx, read)
		is(t, "p", string(p), "34")
		return nil
	})
	// An append that is done again after a cancel is in the file twice.
	gated(t, os.O_RDWR|os.O_APPEND, func(ctx context.Context, f *asyncio.File, e *gatedExecutor) error {
		for range 2 {
			write := start(ctx, func(ctx context.Context) error { _, err := f.Write(ctx, []byte("x")); return err })
			settle(t, ctx)
			e.next(t)
			write.Cancel()
			endsCancelled(t, ctx, write)
		}
		is(t, "contents", contents(t, f.Name()), "0123456789xx")
		return nil
	})
}

// quoted is Python's repr of a path.
func quoted(name string) string { return "'" + strings.ReplaceAll(name, `\`, `\\`) + "'" }

// After Close nothing begins. Jobs under way end first, and operations that waited for their turn
// fail (file 6).
func TestFile_Close(t *testing.T) {
	gated(t, os.O_RDWR, func(ctx context.Context, f *asyncio.File, e *gatedExecutor) error {
		write := start(ctx, func(ctx context.Context) error { _, err := f.Write(ctx, []byte("x")); return err })
		behind := start(ctx, func(ctx context.Context) error { _, err := f.Write(ctx, []byte("y")); return err })
		settle(t, ctx)
		closing := start(ctx, f.Close)
		settle(t, ctx)
		is(t, "jobs", e.waiting(), 1) // the close is not among them yet
		is(t, "repr", f.String(), "<File closing name="+quoted(f.Name())+">")
		e.next(t)
		settle(t, ctx)
		e.next(t)
		await(t, ctx, write, closing)
		is(t, "repr", f.String(), "<File closed name="+quoted(f.Name())+">")
		_, err := behind.Await(ctx)
		_, readErr := f.Read(ctx, make([]byte, 1))
		_, writeErr := f.WriteAt(ctx, nil, 0)
		_, seekErr := f.Seek(ctx, 0, io.SeekStart)
		_, statErr := f.Stat(ctx)
		for what, err := range map[string]error{
			"a Write that waited": err, "Read": readErr, "WriteAt": writeErr, "Seek": seekErr, "Stat": statErr,
			"Sync": f.Sync(ctx), "Truncate": f.Truncate(ctx, 1), "Close": f.Close(ctx),
		} {
			var path *fs.PathError
			if !errors.As(err, &path) || !errors.Is(err, fs.ErrClosed) || path.Path != f.Name() {
				t.Errorf("%s: %v, want ErrClosed", what, err)
			}
		}
		is(t, "contents", contents(t, f.Name()), "x123456789")
		return nil
	})
}

// However the wait in Close ends, the file is closed (file 6).
func TestFile_CloseIsNotCancelled(t *testing.T) {
	run(t, func(ctx context.Context) error {
		f := open(t, ctx, filepath.Join(t.TempDir(), "file"), os.O_RDWR)
		done, cancel := context.WithCancelCause(ctx)
		cancel(errTest)
		wantErr(t, "Close with a context that is done", f.Close(done), errTest)
		wantErr(t, "Sync", f.Sync(ctx), fs.ErrClosed)

		f = open(t, ctx, f.Name(), os.O_RDWR)
		task := start(ctx, f.Close)
		settle(t, ctx)
		task.Cancel()
		_, _ = task.Await(ctx)
		wantErr(t, "Sync", f.Sync(ctx), fs.ErrClosed)

		// That holds even if the executor no longer does anything.
		f = open(t, ctx, f.Name(), os.O_RDWR)
		loop(t, ctx).SetDefaultExecutor(refusingExecutor{})
		wantErr(t, "Sync", f.Sync(ctx), errTest)
		must(t, f.Close(ctx))
		return nil
	})
}

// A file left open when the loop closes is closed and reported. One that a deferred function closes
// is not reported (file 7).
func TestFile_LeftOpen(t *testing.T) {
	name := filepath.Join(t.TempDir(), "file")
	var left, deferred *asyncio.File
	r, err := runReporting(t, func(ctx context.Context) error {
		left = open(t, ctx, name, os.O_RDWR)
		return nil
	})
	must(t, err)
	equal(t, "reports", r.messages(), []string{"unclosed file " + quoted(name) + ": whoever opens a file must close it (File.Close)"})
	is(t, "repr", left.String(), "<File closed name="+quoted(name)+">")
	if got := r.all[0].SourceTraceback; !strings.Contains(got, "io_files_test.go") {
		t.Errorf("opened at %q", got)
	}
	wantErr(t, "Close", left.Close(t.Context()), fs.ErrClosed)

	var closed error
	ctx := onVirtualTime(t.Context(), r)
	l := asyncio.NewEventLoop(ctx)
	r.all = nil
	asyncio.CreateTask(l.Context(), asyncio.Do(func(ctx context.Context) error {
		deferred = open(t, ctx, name, os.O_RDWR)
		defer func() { closed = deferred.Close(ctx) }()
		l.Stop()
		return asyncio.Sleep(ctx, time.Hour)
	}))
	must(t, l.RunForever())
	must(t, l.Close())
	must(t, closed)
	equal(t, "reports", r.messages(), []string{"Task was destroyed but it is pending!"})
	is(t, "repr", deferred.String(), "<File closed name="+quoted(name)+">")
}

// A loop that closes while an executor opens a file leaves none open (TestMain counts descriptors).
func TestFile_LoopClosesMeanwhile(t *testing.T) {
	name := filepath.Join(t.TempDir(), "file")
	var r reports
	l := asyncio.NewEventLoop(onVirtualTime(t.Context(), &r))
	e := new(gatedExecutor)
	l.SetDefaultExecutor(e)
	asyncio.CreateTask(l.Context(), asyncio.Do(func(ctx context.Context) error {
		_, err := asyncio.OpenFile(ctx, name, os.O_RDWR|os.O_CREATE, 0o644)
		t.Errorf("it returned %v", err)
		return nil
	}))
	l.CallLater(0, func() { l.CallSoon(l.Stop) })
	must(t, l.RunForever())
	must(t, l.Close())
	before := leaktest.Descriptors()
	e.next(t) // far too late
	is(t, "descriptors", leaktest.Descriptors(), before)
	equal(t, "reports", r.messages(), []string{"Task was destroyed but it is pending!"})
}

func TestFile_Misuse(t *testing.T) {
	run(t, func(ctx context.Context) error {
		l := loop(t, ctx)
		f := open(t, ctx, filepath.Join(t.TempDir(), "file"), os.O_RDWR)
		methods := func(ctx context.Context) []error {
			p := make([]byte, 1)
			_, read := f.Read(ctx, p)
			_, write := f.Write(ctx, p)
			_, readAt := f.ReadAt(ctx, p, 0)
			_, writeAt := f.WriteAt(ctx, p, 0)
			_, seek := f.Seek(ctx, 0, 0)
			_, stat := f.Stat(ctx)
			return []error{read, write, readAt, writeAt, seek, stat, f.Truncate(ctx, 0), f.Sync(ctx)}
		}
		try := func(ctx context.Context) []error {
			_, open := asyncio.OpenFile(ctx, f.Name(), 0, 0)
			_, readFile := asyncio.ReadFile(ctx, f.Name())
			_, readDir := asyncio.ReadDir(ctx, f.Name())
			_, stat := asyncio.Stat(ctx, f.Name())
			return append(methods(ctx), open, readFile, readDir, stat,
				asyncio.WriteFile(ctx, f.Name(), nil, 0), asyncio.Rename(ctx, f.Name(), "y"), asyncio.Remove(ctx, f.Name()),
				asyncio.MkdirAll(ctx, f.Name(), 0), asyncio.SyncDir(ctx, f.Name()), f.Close(ctx))
		}
		all := func(what string, want error, errs []error) {
			t.Helper()
			for i, err := range errs {
				if !errors.Is(err, want) {
					t.Errorf("%s, %d: %v, want %v", what, i, err, want)
				}
			}
		}
		all("without a loop", asyncio.ErrNoRunningLoop, try(context.Background()))
		all("nil", asyncio.ErrInvalidArgument, try(nil))
		l.CallSoon(func() { all("in a callback", asyncio.ErrNotInTask, try(ctx)) })
		settle(t, ctx)
		_, err := asyncio.ToThread(ctx, func(context.Context) (int, error) {
			for !asyncio.Parked(l) {
				runtime.Gosched()
			}
			all("in a thread", asyncio.ErrForeignGoroutine, try(ctx))
			return 0, nil
		})
		must(t, err)
		done, cancel := context.WithCancelCause(ctx)
		cancel(errTest)
		errs := try(done)
		all("with a context that is done", errTest, errs)
		wantErr(t, "and it closed the file", f.Sync(ctx), fs.ErrClosed)

		f = open(t, ctx, f.Name(), os.O_RDWR)
		other := asyncio.NewEventLoop(context.Background())
		_, err = asyncio.RunUntilComplete(other, asyncio.Coroutine[int](func(ctx context.Context) (int, error) {
			all("on another loop", asyncio.ErrDifferentLoop, methods(ctx))
			if err := f.Close(ctx); !errors.Is(err, asyncio.ErrDifferentLoop) && !errors.Is(err, asyncio.ErrForeignGoroutine) {
				t.Errorf("Close on another loop: %v", err)
			}
			return 0, nil
		}))
		must(t, err)
		must(t, other.Close())

		_, err = f.ReadAt(ctx, nil, -1)
		wantErr(t, "negative", err, asyncio.ErrInvalidArgument)
		_, err = f.WriteAt(ctx, nil, -1)
		wantErr(t, "negative", err, asyncio.ErrInvalidArgument)
		must(t, f.Close(ctx))
		f = open(t, ctx, f.Name(), os.O_RDWR|os.O_APPEND)
		_, err = f.WriteAt(ctx, nil, 0)
		wantErr(t, "WriteAt, appending", err, asyncio.ErrInvalidArgument)
		must(t, f.Close(ctx))

		for _, zero := range []*asyncio.File{nil, new(asyncio.File)} {
			f = zero
			for _, err := range append(methods(ctx), f.Close(ctx)) {
				if !errors.Is(err, asyncio.ErrInvalidArgument) || !strings.Contains(err.Error(), "OpenFile") {
					t.Errorf("a zero File: %v", err)
				}
			}
		}
		is(t, "repr", f.String(), "<File unusable name=''>")
		return nil
	})
}

// Many tasks use files on the real clock and are cancelled. Every acknowledged write is there, and
// nothing is left open.
func TestFile_CancelledAtAnyTime(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	rounds := 60
	_, err := asyncio.Run(t.Context(), asyncio.Do(func(ctx context.Context) error {
		for round := range rounds {
			name := filepath.Join(t.TempDir(), fmt.Sprint(round))
			acknowledged := make([]int, 4)
			err := asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg *asyncio.TaskGroup) error {
				f := open(t, ctx, name, os.O_RDWR)
				defer f.Close(ctx)
				var tasks []*asyncio.Task[asyncio.None]
				for i := range acknowledged {
					tasks = append(tasks, start(ctx, func(ctx context.Context) error {
						for k := 1; k < 50; k++ {
							if _, err := f.WriteAt(ctx, []byte{byte(k)}, int64(i)); err != nil {
								return err
							}
							acknowledged[i] = k
						}
						return nil
					}))
				}
				for range r.IntN(200) {
					must(t, asyncio.Sleep(ctx, 0))
				}
				for _, task := range tasks {
					task.Cancel()
				}
				_, _, err := asyncio.Wait(ctx, tasks)
				return err
			})
			must(t, err)
			got := []byte(contents(t, name))
			for i, k := range acknowledged {
				if k > 0 && (int(got[i]) < k || int(got[i]) > k+1) {
					t.Errorf("round %d: byte %d is %d, and %d was acknowledged", round, i, got[i], k)
				}
			}
		}
		return nil
	}), asyncio.LoopFactory(func(ctx context.Context) *asyncio.EventLoop { return asyncio.NewEventLoop(ctx) }))
	must(t, err)
}

// WriteAt of zero bytes makes no system call, as in package os, even on a file that is open for
// reading only.
func TestFile_WriteAtOfNothing(t *testing.T) {
	run(t, func(ctx context.Context) error {
		f := open(t, ctx, filepath.Join(t.TempDir(), "file"), os.O_RDONLY)
		if n, err := f.WriteAt(ctx, nil, 3); n != 0 || err != nil {
			t.Errorf("WriteAt: %d, %v", n, err)
		}
		return f.Close(ctx)
	})
}
