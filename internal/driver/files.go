package driver

import (
	"io"
	"io/fs"
	"os"
	"runtime"
	"syscall"
	"time"
)

// Storage is implemented by a driver whose world has files of its own. Without it files are the operating system's, and what
// blocks is done by the default executor.
type Storage interface {
	// Disk returns the files.
	Disk() Disk
}

// A Disk has files in memory. No operation waits: each is made, as a whole, in a step of the loop.
type Disk interface {
	FileSystem

	// Latency says how long an operation that begins now takes, on the loop's clock: before it has its effect, and after that until its
	// result is known. If it is given up in between, the effect comes or has come all the same.
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
}

// A File is an open one. Where it is read and written next is its user's to remember. Of the methods any may be called by several
// goroutines at a time.
type File interface {
	// Read reads some bytes at offset off; what comes next, if the file has no offsets. At the end it returns io.EOF.
	Read(p []byte, off int64) (int, error)

	// Write writes p at offset off; behind what comes before, if the file has no offsets or was opened with O_APPEND. It returns the offset
	// behind what it wrote, off if that is nothing.
	Write(p []byte, off int64) (n int, end int64, err error)

	// ReadAt, WriteAt and the others are those of os.File.
	ReadAt(p []byte, off int64) (int, error)
	WriteAt(p []byte, off int64) (int, error)
	Truncate(size int64) error
	Sync() error
	Stat() (fs.FileInfo, error)
	Close() error

	// End returns the offset of the end.
	End() (int64, error)

	// Seekable reports whether the file has offsets. Reading one that has none may take for ever, and Close ends it.
	Seekable() bool
}

// OS is the file system of the operating system.
type OS struct{}

func (OS) OpenFile(name string, flag int, perm fs.FileMode) (File, error) {
	f, err := os.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	_, err = f.Seek(0, io.SeekCurrent)
	return &osFile{File: f, seekable: err == nil, appends: flag&os.O_APPEND != 0}, nil
}

func (OS) Rename(oldname, newname string) error         { return os.Rename(oldname, newname) }
func (OS) Remove(name string) error                     { return os.Remove(name) }
func (OS) MkdirAll(name string, perm fs.FileMode) error { return os.MkdirAll(name, perm) }
func (OS) ReadDir(name string) ([]fs.DirEntry, error)   { return os.ReadDir(name) }
func (OS) Stat(name string) (fs.FileInfo, error)        { return os.Stat(name) }

// SyncDir does nothing on Windows but to look whether there is such a directory: the system has no such call.
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

// osFile does not use the offset that the system keeps, unless there is no other way.
type osFile struct {
	*os.File
	seekable, appends bool
}

func (f *osFile) Seekable() bool { return f.seekable }

func (f *osFile) Read(p []byte, off int64) (int, error) {
	if !f.seekable {
		return f.File.Read(p)
	}
	n, err := f.ReadAt(p, off)
	if n > 0 {
		return n, nil // what comes next says the rest
	}
	return n, err
}

func (f *osFile) Write(p []byte, off int64) (int, int64, error) {
	if f.seekable && !f.appends && len(p) > 0 {
		n, err := f.WriteAt(p, off)
		return n, off + int64(n), err
	}
	n, err := f.File.Write(p)
	if !f.seekable || n == 0 {
		return n, off, err
	}
	end, seekErr := f.Seek(0, io.SeekCurrent)
	if err == nil {
		err = seekErr
	}
	return n, end, err
}

func (f *osFile) End() (int64, error) { return f.Seek(0, io.SeekEnd) }
