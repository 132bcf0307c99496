package asyncio

import (
	"bytes"
	"context"
	"io"
	"io/fs"
	"math"
	"os"
	"slices"
	"sync"
	"syscall"

	"github.com/goasyncio/asyncio/internal/driver"
)

// Operations on names: those that read or write a whole file, and those on directories. The rules
// are in io_files.go.

// ReadFile returns the contents of a file, as [os.ReadFile] does. The calling task is suspended
// meanwhile. A cancel, or the end of ctx, ends the wait. Errors are those of [OpenFile] and of
// reading, and syscall.EFBIG for a file larger than any memory, as a sparse file can be.
func ReadFile(ctx context.Context, name string) ([]byte, error) {
	at, err := filesOf(ctx, "ReadFile")
	if err != nil {
		return nil, err
	}
	var h wholeFile
	defer h.leave()
	var data []byte
	err = at.open(ctx, name, os.O_RDONLY,
		filePart{op: operation("open", name), fn: func() error { return h.open(at.fs, name, os.O_RDONLY, 0) }},
		filePart{op: operation("read", name), fn: func() (err error) {
			data, err = readWhole(h.file, name)
			return err
		}},
		filePart{op: operation("close", name), always: true, fn: func() error {
			_ = h.close() // nothing was written
			return nil
		}})
	if err != nil {
		return nil, err
	}
	return data, nil
}

// A wholeFile is open for one call that reads or writes all of it. When the task no longer waits
// for the call, the job's work on a device is ended.
type wholeFile struct {
	file driver.File // used by the job only

	mu     sync.Mutex
	device driver.File // set while it is open
	left   bool
}

func (h *wholeFile) open(in driver.FileSystem, name string, flag int, perm fs.FileMode) error {
	f, err := in.OpenFile(name, flag, perm)
	if err != nil {
		return err
	}
	h.file = f
	if !f.Device() {
		return nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.left {
		return fs.ErrClosed // close follows
	}
	h.device = f
	return nil
}

func (h *wholeFile) close() error {
	if h.file == nil {
		return nil
	}
	h.mu.Lock()
	h.device = nil
	h.mu.Unlock()
	return h.file.Close()
}

// leave is called on the loop when the call returns.
func (h *wholeFile) leave() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.left = true
	if h.device != nil {
		_ = h.device.Close()
	}
}

// readWhole reads a file whose size may be unknown, or change.
func readWhole(h driver.File, name string) ([]byte, error) {
	size := int64(0)
	if info, err := h.Stat(); err == nil {
		size = info.Size()
	}
	tooLarge := &fs.PathError{Op: "read", Path: name, Err: syscall.EFBIG}
	if size > min(maxFileWhole, math.MaxInt/2) {
		return nil, tooLarge
	}
	data := make([]byte, 0, min(max(size, 0), maxFileRead)+512)
	for {
		n, err := h.Read(data[len(data):cap(data)], int64(len(data)))
		data = data[:len(data)+n]
		switch {
		case err == io.EOF:
			return data, nil
		case err != nil:
			return nil, err
		case len(data) > math.MaxInt/2:
			return nil, tooLarge
		case len(data) == cap(data):
			data = slices.Grow(data, len(data))
		}
	}
}

// WriteFile makes data the contents of a file, as [os.WriteFile] does: it creates or truncates the
// file first and then writes. So a reader in between, or after a crash of the host, finds less than
// data. To have a file that is there in full or not at all, write another one, [File.Sync] it,
// [Rename] it, and [SyncDir] its directory.
//
// The calling task is suspended meanwhile. A cancel, or the end of ctx, ends the wait; the file may
// be written in full all the same, and a pipe may have got any part of data. Errors are those of
// [OpenFile] and of writing.
func WriteFile(ctx context.Context, name string, data []byte, perm fs.FileMode) error {
	at, err := filesOf(ctx, "WriteFile")
	if err != nil {
		return err
	}
	var h wholeFile
	defer h.leave()
	data = bytes.Clone(data) // a job has memory of its own (file 2)
	const flag = os.O_WRONLY | os.O_CREATE | os.O_TRUNC
	return at.open(ctx, name, flag,
		filePart{op: operation("open", name), fn: func() error { return h.open(at.fs, name, flag, perm) }},
		filePart{op: operation("write", name), fn: func() error {
			_, _, err := h.file.Write(data, 0)
			return err
		}},
		filePart{op: operation("close", name), always: true, fn: h.close})
}

// Rename renames a file or directory, and replaces a file that has the new name, as [os.Rename]
// does: a reader finds either the old file or the new one. The new name survives a crash of the
// machine once [SyncDir] has returned. The calling task is suspended. A cancel, or the end of ctx,
// ends the wait, and the rename may happen all the same. The error is a [*os.LinkError], or one of
// [OpenFile].
func Rename(ctx context.Context, oldname, newname string) error {
	return onFiles(ctx, "Rename", operation("rename", oldname), func(d driver.FileSystem) error { return d.Rename(oldname, newname) })
}

// Remove removes a file or an empty directory, as [os.Remove] does. The calling task is suspended.
// A cancel, or the end of ctx, ends the wait, and the removal may happen all the same. Errors are
// those of [OpenFile].
func Remove(ctx context.Context, name string) error {
	return onFiles(ctx, "Remove", operation("remove", name), func(d driver.FileSystem) error { return d.Remove(name) })
}

// MkdirAll makes a directory, and those above it that are missing, as [os.MkdirAll] does. The
// calling task is suspended. A cancel, or the end of ctx, ends the wait, and the directories may be
// made all the same. Errors are those of [OpenFile].
func MkdirAll(ctx context.Context, name string, perm fs.FileMode) error {
	return onFiles(ctx, "MkdirAll", operation("mkdir", name), func(d driver.FileSystem) error { return d.MkdirAll(name, perm) })
}

// ReadDir returns the entries of a directory in the order of their names, as [os.ReadDir] does. The
// calling task is suspended. A cancel, or the end of ctx, ends the wait. An entry's Info method
// looks at the file when it is called, and blocks: in a task use [Stat]. Errors are those of
// [OpenFile].
func ReadDir(ctx context.Context, name string) ([]fs.DirEntry, error) {
	var entries []fs.DirEntry
	err := onFiles(ctx, "ReadDir", operation("readdir", name), func(d driver.FileSystem) (err error) {
		entries, err = d.ReadDir(name)
		return err
	})
	if err != nil {
		return nil, err
	}
	return entries, nil
}

// Stat describes a file, as [os.Stat] does. The calling task is suspended. A cancel, or the end of
// ctx, ends the wait. Errors are those of [OpenFile].
func Stat(ctx context.Context, name string) (fs.FileInfo, error) {
	var info fs.FileInfo
	err := onFiles(ctx, "Stat", operation("stat", name), func(d driver.FileSystem) (err error) {
		info, err = d.Stat(name)
		return err
	})
	if err != nil {
		return nil, err
	}
	return info, nil
}

// SyncDir returns when the names in a directory are durable: what was created, renamed or removed
// there before survives a crash of the machine. [File.Sync] does not make the name of its file
// durable. On Windows, which has no equivalent, SyncDir only checks that the directory exists. The
// calling task is suspended. A cancel, or the end of ctx, ends the wait, and the names may or may
// not be durable then. Errors are those of [OpenFile].
func SyncDir(ctx context.Context, name string) error {
	return onFiles(ctx, "SyncDir", operation("sync", name), func(d driver.FileSystem) error { return d.SyncDir(name) })
}

func operation(verb, name string) driver.Operation { return driver.Operation{Verb: verb, Name: name} }

// onFiles runs fn with the file system of the calling task.
func onFiles(ctx context.Context, caller string, op driver.Operation, fn func(driver.FileSystem) error) error {
	at, err := filesOf(ctx, caller)
	if err != nil {
		return err
	}
	return at.do(ctx, nil, nil, filePart{op: op, fn: func() error { return fn(at.fs) }})
}
