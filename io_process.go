package asyncio

import (
	"context"
	"errors"
	"fmt"
	"os"
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
	r, w := NewStreams(c, StreamLimit(limit))
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

var loopProcesses = newEndingPart[processes](endWork)

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
			tg.CreateTask(ctx, fn)
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
