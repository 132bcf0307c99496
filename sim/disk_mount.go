package sim

import (
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/goasyncio/asyncio/internal/driver"
)

// The disk as the host's program sees it in one life: mounting, opening, and every operation that
// takes a name.

// A mount is a Disk in one life of its host. It implements [driver.Disk].
type mount struct {
	d    *Disk
	dead bool
	open []*diskFile
}

// fileSystem returns the disk as the host's current life sees it.
func (d *Disk) fileSystem() driver.Disk { return d.mounted }

// unmount ends the use of the disk by the host's life; nothing else happens when a process dies
// (disk 1).
func (d *Disk) unmount() {
	old := d.mounted
	d.mounted = &mount{d: d}
	old.dead = true
	for _, h := range old.open {
		h.release()
	}
	old.open = nil
}

// Latency implements [driver.Disk].
func (m *mount) Latency(op driver.Operation) (before, after time.Duration) {
	d := m.d
	if m.dead {
		return 0, 0
	}
	s := d.latency
	if op.Verb == "sync" {
		s = d.sync
	}
	what := op.Verb + " " + shown(op.Name)
	t := d.spent(what+" took", s.min, s.min, s.max)
	if d.faults.Stall > 0 {
		longer := d.faults.StallTime
		if longer == 0 {
			longer = time.Second
		}
		if d.chance(fmt.Sprintf("stall for %v: %s", longer, what), d.faults.Stall) {
			t += longer
		}
	}
	if !d.timed && d.endures(Delays) {
		t += d.late(what)
	}
	before = d.spent(what+" had its effect after", t, 0, t)
	return before, t - before
}

// spent asks for a time, which is usual in the order of production.
func (d *Disk) spent(what string, usual, least, most time.Duration) time.Duration {
	if least == most || d.amount == nil {
		return usual
	}
	tried := most
	if tried == usual {
		tried = least
	}
	return time.Duration(d.amount(what, span{usual: int64(usual), least: int64(least), most: int64(most), p: 1, tried: int64(tried)}))
}

// walk is the disk's walk, for an operation of this life.
func (m *mount) walk(name string) (dir *inode, base string, n *inode, err error) {
	if m.dead {
		return nil, "", nil, fs.ErrClosed
	}
	return m.d.walk(name)
}

// find is walk for a name that must exist.
func (m *mount) find(op, name string) (*inode, error) {
	_, _, n, err := m.walk(name)
	if err == nil && n == nil {
		err = syscall.ENOENT
	}
	if err != nil {
		return nil, pathError(op, name, err)
	}
	return n, nil
}

const accessMode = os.O_RDONLY | os.O_WRONLY | os.O_RDWR

// OpenFile implements [driver.FileSystem].
func (m *mount) OpenFile(name string, flag int, perm fs.FileMode) (driver.File, error) {
	n, err := m.openInode(name, flag, perm)
	if err != nil {
		return nil, pathError("open", name, err)
	}
	h := &diskFile{m: m, n: n, name: name, flag: flag}
	n.opens++
	m.open = append(m.open, h)
	if flag&os.O_TRUNC != 0 && n.data.size > 0 {
		h.truncate(0)
	}
	return h, nil
}

func (m *mount) openInode(name string, flag int, perm fs.FileMode) (*inode, error) {
	way := name
	if flag&os.O_CREATE != 0 {
		way = trimSlash(name)
	}
	dir, base, n, err := m.walk(way)
	switch {
	case err != nil:
		return nil, err
	case way != name && dir != nil:
		return nil, syscall.EISDIR
	case n != nil && flag&(os.O_CREATE|os.O_EXCL) == os.O_CREATE|os.O_EXCL:
		return nil, syscall.EEXIST
	case n != nil && n.dir() && (flag&accessMode != os.O_RDONLY || flag&(os.O_CREATE|os.O_TRUNC) != 0):
		return nil, syscall.EISDIR
	case n != nil:
		return n, nil
	case flag&os.O_CREATE == 0:
		return nil, syscall.ENOENT
	}
	n = m.d.newInode(perm.Perm())
	m.d.change("create "+shown(name), []dirEntry{{dir, base, n}})
	return n, nil
}

// Rename implements [driver.FileSystem].
func (m *mount) Rename(oldname, newname string) error {
	if err := m.rename(oldname, newname); err != nil {
		return &os.LinkError{Op: "rename", Old: oldname, New: newname, Err: err}
	}
	return nil
}

func (m *mount) rename(oldname, newname string) error {
	from, oldBase, n, err := m.walk(trimSlash(oldname))
	to, newBase, there, newErr := m.walk(trimSlash(newname))
	switch {
	case err != nil:
		return err
	case newErr != nil:
		return newErr
	case n == nil:
		return syscall.ENOENT
	case !n.dir() && trimSlash(oldname) != oldname:
		return syscall.ENOTDIR
	case there != nil && there.dir() && (there != n || oldname == newname):
		return syscall.EEXIST // as in package os, and not only for a directory that is not empty
	case from == nil || to == nil: // the root, or a name that ends in "." or ".."
		return syscall.EBUSY
	case there == n && n.dir():
		return nil
	case n.dir() && (to == n || n.contains(to)):
		return syscall.EINVAL
	case there != nil && n.dir() || !n.dir() && trimSlash(newname) != newname:
		return syscall.ENOTDIR
	case there == n:
		return nil
	}
	c := m.d.change("rename "+shown(oldname)+" to "+shown(newname), []dirEntry{{to, newBase, n}, {from, oldBase, nil}})
	c.movesDir = n.dir()
	return nil
}

// Remove implements [driver.FileSystem].
func (m *mount) Remove(name string) error {
	dir, base, n, err := m.walk(name)
	switch {
	case err != nil:
	case n == nil:
		err = syscall.ENOENT
	case dir == nil:
		err = syscall.EBUSY
		switch path.Base(filepath.ToSlash(name)) {
		case ".":
			err = syscall.EINVAL
		case "..":
			err = syscall.ENOTEMPTY
		}
	case len(n.entries) > 0:
		err = syscall.ENOTEMPTY
	default:
		m.d.change("remove "+shown(name), []dirEntry{{dir, base, nil}})
		return nil
	}
	return pathError("remove", name, err)
}

// MkdirAll implements [driver.FileSystem].
func (m *mount) MkdirAll(name string, perm fs.FileMode) error {
	_, _, n, err := m.walk(name)
	if err == nil && n != nil {
		if n.dir() {
			return nil
		}
		return pathError("mkdir", name, syscall.ENOTDIR)
	}
	above := trimSlash(name)
	if i := strings.LastIndexByte(filepath.ToSlash(above), '/'); i > len(filepath.VolumeName(name)) {
		if err := m.MkdirAll(name[:i], perm); err != nil {
			return err
		}
	}
	dir, base, n, err := m.walk(above)
	switch {
	case err != nil:
		return pathError("mkdir", name, err)
	case n != nil && !n.dir():
		return pathError("mkdir", name, syscall.EEXIST)
	case n != nil: // the name ends in "." or ".."
		return nil
	}
	m.d.change("make directory "+shown(name), []dirEntry{{dir, base, m.d.newInode(fs.ModeDir | perm.Perm())}})
	return nil
}

// ReadDir implements [driver.FileSystem].
func (m *mount) ReadDir(name string) ([]fs.DirEntry, error) {
	n, err := m.find("open", name)
	if err != nil {
		return nil, err
	}
	if !n.dir() {
		return nil, pathError("open", name, syscall.ENOTDIR)
	}
	all := make([]fs.DirEntry, 0, len(n.entries))
	for _, base := range slices.Sorted(maps.Keys(n.entries)) {
		all = append(all, fs.FileInfoToDirEntry(n.entries[base].info(base)))
	}
	return all, nil
}

// Stat implements [driver.FileSystem].
func (m *mount) Stat(name string) (fs.FileInfo, error) {
	n, err := m.find("stat", name)
	if err != nil {
		return nil, err
	}
	return n.info(filepath.Base(name)), nil
}

// OpeningWaits implements [driver.FileSystem].
func (m *mount) OpeningWaits(string, int) bool { return false }

// SyncDir implements [driver.FileSystem].
func (m *mount) SyncDir(name string) error {
	n, err := m.find("open", name)
	if err != nil {
		return err
	}
	if !n.dir() {
		return pathError("sync", name, syscall.ENOTDIR)
	}
	if err := m.d.syncDir(n, shown(name)); err != nil {
		return pathError("sync", name, err)
	}
	return nil
}
