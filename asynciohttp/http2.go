package asynciohttp

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/goasyncio/asyncio"
)

// An http2Conn is what both ends of a connection with HTTP/2 do alike: frames, windows, SETTINGS,
// PING, the states of streams, and the limits for a hostile peer. An [http2Server] and an
// [http2Client] embed one, and are its end.
//
//	h2 1: One task reads frames and waits for nothing else, the reader. So a peer that does not read
//	   cannot keep us from reading, and a window that opens is always noticed. What the reader
//	   answers itself is appended to out; too many answers that wait there end the connection.
//	h2 2: One task writes, the writer: all that out has, at once. The others append whole frames to
//	   out. So frames are never cut, and header blocks are sent in the order in which they were
//	   compressed, which they depend on.
//	h2 3: Data is appended only if both windows have room for it and out is short. A sender waits
//	   for the window of its stream by itself, and for the rest in a queue. Whoever leaves the queue
//	   wakes the next if there is room, however the wait has ended. Each takes one frame and then its
//	   place at the end, so that no stream starves.
//	h2 4: A stream is in streams until both sides have ended it or one has reset it; then it has an
//	   error, and nobody waits in it. What has arrived of its body can still be read.
//	h2 5: Bytes of bodies that nobody has read are at most the window of the connection. The window
//	   is opened when they are read, or when nobody will.
//	h2 6: Only the reader calls the end's methods receive…, and they do not suspend. Code of the
//	   program, as a handler or a hook, runs in tasks of its own.
type http2Conn struct {
	end      http2End
	conn     net.Conn        // for tasks
	ctx      context.Context // leads to the loop
	loop     *asyncio.EventLoop
	settings http2Settings

	in      *bufio.Reader
	framer  *http2.Framer // reads from in, by an http2In, and writes to out
	parts   int           // frames of the header block that is read
	encoder *hpack.Encoder
	block   bytes.Buffer // of the encoder

	// What is sent (h2 2).
	out     []byte
	taken   int64  // bytes that the writer has taken out of out
	spare   []byte // the other buffer, while the writer has none in its hands
	answers int    // frames of the reader's in out
	writer  *asyncio.Task[asyncio.None]
	wake    signal // of the writer
	last    bool   // the writer ends when out is empty
	allSent bool   // and has done so

	writeErr error // of the writer

	// What may be sent (h2 3).
	window      int64 // of the connection
	peerWindow  int64 // that a new stream begins with
	peerFrame   int
	queue       []*http2Stream
	sawSettings bool
	unacked     int // our SETTINGS that the peer has not acknowledged

	// What may be received (h2 5).
	inflow     inflow
	due        int64 // bytes of DATA that may still come for streams that we have reset
	empty      int   // frames without effect since emptySince
	emptySince asyncio.Instant

	streams   map[uint32]*http2Stream
	maxID     uint32 // the highest that the client has opened
	ended     [32]endedStream
	endedNext int

	goneAway   bool  // the server has sent GOAWAY: streams above maxID are not accepted
	refusing   bool  // after an error of the connection: nothing is read any more but to be dropped
	heard      int64 // frames
	lastFrame  asyncio.Instant
	health     *asyncio.TimerHandle // asks whether the peer is still there
	pinged     bool
	pingedAt   asyncio.Instant
	beforePing int64 // what heard was when the PING was sent
}

// An http2End is a server or a client, as what both have in common needs it (h2 6).
type http2End interface {
	receiveHeaders(f *http2.MetaHeadersFrame) error
	receiveGoAway(f *http2.GoAwayFrame)

	// receiveSetting gets those that do not concern both ends.
	receiveSetting(s http2.Setting)

	// receivedSettings follows the last of them, and receivedPong an answer to a PING.
	receivedSettings()
	receivedPong()

	// receiveLate says what DATA means for a stream that has ended. Its window is open again.
	receiveLate(id uint32) error

	// receiveMalformed reports whether to reset a stream that is none, for which something
	// malformed has come.
	receiveMalformed(id uint32) bool

	// left follows the end of a stream.
	left()

	// failed hears of an error of the connection before the peer does.
	failed(code http2.ErrCode, why string)
}

// http2Settings are the limits of a connection.
type http2Settings struct {
	maxStreams, maxFrame, tableSize, peerTableSize, headerList uint32
	connWindow, streamWindow                                   int32
	readBuffer                                                 int // bytes to read at a time

	// The peer has to take something within it, unless it is 0.
	writeByte time.Duration
}

const (
	http2PrefaceTimeout  = 10 * time.Second // for the client's first bytes
	http2SettingsTimeout = 2 * time.Second  // for its SETTINGS
	http2Linger          = time.Second      // for the peer to read why the connection ends
	http2PingTimeout     = 15 * time.Second // for an answer, where nobody says otherwise
	http2MaxAnswers      = 10000            // frames that the peer has us send and does not read
	http2MaxEmpty        = 10000            // frames without effect in http2EmptyTime
	http2EmptyTime       = 10 * time.Second
	http2OutLimit        = 64 << 10  // bytes in out at which senders wait
	http2BufferKept      = 256 << 10 // a larger buffer goes to the collector
	http2FirstWindow     = 65535     // before SETTINGS and WINDOW_UPDATE
	http2MaxWindow       = 1<<31 - 1
)

// configure takes what the program has set.
func (s *http2Settings) configure(c *http.HTTP2Config) {
	if c == nil {
		return
	}
	set := func(to *uint32, v int) {
		if v > 0 {
			*to = uint32(min(v, http2MaxWindow))
		}
	}
	s.writeByte = c.WriteByteTimeout
	set(&s.maxStreams, c.MaxConcurrentStreams)
	set(&s.tableSize, c.MaxDecoderHeaderTableSize)
	set(&s.peerTableSize, c.MaxEncoderHeaderTableSize)
	if c.MaxReadFrameSize >= 1<<14 && c.MaxReadFrameSize < 1<<24 {
		s.maxFrame = uint32(c.MaxReadFrameSize)
	}
	if c.MaxReceiveBufferPerConnection >= 64<<10 {
		s.connWindow = int32(min(c.MaxReceiveBufferPerConnection, http2MaxWindow))
	}
	if c.MaxReceiveBufferPerStream > 0 {
		s.streamWindow = int32(min(c.MaxReceiveBufferPerStream, http2MaxWindow))
	}
}

// init makes c ready for conn, which is read from in.
func (c *http2Conn) init(ctx context.Context, loop *asyncio.EventLoop, end http2End, conn net.Conn, in io.Reader, limits http2Settings) {
	*c = http2Conn{
		end: end, conn: conn, ctx: ctx, loop: loop, settings: limits,
		window: http2FirstWindow, peerWindow: http2FirstWindow, peerFrame: 1 << 14,
		streams: make(map[uint32]*http2Stream),
	}
	c.in = bufio.NewReaderSize(in, limits.readBuffer)
	c.framer = http2.NewFramer((*http2Out)(c), (*http2In)(c))
	c.framer.SetReuseFrames()
	c.framer.SetMaxReadFrameSize(limits.maxFrame)
	c.framer.ReadMetaHeaders = hpack.NewDecoder(limits.tableSize, nil)
	c.framer.MaxHeaderListSize = limits.headerList
	c.encoder = hpack.NewEncoder(&c.block)
	c.encoder.SetMaxDynamicTableSizeLimit(limits.peerTableSize)
	c.inflow.init(limits.connWindow)
}

// hello sends our SETTINGS, and opens the connection's window.
func (c *http2Conn) hello(settings ...http2.Setting) {
	_ = c.framer.WriteSettings(settings...)
	c.unacked++
	if more := c.settings.connWindow - http2FirstWindow; more > 0 {
		_ = c.framer.WriteWindowUpdate(0, uint32(more))
	}
}

// startWriter starts the writer, in a task of ctx.
func (c *http2Conn) startWriter(ctx context.Context) {
	c.writer = asyncio.CreateTask(ctx, asyncio.Do(c.write), asyncio.TaskName("HTTP/2 writer"))
	c.writer.AddDoneCallback(c.wrote)
}

// readFrames is the reader's work. It returns the error of the connection, or nil if we have found
// one and told the peer.
func (c *http2Conn) readFrames() error {
	for {
		c.parts = 0
		f, err := c.framer.ReadFrame()
		c.lastFrame = c.loop.Time()
		c.heard++
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
			if ofStream.Cause == nil {
				ofStream.Cause = c.framer.ErrorDetail()
			}
			c.malformed(ofStream)
		case errors.As(err, &ofConn):
			c.fail(http2.ErrCode(ofConn), err.Error())
		case errors.Is(err, http2.ErrFrameTooLarge):
			c.fail(http2.ErrCodeFrameSize, "the frame is larger than allowed")
		case errors.Is(err, os.ErrDeadlineExceeded) && !c.sawSettings:
			c.fail(http2.ErrCodeSettingsTimeout, "no SETTINGS came")
		default:
			return err
		}
		if c.refusing {
			return nil
		}
		c.flush()
	}
}

// http2In is the connection as the framer's reader. The framer limits the size of a header block,
// but not the number of its frames, which may be empty. They are counted by their first bytes.
type http2In http2Conn

func (in *http2In) Read(p []byte) (int, error) {
	const head = 9
	if len(p) == head {
		if in.parts++; in.parts > http2MaxEmpty {
			return 0, http2.ConnectionError(http2.ErrCodeEnhanceYourCalm)
		}
	}
	return in.in.Read(p)
}

// flush has the writer send what out has.
func (c *http2Conn) flush() {
	if len(c.out) > 0 {
		c.wake.set()
	}
}

// abandon ends all streams with err.
func (c *http2Conn) abandon(err error) {
	for _, st := range c.all() {
		c.endStream(st, err)
	}
}

// all returns the streams in the order in which they were opened: the order of a map would make
// runs differ.
func (c *http2Conn) all() []*http2Stream {
	all := make([]*http2Stream, 0, len(c.streams))
	for _, st := range c.streams {
		all = append(all, st)
	}
	slices.SortFunc(all, func(a, b *http2Stream) int { return cmp.Compare(a.id, b.id) })
	return all
}

// linger lets the peer read the last frames, and drops what it sends meanwhile. A connection that
// is closed with unread data is reset, and what was sent last is lost. It suspends the reader, and
// returns the error of a cancel.
func (c *http2Conn) linger() error {
	deadline := c.loop.Now().Add(http2Linger)
	_ = c.conn.SetWriteDeadline(deadline)
	if _, err := c.writer.Await(c.ctx); err != nil {
		return err
	}
	c.closeWrite()
	_ = c.conn.SetReadDeadline(deadline)
	buf := make([]byte, 4<<10)
	for {
		if _, err := c.conn.Read(buf); err != nil {
			return onlyCancel(err)
		}
	}
}

// closeWrite ends what is sent, where the connection can do that.
func (c *http2Conn) closeWrite() {
	if conn, ok := c.conn.(interface{ CloseWrite() error }); ok {
		_ = conn.CloseWrite() // the peer may have gone
	}
}

// close closes the connection.
func (c *http2Conn) close() {
	if c.health != nil {
		c.health.Cancel()
	}
	c.writer.Cancel()
	_ = c.conn.Close()
}

// fail ends the connection with an error for the peer.
func (c *http2Conn) fail(code http2.ErrCode, why string) {
	if c.refusing {
		return
	}
	c.refusing = true
	c.end.failed(code, why)
	c.goAway(code)
}

// goAway tells the peer that no further stream is accepted.
func (c *http2Conn) goAway(code http2.ErrCode) {
	c.goneAway = true
	_ = c.framer.WriteGoAway(c.maxID, code, nil)
	c.wake.set()
}

// watchHealth sends a PING to a peer that has been silent, and calls lost if no frame follows. A
// silence of zero or less means never.
func (c *http2Conn) watchHealth(of *http.HTTP2Config, lost func()) {
	if of == nil || of.SendPingTimeout <= 0 {
		return
	}
	silence, answer := of.SendPingTimeout, of.PingTimeout
	if answer <= 0 {
		answer = http2PingTimeout
	}
	var check func()
	check = func() {
		now := c.loop.Time()
		c.pinged = c.pinged && c.heard == c.beforePing
		wait := silence - now.Sub(c.lastFrame)
		if !c.pinged && wait <= 0 {
			c.pinged, c.pingedAt, c.beforePing = true, now, c.heard
			c.ping()
		}
		if c.pinged {
			left := answer - now.Sub(c.pingedAt)
			if left <= 0 {
				lost()
				return
			}
			wait = min(left, silence) // the answer may be followed by silence
		}
		c.health = c.loop.CallLater(wait, check)
	}
	c.lastFrame = c.loop.Time()
	c.health = c.loop.CallLater(silence, check)
}

// ping asks the peer to answer.
func (c *http2Conn) ping() {
	_ = c.framer.WritePing(false, [8]byte{'a', 's', 'y', 'n', 'c', 'i', 'o', '?'})
	c.wake.set()
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
	return c.awaitWithin(t.GetContext(), s)
}

// awaitWithin is await, and ends with ctx too.
func (c *http2Conn) awaitWithin(ctx context.Context, s *signal) error {
	if s.waiting != nil {
		return fmt.Errorf("%w: another task waits there", asyncio.ErrBusy)
	}
	f := asyncio.CreateFuture[asyncio.None](c.ctx)
	s.waiting = f
	_, err := f.Await(ctx)
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
