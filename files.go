package asyncio

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math"
	"os"
	"slices"
	"sync"
	"syscall"

	"github.com/goasyncio/asyncio/internal/driver"
)

// Files:
//
//	file 1: What blocks is done by the default executor, one job for each call; on a simulated disk
//	   it is steps of the loop, between which time may go by and the host may die. A call of more
//	   than one operation (ReadFile, WriteFile) is still one job, but as many steps.
//	file 2: A task does not wait for a job longer than it wants to. One that had not started when
//	   the wait ended never does. Any other goes on to its end, and what becomes of it is dropped.
//	   So a job has memory of its own, and the caller's is copied.
//	file 3: The offset is the File's. It moves when Read, Write or Seek returns, by what that
//	   returns. So a wait that was ended leaves it where it was, whatever the job still does.
//	file 4: Read, Write and Seek of one File take turns, in the order in which they were called. A
//	   device (a pipe, a terminal) has a line for reading and one for writing, so that neither waits
//	   for the other.
//	file 5: While a job of a File goes on that nobody waits for (file 2), no other begins; of a
//	   device, none in the same line. So what is done after a cancel is not overtaken by what was
//	   cancelled.
//	file 6: Close closes, whatever becomes of its wait: when the jobs under way have ended or, of a
//	   device, at once. From the call on nothing new begins.
//	file 7: A loop that closes closes the files that are left, and reports those that nobody was
//	   about to close.
//	file 8: What may take for ever keeps nothing else waiting. So the jobs of a device are on
//	   goroutines of their own, of which its two lines bound the number; and opening what waits for
//	   another process is done by an executor for openings. Neither is waited for when the loop
//	   ends: closing the device ends its jobs, and an opening that nobody can end is left behind and
//	   reported.
//	file 9: What a Read of a device has got that nobody waited for any more is what the next Read
//	   gets. With that file 3 holds of a device, too.

// A File is an open file, for tasks of one loop. Make one with [OpenFile].
//
// Its methods are for the loop only, but for Name. They must be called in a task, which they
// suspend while the default executor does the work. A cancel of the task, or the end of ctx, ends
// the wait at once and not the operation, which may not have begun, or still happen: a write can be
// found in the file afterwards, whole unless the disk fails. What then is done with the same File
// comes after it. p is the caller's again when a method returns, always.
//
// Read, Write and Seek have one offset, and take turns at it; a second one is not refused, as it is
// at a [Conn]: what a file has to say does not depend on who comes when, and several tasks may
// write whole records to a log. The offset moves when they return, by what they return, so a
// cancelled Read or Write leaves it, and doing it again does the same again; but a file that was
// opened with os.O_APPEND can then have the data twice. ReadAt, WriteAt and the rest do not wait
// for each other.
//
// A File can be a device, such as a named pipe or a terminal, too. Then reading and writing take
// turns each for itself; the executor has no part in it, because they may take for ever, and Close
// ends them. What a cancelled Read gets afterwards the next one returns. A cancelled Write goes on.
//
// Errors are those of package os: a [*fs.PathError] around a system error such as syscall.ENOSPC,
// or [fs.ErrClosed]; [io.EOF] as it is. A cancel and the end of ctx are returned as [Future.Await]
// returns them. A call in the wrong place returns [ErrNotInTask], [ErrDifferentLoop],
// [ErrLoopClosed], [ErrNoRunningLoop] or, from a foreign goroutine, [ErrForeignGoroutine].
//
// Close it. A file that is still open when the loop closes is closed then, and reported to the
// exception handler as "unclosed file": Python's ResourceWarning.
type File struct {
	loop    *EventLoop
	disk    driver.Disk // nil: the operating system's
	h       driver.File
	name    string
	flag    int
	seq     uint64 // in order of opening
	created *trace

	lines  [2]fileLine // file 4; the second is a device's for writing
	offset int64       // file 3
	spare  []byte
	kept   []byte // file 9
	failed error  // behind it

	underWay int       // jobs
	quiet    waitQueue // tasks that wait for jobs to end, or for the file to be closed

	closing  bool // Close was called
	shutting bool // the job that closes is under way
	shut     bool // and has ended,
	shutErr  error
}

// A fileLine is where operations on a File take turns.
type fileLine struct {
	turn      Lock
	abandoned int // jobs under way that nobody waits for
}

const (
	maxFileRead  = 1 << 20       // bytes that one Read asks for
	maxFileSpare = 1 << 16       // bytes that an idle File keeps
	maxFileWhole = 1 << 40       // bytes that are read as a whole
	plainOffset  = math.MaxInt32 // up to which every file system has offsets
	maxOpenings  = 256           // openings at a time that wait for another process
)

// OpenFile opens a file, as [os.OpenFile] does. The calling task is suspended while the default
// executor does it, or the disk of a simulated host. On virtual time without such a disk it is a
// file of the real world.
//
// A cancel of the task, or the end of ctx, leaves nothing open; the file may be created or
// truncated all the same. Errors are those of package os, [ErrNotInTask], [ErrNoRunningLoop] and
// [ErrExecutorShutdown]. Python has none; trio's open_file is.
//
// Opening a named pipe waits until another process has opened the other end, unless flag has
// syscall.O_NONBLOCK or, on Linux, os.O_RDWR. It does not keep the executor from other work. Up to
// 256 of a loop wait at a time, and more wait for these. Nothing ends one but the other process: if
// nobody waits for it any more when the loop closes, it is left behind, with a thread of its own,
// and reported to the exception handler.
func OpenFile(ctx context.Context, name string, flag int, perm fs.FileMode) (*File, error) {
	at, err := filesOf(ctx, "OpenFile")
	if err != nil {
		return nil, err
	}
	h := new(handover[driver.File])
	err = ErrLoopClosed // unless do returns
	defer func() {
		if err != nil {
			h.refuse()
		}
	}()
	err = at.open(ctx, name, flag, filePart{op: operation("open", name), fn: func() error {
		f, err := at.fs.OpenFile(name, flag, perm)
		if err == nil {
			h.offer(f)
		}
		return err
	}})
	if err != nil {
		return nil, err
	}
	return at.loop.newFile(at.disk, h.v, name, flag), nil
}

func (l *EventLoop) newFile(disk driver.Disk, h driver.File, name string, flag int) *File {
	l.fileSeq++
	f := &File{loop: l, disk: disk, h: h, name: name, flag: flag, seq: l.fileSeq, created: l.created()}
	if l.files == nil {
		l.files = make(map[*File]struct{})
	}
	l.files[f] = struct{}{}
	return f
}

// ReadFile returns the contents of a file, as [os.ReadFile] does. The calling task is suspended
// meanwhile. A cancel, or the end of ctx, ends the wait. Errors are those of [OpenFile] and of
// reading, and syscall.EFBIG for what is larger than any memory, as a file can be that takes little
// place.
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

// A wholeFile is open for one call that reads or writes all of it. What the job does with a device
// ends when nobody waits for the call any more.
type wholeFile struct {
	file driver.File // the job's

	mu     sync.Mutex
	device driver.File // while it is open
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

// leave is called on the loop, when the call returns.
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

// WriteFile makes data the contents of a file, as [os.WriteFile] does: first the file is created or
// truncated, then written, so whoever looks in between, or when the host has crashed, finds less.
// For a file that is there in full or not at all, write another one, [File.Sync] it, [Rename] it,
// and [SyncDir] its directory.
//
// The calling task is suspended meanwhile. A cancel, or the end of ctx, ends the wait; the file may
// be written, in full, all the same, or of a pipe any part of data. Errors are those of [OpenFile]
// and of writing.
func WriteFile(ctx context.Context, name string, data []byte, perm fs.FileMode) error {
	at, err := filesOf(ctx, "WriteFile")
	if err != nil {
		return err
	}
	var h wholeFile
	defer h.leave()
	data = bytes.Clone(data) // file 2
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
// does: whoever looks finds the one or the other. It outlives a crash of the machine once [SyncDir]
// has returned. The calling task is suspended. A cancel, or the end of ctx, ends the wait, and it
// may happen all the same. The error is a [*os.LinkError], or one of [OpenFile].
func Rename(ctx context.Context, oldname, newname string) error {
	return onFiles(ctx, "Rename", operation("rename", oldname), func(d driver.FileSystem) error { return d.Rename(oldname, newname) })
}

// Remove removes a file or an empty directory, as [os.Remove] does. The calling task is suspended.
// A cancel, or the end of ctx, ends the wait, and it may happen all the same. Errors are those of
// [OpenFile].
func Remove(ctx context.Context, name string) error {
	return onFiles(ctx, "Remove", operation("remove", name), func(d driver.FileSystem) error { return d.Remove(name) })
}

// MkdirAll makes a directory, and those above it that are missing, as [os.MkdirAll] does. The
// calling task is suspended. A cancel, or the end of ctx, ends the wait, and it may happen all the
// same. Errors are those of [OpenFile].
func MkdirAll(ctx context.Context, name string, perm fs.FileMode) error {
	return onFiles(ctx, "MkdirAll", operation("mkdir", name), func(d driver.FileSystem) error { return d.MkdirAll(name, perm) })
}

// ReadDir returns what is in a directory, in the order of names, as [os.ReadDir] does. The calling
// task is suspended. A cancel, or the end of ctx, ends the wait. Info of an entry looks at the file
// when it is called, and blocks: in a task use [Stat]. Errors are those of [OpenFile].
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

// SyncDir returns when the names in a directory are durable: what was created there, renamed or
// removed before outlives a crash of the machine. [File.Sync] does not say so of the name of its
// file. On Windows, which has nothing like it, it only looks whether there is such a directory. The
// calling task is suspended. A cancel, or the end of ctx, ends the wait, and nothing is known then.
// Errors are those of [OpenFile].
func SyncDir(ctx context.Context, name string) error {
	return onFiles(ctx, "SyncDir", operation("sync", name), func(d driver.FileSystem) error { return d.SyncDir(name) })
}

func operation(verb, name string) driver.Operation { return driver.Operation{Verb: verb, Name: name} }

// onFiles has fn done with the files of who calls.
func onFiles(ctx context.Context, caller string, op driver.Operation, fn func(driver.FileSystem) error) error {
	at, err := filesOf(ctx, caller)
	if err != nil {
		return err
	}
	return at.do(ctx, nil, nil, filePart{op: op, fn: func() error { return fn(at.fs) }})
}

// Name returns the name that was given to [OpenFile]. Any goroutine may call it; it does not
// suspend.
func (f *File) Name() string { return f.name }

// String returns a repr: <File open name='wal'>.
func (f *File) String() string {
	state := "open"
	switch {
	case f.loop == nil:
		state = "unusable"
	case f.shut:
		state = "closed"
	case f.closing:
		state = "closing"
	}
	return fmt.Sprintf("<File %s name=%s>", state, reprString(f.name))
}

// enter is how a method begins.
func (f *File) enter(ctx context.Context, op, caller string) (*task, error) {
	if f == nil || f.loop == nil {
		return nil, fmt.Errorf("%w: a zero File: make one with OpenFile (in %s)", ErrInvalidArgument, caller)
	}
	t, err := f.loop.enterOn(ctx, caller)
	if err == nil {
		err = f.usable(op)
	}
	return t, err
}

func (f *File) usable(op string) error {
	if f.closing {
		return f.failure(op, fs.ErrClosed)
	}
	return nil
}

func (f *File) failure(op string, err error) error {
	return &fs.PathError{Op: op, Path: f.name, Err: err}
}

// do has fn done as a job of a line. The error is that of the wait (file 2); fn keeps its own.
func (f *File) do(ctx context.Context, t *task, line *fileLine, op driver.Operation, fn func()) error {
	if err := f.quieten(ctx, t, line, op.Verb); err != nil {
		return err
	}
	return f.begin(ctx, &fileJob{f: f, line: line}, op, fn)
}

// quieten is file 5.
func (f *File) quieten(ctx context.Context, t *task, line *fileLine, op string) error {
	for line != nil && line.abandoned > 0 && !f.closing {
		if _, err := f.quiet.wait(ctx, t, f); err != nil {
			return err
		}
	}
	return f.usable(op)
}

func (f *File) begin(ctx context.Context, j *fileJob, op driver.Operation, fn func()) error {
	return f.place().do(ctx, j, nil, filePart{op: op, fn: func() error { fn(); return nil }})
}

func (f *File) place() filePlace {
	at := filePlace{loop: f.loop, disk: f.disk}
	if f.h.Device() {
		at.by = goroutines{}
	}
	return at
}

// reading and writing are the lines of operations that read and write.
func (f *File) reading() *fileLine { return &f.lines[0] }

func (f *File) writing() *fileLine {
	if f.h.Device() {
		return &f.lines[1]
	}
	return &f.lines[0]
}

// asking is the line of the other operations. What a device says of itself does not depend on what
// is read and written.
func (f *File) asking() *fileLine {
	if f.h.Device() {
		return nil
	}
	return &f.lines[0]
}

// inTurn does fn when it is t's turn at a line (file 4). t has entered.
func (f *File) inTurn(ctx context.Context, t *task, line *fileLine, op string, fn func() error) error {
	if err := line.turn.acquire(ctx, t); err != nil {
		return err
	}
	defer line.turn.Release()
	if err := f.usable(op); err != nil {
		return err
	}
	return fn()
}

// takeBuffer returns memory for a job, and giveBuffer takes it back from one that has ended.
func (f *File) takeBuffer(n int) []byte {
	b := f.spare
	f.spare = nil
	if cap(b) < n {
		b = make([]byte, n)
	}
	return b[:n]
}

func (f *File) giveBuffer(b []byte) {
	if cap(b) <= maxFileSpare {
		f.spare = b
	}
}

// settle looks whether what somebody waits for has come.
func (f *File) settle() {
	if f.lines[0].abandoned == 0 || f.lines[1].abandoned == 0 || f.closing {
		f.quiet.dismissAll()
	}
	f.tryShut()
}

// Read reads up to len(p) bytes at the offset, at least one, and moves the offset behind them. At
// the end it returns [io.EOF]. It suspends, unless p is empty, and takes its turn. A cancel leaves
// the offset; of a device, what comes in spite of it is for the next Read, which then does not
// suspend.
func (f *File) Read(ctx context.Context, p []byte) (n int, err error) {
	t, err := f.enter(ctx, "read", "File.Read")
	if err != nil {
		return 0, err
	}
	err = f.inTurn(ctx, t, f.reading(), "read", func() error {
		if len(p) == 0 {
			return nil
		}
		if err := f.quieten(ctx, t, f.reading(), "read"); err != nil {
			return err
		}
		if len(f.kept) > 0 || f.failed != nil {
			n, err = f.takeKept(p)
			return err
		}
		buf, off := f.takeBuffer(min(len(p), maxFileRead)), f.offset
		var got int
		var failed error
		j := &fileJob{f: f, line: f.reading()}
		if f.h.Device() {
			j.late = func() { f.kept, f.failed = buf[:got], failed } // file 9
		}
		if err := f.begin(ctx, j, operation("read", f.name), func() { got, failed = f.h.Read(buf, off) }); err != nil {
			return err
		}
		n = copy(p, buf[:got])
		f.offset += int64(n)
		f.giveBuffer(buf)
		return failed
	})
	return n, err
}

// takeKept is file 9.
func (f *File) takeKept(p []byte) (n int, err error) {
	n = copy(p, f.kept)
	f.kept = f.kept[n:]
	if n == 0 {
		err, f.failed = f.failed, nil
	}
	return n, err
}

// Write writes all of p at the offset, or at the end if the file was opened with os.O_APPEND, and
// moves the offset behind it. If it fails, it returns how many bytes were written before, and the
// offset is behind them. It suspends, and takes its turn. A cancel leaves the offset, and p may be
// written all the same.
func (f *File) Write(ctx context.Context, p []byte) (n int, err error) {
	t, err := f.enter(ctx, "write", "File.Write")
	if err != nil {
		return 0, err
	}
	err = f.inTurn(ctx, t, f.writing(), "write", func() error {
		buf, off := f.takeBuffer(len(p)), f.offset
		copy(buf, p)
		var got int
		var failed error
		if err := f.do(ctx, t, f.writing(), operation("write", f.name), func() { got, off, failed = f.h.Write(buf, off) }); err != nil {
			return err
		}
		n = got
		if !f.h.Device() {
			f.offset = off
		}
		f.giveBuffer(buf)
		return failed
	})
	return n, err
}

// Seek moves the offset, as [os.File.Seek] does, and returns it; whence can also be what the system
// knows besides, as Linux does SEEK_DATA and SEEK_HOLE. It suspends until it is its turn, and while
// the system is asked: always, but for offsets from the start or from where it is that every file
// system has. A cancel leaves the offset; but a device's is the system's, and moves all the same.
func (f *File) Seek(ctx context.Context, offset int64, whence int) (at int64, err error) {
	t, err := f.enter(ctx, "seek", "File.Seek")
	if err != nil {
		return 0, err
	}
	ask := func() error {
		var failed error
		if err := f.do(ctx, t, f.asking(), operation("seek", f.name), func() { at, failed = f.h.Seek(offset, whence) }); err != nil {
			return err
		}
		return failed
	}
	if f.h.Device() {
		return at, ask()
	}
	err = f.inTurn(ctx, t, f.reading(), "seek", func() error {
		switch whence {
		case io.SeekCurrent:
			whence = io.SeekStart
			offset += f.offset // negative if it is too large
			fallthrough
		case io.SeekStart:
			if offset < 0 {
				return f.failure("seek", syscall.EINVAL)
			}
			if at = offset; offset <= plainOffset {
				break
			}
			fallthrough
		default:
			if err := ask(); err != nil {
				return err
			}
		}
		f.offset = at
		return nil
	})
	if err != nil {
		at = 0
	}
	return at, err
}

// at is ReadAt and WriteAt.
func (f *File) at(ctx context.Context, op string, caller string, p []byte, off int64, fn func(buf []byte) (int, error)) (int, error) {
	t, err := f.enter(ctx, op, caller)
	if err != nil {
		return 0, err
	}
	if off < 0 {
		return 0, f.failure(op, fmt.Errorf("%w: negative offset %d", ErrInvalidArgument, off))
	}
	buf, line := f.takeBuffer(len(p)), f.reading()
	if op == "write" {
		copy(buf, p)
		line = f.writing()
	}
	var got int
	var failed error
	if err := f.do(ctx, t, line, operation(op, f.name), func() { got, failed = fn(buf) }); err != nil {
		return 0, err
	}
	if op == "read" {
		copy(p, buf[:got])
	}
	f.giveBuffer(buf)
	return got, failed
}

// ReadAt reads len(p) bytes at off, and leaves the offset of Read alone. If it returns fewer, it
// says why; at the end of the file [io.EOF]. It suspends.
func (f *File) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	return f.at(ctx, "read", "File.ReadAt", p, off, func(buf []byte) (int, error) { return f.h.ReadAt(buf, off) })
}

// WriteAt writes p at off, and leaves the offset of Write alone. If it fails, it returns how many
// bytes were written before. It suspends. A cancel ends the wait, and p may be written all the
// same. It fails with [ErrInvalidArgument] if the file was opened with os.O_APPEND.
func (f *File) WriteAt(ctx context.Context, p []byte, off int64) (int, error) {
	if f != nil && f.flag&os.O_APPEND != 0 {
		return 0, f.failure("write", fmt.Errorf("%w: it was opened with O_APPEND and is written at its end: use Write", ErrInvalidArgument))
	}
	return f.at(ctx, "write", "File.WriteAt", p, off, func(buf []byte) (int, error) {
		if len(buf) == 0 {
			return 0, nil // as package os, which does not ask the system
		}
		return f.h.WriteAt(buf, off)
	})
}

// control is a method that has only an error.
func (f *File) control(ctx context.Context, op, caller string, fn func() error) error {
	t, err := f.enter(ctx, op, caller)
	if err != nil {
		return err
	}
	var failed error
	if err := f.do(ctx, t, f.asking(), operation(op, f.name), func() { failed = fn() }); err != nil {
		return err
	}
	return failed
}

// Truncate makes the file size bytes long, and leaves the offset. It suspends. A cancel ends the
// wait, and it may happen all the same.
func (f *File) Truncate(ctx context.Context, size int64) error {
	return f.control(ctx, "truncate", "File.Truncate", func() error { return f.h.Truncate(size) })
}

// Sync returns when what was written before it was called is durable: it outlives a crash of the
// machine, if the name of the file does, for which there is [SyncDir]. It suspends. A cancel ends
// the wait, and nothing is known then.
//
// If it fails, what was not durable may be lost, and a second Sync that succeeds does not say
// otherwise: Linux, for one, takes the data for written after the first. Write it again, to another
// file, or stop.
func (f *File) Sync(ctx context.Context) error {
	return f.control(ctx, "sync", "File.Sync", func() error { return f.h.Sync() })
}

// Stat describes the file. It suspends.
func (f *File) Stat(ctx context.Context) (fs.FileInfo, error) {
	var info fs.FileInfo
	if err := f.control(ctx, "stat", "File.Stat", func() (err error) { info, err = f.h.Stat(); return err }); err != nil {
		return nil, err
	}
	return info, nil
}

// Close closes the file. From then on every other method fails with [fs.ErrClosed], also those that
// wait for their turn; operations that are under way end first, except that reading and writing a
// device ends with fs.ErrClosed. It does not sync. It suspends until all that is done.
//
// The file is closed in any case, so it can be deferred: a cancel, and a ctx that is done, before
// or meanwhile, only end the wait. In the deferred functions of a task that is unwound because its
// loop closes, it closes without waiting. A second Close fails with fs.ErrClosed.
func (f *File) Close(ctx context.Context) error {
	const caller = "File.Close"
	if f == nil || f.loop == nil {
		return fmt.Errorf("%w: a zero File: make one with OpenFile (in %s)", ErrInvalidArgument, caller)
	}
	if err := f.loop.checkForeign(caller); err != nil {
		return err
	}
	if f.closing {
		return f.failure("close", fs.ErrClosed)
	}
	if f.loop.closing.Load() {
		f.shutNow()
		return f.shutErr
	}
	t, err := taskOf(ctx, caller)
	if err != nil {
		return err
	}
	if t.loop() != f.loop {
		return fmt.Errorf("%w (in %s)", ErrDifferentLoop, caller)
	}
	f.closing = true
	f.settle()
	for !f.shut {
		if _, err := f.quiet.wait(ctx, t, f); err != nil {
			return err
		}
	}
	return f.shutErr
}

// tryShut is file 6.
func (f *File) tryShut() {
	if !f.closing || f.shutting || f.underWay > 0 && !f.h.Device() {
		return
	}
	f.shutting = true
	closed := false
	fut, _ := f.place().start(f.loop.ctx, []filePart{{op: operation("close", f.name), fn: func() error {
		closed = true
		f.shutErr = f.h.Close()
		return nil
	}}}, func() {
		if !closed { // the executor has refused
			f.shutErr = f.h.Close()
		}
		f.shut = true
		delete(f.loop.files, f)
		f.quiet.dismissAll()
	})
	fut.retrieved()
}

// shutNow closes the file on a loop that closes.
func (f *File) shutNow() {
	f.closing, f.shut = true, true
	f.shutErr = f.h.Close()
	delete(f.loop.files, f)
}

// closeFiles is file 7. A file whose host has crashed has been closed by that.
func (l *EventLoop) closeFiles() {
	l.openings.leave(l)
	left := slices.SortedFunc(maps.Keys(l.files), func(a, b *File) int { return cmp.Compare(a.seq, b.seq) })
	for _, f := range left {
		if f.shutting && f.disk == nil {
			continue // the executor closes it
		}
		unclosed := !f.closing
		if f.shutNow(); unclosed && !errors.Is(f.shutErr, fs.ErrClosed) {
			l.CallExceptionHandler(ExceptionContext{
				Message:         fmt.Sprintf("unclosed file %s: who opens a file closes it (File.Close)", reprString(f.name)),
				Exception:       f.shutErr,
				SourceTraceback: f.created.String(),
			})
		}
	}
}
