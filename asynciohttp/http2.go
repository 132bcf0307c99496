package asynciohttp

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/goasyncio/asyncio"
)

// An http2Conn is a connection of a server that speaks HTTP/2.
//
//	h2 1: The connection's task reads frames and waits for nothing else. So a client that does not
//	   read cannot keep the server from reading, and a window that opens is always noticed. What the
//	   reader answers itself is appended to out; too many answers that wait there end the connection.
//	h2 2: One task writes, the writer: all that out has, at once. The others append whole frames to
//	   out. So frames are never cut, and header blocks are sent in the order in which they were
//	   compressed, which they depend on.
//	h2 3: Data is appended only if both windows have room for it and out is short. A handler waits
//	   for the window of its stream by itself, and for the rest in a queue. Whoever leaves the queue
//	   wakes the next if there is room, however the wait has ended. Each takes one frame and then its
//	   place at the end, so that no stream starves.
//	h2 4: A stream is in streams until both sides have ended it or one has reset it; then it has an
//	   error, and nobody waits in it. Its handler may go on, but sends nothing.
//	h2 5: Bytes of bodies that no handler has read are at most the window of the connection. The
//	   window is opened when they are read, or when nobody will.
//	h2 6: At most maxStreams handlers run. Requests of clients that open and reset streams faster
//	   than handlers end wait in backlog, and too many of them end the connection.
//	h2 7: The connection's task returns when the connection is closed and all handlers have
//	   returned. A cancel of the task cancels theirs.
//	h2 8: The context of a request ends when its handler has returned, and earlier when its stream
//	   ends before the response was sent.
type http2Conn struct {
	of       *serverConn
	s        *Server
	rwc      stream
	ctx      context.Context // of the connection
	loop     *asyncio.EventLoop
	settings http2Settings

	in      *bufio.Reader
	framer  *http2.Framer // reads from in, and writes to out
	encoder *hpack.Encoder
	block   bytes.Buffer // of the encoder

	// What is sent (h2 2).
	out     []byte
	spare   []byte // the other buffer, while the writer has none in its hands
	answers int    // frames of the reader's in out
	writer  *asyncio.Task[asyncio.None]
	wake    signal // of the writer
	last    bool   // the writer ends when out is empty
	allSent bool   // and has done so

	// What may be sent (h2 3).
	window      int64 // of the connection
	peerWindow  int64 // that a new stream begins with
	peerFrame   int
	queue       []*http2Stream
	sawSettings bool
	unacked     int // our SETTINGS that the client has not acknowledged

	// What may be received (h2 5).
	inflow     inflow
	empty      int // frames without effect since emptySince
	emptySince asyncio.Instant

	streams   map[uint32]*http2Stream
	maxID     uint32 // the highest that the client has opened
	ended     [32]endedStream
	endedNext int
	handlers  map[*http2Stream]*asyncio.Task[asyncio.None]
	backlog   []*http2Stream
	drained   signal // no handler is left

	goneAway  bool // GOAWAY was sent, and no further stream is accepted
	refusing  bool // after an error of the connection: nothing is read any more but to be dropped
	idleSince asyncio.Instant
	idleTimer *asyncio.TimerHandle
	lastFrame asyncio.Instant
	health    *asyncio.TimerHandle // asks whether the client is still there
	pinged    bool
}

// http2Settings are the limits of a connection.
type http2Settings struct {
	maxStreams, maxFrame, tableSize, peerTableSize, headerList uint32
	connWindow, streamWindow                                   int32

	// The client has to take something within it, unless it is 0.
	writeByte time.Duration
}

const (
	http2PrefaceTimeout  = 10 * time.Second // for the client's first bytes
	http2SettingsTimeout = 2 * time.Second  // for its SETTINGS
	http2Linger          = time.Second      // for the client to read why the connection ends
	http2MaxAnswers      = 10000            // frames that the client has us send and does not read
	http2MaxEmpty        = 10000            // frames without effect in http2EmptyTime
	http2EmptyTime       = 10 * time.Second
	http2OutLimit        = 64 << 10  // bytes in out at which handlers wait
	http2BufferKept      = 256 << 10 // a larger buffer goes to the collector
	http2MaxWindow       = 1<<31 - 1
)

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
	c.h2 = newHTTP2Conn(c, before)
	return c.h2.run(ctx)
}

// newHTTP2Conn returns the connection, of which some bytes have been read before.
func newHTTP2Conn(of *serverConn, before []byte) *http2Conn {
	limits := http2SettingsOf(of.s)
	c := &http2Conn{
		of: of, s: of.s, rwc: of.rwc, ctx: of.ctx, loop: of.s.loop, settings: limits,
		window: 65535, peerWindow: 65535, peerFrame: 1 << 14,
		streams:  make(map[uint32]*http2Stream),
		handlers: make(map[*http2Stream]*asyncio.Task[asyncio.None]),
	}
	var from io.Reader = of.rwc
	if len(before) > 0 {
		from = io.MultiReader(bytes.NewReader(before), of.rwc)
	}
	c.in = bufio.NewReaderSize(from, inputBuffer)
	c.framer = http2.NewFramer((*http2Out)(c), c.in)
	c.framer.SetReuseFrames()
	c.framer.SetMaxReadFrameSize(limits.maxFrame)
	c.framer.ReadMetaHeaders = hpack.NewDecoder(limits.tableSize, nil)
	c.framer.MaxHeaderListSize = limits.headerList
	c.encoder = hpack.NewEncoder(&c.block)
	c.encoder.SetMaxDynamicTableSizeLimit(limits.peerTableSize)
	c.inflow.init(limits.connWindow)
	return c
}

func (c *http2Conn) run(ctx context.Context) error {
	c.hello()
	c.writer = asyncio.CreateTask(ctx, asyncio.Do(c.write), asyncio.TaskName("HTTP/2 writer"))
	c.writer.AddDoneCallback(c.wrote)
	defer c.close()
	if why := c.rejected(); why != "" {
		c.fail(http2.ErrCodeInadequateSecurity, why)
		return c.leave(ctx, nil)
	}
	return c.leave(ctx, c.read())
}

// rejected says what is wrong with the connection's TLS, if anything (RFC 9113, 9.2).
func (c *http2Conn) rejected() string {
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

// hello sends our SETTINGS.
func (c *http2Conn) hello() {
	l := c.settings
	_ = c.framer.WriteSettings(
		http2.Setting{ID: http2.SettingMaxFrameSize, Val: l.maxFrame},
		http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: l.maxStreams},
		http2.Setting{ID: http2.SettingMaxHeaderListSize, Val: l.headerList},
		http2.Setting{ID: http2.SettingHeaderTableSize, Val: l.tableSize},
		http2.Setting{ID: http2.SettingInitialWindowSize, Val: uint32(l.streamWindow)},
		http2.Setting{ID: http2.SettingNoRFC7540Priorities, Val: 1},
	)
	c.unacked++
	if more := l.connWindow - 65535; more > 0 {
		_ = c.framer.WriteWindowUpdate(0, uint32(more))
	}
}

// read reads frames until the connection ends. It returns the error of a cancel. All else is the
// client's affair.
func (c *http2Conn) read() error {
	_ = c.rwc.SetReadDeadline(c.loop.Now().Add(http2PrefaceTimeout))
	var preface [len(http2.ClientPreface)]byte
	if _, err := io.ReadFull(c.in, preface[:]); err != nil {
		return onlyCancel(err)
	}
	if string(preface[:]) != http2.ClientPreface {
		return nil // it is no client of HTTP/2, so a frame tells it nothing
	}
	c.isIdle()
	if h := c.s.HTTP2; h != nil {
		c.watchHealth(h.SendPingTimeout, h.PingTimeout)
	}
	_ = c.rwc.SetReadDeadline(c.loop.Now().Add(http2SettingsTimeout))
	for {
		f, err := c.framer.ReadFrame()
		c.lastFrame = c.loop.Time()
		if err == nil {
			err = c.receive(f)
		}
		if err == nil {
			c.flush()
			continue
		}
		var ofStream http2.StreamError
		var ofConn http2.ConnectionError
		switch {
		case errors.As(err, &ofStream):
			c.malformed(ofStream)
		case errors.As(err, &ofConn):
			c.fail(http2.ErrCode(ofConn), err.Error())
		case errors.Is(err, http2.ErrFrameTooLarge):
			c.fail(http2.ErrCodeFrameSize, "the frame is larger than allowed")
		case errors.Is(err, os.ErrDeadlineExceeded) && !c.sawSettings:
			c.fail(http2.ErrCodeSettingsTimeout, "no SETTINGS came")
		default:
			return onlyCancel(err)
		}
		if c.refusing {
			return nil
		}
		c.flush()
	}
}

// flush has the writer send what out has.
func (c *http2Conn) flush() {
	if len(c.out) > 0 {
		c.wake.set()
	}
}

// leave ends all streams, has the rest sent, and waits for the handlers (h2 7). It returns
// err, or the error of a cancel.
func (c *http2Conn) leave(ctx context.Context, err error) error {
	c.goneAway = true
	for _, st := range inOrder(maps.Values(c.streams)) {
		c.endStream(st, errHTTP2Gone)
	}
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
		for _, st := range inOrder(maps.Keys(c.handlers)) {
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

// linger lets the client read the last frames, and drops what it sends meanwhile. A connection that
// is closed with unread data is reset, and what was sent last is lost.
func (c *http2Conn) linger() error {
	deadline := c.loop.Now().Add(http2Linger)
	_ = c.rwc.SetWriteDeadline(deadline)
	if _, err := c.writer.Await(c.ctx); err != nil {
		return err
	}
	_ = c.rwc.CloseWrite()
	_ = c.rwc.SetReadDeadline(deadline)
	buf := make([]byte, 4<<10)
	for {
		if _, err := c.rwc.Read(buf); err != nil {
			if errors.Is(err, asyncio.ErrCancelled) {
				return err
			}
			return nil
		}
	}
}

// close closes the connection.
func (c *http2Conn) close() {
	for _, timer := range []*asyncio.TimerHandle{c.idleTimer, c.health} {
		if timer != nil {
			timer.Cancel()
		}
	}
	c.writer.Cancel()
	_ = c.rwc.Close()
}

// fail ends the connection with an error for the client.
func (c *http2Conn) fail(code http2.ErrCode, why string) {
	if c.refusing {
		return
	}
	c.refusing = true
	c.s.logf("asynciohttp: HTTP/2 connection from %s: %v: %s", c.of.remote, code, why)
	c.goAway(code)
}

// goAway tells the client that no further stream is accepted.
func (c *http2Conn) goAway(code http2.ErrCode) {
	c.goneAway = true
	_ = c.framer.WriteGoAway(c.maxID, code, nil)
	c.wake.set()
}

// shutdown ends the connection when its streams have ended.
func (c *http2Conn) shutdown() {
	if c.goneAway {
		return
	}
	c.goAway(http2.ErrCodeNo)
	c.closeIfIdle()
}

// closeIfIdle ends a connection that accepts no stream and has none left. The writer closes our
// side; the client then closes its own, or the deadline ends it.
func (c *http2Conn) closeIfIdle() {
	if c.goneAway && !c.refusing && len(c.streams) == 0 {
		c.last = true
		c.wake.set()
		_ = c.rwc.SetReadDeadline(c.loop.Now().Add(http2Linger))
	}
}

// isIdle notes that no stream is left.
func (c *http2Conn) isIdle() {
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
func (c *http2Conn) checkIdle(timeout time.Duration) {
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

// watchHealth sends a PING to a client that has been silent, and ends the connection if no frame
// follows. A silence of zero or less means never.
func (c *http2Conn) watchHealth(silence, answer time.Duration) {
	if silence <= 0 {
		return
	}
	if answer <= 0 {
		answer = 15 * time.Second
	}
	var check func()
	check = func() {
		wait := silence - c.loop.Time().Sub(c.lastFrame)
		switch {
		case wait > 0:
			c.pinged = false
		case c.pinged:
			_ = c.rwc.Close()
			return
		default:
			c.pinged = true
			_ = c.framer.WritePing(false, [8]byte{'a', 's', 'y', 'n', 'c', 'i', 'o', '?'})
			c.wake.set()
			wait = answer
		}
		c.health = c.loop.CallLater(wait, check)
	}
	c.lastFrame = c.loop.Time()
	c.health = c.loop.CallLater(silence, check)
}

// A signal wakes the one task that waits for it.
type signal struct{ waiting *asyncio.Future[asyncio.None] }

func (s *signal) set() {
	if f := s.waiting; f != nil {
		s.waiting = nil
		if !f.Done() {
			_ = f.SetResult(asyncio.None{}) // a loop that is closed has woken it
		}
	}
}

// await suspends the calling task until s is set. It returns the error of a cancel.
func (c *http2Conn) await(s *signal) error {
	t, err := c.task()
	if err != nil {
		return err
	}
	if s.waiting != nil {
		return fmt.Errorf("%w: another task waits there", asyncio.ErrBusy)
	}
	f := asyncio.CreateFuture[asyncio.None](c.ctx)
	s.waiting = f
	_, err = f.Await(t.GetContext())
	if s.waiting == f {
		s.waiting = nil
	}
	return err
}

// task returns the task that runs. It is an error if none does, or this is no goroutine of the
// loop.
func (c *http2Conn) task() (asyncio.AnyTask, error) {
	t, err := callingTask(c.ctx)
	if err == nil && t == nil {
		err = asyncio.ErrNotInTask
	}
	return t, err
}
