package driver

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"runtime"
	"syscall"
	"time"
)

// Storage is implemented by a driver whose world has files of its own. Without it files are the
// operating system's, and blocking calls run on the default executor.
type Storage interface {
	// Disk returns the files.
	Disk() Disk
}

// A Disk has files in memory. No operation waits: each is done, as a whole, in a step of the loop.
type Disk interface {
	FileSystem

	// Latency returns how long an operation that begins now takes, on the loop's clock: before it
	// has its effect, and after that until its result is known. If the caller gives up in between,
	// the operation takes effect all the same.
	Latency(op Operation) (before, after time.Duration)
}

// An Operation is one thing asked of a disk.
type Operation struct {
	Verb string // open, read, write, sync, rename and so on
	Name string // of the file
}

func (o Operation) String() string { return o.Verb + " " + o.Name }

// A FileSystem has named files. Names and errors are those of package os.
type FileSystem interface {
	OpenFile(name string, flag int, perm fs.FileMode) (File, error)
	Rename(oldname, newname string) error
	Remove(name string) error
	MkdirAll(name string, perm fs.FileMode) error
	ReadDir(name string) ([]fs.DirEntry, error)
	Stat(name string) (fs.FileInfo, error)

	// SyncDir makes the names in the directory durable.
	SyncDir(name string) error

	// OpeningWaits reports whether OpenFile may wait for ever for another process.
	OpeningWaits(name string, flag int) bool
}

// A File is an open file. The caller keeps the offset for the next read or write. Several
// goroutines may call its methods at the same time.
type File interface {
	// Read reads some bytes at offset off, or the next bytes of a device. At the end it returns
	// io.EOF.
	Read(p []byte, off int64) (int, error)

	// Write writes p at offset off, or at the end if the file was opened with O_APPEND or is a
	// device. It returns the offset behind the written bytes, off if there are none.
	Write(p []byte, off int64) (n int, end int64, err error)

	// ReadAt, WriteAt and the others are those of os.File. If WriteAt fails, it returns how many
	// bytes were written before.
	ReadAt(p []byte, off int64) (int, error)
	WriteAt(p []byte, off int64) (int, error)
	Truncate(size int64) error
	Sync() error
	Stat() (fs.FileInfo, error)
	Close() error

	// Seek returns the offset that os.File's Seek would. Only a device's offset moves, and whence
	// is io.SeekCurrent only for a device.
	Seek(offset int64, whence int) (int64, error)

	// Device reports whether the file is a pipe, a terminal or another device. Reading and writing
	// a device may take for ever, independently of each other, and Close ends both. If it has an
	// offset, the system keeps it.
	Device() bool
}

// OS is the file system of the operating system.
type OS struct{}

func (OS) OpenFile(name string, flag int, perm fs.FileMode) (File, error) {
	f, err := os.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return &osFile{File: f, device: isDevice(f), appends: flag&os.O_APPEND != 0}, nil
}

// waiting are the kinds of files whose other end somebody else has.
const waiting = fs.ModeNamedPipe | fs.ModeSocket | fs.ModeCharDevice

func isDevice(f *os.File) bool {
	if _, err := f.Seek(0, io.SeekCurrent); err != nil {
		return true
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&waiting != 0
}

// OpeningWaits reports true for named pipes, which have to be opened at both ends, and for
// terminals, which may wait for a carrier. On Windows opening never waits for another process, and
// looking at a pipe would use up one of its instances.
func (OS) OpeningWaits(name string, flag int) bool {
	if runtime.GOOS == "windows" || flag&nonblock != 0 {
		return false
	}
	info, err := os.Stat(name)
	return err == nil && info.Mode()&waiting != 0
}

func (OS) Rename(oldname, newname string) error         { return os.Rename(oldname, newname) }
func (OS) Remove(name string) error                     { return os.Remove(name) }
func (OS) MkdirAll(name string, perm fs.FileMode) error { return os.MkdirAll(name, perm) }
func (OS) ReadDir(name string) ([]fs.DirEntry, error)   { return os.ReadDir(name) }
func (OS) Stat(name string) (fs.FileInfo, error)        { return os.Stat(name) }

// SyncDir on Windows only checks that there is such a directory, because the system has no such
// call.
func (OS) SyncDir(name string) error {
	d, err := os.Open(name)
	if err != nil {
		return err
	}
	defer d.Close()
	switch info, err := d.Stat(); {
	case err != nil:
		return err
	case !info.IsDir():
		return &fs.PathError{Op: "sync", Path: name, Err: syscall.ENOTDIR}
	case runtime.GOOS == "windows":
		return nil
	}
	return d.Sync()
}

// osFile ignores the offset that the system keeps, unless the file is a device or there is no other
// way.
type osFile struct {
	*os.File
	device, appends bool
}

func (f *osFile) Device() bool { return f.device }

func (f *osFile) Read(p []byte, off int64) (int, error) {
	if f.device {
		return f.File.Read(p)
	}
	n, err := f.ReadAt(p, off)
	if n > 0 {
		return n, nil // the next read returns the error
	}
	return n, err
}

func (f *osFile) Write(p []byte, off int64) (int, int64, error) {
	switch {
	case f.device:
		n, err := f.File.Write(p)
		return n, off, err
	case !f.appends:
		n, err := f.WriteAt(p, off)
		// a file that only supports reading at an offset, as some in /proc
		if n == 0 && errors.Is(err, syscall.ESPIPE) {
			n, err = f.File.Write(p)
		}
		return n, off + int64(n), err
	}
	// Appended bytes go to the end whatever the offset is, but the system refuses them if the
	// offset leaves no room for them.
	if runtime.GOOS != "js" { // where package os counts appended bytes from the current offset
		_, _ = f.Seek(0, io.SeekStart)
	}
	n, err := f.File.Write(p)
	if n == 0 {
		return n, off, err
	}
	end, seekErr := f.Seek(0, io.SeekCurrent)
	if err == nil {
		err = seekErr
	}
	return n, end, err
}

// WriteAt replaces os.File's, which does not count the bytes of a system call that was followed by
// a failing one.
func (f *osFile) WriteAt(p []byte, off int64) (int, error) { return writeAt(f.File, p, off) }
