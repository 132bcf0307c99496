package driver

import (
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"slices"
)

// Processes is implemented by a driver that can start processes of the operating system, talk to
// them over pipes and learn when they end.
type Processes interface {
	// OpenPipe makes a pipe. One end is an endpoint; the other is for a child and blocks. A child
	// inherits neither end unless it is given it.
	OpenPipe(read bool) (ours Endpoint, theirs *os.File, err error)

	// StartProcess starts cmd; if group is set, as the leader of a process group of its own. It
	// uses only the fields of cmd that concern the start. Any goroutine may call it; it blocks
	// until the program runs or could not be executed.
	StartProcess(cmd *exec.Cmd, group bool) (*Child, error)
}

// A Child is a process that was started here.
//
//	child 1: Ready reports its end, from inside Wait and Poll (endpoint 2), after WatchExit and
//	   until it is reaped.
//	child 2: Only Reap reaps it. Until then no other process gets its number, or that of its group.
//	   Reap and signals are for the loop, or before WatchExit for the holder of the Child, so a
//	   signal never reaches another process.
//	child 3: An abandoned child is reaped when it ends, by a goroutine that outlives the driver.
//	   Reaping depends neither on SIGCHLD nor on any other process of the program.
//	child 4: Every child is reaped or abandoned.
//	child 5: A child gets the descriptors it is given and no other. Descriptors that package os
//	   opens are not inherited anyway. Those that this program has itself inherited, or opened in C,
//	   are marked close-on-exec before each start, and stay so. (To unmark them afterwards is not
//	   safe: by then the number may be another file's. A child that somebody else starts meanwhile
//	   may or may not get such a descriptor, as when each of two goroutines marks its own.)
type Child struct {
	portable  // through it the waiting goroutine tells the loop
	process   *os.Process
	group     bool
	handle    int // of the process, watched by the poller; -1 without
	released  bool
	waiting   bool // a goroutine waits for the end
	ended     bool // the goroutine has seen the end
	abandoned bool // the goroutine is to reap it
}

// StartProcess implements [Processes].
func (d *Real) StartProcess(cmd *exec.Cmd, group bool) (*Child, error) {
	if !processesExist {
		return nil, ErrSockets
	}
	if group {
		ownGroup(cmd)
	}
	inheritNothing()
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	c := &Child{process: cmd.Process, group: group, handle: -1}
	c.d = d
	return c, nil
}

// Pid returns the number of the process.
func (c *Child) Pid() int { return c.process.Pid }

// WatchExit makes n learn, by Ready, when the process has ended (child 1).
func (c *Child) WatchExit(n Notifier) {
	c.to = n
	if use, err := c.d.usePoller(); use && err == nil {
		_ = c.process.WithHandle(func(h uintptr) {
			if c.d.poller.watch(int(h), true, false, n) == nil {
				c.handle = int(h)
			}
		})
	}
	if c.handle < 0 {
		c.waiting = true
		go c.wait() // not among the driver's goroutines: an abandoned child outlives it (child 3)
	}
}

// wait runs on the goroutine that waits for the end, where the poller cannot tell.
func (c *Child) wait() {
	waitForExit(c.process.Pid)
	c.mu.Lock()
	c.ended = true
	abandoned := c.abandoned
	c.mu.Unlock()
	if abandoned {
		_, _ = c.process.Wait()
	} else {
		c.post(true, false)
	}
}

// Release ends the watch; no signals can be sent after it. Reap may be called later, by any
// goroutine.
func (c *Child) Release() {
	if c.handle >= 0 {
		_ = c.d.poller.watch(c.handle, false, false, nil)
		c.handle = -1
	}
	c.released, c.to = true, nil
}

// Reap waits for the process to end, if it has not ended yet, and returns its state. It fails if
// somebody else has reaped the process. Nothing but Reap reaps a child that is not abandoned (child
// 2).
func (c *Child) Reap() (*os.ProcessState, error) {
	if !c.released {
		c.Release()
	}
	return c.process.Wait()
}

// Abandon leaves the process alone; a goroutine reaps it when it ends (child 3). Every child is
// either reaped or abandoned (child 4).
func (c *Child) Abandon() {
	c.Release()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.abandoned, c.to = true, nil
	if !c.waiting || c.ended {
		go func() { _, _ = c.process.Wait() }()
	}
}

// Signal sends a signal to the process. It fails with [os.ErrProcessDone] once the process is
// released or reaped.
func (c *Child) Signal(s os.Signal) error {
	if c.released {
		return os.ErrProcessDone
	}
	return c.process.Signal(s)
}

// SignalGroup sends a signal to every process of the child's group, or to the child if it has none.
func (c *Child) SignalGroup(s os.Signal) error {
	if !c.group {
		return c.Signal(s)
	}
	if c.released {
		return os.ErrProcessDone
	}
	return signalGroup(c.process.Pid, s)
}

// pipeAddr stands for the address of a pipe, which has none.
type pipeAddr struct{}

func (pipeAddr) Network() string { return "pipe" }
func (pipeAddr) String() string  { return "pipe" }

// OpenPipe implements [Processes].
func (d *Real) OpenPipe(read bool) (Endpoint, *os.File, error) {
	if !processesExist {
		return nil, nil, ErrSockets
	}
	use, err := d.usePoller()
	if err != nil {
		return nil, nil, err
	}
	ours, theirs, err := newPipe(read)
	if err != nil {
		return nil, nil, err
	}
	if !use {
		return d.news.adopt(d, &pipeConn{File: os.NewFile(uintptr(ours), "pipe"), write: !read}), os.NewFile(uintptr(theirs), "pipe"), nil
	}
	end, err := d.poller.adoptPipe(ours, read) // closes ours if it fails
	if err != nil {
		closePipe(theirs)
		return nil, nil, err
	}
	return end, os.NewFile(uintptr(theirs), "pipe"), nil
}

// pipeConn is one end of a pipe, as a connection for which goroutines wait.
type pipeConn struct {
	*os.File
	write bool
}

func (c *pipeConn) LocalAddr() net.Addr  { return pipeAddr{} }
func (c *pipeConn) RemoteAddr() net.Addr { return pipeAddr{} }

func (c *pipeConn) Close() error {
	if err := c.File.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
		return err
	}
	return nil
}

func (c *pipeConn) CloseWrite() error {
	if !c.write {
		return ErrSockets
	}
	return c.Close()
}

// A Shedder is an endpoint that can give its descriptor back before it is closed, because nothing
// can arrive or be sent any more. Every operation returns the same as before.
type Shedder interface {
	// Shed of a reading endpoint takes out the available bytes, for later reads, and gives the
	// descriptor back if no writer is left. A writing endpoint is shed when Ready has reported it
	// readable, which means that no reader is left. Shed reports whether the descriptor is gone.
	Shed() bool
}

// pipeCapacity is how much Shed takes out unless it meets the end: the capacity of a pipe.
const pipeCapacity = 64 << 10

// shed reads the available bytes into kept, and reports whether it met the end.
func shed(kept *[]byte, read func([]byte) (int, error)) bool {
	for len(*kept) < pipeCapacity {
		*kept = slices.Grow(*kept, minShed)
		n, err := read((*kept)[len(*kept):cap(*kept)])
		*kept = (*kept)[:len(*kept)+n]
		if err != nil {
			return err == io.EOF
		}
	}
	return false
}

// minShed is the least room for a read; forgotten output is mostly short.
const minShed = 512
