package asyncio

import (
	"fmt"
	"os"
	"os/signal"

	"github.com/goasyncio/asyncio/internal/driver"
)

// signalHandler is what AddSignalHandler has asked for one signal: a goroutine that passes the
// signal on.
type signalHandler struct {
	loop        *EventLoop
	sig         os.Signal
	handle      *Handle
	signals     chan os.Signal
	over, ended chan struct{}
}

// maxPendingSignals is how many signals of one kind that the loop has not heard of yet are told
// apart.
const maxPendingSignals = 16

// AddSignalHandler calls fn, as a callback of the loop, whenever the program gets the signal,
// instead of what the signal does otherwise. A second call for the same signal replaces fn.
// [EventLoop.RemoveSignalHandler] takes it back, and so does closing the loop. While a loop has a
// handler for a signal, [Run] on that loop does not cancel its main task for it, be it SIGINT or
// one of [HandleSignals].
//
// A signal goes to every loop, and every channel of [signal.Notify], that has asked for it. On
// virtual time it arrives when it arrives: waiting for one does not hold the clock, and does not
// keep the loop from [ErrDeadlock].
//
// It is for the loop only and does not suspend. It fails with [ErrInvalidArgument] if fn is nil,
// there is no such signal or it cannot be caught, as SIGKILL and SIGSTOP; [ErrLoopClosed];
// [ErrForeignGoroutine]. Python: loop.add_signal_handler.
func (l *EventLoop) AddSignalHandler(sig os.Signal, fn func()) error {
	const caller = "AddSignalHandler"
	if fn == nil {
		return fmt.Errorf("%w: nil function (in %s)", ErrInvalidArgument, caller)
	}
	if catchable, valid := driver.Catchable(sig); !valid {
		return fmt.Errorf("%w: no such signal: %v (in %s)", ErrInvalidArgument, sig, caller)
	} else if !catchable {
		return fmt.Errorf("%w: %v cannot be caught (in %s)", ErrInvalidArgument, sig, caller)
	}
	if l.closed.Load() || l.closing.Load() {
		return fmt.Errorf("%w (in %s)", ErrLoopClosed, caller)
	}
	if err := l.checkOwner(caller); err != nil {
		return err
	}
	handle := &Handle{loop: l, fn: fn, created: l.created()}
	if h := l.signals[sig]; h != nil {
		h.handle = handle
		return nil
	}
	h := &signalHandler{
		loop:    l,
		sig:     sig,
		handle:  handle,
		signals: make(chan os.Signal, maxPendingSignals),
		over:    make(chan struct{}),
		ended:   make(chan struct{}),
	}
	if l.signals == nil {
		l.signals = make(map[os.Signal]*signalHandler)
	}
	l.signals[sig] = h
	signal.Notify(h.signals, sig)
	l.stopper.pause(sig)
	go h.listen()
	return nil
}

func (h *signalHandler) listen() {
	defer close(h.ended)
	for {
		select {
		case <-h.signals:
			_ = h.loop.post(h)
		case <-h.over:
			return
		}
	}
}

// arrive schedules the handler, if it is still there.
func (h *signalHandler) arrive() {
	if h.loop.signals[h.sig] == h {
		h.loop.schedule(h.handle, nil)
	}
}

func (h *signalHandler) fire(*future) { h.arrive() }

func (h *signalHandler) stop() {
	signal.Stop(h.signals)
	close(h.over)
	<-h.ended
}

// RemoveSignalHandler takes AddSignalHandler back and reports whether there was anything to take
// back. The signal then has the effect that it has in a Go program otherwise (package os/signal),
// or what else in the program has asked for; one that [Run] handles cancels its main task again. A
// call that was scheduled still comes. It is for the loop only and does not suspend. Python:
// loop.remove_signal_handler.
func (l *EventLoop) RemoveSignalHandler(sig os.Signal) bool {
	l.mustNotBeForeign("RemoveSignalHandler")
	h := l.signals[sig]
	if h == nil {
		return false
	}
	delete(l.signals, sig)
	l.stopper.resume(sig)
	h.stop()
	return true
}

// removeSignalHandlers is for Close.
func (l *EventLoop) removeSignalHandlers() {
	for sig, h := range l.signals { // nobody can see in which order
		delete(l.signals, sig)
		h.stop()
	}
}
