package driver

import (
	"errors"
	"net"
	"net/netip"
	"syscall"
)

// ErrAgain is returned by an operation that would have to wait. The endpoint tells its notifier
// when to try again (endpoint 1).
var ErrAgain = errors.New("would have to wait")

// ErrGoexit is the error of a connection that has exited the goroutine that called it.
var ErrGoexit = errors.New("the goroutine of the connection exited")

// ErrSockets is returned by a driver that cannot wait for this object, or any object, of the
// operating system.
var ErrSockets = errors.New("not supported here")

// Sockets is implemented by a driver that can wait for connections of the operating system. It and
// everything it returns belong to the goroutine that runs the loop.
//
// # Endpoints
//
//	endpoint 1: Nothing blocks. An operation that would have to wait returns ErrAgain and has done
//	   nothing. After ErrAgain Ready is called when another try is worthwhile; without ErrAgain no
//	   call is promised.
//	endpoint 2: Ready is called from inside Wait and Poll only. It runs no user code and closes
//	   nothing, so within one batch of events no descriptor is closed and none used again.
//	endpoint 3: Ready may be called for no reason. The notifier tries, and waits again.
//	endpoint 4: After Close no Ready follows; every operation returns net.ErrClosed. Close may be
//	   called twice.
//	endpoint 5: Closing the driver closes all endpoints that are left.
type Sockets interface {
	// Adopt makes an endpoint of c and takes it over: the caller must not use c any more. If Adopt
	// fails, c is closed.
	Adopt(c net.Conn) (Endpoint, error)

	// AdoptListener is Adopt for a listener. If named is true, the listener was made for the
	// program that runs the loop, and the file of a Unix socket belongs to it: closing the listener
	// removes the file, if it is still this listener's.
	AdoptListener(l net.Listener, named bool) (Listener, error)
	AdoptPacketConn(c net.PacketConn) (PacketEndpoint, error)

	// Share makes an endpoint of c, which its owner goes on using and closes. It returns ErrSockets
	// if the driver cannot do that with c.
	Share(c net.Conn) (Endpoint, error)

	// Watch begins to watch a descriptor that stays its owner's. It is level-triggered: as long as
	// the descriptor is ready, w is told in each Wait and Poll. With neither direction Watch stops
	// watching.
	Watch(fd uintptr, read, write bool, w Notifier) error

	// Poll tells the notifiers of ready endpoints, without waiting.
	Poll() error
}

// Census is implemented by a driver that can tell which sockets it has open. Pipes are none.
type Census interface {
	// OpenSockets tells yield the local addresses of sockets, beginning at a place: zero, or
	// what the last call returned, which is less than zero if there are no more. It looks at no
	// more than most places. Sockets that come and go between two calls may be missed.
	OpenSockets(from, most int, yield func(local net.Addr, listens bool)) (next int)
}

// A Notifier is told in which direction its endpoint may be ready. It tries, and waits again if the
// call was for no reason (endpoint 3).
type Notifier interface{ Ready(read, write bool) }

// Handle is the part that all endpoints share.
type Handle interface {
	// Notify sets the notifier. It is called once, before anything returns ErrAgain.
	Notify(Notifier)
	LocalAddr() net.Addr
	SyscallConn() (syscall.RawConn, error)

	// Close closes the endpoint; no Ready follows (endpoint 4).
	Close() error
}

// An Endpoint is a connection.
type Endpoint interface {
	Handle

	// Read returns io.EOF at the end of a stream, as net.Conn does.
	Read(p []byte) (int, error)

	// Write accepts a part of p or all of it.
	Write(p []byte) (int, error)

	// CloseWrite ends the stream to the peer.
	CloseWrite() error

	// CloseRead refuses everything that the peer sends from now on.
	CloseRead() error

	// Abort closes the connection without delivering the unsent bytes. The peer of a TCP connection
	// sees a reset.
	Abort() error

	// Detach returns the connection, for use by goroutines, and closes the endpoint. If Detach
	// fails, the endpoint stays as it was.
	Detach() (net.Conn, error)

	RemoteAddr() net.Addr
	SetOption(o Option, value int) error
}

// Sharer, ListenerSharer and PacketSharer are implemented by endpoints whose socket goroutines can
// use by package net at the same time. Each side closes its own.
//
//	share 1: After Share the descriptor is out of the poller: goroutines do the work, and each
//	   message would wake the loop for nothing. An endpoint returns to the poller when an attempt
//	   has to wait. The poller reports at once what is ready by then, so no edge is lost.
type Sharer interface{ Share() (net.Conn, error) }

// A ListenerSharer is a [Listener]; see [Sharer].
type ListenerSharer interface{ Share() (net.Listener, error) }

// A PacketSharer is a [PacketEndpoint]; see [Sharer].
type PacketSharer interface {
	Share() (net.PacketConn, error)
}

// Option is an option of a connection.
type Option uint8

const (
	NoDelay     Option = iota // 0 or 1
	KeepAlive                 // 0 or 1
	Linger                    // seconds, negative for the system's default
	ReadBuffer                // bytes
	WriteBuffer               // bytes
)

// A Listener accepts connections.
type Listener interface {
	Handle
	Accept() (Endpoint, error)
}

// A PacketEndpoint sends and receives datagrams.
type PacketEndpoint interface {
	Handle
	ReadFrom(p []byte) (int, net.Addr, error)
	WriteTo(p []byte, to net.Addr) (int, error)

	// These are the same for UDP, without allocating an address.
	ReadFromAddrPort(p []byte) (int, netip.AddrPort, error)
	WriteToAddrPort(p []byte, to netip.AddrPort) (int, error)
	SetOption(o Option, value int) error
}

// Network is implemented by a driver whose world has a network of its own. Without it, connections
// are those of package net, made outside and adopted. Networks and addresses have the names that
// package net gives them. The returned endpoints keep endpoint 1 to endpoint 5.
type Network interface {
	// Dial begins to connect. local may be nil.
	Dial(network, address string, local net.Addr) (Connecting, error)
	Listen(network, address string) (Listener, error)
	ListenPacket(network, address string) (PacketEndpoint, error)
}

// Connecting is an endpoint that need not be connected yet. Until it is, only Connect, Notify, the
// addresses, Close and Abort may be called.
type Connecting interface {
	Endpoint

	// Connect returns nil once there is a connection. While that is not known yet, it returns
	// ErrAgain, and Ready is called with write later.
	Connect() error
}

// A Resolver is a [Network] that looks names up for programs.
type Resolver interface {
	// LookupHost returns the addresses of a host.
	LookupHost(host string) ([]string, error)
}
