package asyncio

import (
	"context"
	"errors"
	"fmt"
	"net"

	"github.com/goasyncio/asyncio/internal/driver"
)

// A Net is the network for code that runs on goroutines: servers and clients of other packages, as
// [net/http], that start goroutines and use net.Conn. [NetOf] returns it. In production it is
// package net. On a host of a simulation it is the host's network (package sim/simtest makes a
// simulation in which goroutines take part); in a simulation without goroutines each of its methods
// returns an error. The value holds for as long as the program runs.
//
// Any goroutine may call its methods, which block the caller. A task must not block its loop, so in
// a task Listen and ListenPacket alone can be called, and the others return [ErrLoopBlocked]: for
// tasks there are [Dial] and [Listen].
//
// The end of a context ends the operation that it was given to. The errors are package net's.
// Connections of a simulation are [*ThreadsafeConn]; a write there is done when it returns, but for
// what the network makes of it: a failure is returned by a later write.
type Net struct {
	loop *EventLoop // nil: package net
	err  error      // of every method
}

// NetOf returns the network of the loop that ctx belongs to, also if ctx is the context of a thread
// function ([ToThread]) or of [Outside]. Without a loop it is package net. Any goroutine may call
// NetOf; it does not suspend.
func NetOf(ctx context.Context) *Net {
	if ctx == nil {
		return &Net{err: fmt.Errorf("%w: nil context (in NetOf)", ErrInvalidArgument)}
	}
	l, _ := ctx.Value(netKey{}).(*EventLoop)
	_, simulated := driverOf(l).(driver.Network)
	switch {
	case l == nil || !l.drv.Polls():
		return &Net{loop: l}
	case l.gate == nil || !simulated:
		return &Net{loop: l, err: fmt.Errorf("asyncio: %w: goroutines have no part in this simulation, so they have no network; give sim.Run or sim.Explore the option simtest.Bubble(t) of package sim/simtest, or use Dial and Listen in a task (in NetOf)",
			errors.ErrUnsupported)}
	}
	if hasBit() {
		l.gate.Open()
	}
	return &Net{loop: l}
}

func driverOf(l *EventLoop) driver.Driver {
	if l == nil {
		return nil
	}
	return l.drv
}

// enter returns the errands of a loop that has to do what a goroutine asks for, nil where package
// net does it. byTask says that a task of the loop calls.
func (n *Net) enter(caller string) (q *errands, byTask bool, err error) {
	if n.err != nil || n.loop == nil {
		return nil, false, n.err
	}
	if byTask, err = n.loop.byOwnTask(caller); err != nil || n.loop.gate == nil {
		return nil, byTask, err
	}
	return errandsOf.ifAny(n.loop), byTask, nil
}

// wait is enter for a call that blocks its caller.
func (n *Net) wait(caller, instead string) (*errands, error) {
	q, byTask, err := n.enter(caller)
	if err == nil && byTask {
		err = fmt.Errorf("%w; here %s does that (in %s)", ErrLoopBlocked, instead, caller)
	}
	return q, err
}

// Dial is DialContext with context.Background. It blocks the calling goroutine.
func (n *Net) Dial(network, address string) (net.Conn, error) {
	return n.DialContext(context.Background(), network, address)
}

// DialContext connects to an address, and blocks the calling goroutine. It has the form that
// libraries take, as [net/http.Transport] in its DialContext.
func (n *Net) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	q, err := n.wait("Net.DialContext", "Dial")
	switch {
	case err != nil:
		return nil, notOpened("dial", network, address, err)
	case q == nil:
		return new(net.Dialer).DialContext(ctx, network, address)
	}
	return (&threadsafeDialer{asked: q}).dial(ctx, network, address)
}

// Listen listens on an address. Any goroutine may call it, and also a task, because it does not
// wait for anything but the look-up of a name.
func (n *Net) Listen(ctx context.Context, network, address string) (net.Listener, error) {
	return openAtNet(ctx, n, "Net.Listen", network, address, new(net.ListenConfig).Listen,
		func(w driver.Network) (net.Listener, error) {
			end, err := w.Listen(network, address)
			if err != nil {
				return nil, err
			}
			return n.loop.newListener(end).Threadsafe(), nil
		})
}

// ListenPacket makes a socket for datagrams. As with Listen, any goroutine may call it, and also a
// task.
func (n *Net) ListenPacket(ctx context.Context, network, address string) (net.PacketConn, error) {
	return openAtNet(ctx, n, "Net.ListenPacket", network, address, new(net.ListenConfig).ListenPacket,
		func(w driver.Network) (net.PacketConn, error) {
			end, err := w.ListenPacket(network, address)
			if err != nil {
				return nil, err
			}
			return n.loop.newPacketConn(end).Threadsafe(), nil
		})
}

// openAtNet opens a socket: with package net, or on the loop.
func openAtNet[T any](ctx context.Context, n *Net, caller, network, address string, outside func(ctx context.Context, network, address string) (T, error), onLoop func(driver.Network) (T, error)) (T, error) {
	var zero T
	q, byTask, err := n.enter(caller)
	if err == nil && ctx == nil {
		err = fmt.Errorf("%w: nil context (in %s)", ErrInvalidArgument, caller)
	}
	if err == nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	switch {
	case err != nil:
		return zero, notOpened("listen", network, address, err)
	case q == nil:
		return outside(ctx, network, address)
	}
	v := zero
	open := func() (err error) { v, err = onLoop(n.loop.drv.(driver.Network)); return err }
	if byTask {
		err = open()
	} else {
		err = q.askAlone("listen "+network+" "+address, open)
	}
	if err != nil {
		return zero, notOpened("listen", network, address, err)
	}
	return v, nil
}

// LookupHost returns the addresses of a host, as [net.Resolver.LookupHost] does, and blocks the
// calling goroutine. Clients take it as their LookupFunc.
func (n *Net) LookupHost(ctx context.Context, host string) (addrs []string, err error) {
	q, err := n.wait("Net.LookupHost", "Dial")
	switch {
	case err != nil:
		return nil, &net.DNSError{Err: err.Error(), Name: host, UnwrapErr: err}
	case q == nil:
		return net.DefaultResolver.LookupHost(ctx, host)
	}
	r, ok := n.loop.drv.(driver.Resolver)
	if !ok {
		return nil, &net.DNSError{Err: "this simulation resolves no names", Name: host, UnwrapErr: errors.ErrUnsupported}
	}
	err = q.askAlone("look up "+host, func() (err error) { addrs, err = r.LookupHost(host); return err })
	return addrs, err
}

// askAlone has the loop call fn, and waits for that.
func (q *errands) askAlone(name string, fn func() error) error {
	return q.ask(q.alone(), &netCall{name, fn})
}

// A netCall is a call at a Net. Its name is its place at the gate.
type netCall struct {
	name string
	fn   func() error
}

func (c *netCall) attempt() error          { return c.fn() }
func (c *netCall) order() (uint64, string) { return 0, c.name }
