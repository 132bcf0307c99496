package asynciohttp

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"slices"
	"time"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/asynciohttp/internal/handling"
)

// A Server serves HTTP/1.1 and HTTP/2 on one loop, in tasks and without a goroutine. Its handlers
// are those of package net/http. Each runs in the task of its connection, with HTTP/2 in that of
// its request: it may suspend wherever it reads the request, writes the response or awaits
// something, and r.Context() leads to the loop, so asyncio.Sleep(r.Context(), d) works. Between two
// awaits nothing else of the loop runs; what blocks belongs in asyncio.ToThread.
//
// The exported fields are those of [http.Server] and have the same meaning, except where a comment
// says otherwise. They must not be changed once the server serves. [NewServer] takes them from an
// http.Server. All times are the loop's, so a server on a simulated host needs no change.
//
// The methods are for the loop only, and those with a ctx must be called in a task, which they
// suspend. To serve on every core, each loop of an asyncio.LoopGroup has a Server of its own, with
// one of the listeners of LoopGroup.Listen.
//
//	serve 1: A connection with HTTP/1.1 is one task. It reads a request, runs the handler and
//	   finishes the response before it looks at the next request, so pipelined requests are answered
//	   in order.
//	serve 2: Only the connection's task, and tasks of its handler, read and write the connection.
//	   A second reader or writer at the same time is refused with asyncio.ErrBusy, a foreign
//	   goroutine with asyncio.ErrForeignGoroutine, before anything is changed.
//	serve 3: Whether a connection is used again is decided when the head of the response is made,
//	   and only revoked later. It is not used again after any error in reading the request or
//	   writing the response, so what is parsed as a request is never the rest of something else.
//	serve 4: The request's context ends when the handler has returned, and earlier when the client
//	   has gone. While the handler runs and the body has been read, a callback waits for that
//	   (asyncio.Conn.OnReadable), not a task; bytes that it finds are the next request's.
//	serve 5: Buffers belong to a connection while it works. One that waits for a request for
//	   idleGrace gives them back and waits with a single byte.
//	serve 6: A handler that panics, exits its goroutine or is cancelled ends its connection, never
//	   another one. What it had written is not made to look complete.
//	serve 7: Deadlines are set on the connection only if the configuration, or a handler, asks for
//	   them. The time that a connection is idle is counted in one queue for all, with one timer.
type Server struct {
	Addr    string       // for ListenAndServe: ":http" if empty, ":https" with TLS
	Handler http.Handler // http.DefaultServeMux if nil

	DisableGeneralOptionsHandler bool // passes "OPTIONS *" to Handler

	// TLSConfig is for ServeTLS and ListenAndServeTLS.
	TLSConfig *tls.Config

	ReadTimeout       time.Duration // for a whole request, with its body
	ReadHeaderTimeout time.Duration // ReadTimeout if zero
	WriteTimeout      time.Duration // from the end of the request's head to that of the response
	IdleTimeout       time.Duration // between two requests, ReadTimeout if zero
	MaxHeaderBytes    int           // http.DefaultMaxHeaderBytes if not positive

	// Protocols are those to speak: HTTP/1.1 and, with TLS, HTTP/2 if it is nil. Without TLS,
	// HTTP/2 is for clients that know of it before they connect.
	Protocols *http.Protocols

	// HTTP2 is the configuration of HTTP/2. Defaults are net/http's, but for a frame of 16 KiB.
	HTTP2 *http.HTTP2Config

	// MaxHeaderValueCount limits how many values a header may have, and a trailer; 500 if it is not
	// positive. net/http's field is new in Go 1.27.
	MaxHeaderValueCount int

	// ConnState is called on the loop. The connection is the [*asyncio.Conn] that was accepted,
	// with TLS too.
	ConnState func(net.Conn, http.ConnState)

	ErrorLog *log.Logger // the standard logger if nil

	// BaseContext returns the context of the requests of a listener. It need not lead to the loop.
	// Without it that is the context that Serve was given.
	BaseContext func(net.Listener) context.Context

	// ConnContext returns the context of a connection, which must descend from ctx. The connection
	// is that of ConnState.
	ConnContext func(ctx context.Context, c net.Conn) context.Context

	loop      *asyncio.EventLoop
	shown     *http.Server // the value of http.ServerContextKey
	listeners []*asyncio.Listener
	conns     connList
	stopping  bool // by Shutdown or Close
	noKeep    bool // SetKeepAlivesEnabled(false)
	quiet     asyncio.Event
	atEnd     []func()
	idle      idleQueue
	date      dateCache
}

// NewServer makes a server with the configuration in the exported fields of config, which is not
// used otherwise: its methods have no effect on the server. Handlers find config in their contexts,
// under [http.ServerContextKey]. Any goroutine may call NewServer.
//
// The field TLSNextProto is ignored.
func NewServer(config *http.Server) *Server {
	if config == nil {
		panic(fmt.Errorf("%w: nil configuration (in asynciohttp.NewServer)", asyncio.ErrInvalidArgument))
	}
	return &Server{
		Addr: config.Addr, Handler: config.Handler, DisableGeneralOptionsHandler: config.DisableGeneralOptionsHandler,
		TLSConfig:   config.TLSConfig,
		ReadTimeout: config.ReadTimeout, ReadHeaderTimeout: config.ReadHeaderTimeout,
		WriteTimeout: config.WriteTimeout, IdleTimeout: config.IdleTimeout, MaxHeaderBytes: config.MaxHeaderBytes,
		ConnState: config.ConnState, ErrorLog: config.ErrorLog,
		BaseContext: config.BaseContext, ConnContext: config.ConnContext,
		Protocols: config.Protocols, HTTP2: config.HTTP2,
		MaxHeaderValueCount: maxHeaderValueCount(config),
		shown:               config,
	}
}

// config returns an http.Server that shows the configuration to handlers.
func (s *Server) config() *http.Server {
	if s.shown == nil {
		s.shown = &http.Server{
			Addr: s.Addr, Handler: s.Handler, DisableGeneralOptionsHandler: s.DisableGeneralOptionsHandler,
			TLSConfig:   s.TLSConfig,
			ReadTimeout: s.ReadTimeout, ReadHeaderTimeout: s.ReadHeaderTimeout,
			WriteTimeout: s.WriteTimeout, IdleTimeout: s.IdleTimeout, MaxHeaderBytes: s.MaxHeaderBytes,
			ConnState: s.ConnState, ErrorLog: s.ErrorLog,
			BaseContext: s.BaseContext, ConnContext: s.ConnContext,
			Protocols: s.Protocols, HTTP2: s.HTTP2,
		}
		setMaxHeaderValueCount(s.shown, s.MaxHeaderValueCount)
	}
	return s.shown
}

// Serve accepts connections at l and serves them, until the server is shut down or closed; then it
// returns [http.ErrServerClosed] at once, while Shutdown may still wait. It closes l, which is an
// [*asyncio.Listener] or, as asyncio.NewListener takes it, one for goroutines. Connections of
// [tls.NewListener] count as HTTPS; ServeTLS costs less.
//
// It must be called in a task, and suspends it. If the task is cancelled, or ctx ends, Serve shuts
// the server down, waits until the current requests are answered, and returns that error. A second
// cancel closes their connections and cancels their handlers. Handlers get contexts of ctx, unless
// there is a BaseContext; if ctx ends, so do their awaits.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	return s.serve(ctx, l, nil, "Server.Serve")
}

// ServeTLS is [Server.Serve] for connections with TLS. The files hold a certificate and its key;
// their names are empty if TLSConfig has a certificate. Files are read by asyncio.ReadFile.
func (s *Server) ServeTLS(ctx context.Context, l net.Listener, certFile, keyFile string) error {
	config, err := s.tlsConfig(ctx, certFile, keyFile)
	if err != nil {
		if l != nil {
			err = errors.Join(err, l.Close())
		}
		return err
	}
	return s.serve(ctx, l, config, "Server.ServeTLS")
}

// Serve serves ln with the configuration of srv: it is [Server.Serve] of a [NewServer], or
// [Server.ServeTLS] if srv.TLSConfig has a certificate. srv's own methods have no effect on it, so
// it ends by a cancel or the end of ctx. Serve must be called in a task, and suspends it.
func Serve(ctx context.Context, srv *http.Server, ln net.Listener) error {
	if srv == nil || ln == nil {
		if ln != nil {
			_ = ln.Close()
		}
		return fmt.Errorf("%w: nil server or listener (in asynciohttp.Serve)", asyncio.ErrInvalidArgument)
	}
	s := NewServer(srv)
	if hasCertificate(srv.TLSConfig) {
		return s.ServeTLS(ctx, ln, "", "")
	}
	return s.Serve(ctx, ln)
}

// hasCertificate reports whether a configuration says what to present to clients.
func hasCertificate(c *tls.Config) bool {
	return c != nil && (len(c.Certificates) > 0 || c.GetCertificate != nil || c.GetConfigForClient != nil)
}

// ListenAndServe listens on Addr and calls [Server.Serve].
func (s *Server) ListenAndServe(ctx context.Context) error {
	l, err := s.listen(ctx, ":http")
	if err != nil {
		return err
	}
	return s.Serve(ctx, l)
}

// ListenAndServeTLS listens on Addr and calls [Server.ServeTLS].
func (s *Server) ListenAndServeTLS(ctx context.Context, certFile, keyFile string) error {
	l, err := s.listen(ctx, ":https")
	if err != nil {
		return err
	}
	return s.ServeTLS(ctx, l, certFile, keyFile)
}

func (s *Server) listen(ctx context.Context, standard string) (*asyncio.Listener, error) {
	if s.stopping {
		return nil, http.ErrServerClosed
	}
	addr := s.Addr
	if addr == "" {
		addr = standard
	}
	return asyncio.Listen(ctx, "tcp", addr)
}

// tlsConfig returns the configuration for a handshake.
func (s *Server) tlsConfig(ctx context.Context, certFile, keyFile string) (*tls.Config, error) {
	config := new(tls.Config)
	if s.TLSConfig != nil {
		config = s.TLSConfig.Clone()
	}
	config.NextProtos = s.nextProtos(config.NextProtos)
	if hasCertificate(config) && certFile == "" && keyFile == "" {
		return config, nil
	}
	cert, err := asyncio.ReadFile(ctx, certFile)
	if err != nil {
		return nil, err
	}
	key, err := asyncio.ReadFile(ctx, keyFile)
	if err != nil {
		return nil, err
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, err
	}
	config.Certificates = []tls.Certificate{pair}
	return config, nil
}

// nextProtos returns the protocols to offer: the caller's, with those of HTTP that are to be
// spoken.
func (s *Server) nextProtos(wanted []string) []string {
	offered := slices.DeleteFunc(slices.Clone(wanted), func(p string) bool {
		return p == protocolHTTP2 && !s.speaks().HTTP2() || p == protocolHTTP1 && !s.speaks().HTTP1()
	})
	if s.speaks().HTTP2() && !slices.Contains(offered, protocolHTTP2) {
		offered = append([]string{protocolHTTP2}, offered...)
	}
	if s.speaks().HTTP1() && !slices.Contains(offered, protocolHTTP1) {
		offered = append(offered, protocolHTTP1)
	}
	return offered
}

const protocolHTTP1, protocolHTTP2 = "http/1.1", "h2"

// speaks returns the protocols to speak.
func (s *Server) speaks() *http.Protocols {
	if s.Protocols != nil {
		return s.Protocols
	}
	return &defaultProtocols
}

var defaultProtocols = func() (p http.Protocols) {
	p.SetHTTP1(true)
	p.SetHTTP2(true)
	return p
}()

func (s *Server) serve(ctx context.Context, nl net.Listener, config *tls.Config, caller string) error {
	l, err := s.enter(ctx, caller)
	if err == nil && nl == nil {
		err = fmt.Errorf("%w: nil listener (in %s)", asyncio.ErrInvalidArgument, caller)
	}
	if err != nil {
		if nl != nil {
			_ = nl.Close()
		}
		return err
	}
	ln, ok := nl.(*asyncio.Listener)
	if !ok {
		if ln, err = asyncio.NewListener(ctx, seeingTLS(nl)); err != nil {
			return err
		}
	}
	defer ln.Close()
	if s.stopping {
		return http.ErrServerClosed
	}
	s.loop = l
	base := s.baseContext(ctx, nl)
	s.listeners = append(s.listeners, ln)
	defer s.forget(ln)
	for {
		c, err := ln.AcceptContext(ctx)
		if err == nil {
			s.admit(base, c, config)
			continue
		}
		switch {
		case s.stopping:
			return http.ErrServerClosed
		case ctx.Err() != nil || errors.Is(err, asyncio.ErrCancelled):
			s.end(context.WithoutCancel(ctx))
			return bareCancel(err)
		}
		return err
	}
}

// enter returns the loop of a task that calls a method of s.
func (s *Server) enter(ctx context.Context, caller string) (*asyncio.EventLoop, error) {
	if ctx == nil {
		return nil, fmt.Errorf("%w: nil context (in %s)", asyncio.ErrInvalidArgument, caller)
	}
	l, err := asyncio.GetRunningLoop(ctx)
	switch {
	case err != nil:
		return nil, err
	case asyncio.CurrentTask(ctx) == nil:
		return nil, fmt.Errorf("%w (in %s)", asyncio.ErrNotInTask, caller)
	case s.loop != nil && s.loop != l:
		return nil, fmt.Errorf("%w: each loop needs a Server of its own (in %s)", asyncio.ErrDifferentLoop, caller)
	}
	return l, nil
}

// end is how a Serve ends that was cancelled. A second cancel interrupts the handlers; a third one
// gives up waiting for them.
func (s *Server) end(patient context.Context) {
	if s.Shutdown(patient) == nil {
		return
	}
	s.Close()
	for c := range s.conns.all() {
		c.task.Cancel("the server was closed")
	}
	_ = s.wait(patient)
}

func (s *Server) baseContext(ctx context.Context, l net.Listener) context.Context {
	if s.BaseContext == nil {
		return ctx
	}
	base := s.BaseContext(l)
	if base == nil {
		panic("asynciohttp: BaseContext returned a nil context")
	}
	if on, err := asyncio.GetRunningLoop(base); err == nil && on == s.loop {
		return base
	}
	return withValues{base, s.loop.Context()}
}

func (s *Server) forget(ln *asyncio.Listener) {
	s.listeners = slices.DeleteFunc(s.listeners, func(l *asyncio.Listener) bool { return l == ln })
}

// admit starts the task of a connection.
func (s *Server) admit(base context.Context, conn *asyncio.Conn, config *tls.Config) {
	c := newServerConn(s, base, conn, config)
	s.conns.add(&c.among)
	c.setState(http.StateNew)
	c.task = asyncio.CreateTask(c.ctx, c.run, asyncio.TaskName("HTTP "+c.remote))
	// for a task that is cancelled before it starts
	c.task.AddDoneCallback(func(*asyncio.Task[asyncio.None]) { c.end() })
}

// Shutdown stops accepting, closes idle connections, and waits until the others have finished their
// requests; a new connection gets five seconds to send its first one. It then returns nil. Each
// function of RegisterOnShutdown runs in a task of its own, which Shutdown does not wait for. Nor
// does it wait for hijacked connections.
//
// It must be called in a task, and suspends it. A cancel, or the end of ctx, ends the wait and is
// returned; the remaining connections go on until Close.
func (s *Server) Shutdown(ctx context.Context) error {
	l, err := s.enter(context.WithoutCancel(ctx), "Server.Shutdown")
	if err != nil {
		return err
	}
	err = s.stop()
	for _, f := range s.atEnd {
		asyncio.CreateTask(l.Context(), asyncio.Do(func(context.Context) error { f(); return nil }), asyncio.TaskName("http shutdown"))
	}
	for c := range s.conns.all() {
		switch {
		case c.h2 != nil:
			c.h2.shutdown()
		case c.state == http.StateIdle:
			c.nudge(toClose)
		case c.state == http.StateNew:
			l.CallAt(c.since.Add(firstRequest), c.closeIfNew)
		}
	}
	return errors.Join(err, s.wait(ctx))
}

// stop refuses new connections and requests.
func (s *Server) stop() (err error) {
	s.stopping = true
	for _, ln := range s.listeners {
		err = errors.Join(err, ln.Close())
	}
	return err
}

// wait suspends until there is no connection.
func (s *Server) wait(ctx context.Context) error {
	if s.conns.first == nil {
		return nil
	}
	s.quiet.Clear()
	return s.quiet.Wait(ctx)
}

// Close closes the listeners and all connections at once, except hijacked ones. The contexts of
// their requests end; their handlers are not waited for. Close does not suspend.
func (s *Server) Close() error {
	if err := s.foreign(); err != nil {
		return err
	}
	err := s.stop()
	for c := range s.conns.all() {
		c.gone()
		err = errors.Join(err, c.rwc.Close())
	}
	return err
}

// RegisterOnShutdown registers a function for [Server.Shutdown] to call, for instance one that ends
// hijacked connections. It does not suspend.
func (s *Server) RegisterOnShutdown(f func()) { s.atEnd = append(s.atEnd, f) }

// SetKeepAlivesEnabled says whether connections are used for more than one request, which is the
// default. It does not suspend.
func (s *Server) SetKeepAlivesEnabled(on bool) {
	s.noKeep = !on
	if on {
		return
	}
	for c := range s.conns.all() {
		switch {
		case c.state != http.StateIdle:
		case c.h2 != nil:
			c.h2.shutdown()
		default:
			c.nudge(toClose)
		}
	}
}

func (s *Server) keepsAlive() bool { return !s.noKeep && !s.stopping }

// foreign returns the error for a caller that is not the loop's.
func (s *Server) foreign() error {
	if s.loop == nil {
		return nil
	}
	_, err := callingTask(s.loop.Context())
	return err
}

var callingTask = handling.CallingTask

func (s *Server) headerLimit() int {
	limit := s.MaxHeaderBytes
	if limit <= 0 {
		limit = http.DefaultMaxHeaderBytes
	}
	return limit + 4096 // as net/http, which allows for its buffer
}

func (s *Server) headerValueLimit() int {
	if s.MaxHeaderValueCount > 0 {
		return s.MaxHeaderValueCount
	}
	return 500
}

func (s *Server) readHeaderTimeout() time.Duration { return cmp.Or(s.ReadHeaderTimeout, s.ReadTimeout) }

func (s *Server) idleTimeout() time.Duration { return cmp.Or(s.IdleTimeout, s.ReadTimeout) }

// handshakeTimeout is the shortest of the times that limit a client that sends nothing, zero if
// there is none.
func (s *Server) handshakeTimeout() time.Duration {
	var shortest time.Duration
	for _, d := range []time.Duration{s.ReadHeaderTimeout, s.ReadTimeout, s.WriteTimeout} {
		if d > 0 && (shortest == 0 || d < shortest) {
			shortest = d
		}
	}
	return shortest
}

func (s *Server) logf(format string, args ...any) {
	if s.ErrorLog != nil {
		s.ErrorLog.Printf(format, args...)
	} else {
		log.Printf(format, args...)
	}
}

// handle calls the handler.
func (s *Server) handle(w http.ResponseWriter, r *http.Request) {
	h := s.Handler
	if h == nil {
		h = http.DefaultServeMux
	}
	if r.RequestURI == "*" && r.Method == http.MethodOptions && !s.DisableGeneralOptionsHandler {
		h = http.HandlerFunc(generalOptions)
	}
	h.ServeHTTP(w, r)
}

// generalOptions answers "OPTIONS *", after reading a short body.
func generalOptions(w http.ResponseWriter, r *http.Request) {
	const most = 4 << 10
	w.Header().Set("Content-Length", "0")
	if r.ContentLength != 0 {
		_, _ = io.Copy(io.Discard, http.MaxBytesReader(w, r.Body, most))
	}
}

// A dateCache holds the value of the header Date for a second of the loop's wall clock.
type dateCache struct {
	second int64
	text   [len(http.TimeFormat)]byte
	value  string // of the same second, empty if nobody has asked
}

func (d *dateCache) append(to []byte, l *asyncio.EventLoop) []byte {
	now := l.Now()
	if s := now.Unix(); s != d.second {
		d.second, d.value = s, ""
		now.UTC().AppendFormat(d.text[:0], http.TimeFormat)
	}
	return append(to, d.text[:]...)
}

// string is for HTTP/2, whose fields are strings.
func (d *dateCache) string(l *asyncio.EventLoop) string {
	var text [len(http.TimeFormat)]byte
	if now := d.append(text[:0], l); d.value == "" {
		d.value = string(now)
	}
	return d.value
}
