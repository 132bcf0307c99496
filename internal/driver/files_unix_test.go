//go:build linux || darwin || freebsd

package driver_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"
)

func init() {
	// The child may write files of most bytes only. It says how much of each write was done.
	children["writes"] = func() int {
		const most = 10_000
		signal.Ignore(syscall.SIGXFSZ)
		if err := syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: most, Max: most}); err != nil {
			fmt.Println(err)
			return 1
		}
		f, err := files.OpenFile(os.Args[1], os.O_RDWR, 0)
		if err != nil {
			fmt.Println(err)
			return 1
		}
		n, end, err := f.Write(pattern(0, 8000), 0)
		fmt.Println(n, end, err)
		n, end, err = f.Write(pattern(8000, 8000), 8000)
		fmt.Println(n, end, errors.Is(err, syscall.EFBIG))
		n, end, err = f.Write(pattern(8000, 8000), most)
		fmt.Println(n, end, errors.Is(err, syscall.EFBIG))
		n, err = f.WriteAt(pattern(0, 8000), 9000)
		fmt.Println(n, errors.Is(err, syscall.EFBIG))
		return 0
	}
}

// A write that fails half way returns how much was written before.
func TestFile_PartialWrite(t *testing.T) {
	name := filepath.Join(t.TempDir(), "f")
	must(t, os.WriteFile(name, nil, 0o600))
	cmd := again(name)
	cmd.Env = append(os.Environ(), asChild+"=writes")
	got, err := cmd.Output()
	must(t, err)
	const want = "8000 8000 <nil>\n2000 10000 true\n0 10000 true\n1000 true\n"
	if string(got) != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

// A named pipe is a device: it has no offsets, opening it waits for the other end, and Close ends a
// read that is under way.
func TestFile_NamedPipe(t *testing.T) {
	name := filepath.Join(t.TempDir(), "pipe")
	must(t, syscall.Mkfifo(name, 0o600))
	if !files.OpeningWaits(name, os.O_RDONLY) || files.OpeningWaits(name, os.O_RDONLY|syscall.O_NONBLOCK) {
		t.Error("OpeningWaits")
	}
	f := openFile(t, name, os.O_RDWR)
	if !f.Device() {
		t.Error("it is no device")
	}
	for i := range int64(3) {
		if n, end, err := f.Write([]byte("hello"), 77*i); n != 5 || end != 77*i || err != nil {
			t.Errorf("Write = %d, %d, %v", n, end, err)
		}
	}
	p := make([]byte, 12)
	if n, err := f.Read(p, 99); string(p[:n]) != "hellohellohe" || err != nil {
		t.Errorf("Read = %q, %v", p[:n], err)
	}
	if _, err := f.Seek(0, 1); err == nil {
		t.Error("a pipe has an offset")
	}
	if n, err := f.Read(p, 99); string(p[:n]) != "llo" || err != nil {
		t.Errorf("Read = %q, %v", p[:n], err)
	}
	done := make(chan error)
	go func() {
		_, err := f.Read(p, 0)
		done <- err
	}()
	must(t, f.Close())
	if err := <-done; !errors.Is(err, fs.ErrClosed) {
		t.Errorf("Read: %v", err)
	}
}

// Devices are no plain files, and neither is opening them a wait, except for terminals and pipes.
func TestFile_Devices(t *testing.T) {
	f := openFile(t, os.DevNull, os.O_RDWR)
	if !f.Device() {
		t.Error("the null device is none")
	}
	if n, end, err := f.Write([]byte("lost"), 5); n != 4 || end != 5 || err != nil {
		t.Errorf("Write = %d, %d, %v", n, end, err)
	}
	if n, err := f.Read(make([]byte, 9), 0); n != 0 || err == nil {
		t.Errorf("Read = %d, %v", n, err)
	}
}
