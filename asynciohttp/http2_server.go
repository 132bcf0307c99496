package asynciohttp

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net/http"
	"slices"
	"time"

	"golang.org/x/net/http2"

	"github.com/goasyncio/asyncio"
)

// An http2Server is the server's end of a connection.
//
//	h2 server 1: At most maxStreams handlers run. Requests of clients that open and reset streams
//	   faster than handlers end wait in backlog, and too many of them end the connection.
//	h2 server 2: The connection's task reads (h2 1). It returns when the connection is closed and all
//	   handlers have returned. A cancel of the task cancels theirs.
//	h2 server 3: The context of a request ends when its handler has returned, and earlier when its
//	   stream ends before the response was sent.
type http2Server struct {
	*http2Conn
	of *serverConn
	s  *Server

	handlers  map[*http2Request]*asyncio.Task[asyncio.None]
	backlog   []*http2Request
	drained   signal // no handler is left
	idleSince asyncio.Instant
	idleTimer *asyncio.TimerHandle
}

// http2SettingsOf reads the configuration, with the defaults of net/http.
func http2SettingsOf(s *Server) http2Settings {
	limits := http2Settings{
		maxStreams:    250,
		maxFrame:      16 << 10, // net/http takes 1 MiB, and holds so much for each connection
		tableSize:     4096,
		peerTableSize: 4096,
		headerList:    http.DefaultMaxHeaderBytes,
		connWindow:    1 << 20,
		streamWindow:  1 << 20,
	}
	if s.MaxHeaderBytes > 0 {
		limits.headerList = uint32(min(s.MaxHeaderBytes, 1<<30))
	}
	limits.headerList += 320 // a header of HTTP/1.1 counts less for each field than HPACK does
	if c := s.HTTP2; c != nil {
		set := func(to *uint32, v int) {
			if v > 0 {
				*to = uint32(min(v, http2MaxWindow))
			}
		}
		limits.writeByte = c.WriteByteTimeout
		set(&limits.maxStreams, c.MaxConcurrentStreams)
		set(&limits.tableSize, c.MaxDecoderHeaderTableSize)
		set(&limits.peerTableSize, c.MaxEncoderHeaderTableSize)
		if c.MaxReadFrameSize >= 1<<14 && c.MaxReadFrameSize < 1<<24 {
			limits.maxFrame = uint32(c.MaxReadFrameSize)
		}
		if c.MaxReceiveBufferPerConnection >= 64<<10 {
			limits.connWindow = int32(min(c.MaxReceiveBufferPerConnection, http2MaxWindow))
		}
		if c.MaxReceiveBufferPerStream > 0 {
			limits.streamWindow = int32(min(c.MaxReceiveBufferPerStream, http2MaxWindow))
		}
	}
	return limits
}

// The errors that handlers see.
var (
	errHTTP2Gone    = errors.New("asynciohttp: the client has closed the connection")
	errHTTP2Closed  = errors.New("asynciohttp: the stream is closed")
	errHTTP2Handler = errors.New("asynciohttp: the handler has returned")
)

// serveHTTP2 serves the connection until it is closed.
func (c *serverConn) serveHTTP2(ctx context.Context) error {
	before := bytes.Clone(c.in.unread())
	c.dropBuffers()
	return newHTTP2Server(c, before).run(ctx)
}

// newHTTP2Server returns the server's end of a connection, of which some bytes have been read.
func newHTTP2Server(of *serverConn, before []byte) *http2Server {
	c := &http2Server{of: of, s: of.s, handlers: make(map[*http2Request]*asyncio.Task[asyncio.None])}
	var from io.Reader = of.rwc
	if len(before) > 0 {
		from = io.MultiReader(bytes.NewReader(before), of.rwc)
	}
	c.http2Conn = newHTTP2Conn(of.ctx, of.s.loop, of.rwc, from, http2SettingsOf(of.s), c)
	c.isServer = true
	of.h2 = c
	return c
}

func (c *http2Server) run(ctx context.Context) error {
	c.hello(ctx, http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: c.settings.maxStreams},
		http2.Setting{ID: http2.SettingNoRFC7540Priorities, Val: 1})
	defer func() {
		if c.idleTimer != nil {
			c.idleTimer.Cancel()
		}
		c.close()
	}()
	if why := c.rejected(); why != "" {
		c.fail(http2.ErrCodeInadequateSecurity, why)
		return c.leave(ctx, nil)
	}
	return c.leave(ctx, c.read())
}

// rejected says what is wrong with the connection's TLS, if anything (RFC 9113, 9.2).
func (c *http2Server) rejected() string {
	if c.of.tls == nil {
		return ""
	}
	if c.of.tls.Version < tls.VersionTLS12 {
		return "TLS is older than 1.2"
	}
	if c.s.HTTP2 != nil && c.s.HTTP2.PermitProhibitedCipherSuites || c.of.tls.Version > tls.VersionTLS12 {
		return ""
	}
	switch c.of.tls.CipherSuite {
	case tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384,
		tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
		tls.TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256, tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256:
		return ""
	}
	return "HTTP/2 prohibits " + tls.CipherSuiteName(c.of.tls.CipherSuite)
}

// read reads frames until the connection ends. It returns why, or nil if the client has ended it.
func (c *http2Server) read() error {
	_ = c.rwc.SetReadDeadline(c.loop.Now().Add(http2PrefaceTimeout))
	var preface [len(http2.ClientPreface)]byte
	if _, err := io.ReadFull(c.in, preface[:]); err != nil {
		return c.unlessGone(err)
	}
	if string(preface[:]) != http2.ClientPreface {
		return nil // it is no client of HTTP/2, so a frame tells it nothing
	}
	c.isIdle()
	if h := c.s.HTTP2; h != nil {
		c.watchHealth(h.SendPingTimeout, h.PingTimeout)
	}
	return c.readFrames()
}

// leave ends all streams, has the rest sent, and waits for the handlers (h2 server 2). It returns
// err, or the error of a cancel.
func (c *http2Server) leave(ctx context.Context, err error) error {
	c.endAll(errHTTP2Gone)
	c.backlog = nil
	if err == nil && c.refusing {
		err = c.linger()
	}
	for err == nil && len(c.handlers) > 0 {
		err = c.await(&c.drained)
	}
	if err != nil { // a cancel: the handlers end too
		for st := range c.handlers {
			st.cancelled = true
		}
		for _, task := range c.tasksInOrder() {
			task.Cancel()
		}
		_ = asyncio.Cleanup(ctx, time.Minute, func(ctx context.Context) error {
			for len(c.handlers) > 0 {
				if err := c.await(&c.drained); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return err
}

// shutdown ends the connection when its streams have ended.
func (c *http2Server) shutdown() {
	if c.goneAway {
		return
	}
	c.goAway(http2.ErrCodeNo)
	c.closeIfIdle()
}

// closeIfIdle ends a connection that accepts no stream and has none left. The writer closes our
// side; the client then closes its own, or the deadline ends it.
func (c *http2Server) closeIfIdle() {
	if c.goneAway && !c.refusing && len(c.streams) == 0 {
		c.last = true
		c.wake.set()
		_ = c.rwc.SetReadDeadline(c.loop.Now().Add(http2Linger))
	}
}

// isIdle notes that no stream is left.
func (c *http2Server) isIdle() {
	c.of.setState(http.StateIdle)
	if !c.s.keepsAlive() {
		c.shutdown()
	}
	if c.closeIfIdle(); c.goneAway {
		return
	}
	timeout := c.s.idleTimeout()
	if timeout <= 0 {
		return
	}
	c.idleSince = c.loop.Time()
	if c.idleTimer == nil {
		c.idleTimer = c.loop.CallLater(timeout, func() { c.checkIdle(timeout) })
	}
}

// checkIdle runs once in each timeout, so that a request need not stop a timer and start it again.
func (c *http2Server) checkIdle(timeout time.Duration) {
	c.idleTimer = nil
	if len(c.streams) > 0 {
		return // isIdle starts it again
	}
	if rest := timeout - c.loop.Time().Sub(c.idleSince); rest > 0 {
		c.idleTimer = c.loop.CallLater(rest, func() { c.checkIdle(timeout) })
		return
	}
	c.shutdown()
}

func (c *http2Server) tasksInOrder() []*asyncio.Task[asyncio.None] {
	all := make([]*http2Request, 0, len(c.handlers))
	for st := range c.handlers {
		all = append(all, st)
	}
	slices.SortFunc(all, func(a, b *http2Request) int { return int(int64(a.id) - int64(b.id)) })
	tasks := make([]*asyncio.Task[asyncio.None], len(all))
	for i, st := range all {
		tasks[i] = c.handlers[st]
	}
	return tasks
}

func (c *http2Server) receiveGoAway(f *http2.GoAwayFrame) {
	if f.ErrCode != http2.ErrCodeNo {
		c.s.logf("asynciohttp: HTTP/2 client %s is leaving: %v: %q", c.of.remote, f.ErrCode, f.DebugData())
	}
	c.shutdown()
}

func (c *http2Server) receivePeerSettings(*http2.SettingsFrame) {}

// localEnded resets a stream whose response was sent: the client should send no more.
func (c *http2Server) localEnded(st *http2Stream) { c.reset(st, http2.ErrCodeNo, errHTTP2Closed) }

func (c *http2Server) remoteEnded(st *http2Stream) {
	r := st.of.(*http2Request)
	for key, values := range st.trailer {
		r.request.Trailer[key] = values
	}
}

func (c *http2Server) streamEnded(st *http2Stream) {
	r := st.of.(*http2Request)
	for _, timer := range []*asyncio.TimerHandle{r.readTimer, r.writeTimer} {
		if timer != nil {
			timer.Cancel()
		}
	}
	if st.err != errHTTP2Closed { // a handler that has sent all that it has may go on
		r.cancel(errClientGone)
	}
	if len(c.streams) == 0 {
		c.isIdle()
	}
}

func (c *http2Server) failed(code http2.ErrCode, why string) {
	if code != http2.ErrCodeNo {
		c.s.logf("asynciohttp: HTTP/2 connection from %s: %v: %s", c.of.remote, code, why)
	}
}
