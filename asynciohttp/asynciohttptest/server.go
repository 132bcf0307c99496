package asynciohttptest

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/asynciohttp"
)

// A Server is a server for tests, on a free port of the loopback interface: the
// [httptest.Server] of a loop. Its fields are those of httptest.Server. Config and TLS may be
// changed before Start and StartTLS.
//
// The methods are for the loop only. It serves until Close is called or the context that it was
// made with ends, and at the latest until the loop's run does.
type Server struct {
	URL      string // http://ipaddr:port, without a slash at the end; set by Start
	Listener net.Listener

	// EnableHTTP2 says that the server and its client speak HTTP/2, with TLS. Config.Protocols
	// counts more for the server, if it is set.
	EnableHTTP2 bool

	// TLS is the configuration of StartTLS, which adds a certificate for example.com and the
	// loopback addresses if there is none.
	TLS *tls.Config

	// Config is taken as [asynciohttp.NewServer] takes it: its own methods do nothing here.
	Config *http.Server

	ctx         context.Context
	loop        *asyncio.EventLoop
	server      *asynciohttp.Server
	serving     *asyncio.Task[asyncio.None]
	open        []connection // in the order in which they were accepted
	certificate *x509.Certificate
	client      *http.Client
	transport   *asynciohttp.Transport
}

// A connection is one that was accepted, and is neither closed nor hijacked.
type connection struct {
	net.Conn
	state http.ConnState
}

// NewServer makes a [Server] and starts it. The caller should call Close when it has finished.
//
// It must be called in a task, and suspends it while the server begins to listen. ctx is that of
// the requests that handlers get. Errors are those of [asyncio.Listen].
func NewServer(ctx context.Context, handler http.Handler) (*Server, error) {
	s, err := NewUnstartedServer(ctx, handler)
	if err != nil {
		return nil, err
	}
	s.Start()
	return s, nil
}

// NewTLSServer is [NewServer] for a server with TLS, whose certificate [Server.Client] trusts.
func NewTLSServer(ctx context.Context, handler http.Handler) (*Server, error) {
	s, err := NewUnstartedServer(ctx, handler)
	if err != nil {
		return nil, err
	}
	s.StartTLS()
	return s, nil
}

// NewUnstartedServer is [NewServer] for a server that listens, and accepts when Start or StartTLS
// is called.
func NewUnstartedServer(ctx context.Context, handler http.Handler) (*Server, error) {
	l, err := asyncio.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	loop, err := asyncio.GetRunningLoop(ctx)
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return &Server{Listener: l, Config: &http.Server{Handler: handler}, ctx: ctx, loop: loop}, nil
}

// Start starts a server of [NewUnstartedServer]. It does not suspend.
func (s *Server) Start() {
	s.start("http", nil)
	s.serving = asyncio.CreateTask(s.ctx, asyncio.Do(func(ctx context.Context) error {
		return s.ended(ctx, s.server.Serve(ctx, s.Listener))
	}), asyncio.TaskName("asynciohttptest.Server"))
}

// StartTLS starts TLS on a server of [NewUnstartedServer]. It does not suspend.
func (s *Server) StartTLS() {
	config := new(tls.Config)
	if s.TLS != nil {
		config = s.TLS.Clone()
	}
	if len(config.Certificates) == 0 {
		config.Certificates = []tls.Certificate{testCertificate()}
	}
	var err error
	if s.certificate, err = x509.ParseCertificate(config.Certificates[0].Certificate[0]); err != nil {
		panic(fmt.Errorf("asynciohttptest: the certificate of Server.TLS: %w", err))
	}
	if config.Time == nil {
		config.Time = s.loop.Now
	}
	s.TLS = config
	trusted := x509.NewCertPool()
	trusted.AddCert(s.certificate)
	s.start("https", &tls.Config{RootCAs: trusted})
	s.server.TLSConfig = config
	s.serving = asyncio.CreateTask(s.ctx, asyncio.Do(func(ctx context.Context) error {
		return s.ended(ctx, s.server.ServeTLS(ctx, s.Listener, "", ""))
	}), asyncio.TaskName("asynciohttptest.Server"))
}

// start makes the server and its client.
func (s *Server) start(scheme string, trusting *tls.Config) {
	if s.URL != "" {
		panic("asynciohttptest: the Server was started already")
	}
	addr := s.Listener.Addr().String()
	s.URL = scheme + "://" + addr
	s.server = asynciohttp.NewServer(s.Config)
	if s.server.Protocols == nil {
		s.server.Protocols = new(http.Protocols)
		s.server.Protocols.SetHTTP1(true)
		s.server.Protocols.SetHTTP2(s.EnableHTTP2)
	}
	tell := s.server.ConnState
	s.server.ConnState = func(c net.Conn, state http.ConnState) {
		s.note(c, state)
		if tell != nil {
			tell(c, state)
		}
	}
	s.transport = &asynciohttp.Transport{
		TLSClientConfig: trusting, ForceAttemptHTTP2: s.EnableHTTP2,
		DialContext: func(ctx context.Context, network, to string) (net.Conn, error) {
			if host, _, err := net.SplitHostPort(to); err == nil && (host == "example.com" || strings.HasSuffix(host, ".example.com")) {
				to = addr
			}
			return asyncio.DialContext(ctx, network, to)
		},
	}
	s.client = &http.Client{Transport: s.transport}
}

// note keeps the list of connections.
func (s *Server) note(c net.Conn, state http.ConnState) {
	i := slices.IndexFunc(s.open, func(o connection) bool { return o.Conn == c })
	switch {
	case i < 0:
		s.open = append(s.open, connection{c, state})
	case state == http.StateClosed || state == http.StateHijacked:
		s.open = slices.Delete(s.open, i, i+1)
	default:
		s.open[i].state = state
	}
}

// ended returns the error that a test should hear of: not that the server was closed, or the test
// is over.
func (s *Server) ended(ctx context.Context, err error) error {
	if errors.Is(err, http.ErrServerClosed) || ctx.Err() != nil {
		return nil
	}
	return err
}

// Client returns a client for the server, an [http.Client] with an [*asynciohttp.Transport] that
// trusts the server's certificate. It reaches the server at URL, and also at example.com and the
// hosts below it. Close closes its idle connections. Client returns nil before the server is
// started. It does not suspend.
func (s *Server) Client() *http.Client { return s.client }

// Certificate returns the server's certificate, nil without TLS. It does not suspend.
func (s *Server) Certificate() *x509.Certificate { return s.certificate }

// Close stops the server and suspends the calling task until all requests have been answered.
// Connections without one are closed at once. A handler that never returns makes Close wait for
// ever: on a virtual clock that ends the run with [asyncio.ErrDeadlock].
//
// It must be called in a task, also in one that was cancelled. A cancel during the wait closes the
// connections, which ends the contexts of their requests, and is returned when the handlers have
// returned. Other errors are those of closing the listener. A second call does nothing.
func (s *Server) Close() error {
	if s.serving == nil {
		return s.Listener.Close()
	}
	if s.serving.Done() {
		return nil
	}
	s.transport.CloseIdleConnections()
	for _, c := range s.open {
		if c.state == http.StateNew {
			_ = c.Close()
		}
	}
	ctx := s.loop.Context()
	err := s.server.Shutdown(ctx)
	if errors.Is(err, asyncio.ErrCancelled) {
		_ = s.server.Close()
		_ = s.server.Shutdown(ctx) // waits for the handlers
	}
	if _, _, e := asyncio.Wait(ctx, []*asyncio.Task[asyncio.None]{s.serving}); err == nil {
		err = e
	}
	return err
}

// CloseClientConnections closes all connections to the server at once, and lets it go on. A handler
// notices when it reads or writes. It does not suspend.
func (s *Server) CloseClientConnections() {
	for _, c := range s.open {
		_ = c.Close()
	}
}
