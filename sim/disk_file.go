package sim

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
)

// Open files of a simulated disk: reading, writing, seeking, and the faults of each operation.

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
	if d.fails(func() string { return fmt.Sprintf("read of %s at %d", shown(h.name), off) }, d.faults.Read) {
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
	what := func() string { return fmt.Sprintf("write of %s at %d, %d bytes", shown(h.name), off, len(p)) }
	if d.fails(what, d.faults.Write) {
		return 0, h.failure("write", syscall.EIO)
	}
	if d.suffers(FullDisks, "there is no room for the ", what, "") {
		return 0, h.failure("write", syscall.ENOSPC)
	}
	n := h.n.data.writeAt(p, off, d.alloc)
	if d.seen != nil {
		d.seen(fmt.Sprintf("write of %s at %d", shown(h.name), off), p[:n])
	}
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
	if d.seen != nil {
		d.seen(fmt.Sprintf("truncation of %s to %s", shown(h.name), counted(int(size), "byte")), nil)
	}
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
