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

// signalHandlers has the handlers of a loop.
type signalHandlers struct {
	all map[os.Signal]*signalHandler
	run signalSharer // the run, if it handles signals itself
}

// A signalSharer handles signals that have no handler.
type signalSharer interface {
	// pause leaves sig to a handler, which listens already.
	pause(sig os.Signal)

	// resume undoes pause.
	resume(sig os.Signal)
}

var loopSignals = newEndingPart[signalHandlers](endSources)

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
	handlers := loopSignals.of(l)
	if h := handlers.all[sig]; h != nil {
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
	if handlers.all == nil {
		handlers.all = make(map[os.Signal]*signalHandler)
	}
	handlers.all[sig] = h
	signal.Notify(h.signals, sig)
	if handlers.run != nil {
		handlers.run.pause(sig)
	}
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
	if loopSignals.of(h.loop).all[h.sig] == h { // it has been made, with h
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
	handlers := loopSignals.ifAny(l) // part 4
	if handlers == nil || handlers.all[sig] == nil {
		return false
	}
	h := handlers.all[sig]
	delete(handlers.all, sig)
	if handlers.run != nil {
		handlers.run.resume(sig)
	}
	h.stop()
	return true
}

// end removes the handlers, because the loop closes.
func (handlers *signalHandlers) end(*EventLoop) {
	for sig, h := range handlers.all { // the order cannot be observed
		delete(handlers.all, sig)
		h.stop()
	}
}
