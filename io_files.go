package asyncio

import (
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
	"syscall"

	"github.com/goasyncio/asyncio/internal/driver"
)

// Files:
//
//	file 1: The default executor does the blocking work, one job for each call. On a simulated disk
//	   a job is steps of the loop, between which time may go by and the host may die. A call of more
//	   than one operation (ReadFile, WriteFile) is still one job, but has a step for each operation.
//	file 2: A task does not wait for a job longer than it wants to. A job that had not started when
//	   the wait ended never does. Any other goes on to its end, and its result is dropped. So a job
//	   has memory of its own, and the caller's is copied.
//	file 3: The offset belongs to the File. It moves when Read, Write or Seek returns, by what that
//	   returns. So a wait that was ended leaves the offset where it was, whatever the job still
//	   does.
//	file 4: Read, Write and Seek of one File take turns, in the order of the calls. A device (a
//	   pipe, a terminal) has a line for reading and one for writing, so that neither waits for the
//	   other.
//	file 5: While a job of a File goes on after its wait has ended (file 2), no other begins; on a
//	   device, none in the same line. So an operation after a cancel does not overtake the cancelled
//	   one.
//	file 6: Close closes the file, however its wait ends: when the jobs under way have ended or, for
//	   a device, at once. From the call on nothing new begins.
//	file 7: A loop that closes closes the files that are left, and reports those on which Close had
//	   not been called.
//	file 8: Work that may take for ever keeps nothing else waiting. So the jobs of a device run on
//	   goroutines of their own, whose number its two lines bound; and an executor of its own does
//	   the openings that wait for another process. The end of the loop waits for neither: closing
//	   the device ends its jobs, and an opening that nobody can end is left behind and reported.
//	file 9: If a Read of a device gets bytes after its wait has ended, the next Read returns them.
//	   So file 3 holds for a device, too.

// A File is an open file, for tasks of one loop. Make one with [OpenFile].
//
// Its methods are for the loop only, except Name. They must be called in a task, which they suspend
// while the default executor does the work. A cancel of the task, or the end of ctx, ends the wait
// at once, but not the operation. It may never begin, or still happen: the data of a cancelled
// write can be found in the file afterwards, whole unless the disk fails. Later operations on the
// same File come after it. When a method returns, the caller may always use p again.
//
// Read, Write and Seek have one offset and take turns at it. A second one is not refused, as it is
// on a [Conn]: the contents of a file do not depend on the order of the readers, and several tasks
// may write whole records to a log. The offset moves when these methods return, by what they
// return, so a cancelled Read or Write does not move it, and a repeated one does the same again.
// But with os.O_APPEND a repeated Write can put the data into the file twice. ReadAt, WriteAt and
// the rest do not wait for each other.
//
// A File can also be a device, such as a named pipe or a terminal. Then reads take turns with reads
// and writes with writes. They do not use the executor, because they may take for ever, and Close
// ends them. If bytes arrive for a cancelled Read, the next Read returns them. A cancelled Write
// goes on.
//
// Errors are those of package os: a [*fs.PathError] around a system error such as syscall.ENOSPC,
// or [fs.ErrClosed]; and a plain [io.EOF]. A cancel and the end of ctx are returned as
// [Future.Await] returns them. A call in the wrong place returns [ErrNotInTask],
// [ErrDifferentLoop], [ErrLoopClosed], [ErrNoRunningLoop] or, from a foreign goroutine,
// [ErrForeignGoroutine].
//
// Close every File. If one is still open when the loop closes, the loop closes it and reports it to
// the exception handler as "unclosed file": Python's ResourceWarning.
type File struct {
	loop    *EventLoop
	disk    driver.Disk // nil for the operating system's
	h       driver.File
	name    string
	flag    int
	seq     uint64 // numbers the files in order of opening
	created *trace

	// where operations take turns (file 4); the second is a device's line for writing
	lines  [2]fileLine
	offset int64 // of the next Read or Write (file 3)
	spare  []byte
	kept   []byte // read from a device after the wait had ended (file 9)
	failed error  // the error that follows kept

	underWay int       // number of jobs
	quiet    waitQueue // tasks that wait for jobs to end, or for the file to be closed

	closing  bool // Close was called
	shutting bool // the job that closes has begun
	shut     bool // that job has ended
	shutErr  error
}

// A fileLine is a line in which operations on a File take turns.
type fileLine struct {
	turn      Lock
	abandoned int // jobs still under way whose wait has ended
}

const (
	maxFileRead  = 1 << 20       // bytes that one Read asks for
	maxFileSpare = 1 << 16       // bytes that an idle File keeps
	maxFileWhole = 1 << 40       // bytes that are read as a whole
	plainOffset  = math.MaxInt32 // every file system has offsets up to this
	maxOpenings  = 256           // openings at a time that wait for another process
)

// OpenFile opens a file, as [os.OpenFile] does. The calling task is suspended while the default
// executor, or the disk of a simulated host, does the work. On virtual time without such a disk,
// OpenFile opens a file of the real world.
//
// A cancel of the task, or the end of ctx, leaves nothing open; the file may be created or
// truncated all the same. Errors are those of package os, [ErrNotInTask], [ErrNoRunningLoop] and
// [ErrExecutorShutDown]. asyncio has no equivalent; it follows trio.open_file.
//
// Opening a named pipe waits until another process has opened the other end, unless flag has
// syscall.O_NONBLOCK or, on Linux, os.O_RDWR. Such an opening does not keep the executor from other
// work. Up to 256 openings of a loop wait at a time; more wait for these. Only the other process
// can end one. If an opening whose task has left is still waiting when the loop closes, it is left
// behind, with a thread of its own, and reported to the exception handler.
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

// loopFiles has the files of a loop.
type loopFiles struct {
	open     map[*File]struct{} // files that are not closed
	seq      uint64
	openings openings
}

var filesOfLoop = newEndingPart[loopFiles](endOpen)

func (l *EventLoop) newFile(disk driver.Disk, h driver.File, name string, flag int) *File {
	all := filesOfLoop.of(l)
	all.seq++
	f := &File{loop: l, disk: disk, h: h, name: name, flag: flag, seq: all.seq, created: l.created()}
	if all.open == nil {
		all.open = make(map[*File]struct{})
	}
	all.open[f] = struct{}{}
	return f
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

// enter starts a method.
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

// do runs fn as a job of a line. The error is that of the wait (file 2); fn keeps its own.
func (f *File) do(ctx context.Context, t *task, line *fileLine, op driver.Operation, fn func()) error {
	if err := f.quieten(ctx, t, line, op.Verb); err != nil {
		return err
	}
	return f.begin(ctx, &fileJob{f: f, line: line}, op, fn)
}

// quieten waits until no job of the line goes on without its task (file 5).
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

// reading and writing return the lines of operations that read and write.
func (f *File) reading() *fileLine { return &f.lines[0] }

func (f *File) writing() *fileLine {
	if f.h.Device() {
		return &f.lines[1]
	}
	return &f.lines[0]
}

// asking returns the line of the other operations. A device needs none: their results do not depend
// on reads and writes.
func (f *File) asking() *fileLine {
	if f.h.Device() {
		return nil
	}
	return &f.lines[0]
}

// inTurn runs fn when it is t's turn at a line (file 4). enter has returned t.
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

// settle wakes the tasks whose wait may be over, and closes the file if it is time to.
func (f *File) settle() {
	if f.lines[0].abandoned == 0 || f.lines[1].abandoned == 0 || f.closing {
		f.quiet.dismissAll()
	}
	f.tryShut()
}

// Read reads up to len(p) bytes at the offset, at least one, and moves the offset behind them. At
// the end of the file it returns [io.EOF]. It suspends, unless p is empty, and takes its turn. A
// cancel leaves the offset. If a device delivers bytes after the cancel, the next Read returns them
// without suspending.
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
			// the next Read returns them (file 9)
			j.late = func() { f.kept, f.failed = buf[:got], failed }
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

// takeKept returns bytes that came from a device after an earlier Read had given up (file 9).
func (f *File) takeKept(p []byte) (n int, err error) {
	n = copy(p, f.kept)
	f.kept = f.kept[n:]
	if n == 0 {
		err, f.failed = f.failed, nil
	}
	return n, err
}

// Write writes all of p at the offset, or at the end if the file was opened with os.O_APPEND, and
// moves the offset behind it. If Write fails, it returns how many bytes were written before, and
// the offset is behind them. It suspends, and takes its turn. A cancel leaves the offset, and p may
// be written all the same.
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

// Seek moves the offset, as [os.File.Seek] does, and returns it. whence can also be a value that
// only the system knows, such as SEEK_DATA and SEEK_HOLE on Linux. Seek suspends until it is its
// turn. It also suspends to ask the system, unless the new offset is given from the start or the
// current offset and every file system has it. A cancel leaves the offset; but a device's offset is
// the system's, and moves all the same.
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

// at implements ReadAt and WriteAt.
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

// ReadAt reads len(p) bytes at off, and leaves the offset of Read alone. If it returns fewer, the
// error says why; at the end of the file it is [io.EOF]. ReadAt suspends.
func (f *File) ReadAt(ctx context.Context, p []byte, off int64) (int, error) {
	return f.at(ctx, "read", "File.ReadAt", p, off, func(buf []byte) (int, error) { return f.h.ReadAt(buf, off) })
}

// WriteAt writes p at off, and leaves the offset of Write alone. If it fails, it returns how many
// bytes were written before. It suspends. A cancel ends the wait, and p may be written all the
// same. WriteAt fails with [ErrInvalidArgument] if the file was opened with os.O_APPEND.
func (f *File) WriteAt(ctx context.Context, p []byte, off int64) (int, error) {
	if f != nil && f.flag&os.O_APPEND != 0 {
		return 0, f.failure("write", fmt.Errorf("%w: it was opened with O_APPEND and is written at its end: use Write", ErrInvalidArgument))
	}
	return f.at(ctx, "write", "File.WriteAt", p, off, func(buf []byte) (int, error) {
		if len(buf) == 0 {
			return 0, nil // as in package os, which does not ask the system then
		}
		return f.h.WriteAt(buf, off)
	})
}

// control implements the methods that return only an error.
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
// wait, and the file may change all the same.
func (f *File) Truncate(ctx context.Context, size int64) error {
	return f.control(ctx, "truncate", "File.Truncate", func() error { return f.h.Truncate(size) })
}

// Sync returns when the data written before the call is durable: it survives a crash of the machine
// if the name of the file does, for which there is [SyncDir]. Sync suspends. A cancel ends the
// wait, and the data may or may not be durable then.
//
// If Sync fails, data that was not durable may be lost, and a second Sync that succeeds does not
// change that: Linux, for one, treats the data as written after the first. Write the data again, to
// another file, or stop.
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

// Close closes the file. From then on every other method fails with [fs.ErrClosed], also a method
// that waits for its turn. Operations that are under way end first, except that reading and writing
// a device ends with fs.ErrClosed. Close does not sync. It suspends until the file is closed.
//
// The file is closed in any case, so Close can be deferred: a cancel, or a ctx that ends before or
// meanwhile, only ends the wait. In the deferred functions of a task that is unwound because its
// loop closes, Close closes the file without waiting. A second Close fails with fs.ErrClosed.
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

// tryShut closes the file after Close, once its jobs have ended or, for a device, at once (file 6).
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
		f.forget()
		f.quiet.dismissAll()
	})
	fut.retrieved()
}

// shutNow closes the file on a loop that closes.
func (f *File) shutNow() {
	f.closing, f.shut = true, true
	f.shutErr = f.h.Close()
	f.forget()
}

// forget takes f off the list of open files.
func (f *File) forget() { delete(filesOfLoop.of(f.loop).open, f) }

// end closes and reports the files that are left when the loop closes (file 7). A crash of
// its host has closed a file already.
func (all *loopFiles) end(l *EventLoop) {
	all.openings.leave(l)
	left := slices.SortedFunc(maps.Keys(all.open), func(a, b *File) int { return cmp.Compare(a.seq, b.seq) })
	for _, f := range left {
		if f.shutting && f.disk == nil {
			continue // the executor closes it
		}
		unclosed := !f.closing
		if f.shutNow(); unclosed && !errors.Is(f.shutErr, fs.ErrClosed) {
			l.CallExceptionHandler(ExceptionContext{
				Message:         fmt.Sprintf("unclosed file %s: whoever opens a file must close it (File.Close)", reprString(f.name)),
				Exception:       f.shutErr,
				SourceTraceback: f.created.String(),
			})
		}
	}
}
