package asynciohttp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"golang.org/x/net/http2"

	"github.com/goasyncio/asyncio"
)

// An http2Stream is what a stream is for both ends. A [serverStream] and a [clientStream] embed
// one, and are its end.
type http2Stream struct {
	end http2StreamEnd
	c   *http2Conn
	id  uint32
	err error // why nothing can be sent any more (h2 4)

	// What is received. The body is body[read:], and then bodyErr.
	remoteEnded bool
	early       bool // DATA must not come yet
	inflow      inflow
	ahead       int32 // of inflow, until the peer has heard of our SETTINGS
	declared    int64 // Content-Length, -1 without it
	received    int64
	body        []byte
	read        int
	bodyErr     error
	bodyClosed  bool
	reading     bool   // a task is in Read
	readable    signal // for the task that reads

	// What is sent.
	localEnded bool
	window     int64
	sendable   signal // for the task that writes
	queued     bool
}

// An http2StreamEnd is a stream of a server or of a client, as what both have in common needs it.
type http2StreamEnd interface {
	// halfEnded says that one side has ended the stream, and not yet the other.
	halfEnded()

	// over says that the stream has ended, on both sides if err is errHTTP2Closed.
	over(err error)
}

// errHTTP2Closed is the error of a stream that both sides have ended, or the server alone.
var errHTTP2Closed = errors.New("asynciohttp: the stream is closed")

// errFromPeer is the cause of a stream's error that the peer has sent.
var errFromPeer = errors.New("received from the peer")

// Why a body is not what its Content-Length says.
var (
	errBodyShort = fmt.Errorf("asynciohttp: the body is shorter than its Content-Length: %w", io.ErrUnexpectedEOF)
	errBodyLong  = errors.New("asynciohttp: the body is longer than its Content-Length")
)

// An endedStream is what is remembered of a stream that has ended: the peer may still have sent
// something for it.
type endedStream struct {
	id  uint32
	how ending
}

type ending uint8

const (
	endedByBoth ending = iota + 1
	resetByPeer
	resetByUs
)

// open makes st the stream with the given id.
func (c *http2Conn) open(st *http2Stream, end http2StreamEnd, id uint32) {
	st.end, st.c, st.id, st.window, st.declared = end, c, id, c.peerWindow, -1
	st.inflow.init(c.settings.streamWindow)
}

// receive does what a frame says. It does not suspend (h2 1).
func (c *http2Conn) receive(f http2.Frame) error {
	if !c.sawSettings {
		if s, ok := f.(*http2.SettingsFrame); !ok || s.IsAck() {
			return http2.ConnectionError(http2.ErrCodeProtocol)
		}
		c.sawSettings = true
		_ = c.conn.SetReadDeadline(time.Time{})
	}
	if c.lastFrame.Sub(c.emptySince) > http2EmptyTime {
		c.empty, c.emptySince = 0, c.lastFrame
	}
	c.empty++ // unless the frame has an effect
	if c.answers > http2MaxAnswers || c.empty > http2MaxEmpty {
		return http2.ConnectionError(http2.ErrCodeEnhanceYourCalm)
	}
	switch f := f.(type) {
	case *http2.MetaHeadersFrame:
		return c.end.receiveHeaders(f)
	case *http2.DataFrame:
		return c.receiveData(f)
	case *http2.WindowUpdateFrame:
		return c.receiveWindow(f)
	case *http2.RSTStreamFrame:
		return c.receiveReset(f)
	case *http2.SettingsFrame:
		return c.receiveSettings(f)
	case *http2.PingFrame:
		if f.IsAck() {
			c.end.receivedPong()
			return nil
		}
		c.answers++
		_ = c.framer.WritePing(true, f.Data)
	case *http2.PriorityFrame:
		if f.StreamID == f.StreamDep {
			return http2.StreamError{StreamID: f.StreamID, Code: http2.ErrCodeProtocol}
		}
	case *http2.GoAwayFrame:
		c.end.receiveGoAway(f)
	case *http2.PushPromiseFrame:
		return http2.ConnectionError(http2.ErrCodeProtocol) // clients do not push, and accept none
	}
	return nil
}

func (c *http2Conn) receiveSettings(f *http2.SettingsFrame) error {
	if f.IsAck() {
		if c.unacked--; c.unacked < 0 {
			return http2.ConnectionError(http2.ErrCodeProtocol)
		}
		for _, st := range c.streams {
			st.inflow.avail -= st.ahead // which may be less than nothing then
			st.ahead = 0
		}
		return nil
	}
	if f.NumSettings() > 100 {
		return http2.ConnectionError(http2.ErrCodeProtocol)
	}
	err := f.ForeachSetting(func(s http2.Setting) error {
		if err := s.Valid(); err != nil {
			return err
		}
		switch s.ID {
		case http2.SettingHeaderTableSize:
			c.encoder.SetMaxDynamicTableSize(s.Val)
		case http2.SettingInitialWindowSize:
			return c.changeWindows(int64(s.Val))
		case http2.SettingMaxFrameSize:
			// More would keep the others waiting, and gains nothing.
			c.peerFrame = int(min(s.Val, 1<<14))
		default:
			c.end.receiveSetting(s)
		}
		return nil
	})
	if err != nil {
		return err
	}
	c.answers++
	if err := c.framer.WriteSettingsAck(); err != nil {
		return err
	}
	c.end.receivedSettings()
	return nil
}

// changeWindows changes what a stream may send at its beginning, also for those that have begun.
func (c *http2Conn) changeWindows(to int64) error {
	more := to - c.peerWindow
	c.peerWindow = to
	for _, st := range c.all() {
		if st.window += more; st.window > http2MaxWindow {
			return http2.ConnectionError(http2.ErrCodeFlowControl)
		}
		if more > 0 {
			st.wakeSender()
		}
	}
	return nil
}

func (c *http2Conn) receiveWindow(f *http2.WindowUpdateFrame) error {
	more := int64(f.Increment)
	if f.StreamID == 0 {
		if c.window += more; c.window > http2MaxWindow {
			return http2.ConnectionError(http2.ErrCodeFlowControl)
		}
		c.admit()
		return nil
	}
	if c.isRefused(f.StreamID) {
		return nil
	}
	if c.isUnused(f.StreamID) {
		return http2.ConnectionError(http2.ErrCodeProtocol)
	}
	st := c.streams[f.StreamID]
	if st == nil {
		return nil // it is on its way after the end
	}
	if st.window += more; st.window > http2MaxWindow {
		return http2.StreamError{StreamID: st.id, Code: http2.ErrCodeFlowControl}
	}
	st.wakeSender()
	return nil
}

// wakeSender wakes the task that waits for the stream's window, but none that waits in the queue.
func (st *http2Stream) wakeSender() {
	if !st.queued && st.window > 0 {
		st.sendable.set()
	}
}

func (c *http2Conn) receiveReset(f *http2.RSTStreamFrame) error {
	if c.isRefused(f.StreamID) {
		return nil
	}
	if c.isUnused(f.StreamID) {
		return http2.ConnectionError(http2.ErrCodeProtocol)
	}
	if st := c.streams[f.StreamID]; st != nil {
		c.remember(st.id, resetByPeer)
		c.endStream(st, http2.StreamError{StreamID: st.id, Code: f.ErrCode, Cause: errFromPeer})
	}
	return nil
}

func (c *http2Conn) receiveData(f *http2.DataFrame) error {
	refused := c.isRefused(f.StreamID)
	if c.isUnused(f.StreamID) && !refused {
		return http2.ConnectionError(http2.ErrCodeProtocol)
	}
	if !c.inflow.take(f.Length) {
		return http2.ConnectionError(http2.ErrCodeFlowControl)
	}
	if refused {
		c.giveBack(nil, int(f.Length))
		return nil
	}
	st := c.streams[f.StreamID]
	switch {
	case st == nil:
		c.giveBack(nil, int(f.Length))
		if n := int64(len(f.Data())); n > 0 && n <= c.due { // it was under way
			c.due -= n
			c.empty--
		}
		return c.end.receiveLate(f.StreamID)
	case st.remoteEnded:
		c.giveBack(nil, int(f.Length))
		return http2.StreamError{StreamID: f.StreamID, Code: http2.ErrCodeStreamClosed}
	case st.early:
		c.giveBack(nil, int(f.Length))
		return http2.StreamError{StreamID: f.StreamID, Code: http2.ErrCodeProtocol, Cause: errors.New("DATA before HEADERS")}
	case !st.inflow.take(f.Length):
		c.giveBack(nil, int(f.Length))
		return http2.StreamError{StreamID: f.StreamID, Code: http2.ErrCodeFlowControl}
	}
	data := f.Data()
	if len(data) > 0 || f.StreamEnded() {
		c.empty = 0
	}
	st.received += int64(len(data))
	if st.declared >= 0 && st.received > st.declared {
		c.giveBack(nil, int(f.Length))
		return http2.StreamError{StreamID: f.StreamID, Code: http2.ErrCodeProtocol, Cause: errBodyLong}
	}
	if st.bodyClosed {
		c.giveBack(nil, int(f.Length)) // of the connection: the peer should not send more
	} else {
		c.giveBack(st, int(f.Length)-len(data)) // padding
		st.keep(data)
		st.readable.set()
	}
	if f.StreamEnded() {
		return c.receivedEnd(st)
	}
	return nil
}

// keep puts data into the body's buffer, which is one of all streams' if that is worth it.
func (st *http2Stream) keep(data []byte) {
	if st.body == nil && len(data) > http2SmallBody {
		st.body = takeFrom(&http2Bodies)
	}
	st.body = append(st.body, data...)
}

// drop gives the body's buffer away.
func (st *http2Stream) drop() {
	if cap(st.body) == http2BodyBuffer {
		giveTo(&http2Bodies, st.body)
	}
	st.body, st.read = nil, 0
}

// receivedEnd ends the peer's side of st.
func (c *http2Conn) receivedEnd(st *http2Stream) error {
	if st.declared >= 0 && st.received != st.declared {
		return http2.StreamError{StreamID: st.id, Code: http2.ErrCodeProtocol, Cause: errBodyShort}
	}
	st.remoteEnded = true
	if st.bodyErr == nil {
		st.bodyErr = io.EOF
	}
	st.readable.set()
	c.halfEnded(st)
	return nil
}

// sentEnd ends our side of st.
func (c *http2Conn) sentEnd(st *http2Stream) {
	st.localEnded = true
	c.halfEnded(st)
}

// halfEnded follows the end of one side of st.
func (c *http2Conn) halfEnded(st *http2Stream) {
	if st.localEnded && st.remoteEnded {
		c.remember(st.id, endedByBoth)
		c.endStream(st, errHTTP2Closed)
		return
	}
	st.end.halfEnded()
}

// isUnused reports whether the client has not used a stream yet.
func (c *http2Conn) isUnused(id uint32) bool { return id > c.maxID || id%2 == 0 }

// isRefused reports whether a client has opened a stream that GOAWAY does not accept, before it had
// heard of that.
func (c *http2Conn) isRefused(id uint32) bool {
	return c.goneAway && id > c.maxID && id%2 == 1
}

func (c *http2Conn) remember(id uint32, how ending) {
	c.ended[c.endedNext] = endedStream{id, how}
	c.endedNext = (c.endedNext + 1) % len(c.ended)
}

// recall says how a stream has ended, if that is remembered.
func (c *http2Conn) recall(id uint32) ending {
	for _, e := range c.ended {
		if e.id == id {
			return e.how
		}
	}
	return 0
}

// malformed resets a stream because of what the peer has sent.
func (c *http2Conn) malformed(e http2.StreamError) {
	if st := c.streams[e.StreamID]; st != nil {
		var err error = e
		if e.Cause == errBodyShort || e.Cause == errBodyLong {
			err = e.Cause
		}
		c.reset(st, e.Code, err)
		return
	}
	if !c.end.receiveMalformed(e.StreamID) {
		return
	}
	c.answers++
	c.remember(e.StreamID, resetByUs)
	_ = c.framer.WriteRSTStream(e.StreamID, e.Code)
}

// reset ends st on both sides. err is for those who use it.
func (c *http2Conn) reset(st *http2Stream, code http2.ErrCode, err error) {
	if st.err != nil {
		return
	}
	c.answers++
	c.remember(st.id, resetByUs)
	if !st.remoteEnded {
		c.due += max(int64(st.inflow.avail), 0)
	}
	_ = c.framer.WriteRSTStream(st.id, code)
	c.wake.set()
	c.endStream(st, err)
}

// endStream takes st out of the connection's streams (h2 4).
func (c *http2Conn) endStream(st *http2Stream, err error) {
	if st.err != nil {
		return
	}
	st.err = err
	delete(c.streams, st.id)
	if st.bodyErr == nil {
		st.bodyErr = err
	}
	st.end.over(err)
	st.readable.set()
	c.dequeue(st)
	st.sendable.set()
	c.end.left()
}

// readBody reads from the body, and suspends the calling task until there is something, or ctx
// ends. Only one task may read at a time. what is the body's name for errors.
func (st *http2Stream) readBody(ctx context.Context, p []byte, what string) (int, error) {
	if st.reading {
		return 0, fmt.Errorf("%w: %s", asyncio.ErrBusy, what)
	}
	st.reading = true
	defer func() { st.reading = false }()
	for {
		switch {
		case st.bodyClosed:
			return 0, errBodyClosed
		case st.read < len(st.body):
			n := copy(p, st.body[st.read:])
			if st.read += n; st.read == len(st.body) {
				st.drop()
			}
			st.c.giveBack(st, n)
			return n, nil
		case st.bodyErr != nil:
			return 0, st.bodyErr
		case len(p) == 0:
			return 0, nil
		}
		if err := st.c.awaitWithin(ctx, &st.readable); err != nil {
			return 0, err
		}
	}
}

// errBodyClosed is what readBody returns after closeBody.
var errBodyClosed = errors.New("asynciohttp: the body is closed")

// closeBody drops what has come of the body, and what will.
func (st *http2Stream) closeBody() {
	if !st.bodyClosed {
		st.bodyClosed = true
		st.c.giveBack(nil, len(st.body)-st.read)
		st.drop()
		st.readable.set()
	}
}
