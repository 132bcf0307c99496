//go:build !linux && !darwin && !freebsd

package driver

import (
	"net"
	"time"
)

// pollerExists says whether connections can be descriptors in a poller. Here goroutines wait for
// all of them.
const pollerExists = false

type (
	poller         struct{ count int }
	socket         struct{ Endpoint }
	listenerSocket struct{ Listener }
	packetSocket   struct{ PacketEndpoint }
)

func isSocket(any) bool { return false }

func newPoller() (*poller, error)                                         { return nil, ErrSockets }
func (*poller) wait(until, now time.Duration) (bool, error)               { return false, ErrSockets }
func (*poller) wake()                                                     {}
func (*poller) some(int, int, func(net.Addr, bool)) int                   { return -1 }
func (*poller) close() error                                              { return nil }
func (*poller) adopt(net.Conn) (*socket, error)                           { return nil, ErrSockets }
func (*poller) share(net.Conn) (*socket, error)                           { return nil, ErrSockets }
func (*poller) adoptListener(net.Listener, bool) (*listenerSocket, error) { return nil, ErrSockets }
func (*poller) adoptPacketConn(net.PacketConn) (*packetSocket, error)     { return nil, ErrSockets }
func (*poller) watch(fd int, read, write bool, w Notifier) error          { return ErrSockets }
