package asynciohttp

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net/http"
	"slices"
	"time"

	"golang.org/x/net/http/httpguts"
	"golang.org/x/net/http2"

	"github.com/goasyncio/asyncio"
)

// An http2Server is a connection of a server that speaks HTTP/2.
//
//	http2server 1: The connection's task is the reader (h2 1). It returns when the connection is
//	   closed and all handlers have returned. A cancel of the task cancels theirs.
//	http2server 2: At most maxStreams handlers run. Requests of clients that open and reset streams
//	   faster than handlers end wait in backlog, and too many of them end the connection.
//	http2server 3: A response that has ended ends its stream: a client that has not ended the request
//	   is told to stop. The handler may go on, but sends nothing.
//	http2server 4: The context of a request ends when its handler has returned, and earlier when its
//	   stream ends before the response was sent.
type http2Server struct {
	http2Conn
	of  *serverConn
	s   *Server
	rwc stream // the http2Conn's conn

	handlers map[*serverStream]*asyncio.Task[asyncio.None]
	backlog  []*serverStream
	drained  signal // no handler is left

	idleSince asyncio.Instant
	idleTimer *asyncio.TimerHandle
}

// http2ServerSettings reads the configuration, with the defaults of net/http.
func http2ServerSettings(s *Server) http2Settings {
	limits := http2Settings{
		maxStreams:    250,
		maxFrame:      16 << 10, // net/http takes 1 MiB, and holds so much for each connection
		tableSize:     4096,
		peerTableSize: 4096,
		headerList:    http.DefaultMaxHeaderBytes,
		connWindow:    1 << 20,
		streamWindow:  1 << 20,
		readBuffer:    inputBuffer,
	}
	if s.MaxHeaderBytes > 0 {
		limits.headerList = uint32(min(s.MaxHeaderBytes, 1<<30))
	}
	limits.headerList += 320 // a header of HTTP/1.1 counts less for each field than HPACK does
	limits.configure(s.HTTP2)
	return limits
}

// The errors that handlers see.
var (
	errHTTP2Gone    = errors.New("asynciohttp: the client has closed the connection")
	errHTTP2Handler = errors.New("asynciohttp: the handler has returned")
)

// serveHTTP2 serves the connection until it is closed.
func (c *serverConn) serveHTTP2(ctx context.Context) error {
	before := bytes.Clone(c.in.unread())
	c.dropBuffers()
	c.h2 = newHTTP2Server(c, before)
	return c.h2.run(ctx)
}

// newHTTP2Server returns the connection, of which some bytes have been read before.
func newHTTP2Server(of *serverConn, before []byte) *http2Server {
	c := &http2Server{of: of, s: of.s, rwc: of.rwc, handlers: make(map[*serverStream]*asyncio.Task[asyncio.None])}
	var from io.Reader = of.rwc
	if len(before) > 0 {
		from = io.MultiReader(bytes.NewReader(before), of.rwc)
	}
	c.init(of.ctx, of.s.loop, c, of.rwc, from, http2ServerSettings(of.s))
	return c
}

func (c *http2Server) run(ctx context.Context) error {
	l := c.settings
	c.hello(
		http2.Setting{ID: http2.SettingMaxFrameSize, Val: l.maxFrame},
		http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: l.maxStreams},
		http2.Setting{ID: http2.SettingMaxHeaderListSize, Val: l.headerList},
		http2.Setting{ID: http2.SettingHeaderTableSize, Val: l.tableSize},
		http2.Setting{ID: http2.SettingInitialWindowSize, Val: uint32(l.streamWindow)},
		http2.Setting{ID: http2.SettingNoRFC7540Priorities, Val: 1},
	)
	c.startWriter(ctx)
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

// read reads frames until the connection ends. It returns the error of a cancel. All else is the
// client's affair.
func (c *http2Server) read() error {
	_ = c.rwc.SetReadDeadline(c.loop.Now().Add(http2PrefaceTimeout))
	var preface [len(http2.ClientPreface)]byte
	if _, err := io.ReadFull(c.in, preface[:]); err != nil {
		return onlyCancel(err)
	}
	if string(preface[:]) != http2.ClientPreface {
		return nil // it is no client of HTTP/2, so a frame tells it nothing
	}
	c.isIdle()
	c.watchHealth(c.s.HTTP2, func() { _ = c.rwc.Close() })
	_ = c.rwc.SetReadDeadline(c.loop.Now().Add(http2SettingsTimeout))
	return onlyCancel(c.readFrames())
}

// leave ends all streams, has the rest sent, and waits for the handlers (http2server 1). It returns
// err, or the error of a cancel.
func (c *http2Server) leave(ctx context.Context, err error) error {
	c.goneAway = true
	c.abandon(errHTTP2Gone)
	c.backlog = nil
	c.last = true
	c.wake.set()
	if err == nil && c.refusing {
		err = c.linger()
	}
	for err == nil && len(c.handlers) > 0 {
		err = c.await(&c.drained)
	}
	if err != nil { // a cancel: the handlers end too
		for _, st := range c.allHandlers() {
			c.handlers[st].Cancel()
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

// allHandlers returns the streams with a handler in the order in which they were opened.
func (c *http2Server) allHandlers() []*serverStream {
	all := make([]*serverStream, 0, len(c.handlers))
	for st := range c.handlers {
		all = append(all, st)
	}
	slices.SortFunc(all, func(a, b *serverStream) int { return cmp.Compare(a.id, b.id) })
	return all
}

// failed implements [http2End].
func (c *http2Server) failed(code http2.ErrCode, why string) {
	c.s.logf("asynciohttp: HTTP/2 connection from %s: %v: %s", c.of.remote, code, why)
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

// left implements [http2End].
func (c *http2Server) left() {
	if len(c.streams) == 0 {
		c.isIdle()
	}
}

// isIdle notes that no stream is left.
func (c *http2Server) isIdle() {
	if c.of.state == http.StateNew {
		c.of.setState(http.StateActive) // which comes before idle, as documented
	}
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

// receiveGoAway implements [http2End].
func (c *http2Server) receiveGoAway(f *http2.GoAwayFrame) {
	if f.ErrCode != http2.ErrCodeNo {
		c.s.logf("asynciohttp: HTTP/2 client %s is leaving: %v: %q", c.of.remote, f.ErrCode, f.DebugData())
	}
	c.shutdown()
}

func (*http2Server) receiveSetting(http2.Setting) {}
func (*http2Server) receivedSettings()            {}
func (*http2Server) receivedPong()                {}

// receiveLate implements [http2End].
func (c *http2Server) receiveLate(id uint32) error {
	if c.recall(id) == resetByUs {
		return nil // the client had not heard of it
	}
	return http2.StreamError{StreamID: id, Code: http2.ErrCodeStreamClosed}
}

// receiveMalformed implements [http2End].
func (c *http2Server) receiveMalformed(id uint32) bool {
	if id > c.maxID && id%2 == 1 {
		c.maxID = id
	}
	return true
}

// receiveHeaders implements [http2End]: they are a request, or the trailer of one.
func (c *http2Server) receiveHeaders(f *http2.MetaHeadersFrame) error {
	id := f.StreamID
	if id%2 == 0 {
		return http2.ConnectionError(http2.ErrCodeProtocol)
	}
	if st := c.streams[id]; st != nil {
		return c.receiveTrailer(st.end.(*serverStream), f)
	}
	if id <= c.maxID {
		switch c.recall(id) {
		case resetByUs:
			return nil
		case resetByPeer:
			return http2.StreamError{StreamID: id, Code: http2.ErrCodeStreamClosed}
		case endedByBoth:
			return http2.ConnectionError(http2.ErrCodeStreamClosed)
		}
		return http2.ConnectionError(http2.ErrCodeProtocol)
	}
	if c.goneAway {
		return nil // the client will hear that it was not accepted
	}
	c.maxID = id
	c.empty = 0
	if uint32(len(c.streams)) >= c.settings.maxStreams {
		code := http2.ErrCodeProtocol
		if c.unacked > 0 {
			code = http2.ErrCodeRefusedStream // it did not know the limit
		}
		return http2.StreamError{StreamID: id, Code: code}
	}
	if f.HasPriority() && f.Priority.StreamDep == id {
		return http2.StreamError{StreamID: id, Code: http2.ErrCodeProtocol}
	}
	st := &serverStream{conn: c}
	c.open(&st.http2Stream, st, id)
	if more := http2FirstWindow - st.inflow.avail; more > 0 && c.unacked > 0 {
		st.inflow.avail, st.ahead = http2FirstWindow, more
	}
	if err := c.readRequest(st, f); err != nil {
		return err
	}
	if len(c.streams) == 0 {
		c.of.setState(http.StateActive)
	}
	c.streams[id] = &st.http2Stream
	if f.StreamEnded() {
		if st.declared > 0 {
			return http2.StreamError{StreamID: id, Code: http2.ErrCodeProtocol}
		}
		st.remoteEnded, st.bodyErr = true, io.EOF
	}
	if t := c.s.ReadTimeout; t > 0 {
		st.readTimer = c.loop.CallLater(t, st.readTimedOut)
	}
	if t := c.s.WriteTimeout; t > 0 {
		st.writeTimer = c.loop.CallLater(t, st.writeTimedOut)
	}
	if uint32(len(c.handlers)) < c.settings.maxStreams {
		c.handle(st)
		return nil
	}
	if len(c.backlog) >= int(4*c.settings.maxStreams) { // (http2server 2)
		return http2.ConnectionError(http2.ErrCodeEnhanceYourCalm)
	}
	c.backlog = append(c.backlog, st)
	return nil
}

func (c *http2Server) receiveTrailer(st *serverStream, f *http2.MetaHeadersFrame) error {
	if st.remoteEnded {
		return http2.StreamError{StreamID: st.id, Code: http2.ErrCodeStreamClosed}
	}
	if !f.StreamEnded() || len(f.PseudoFields()) > 0 {
		return http2.StreamError{StreamID: st.id, Code: http2.ErrCodeProtocol}
	}
	c.empty = 0
	trailer := make(http.Header)
	for _, field := range f.RegularFields() {
		key := canonicalKey(field.Name)
		if !httpguts.ValidTrailerHeader(key) {
			return http2.StreamError{StreamID: st.id, Code: http2.ErrCodeProtocol}
		}
		if _, announced := st.request.Trailer[key]; announced {
			trailer[key] = append(trailer[key], field.Value)
		}
	}
	if err := c.receivedEnd(&st.http2Stream); err != nil {
		return err
	}
	for key, values := range trailer {
		st.request.Trailer[key] = values
	}
	return nil
}
