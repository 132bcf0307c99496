package sim

import (
	"bytes"
	"context"
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

	"github.com/goasyncio/asyncio"
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

// outcomes runs body once for each combination of outcomes of the faults that it asks for.
func outcomes(body func(chance func(string, float64) bool)) (n int) {
	var path []bool
	for {
		i := 0
		body(func(string, float64) bool {
			if i == len(path) {
				path = append(path, false)
			}
			i++
			return path[i-1]
		})
		n++
		path = path[:i]
		for len(path) > 0 && path[len(path)-1] {
			path = path[:len(path)-1]
		}
		if len(path) == 0 {
			return n
		}
		path[len(path)-1] = true
	}
}

// replacing is the ways in which programs replace a file, right and wrong, step by step.
func replacing(way string, data []byte) []func(fsys driver.FileSystem) error {
	var f driver.File
	step := map[byte]func(fsys driver.FileSystem) error{
		'c': func(fsys driver.FileSystem) (err error) {
			f, err = fsys.OpenFile("d/new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
			return err
		},
		'o': func(fsys driver.FileSystem) (err error) {
			f, err = fsys.OpenFile("d/file", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
			return err
		},
		'w': func(driver.FileSystem) error { _, err := f.WriteAt(data, 0); return err },
		's': func(driver.FileSystem) error { return f.Sync() },
		'x': func(driver.FileSystem) error { return f.Close() },
		'r': func(fsys driver.FileSystem) error { return fsys.Rename("d/new", "d/file") },
		'd': func(fsys driver.FileSystem) error { return fsys.SyncDir("d") },
	}
	var steps []func(fsys driver.FileSystem) error
	for _, c := range []byte(way) {
		steps = append(steps, step[c])
	}
	return steps
}

// A power failure at any point, with every possible outcome: the safe order is safe, and leaving
// any step out is not.
func TestDisk_ReplacingAFile(t *testing.T) {
	before, after := strings.Repeat("old", 400), strings.Repeat("longer", 500)
	for _, c := range []struct {
		// create new, write, sync, close, rename, sync directory; o opens the file itself
		way  string
		what string // the possible damage
	}{
		{"cwsxrd", ""},
		{"cwsrdx", ""},
		{"cwxrd", "mixed"},       // no sync
		{"cwrsd", "mixed"},       // too late
		{"cwsxr", "lost"},        // no sync of the directory
		{"cwdsxr", "lost"},       // too early
		{"cwsdxr", "lost"},       //
		{"owsxd", "mixed"},       // in place
		{"ows", "mixed"},         //
		{"owx", "mixed lost"},    //
		{"cwxr", "mixed lost"},   //
		{"cswxrd", "mixed"},      // the wrong way round
		{"cwsxrdowsxd", "mixed"}, // once right, then wrong
		{"cwsxrdcwsxrd", ""},     // twice
		{"cwsxrdcwsxr", ""},      // the second time writes the same
	} {
		found := make(map[string]bool)
		runs := 0
		steps := len(replacing(c.way, nil))
		for fail := range steps + 1 {
			runs += outcomes(func(chance func(string, float64) bool) {
				d := testDisk(chance)
				must(t, d.WriteFile("d/file", []byte(before)))
				for _, step := range replacing(c.way, []byte(after))[:fail] {
					must(t, step(d.fileSystem()))
				}
				d.powerFail()
				got, err := d.ReadFile("d/file")
				switch {
				case err != nil:
					found["gone"] = true
				case string(got) != before && string(got) != after:
					found["mixed"] = true
				case fail == steps && string(got) != after:
					found["lost"] = true
				}
			})
		}
		for _, what := range []string{"gone", "mixed", "lost"} {
			if want := strings.Contains(c.what, what); found[what] != want {
				t.Errorf("%s: %s is %v, want %v (%d runs)", c.way, what, found[what], want, runs)
			}
		}
	}
}

// An append-only log that syncs after each record never loses a synced record, whatever happens to
// the next one. Behind the last one there is only a prefix of sectors or zeros.
func TestDisk_Log(t *testing.T) {
	record := func(i int) []byte { return bytes.Repeat([]byte{byte('A' + i)}, 700) }
	torn, zeros := 0, 0
	for seed := range uint64(20) {
		outcomes(func(chance func(string, float64) bool) {
			d := newDisk(chance, rand.New(rand.NewPCG(seed, 0)), diskTime)
			must(t, d.WriteFile("log", nil))
			f := openDisk(t, d, "log", os.O_RDWR)
			var synced []byte
			for i := range 4 {
				_, _, err := f.Write(record(i), int64(i*700))
				must(t, err)
				if i < 3 {
					must(t, f.Sync())
					synced = append(synced, record(i)...)
				}
			}
			d.powerFail()
			got, err := d.ReadFile("log")
			must(t, err)
			rest, ok := bytes.CutPrefix(got, synced)
			if !ok {
				t.Fatalf("%d bytes, not what was synced", len(got))
			}
			kept := bytes.Count(rest, []byte("D"))
			if end := 2100 + kept; kept > 0 && kept < 700 {
				torn++
				if end%512 != 0 {
					t.Errorf("torn at %d", end)
				}
			}
			if tail := rest[kept:]; len(tail) > 0 {
				zeros++
				if len(rest) != 700 || len(bytes.Trim(tail, "\x00")) > 0 {
					t.Errorf("%d bytes, %d of them written, then %q", len(rest), kept, tail)
				}
			}
		})
	}
	if torn == 0 || zeros == 0 {
		t.Errorf("%d torn, %d with zeros", torn, zeros)
	}
}

// Every possible fault at a power failure, in words.
func TestDisk_FaultsHaveNames(t *testing.T) {
	var asked []string
	d := testDisk(happens(&asked, "lose: write d/wal at 1000", "tear", "keep"))
	fsys := d.fileSystem()
	must(t, fsys.MkdirAll("d", 0o755))
	f := written(t, d, "/d/wal", strings.Repeat("x", 1000))
	_, err := f.WriteAt([]byte("yz"), 1000)
	must(t, err)
	must(t, f.Truncate(10))
	must(t, fsys.Rename("d/wal", "./d/old"))
	written(t, d, "tmp", "")
	must(t, fsys.Remove("tmp"))
	d.powerFail()
	want := []string{
		"lose: make directory d",
		"lose: create d/wal",
		"lose: rename d/wal to d/old",
		"lose: create tmp",
		"lose: remove tmp",
		"lose: write d/wal at 0, 1000 bytes",
		"tear: write d/wal at 0, 1000 bytes: the first 512 reach the disk",
		"keep the length that d/wal had, 1000 bytes, without the data: write d/wal at 0, 1000 bytes",
		"lose: write d/wal at 1000, 2 bytes",
		"keep the length that d/wal had, 1002 bytes, without the data: write d/wal at 1000, 2 bytes",
		"lose: truncate d/wal to 10 bytes",
	}
	if !slices.Equal(asked, want) {
		t.Errorf("asked for\n%s\nwant\n%s", strings.Join(asked, "\n"), strings.Join(want, "\n"))
	}
	wantContents(t, d, "d/old", "xxxxxxxxxx")

	asked = nil
	d.powerFail()
	if len(asked) > 0 {
		t.Errorf("all is durable, and it asks for %q", asked)
	}

	d.chance = happens(&asked, "fail", "never", "flip", "stall")
	d.SetFaults(DiskFaults{Read: .1, Write: .1, Sync: .1, BitRot: .1, Stall: .1})
	f = openDisk(t, d, "d/old", os.O_RDWR)
	_, err = f.WriteAt([]byte("abc"), 1)
	wantErr(t, "Write", err, syscall.EIO)
	_, err = f.ReadAt([]byte("abc"), 1)
	wantErr(t, "Read", err, syscall.EIO)
	d.SetFaults(DiskFaults{Sync: .1, Stall: .1})
	_, err = f.WriteAt([]byte("abc"), 1)
	must(t, err)
	wantErr(t, "Sync", f.Sync(), syscall.EIO)
	wantErr(t, "SyncDir", d.fileSystem().SyncDir("d/"), syscall.EIO)
	before, after := d.fileSystem().Latency(driver.Operation{Verb: "sync", Name: "d/old"})
	if before+after != time.Second || before == 0 || after == 0 {
		t.Errorf("latency %v and %v", before, after)
	}
	want = []string{
		"fail the write of d/old at 1, 3 bytes",
		"fail the read of d/old at 1",
		"fail the sync of d/old",
		"never reaches the disk after the failed sync: write d/old at 1, 3 bytes",
		"fail the sync of directory d",
		"stall for 1s: sync d/old",
	}
	if !slices.Equal(asked, want) {
		t.Errorf("asked for\n%s\nwant\n%s", strings.Join(asked, "\n"), strings.Join(want, "\n"))
	}
}

// After a failed Sync programs still see their writes, and a second, successful Sync does not bring
// them to the disk.
func TestDisk_FailedSync(t *testing.T) {
	for _, lost := range []bool{true, false} {
		var asked []string
		words := []string{"fail the sync"}
		if lost {
			words = append(words, "never")
		}
		d := testDisk(happens(&asked, words...))
		must(t, d.WriteFile("wal", []byte("durable")))
		f := openDisk(t, d, "wal", os.O_RDWR)
		_, err := f.WriteAt([]byte("DURABLE and more"), 0)
		must(t, err)
		d.SetFaults(DiskFaults{Sync: 1})
		wantErr(t, "Sync", f.Sync(), syscall.EIO)
		d.SetFaults(DiskFaults{})
		must(t, f.Sync())
		wantContents(t, d, "wal", "DURABLE and more")
		_, err = f.WriteAt([]byte("!"), 16)
		must(t, err)
		must(t, f.Sync())
		d.powerFail()
		want := "DURABLE and more!"
		if lost {
			want = "durable" + strings.Repeat("\x00", 9) + "!"
		}
		wantContents(t, d, "wal", want)
	}
}

// After a failed SyncDir nothing is durable, and it can be called again.
func TestDisk_FailedSyncDir(t *testing.T) {
	for _, again := range []bool{false, true} {
		d := testDisk(always)
		must(t, written(t, d, "a", "x").Sync())
		d.SetFaults(DiskFaults{Sync: 1})
		wantErr(t, "SyncDir", d.fileSystem().SyncDir("."), syscall.EIO)
		d.SetFaults(DiskFaults{})
		if again {
			must(t, d.fileSystem().SyncDir("."))
		}
		d.powerFail()
		if got := len(d.Names()) == 1; got != again {
			t.Errorf("the file is there: %v, want %v", got, again)
		}
	}
}

// Changes of names, where contents do not matter.
func TestDisk_Names(t *testing.T) {
	type fsys = driver.FileSystem
	for name, c := range map[string]struct {
		do   func(f fsys) error
		lose string // faults that happen: those that begin with this
		want string
	}{
		"created":                     {func(f fsys) error { return f.Rename("a", "n") }, "lose", "a b d/a"},
		"a rename in between":         {func(f fsys) error { return errors.Join(f.Rename("a", "n"), f.Rename("n", "m")) }, "lose: rename a", "a b d/a"},
		"the last rename":             {func(f fsys) error { return errors.Join(f.Rename("a", "n"), f.Rename("n", "m")) }, "lose: rename n", "b d/a n"},
		"replaced":                    {func(f fsys) error { return errors.Join(f.Rename("a", "b"), f.SyncDir("/")) }, "lose", "b d/a"},
		"moved, synced where it is":   {func(f fsys) error { return errors.Join(f.Rename("a", "d/b"), f.SyncDir("d")) }, "lose", "b d/a d/b"},
		"moved, synced where it was":  {func(f fsys) error { return errors.Join(f.Rename("a", "d/b"), f.SyncDir(".")) }, "lose", "b d/a d/b"},
		"moved twice, synced once":    {func(f fsys) error { return errors.Join(f.Rename("a", "n"), f.Rename("n", "d/b"), f.SyncDir("d")) }, "lose", "b d/a d/b"},
		"removed":                     {func(f fsys) error { return f.Remove("a") }, "lose", "a b d/a"},
		"removed for good":            {func(f fsys) error { return errors.Join(f.Remove("a"), f.SyncDir(".")) }, "lose", "b d/a"},
		"removed and the directory":   {func(f fsys) error { return errors.Join(f.Remove("d/a"), f.Remove("d")) }, "lose: remove d/a", "a b"},
		"a directory that was moved":  {func(f fsys) error { return f.Rename("d", "e") }, "keep", "a b e/a"},
		"and is behind what was lost": {func(f fsys) error { return errors.Join(f.Rename("a", "n"), f.Rename("d", "e")) }, "lose: rename a", "a b d/a"},
		"directories moved around": {func(f fsys) error {
			return errors.Join(f.MkdirAll("x/y", 0o755), f.Rename("d", "x/y/d"), f.Rename("x/y", "z"), f.Rename("x", "z/d/x"), f.Rename("a", "z/d/x/a"))
		}, "lose: rename x/y", "b x/a x/y/d/a"},
		"files in a directory that is not durable": {func(f fsys) error {
			return errors.Join(f.MkdirAll("x/y", 0o755), f.Rename("a", "x/y/a"), f.SyncDir("x/y"), f.SyncDir("x"))
		}, "lose", "b d/a"},
		"and in one that is": {func(f fsys) error {
			return errors.Join(f.MkdirAll("x/y", 0o755), f.Rename("a", "x/y/a"), f.SyncDir("x/y"), f.SyncDir("x"), f.SyncDir("."))
		}, "lose", "b d/a x/y/a"},
	} {
		var asked []string
		d := testDisk(happens(&asked, c.lose))
		for _, name := range []string{"a", "b", "d/a"} {
			must(t, d.WriteFile(name, []byte(name)))
		}
		must(t, c.do(d.fileSystem()))
		d.powerFail()
		if got := strings.Join(d.Names(), " "); got != c.want {
			t.Errorf("%s: %s, want %s", name, got, c.want)
		}
	}
}

// Random programs, and power failures with random outcomes. Afterwards the disk is whole, no synced
// data is lost or changed, without faults nothing at all is, and another power failure changes
// nothing.
func TestDisk_PowerFailuresAtRandom(t *testing.T) {
	for seed := range uint64(400) {
		r := rand.New(rand.NewPCG(seed, 0))
		p := []float64{0, 0.2, 0.5, 1}[seed%4]
		asked := 0
		d := newDisk(func(string, float64) bool { asked++; return r.Float64() < p }, rand.New(rand.NewPCG(seed, 1)), diskTime)
		for range 5 {
			// The names of the files in "fixed" are durable, so everything is known about their
			// contents.
			type state struct {
				f         driver.File
				now, safe []byte
				loose     []bool // bytes touched by an unsynced operation
			}
			files := make(map[string]*state)
			for _, name := range []string{"fixed/a", "fixed/b"} {
				must(t, d.WriteFile(name, []byte(strings.Repeat(name, 100))))
				data, err := d.ReadFile(name)
				must(t, err)
				files[name] = &state{f: openDisk(t, d, name, os.O_RDWR), now: data, safe: bytes.Clone(data), loose: make([]bool, 1<<13)}
			}
			fsys := d.fileSystem()
			must(t, fsys.MkdirAll("e", 0o755))
			for range 40 {
				names := []string{"x", "y", "e/x", "e/y", "g", "g/x", "e/g"}
				n, m := names[r.IntN(len(names))], names[r.IntN(len(names))]
				s := files[[]string{"fixed/a", "fixed/b"}[r.IntN(2)]]
				switch r.IntN(9) {
				case 0:
					if f, err := fsys.OpenFile(n, os.O_RDWR|os.O_CREATE, 0o644); err == nil {
						_, err := f.WriteAt(contents(r.IntN(3000)), r.Int64N(1000))
						must(t, err)
						must(t, f.Close())
					}
				case 1:
					_ = fsys.Rename(n, m)
				case 2:
					_ = fsys.Remove(n)
				case 3:
					_ = fsys.MkdirAll(n, 0o755)
				case 4:
					_ = fsys.SyncDir([]string{".", "e", "g"}[r.IntN(3)])
				case 5, 6:
					off, data := r.IntN(3000), contents(1+r.IntN(2000))
					_, err := s.f.WriteAt(data, int64(off))
					must(t, err)
					s.now = slices.Concat(s.now, make([]byte, max(0, off+len(data)-len(s.now))))
					copy(s.now[off:], data)
					for i := range data {
						s.loose[off+i] = true
					}
				case 7:
					size := r.IntN(3000)
					must(t, s.f.Truncate(int64(size)))
					s.now = slices.Concat(s.now, make([]byte, max(0, size-len(s.now))))[:size]
					for i := size; i < len(s.loose); i++ {
						s.loose[i] = true
					}
				case 8:
					must(t, s.f.Sync())
					s.safe = bytes.Clone(s.now)
					clear(s.loose)
				}
			}
			all := make(map[string][]byte)
			for _, name := range d.Names() {
				data, err := d.ReadFile(name)
				must(t, err)
				all[name] = data
			}
			d.powerFail()
			for name, s := range files {
				got, err := d.ReadFile(name)
				must(t, err)
				switch {
				case p == 0 && !bytes.Equal(got, s.now):
					t.Fatalf("seed %d: %s is not what was written", seed, name)
				case p == 1 && (len(got) < len(s.safe) || len(s.now) >= len(s.safe) && !bytes.Equal(got[:len(s.safe)], s.safe)):
					t.Fatalf("seed %d: %s is not what was synced", seed, name)
				}
				for i := range s.loose {
					if !s.loose[i] && i < len(s.safe) && (i >= len(got) || got[i] != s.safe[i]) {
						t.Fatalf("seed %d: byte %d of %s was synced and is lost", seed, i, name)
					}
				}
			}
			used := int64(0)
			now := d.Names()
			for _, name := range now {
				a, err := d.ReadFile(name)
				must(t, err)
				b, err := d.ReadDurable(name)
				must(t, err)
				if !bytes.Equal(a, b) {
					t.Fatalf("seed %d: %s is not durable after a power failure", seed, name)
				}
				_, _, n, _ := d.walk(name)
				used += int64(len(n.data.sectors))
				if p == 0 && !bytes.Equal(a, all[name]) {
					t.Fatalf("seed %d: %s has changed", seed, name)
				}
			}
			if p == 0 && len(now) != len(all) {
				t.Fatalf("seed %d: %v are left of %d files", seed, now, len(all))
			}
			if d.used != used {
				t.Fatalf("seed %d: %d sectors are in use, and counted are %d", seed, used, d.used)
			}
			asked = 0
			if d.powerFail(); asked > 0 || !slices.Equal(d.Names(), now) {
				t.Fatalf("seed %d: a second power failure asks for %d faults and leaves %v of %v", seed, asked, d.Names(), now)
			}
		}
	}
}

func contents(n int) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(i*7 + n)
	}
	return p
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

func TestDisk_SyncOnWrite(t *testing.T) {
	d := testDisk(always)
	must(t, d.WriteFile("a", nil))
	f := openDisk(t, d, "a", os.O_RDWR|os.O_SYNC)
	_, err := f.WriteAt([]byte("abc"), 0)
	must(t, err)
	d.powerFail()
	wantContents(t, d, "a", "abc")
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

// The tests from here on use a loop.

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
		l := asyncio.NewEventLoop(ctx, asyncio.Driver(diskDriver{driver.NewVirtual(), d}))
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
	return l.Time()
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
			d := newDisk(never, rand.New(rand.NewPCG(seed, 0)), diskTime)
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
		d := newDisk(never, rand.New(rand.NewPCG(seed, 0)), diskTime)
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
				tg.CreateTask(func(ctx context.Context) error { _, err := f.ReadAt(ctx, make([]byte, 1), int64(i)); return err })
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
		d := newDisk(never, rand.New(rand.NewPCG(uint64(after), 0)), diskTime)
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

// The same seed takes the same course.
func TestDisk_SameSeed(t *testing.T) {
	course := func() string {
		var log strings.Builder
		r := rand.New(rand.NewPCG(7, 7))
		d := newDisk(func(fault string, p float64) bool {
			fmt.Fprintln(&log, fault)
			return r.Float64() < p
		}, rand.New(rand.NewPCG(8, 8)), diskTime)
		d.SetLatency(0, time.Second)
		d.SetFaults(DiskFaults{Write: .1, Sync: .2, BitRot: .3, Stall: .1})
		for range 5 {
			onDisk(t, d, func(ctx context.Context) error {
				return asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg *asyncio.TaskGroup) error {
					for _, name := range []string{"a", "b", "c", "d"} {
						tg.CreateTask(func(ctx context.Context) error {
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
