package driver_test

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/goasyncio/asyncio/internal/driver"
)

var files driver.FileSystem = driver.OS{}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func openFile(t *testing.T, name string, flag int) driver.File {
	t.Helper()
	f, err := files.OpenFile(name, flag, 0o600)
	must(t, err)
	t.Cleanup(func() { f.Close() })
	return f
}

// Reads and writes at an offset are independent of each other, and each returns the next offset.
func TestFile_Offsets(t *testing.T) {
	name := filepath.Join(t.TempDir(), "f")
	f := openFile(t, name, os.O_RDWR|os.O_CREATE)
	if f.Device() {
		t.Error("a plain file is a device")
	}
	for _, w := range []struct {
		p   string
		off int64
	}{{"hello", 0}, {"", 3}, {"world", 10}, {"LL", 2}, {"far", 100_000}} {
		n, end, err := f.Write([]byte(w.p), w.off)
		if n != len(w.p) || end != w.off+int64(n) || err != nil {
			t.Errorf("Write(%q, %d) = %d, %d, %v", w.p, w.off, n, end, err)
		}
	}
	n, err := f.WriteAt([]byte("!"), 15)
	if n != 1 || err != nil {
		t.Errorf("WriteAt = %d, %v", n, err)
	}
	p := make([]byte, 20)
	for _, r := range []struct {
		off  int64
		want string
	}{{0, "heLLo\x00\x00\x00\x00\x00world!\x00\x00\x00\x00"}, {10, "world!" + string(make([]byte, 14))}, {100_001, "ar"}} {
		n, err := f.Read(p, r.off)
		if string(p[:n]) != r.want || err != nil {
			t.Errorf("Read(%d) = %q, %v, want %q", r.off, p[:n], err, r.want)
		}
	}
	if n, err := f.Read(p, 100_003); n != 0 || err != io.EOF {
		t.Errorf("Read = %d, %v at the end", n, err)
	}
	if n, err := f.Read(p, 1<<40); n != 0 || err != io.EOF {
		t.Errorf("Read = %d, %v behind the end", n, err)
	}
	if n, err := f.ReadAt(p, 99_990); n != 13 || err != io.EOF {
		t.Errorf("ReadAt = %d, %v", n, err)
	}
	if _, err := f.Read(p, -1); err == nil {
		t.Error("Read at a negative offset")
	}
	if n, end, err := f.Write([]byte("x"), -1); n != 0 || end != -1 || err == nil {
		t.Errorf("Write = %d, %d, %v at a negative offset", n, end, err)
	}
	must(t, f.Truncate(3))
	must(t, f.Sync())
	info, err := f.Stat()
	if err != nil || info.Size() != 3 {
		t.Errorf("Stat: %v, %v", info, err)
	}
	must(t, f.Close())
	if _, _, err := f.Write([]byte("x"), 0); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("Write after Close: %v", err)
	}
	if _, err := f.Read(p, 0); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("Read after Close: %v", err)
	}
}

// Appended bytes go to the end, whatever the offset, and the new offset is behind them.
func TestFile_Appends(t *testing.T) {
	name := filepath.Join(t.TempDir(), "f")
	must(t, os.WriteFile(name, []byte("old"), 0o600))
	f := openFile(t, name, os.O_RDWR|os.O_APPEND)
	other := openFile(t, name, os.O_RDWR|os.O_APPEND)
	size := int64(3)
	for i, f := range []driver.File{f, other, f, f, other} {
		n, end, err := f.Write([]byte("new"), int64(i*1000))
		if size += 3; n != 3 || end != size || err != nil {
			t.Errorf("Write = %d, %d, %v, want 3, %d", n, end, err, size)
		}
	}
	got, err := os.ReadFile(name)
	if string(got) != "oldnewnewnewnewnew" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	if n, end, err := f.Write(nil, 7); n != 0 || end != 7 && end != size || err != nil {
		t.Errorf("Write of nothing = %d, %d, %v", n, end, err)
	}
}

// Names: what there is, what is not there, and the directories.
func TestFileSystem_Names(t *testing.T) {
	dir := t.TempDir()
	sub := filepath.Join(dir, "a", "b")
	must(t, files.MkdirAll(sub, 0o700))
	must(t, files.MkdirAll(sub, 0o700))
	x, y := filepath.Join(sub, "x"), filepath.Join(sub, "y")
	must(t, openFile(t, x, os.O_WRONLY|os.O_CREATE|os.O_EXCL).Close())
	if _, err := files.OpenFile(x, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600); !errors.Is(err, fs.ErrExist) {
		t.Errorf("OpenFile: %v", err)
	}
	must(t, files.Rename(x, y))
	if _, err := files.Stat(x); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Stat: %v", err)
	}
	if _, err := files.OpenFile(x, os.O_RDONLY, 0); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("OpenFile: %v", err)
	}
	list, err := files.ReadDir(sub)
	if len(list) != 1 || list[0].Name() != "y" || err != nil {
		t.Errorf("ReadDir: %v, %v", list, err)
	}
	if info, err := files.Stat(sub); err != nil || !info.IsDir() {
		t.Errorf("Stat: %v, %v", info, err)
	}
	must(t, files.SyncDir(sub))
	var failed *fs.PathError
	if err := files.SyncDir(y); !errors.Is(err, syscall.ENOTDIR) || !errors.As(err, &failed) || failed.Path != y {
		t.Errorf("SyncDir of a file: %v", err)
	}
	if err := files.SyncDir(x); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("SyncDir of nothing: %v", err)
	}
	if err := files.Remove(sub); err == nil {
		t.Error("a directory that is not empty was removed")
	}
	must(t, files.Remove(y))
	must(t, files.Remove(sub))
	for _, name := range []string{dir, y} {
		if files.OpeningWaits(name, os.O_RDONLY) {
			t.Errorf("opening %s waits", name)
		}
	}
	if got := (driver.Operation{Verb: "open", Name: "x"}).String(); got != "open x" {
		t.Error(got)
	}
}

// A directory can be opened, and neither read nor written.
func TestFile_Directory(t *testing.T) {
	f := openFile(t, t.TempDir(), os.O_RDONLY)
	p := make([]byte, 10)
	if n, err := f.Read(p, 0); n != 0 || err == nil {
		t.Errorf("Read = %d, %v", n, err)
	}
	if n, end, err := f.Write(p, 5); n != 0 || end != 5 || err == nil {
		t.Errorf("Write = %d, %d, %v", n, end, err)
	}
	if n, err := f.WriteAt(p, 5); n != 0 || err == nil {
		t.Errorf("WriteAt = %d, %v", n, err)
	}
}

// Large writes are whole.
func TestFile_Large(t *testing.T) {
	f := openFile(t, filepath.Join(t.TempDir(), "f"), os.O_RDWR|os.O_CREATE)
	want := pattern(0, 5<<20)
	if n, end, err := f.Write(want, 3); n != len(want) || end != int64(n)+3 || err != nil {
		t.Fatalf("Write = %d, %d, %v", n, end, err)
	}
	got := make([]byte, len(want))
	if n, err := f.ReadAt(got, 3); n != len(got) || err != nil || !bytes.Equal(got, want) {
		t.Errorf("ReadAt = %d, %v", n, err)
	}
}
