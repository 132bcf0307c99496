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
// operating system's, and what blocks is done by the default executor.
type Storage interface {
	// Disk returns the files.
	Disk() Disk
}

// A Disk has files in memory. No operation waits: each is made, as a whole, in a step of the loop.
type Disk interface {
	FileSystem

	// Latency says how long an operation that begins now takes, on the loop's clock: before it has
	// its effect, and after that until its result is known. If it is given up in between, the
	// effect comes or has come all the same.
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

	// SyncDir makes durable what names there are in the directory.
	SyncDir(name string) error

	// OpeningWaits reports whether OpenFile may take for ever, because somebody else has to do
	// something.
	OpeningWaits(name string, flag int) bool
}

// A File is an open one. Where it is read and written next is its user's to remember. Of the
// methods any may be called by several goroutines at a time.
type File interface {
	// Read reads some bytes at offset off; of a device what comes next. At the end it returns
	// io.EOF.
	Read(p []byte, off int64) (int, error)

	// Write writes p at offset off; behind what comes before, if the file was opened with O_APPEND
	// or is a device. It returns the offset behind what it wrote, off if that is nothing.
	Write(p []byte, off int64) (n int, end int64, err error)

	// ReadAt, WriteAt and the others are those of os.File. If WriteAt fails, it says how much was
	// written before.
	ReadAt(p []byte, off int64) (int, error)
	WriteAt(p []byte, off int64) (int, error)
	Truncate(size int64) error
	Sync() error
	Stat() (fs.FileInfo, error)
	Close() error

	// Seek returns the offset that os.File's Seek would. Unless it is a device's, no offset moves,
	// and whence is not io.SeekCurrent.
	Seek(offset int64, whence int) (int64, error)

	// Device reports whether the file is a pipe, a terminal or another device. Reading and writing
	// one may take for ever, one beside the other, and Close ends that. If it has an offset, the
	// system keeps it.
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

// waiting are the kinds of files of which others have the other end.
const waiting = fs.ModeNamedPipe | fs.ModeSocket | fs.ModeCharDevice

func isDevice(f *os.File) bool {
	if _, err := f.Seek(0, io.SeekCurrent); err != nil {
		return true
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&waiting != 0
}

// OpeningWaits is about named pipes, which have to be opened at both ends, and terminals, which may
// wait for a carrier. On Windows opening waits for nobody, and to look at a pipe would take one of
// its places.
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

// SyncDir does nothing on Windows but to look whether there is such a directory: the system has no
// such call.
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

// osFile does not use the offset that the system keeps, unless it is a device's or there is no
// other way.
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
		return n, nil // what comes next says the rest
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
		// a file in which one can only read at an offset, as some in /proc
		if n == 0 && errors.Is(err, syscall.ESPIPE) {
			n, err = f.File.Write(p)
		}
		return n, off + int64(n), err
	}
	// What is appended goes to the end wherever the offset is; but the system refuses it if the
	// offset leaves no room for it.
	if runtime.GOOS != "js" { // where package os counts what was appended from where the offset is
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

// WriteAt is not os.File's, which does not say how much was written by a call of the system's that
// was behind with the rest.
func (f *osFile) WriteAt(p []byte, off int64) (int, error) { return writeAt(f.File, p, off) }
