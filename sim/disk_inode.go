package sim

import (
	"io/fs"
	"maps"
	"math"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// What a disk stores: inodes, the bytes of files in sectors, and the way from a name to an inode.
// An inode has two states, the one that programs see and the durable one; disk_power.go says when
// the first becomes the second.

const sectorSize = 512

// An inode is a file or a directory.
type inode struct {
	mode  fs.FileMode
	mtime time.Time
	links int // names that programs see
	opens int

	data     fileContent // as programs see it
	safe     fileContent // as it would be after a power failure that loses all it can
	unsynced []unsynced

	entries map[string]*inode // of a directory, as programs see them
	durable map[string]*inode
}

func (d *Disk) newInode(mode fs.FileMode) *inode {
	n := &inode{mode: mode, mtime: d.now()}
	if n.dir() {
		n.entries, n.durable = make(map[string]*inode), make(map[string]*inode)
	}
	return n
}

func (n *inode) dir() bool { return n.mode.IsDir() }

// fileErr returns why n cannot be read as a file.
func fileErr(n *inode) error {
	switch {
	case n == nil:
		return syscall.ENOENT
	case n.dir():
		return syscall.EISDIR
	}
	return nil
}

func (n *inode) visit(name string, fn func(name string, n *inode)) {
	for _, part := range slices.Sorted(maps.Keys(n.entries)) {
		child := n.entries[part]
		fn(path.Join(name, part), child)
		child.visit(path.Join(name, part), fn)
	}
}

// contains reports whether o is somewhere below n.
func (n *inode) contains(o *inode) bool {
	found := false
	n.visit("", func(_ string, below *inode) { found = found || below == o })
	return found
}

// reclaim frees the space of a file that nobody can reach any more.
func (d *Disk) reclaim(n *inode) {
	if n.links == 0 && n.opens == 0 {
		d.used -= int64(len(n.data.sectors))
	}
}

// alloc takes a sector, if there is one left (disk 8).
func (d *Disk) alloc() bool {
	if d.capacity > 0 && (d.used+1)*sectorSize > d.capacity {
		return false
	}
	d.used++
	return true
}

// flip changes one bit of a file for good (disk 7).
func (n *inode) flip(off int64, bit int) {
	for _, c := range []*fileContent{&n.data, &n.safe} {
		if s := c.sectors[off/sectorSize]; s != nil && off < c.size {
			changed := *s
			changed[off%sectorSize] ^= 1 << bit
			c.sectors[off/sectorSize] = &changed
		}
	}
}

// atRest reports whether there is data on the disk at off, and nothing unsynced over it (disk 7).
func (n *inode) atRest(off int64) bool {
	if off >= n.safe.size || n.safe.sectors[off/sectorSize] == nil {
		return false
	}
	return !slices.ContainsFunc(n.unsynced, func(u unsynced) bool {
		return u.truncates && off >= u.size || !u.truncates && off >= u.off && off < u.off+int64(len(u.data))
	})
}

// fileContent is the bytes of a file. Sectors that were never written are absent. Present sectors
// do not change, so they can be shared.
type fileContent struct {
	size    int64
	sectors map[int64]*[sectorSize]byte
}

// readAt reads up to len(p) of the bytes at off.
func (c *fileContent) readAt(p []byte, off int64) int {
	if off >= c.size {
		return 0
	}
	p = p[:min(int64(len(p)), c.size-off)]
	clear(p)
	for done := 0; done < len(p); {
		in := (off + int64(done)) % sectorSize
		n := min(len(p)-done, int(sectorSize-in))
		if s := c.sectors[(off+int64(done))/sectorSize]; s != nil {
			copy(p[done:done+n], s[in:])
		}
		done += n
	}
	return len(p)
}

// writeAt writes as much of p as alloc allows; alloc is called for each sector that is not there
// yet.
func (c *fileContent) writeAt(p []byte, off int64, alloc func() bool) int {
	if c.sectors == nil {
		c.sectors = make(map[int64]*[sectorSize]byte)
	}
	for done := 0; done < len(p); {
		at := off + int64(done)
		i, in := at/sectorSize, at%sectorSize
		fresh := new([sectorSize]byte)
		if s := c.sectors[i]; s != nil {
			*fresh = *s
		} else if !alloc() {
			return done
		}
		n := copy(fresh[in:], p[done:])
		c.sectors[i] = fresh
		done += n
		c.size = max(c.size, at+int64(n))
	}
	return len(p)
}

// truncate makes it size bytes long, and returns the number of sectors that this frees.
func (c *fileContent) truncate(size int64) (freed int64) {
	if size < c.size {
		first := (size + sectorSize - 1) / sectorSize
		before := len(c.sectors)
		maps.DeleteFunc(c.sectors, func(i int64, _ *[sectorSize]byte) bool { return i >= first })
		freed = int64(before - len(c.sectors))
		if s := c.sectors[size/sectorSize]; s != nil && size%sectorSize > 0 {
			fresh := *s
			clear(fresh[size%sectorSize:])
			c.sectors[size/sectorSize] = &fresh
		}
	}
	c.size = size
	return freed
}

func (c *fileContent) clone() fileContent { return fileContent{c.size, maps.Clone(c.sectors)} }

// bytes returns the whole content, unless it is too large for memory: a file can be long although
// little was written to it.
func (c *fileContent) bytes(name string) ([]byte, error) {
	if c.size > maxWhole {
		return nil, pathError("read", name, syscall.EFBIG)
	}
	p := make([]byte, c.size)
	c.readAt(p, 0)
	return p, nil
}

// components splits a name into the parts that lead somewhere.
func components(name string) []string {
	name = filepath.ToSlash(name[len(filepath.VolumeName(name)):])
	return strings.FieldsFunc(path.Clean("/"+name), func(r rune) bool { return r == '/' })
}

// shown is a name as it appears in faults.
func shown(name string) string {
	if parts := components(name); len(parts) > 0 {
		return path.Join(parts...)
	}
	return "/"
}

const (
	maxName     = 255
	maxFileSize = math.MaxInt64 / 2
	maxWhole    = 1 << 30 // the most that is read as a whole
)

// walk follows a name. It returns the inode that the name leads to, nil for nothing, and the
// directory and the name in it, if the path ends in one.
func (d *Disk) walk(name string) (dir *inode, base string, n *inode, err error) {
	if name == "" {
		return nil, "", nil, syscall.ENOENT
	}
	if strings.IndexByte(name, 0) >= 0 {
		return nil, "", nil, syscall.EINVAL
	}
	name = filepath.ToSlash(name[len(filepath.VolumeName(name)):])
	parts := strings.FieldsFunc(name, func(r rune) bool { return r == '/' })
	way := []*inode{d.root}
	for i, part := range parts {
		at := way[len(way)-1]
		switch {
		case !at.dir():
			return nil, "", nil, syscall.ENOTDIR
		case len(part) > maxName:
			return nil, "", nil, syscall.ENAMETOOLONG
		case part == ".":
			continue
		case part == "..":
			way = way[:max(len(way)-1, 1)]
			continue
		}
		next := at.entries[part]
		switch {
		case i == len(parts)-1:
			if next != nil && !next.dir() && strings.HasSuffix(name, "/") {
				return nil, "", nil, syscall.ENOTDIR
			}
			return at, part, next, nil
		case next == nil:
			return nil, "", nil, syscall.ENOENT
		}
		way = append(way, next)
	}
	return nil, "", way[len(way)-1], nil
}

// trimSlash returns name without trailing slashes, unless it is all slashes.
func trimSlash(name string) string {
	trimmed := strings.TrimRight(filepath.ToSlash(name), "/")
	if trimmed == "" {
		return name
	}
	return name[:len(trimmed)]
}

func pathError(op, name string, err error) error {
	return &fs.PathError{Op: op, Path: name, Err: err}
}

// diskInfo implements [fs.FileInfo]. It describes the moment at which it was made.
type diskInfo struct {
	name  string
	size  int64
	mode  fs.FileMode
	mtime time.Time
}

func (n *inode) info(name string) fs.FileInfo { return diskInfo{name, n.data.size, n.mode, n.mtime} }

func (i diskInfo) Name() string       { return i.name }
func (i diskInfo) Size() int64        { return i.size }
func (i diskInfo) Mode() fs.FileMode  { return i.mode }
func (i diskInfo) ModTime() time.Time { return i.mtime }
func (i diskInfo) IsDir() bool        { return i.mode.IsDir() }
func (i diskInfo) Sys() any           { return nil }
