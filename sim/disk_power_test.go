package sim

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/goasyncio/asyncio/internal/driver"
)

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
// the next one. Of that each sector is there or zero, and a later one may be there without an
// earlier one.
func TestDisk_Log(t *testing.T) {
	const size = 1500
	record := func(i int) []byte { return bytes.Repeat([]byte{byte('A' + i)}, size) }
	found := make(map[string]int)
	for seed := range uint64(20) {
		outcomes(func(chance func(string, float64) bool) {
			d := newDisk(chance, rand.New(rand.NewPCG(seed, 0)), diskTime)
			must(t, d.WriteFile("log", nil))
			f := openDisk(t, d, "log", os.O_RDWR)
			var synced []byte
			for i := range 4 {
				_, _, err := f.Write(record(i), int64(i*size))
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
			parts := "" // of the last record: a letter for each sector
			for len(rest) > 0 {
				part := rest[:min(512-(len(got)-len(rest))%512, len(rest))]
				if rest = rest[len(part):]; len(bytes.Trim(part, string(part[:1]))) > 0 {
					t.Fatalf("a sector has %q", part)
				}
				parts += strings.ReplaceAll(string(part[:1]), "\x00", "0")
			}
			found[parts]++
			if len(got) != 4*size && strings.HasSuffix(parts, "0") {
				t.Errorf("%s, and a length of %d", parts, len(got))
			}
		})
	}
	// From 4500 on the record is in four sectors.
	for _, parts := range []string{"", "0000", "D", "D000", "DD", "DDD", "DDDD", "0DDD", "DD0D", "00D"} {
		if found[parts] == 0 {
			t.Errorf("never %q, only %v", parts, found)
		}
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
		"tear: write d/wal at 0, 1000 bytes: of 2 sectors only 1 reach the disk",
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
	if before != time.Second || after != 0 { // in order an operation has its effect at the end
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

func TestDisk_SyncOnWrite(t *testing.T) {
	d := testDisk(always)
	must(t, d.WriteFile("a", nil))
	f := openDisk(t, d, "a", os.O_RDWR|os.O_SYNC)
	_, err := f.WriteAt([]byte("abc"), 0)
	must(t, err)
	d.powerFail()
	wantContents(t, d, "a", "abc")
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
