package asynciohttp

import (
	"crypto/tls"
	"errors"
	"net"
)

// seeingTLS returns a listener whose connections show that they have TLS already, as those of
// [tls.NewListener] do. asyncio.NewListener makes connections of the loop of them, which keep
// nothing of the original but its addresses; so the remote one carries the state.
func seeingTLS(l net.Listener) net.Listener {
	switch l.(type) {
	case *net.TCPListener, *net.UnixListener:
		return l // which moves to the loop's poller
	}
	return tlsSeer{l}
}

type tlsSeer struct{ net.Listener }

func (l tlsSeer) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if s, ok := c.(interface{ ConnectionState() tls.ConnectionState }); ok && err == nil {
		c = securedConn{c, s.ConnectionState}
	}
	return c, err
}

// A securedConn is a connection with TLS. Its handshake may be made by the first operation.
type securedConn struct {
	net.Conn
	state func() tls.ConnectionState
}

func (c securedConn) RemoteAddr() net.Addr { return securedAddr{c.Conn.RemoteAddr(), c.state} }

func (c securedConn) CloseWrite() error {
	if w, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return w.CloseWrite()
	}
	return errors.ErrUnsupported
}

type securedAddr struct {
	net.Addr
	state func() tls.ConnectionState
}
