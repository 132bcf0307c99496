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
	"os"
	"slices"
	"syscall"
	"time"

	"github.com/goasyncio/asyncio/internal/driver"
)

// Files:
//
//	FS1 What blocks is done by the default executor, one job for each call; on a simulated disk it is steps of the loop, between which time
//	    may go by and the host may die. A call of more than one operation (ReadFile, WriteFile) is still one job, but as many steps.
//	FS2 A task does not wait for a job longer than it wants to. One that had not started when the wait ended never does. Any other goes on to its
//	    end, and what becomes of it is dropped. So a job has memory of its own, and the caller's is copied.
//	FS3 The offset is the File's. It moves when Read, Write or Seek returns, by what that returns. So a wait that was ended leaves it
//	    where it was, whatever the job still does.
//	FS4 Read, Write and Seek of one File take turns, in the order in which they were called.
//	FS5 While a job of a File goes on that nobody waits for (FS2), no other begins. So what is done after a cancel is not overtaken by what was
//	    cancelled.
//	FS6 Close closes, whatever becomes of its wait: when the jobs under way have ended or, where a read may take for ever, at once. From
//	    the call on nothing new begins.
//	FS7 A loop that closes closes the files that are left, and reports those that nobody was about to close.

// A File is an open file, for tasks of one loop. Make one with [OpenFile].
//
// Its methods are for the loop only, but for Name. They must be called in a task, which they suspend while the default executor
// does the work. A cancel of the task, or the end of ctx, ends the wait at once and not the operation, which may not have begun, or still
// happen: a write can be found in the file afterwards, whole unless the disk fails. What then is done with the same File comes after
// it. p is the caller's again when a method returns, always.
//
// Read, Write and Seek have one offset, and take turns at it; a second one is not refused, as it is at a [Conn]: what a file has to
// say does not depend on who comes when, and several tasks may write whole records to a log. The offset moves when they return, by
// what they return, so a cancelled Read or Write leaves it, and doing it again does the same again; but a file that was opened with
// os.O_APPEND can then have the data twice. ReadAt, WriteAt and the rest do not wait for each other. What has no offsets, a pipe or a terminal,
// loses what a cancelled Read got: [EventLoop.AddReader] and [NewConn] are for these.
//
// Errors are those of package os: a [*fs.PathError] around a system error such as syscall.ENOSPC, or [fs.ErrClosed]; [io.EOF] as it is. A
// cancel and the end of ctx are returned as [Future.Await] returns them. A call in the wrong place returns [ErrNotInTask],
// [ErrDifferentLoop], [ErrLoopClosed], [ErrNoRunningLoop] or, from a foreign goroutine where it can be told, [ErrForeignGoroutine].
//
// Close it. A file that is still open when the loop closes is closed then, and reported to the exception handler as "unclosed file": Python's
// ResourceWarning.
type File struct {
	loop    *EventLoop
	disk    driver.Disk // nil: the operating system's
	h       driver.File
	name    string
	flag    int
	seq     uint64 // in order of opening
	created *trace

	turn   Lock  // FS4
	offset int64 // FS3
	spare  []byte

	underWay  int       // jobs
	abandoned int       // of these, nobody waits for them
	quiet     waitQueue // who waits for either to end, or for the file to be closed

	closing  bool // Close was called
	shutting bool // the job that closes is under way
	shut     bool // and has ended,
	shutErr  error
}

const (
	maxFileRead  = 1 << 20 // bytes that one Read asks for
	maxFileSpare = 1 << 16 // bytes that an idle File keeps
)

// OpenFile opens a file, as [os.OpenFile] does. The calling task is suspended while the default executor does it, or the disk of a simulated
// host. On virtual time without such a disk it is a file of the real world.
//
// A cancel of the task, or the end of ctx, leaves nothing open; the file may be created or truncated all the same. Errors are those of
// package os, [ErrNotInTask], [ErrNoRunningLoop] and [ErrExecutorShutdown]. Python has none; trio's open_file is.
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
	err = at.do(ctx, nil, filePart{op: operation("open", name), fn: func() error {
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

// ReadFile returns the contents of a file, as [os.ReadFile] does. The calling task is suspended meanwhile. A cancel, or the end of ctx, ends
// the wait. Errors are those of [OpenFile] and of reading.
func ReadFile(ctx context.Context, name string) ([]byte, error) {
	at, err := filesOf(ctx, "ReadFile")
	if err != nil {
		return nil, err
	}
	var h driver.File
	var data []byte
	err = at.do(ctx, nil,
		filePart{op: operation("open", name), fn: func() (err error) {
			h, err = at.fs.OpenFile(name, os.O_RDONLY, 0)
			return err
		}},
		filePart{op: operation("read", name), fn: func() (err error) {
			data, err = readWhole(h)
			return err
		}},
		filePart{op: operation("close", name), always: true, fn: func() error {
			if h != nil {
				_ = h.Close() // nothing was written
			}
			return nil
		}})
	if err != nil {
		return nil, err
	}
	return data, nil
}

// readWhole reads a file whose size may be unknown, or change.
func readWhole(h driver.File) ([]byte, error) {
	size := int64(0)
	if info, err := h.Stat(); err == nil {
		size = info.Size()
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
		case len(data) == cap(data):
			data = slices.Grow(data, len(data))
		}
	}
}

// WriteFile makes data the contents of a file, as [os.WriteFile] does: first the file is created or truncated, then written, so whoever looks in between, or
// when the host has crashed, finds less. For a file that is there in full or not at all, write another one, [File.Sync] it, [Rename] it, and
// [SyncDir] its directory.
//
// The calling task is suspended meanwhile. A cancel, or the end of ctx, ends the wait; the file may be written, in full, all the same. Errors
// are those of [OpenFile] and of writing.
func WriteFile(ctx context.Context, name string, data []byte, perm fs.FileMode) error {
	at, err := filesOf(ctx, "WriteFile")
	if err != nil {
		return err
	}
	var h driver.File
	data = bytes.Clone(data) // FS2
	return at.do(ctx, nil,
		filePart{op: operation("open", name), fn: func() (err error) {
			h, err = at.fs.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, perm)
			return err
		}},
		filePart{op: operation("write", name), fn: func() error {
			_, _, err := h.Write(data, 0)
			return err
		}},
		filePart{op: operation("close", name), always: true, fn: func() error {
			if h == nil {
				return nil
			}
			return h.Close()
		}})
}

// Rename renames a file or directory, and replaces a file that has the new name, as [os.Rename] does: whoever looks finds the one or the
// other. It outlives a crash of the machine once [SyncDir] has returned. The calling task is suspended. A cancel, or the end of ctx, ends the wait, and it may
// happen all the same. The error is a [*os.LinkError], or one of [OpenFile].
func Rename(ctx context.Context, oldname, newname string) error {
	return onFiles(ctx, "Rename", operation("rename", oldname), func(d driver.FileSystem) error { return d.Rename(oldname, newname) })
}

// Remove removes a file or an empty directory, as [os.Remove] does. The calling task is suspended. A cancel, or the end of ctx, ends the wait, and
// it may happen all the same. Errors are those of [OpenFile].
func Remove(ctx context.Context, name string) error {
	return onFiles(ctx, "Remove", operation("remove", name), func(d driver.FileSystem) error { return d.Remove(name) })
}

// MkdirAll makes a directory, and those above it that are missing, as [os.MkdirAll] does. The calling task is suspended. A cancel, or the end of ctx,
// ends the wait, and it may happen all the same. Errors are those of [OpenFile].
func MkdirAll(ctx context.Context, name string, perm fs.FileMode) error {
	return onFiles(ctx, "MkdirAll", operation("mkdir", name), func(d driver.FileSystem) error { return d.MkdirAll(name, perm) })
}

// ReadDir returns what is in a directory, in the order of names, as [os.ReadDir] does. The calling task is suspended. A cancel, or the end of ctx, ends the
// wait. Info of an entry looks at the file when it is called, and blocks: in a task use [Stat]. Errors are those of [OpenFile].
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

// Stat describes a file, as [os.Stat] does. The calling task is suspended. A cancel, or the end of ctx, ends the wait. Errors are those of [OpenFile].
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

// SyncDir returns when the names in a directory are durable: what was created there, renamed or removed before outlives a crash of the
// machine. [File.Sync] does not say so of the name of its file. On Windows, which has nothing like it, it only looks whether there is such
// a directory. The calling task is suspended. A cancel, or the end of ctx, ends the wait, and nothing is known then. Errors are those of [OpenFile].
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
	return at.do(ctx, nil, filePart{op: op, fn: func() error { return fn(at.fs) }})
}

// filePlace is where files are, and who works on them.
type filePlace struct {
	loop *EventLoop
	disk driver.Disk // nil: the operating system's
	fs   driver.FileSystem
}

func filesOf(ctx context.Context, caller string) (filePlace, error) {
	t, err := enter(ctx, caller)
	if err != nil {
		return filePlace{}, err
	}
	at := filePlace{loop: t.loop(), fs: driver.OS{}}
	if s, ok := at.loop.drv.(driver.Storage); ok {
		at.disk = s.Disk()
		at.fs = at.disk
	}
	return at, nil
}

// A filePart is one operation of a job.
type filePart struct {
	op     driver.Operation
	fn     func() error
	always bool // also after another part has failed
}

// do has the parts done as one job, for f if that is not nil, and suspends the current task until they are. The error is theirs, unless the wait was
// ended: then they may be at work still (FS2).
func (at filePlace) do(ctx context.Context, f *File, parts ...filePart) error {
	over, abandoned := false, false
	if f != nil {
		f.underWay++
	}
	fut, withdraw := at.start(ctx, parts, func() {
		over = true
		if f == nil {
			return
		}
		f.underWay--
		if abandoned {
			f.abandoned--
		}
		f.settle()
	})
	_, err := fut.Await(ctx)
	if over {
		return err
	}
	if !withdraw() && f != nil {
		abandoned = true
		f.abandoned++
	}
	if !fut.Done() {
		fut.Cancel()
	}
	return err
}

// start starts a job (FS1). ended is called on the loop when it has ended or was withdrawn.
func (at filePlace) start(ctx context.Context, parts []filePart, ended func()) (_ *Future[None], withdraw func() bool) {
	fut := &Future[None]{future: future{loop: at.loop}}
	if at.disk != nil {
		s := &diskJob{fut: fut, disk: at.disk, parts: parts, ended: ended}
		at.loop.schedule(s, nil)
		return fut, s.withdraw
	}
	j := &threadJob[None]{ctx: ctx, fut: fut, ended: ended, fn: func() (None, error) {
		var err error
		for _, p := range parts {
			err = p.after(err)
		}
		return None{}, err
	}}
	j.start(nil)
	return fut, j.withdraw
}

// after does p behind parts that have ended with err.
func (p *filePart) after(err error) error {
	if err != nil && !p.always {
		return err
	}
	if e := p.fn(); err == nil {
		err = e
	}
	return err
}

// A diskJob is a job on a simulated disk.
type diskJob struct {
	fut   *Future[None]
	disk  driver.Disk
	parts []filePart // that are not over
	ended func()
	err   error

	started, withdrawn bool

	phase diskPhase // of the first part
	rest  time.Duration
	timer timer
}

type diskPhase uint8

const (
	arriving diskPhase = iota // at the disk
	acting                    // there
	leaving                   // for the task
)

func (s *diskJob) withdraw() bool {
	if s.started || s.withdrawn {
		return false
	}
	s.withdrawn = true
	s.ended()
	return true
}

// fire goes on with the job, as far as no time goes by: in one step if the disk takes none, and a step for each part.
func (s *diskJob) fire(*future) {
	if !s.started && s.fut.state != pending {
		s.withdraw()
	}
	if s.withdrawn {
		return
	}
	s.started = true
	p := &s.parts[0]
	switch s.phase {
	case arriving:
		if s.err == nil || p.always {
			var before time.Duration
			before, s.rest = s.disk.Latency(p.op)
			s.phase = acting
			if s.pause(before) {
				return
			}
		}
		fallthrough
	case acting:
		s.phase = leaving
		s.err = p.after(s.err)
		if s.pause(s.rest) {
			return
		}
		fallthrough
	case leaving:
		s.phase, s.rest = arriving, 0
		s.parts = s.parts[1:]
		if len(s.parts) > 0 {
			s.fut.loop.schedule(s, nil)
			return
		}
		s.ended()
		if s.fut.state == pending {
			s.fut.finish(s.err)
		}
	}
}

// pause lets time go by before the job goes on, and reports whether there is any.
func (s *diskJob) pause(d time.Duration) bool {
	if d <= 0 {
		return false
	}
	s.timer.when, s.timer.cb = s.fut.loop.after(d), s
	s.fut.loop.setTimer(&s.timer)
	return true
}

func (s *diskJob) String() string {
	if len(s.parts) == 0 {
		return "file operation"
	}
	return s.parts[0].op.String()
}

// Name returns the name that was given to [OpenFile]. Any goroutine may call it; it does not suspend.
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

// do has fn done as a job. The error is that of the wait (FS2); fn keeps its own.
func (f *File) do(ctx context.Context, t *task, op driver.Operation, fn func()) error {
	for f.abandoned > 0 && !f.closing { // FS5
		if _, err := f.quiet.wait(ctx, t, f); err != nil {
			return err
		}
	}
	if err := f.usable(op.Verb); err != nil {
		return err
	}
	return f.place().do(ctx, f, filePart{op: op, fn: func() error { fn(); return nil }})
}

func (f *File) place() filePlace { return filePlace{loop: f.loop, disk: f.disk} }

// inTurn is FS4.
func (f *File) inTurn(ctx context.Context, op, caller string, fn func(t *task) error) error {
	t, err := f.enter(ctx, op, caller)
	if err != nil {
		return err
	}
	if err := f.turn.acquire(ctx, t); err != nil {
		return err
	}
	defer f.turn.Release()
	if err := f.usable(op); err != nil {
		return err
	}
	return fn(t)
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
	if f.abandoned == 0 || f.closing {
		f.quiet.dismissAll()
	}
	f.tryShut()
}

// Read reads up to len(p) bytes at the offset, at least one, and moves the offset behind them. At the end it returns [io.EOF]. It
// suspends, and takes its turn. A cancel leaves the offset.
func (f *File) Read(ctx context.Context, p []byte) (n int, err error) {
	err = f.inTurn(ctx, "read", "File.Read", func(t *task) error {
		if len(p) == 0 {
			return nil
		}
		buf, off := f.takeBuffer(min(len(p), maxFileRead)), f.offset
		var got int
		var failed error
		if err := f.do(ctx, t, operation("read", f.name), func() { got, failed = f.h.Read(buf, off) }); err != nil {
			return err
		}
		n = copy(p, buf[:got])
		f.offset += int64(n)
		f.giveBuffer(buf)
		return failed
	})
	return n, err
}

// Write writes all of p at the offset, or at the end if the file was opened with os.O_APPEND, and moves the offset behind it. If it fails, it
// returns how many bytes were written before. It suspends, and takes its turn. A cancel leaves the offset, and p may be written all the same.
func (f *File) Write(ctx context.Context, p []byte) (n int, err error) {
	err = f.inTurn(ctx, "write", "File.Write", func(t *task) error {
		buf, off := f.takeBuffer(len(p)), f.offset
		copy(buf, p)
		var got int
		var failed error
		if err := f.do(ctx, t, operation("write", f.name), func() { got, off, failed = f.h.Write(buf, off) }); err != nil {
			return err
		}
		n, f.offset = got, off
		f.giveBuffer(buf)
		return failed
	})
	return n, err
}

// Seek moves the offset, as [os.File.Seek] does, and returns it. It suspends until it is its turn and, if whence is [io.SeekEnd], while
// it is found out where that is. A cancel leaves the offset.
func (f *File) Seek(ctx context.Context, offset int64, whence int) (at int64, err error) {
	err = f.inTurn(ctx, "seek", "File.Seek", func(t *task) error {
		base := int64(0)
		switch whence {
		case io.SeekStart:
		case io.SeekCurrent:
			base = f.offset
		case io.SeekEnd:
			var failed error
			if err := f.do(ctx, t, operation("seek", f.name), func() { base, failed = f.h.End() }); err != nil {
				return err
			}
			if failed != nil {
				return failed
			}
		default:
			return f.failure("seek", syscall.EINVAL)
		}
		switch {
		case !f.h.Seekable():
			return f.failure("seek", syscall.ESPIPE)
		case base+offset < 0: // also if it is too large
			return f.failure("seek", syscall.EINVAL)
		}
		f.offset = base + offset
		at = f.offset
		return nil
	})
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
	buf := f.takeBuffer(len(p))
	if op == "write" {
		copy(buf, p)
	}
	var got int
	var failed error
	if err := f.do(ctx, t, operation(op, f.name), func() { got, failed = fn(buf) }); err != nil {
		return 0, err
	}
	if op == "read" {
		copy(p, buf[:got])
	}
	f.giveBuffer(buf)
	return got, failed
}

// ReadAt reads len(p) bytes at off, and leaves the offset of Read alone. If it returns fewer, it says why; at the end of the file [io.EOF]. It suspends.
func (f *File) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	return f.at(ctx, "read", "File.ReadAt", p, off, func(buf []byte) (int, error) { return f.h.ReadAt(buf, off) })
}

// WriteAt writes p at off, and leaves the offset of Write alone. If it fails, it returns how many bytes were written before. It suspends. A cancel
// ends the wait, and p may be written all the same. It fails with [ErrInvalidArgument] if the file was opened with os.O_APPEND.
func (f *File) WriteAt(ctx context.Context, p []byte, off int64) (int, error) {
	if f != nil && f.flag&os.O_APPEND != 0 {
		return 0, f.failure("write", fmt.Errorf("%w: it was opened with O_APPEND and is written at its end: use Write", ErrInvalidArgument))
	}
	return f.at(ctx, "write", "File.WriteAt", p, off, func(buf []byte) (int, error) { return f.h.WriteAt(buf, off) })
}

// control is a method that has only an error.
func (f *File) control(ctx context.Context, op, caller string, fn func() error) error {
	t, err := f.enter(ctx, op, caller)
	if err != nil {
		return err
	}
	var failed error
	if err := f.do(ctx, t, operation(op, f.name), func() { failed = fn() }); err != nil {
		return err
	}
	return failed
}

// Truncate makes the file size bytes long, and leaves the offset. It suspends. A cancel ends the wait, and it may happen all the same.
func (f *File) Truncate(ctx context.Context, size int64) error {
	return f.control(ctx, "truncate", "File.Truncate", func() error { return f.h.Truncate(size) })
}

// Sync returns when what was written before it was called is durable: it outlives a crash of the machine, if the name of the file
// does, for which there is [SyncDir]. It suspends. A cancel ends the wait, and nothing is known then.
//
// If it fails, what was not durable may be lost, and a second Sync that succeeds does not say otherwise: Linux, for one, takes the
// data for written after the first. Write it again, to another file, or stop.
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

// Close closes the file. From then on every other method fails with [fs.ErrClosed], also those that wait for their turn; operations that are
// under way end first, except that reading a pipe or a terminal ends with fs.ErrClosed. It does not sync. It suspends until all that is done.
//
// The file is closed in any case, so it can be deferred: a cancel, and a ctx that is done, before or meanwhile, only end the wait. In the
// deferred functions of a task that is unwound because its loop closes, it closes without waiting. A second Close fails with fs.ErrClosed.
func (f *File) Close(ctx context.Context) error {
	const caller = "File.Close"
	if f == nil || f.loop == nil {
		return fmt.Errorf("%w: a zero File: make one with OpenFile (in %s)", ErrInvalidArgument, caller)
	}
	if err := f.loop.mayClose(caller); err != nil {
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

// tryShut is FS6.
func (f *File) tryShut() {
	if !f.closing || f.shutting || f.underWay > 0 && f.h.Seekable() {
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

// closeFiles is FS7. A file whose host has crashed has been closed by that.
func (l *EventLoop) closeFiles() {
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
