package asyncio

import (
	"fmt"
	"maps"
	"os"
	"os/signal"
	"sync"

	"github.com/goasyncio/asyncio/internal/driver"
)

// Signals.
//
//	signals 1: A signal that somebody at a loop wants has a port there: a channel of package signal,
//	   and a goroutine that reads it. Each signal that comes is dealt with once: by the handler, if
//	   there is one at that time, else by the run of the loop. If the two had a channel each, the
//	   run could come to read a signal after its handler was removed, and take it for its own.
//	signals 2: The first signal that a run takes gives all signals without a handler their usual
//	   effect back, before the loop hears of it: the second one must end the program even if the
//	   loop is stuck.
//	signals 3: A port that nobody wants is closed. What has come by then is dealt with as if it had
//	   been read at once. If the run has taken a signal already, it is raised again.
type signalPorts struct {
	mu  sync.Mutex
	all map[os.Signal]*signalPort // those that are open
}

type signalPort struct {
	loop        *EventLoop
	ports       *signalPorts
	sig         os.Signal
	signals     chan os.Signal
	over, ended chan struct{}

	// Guarded by ports.mu.
	handle *Handle             // the handler, nil if there is none
	take   func(sig os.Signal) // the run's, called with ports.mu held; nil if no run listens
}

var signalPortsOf = newEndingPart[signalPorts](endSources)

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
	ports := signalPortsOf.of(l)
	ports.mu.Lock()
	defer ports.mu.Unlock()
	ports.open(l, sig).handle = handle
	return nil
}

// open returns the port of sig. The caller holds ports.mu and says at once what the port is for.
func (ports *signalPorts) open(l *EventLoop, sig os.Signal) *signalPort {
	p := ports.all[sig]
	if p == nil {
		p = &signalPort{
			loop: l, ports: ports, sig: sig,
			signals: make(chan os.Signal, maxPendingSignals),
			over:    make(chan struct{}),
			ended:   make(chan struct{}),
		}
		if ports.all == nil {
			ports.all = make(map[os.Signal]*signalPort)
		}
		ports.all[sig] = p
		signal.Notify(p.signals, sig)
		go p.listen()
	}
	return p
}

func (p *signalPort) isOpen() bool { return p.ports.all[p.sig] == p }

// close gives the signal its usual effect back. The caller holds ports.mu, and the port is open.
func (p *signalPort) close() {
	delete(p.ports.all, p.sig)
	signal.Stop(p.signals)
	close(p.over)
}

func (p *signalPort) listen() {
	defer close(p.ended)
	for {
		select {
		case <-p.signals:
			p.deal()
			continue
		case <-p.over:
		}
		select {
		case <-p.signals: // it came before the port was closed
			p.deal()
		default:
			return
		}
	}
}

// deal deals with a signal (signals 1).
func (p *signalPort) deal() {
	p.ports.mu.Lock()
	defer p.ports.mu.Unlock()
	if p.handle != nil {
		_ = p.loop.post(p)
	} else if p.take != nil {
		p.take(p.sig)
	}
}

// arrive schedules the handler. If it has been removed meanwhile, the run gets the signal, and
// without a run nobody does, as in Python.
func (p *signalPort) arrive() {
	p.ports.mu.Lock()
	defer p.ports.mu.Unlock()
	if p.handle != nil {
		p.loop.schedule(p.handle, nil)
	} else if p.take != nil {
		p.take(p.sig)
	}
}

func (p *signalPort) fire(*future) { p.arrive() }

// RemoveSignalHandler removes the handler that AddSignalHandler has set, and reports whether there
// was one. The signal then has its default effect in a Go program (package os/signal), or the
// effect that other parts of the program have asked for; a signal that [Run] handles cancels its
// main task again. A call that was scheduled still comes. RemoveSignalHandler is for the loop only
// and does not suspend. Python: loop.remove_signal_handler.
func (l *EventLoop) RemoveSignalHandler(sig os.Signal) bool {
	l.mustNotBeForeign("RemoveSignalHandler")
	ports := signalPortsOf.ifAny(l) // part 4
	return ports != nil && ports.remove(sig)
}

// remove takes the handler of sig away and reports whether there was one.
func (ports *signalPorts) remove(sig os.Signal) bool {
	ports.mu.Lock()
	p := ports.all[sig]
	if p == nil || p.handle == nil {
		ports.mu.Unlock()
		return false
	}
	p.handle = nil
	unwanted := p.take == nil
	if unwanted {
		p.close()
	}
	ports.mu.Unlock()
	if unwanted {
		<-p.ended
	}
	return true
}

// leave ends what the run has of p, which it has opened. The caller holds ports.mu.
func (p *signalPort) leave() {
	switch {
	case !p.isOpen():
	case p.handle != nil:
		p.take = nil
	default:
		p.close() // what has come still goes to take
	}
}

// end removes the handlers, because the loop closes.
func (ports *signalPorts) end(*EventLoop) {
	for sig := range maps.Clone(ports.all) { // no run is left that could change it
		ports.remove(sig)
	}
}
