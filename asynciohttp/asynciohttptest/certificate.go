package asynciohttptest

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
)

// testCertificate returns the certificate of package httptest, which shows it to servers only: one
// is started for it, on a listener that accepts nothing.
var testCertificate = sync.OnceValue(func() tls.Certificate {
	ctx, stop := context.WithCancel(context.Background())
	s := &httptest.Server{Listener: nowhere{ctx, stop}, Config: new(http.Server)}
	s.StartTLS()
	defer s.Listener.Close() // s.Close would close the connections of http.DefaultTransport as well
	return s.TLS.Certificates[0]
})

// nowhere is a listener without a network.
type nowhere struct {
	open context.Context
	stop context.CancelFunc
}

func (l nowhere) Accept() (net.Conn, error) {
	<-l.open.Done()
	return nil, net.ErrClosed
}

func (l nowhere) Close() error {
	l.stop()
	return nil
}

func (nowhere) Addr() net.Addr { return new(net.TCPAddr) }
