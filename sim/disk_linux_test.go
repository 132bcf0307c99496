package sim

import (
	"bytes"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"github.com/goasyncio/asyncio/internal/driver"
)

// Without faults a disk behaves like package os on Linux, to the letter of its errors.
func TestDisk_LikePackageOS(t *testing.T) {
	names := []string{"a", "b", "d", "d/a", "d/b", "d/e", "d/e/a", "f", "f/a", "a/", "d/", "./b", "d/../a", "d/./b", "missing/a", "a/b/c", "d//e/a", "f/g/h",
		"d/.", "d/e/.", "d/e/..", "d/e/./", ".", "a/.", "missing/.", "a/..", "missing/.."}
	flags := []int{os.O_RDONLY, os.O_RDWR, os.O_WRONLY, os.O_RDWR | os.O_CREATE, os.O_RDWR | os.O_CREATE, os.O_RDWR | os.O_CREATE, os.O_WRONLY | os.O_CREATE | os.O_TRUNC,
		os.O_RDWR | os.O_CREATE | os.O_EXCL, os.O_WRONLY | os.O_APPEND | os.O_CREATE, os.O_RDWR | os.O_SYNC | os.O_CREATE}
	covered := make(map[string]int)
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 0))
		dir := t.TempDir()
		theirs, ours := driver.FileSystem(driver.OS{}), driver.FileSystem(faultless().fileSystem())
		must(t, ours.MkdirAll(dir, 0o755))
		type pair struct {
			ours, theirs driver.File
			flag         int
		}
		var open []pair
		name := func() string { return dir + "/" + names[r.IntN(len(names))] }
		for i := range 60 {
			n, m, flag, off, p, k := name(), name(), flags[r.IntN(len(flags))], r.Int64N(2000), bytes.Repeat([]byte{byte(i)}, 1+r.IntN(1500)), r.IntN(14)
			var on pair
			if len(open) > 0 {
				on = open[r.IntN(len(open))]
			} else if k >= 7 {
				k = 0
			}
			what := [...]string{"open", "rename", "remove", "mkdir", "readdir", "stat", "syncdir", "write", "writeat", "readat", "truncate", "sync", "seek", "close"}[k]
			if what == "writeat" && on.flag&os.O_APPEND != 0 {
				continue // package os refuses it, and so does File
			}
			if what == "seek" {
				if info, err := on.theirs.Stat(); err == nil && info.IsDir() {
					continue // differs from one file system to the next
				}
			}
			opened := pair{flag: flag}
			do := func(fsys driver.FileSystem, f driver.File) string {
				var log strings.Builder
				note := func(v any) { fmt.Fprintln(&log, v) }
				switch what {
				case "open":
					f, err := fsys.OpenFile(n, flag, 0o644)
					note(err)
					if err == nil && fsys == ours {
						opened.ours = f
					} else if err == nil {
						opened.theirs = f
					}
				case "rename":
					note(fsys.Rename(n, m))
				case "remove":
					note(fsys.Remove(n))
				case "mkdir":
					note(fsys.MkdirAll(n, 0o755))
				case "readdir":
					all, err := fsys.ReadDir(n)
					for _, e := range all {
						note(e.Name() + " " + e.Type().String())
					}
					note(err)
				case "stat":
					info, err := fsys.Stat(n)
					note(err)
					if err == nil {
						note(info.Name())
						note(info.Mode())
						if !info.IsDir() {
							note(info.Size())
						}
					}
				case "syncdir":
					note(fsys.SyncDir(n))
				case "write":
					n, end, err := f.Write(p, off)
					note(fmt.Sprint(n, end, err))
				case "writeat":
					n, err := f.WriteAt(p, off)
					note(fmt.Sprint(n, err))
				case "readat":
					q := make([]byte, len(p))
					n, err := f.ReadAt(q, off)
					note(fmt.Sprint(q[:n], n, err))
				case "truncate":
					note(f.Truncate(off - 10))
				case "sync":
					note(f.Sync())
				case "seek":
					// The place of holes depends on blocks; behind the end there is nothing.
					for whence, offset := range []int64{off, -1, off - 100, off + 10_000, off + 10_000, off} {
						if whence != io.SeekCurrent {
							at, err := f.Seek(offset, whence)
							note(fmt.Sprint(at, err))
						}
					}
				case "close":
					note(f.Close())
				}
				return log.String()
			}
			covered[what]++
			if a, b := do(ours, on.ours), do(theirs, on.theirs); a != b {
				t.Fatalf("seed %d, operation %d, %s of %s (%s), flags %x, %d bytes at %d:\n%s\nPackage os:\n%s",
					seed, i, what, strings.TrimPrefix(n, dir), strings.TrimPrefix(m, dir), flag, len(p), off, a, b)
			}
			if opened.ours != nil {
				open = append(open, opened)
			}
		}
		for _, x := range open {
			x.ours.Close()
			x.theirs.Close()
		}
		if a, b := tree(t, ours, dir), tree(t, theirs, dir); a != b {
			t.Fatalf("seed %d: in the end\n%s\nPackage os:\n%s", seed, a, b)
		}
	}
	if len(covered) != 14 {
		t.Errorf("covered %v", covered)
	}
}

// The root can neither be renamed, not even to itself, nor removed.
func TestDisk_RootLikePackageOS(t *testing.T) {
	theirs, ours := driver.FileSystem(driver.OS{}), driver.FileSystem(faultless().fileSystem())
	must(t, ours.MkdirAll("/etc", 0o755))
	for _, oldname := range []string{"/", "/.", "/..", "//", "/missing"} {
		for _, newname := range []string{"/", "/.", "/..", "//", "/etc/.."} {
			if got, want := fmt.Sprint(ours.Rename(oldname, newname)), fmt.Sprint(theirs.Rename(oldname, newname)); got != want {
				t.Errorf("%s\nPackage os: %s", got, want)
			}
		}
		if got, want := fmt.Sprint(ours.Remove(oldname)), fmt.Sprint(theirs.Remove(oldname)); got != want {
			t.Errorf("%s\nPackage os: %s", got, want)
		}
	}
}

// tree returns everything below name as text.
func tree(t *testing.T, fsys driver.FileSystem, name string) string {
	t.Helper()
	var b strings.Builder
	entries, err := fsys.ReadDir(name)
	must(t, err)
	for _, e := range entries {
		child := name + "/" + e.Name()
		if e.IsDir() {
			fmt.Fprintln(&b, child)
			b.WriteString(tree(t, fsys, child))
			continue
		}
		f, err := fsys.OpenFile(child, os.O_RDONLY, 0)
		must(t, err)
		info, err := f.Stat()
		must(t, err)
		data := make([]byte, info.Size())
		if len(data) > 0 {
			_, err = f.ReadAt(data, 0)
			must(t, err)
		}
		must(t, f.Close())
		fmt.Fprintln(&b, child, info.Mode()&fs.ModePerm, data)
	}
	return b.String()
}
