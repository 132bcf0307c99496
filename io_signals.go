package asyncio

import (
	"fmt"
	"os"
	"os/signal"

	"github.com/goasyncio/asyncio/internal/driver"
)

// signalHandler is AddSignalHandler's handler for one signal, with a goroutine that passes the
// signal on.
type signalHandler struct {
	loop        *EventLoop
	sig         os.Signal
	handle      *Handle
	signals     chan os.Signal
	over, ended chan struct{}
}

// maxPendingSignals is the number of signals of one kind that can wait to be passed to the loop;
// further ones are not counted.
const maxPendingSignals = 16

// AddSignalHandler calls fn, as a callback of the loop, whenever the program gets the signal, in
// place of the signal's default effect. A second call for the same signal replaces fn.
// [EventLoop.RemoveSignalHandler] removes the handler, and so does closing the loop. While a loop
// has a handler for a signal, [Run] on that loop does not cancel its main task for it, be it SIGINT
// or one of [HandleSignals].
//
// A signal goes to every loop, and every channel of [signal.Notify], that has asked for it. Virtual
// time does not wait for signals: a handler neither holds the clock nor keeps the loop from
// [ErrDeadlock].
//
// AddSignalHandler is for the loop only and does not suspend. It fails with [ErrInvalidArgument] if
// fn is nil, if there is no such signal, or if the signal cannot be caught, as SIGKILL and SIGSTOP;
// with [ErrLoopClosed]; and with [ErrForeignGoroutine]. Python: loop.add_signal_handler.
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

// RemoveSignalHandler removes the handler that AddSignalHandler has set, and reports whether there
// was one. The signal then has its default effect in a Go program (package os/signal), or the
// effect that other parts of the program have asked for; a signal that [Run] handles cancels its
// main task again. A call that was scheduled still comes. RemoveSignalHandler is for the loop only
// and does not suspend. Python: loop.remove_signal_handler.
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

// removeSignalHandlers is called by Close.
func (l *EventLoop) removeSignalHandlers() {
	for sig, h := range l.signals { // the order cannot be observed
		delete(l.signals, sig)
		h.stop()
	}
}
