package sim

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// What is durable, and what a power failure loses (disk 2 to disk 6): the changes that are not
// durable yet, how Sync and SyncDir make them so, and the failure itself.

// Probabilities at a power failure.
const (
	loseWrite  = 0.5
	tearWrite  = 0.25 // if it is not lost
	keepLength = 0.25 // if it is lost or torn, and made the file longer
	loseChange = 0.5
)

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

// apply applies it to c, of a write only the sectors that reach names, all if that is nil.
func (u *unsynced) apply(c *fileContent, reach []bool) {
	there := func() bool { return true }
	switch {
	case u.truncates:
		c.truncate(u.size)
	case reach == nil:
		c.writeAt(u.data, u.off, there)
	}
	for i, reaches := range reach {
		if reaches {
			from, to := u.sector(i)
			c.writeAt(u.data[from:to], u.off+from, there)
		}
	}
}

// sectors returns how many sectors a write touches.
func (u *unsynced) sectors() int {
	if len(u.data) == 0 {
		return 0
	}
	return int((u.off+int64(len(u.data))-1)/sectorSize - u.off/sectorSize + 1)
}

// sector returns where the part of the data begins and ends that lies in the i-th of these sectors.
func (u *unsynced) sector(i int) (from, to int64) {
	first := u.off / sectorSize * sectorSize
	from = first + int64(i)*sectorSize - u.off
	return max(from, 0), min(from+sectorSize, int64(len(u.data)))
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
	failed := d.fails(func() string { return "sync of " + name }, d.faults.Sync)
	for _, u := range n.unsynced {
		if !failed || !d.chance("never reaches the disk after the failed sync: "+u.String(), loseWrite) {
			u.apply(&n.safe, nil)
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
	if d.fails(func() string { return "sync of directory " + name }, d.faults.Sync) {
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
	if d.seen != nil {
		d.seen(what, nil)
	}
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
		torn := d.tear(u.sectors())
		if !named {
			continue // with its numbers drawn (disk 9)
		}
		if u.truncates {
			if !d.chance("lose: "+u.String(), loseWrite) {
				u.apply(&n.safe, nil)
			}
			continue
		}
		switch {
		case d.chance("lose: "+u.String(), loseWrite):
		case torn != nil && d.chance(fmt.Sprintf("tear: %v: %s", &u, reaching(torn)), tearWrite):
			u.apply(&n.safe, torn)
		default:
			u.apply(&n.safe, nil)
		}
		if end := u.off + int64(len(u.data)); end > n.safe.size &&
			d.chance(fmt.Sprintf("keep the length that %s had, %d bytes, without the data: %v", u.name, end, &u), keepLength) {
			n.safe.truncate(end)
		}
	}
}

// tear draws which of n sectors reach the disk if their write is torn: at least one does, and at
// least one does not. Half of the time they are the first ones, as where a file grows. It returns
// nil if there is nothing to tear.
func (d *Disk) tear(n int) []bool {
	if n < 2 {
		return nil
	}
	reach := make([]bool, n)
	inOrder, first, other := d.rng.IntN(2) == 0, 1+d.rng.IntN(n-1), d.rng.IntN(n)
	for i := range reach {
		reach[i] = d.rng.IntN(2) == 0
		if inOrder {
			reach[i] = i < first
		}
	}
	if !slices.Contains(reach, !reach[0]) {
		reach[other] = !reach[other]
	}
	return reach
}

// reaching says which sectors reach the disk.
func reaching(reach []bool) string {
	var parts []string
	for i := 0; i < len(reach); i++ {
		from := i
		for i < len(reach) && reach[i] {
			i++
		}
		switch {
		case i-from == 1:
			parts = append(parts, strconv.Itoa(i))
		case i > from:
			parts = append(parts, fmt.Sprintf("%d to %d", from+1, i))
		}
	}
	if most := 8; len(parts) > most {
		parts = append(parts[:most], "…")
	}
	return fmt.Sprintf("of %d sectors only %s reach the disk", len(reach), strings.Join(parts, ", "))
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
