package sim

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/goasyncio/asyncio/internal/driver"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantErr(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: %v, want %v", what, err, want)
	}
}

func wantContents(t *testing.T, d *Disk, name, want string) {
	t.Helper()
	if got, err := d.ReadFile(name); err != nil || string(got) != want {
		t.Errorf("%s has %q, %v; want %q", name, got, err, want)
	}
}

func diskTime() time.Time { return time.Unix(0, 0) }

// spending makes a disk whose operations take times that are drawn from rng.
func spending(chance func(fault string, p float64) bool, rng *rand.Rand) *Disk {
	d := newDisk(chance, rng, diskTime)
	d.amount = func(_ string, s span) int64 { return s.least + rng.Int64N(s.most-s.least+1) }
	return d
}

func testDisk(chance func(fault string, p float64) bool) *Disk {
	return newDisk(chance, rand.New(rand.NewPCG(1, 1)), diskTime)
}

func never(string, float64) bool  { return false }
func always(string, float64) bool { return true }

// happens makes the faults happen that begin with one of the words, and records all faults that
// were asked for.
func happens(asked *[]string, words ...string) func(string, float64) bool {
	return func(fault string, _ float64) bool {
		*asked = append(*asked, fault)
		return slices.ContainsFunc(words, func(w string) bool { return strings.HasPrefix(fault, w) })
	}
}

// faultless returns a disk on which nothing goes wrong.
func faultless() *Disk { return testDisk(never) }

func openDisk(t *testing.T, d *Disk, name string, flag int) driver.File {
	t.Helper()
	f, err := d.fileSystem().OpenFile(name, flag, 0o644)
	must(t, err)
	return f
}

// written returns a new file with some content; neither the name nor the content is durable.
func written(t *testing.T, d *Disk, name string, data string) driver.File {
	t.Helper()
	f := openDisk(t, d, name, os.O_RDWR|os.O_CREATE)
	_, err := f.WriteAt([]byte(data), 0)
	must(t, err)
	return f
}

func TestDisk_Capacity(t *testing.T) {
	d := testDisk(always)
	d.SetCapacity(4*512 + 511) // four sectors
	f := written(t, d, "a", strings.Repeat("x", 1024))
	n, err := f.WriteAt(make([]byte, 2000), 512)
	wantErr(t, "Write", err, syscall.ENOSPC)
	if n != 1536 {
		t.Errorf("%d bytes were written, want 1536", n)
	}
	n, err = f.WriteAt([]byte("over"), 0)
	if n != 4 || err != nil {
		t.Errorf("overwriting: %d, %v", n, err)
	}
	g := written(t, d, "empty", "")
	_, err = g.WriteAt([]byte("x"), 0)
	wantErr(t, "Write", err, syscall.ENOSPC)

	free := func(what string, sectors int) {
		t.Helper()
		n, err := g.WriteAt(make([]byte, 5000), 0)
		wantErr(t, what, err, syscall.ENOSPC)
		if n != sectors*512 {
			t.Errorf("%s: %d bytes were free, want %d sectors", what, n, sectors)
		}
		must(t, g.Truncate(0))
	}
	must(t, f.Truncate(513))
	free("truncated", 2)
	must(t, f.Truncate(1<<40)) // has holes
	free("with holes", 2)
	must(t, d.fileSystem().Remove("a"))
	free("removed and open", 2)
	must(t, f.Close())
	free("closed", 4)
	written(t, d, "a", strings.Repeat("x", 1024))
	must(t, written(t, d, "b", "y").Close())
	must(t, d.fileSystem().Rename("b", "a"))
	free("replaced, and open", 1)
	d.unmount()
	g = openDisk(t, d, "empty", os.O_RDWR)
	free("replaced", 3)
	d.powerFail()
	must(t, d.WriteFile("empty", nil))
	g = openDisk(t, d, "empty", os.O_RDWR)
	free("nothing was durable", 4)
	d.SetCapacity(0)
	_, err = g.WriteAt(make([]byte, 1<<20), 0)
	must(t, err)
}

func TestDisk_BitRot(t *testing.T) {
	d := testDisk(always)
	want := strings.Repeat("synced", 100)
	must(t, d.WriteFile("a", []byte(want)))
	f := openDisk(t, d, "a", os.O_RDWR)
	p := make([]byte, 600)
	_, err := f.ReadAt(p, 0)
	must(t, err)
	if string(p) != want {
		t.Error("it rots without being told to")
	}
	d.SetFaults(DiskFaults{BitRot: 0.01})
	_, err = f.ReadAt(p, 0)
	must(t, err)
	bits := 0
	for i := range p {
		for b := p[i] ^ want[i]; b != 0; b &= b - 1 {
			bits++
		}
	}
	if bits != 1 {
		t.Errorf("%d bits have changed, want 1", bits)
	}
	d.SetFaults(DiskFaults{})
	q := make([]byte, 600)
	_, err = f.ReadAt(q, 0)
	must(t, err)
	d.powerFail()
	got, err := d.ReadFile("a")
	must(t, err)
	if !bytes.Equal(p, q) || !bytes.Equal(p, got) {
		t.Error("it is not for good")
	}

	// Data that is only in memory does not rot.
	d.SetFaults(DiskFaults{BitRot: 1})
	f = written(t, d, "b", want)
	_, err = f.ReadAt(p, 0)
	must(t, err)
	if string(p) != want {
		t.Error("what was not synced has rotted")
	}
	must(t, d.FlipBit("b", 0, 5))
	wantContents(t, d, "b", "S"+want[1:])
	wantErr(t, "FlipBit behind the end", d.FlipBit("b", 600, 0), syscall.EINVAL)
}

// A file can be larger than memory, because parts that were never written take no space. Then it
// cannot be read as a whole.
func TestDisk_LargerThanMemory(t *testing.T) {
	d := faultless()
	f := written(t, d, "big", "x")
	must(t, d.fileSystem().SyncDir("/"))
	for _, size := range []int64{1<<30 + 1, 1 << 61} {
		must(t, f.Truncate(size))
		must(t, f.Sync())
		_, err := d.ReadFile("big")
		wantErr(t, "ReadFile", err, syscall.EFBIG)
		_, err = d.ReadDurable("big")
		wantErr(t, "ReadDurable", err, syscall.EFBIG)
	}
	p := make([]byte, 2)
	n, err := f.ReadAt(p, 1<<61-1)
	if n != 1 || err != io.EOF {
		t.Errorf("ReadAt: %d, %v", n, err)
	}
}

// Linux can tell where a file has data and where it has holes. Here a file has data up to its end.
func TestDisk_SeekDataAndHole(t *testing.T) {
	f := written(t, faultless(), "a", "abc")
	for _, c := range []struct {
		offset int64
		whence int
		want   int64
		err    error
	}{
		{0, seekData, 0, nil}, {2, seekData, 2, nil}, {3, seekData, 0, syscall.ENXIO}, {-1, seekData, 0, syscall.ENXIO},
		{0, seekHole, 3, nil}, {2, seekHole, 3, nil}, {3, seekHole, 0, syscall.ENXIO}, {0, 5, 0, syscall.EINVAL},
		{maxFileSize, io.SeekStart, maxFileSize, nil}, {maxFileSize + 1, io.SeekStart, 0, syscall.EINVAL}, {math.MaxInt64, io.SeekEnd, 0, syscall.EINVAL},
	} {
		at, err := f.Seek(c.offset, c.whence)
		if at != c.want || !errors.Is(err, c.err) {
			t.Errorf("Seek(%d, %d) = %d, %v", c.offset, c.whence, at, err)
		}
	}
}

// A process that dies loses only its open files, and its pending operations are not done.
func TestDisk_Unmount(t *testing.T) {
	d := testDisk(always)
	f := written(t, d, "a", "abc")
	old := d.fileSystem()
	d.unmount()
	wantContents(t, d, "a", "abc")
	_, err := f.WriteAt([]byte("x"), 0)
	wantErr(t, "WriteAt", err, fs.ErrClosed)
	_, err = f.ReadAt(make([]byte, 1), 0)
	wantErr(t, "ReadAt", err, fs.ErrClosed)
	_, err = old.OpenFile("a", os.O_RDWR, 0)
	wantErr(t, "OpenFile", err, fs.ErrClosed)
	_, err = old.ReadDir("/")
	wantErr(t, "ReadDir", err, fs.ErrClosed)
	_, err = old.Stat("a")
	wantErr(t, "Stat", err, fs.ErrClosed)
	_, err = f.Stat()
	wantErr(t, "Stat", err, fs.ErrClosed)
	_, err = f.Seek(0, io.SeekEnd)
	wantErr(t, "End", err, fs.ErrClosed)
	for what, err := range map[string]error{
		"Sync": f.Sync(), "Truncate": f.Truncate(0), "Close": f.Close(), "Rename": old.Rename("a", "b"), "Remove": old.Remove("a"),
		"MkdirAll": old.MkdirAll("c/d", 0o755), "SyncDir": old.SyncDir("/"),
	} {
		wantErr(t, what, err, fs.ErrClosed)
	}
	wantContents(t, d, "a", "abc")
	d.powerFail()
	if names := d.Names(); len(names) > 0 {
		t.Errorf("%v are there, and nothing was durable", names)
	}
}

// Changes that a test makes to the disk from outside are durable, and make nothing else durable.
func TestDisk_FromOutside(t *testing.T) {
	d := testDisk(always)
	fsys := d.fileSystem()
	must(t, fsys.MkdirAll("d/e", 0o755))
	written(t, d, "d/lost", "x")
	written(t, d, "d/e/a", "x")
	must(t, d.WriteFile("d/e/a", []byte("a")))
	must(t, d.WriteFile("/d/f/b", []byte("b")))
	wantErr(t, "WriteFile of a directory", d.WriteFile("d/e", nil), syscall.EISDIR)
	wantErr(t, "WriteFile of the root", d.WriteFile("/", nil), syscall.EISDIR)
	wantErr(t, "WriteFile below a file", d.WriteFile("d/f/b/c", nil), syscall.ENOTDIR)
	_, err := d.ReadFile("d")
	wantErr(t, "ReadFile", err, syscall.EISDIR)
	_, err = d.ReadFile("missing")
	wantErr(t, "ReadFile", err, fs.ErrNotExist)
	_, err = d.ReadDurable("d/lost")
	wantErr(t, "ReadDurable", err, fs.ErrNotExist)
	_, err = d.ReadDurable("d")
	wantErr(t, "ReadDurable", err, syscall.EISDIR)
	d.powerFail()
	if got := fmt.Sprint(d.Names()); got != "[d/e/a d/f/b]" {
		t.Error(got)
	}
	wantContents(t, d, "d/e/a", "a")
}

func TestDisk_BadNamesAndSizes(t *testing.T) {
	d := faultless()
	fsys := d.fileSystem()
	for name, want := range map[string]error{"": syscall.ENOENT, "a\x00b": syscall.EINVAL, strings.Repeat("x", 256): syscall.ENAMETOOLONG, "a/b/c": syscall.ENOENT} {
		_, err := fsys.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o644)
		wantErr(t, "OpenFile", err, want)
	}
	f := written(t, d, "../../a", "x") // above the root is the root
	_, err := f.WriteAt([]byte("x"), 1<<63-1)
	wantErr(t, "WriteAt", err, syscall.EFBIG)
	wantErr(t, "Truncate", f.Truncate(1<<63-1), syscall.EFBIG)
	wantErr(t, "Truncate", f.Truncate(-1), syscall.EINVAL)
	must(t, f.Truncate(1<<50))
	must(t, f.Truncate(1))
	must(t, f.Sync())
	wantContents(t, d, "a", "x")
	wantErr(t, "Remove of the root", fsys.Remove("/"), syscall.EBUSY)
	wantErr(t, "Rename of the root", fsys.Rename("/", "b"), syscall.EBUSY)
}

// disk 9: whichever faults happen, the same numbers are drawn.
func TestDisk_FaultsDrawNothing(t *testing.T) {
	next := func(happens string) uint64 {
		rng := rand.New(rand.NewPCG(3, 3))
		d := newDisk(func(fault string, _ float64) bool { return happens != "" && strings.HasPrefix(fault, happens) }, rng, diskTime)
		must(t, d.WriteFile("a", make([]byte, 10*sectorSize)))
		d.SetFaults(DiskFaults{Read: .1, Write: .1, BitRot: .1, Stall: .1})
		f := openDisk(t, d, "a", os.O_RDWR)
		for range 5 {
			d.fileSystem().Latency(driver.Operation{Verb: "read", Name: "a"})
			_, _ = f.ReadAt(make([]byte, 5000), 0)
			_, _ = openDisk(t, d, "b", os.O_RDWR|os.O_CREATE).WriteAt(make([]byte, 5000), 0)
		}
		d.SetFaults(DiskFaults{})
		_, err := openDisk(t, d, "b", os.O_RDWR).WriteAt(make([]byte, 5000), 0)
		must(t, err)
		d.powerFail()
		return rng.Uint64()
	}
	want := next("")
	for _, fault := range []string{"stall", "fail the read", "flip", "lose: create", "lose: write", "tear"} {
		if next(fault) != want {
			t.Errorf("%q changes what is drawn next", fault)
		}
	}
}
