package sim

import (
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/goasyncio/asyncio/internal/driver"
)

// The promises of a simulated disk: those of POSIX, and no more.
//
//	disk 1: Programs see their own writes, truncations and changes of names at once, in order. All
//	   of these are also left when a process dies: unmount loses nothing. Pending operations of the
//	   old life fail, and so do its files, with fs.ErrClosed, for ever.
//	disk 2: A write or truncation is durable when a Sync of its file that began later has returned
//	   nil, through whichever of the file's handles. With os.O_SYNC each write syncs. Closing a file
//	   does not sync.
//	disk 3: A power failure may lose anything that is not durable. Each write by itself is kept,
//	   lost, or torn, and each truncation kept or lost. So a later write can be there without an
//	   earlier one. Kept changes take effect in the order in which they were written. Of a torn
//	   write a prefix is kept that ends at a multiple of 512 in the file; a sector is never torn. A
//	   write that is not kept in full may still leave the file the length that it gave it, with
//	   zeros for the missing bytes.
//	disk 4: A change of a directory (a file created, a directory made, a rename, a removal) is
//	   durable when a SyncDir of that directory has returned nil; for a rename between two
//	   directories, a SyncDir of either one. Sync of a file is not enough for its name. SyncDir does
//	   not sync the directories above.
//	disk 5: A power failure keeps or loses each change of a directory that is not durable, as a
//	   whole: a rename that replaces a file leaves, under the new name, the old file or the new one.
//	   Changes of the same name are kept up to the first lost one and none behind it. The rename of
//	   a directory is kept only with all changes before it. Names and contents are independent: a
//	   name may be kept and the data written to the file lost, so write, Sync, Rename, SyncDir is
//	   the safe order.
//	disk 6: After a failed Sync (EIO) only one thing is certain about each write: programs still see
//	   it. It has reached the disk or never will, and a later Sync does not care (as on Linux, where
//	   a page that could not be written is marked clean). A write that fails has written nothing. A
//	   SyncDir that fails has made nothing durable, and may be called again.
//	disk 7: Bit rot permanently changes one bit of data at rest, when a read comes across it. Data
//	   written since the last Sync is not at rest.
//	disk 8: Space is counted in sectors of 512 bytes that were ever written to and not truncated
//	   away. A removed file's sectors become free when it is also closed. A write for which there is
//	   not enough space writes what fits, and fails with ENOSPC. Names take no space.
//	disk 9: Everything in this list that goes wrong is a fault, with a name, and is asked for by it
//	   (chance). If no fault happens, nothing that a program wrote is lost. Random numbers are drawn
//	   before chance is asked and whatever it answers, so one fault less does not change the next
//	   ones.
//
// Permissions are stored but not enforced. There are no links.

// A Disk is the disk of a simulated host: files in memory, which outlive the host's crashes and, as
// far as they were synced, power failures. The program on the host uses it like any other disk,
// through [asyncio.OpenFile] and related functions. The methods of Disk are for the test: they
// configure the disk, and look at it from outside, without time going by and without faults. All
// are for the loop, or for when it does not run. Absolute names and relative ones lead to the same
// files.
//
// By default a disk has unlimited space, takes no time, and fails at power failures only.
// failures only.
type Disk struct {
	chance func(fault string, p float64) bool
	rng    *rand.Rand
	now    func() time.Time

	root    *inode
	mounted *mount
	changes []*dirChange // of directories, not durable yet, in order
	dirty   []*inode     // files with something unsynced, in the order in which they became dirty

	capacity int64 // bytes; 0: no limit
	used     int64 // sectors
	latency  latencies
	sync     latencies
	faults   DiskFaults
}

// DiskFaults sets how often a disk fails, as probabilities from 0 to 1 of each operation. It does
// not affect what a power failure loses.
type DiskFaults struct {
	Read  float64 // fails with EIO
	Write float64 // likewise
	// likewise, and the writes are in doubt: calling Sync again is not enough
	Sync   float64
	BitRot float64 // of each read: one bit in what it reads has changed, for good

	Stall     float64       // of any operation: it takes StallTime longer
	StallTime time.Duration // a second, if it is zero
}

// Probabilities at a power failure.
const (
	loseWrite  = 0.5
	tearWrite  = 0.25 // if it is not lost
	keepLength = 0.25 // if it is lost or torn, and made the file longer
	loseChange = 0.5
)

const sectorSize = 512

type latencies struct{ min, max time.Duration }

func (s latencies) draw(r *rand.Rand) time.Duration {
	if s.max <= s.min {
		return s.min
	}
	return s.min + time.Duration(r.Int64N(int64(s.max-s.min)+1))
}

// newDisk makes an empty disk. chance is asked for each fault, rng draws everything else, and now
// is the host's clock.
func newDisk(chance func(fault string, p float64) bool, rng *rand.Rand, now func() time.Time) *Disk {
	d := &Disk{chance: chance, rng: rng, now: now}
	d.root = d.newInode(fs.ModeDir | 0o755)
	d.root.links = 1
	d.mounted = &mount{d: d}
	return d
}

// SetCapacity limits the disk to this many bytes, in sectors of 512; 0 means no limit. Data already
// there stays there.
func (d *Disk) SetCapacity(bytes int64) { d.capacity = max(bytes, 0) }

// SetLatency makes each operation take a time between min and max, evenly distributed. It has its
// effect at some moment in between. For the time that a Sync or SyncDir takes see
// [Disk.SetSyncLatency].
func (d *Disk) SetLatency(min, max time.Duration) { d.latency = latencies{min, max} }

// SetSyncLatency is [Disk.SetLatency] for Sync and SyncDir.
func (d *Disk) SetSyncLatency(min, max time.Duration) { d.sync = latencies{min, max} }

// SetFaults sets how often the disk fails from now on.
func (d *Disk) SetFaults(f DiskFaults) { d.faults = f }

// ReadFile returns the contents of a file as a program sees them. For a file of more than a
// gibibyte the error is syscall.EFBIG.
func (d *Disk) ReadFile(name string) ([]byte, error) {
	_, _, n, err := d.walk(name)
	if err == nil {
		err = fileErr(n)
	}
	if err != nil {
		return nil, pathError("open", name, err)
	}
	return n.data.bytes(name)
}

// ReadDurable returns the contents that the file would have after a power failure that loses all it
// can. It fails like [Disk.ReadFile].
func (d *Disk) ReadDurable(name string) ([]byte, error) {
	at := d.root
	for _, part := range components(name) {
		if at = at.durable[part]; at == nil {
			return nil, pathError("open", name, syscall.ENOENT)
		}
	}
	if err := fileErr(at); err != nil {
		return nil, pathError("open", name, err)
	}
	return at.safe.bytes(name)
}

// WriteFile creates or replaces a file, durably and as a whole, and creates the directories above
// it.
func (d *Disk) WriteFile(name string, data []byte) error {
	parts := components(name)
	if len(parts) == 0 {
		return pathError("open", name, syscall.EISDIR)
	}
	n := d.root
	for i, part := range parts {
		dir, mode := n, fs.FileMode(0o644)
		if i < len(parts)-1 {
			mode = fs.ModeDir | 0o755
		}
		if n = dir.entries[part]; n == nil {
			n = d.newInode(mode)
			d.change("create "+part, []dirEntry{{dir, part, n}})
		}
		d.commit(func(e dirEntry) bool { return e.dir == dir && e.name == part })
		switch {
		case n.dir() && !mode.IsDir():
			return pathError("open", name, syscall.EISDIR)
		case !n.dir() && mode.IsDir():
			return pathError("open", name, syscall.ENOTDIR)
		}
	}
	d.used -= n.data.truncate(0)
	n.data.writeAt(data, 0, func() bool { d.used++; return true })
	n.safe = n.data.clone()
	n.unsynced = nil
	n.mtime = d.now()
	return nil
}

// Names returns the names of all files, sorted.
func (d *Disk) Names() []string {
	var all []string
	d.root.visit("", func(name string, n *inode) {
		if !n.dir() {
			all = append(all, name)
		}
	})
	slices.Sort(all)
	return all
}

// FlipBit changes one bit of a file, as bit rot does, at an offset that was ever written to.
func (d *Disk) FlipBit(name string, offset int64, bit int) error {
	_, _, n, err := d.walk(name)
	if err == nil {
		err = fileErr(n)
	}
	if err == nil && (offset < 0 || offset >= n.data.size || n.data.sectors[offset/sectorSize] == nil || bit < 0 || bit > 7) {
		err = syscall.EINVAL
	}
	if err != nil {
		return pathError("flip", name, err)
	}
	n.flip(offset, bit)
	return nil
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

// powerFail ends the host's life and loses some of what was not durable (disk 3, disk 5).
func (d *Disk) powerFail() {
	d.unmount()
	lost := make(map[entryName]bool)
	any := false
	for _, c := range d.changes {
		gone := any && c.movesDir
		for _, e := range c.entries {
			gone = gone || lost[e.entryName()]
		}
		if gone || d.chance("lose: "+c.what, loseChange) {
			any = true
			for _, e := range c.entries {
				lost[e.entryName()] = true
			}
			continue
		}
		c.makeDurable()
	}
	d.changes = nil

	found := make(map[*inode]bool)
	d.root.revert(found)
	for _, n := range d.dirty {
		d.failFile(n, found[n])
	}
	d.dirty, d.used = nil, 0
	for n := range found {
		n.data, n.unsynced = n.safe.clone(), nil
		d.used += int64(len(n.data.sectors))
	}
}

// failFile decides which unsynced changes of one file survive (disk 3); the file may have lost its
// name.
func (d *Disk) failFile(n *inode, named bool) {
	for _, u := range n.unsynced {
		kept := len(u.data)
		torn := 0 // bytes kept if it is torn
		first := u.off/sectorSize + 1
		if cuts := (u.off+int64(len(u.data))-1)/sectorSize - first + 1; cuts > 0 {
			torn = int((first+d.rng.Int64N(cuts))*sectorSize - u.off)
		}
		if !named {
			continue // with its numbers drawn (disk 9)
		}
		if u.truncates {
			if !d.chance("lose: "+u.String(), loseWrite) {
				u.apply(&n.safe, 0)
			}
			continue
		}
		switch {
		case d.chance("lose: "+u.String(), loseWrite):
			kept = 0
		case torn > 0 && d.chance(fmt.Sprintf("tear: %v: the first %d reach the disk", &u, torn), tearWrite):
			kept = torn
		}
		u.apply(&n.safe, kept)
		if end := u.off + int64(len(u.data)); end > n.safe.size &&
			d.chance(fmt.Sprintf("keep the length that %s had, %d bytes, without the data: %v", u.name, end, &u), keepLength) {
			n.safe.truncate(end)
		}
	}
}

// commit makes changes durable, together with the changes that they depend on (disk 4, disk 5).
func (d *Disk) commit(which func(e dirEntry) bool) {
	need := make(map[entryName]bool)
	all := false
	durable := make([]bool, len(d.changes))
	for i, c := range slices.Backward(d.changes) {
		durable[i] = all
		for _, e := range c.entries {
			durable[i] = durable[i] || which(e) || need[e.entryName()]
		}
		if durable[i] {
			all = all || c.movesDir
			for _, e := range c.entries {
				need[e.entryName()] = true
			}
		}
	}
	var rest []*dirChange
	for i, c := range d.changes {
		if durable[i] {
			c.makeDurable()
		} else {
			rest = append(rest, c)
		}
	}
	d.changes = rest
}

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

// revert makes programs see the durable names, and counts the links.
func (n *inode) revert(found map[*inode]bool) {
	n.links++
	if found[n] {
		return
	}
	found[n], n.links, n.opens = true, 1, 0
	if n.dir() {
		n.entries = maps.Clone(n.durable)
		for _, child := range n.entries {
			child.revert(found)
		}
	}
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

// An unsynced write or truncation.
type unsynced struct {
	name      string // of the file, when it was written
	off       int64
	data      []byte
	truncates bool
	size      int64
}

func (u *unsynced) String() string {
	if u.truncates {
		return fmt.Sprintf("truncate %s to %d bytes", u.name, u.size)
	}
	return fmt.Sprintf("write %s at %d, %d bytes", u.name, u.off, len(u.data))
}

// apply applies it to c; of a write only the first n bytes.
func (u *unsynced) apply(c *fileContent, n int) {
	if u.truncates {
		c.truncate(u.size)
	} else {
		c.writeAt(u.data[:n], u.off, func() bool { return true })
	}
}

func (d *Disk) addUnsynced(n *inode, u unsynced) {
	if len(n.unsynced) == 0 && !slices.Contains(d.dirty, n) {
		d.dirty = append(d.dirty, n)
	}
	n.unsynced = append(n.unsynced, u)
	n.mtime = d.now()
}

// syncFile makes the file's writes durable, or fails and leaves each in doubt (disk 2, disk 6).
func (d *Disk) syncFile(n *inode, name string) error {
	failed := d.faults.Sync > 0 && d.chance("fail the sync of "+name, d.faults.Sync)
	for _, u := range n.unsynced {
		if !failed || !d.chance("never reaches the disk after the failed sync: "+u.String(), loseWrite) {
			u.apply(&n.safe, len(u.data))
		}
	}
	n.unsynced = nil
	d.dirty = slices.DeleteFunc(d.dirty, func(o *inode) bool { return o == n })
	if failed {
		return syscall.EIO
	}
	return nil
}

func (d *Disk) syncDir(n *inode, name string) error {
	if d.faults.Sync > 0 && d.chance("fail the sync of directory "+name, d.faults.Sync) {
		return syscall.EIO
	}
	d.commit(func(e dirEntry) bool { return e.dir == n })
	return nil
}

// A dirChange is a change of one or two directories.
type dirChange struct {
	what     string
	entries  []dirEntry
	movesDir bool
}

// A dirEntry is a name in a directory and the inode it leads to, nil for nothing.
type dirEntry struct {
	dir  *inode
	name string
	n    *inode
}

type entryName struct {
	dir  *inode
	name string
}

func (e dirEntry) entryName() entryName { return entryName{e.dir, e.name} }

func (c *dirChange) makeDurable() {
	for _, e := range c.entries {
		set(e.dir.durable, e)
	}
}

func set(in map[string]*inode, e dirEntry) {
	if e.n == nil {
		delete(in, e.name)
	} else {
		in[e.name] = e.n
	}
}

// change changes what programs see.
func (d *Disk) change(what string, entries []dirEntry) *dirChange {
	c := &dirChange{what: what, entries: entries}
	for _, e := range entries { // new names first, so that nothing is nameless while it moves
		if e.n != nil {
			e.n.links++
		}
	}
	for _, e := range entries {
		if old := e.dir.entries[e.name]; old != nil {
			old.links--
			d.reclaim(old)
		}
		set(e.dir.entries, e)
		e.dir.mtime = d.now()
	}
	d.changes = append(d.changes, c)
	return c
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

// A mount is a Disk in one life of its host. It implements [driver.Disk].
type mount struct {
	d    *Disk
	dead bool
	open []*diskFile
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
	t, part := s.draw(d.rng), d.rng.Float64()
	if d.faults.Stall > 0 {
		longer := d.faults.StallTime
		if longer == 0 {
			longer = time.Second
		}
		if d.chance(fmt.Sprintf("stall for %v: %s %s", longer, op.Verb, shown(op.Name)), d.faults.Stall) {
			t += longer
		}
	}
	before = min(time.Duration(part*float64(t+1)), t)
	return before, t - before
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

// contains reports whether o is somewhere below n.
func (n *inode) contains(o *inode) bool {
	found := false
	n.visit("", func(_ string, below *inode) { found = found || below == o })
	return found
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

// A diskFile is an open file. It implements [driver.File].
type diskFile struct {
	m      *mount
	n      *inode
	name   string
	flag   int
	closed bool
}

func (h *diskFile) failure(op string, err error) error { return pathError(op, h.name, err) }

// check begins an operation; denied is the open mode that forbids it.
func (h *diskFile) check(op string, denied int) error {
	switch {
	case h.closed || h.m.dead:
		return h.failure(op, fs.ErrClosed)
	case h.flag&accessMode == denied:
		return h.failure(op, syscall.EBADF)
	}
	return nil
}

// Read implements [driver.File].
func (h *diskFile) Read(p []byte, off int64) (int, error) {
	n, err := h.ReadAt(p, off)
	if n > 0 && err == io.EOF {
		err = nil
	}
	return n, err
}

// ReadAt implements [driver.File].
func (h *diskFile) ReadAt(p []byte, off int64) (int, error) {
	if err := h.check("read", os.O_WRONLY); err != nil {
		return 0, err
	}
	d := h.m.d
	if h.n.dir() {
		return 0, h.failure("read", syscall.EISDIR)
	}
	there := min(int64(len(p)), h.n.data.size-off)
	at, bit := off, 0
	if d.faults.BitRot > 0 && there > 0 {
		at, bit = off+d.rng.Int64N(there), d.rng.IntN(8)
	}
	if d.faults.Read > 0 && d.chance(fmt.Sprintf("fail the read of %s at %d", shown(h.name), off), d.faults.Read) {
		return 0, h.failure("read", syscall.EIO)
	}
	if d.faults.BitRot > 0 && there > 0 && h.n.atRest(at) &&
		d.chance(fmt.Sprintf("flip bit %d of byte %d of %s", bit, at, shown(h.name)), d.faults.BitRot) {
		h.n.flip(at, bit)
	}
	n := h.n.data.readAt(p, off)
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

// Write implements [driver.File].
func (h *diskFile) Write(p []byte, off int64) (int, int64, error) {
	at := off
	if h.flag&os.O_APPEND != 0 {
		at = h.n.data.size
	}
	n, err := h.write(p, at)
	if n == 0 {
		return 0, off, err
	}
	return n, at + int64(n), err
}

// WriteAt implements [driver.File].
func (h *diskFile) WriteAt(p []byte, off int64) (int, error) { return h.write(p, off) }

func (h *diskFile) write(p []byte, off int64) (int, error) {
	if err := h.check("write", os.O_RDONLY); err != nil {
		return 0, err
	}
	d := h.m.d
	if off > maxFileSize-int64(len(p)) {
		return 0, h.failure("write", syscall.EFBIG)
	}
	if len(p) == 0 {
		return 0, nil
	}
	if d.faults.Write > 0 && d.chance(fmt.Sprintf("fail the write of %s at %d, %d bytes", shown(h.name), off, len(p)), d.faults.Write) {
		return 0, h.failure("write", syscall.EIO)
	}
	n := h.n.data.writeAt(p, off, d.alloc)
	if n > 0 {
		d.addUnsynced(h.n, unsynced{name: shown(h.name), off: off, data: slices.Clone(p[:n])})
		if h.flag&os.O_SYNC != 0 {
			if err := d.syncFile(h.n, shown(h.name)); err != nil {
				return n, h.failure("write", err)
			}
		}
	}
	if n < len(p) {
		return n, h.failure("write", syscall.ENOSPC)
	}
	return n, nil
}

// Truncate implements [driver.File].
func (h *diskFile) Truncate(size int64) error {
	if err := h.check("truncate", -1); err != nil {
		return err
	}
	switch {
	case size < 0 || h.n.dir() || h.flag&accessMode == os.O_RDONLY:
		return h.failure("truncate", syscall.EINVAL)
	case size > maxFileSize:
		return h.failure("truncate", syscall.EFBIG)
	case size != h.n.data.size:
		h.truncate(size)
	}
	return nil
}

func (h *diskFile) truncate(size int64) {
	d := h.m.d
	d.used -= h.n.data.truncate(size)
	d.addUnsynced(h.n, unsynced{name: shown(h.name), truncates: true, size: size})
}

// Sync implements [driver.File].
func (h *diskFile) Sync() error {
	err := h.check("sync", -1)
	if err != nil {
		return err
	}
	if h.n.dir() {
		err = h.m.d.syncDir(h.n, shown(h.name))
	} else {
		err = h.m.d.syncFile(h.n, shown(h.name))
	}
	if err != nil {
		return h.failure("sync", err)
	}
	return nil
}

// Stat implements [driver.File].
func (h *diskFile) Stat() (fs.FileInfo, error) {
	if err := h.check("stat", -1); err != nil {
		return nil, err
	}
	return h.n.info(filepath.Base(h.name)), nil
}

// Further seeks of Linux: to the next data, or to the next hole, from an offset on. All of a file
// counts as data, as on a file system that does not know better.
const (
	seekData = 3
	seekHole = 4
)

// Seek implements [driver.File].
func (h *diskFile) Seek(offset int64, whence int) (int64, error) {
	if err := h.check("seek", -1); err != nil {
		return 0, err
	}
	size := h.n.data.size
	at := offset
	switch whence {
	case io.SeekStart:
	case io.SeekEnd:
		at += size
	case seekData, seekHole:
		if offset < 0 || offset >= size {
			return 0, h.failure("seek", syscall.ENXIO)
		}
		if whence == seekHole {
			at = size
		}
	default:
		at = -1
	}
	if at < 0 || at > maxFileSize {
		return 0, h.failure("seek", syscall.EINVAL)
	}
	return at, nil
}

// Device implements [driver.File].
func (h *diskFile) Device() bool { return false }

// Close implements [driver.File].
func (h *diskFile) Close() error {
	if err := h.check("close", -1); err != nil {
		return err
	}
	h.m.open = slices.DeleteFunc(h.m.open, func(o *diskFile) bool { return o == h })
	h.release()
	return nil
}

func (h *diskFile) release() {
	h.closed = true
	h.n.opens--
	h.m.d.reclaim(h.n)
}
