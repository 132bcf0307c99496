//go:build linux || darwin || freebsd

package asyncio_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/internal/leaktest"
)

// onRealFifo runs body on the real clock with the name of a named pipe.
func onRealFifo(t *testing.T, body func(ctx context.Context, name string) error) {
	t.Helper()
	name := filepath.Join(t.TempDir(), "pipe")
	must(t, syscall.Mkfifo(name, 0o600))
	var r reports
	_, err := asyncio.Run(t.Context(), asyncio.Do(func(ctx context.Context) error { return body(ctx, name) }),
		asyncio.LoopFactory(func(ctx context.Context) *asyncio.EventLoop {
			l := asyncio.NewEventLoop(ctx)
			l.SetExceptionHandler(r.handle)
			return l
		}))
	must(t, err)
	equal(t, "reports", r.messages(), nil)
}

// A pipe has no offsets and no size.
func TestFile_Pipe(t *testing.T) {
	onRealFifo(t, func(ctx context.Context, name string) error {
		data := pattern(300_000)
		write := start(ctx, func(ctx context.Context) error { return asyncio.WriteFile(ctx, name, data, 0o600) })
		got, err := asyncio.ReadFile(ctx, name)
		must(t, err)
		await(t, ctx, write)
		is(t, "the same", string(got) == string(data), true)

		f := open(t, ctx, name, os.O_RDWR)
		_, err = f.Write(ctx, []byte("hello"))
		must(t, err)
		p := make([]byte, 3)
		n, err := f.Read(ctx, p)
		is(t, "Read", string(p[:n]), "hel")
		must(t, err)
		n, err = f.Read(ctx, p)
		is(t, "Read", string(p[:n]), "lo")
		must(t, err)
		_, err = f.Seek(ctx, 0, io.SeekCurrent)
		wantErr(t, "Seek", err, syscall.ESPIPE)
		_, err = f.Seek(ctx, 0, io.SeekEnd)
		wantErr(t, "Seek", err, syscall.ESPIPE)
		_, err = f.ReadAt(ctx, p, 0)
		wantErr(t, "ReadAt", err, syscall.ESPIPE)
		return f.Close(ctx)
	})
}

// reading starts a read of a device and returns when the read is under way.
func reading(t *testing.T, ctx context.Context, f *asyncio.File, p []byte) *asyncio.Task[int] {
	t.Helper()
	task := asyncio.CreateTask(ctx, func(ctx context.Context) (int, error) { return f.Read(ctx, p) })
	settle(t, ctx)
	return task
}

// A device can be read and written at the same time (file 4), and describes itself as in package
// os.
func TestFile_DevicesHaveTwoLines(t *testing.T) {
	onRealFifo(t, func(ctx context.Context, name string) error {
		for _, name := range append([]string{name}, terminals()...) {
			f := open(t, ctx, name, os.O_RDWR)
			read := reading(t, ctx, f, make([]byte, 10))
			info, err := f.Stat(ctx)
			must(t, err)
			is(t, "a device", info.Mode().IsRegular(), false)
			n, err := f.Write(ctx, []byte("hi"))
			is(t, name+": a Write beside a Read", fmt.Sprint(n, err), "2 <nil>")
			if info.Mode()&fs.ModeNamedPipe != 0 {
				n, err := read.Await(ctx)
				is(t, "the Read", fmt.Sprint(n, err), "2 <nil>")
				read = reading(t, ctx, f, make([]byte, 10))
			} else if done, _, err := asyncio.Wait(ctx, []*asyncio.Task[int]{read}, asyncio.WaitTimeout(time.Second)); err != nil || len(done) > 0 {
				must(t, err) // a terminal may echo to its master what was written to it
				read = reading(t, ctx, f, make([]byte, 10))
			}
			must(t, f.Close(ctx))
			_, err = read.Await(ctx)
			wantErr(t, "a Read when the file is closed", err, fs.ErrClosed)
		}
		return nil
	})
}

// terminals returns the names of the devices that make a terminal, if the system has any.
func terminals() []string {
	if f, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0); err != nil || f.Close() != nil {
		return nil
	}
	return []string{"/dev/ptmx"}
}

// Files that are not regular give the same answers as in package os.
func TestFile_DevicesLikePackageOS(t *testing.T) {
	onRealFifo(t, func(ctx context.Context, pipe string) error {
		for _, name := range append([]string{pipe, "/dev/null", "/dev/zero", "/proc/self/mounts", t.TempDir()}, terminals()...) {
			flag := os.O_RDWR
			if info, err := os.Stat(name); err != nil {
				continue
			} else if !slices.ContainsFunc([]string{pipe, "/dev/null", "/dev/zero", "/dev/ptmx"}, func(n string) bool { return n == name }) || info.IsDir() {
				flag = os.O_RDONLY
			}
			theirs, err := os.OpenFile(name, flag, 0)
			must(t, err)
			ours, err := asyncio.OpenFile(ctx, name, flag, 0)
			must(t, err)
			check := func(what string, n int64, err error, wantN int64, wantErr error) {
				t.Helper()
				if n != wantN || fmt.Sprint(err) != fmt.Sprint(wantErr) {
					t.Errorf("%s of %s: %d, %v, and package os: %d, %v", what, name, n, err, wantN, wantErr)
				}
			}
			for whence := range 3 {
				n, err := ours.Seek(ctx, 0, whence)
				m, osErr := theirs.Seek(0, whence)
				if whence != io.SeekEnd || osErr != nil {
					check("Seek", n, err, m, osErr)
				}
			}
			p, q := make([]byte, 3), make([]byte, 3)
			n, err := ours.ReadAt(ctx, p, 1)
			m, osErr := theirs.ReadAt(q, 1)
			check("ReadAt", int64(n), err, int64(m), osErr)
			n, err = ours.WriteAt(ctx, p, 1)
			m, osErr = theirs.WriteAt(q, 1)
			check("WriteAt", int64(n), err, int64(m), osErr)
			n, err = ours.Write(ctx, nil)
			m, osErr = theirs.Write(nil)
			check("Write of nothing", int64(n), err, int64(m), osErr)
			check("Truncate", 0, ours.Truncate(ctx, 0), 0, theirs.Truncate(0))
			check("Sync", 0, ours.Sync(ctx), 0, theirs.Sync())
			check("Close", 0, ours.Close(ctx), 0, theirs.Close())
		}
		return nil
	})
}

// The next Read of a device gets what a cancelled Read got too late, even in parts (file 9).
func TestFile_CancelledReadOfADeviceLosesNothing(t *testing.T) {
	onRealFifo(t, func(ctx context.Context, name string) error {
		f := open(t, ctx, name, os.O_RDWR)
		read := reading(t, ctx, f, make([]byte, 10))
		read.Cancel()
		if _, err := read.Await(ctx); !errors.Is(err, asyncio.ErrCancelled) {
			t.Errorf("the cancelled Read: %v", err)
		}
		behind := reading(t, ctx, f, make([]byte, 3))
		_, err := f.Write(ctx, []byte("hello"))
		must(t, err)
		n, err := behind.Await(ctx)
		is(t, "the next", fmt.Sprint(n, err), "3 <nil>")
		p := make([]byte, 10)
		n, err = f.Read(ctx, p)
		is(t, "and the next", fmt.Sprintf("%s %v", p[:n], err), "lo <nil>")
		_, err = f.Write(ctx, []byte("!"))
		must(t, err)
		n, err = f.Read(ctx, p)
		is(t, "and then", fmt.Sprintf("%s %v", p[:n], err), "! <nil>")
		return f.Close(ctx)
	})
}

// A device that is left open with a read under way does not keep a run from ending. It is closed
// and reported (file 7, file 8).
func TestFile_DeviceLeftOpen(t *testing.T) {
	for _, whole := range []bool{false, true} {
		name := filepath.Join(t.TempDir(), "pipe")
		must(t, syscall.Mkfifo(name, 0o600))
		var other *os.File
		var r reports
		began := time.Now()
		_, err := asyncio.Run(t.Context(), asyncio.Do(func(ctx context.Context) error {
			loop(t, ctx).SetExceptionHandler(r.handle)
			if whole {
				start(ctx, func(ctx context.Context) error { _, err := asyncio.ReadFile(ctx, name); return err })
			} else {
				f := open(t, ctx, name, os.O_RDWR)
				start(ctx, func(ctx context.Context) error {
					for {
						if _, err := f.Read(ctx, make([]byte, 1<<16)); err != nil {
							return err
						}
					}
				})
			}
			_, err := asyncio.ToThread(ctx, func(context.Context) (n int, err error) {
				if other, err = os.OpenFile(name, os.O_WRONLY, 0); err != nil {
					return 0, err
				}
				// more than a pipe holds, so the pipe is being read
				return other.Write(make([]byte, 1<<18))
			})
			return err
		}))
		must(t, err)
		if took := time.Since(began); took > 30*time.Second {
			t.Errorf("whole %v: it took %v", whole, took)
		}
		want := []string{fmt.Sprintf("unclosed file %s: whoever opens a file must close it (File.Close)", quoted(name))}
		if whole {
			want = nil
		}
		equal(t, "reports", r.messages(), want)
		must(t, other.Close())
	}
}

// Openings that wait for another process keep nothing else waiting, however many there are.
// Openings that nobody waits for any more are reported (file 8).
func TestFile_OpeningsThatWait(t *testing.T) {
	const many = 300 // more than may wait at a time
	name := filepath.Join(t.TempDir(), "pipe")
	must(t, syscall.Mkfifo(name, 0o600))
	var r reports
	_, err := asyncio.Run(t.Context(), asyncio.Do(func(ctx context.Context) error {
		loop(t, ctx).SetExceptionHandler(r.handle)
		loop(t, ctx).SetDefaultExecutor(asyncio.NewThreadPoolExecutor(1))
		var tasks []*asyncio.Task[asyncio.None]
		for range many {
			tasks = append(tasks, start(ctx, func(ctx context.Context) error {
				_, err := asyncio.OpenFile(ctx, name, os.O_RDONLY, 0)
				return err
			}))
		}
		for range 2 * many {
			if _, err := asyncio.Stat(ctx, name); err != nil {
				return err
			}
		}
		for _, task := range tasks {
			task.Cancel()
			endsCancelled(t, ctx, task)
		}
		_, err := asyncio.ToThread(ctx, instant)
		return err
	}))
	must(t, err)
	all := r.messages()
	if len(all) != 1 || !strings.HasPrefix(all[0], "opening "+quoted(name)+" is left behind, ") || !strings.Contains(all[0], "O_NONBLOCK") {
		t.Errorf("reports: %q", all)
	}
	other, err := os.OpenFile(name, os.O_RDWR, 0) // lets the openings end
	must(t, err)
	is(t, "goroutines", leaktest.Goroutines(), "")
	must(t, other.Close())
}

// With O_NONBLOCK, opening waits neither for another process nor for its turn among those that do.
func TestFile_OpeningThatDoesNotWait(t *testing.T) {
	const many = 300 // more than may wait at a time
	busy := filepath.Join(t.TempDir(), "busy")
	must(t, syscall.Mkfifo(busy, 0o600))
	onRealFifo(t, func(ctx context.Context, name string) error {
		loop(t, ctx).SetDefaultExecutor(asyncio.NewThreadPoolExecutor(1))
		var waiting []*asyncio.Task[asyncio.None]
		for range many {
			waiting = append(waiting, start(ctx, func(ctx context.Context) error {
				f, err := asyncio.OpenFile(ctx, busy, os.O_RDONLY, 0)
				if err != nil {
					return err
				}
				return f.Close(ctx)
			}))
		}
		settle(t, ctx)
		// The executor works in the order of submission, so when this is done all of them wait.
		if _, err := asyncio.ToThread(ctx, instant); err != nil {
			return err
		}
		soon, cancel := asyncio.WithTimeout(ctx, 30*time.Second)
		defer cancel()
		_, forWriting := asyncio.OpenFile(soon, name, os.O_WRONLY|syscall.O_NONBLOCK, 0)
		f, forReading := asyncio.OpenFile(soon, name, os.O_RDONLY|syscall.O_NONBLOCK, 0)
		other, err := os.OpenFile(busy, os.O_RDWR, 0) // lets them end
		must(t, err)
		await(t, ctx, waiting...)
		must(t, other.Close())
		wantErr(t, "OpenFile", forWriting, syscall.ENXIO)
		must(t, forReading)
		return f.Close(ctx)
	})
}

// A write that fails partway returns how much it wrote, and the offset moves by that.
func TestFile_WriteThatFailsPartway(t *testing.T) {
	if os.Getenv("ASYNCIO_SMALL_FILES") == "" {
		out, err := subprocess("TestFile_WriteThatFailsPartway", "ASYNCIO_SMALL_FILES=1").CombinedOutput()
		if err != nil || !strings.Contains(string(out), "PASS: TestFile_WriteThatFailsPartway") {
			t.Fatalf("%v\n%s", err, out)
		}
		return
	}
	// This process cannot make a file larger than that.
	const most = 512
	must(t, syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: most, Max: most}))
	run(t, func(ctx context.Context) error {
		data := pattern(2000)
		for _, flag := range []int{os.O_RDWR, os.O_RDWR | os.O_APPEND} {
			name := filepath.Join(t.TempDir(), "file")
			f := open(t, ctx, name, flag)
			_, err := f.Write(ctx, data[:100])
			must(t, err)
			n, err := f.Write(ctx, data)
			is(t, "Write", n, most-100)
			wantErr(t, "Write", err, syscall.EFBIG)
			at, err := f.Seek(ctx, 0, io.SeekCurrent)
			is(t, "the offset", fmt.Sprint(at, err), "512 <nil>")
			info, err := f.Stat(ctx)
			must(t, err)
			is(t, "the size", info.Size(), int64(most))
			n, err = f.Write(ctx, data)
			is(t, "Write of more", n, 0)
			wantErr(t, "Write of more", err, syscall.EFBIG)
			if flag&os.O_APPEND == 0 {
				n, err = f.WriteAt(ctx, data, 12)
				is(t, "WriteAt", n, most-12)
				wantErr(t, "WriteAt", err, syscall.EFBIG)
			}
			must(t, f.Close(ctx))
			is(t, "contents", len(contents(t, name)), most)
		}
		wantErr(t, "WriteFile", asyncio.WriteFile(ctx, filepath.Join(t.TempDir(), "file"), data, 0o600), syscall.EFBIG)
		return nil
	})
}

// For the special values of whence Seek asks the file system, as package os does.
func TestFile_SeekLikePackageOS(t *testing.T) {
	run(t, func(ctx context.Context) error {
		name := filepath.Join(t.TempDir(), "file")
		must(t, os.WriteFile(name, pattern(100), 0o600))
		theirs, err := os.Open(name)
		must(t, err)
		ours := open(t, ctx, name, os.O_RDWR)
		for _, offset := range []int64{0, 50, 100, 101, -1, 1 << 31, 1 << 40, 1 << 62, 1<<63 - 1} {
			for whence := range 6 {
				at, err := ours.Seek(ctx, offset, whence)
				want, osErr := theirs.Seek(offset, whence)
				if at != want || fmt.Sprint(err) != fmt.Sprint(osErr) {
					t.Errorf("Seek(%d, %d) = %d, %v, and package os: %d, %v", offset, whence, at, err, want, osErr)
				}
			}
		}
		must(t, theirs.Close())
		return ours.Close(ctx)
	})
}

// An append goes to the end even after the offset was at the largest possible position.
func TestFile_AppendAfterTheLastOffset(t *testing.T) {
	dir := "/dev/shm" // its files can have every possible offset
	if _, err := os.Stat(dir); err != nil {
		dir = t.TempDir()
	}
	dir, err := os.MkdirTemp(dir, "asyncio")
	must(t, err)
	defer os.RemoveAll(dir)
	run(t, func(ctx context.Context) error {
		f := open(t, ctx, filepath.Join(dir, "log"), os.O_RDWR|os.O_APPEND)
		if err := f.Truncate(ctx, math.MaxInt64); err != nil {
			must(t, f.Truncate(ctx, 1<<40)) // the file system allows fewer
		}
		_, err := f.Seek(ctx, 0, io.SeekEnd)
		must(t, err)
		must(t, f.Truncate(ctx, 0))
		_, err = f.Seek(ctx, 0, io.SeekStart)
		must(t, err)
		n, err := f.Write(ctx, []byte("x"))
		is(t, "Write", fmt.Sprint(n, err), "1 <nil>")
		return f.Close(ctx)
	})
}

// A file too large for any memory cannot be read as a whole.
func TestFile_LargerThanMemory(t *testing.T) {
	run(t, func(ctx context.Context) error {
		name := filepath.Join(t.TempDir(), "big")
		f := open(t, ctx, name, os.O_RDWR)
		// only on a file system with such large files
		if err := f.Truncate(ctx, 1<<42); err == nil {
			_, err := asyncio.ReadFile(ctx, name)
			wantErr(t, "ReadFile", err, syscall.EFBIG)
		}
		return f.Close(ctx)
	})
}

// A read that may take for ever can be given up at once. The next read waits behind it (file 5),
// and Close ends it (file 8).
func TestFile_PipeThatNobodyWritesTo(t *testing.T) {
	onRealFifo(t, func(ctx context.Context, name string) error {
		for _, cancelled := range []bool{true, false} {
			f := open(t, ctx, name, os.O_RDWR)
			read := start(ctx, func(ctx context.Context) error { _, err := f.Read(ctx, make([]byte, 1)); return err })
			settle(t, ctx)
			// The executor works in the order of submission, so the next job runs after the first
			// one.
			if _, err := asyncio.ToThread(ctx, instant); err != nil {
				return err
			}
			if cancelled {
				read.Cancel()
				endsCancelled(t, ctx, read)
			}
			behind := start(ctx, func(ctx context.Context) error { _, err := f.Read(ctx, make([]byte, 1)); return err })
			settle(t, ctx)
			if err := f.Close(ctx); err != nil && !errors.Is(err, fs.ErrClosed) {
				return err
			}
			if !cancelled {
				_, err := read.Await(ctx)
				wantErr(t, "Read", err, fs.ErrClosed)
			}
			_, err := behind.Await(ctx)
			wantErr(t, "a Read that waited for its turn", err, fs.ErrClosed)
		}
		return nil
	})
}
