package sim_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/fstest"
	"time"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/sim"
)

// appendsLine returns a program that adds a line to a file, synced or not.
func appendsLine(name, line string, sync bool) func(ctx context.Context) error {
	return func(ctx context.Context) error {
		if err := asyncio.MkdirAll(ctx, "data", 0o755); err != nil {
			return err
		}
		f, err := asyncio.OpenFile(ctx, name, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o640)
		if err != nil {
			return err
		}
		_, err = f.Write(ctx, []byte(line+"\n"))
		if err == nil && sync {
			err = f.Sync(ctx)
		}
		return errors.Join(err, f.Close(ctx))
	}
}

// A snapshot is a file system that a test reads, and it does not change with the disk.
func TestDiskImage(t *testing.T) {
	var image, durable *sim.DiskImage
	sim.Run(t, func(ctx context.Context) error {
		h := sim.NewHost(ctx, "db", appendsLine("data/log", "one", false))
		if err := h.Disk().WriteFile("etc/conf", []byte("safe")); err != nil {
			return err
		}
		if err := h.Wait(ctx); err != nil {
			return err
		}
		image, durable = h.Disk().Snapshot(), h.Disk().SnapshotDurable()
		h.RestartWith(appendsLine("data/log", "two", true))
		return h.Wait(ctx)
	})
	if err := fstest.TestFS(image, "data/log", "etc/conf"); err != nil {
		t.Error(err)
	}
	if b, err := fs.ReadFile(image, "data/log"); string(b) != "one\n" || err != nil {
		t.Errorf("%q, %v", b, err)
	}
	if _, err := fs.ReadFile(durable, "data/log"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what was not synced is in the durable copy: %v", err)
	}
	if b, err := fs.ReadFile(durable, "etc/conf"); string(b) != "safe" || err != nil {
		t.Errorf("%q, %v", b, err)
	}
	dir := t.TempDir()
	if err := os.CopyFS(dir, image); err != nil {
		t.Error(err)
	}
	if b, err := os.ReadFile(dir + "/data/log"); string(b) != "one\n" || err != nil {
		t.Errorf("on the machine: %q, %v", b, err)
	}
}

// A host of another run starts from a disk of an earlier one, or of the machine. The copy is not
// used up by that, and what is restored is durable.
func TestDisk_Restore(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/log", []byte("zero\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var image *sim.DiskImage
	sim.Run(t, func(ctx context.Context) error {
		h := sim.NewHost(ctx, "db", appendsLine("log", "one", true))
		if err := h.Disk().Restore(os.DirFS(dir)); err != nil {
			return err
		}
		err := h.Wait(ctx)
		image = h.Disk().Snapshot()
		return err
	})
	r := sim.Check(func(ctx context.Context) error {
		h := sim.NewHost(ctx, "other", appendsLine("log", "two", false))
		if err := h.Disk().Restore(image); err != nil {
			return err
		}
		if err := h.Wait(ctx); err != nil {
			return err
		}
		if b, err := h.Disk().ReadFile("log"); string(b) != "zero\none\ntwo\n" || err != nil {
			return fmt.Errorf("%q, %w", b, err)
		}
		h.Crash()
		b, err := h.Disk().ReadFile("log")
		if !strings.HasPrefix(string(b), "zero\none\n") || err != nil {
			return fmt.Errorf("after a crash %q, %w", b, err)
		}
		return nil
	}, sim.Runs(50))
	if r.Failure != nil {
		t.Error(r.Failure)
	}
}

// A disk in use is not replaced, and neither is one by something that a disk cannot hold.
func TestDisk_RestoreRefuses(t *testing.T) {
	sim.Run(t, func(ctx context.Context) error {
		h := sim.NewHost(ctx, "db", func(ctx context.Context) error {
			f, err := asyncio.OpenFile(ctx, "kept", os.O_CREATE, 0o600)
			if err != nil {
				return err
			}
			defer f.Close(ctx)
			return asyncio.Sleep(ctx, time.Second)
		})
		empty := h.Disk().Snapshot()
		if err := asyncio.Sleep(ctx, 500*time.Millisecond); err != nil {
			return err
		}
		if err := h.Disk().Restore(empty); !errors.Is(err, syscall.EBUSY) {
			return fmt.Errorf("with an open file: %w", err)
		}
		if err := h.Wait(ctx); err != nil {
			return err
		}
		link := fstest.MapFS{"link": {Mode: fs.ModeSymlink, Data: []byte("x")}}
		if err := h.Disk().Restore(link); err == nil || !strings.Contains(err.Error(), "no file and no directory") {
			return fmt.Errorf("with a link: %w", err)
		}
		if names := h.Disk().Names(); len(names) != 1 {
			return fmt.Errorf("the disk has %q", names)
		}
		return h.Disk().Restore(empty)
	})
}

// A rolling upgrade: hosts change to the next version of the program one after the other, and each
// finds the disk that the version before has left.
func ExampleHost_RestartWith() {
	version := func(v string) func(ctx context.Context) error {
		return func(ctx context.Context) error {
			old, err := asyncio.ReadFile(ctx, "format")
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			if err := asyncio.WriteFile(ctx, "format", append(old, v...), 0o666); err != nil {
				return err
			}
			return asyncio.Sleep(ctx, 24*time.Hour)
		}
	}
	var formats []string
	r := sim.Check(func(ctx context.Context) error {
		formats = nil // of the last run only
		hosts := []*sim.Host{sim.NewHost(ctx, "a", version("v1 ")), sim.NewHost(ctx, "b", version("v1 "))}
		for _, h := range hosts {
			if err := asyncio.Sleep(ctx, time.Minute); err != nil {
				return err
			}
			h.Shutdown()
			_ = h.Wait(ctx) // it was cancelled
			h.RestartWith(version("v2 "))
		}
		if err := asyncio.Sleep(ctx, time.Minute); err != nil {
			return err
		}
		for _, h := range hosts {
			format, err := h.Disk().ReadFile("format")
			if err != nil {
				return err
			}
			formats = append(formats, h.Name()+": "+string(format))
		}
		return nil
	}, sim.Runs(10))
	fmt.Printf("%q %v\n", formats, r.Failure)
	// Output: ["a: v1 v2 " "b: v1 v2 "] <nil>
}
