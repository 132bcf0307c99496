package sim

import (
	"fmt"
	"io/fs"
	"math/rand/v2"
	"slices"
	"syscall"
	"time"

	"github.com/goasyncio/asyncio"
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
//	   write any of its sectors are kept, those that begin at multiples of 512 in the file: the
//	   first ones, as a file grows, or others, because a system writes pages back in any order. A
//	   sector is never torn. A write that is not kept in full may still leave the file the length
//	   that it gave it, with zeros for the missing bytes.
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
type Disk struct {
	seen   func(what string, data []byte) // nil, or told of every change
	chance func(fault string, p float64) bool
	amount func(what string, s span) int64 // nil: everything takes the least time
	endure func(t Trouble) bool            // nil, or whether chaos may do something to the disk
	ask    func(what string, t Trouble) bool
	late   func(what string) time.Duration // how late chaos makes an operation
	failed bool                            // because of chaos, in this life
	timed  bool                            // the test has set how long operations take
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

type latencies struct{ min, max time.Duration }

// fails asks whether an operation fails: with a probability that the test has set, or because of
// chaos.
func (d *Disk) fails(what func() string, p float64) bool {
	return p > 0 && d.chance("fail the "+what(), p) || d.suffers(DiskErrors, "the ", what, " fails")
}

// suffers asks for a trouble of an operation.
func (d *Disk) suffers(t Trouble, before string, what func() string, behind string) bool {
	if !d.endures(t) || !d.ask(before+what()+behind, t) {
		return false
	}
	d.failed = true
	return true
}

// endures reports whether a trouble may befall the disk now.
func (d *Disk) endures(t Trouble) bool { return d.endure != nil && d.endure(t) }

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
// there stays there. It panics for a negative number.
func (d *Disk) SetCapacity(bytes int64) {
	if bytes < 0 {
		panic(fmt.Errorf("%w: a capacity of %d bytes (in sim.Disk.SetCapacity)", asyncio.ErrInvalidArgument, bytes))
	}
	d.capacity = bytes
}

// SetLatency makes each operation take a time between min and max. In the order of production that
// is min, and an operation has its effect at the end of its time; a longer time and an earlier
// effect are deviations, like those of a [Link]. For the time that a Sync or SyncDir takes see
// [Disk.SetSyncLatency]. It panics for a negative min, and for a max that is less.
func (d *Disk) SetLatency(min, max time.Duration) {
	d.latency, d.timed = newLatencies(min, max, "SetLatency"), true
}

// SetSyncLatency is [Disk.SetLatency] for Sync and SyncDir.
func (d *Disk) SetSyncLatency(min, max time.Duration) {
	d.sync, d.timed = newLatencies(min, max, "SetSyncLatency"), true
}

func newLatencies(min, max time.Duration, caller string) latencies {
	if min < 0 || max < min {
		panic(fmt.Errorf("%w: a latency from %v to %v (in sim.Disk.%s)", asyncio.ErrInvalidArgument, min, max, caller))
	}
	return latencies{min, max}
}

// SetFaults sets how often the disk fails from now on. It panics for a probability that is not from
// 0 to 1, and for a negative StallTime.
func (d *Disk) SetFaults(f DiskFaults) {
	for _, p := range []float64{f.Read, f.Write, f.Sync, f.BitRot, f.Stall} {
		mustBeProbability(p, "Disk.SetFaults")
	}
	if f.StallTime < 0 {
		panic(fmt.Errorf("%w: a StallTime of %v (in sim.Disk.SetFaults)", asyncio.ErrInvalidArgument, f.StallTime))
	}
	d.faults = f
}

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
