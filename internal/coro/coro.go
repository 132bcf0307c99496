// Package coro provides the stacks that tasks run on: coroutines built on
// [iter.Pull], the only switch between goroutines that Go documents and that
// does not go through the scheduler.
//
// # Contract
//
//  1. Exactly one side runs: Resume gives control to the coroutine and returns
//     when it yields or ends; Yield gives control back to whoever resumed it, with a
//     signal that says why.
//  2. Resume may be called from any goroutine that holds control, a different
//     one each time; never while the coroutine is running.
//  3. Resume neither panics nor exits its caller, whatever the body does. A
//     body that ends by [runtime.Goexit] leaves a dead coroutine, which the signal
//     Died reports and Bury disposes of.
//  4. The body must recover its own panics. One that escapes it is a bug of
//     the caller of this package, and crashes the program.
//  5. Kill ends a coroutine that is suspended: its Yield returns false, and the
//     body must unwind without yielding again. Kill returns when it has.
//
// # Why Goexit needs a burial
//
// iter.Pull propagates a Goexit of its body to the caller of next: it would take
// the event loop's own goroutine with it. A deferred function cannot stop a
// Goexit, but it can suspend in the middle of one. So the outermost deferred
// function of the body yields once more, with the coroutine marked dead; the
// resumer goes on as after any other yield, and Bury lets a goroutine of its own
// finish the Goexit and be ended by it.
//
// A coroutine must not hold [runtime.LockOSThread] across a switch, nor be created
// by a goroutine that does: the runtime ends the program in that case.
package coro

import (
	"fmt"
	"iter"
	"runtime"
	"runtime/debug"
)

// A Signal says why a coroutine gave control back.
type Signal uint8

const (
	Suspended Signal = iota // it waits to be resumed, or has ended
	Asks                    // it wants something of its resumer, and to be resumed right after
	Died                    // its body called runtime.Goexit; Bury must follow
)

// A Body is what runs on a coroutine. It is a method and not a function so that there is no
// closure between the coroutine's frames and its own: a stack of the smallest size has room
// for about a thousand bytes of frames, and every suspended coroutine pays for the next size.
type Body interface{ Run() }

// Coro is one stack. Its methods are for the goroutine that holds control.
type Coro struct {
	next  func() (Signal, bool)
	stop  func()
	yield func(Signal) bool

	killed bool // Kill was called; Yield returns false
	ended  bool // the body has returned or is gone
}

// Init makes c a suspended coroutine; the first Resume enters body. It costs a
// goroutine, which is there until the body ends or Kill is called.
func (c *Coro) Init(body Body) {
	c.next, c.stop = iter.Pull(func(yield func(Signal) bool) {
		c.yield = yield
		returned := false
		defer func() {
			if returned {
				return
			}
			if v := recover(); v != nil {
				panic(fmt.Sprintf("%v\n\n%s", v, debug.Stack())) // rule 4; the resumer's stack says nothing
			}
			if !c.killed {
				c.Yield(Died)
			}
		}()
		body.Run()
		returned = true
	})
}

// Resume runs the coroutine until it yields or ends, and returns its signal.
func (c *Coro) Resume() Signal {
	signal, ok := c.next()
	if !ok {
		c.ended = true
	}
	return signal
}

// Yield suspends the coroutine and returns control to its resumer. It returns
// true when the coroutine is resumed and false when it is killed.
func (c *Coro) Yield(s Signal) bool {
	return c.yield(s) && !c.killed
}

// Ended reports whether the body has returned.
func (c *Coro) Ended() bool { return c.ended }

// Bury lets a dead coroutine finish its Goexit on a goroutine of its own and
// returns a channel that is closed when that is over.
func (c *Coro) Bury() <-chan struct{} {
	gone := make(chan struct{})
	c.ended = true
	go func() {
		defer close(gone)
		c.next() // exits this goroutine
	}()
	return gone
}

// Kill unwinds a suspended coroutine, on a goroutine of its own because the
// unwinding may be a Goexit, and returns a channel that is closed when the
// coroutine's goroutine is gone. A coroutine that has ended is left alone.
func (c *Coro) Kill() <-chan struct{} {
	gone := make(chan struct{})
	if c.ended {
		close(gone)
		return gone
	}
	c.killed, c.ended = true, true
	go func() {
		defer close(gone)
		c.stop()
	}()
	return gone
}

// Exit ends the running coroutine's body from any depth, running the deferred
// functions on the way. It is what a body does when Yield returns false.
func Exit() { runtime.Goexit() }
