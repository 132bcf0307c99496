package driver

import (
	"errors"
	"net"
	"net/netip"
	"syscall"
)

// ErrAgain says that an operation would have to wait. The endpoint tells its notifier when to try
// again.
var ErrAgain = errors.New("would have to wait")

// ErrGoexit says that a connection has exited the goroutine that called it.
var ErrGoexit = errors.New("the goroutine of the connection exited")

// ErrSockets says that a driver cannot wait for a thing, or for anything, of the operating system.
var ErrSockets = errors.New("not supported here")

// Sockets is implemented by a driver on which connections of the operating system can be waited
// for. Like all that it returns it belongs to the goroutine that runs the loop.
//
// # Endpoints
//
//	endpoint 1: Nothing blocks. What would have to wait returns ErrAgain and has done nothing. After
//	   ErrAgain, and only then is it promised, Ready is called when it is worth another try.
//	endpoint 2: Ready is called from inside Wait and Poll only. It runs no user code and closes
//	   nothing, so that within one batch of events no descriptor is closed and none used again.
//	endpoint 3: Ready may be called for no reason. Who is told tries, and waits again.
//	endpoint 4: After Close no Ready follows; every operation returns net.ErrClosed. Close may be
//	   called twice.
//	endpoint 5: Closing the driver closes what is left.
type Sockets interface {
	// Adopt makes an endpoint of c, which then belongs to it: it must not be used any more. If it
	// fails, c is closed.
	Adopt(c net.Conn) (Endpoint, error)

	// AdoptListener is Adopt for a listener. If named is true, it was made for the program that
	// runs the loop, which the file of a Unix socket then belongs to: closing the listener removes
	// the file, if it is still this one's.
	AdoptListener(l net.Listener, named bool) (Listener, error)
	AdoptPacketConn(c net.PacketConn) (PacketEndpoint, error)

	// Watch begins to watch a descriptor that stays its owner's, level-triggered: as long as it is
	// ready, w is told in each Wait and Poll. With neither direction it stops.
	Watch(fd uintptr, read, write bool, w Notifier) error

	// Poll tells notifiers what is ready, without waiting.
	Poll() error
}

// A Notifier is told in which direction its endpoint may be ready.
type Notifier interface{ Ready(read, write bool) }

// Handle is what all endpoints have.
type Handle interface {
	// Notify says who is told. It is called once, before anything returns ErrAgain.
	Notify(Notifier)
	LocalAddr() net.Addr
	SyscallConn() (syscall.RawConn, error)
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

	// CloseRead refuses what the peer sends from now on.
	CloseRead() error

	// Abort closes the connection without delivering what is still to be sent. The peer of a TCP
	// connection sees a reset.
	Abort() error

	// Detach gives the connection back, as one that goroutines can use. The endpoint is then
	// closed; if Detach fails it stays as it was.
	Detach() (net.Conn, error)

	RemoteAddr() net.Addr
	SetOption(o Option, value int) error
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

	// The same for UDP, without allocating an address.
	ReadFromAddrPort(p []byte) (int, netip.AddrPort, error)
	WriteToAddrPort(p []byte, to netip.AddrPort) (int, error)
	SetOption(o Option, value int) error
}

// Network is implemented by a driver whose world has a network of its own. Where there is none,
// connections are those of package net, made outside and adopted. Networks and addresses are named
// as package net names them. What it returns keeps endpoint 1 to endpoint 5.
type Network interface {
	// Dial begins to connect. local may be nil.
	Dial(network, address string, local net.Addr) (Connecting, error)
	Listen(network, address string) (Listener, error)
	ListenPacket(network, address string) (PacketEndpoint, error)
}

// Connecting is an endpoint that need not be connected yet. Before it is, only Connect, Notify, the
// addresses, Close and Abort may be called.
type Connecting interface {
	Endpoint

	// Connect returns nil once there is a connection, and ErrAgain, and Ready with write later,
	// while it is not yet known.
	Connect() error
}
