package asynciohttp

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/goasyncio/asyncio"
)

// An http2Conn is a connection that speaks HTTP/2: what a server's and a client's have in common.
//
//	h2 1: One task reads frames and waits for nothing else. So a peer that does not read cannot keep
//	   this side from reading, and a window that opens is always noticed. What the reader answers
//	   itself is appended to out; too many answers that wait there end the connection.
//	h2 2: One task writes, the writer: all that out has, at once. The others append whole frames to
//	   out. So frames are never cut, and header blocks are sent in the order in which they were
//	   compressed, which they depend on.
//	h2 3: Data is appended only if both windows have room for it and out is short. A task waits for
//	   the window of its stream by itself, and for the rest in a queue. Whoever leaves the queue
//	   wakes the next if there is room, however the wait has ended. Each takes one frame and then its
//	   place at the end, so that no stream starves.
//	h2 4: A stream is in streams until both sides have ended it or one has reset it; then it has an
//	   error, and nobody waits in it. Nothing is sent for it any more.
//	h2 5: Bytes of bodies that nobody has read are at most the window of the connection. The window
//	   is opened when they are read, or when nobody will.
type http2Conn struct {
	rwc      stream
	ctx      context.Context // of the connection
	loop     *asyncio.EventLoop
	end      http2End
	isServer bool
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
	unacked     int // our SETTINGS that the peer has not acknowledged

	// What may be received (h2 5).
	inflow     inflow
	empty      int // frames without effect since emptySince
	emptySince asyncio.Instant

	streams   map[uint32]*http2Stream
	maxID     uint32 // the highest that the client has opened
	ended     [32]endedStream
	endedNext int

	goneAway  bool // no further stream is opened
	refusing  bool // after an error of the connection: nothing is read any more but to be dropped
	lastFrame asyncio.Instant
	health    *asyncio.TimerHandle // asks whether the peer is still there
	pinged    bool
}

// An http2End is what only a server does, or only a client. Its methods do not suspend.
type http2End interface {
	receiveHeaders(f *http2.MetaHeadersFrame) error
	receiveGoAway(f *http2.GoAwayFrame)
	receivePeerSettings(f *http2.SettingsFrame)
	localEnded(st *http2Stream)  // our side has ended
	remoteEnded(st *http2Stream) // the peer's has, and all of the body is there
	streamEnded(st *http2Stream) // it is in streams no more
	failed(code http2.ErrCode, why string)
}

// http2Settings are the limits of a connection.
type http2Settings struct {
	maxStreams, maxFrame, tableSize, peerTableSize, headerList uint32
	connWindow, streamWindow                                   int32

	// The peer has to take something within it, unless it is 0.
	writeByte time.Duration
}

const (
	http2PrefaceTimeout  = 10 * time.Second // for the client's first bytes
	http2SettingsTimeout = 2 * time.Second  // for the peer's SETTINGS
	http2Linger          = time.Second      // for the peer to read why the connection ends
	http2MaxAnswers      = 10000            // frames that the peer makes us send and does not read
	http2MaxEmpty        = 10000            // frames without effect in http2EmptyTime
	http2EmptyTime       = 10 * time.Second
	http2OutLimit        = 64 << 10  // bytes in out at which tasks wait
	http2BufferKept      = 256 << 10 // a larger buffer goes to the collector
	http2MaxWindow       = 1<<31 - 1
)

// newHTTP2Conn returns a connection that reads from from.
func newHTTP2Conn(ctx context.Context, loop *asyncio.EventLoop, rwc stream, from io.Reader, limits http2Settings, end http2End) *http2Conn {
	c := &http2Conn{
		rwc: rwc, ctx: ctx, loop: loop, settings: limits, end: end,
		window: 65535, peerWindow: 65535, peerFrame: 1 << 14,
		streams: make(map[uint32]*http2Stream),
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

// hello sends our SETTINGS and starts the writer.
func (c *http2Conn) hello(ctx context.Context, settings ...http2.Setting) {
	l := c.settings
	_ = c.framer.WriteSettings(append([]http2.Setting{
		{ID: http2.SettingMaxFrameSize, Val: l.maxFrame},
		{ID: http2.SettingMaxHeaderListSize, Val: l.headerList},
		{ID: http2.SettingHeaderTableSize, Val: l.tableSize},
		{ID: http2.SettingInitialWindowSize, Val: uint32(l.streamWindow)},
	}, settings...)...)
	c.unacked++
	if more := l.connWindow - 65535; more > 0 {
		_ = c.framer.WriteWindowUpdate(0, uint32(more))
	}
	c.writer = asyncio.CreateTask(ctx, asyncio.Do(c.write), asyncio.TaskName("HTTP/2 writer"))
	c.writer.AddDoneCallback(c.wrote)
}

// readFrames reads frames until the connection ends. It returns why, or nil if the peer has ended
// it, or was told that it ends.
func (c *http2Conn) readFrames() error {
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
			return c.unlessGone(err)
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

// unlessGone returns nil for the errors with which a peer leaves.
func (c *http2Conn) unlessGone(err error) error {
	var op *net.OpError
	switch {
	case err == io.EOF, err == io.ErrUnexpectedEOF, errors.Is(err, net.ErrClosed), errors.Is(err, os.ErrDeadlineExceeded):
		return nil
	case errors.Is(err, asyncio.ErrCancelled), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	case errors.As(err, &op):
		return nil
	}
	return err
}

// endAll ends every stream, and has the writer end.
func (c *http2Conn) endAll(err error) {
	c.goneAway = true
	for _, st := range c.inOrder() {
		c.endStream(st, err)
	}
	c.last = true
	c.wake.set()
}

// linger lets the peer read the last frames, and drops what it sends meanwhile. A connection that
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

// close closes the connection once the writer has sent what it can.
func (c *http2Conn) close() {
	if c.health != nil {
		c.health.Cancel()
	}
	if len(c.out) > 0 || !c.writer.Done() {
		c.writer.Cancel()
	}
	_ = c.rwc.Close()
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

// watchHealth sends a PING to a peer that has been silent, and ends the connection if no frame
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
