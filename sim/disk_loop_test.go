package sim

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/internal/driver"
)

// Disks below a loop: what programs get from package asyncio, and what is left of operations that
// are cancelled or die in the middle.

// diskDriver is a virtual clock with a disk.
type diskDriver struct {
	*driver.Virtual
	d *Disk
}

func (w diskDriver) Disk() driver.Disk { return w.d.fileSystem() }

// onDisk runs main on a loop that has the disk, and returns the loop's reports.
func onDisk(t *testing.T, d *Disk, main func(ctx context.Context) error) (reports []string) {
	t.Helper()
	factory := func(ctx context.Context) *asyncio.EventLoop {
		l := asyncio.NewEventLoop(driver.With(ctx, diskDriver{driver.NewVirtual(), d}))
		l.SetDebug(true)
		l.SetExceptionHandler(func(_ *asyncio.EventLoop, c asyncio.ExceptionContext) { reports = append(reports, c.Message) })
		return l
	}
	_, err := asyncio.Run(t.Context(), asyncio.Do(main), asyncio.LoopFactory(factory))
	must(t, err)
	return reports
}

func now(t *testing.T, ctx context.Context) time.Duration {
	t.Helper()
	l, err := asyncio.GetRunningLoop(ctx)
	must(t, err)
	return l.Time().SinceStart()
}

// The whole interface, on a disk that takes a second for each operation.
func TestDisk_ThroughAsyncio(t *testing.T) {
	d := faultless()
	d.SetLatency(time.Second, time.Second)
	d.SetSyncLatency(time.Minute, time.Minute)
	reports := onDisk(t, d, func(ctx context.Context) error {
		at := time.Duration(0)
		took := func(what string, want time.Duration) {
			t.Helper()
			if got := now(t, ctx) - at; got != want {
				t.Errorf("%s took %v, want %v", what, got, want)
			}
			at = now(t, ctx)
		}
		must(t, asyncio.MkdirAll(ctx, "d/e", 0o755))
		took("MkdirAll", time.Second)
		must(t, asyncio.WriteFile(ctx, "d/e/a", []byte("hello"), 0o600))
		took("WriteFile", 3*time.Second)
		data, err := asyncio.ReadFile(ctx, "/d/e/a")
		must(t, err)
		took("ReadFile", 3*time.Second)
		if string(data) != "hello" {
			t.Errorf("%q", data)
		}
		must(t, asyncio.Rename(ctx, "d/e/a", "d/b"))
		must(t, asyncio.SyncDir(ctx, "d"))
		took("Rename and SyncDir", time.Minute+time.Second)
		f, err := asyncio.OpenFile(ctx, "d/b", os.O_RDWR|os.O_APPEND, 0)
		must(t, err)
		_, err = f.Write(ctx, []byte(" world"))
		must(t, err)
		must(t, f.Sync(ctx))
		took("open, write, sync", time.Minute+2*time.Second)
		if n, err := f.Seek(ctx, -5, io.SeekEnd); n != 6 || err != nil {
			t.Errorf("%d, %v", n, err)
		}
		p := make([]byte, 100)
		if n, err := f.Read(ctx, p); string(p[:n]) != "world" || err != nil {
			t.Errorf("%q, %v", p[:n], err)
		}
		if _, err := f.Read(ctx, p); err != io.EOF {
			t.Errorf("%v, want EOF", err)
		}
		info, err := f.Stat(ctx)
		must(t, err)
		if info.Size() != 11 || info.Mode() != 0o600 || info.Name() != "b" {
			t.Errorf("%v", info)
		}
		must(t, f.Close(ctx))
		_, err = asyncio.Stat(ctx, "d/e/a")
		wantErr(t, "Stat", err, fs.ErrNotExist)
		must(t, asyncio.Remove(ctx, "d/e"))
		entries, err := asyncio.ReadDir(ctx, "d")
		must(t, err)
		if fmt.Sprint(entries) != "[- b]" {
			t.Errorf("%v", entries)
		}
		return nil
	})
	if len(reports) > 0 {
		t.Error(reports)
	}
	if len(d.mounted.open) > 0 {
		t.Error("files are open")
	}
}

// A cancel at every moment of a Write that takes some time. Before the Write has begun nothing
// happens; after that it happens in full, with the contents that the buffer had at the call. The
// offset stays, and the next operation on the file comes behind the write.
func TestDisk_CancelledWrite(t *testing.T) {
	outcome := make(map[string]int)
	for seed := range uint64(30) {
		for wait := time.Duration(-1); wait <= 11; wait++ {
			d := spending(never, rand.New(rand.NewPCG(seed, 0)))
			must(t, d.WriteFile("a", []byte("......")))
			d.SetLatency(10, 10)
			onDisk(t, d, func(ctx context.Context) error {
				f, err := asyncio.OpenFile(ctx, "a", os.O_RDWR, 0)
				must(t, err)
				p := []byte("first")
				task := asyncio.CreateTask(ctx, func(ctx context.Context) (int, error) { return f.Write(ctx, p) })
				must(t, asyncio.Sleep(ctx, 0)) // Write is called; the disk has not begun
				if wait >= 0 {
					must(t, asyncio.Sleep(ctx, wait))
				}
				at := now(t, ctx)
				task.Cancel()
				_, err = task.Await(ctx)
				copy(p, "-----")
				if now(t, ctx) != at {
					t.Errorf("the cancel took %v", now(t, ctx)-at)
				}
				seen, readErr := d.ReadFile("a")
				must(t, readErr)
				what := "cancelled, " + string(seen)
				if err == nil {
					what = "done"
				} else {
					wantErr(t, "Write", err, asyncio.ErrCancelled)
				}
				outcome[what]++
				if wait < 0 && what != "cancelled, ......" {
					t.Errorf("it had not begun: %s", what)
				}
				if _, err := f.WriteAt(ctx, []byte("2nd"), 0); err != nil {
					return err
				}
				want := "2ndst."
				if wait < 0 {
					want = "2nd..."
				}
				wantContents(t, d, "a", want)
				offset, err := f.Seek(ctx, 0, io.SeekCurrent)
				must(t, err)
				if moved := offset != 0; moved != (what == "done") {
					t.Errorf("%s, and the offset is %d", what, offset)
				}
				return f.Close(ctx)
			})
		}
	}
	if len(outcome) != 3 {
		t.Errorf("outcomes: %v", outcome)
	}
}

// The end of a context does the same, also to operations without a file.
func TestDisk_CancelledRename(t *testing.T) {
	seen := make(map[string]bool)
	for seed := range uint64(10) {
		d := spending(never, rand.New(rand.NewPCG(seed, 0)))
		must(t, d.WriteFile("a", []byte("a")))
		d.SetLatency(10, 10)
		onDisk(t, d, func(ctx context.Context) error {
			limited, cancel := asyncio.WithTimeout(ctx, 5)
			defer cancel()
			wantErr(t, "Rename", asyncio.Rename(limited, "a", "b"), context.DeadlineExceeded)
			seen[fmt.Sprint(d.Names())] = true
			must(t, asyncio.Sleep(ctx, 10))
			wantContents(t, d, "b", "a")

			limited, cancel = asyncio.WithTimeout(ctx, 5)
			defer cancel()
			_, err := asyncio.OpenFile(limited, "b", os.O_RDWR, 0)
			wantErr(t, "OpenFile", err, context.DeadlineExceeded)
			must(t, asyncio.Sleep(ctx, 10))
			if len(d.mounted.open) > 0 {
				t.Error("OpenFile was cancelled, and the file is open")
			}
			return nil
		})
	}
	if len(seen) != 2 {
		t.Errorf("when it was cancelled there was %v", seen)
	}
}

// Operations that need not wait for each other take their time together.
func TestDisk_SideBySide(t *testing.T) {
	d := faultless()
	must(t, d.WriteFile("a", []byte("0123456789")))
	d.SetLatency(10, 10)
	onDisk(t, d, func(ctx context.Context) error {
		f, err := asyncio.OpenFile(ctx, "a", os.O_RDWR, 0)
		must(t, err)
		at := now(t, ctx)
		err = asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg *asyncio.TaskGroup) error {
			for i := range 5 {
				tg.CreateTask(ctx, func(ctx context.Context) error { _, err := f.ReadAt(ctx, make([]byte, 1), int64(i)); return err })
			}
			return nil
		})
		if took := now(t, ctx) - at; took != 10 {
			t.Errorf("five ReadAt took %v, want 10ns", took)
		}
		return errors.Join(err, f.Close(ctx))
	})
}

// A host that dies in the middle of WriteFile can leave the file empty, and its pending operation
// is over.
func TestDisk_DiesInTheMiddle(t *testing.T) {
	seen := make(map[string]bool)
	for after := time.Duration(1); after < 40; after++ {
		d := spending(never, rand.New(rand.NewPCG(uint64(after), 0)))
		must(t, d.WriteFile("a", []byte("old")))
		d.SetLatency(10, 10)
		reports := onDisk(t, d, func(ctx context.Context) error {
			f, err := asyncio.OpenFile(ctx, "a", os.O_RDWR, 0)
			must(t, err)
			task := asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error { return asyncio.WriteFile(ctx, "a", []byte("new"), 0o600) }))
			must(t, asyncio.Sleep(ctx, after))
			d.unmount()
			data, err := d.ReadFile("a")
			must(t, err)
			seen[string(data)] = true
			if _, err := task.Await(ctx); err != nil {
				wantErr(t, "WriteFile", err, fs.ErrClosed)
			}
			wantContents(t, d, "a", string(data))
			_, err = f.Read(ctx, make([]byte, 1))
			wantErr(t, "Read", err, fs.ErrClosed)
			return nil // f is not closed, and its host has died
		})
		if len(reports) > 0 {
			t.Error(reports)
		}
	}
	if len(seen) != 3 || !seen[""] || !seen["old"] || !seen["new"] {
		t.Errorf("found %v", seen)
	}
}

func TestDisk_LeftOpen(t *testing.T) {
	d := faultless()
	reports := onDisk(t, d, func(ctx context.Context) error {
		for _, name := range []string{"b", "a"} {
			if _, err := asyncio.OpenFile(ctx, name, os.O_RDWR|os.O_CREATE, 0o644); err != nil {
				return err
			}
		}
		return nil
	})
	if len(reports) != 2 || !strings.HasPrefix(reports[0], "unclosed file 'b'") || !strings.HasPrefix(reports[1], "unclosed file 'a'") {
		t.Errorf("%q", reports)
	}
	if len(d.mounted.open) > 0 {
		t.Error("files are open")
	}
}

// The same seed takes the same course.
func TestDisk_SameSeed(t *testing.T) {
	course := func() string {
		var log strings.Builder
		r := rand.New(rand.NewPCG(7, 7))
		d := spending(func(fault string, p float64) bool {
			fmt.Fprintln(&log, fault)
			return r.Float64() < p
		}, rand.New(rand.NewPCG(8, 8)))
		d.SetLatency(0, time.Second)
		d.SetFaults(DiskFaults{Write: .1, Sync: .2, BitRot: .3, Stall: .1})
		for range 5 {
			onDisk(t, d, func(ctx context.Context) error {
				return asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg *asyncio.TaskGroup) error {
					for _, name := range []string{"a", "b", "c", "d"} {
						tg.CreateTask(ctx, func(ctx context.Context) error {
							err := asyncio.WriteFile(ctx, name, []byte(strings.Repeat(name, 1000)), 0o644)
							_, readErr := asyncio.ReadFile(ctx, name)
							fmt.Fprintln(&log, now(t, ctx), err, readErr, asyncio.Rename(ctx, name, "x"))
							return nil
						})
					}
					return nil
				})
			})
			d.powerFail()
			for _, name := range d.Names() {
				data, err := d.ReadFile(name)
				fmt.Fprintf(&log, "%s %x %v\n", name, data, err)
			}
		}
		return log.String()
	}
	first := course()
	for range 20 {
		if again := course(); again != first {
			t.Fatalf("%s\nand then\n%s", first, again)
		}
	}
}
