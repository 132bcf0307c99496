package asyncio

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/goasyncio/asyncio/internal/driver"
)

// Subprocesses:
//
//	process 1: A process ends with its scope: with the context it was made with, and with the loop.
//	   Its whole group ends with it, by SIGKILL.
//	process 2: A process is reaped on the loop, when its end is noticed or the loop closes, whether
//	   or not a task waits for it. Signals are sent on the loop, too, so none ever reaches another
//	   process that was given the same number.
//	process 3: Wait concerns the process, not its pipes: other processes that have inherited the
//	   pipes do not matter.

// A Stdio says where a standard stream of a subprocess is connected: [Pipe], [DevNull], [ToStdout],
// or, if it is not negative, a descriptor of this program, as in Stdout(asyncio.Stdio(file.Fd())).
// The descriptor is duplicated before anything suspends. Python: the values of stdin, stdout and
// stderr.
type Stdio int

const (
	// Pipe is a pipe whose other end is [Process.Stdin], [Process.Stdout] or [Process.Stderr].
	// Python: PIPE.
	Pipe Stdio = -1

	// ToStdout sends stderr where stdout goes. Python: STDOUT.
	ToStdout Stdio = -2

	// DevNull is the null device: reads return io.EOF and writes are discarded. Python: DEVNULL.
	DevNull Stdio = -3

	inherited Stdio = -4
)

// A SubprocessOption is an option of [CreateSubprocessExec] and [CreateSubprocessShell]. Any
// goroutine may make one.
type SubprocessOption struct {
	stream  int8 // 1 to 3 for stdin, stdout and stderr
	to      Stdio
	env     []string
	dir     string
	files   []*os.File
	limit   int
	session bool
	joined  bool // leaves it in the group of this program
}

// Stdin connects the standard input of the process. Without it, the process shares this program's.
func Stdin(from Stdio) SubprocessOption { return SubprocessOption{stream: 1, to: from} }

// Stdout is [Stdin] for the standard output.
func Stdout(to Stdio) SubprocessOption { return SubprocessOption{stream: 2, to: to} }

// Stderr is [Stdin] for the standard error stream, which can also go to [ToStdout].
func Stderr(to Stdio) SubprocessOption { return SubprocessOption{stream: 3, to: to} }

// Env sets the environment of the process, as "NAME=value", in place of this program's. Python:
// env.
func Env(variables ...string) SubprocessOption {
	return SubprocessOption{env: append([]string{}, variables...)}
}

// Dir sets the directory in which the process starts. Python: cwd.
func Dir(path string) SubprocessOption { return SubprocessOption{dir: path} }

// ExtraFiles gives files to the process, as its descriptors 3, 4, and so on. Python: pass_fds.
func ExtraFiles(files ...*os.File) SubprocessOption { return SubprocessOption{files: files} }

// PipeLimit sets the limit of the readers of the process's pipes; see [Limit]. It must be positive.
func PipeLimit(bytes int) SubprocessOption { return SubprocessOption{limit: Limit(bytes).limit} }

// StartNewSession makes the process the leader of a session, without a terminal. Python:
// start_new_session=True.
func StartNewSession() SubprocessOption { return SubprocessOption{session: true} }

// SameProcessGroup leaves the process in the group of this program. So signals that a terminal
// sends to its foreground (Ctrl-C) reach it, and it may read the terminal. Then the end of the
// scope kills the process alone, and the processes that it has started live on. Python's default.
func SameProcessGroup() SubprocessOption { return SubprocessOption{joined: true} }

// A Process is a subprocess that was made by [CreateSubprocessExec] or [CreateSubprocessShell]. Its
// methods are for the loop only.
//
// The process and its group are killed when the context it was made with ends, when the loop
// closes, and by [Process.Close]. For scopes shorter than the loop see [WithCancel] and
// [MoveOnAfter]. This holds as long as the process itself runs: if it ends by itself, the processes
// left in its group live on. To let it outlive its scope, call [Process.Detach]. Whether or not a
// task waits for it, no zombie remains once the loop has run again or is closed. Python:
// asyncio.subprocess.Process.
type Process struct {
	// Pid is the process's number.
	Pid int

	// The other ends of the process's pipes; nil for a stream that was not made with [Pipe].
	Stdin          *StreamWriter
	Stdout, Stderr *StreamReader

	loop  *EventLoop
	child *driver.Child
	pipes []*processPipe

	link     link[*Process] // in the loop's list, until it is reaped
	stop     func() bool
	detached bool
	noticed  bool // its end was noticed, and processExit is scheduled
	exited   bool
	code     int
	exit     Event

	// State of Communicate.
	communicating bool
	input         []byte // still to be written
	out, errOut   []byte // read so far
	outAt, errAt  bool   // out and errOut are complete
}

// CreateSubprocessExec starts a program. Name is looked up in PATH, unless it contains a slash;
// args do not include it. Unless options say otherwise the process has this program's standard
// streams, environment and directory, no other descriptor, and a group of its own. It is killed
// with its scope; see [Process].
//
// To keep other descriptors out, starting a process marks those that this program itself has
// inherited close-on-exec, for good. So children that package os/exec starts afterwards do not get
// them by accident either, nor does a program that takes this one's place by [syscall.Exec], unless
// the mark is taken off first. To pass one on, use [ExtraFiles]. Python: close_fds=True.
//
// CreateSubprocessExec must be called in a task, which it suspends while the program is started. A
// cancel, or the end of ctx, meanwhile leaves no process and no pipe behind. Errors are those of
// os/exec (such as [exec.ErrNotFound], [os.ErrPermission]), of system calls (out of descriptors, of
// processes), [ErrInvalidArgument], [ErrNotInTask], [ErrNoRunningLoop], and [errors.ErrUnsupported]
// on virtual time and where there are no process groups (Windows). Python:
// asyncio.create_subprocess_exec.
func CreateSubprocessExec(ctx context.Context, name string, args []string, opts ...SubprocessOption) (*Process, error) {
	const caller = "CreateSubprocessExec"
	if name == "" {
		return nil, fmt.Errorf("%w: no program (in %s)", ErrInvalidArgument, caller)
	}
	return createSubprocess(ctx, name, args, opts, caller)
}

// CreateSubprocessShell is [CreateSubprocessExec] for a command line of /bin/sh. Quote text from
// others in it. Python: asyncio.create_subprocess_shell.
func CreateSubprocessShell(ctx context.Context, command string, opts ...SubprocessOption) (*Process, error) {
	return createSubprocess(ctx, "/bin/sh", []string{"-c", command}, opts, "CreateSubprocessShell")
}

func createSubprocess(ctx context.Context, name string, args []string, opts []SubprocessOption, caller string) (*Process, error) {
	if _, err := enter(ctx, caller); err != nil {
		return nil, err
	}
	l := loopOf(ctx)
	procs, ok := l.drv.(driver.Processes)
	if !ok {
		return nil, fmt.Errorf("asyncio: %w: a loop on virtual time has no subprocesses (in %s)", errors.ErrUnsupported, caller)
	}
	if _, err := socketsOf(ctx, caller); err != nil {
		return nil, err
	}
	s := &subprocessStart{name: name, args: slices.Clone(args), stdio: [3]Stdio{inherited, inherited, inherited}, limit: DefaultLimit}
	s.apply(opts)
	if s.stdio[0] == ToStdout || s.stdio[1] == ToStdout || slices.Min(s.stdio[:]) < inherited {
		return nil, fmt.Errorf("%w: standard streams %v (in %s)", ErrInvalidArgument, s.stdio, caller)
	}
	p := &Process{loop: l}
	started := false
	defer func() {
		if !started {
			p.closePipes()
			s.giveUp()
		}
	}()
	if err := s.open(p, procs); err != nil {
		return nil, fmt.Errorf("asyncio: starting %s: %w", name, unsupported(err))
	}
	c, err := openOutside(ctx, func(context.Context) (newChild, error) { return s.run(procs) })
	if err != nil {
		return nil, err
	}
	started = true
	p.begin(ctx, c.Child)
	return p, nil
}

// subprocessStart holds everything needed to start a process.
type subprocessStart struct {
	name    string
	args    []string
	stdio   [3]Stdio
	env     []string
	dir     string
	limit   int
	session bool
	joined  bool
	extra   []*os.File // the caller's files

	files [3]*os.File // of the child, its standard streams
	more  []*os.File  // of the child, duplicates of extra
	// own are the files above that were opened here. Whoever sets taken first closes them: the
	// goroutine that starts the process, or, if it never does, the task.
	own   []*os.File
	taken atomic.Bool
}

func (s *subprocessStart) apply(opts []SubprocessOption) {
	for _, o := range opts {
		if o.stream > 0 {
			s.stdio[o.stream-1] = o.to
		}
		if o.env != nil {
			s.env = o.env
		}
		if o.dir != "" {
			s.dir = o.dir
		}
		if o.limit > 0 {
			s.limit = o.limit
		}
		s.extra = append(s.extra, o.files...)
		s.session = s.session || o.session
		s.joined = s.joined || o.joined
	}
}

// open opens the files that the standard streams are connected to.
func (s *subprocessStart) open(p *Process, procs driver.Processes) (err error) {
	for i, to := range s.stdio {
		var f *os.File
		switch to {
		case inherited:
			s.files[i] = [...]*os.File{os.Stdin, os.Stdout, os.Stderr}[i]
			continue
		case ToStdout:
			s.files[i] = s.files[1]
			continue
		case Pipe:
			var end driver.Endpoint
			if end, f, err = procs.OpenPipe(i > 0); err == nil {
				p.connect(i, end, s.limit)
			}
		case DevNull:
			f, err = os.OpenFile(os.DevNull, os.O_RDWR, 0)
		default:
			f, err = driver.Duplicate(uintptr(to))
		}
		if err != nil {
			return err
		}
		s.files[i] = f
		s.own = append(s.own, f)
	}
	for _, f := range s.extra {
		d, err := driver.Duplicate(f.Fd())
		if err != nil {
			return err
		}
		s.more = append(s.more, d)
		s.own = append(s.own, d)
	}
	return nil
}

// giveUp closes the child's files, unless the goroutine that starts the process does.
func (s *subprocessStart) giveUp() {
	if !s.taken.Swap(true) {
		s.close()
	}
}

func (s *subprocessStart) close() {
	for _, f := range s.own {
		f.Close()
	}
}

// run starts the process, on a goroutine.
func (s *subprocessStart) run(procs driver.Processes) (newChild, error) {
	if s.taken.Swap(true) {
		return newChild{}, context.Canceled // the task has left, and nobody gets this error
	}
	defer s.close()
	cmd := exec.Command(s.name, s.args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = s.files[0], s.files[1], s.files[2]
	cmd.Env, cmd.Dir, cmd.ExtraFiles = s.env, s.dir, s.more
	if s.session {
		if err := driver.NewSession(cmd); err != nil {
			return newChild{}, unsupported(err)
		}
	}
	c, err := procs.StartProcess(cmd, !s.joined)
	return newChild{c}, unsupported(err)
}

// newChild is a process on its way to the task that asked for it.
type newChild struct{ *driver.Child }

// Close ends a process whose task no longer waits for it.
func (c newChild) Close() error {
	_ = c.SignalGroup(os.Kill)
	c.Abandon()
	return nil
}

// A processPipe is one of the pipes, as its endpoint sees it. Once no data can come or go any more,
// it gives its descriptor back, whether or not a task reads or closes it: a program that waits for
// its children and forgets their pipes must not run out of descriptors.
type processPipe struct {
	p      *Process
	c      *Conn
	writes bool
	due    bool // fire is scheduled
	over   bool // it has no descriptor any more
}

// connect makes the streams of a pipe.
func (p *Process) connect(i int, end driver.Endpoint, limit int) {
	c := p.loop.newConn(end)
	pipe := &processPipe{p: p, c: c, writes: i == 0}
	p.pipes = append(p.pipes, pipe)
	end.Notify(pipe)
	r, w := NewStreams(c, Limit(limit))
	switch i {
	case 0:
		p.Stdin = w
	case 1:
		p.Stdout = r
	case 2:
		p.Stderr = r
	}
}

// Ready is called by the endpoint. If the writing end of a pipe is ready to read, the other end has
// no reader any more. If the reading end is, that may be the end of the data. That is checked only
// after the process has ended: until then a reader finds it.
func (e *processPipe) Ready(read, write bool) {
	if e.writes {
		e.c.ways.Ready(false, read || write)
	} else {
		e.c.ways.Ready(read, write)
	}
	if read && (e.writes || e.p.exited) && !e.due {
		e.due = true
		e.p.loop.schedule(e, nil) // Ready itself must not close anything
	}
}

// fire checks whether the pipe is over. Later writes still get EPIPE, and later reads the data that
// was in the pipe.
func (e *processPipe) fire(*future) {
	e.due = false
	if s, ok := e.c.end.(driver.Shedder); ok && !e.over {
		e.over = s.Shed()
		e.c.ways.rd.wake() // the endpoint reports nothing more about data that Shed took out
	}
	e.p.settle()
}

func (e *processPipe) String() string { return fmt.Sprintf("end of a pipe of process %d", e.p.Pid) }

// begin adds the process to the loop.
func (p *Process) begin(ctx context.Context, c *driver.Child) {
	p.child, p.Pid = c, c.Pid()
	loopProcesses.of(p.loop).add(&p.link, p)
	c.WatchExit((*processReady)(p))
	if ctx.Done() != nil {
		p.stop = context.AfterFunc(ctx, func() { _ = p.loop.post((*processScope)(p)) })
	}
}

// processReady is the Process as its child sees it.
type processReady Process

func (p *processReady) Ready(bool, bool) {
	if !p.noticed {
		p.noticed = true
		p.loop.schedule((*processExit)(p), nil)
	}
}

// processExit reaps the process.
type processExit Process

func (e *processExit) fire(*future) {
	p := (*Process)(e)
	if p.exited {
		return
	}
	state, err := p.child.Reap()
	p.end(state, err)
	p.exit.Set()
	for _, e := range p.pipes {
		if !e.writes {
			e.fire(nil)
		}
	}
	p.settle()
}

func (e *processExit) String() string { return fmt.Sprintf("exit of process %d", e.Pid) }

// unknownExitCode is CPython's code for a process whose exit status somebody else has taken.
const unknownExitCode = 255

func (p *Process) end(state *os.ProcessState, err error) {
	p.exited = true
	loopProcesses.of(p.loop).remove(&p.link)
	if err != nil {
		p.code = unknownExitCode
		p.loop.CallExceptionHandler(ExceptionContext{
			Message:   fmt.Sprintf("the exit status of process %d was taken by somebody else, or SIGCHLD is ignored; its return code is reported as %d", p.Pid, p.code),
			Exception: err,
		})
		return
	}
	p.code = driver.ExitCode(state)
}

// processScope ends a process with its context (process 1).
type processScope Process

func (s *processScope) fire(*future) { (*Process)(s).shut() }

func (s *processScope) String() string { return fmt.Sprintf("end of the scope of process %d", s.Pid) }

func (p *Process) leaveScope() {
	if p.stop != nil {
		p.stop()
		p.stop = nil
	}
}

// settle leaves the scope once the scope has neither a process nor a pipe to end.
func (p *Process) settle() {
	if !p.exited {
		return
	}
	for _, e := range p.pipes {
		if !e.c.closed && !e.over {
			return
		}
	}
	p.leaveScope()
}

func (p *Process) closePipes() {
	for _, e := range p.pipes {
		_ = e.c.shut(e.c.end.Abort)
	}
}

// shut implements Close, and ends a process with its scope.
func (p *Process) shut() {
	p.leaveScope()
	if p.Stdin != nil {
		p.Stdin.Abort()
	}
	p.closePipes()
	if !p.exited && !p.detached {
		p.kill()
	}
}

// kill kills the group or, if that fails, at least the process.
func (p *Process) kill() {
	if err := p.child.SignalGroup(os.Kill); err != nil {
		_ = p.child.Signal(os.Kill)
	}
}

// processEndLimit is how long a closing loop waits for the end of processes that it has killed.
const processEndLimit = 10 * time.Second

// processes has the processes of a loop that have not been reaped, in order of creation.
type processes struct{ linkedList[*Process] }

var loopProcesses = newPart[processes](endWork)

// end kills (process 1) and reaps (process 2) the processes of a loop that closes.
func (all *processes) end(l *EventLoop) {
	var killed []*Process
	for p := range all.all() {
		if p.detached {
			p.child.Abandon()
		} else {
			p.kill()
			killed = append(killed, p)
		}
		p.leaveScope()
	}
	if killed == nil {
		return
	}
	type end struct {
		p     *Process
		state *os.ProcessState
		err   error
	}
	ends := make(chan end, len(killed))
	for _, p := range killed {
		p.child.Release()
		go func() {
			state, err := p.child.Reap()
			ends <- end{p, state, err}
		}()
	}
	limit := time.NewTimer(processEndLimit)
	defer limit.Stop()
	for range killed {
		select {
		case e := <-ends:
			e.p.end(e.state, e.err)
		case <-limit.C:
			for p := range all.all() {
				if !p.detached {
					l.CallExceptionHandler(ExceptionContext{
						Message: fmt.Sprintf("process %d has not ended %v after SIGKILL; a goroutine that reaps it is left behind", p.Pid, processEndLimit),
					})
				}
			}
			return
		}
	}
}

// ReturnCode returns how the process ended, and whether it has. The code is the exit code, or the
// negative number of the signal that killed it. 255 may also mean that somebody else has taken the
// exit status, which is reported to the exception handler. ReturnCode does not suspend. Python:
// returncode.
func (p *Process) ReturnCode() (code int, ended bool) { return p.code, p.exited }

// Wait suspends the calling task until the process has ended, and returns its return code; see
// [Process.ReturnCode]. Several tasks may wait. A cancel, or the end of ctx, ends the wait; the end
// of the context that the process was made with ends the process, too.
//
// Wait does not wait for the pipes, which other processes may have inherited. If a process writes
// more than a pipe holds, it does not end before the pipe is read: use [Process.Communicate]. After
// the end, a pipe that nobody reads takes up no descriptor, unless other processes have inherited
// it; its data can still be read.
func (p *Process) Wait(ctx context.Context) (int, error) {
	if _, err := p.loop.enterOn(ctx, "Process.Wait"); err != nil {
		return 0, err
	}
	// the pipes do not matter (process 3)
	if err := p.exit.Wait(ctx); err != nil {
		return 0, err
	}
	return p.code, nil
}

// Communicate writes input to the process, if its Stdin is a [Pipe], and closes that pipe; reads
// the other pipes to their ends, all at the same time; and waits until the process has ended. It
// returns the data that it read, nil for a stream that is no pipe. It is not an error if the
// process does not read its input to the end. A pipe ends when every process that has inherited it
// has closed it.
//
// It suspends the calling task. A cancel, or the end of ctx, leaves the process as it is, and
// nothing is lost: to go on, call Communicate again, with nil for the input. Errors are those of
// the streams, such as [ErrBusy] if another task reads one; [ErrInvalidArgument] for input without
// a pipe; and [ErrInvalidState] for input to a call that goes on.
func (p *Process) Communicate(ctx context.Context, input []byte) (stdout, stderr []byte, err error) {
	const caller = "Process.Communicate"
	switch _, err := p.loop.enterOn(ctx, caller); {
	case err != nil:
		return nil, nil, err
	case input != nil && p.Stdin == nil:
		return nil, nil, fmt.Errorf("%w: input for a process whose Stdin is no Pipe (in %s)", ErrInvalidArgument, caller)
	case input != nil && p.communicating:
		return nil, nil, fmt.Errorf("%w: input after communication has begun (in %s)", ErrInvalidState, caller)
	}
	if !p.communicating {
		p.communicating, p.input = true, input
	}
	if err := together(ctx, p.feed, p.readStdout, p.readStderr); err != nil {
		return nil, nil, err
	}
	if _, err := p.Wait(ctx); err != nil {
		return nil, nil, err
	}
	p.closePipes()
	p.leaveScope()
	return p.out, p.errOut, nil
}

// together runs fns as tasks of a group.
func together(ctx context.Context, fns ...func(context.Context) error) error {
	err := RunTaskGroup(ctx, func(ctx context.Context, tg *TaskGroup) error {
		for _, fn := range fns {
			tg.CreateTask(fn)
		}
		return nil
	})
	if g, ok := err.(*GroupError); ok && len(g.Exceptions) == 1 {
		return g.Exceptions[0]
	}
	return err
}

// feed writes the rest of the input.
func (p *Process) feed(ctx context.Context) error {
	w := p.Stdin
	if w == nil || w.IsClosing() && len(p.input) == 0 {
		return nil
	}
	err := w.inTurn(ctx, "Process.Communicate", func() error {
		for len(p.input) > 0 {
			// not the writer's Write: a cancel in the middle would end that for good
			n, err := w.conn.WriteContext(ctx, p.input)
			p.input = p.input[n:]
			if err != nil {
				return err
			}
		}
		return nil
	})
	if errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET) {
		p.input, err = nil, nil
	}
	if err == nil {
		w.CloseSoon()
	}
	return err
}

func (p *Process) readStdout(ctx context.Context) error {
	return readAll(ctx, p.Stdout, &p.out, &p.outAt)
}
func (p *Process) readStderr(ctx context.Context) error {
	return readAll(ctx, p.Stderr, &p.errOut, &p.errAt)
}

func readAll(ctx context.Context, r *StreamReader, to *[]byte, done *bool) error {
	if r == nil || *done {
		return nil
	}
	b, err := r.Read(ctx, -1)
	if err == nil {
		*to, *done = b, true
	}
	return err
}

// SendSignal sends a signal to the process. Once the end of the process was noticed the error is
// [os.ErrProcessDone]; before that a signal to a process that has just ended does nothing. A signal
// never reaches another process that was given the same number. SendSignal does not suspend.
func (p *Process) SendSignal(s os.Signal) error {
	return p.signal(s, p.child.Signal, "Process.SendSignal")
}

// SignalGroup is [Process.SendSignal] for the process and all its descendants that are still in its
// group. With [SameProcessGroup] it is for the process alone.
func (p *Process) SignalGroup(s os.Signal) error {
	return p.signal(s, p.child.SignalGroup, "Process.SignalGroup")
}

// Terminate asks the process to end, by SIGTERM. It does not suspend.
func (p *Process) Terminate() error {
	return p.signal(syscall.SIGTERM, p.child.Signal, "Process.Terminate")
}

// Kill ends the process, by SIGKILL. The processes that it has started go on; see
// [Process.SignalGroup] and [Process.Close]. It does not suspend.
func (p *Process) Kill() error { return p.signal(os.Kill, p.child.Signal, "Process.Kill") }

func (p *Process) signal(s os.Signal, send func(os.Signal) error, caller string) error {
	if err := p.loop.checkForeign(caller); err != nil {
		return err
	}
	if s == nil {
		return fmt.Errorf("%w: nil signal (in %s)", ErrInvalidArgument, caller)
	}
	if err := send(s); err != nil {
		return fmt.Errorf("asyncio: %v to process %d: %w (in %s)", s, p.Pid, unsupported(err), caller)
	}
	return nil
}

// Close ends the process's scope: it closes the pipes and, if the process has not ended, kills it
// with its group, unless it is detached. Use it in a deferred call. A task can still wait for the
// end of the process. Close does not suspend. More calls do nothing. Python: transport.close.
func (p *Process) Close() error {
	if err := p.loop.checkForeign("Process.Close"); err != nil {
		return err
	}
	p.shut()
	return nil
}

// Detach lets the process outlive its scope: neither the end of its context nor the closing loop
// nor Close kills it any more. As long as the loop is open the process can be used as before; its
// pipes are closed with the loop. After that a goroutine of the program waits for the end of the
// process, so that it does not become a zombie. Detach does not suspend.
func (p *Process) Detach() error {
	if err := p.loop.checkForeign("Process.Detach"); err != nil {
		return err
	}
	p.leaveScope()
	p.detached = true
	return nil
}

// String returns Python's repr: <Process 123>.
func (p *Process) String() string { return fmt.Sprintf("<Process %d>", p.Pid) }
