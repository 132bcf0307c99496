package asynciohttp

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"iter"
	"maps"
	"net/http"
	"slices"
	"time"

	"golang.org/x/net/http/httpguts"
	"golang.org/x/net/http2"

	"github.com/goasyncio/asyncio"
)

// An http2Stream is a request with its response.
type http2Stream struct {
	c        *http2Conn
	id       uint32
	ctx      context.Context // of the request (h2 8)
	cancel   context.CancelCauseFunc
	request  *http.Request
	response http2Response
	refused  http.Handler // answers instead of the server's handler, nil for a good request
	err      error        // why nothing can be sent any more (h2 4)

	// What is received. The body is body[read:], and then bodyErr.
	remoteEnded bool
	inflow      inflow
	declared    int64 // Content-Length, -1 without it
	received    int64
	body        []byte
	read        int
	bodyErr     error
	bodyClosed  bool
	reading     bool        // a task is in Read
	readable    signal      // for the task that reads
	trailer     http.Header // of the announced fields, as they have come
	expects     bool        // the client waits for 100 Continue
	readTimer   *asyncio.TimerHandle

	// What is sent.
	window     int64
	sendable   signal // for the task that writes
	queued     bool
	writeTimer *asyncio.TimerHandle
}

// An endedStream is what is remembered of a stream that has ended: the client may still have sent
// something for it.
type endedStream struct {
	id  uint32
	how ending
}

type ending uint8

const (
	endedByBoth ending = iota + 1
	resetByClient
	resetByUs
)

// receive does what a frame says. It does not suspend (h2 1).
func (c *http2Conn) receive(f http2.Frame) error {
	if !c.sawSettings {
		if s, ok := f.(*http2.SettingsFrame); !ok || s.IsAck() {
			return http2.ConnectionError(http2.ErrCodeProtocol)
		}
		c.sawSettings = true
		_ = c.rwc.SetReadDeadline(time.Time{})
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
		return c.receiveHeaders(f)
	case *http2.DataFrame:
		return c.receiveData(f)
	case *http2.WindowUpdateFrame:
		return c.receiveWindow(f)
	case *http2.RSTStreamFrame:
		return c.receiveReset(f)
	case *http2.SettingsFrame:
		return c.receiveSettings(f)
	case *http2.PingFrame:
		if !f.IsAck() {
			c.answers++
			_ = c.framer.WritePing(true, f.Data)
		}
	case *http2.PriorityFrame:
		if f.StreamID == f.StreamDep {
			return http2.StreamError{StreamID: f.StreamID, Code: http2.ErrCodeProtocol}
		}
	case *http2.GoAwayFrame:
		if f.ErrCode != http2.ErrCodeNo {
			c.s.logf("asynciohttp: HTTP/2 client %s is leaving: %v: %q", c.of.remote, f.ErrCode, f.DebugData())
		}
		c.shutdown()
	case *http2.PushPromiseFrame:
		return http2.ConnectionError(http2.ErrCodeProtocol) // clients do not push
	}
	return nil
}

func (c *http2Conn) receiveSettings(f *http2.SettingsFrame) error {
	if f.IsAck() {
		if c.unacked--; c.unacked < 0 {
			return http2.ConnectionError(http2.ErrCodeProtocol)
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
			more := int64(s.Val) - c.peerWindow
			c.peerWindow = int64(s.Val)
			for _, st := range c.streams {
				if st.window += more; st.window > http2MaxWindow {
					return http2.ConnectionError(http2.ErrCodeFlowControl)
				}
			}
			if more > 0 {
				for _, st := range inOrder(maps.Values(c.streams)) {
					st.wakeSender()
				}
			}
		case http2.SettingMaxFrameSize:
			// More would keep the others waiting, and gains nothing.
			c.peerFrame = int(min(s.Val, 1<<14))
		}
		return nil
	})
	if err != nil {
		return err
	}
	c.answers++
	return c.framer.WriteSettingsAck()
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
		c.remember(st.id, resetByClient)
		c.endStream(st, http2.StreamError{StreamID: st.id, Code: f.ErrCode})
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
	if st == nil || st.remoteEnded {
		c.giveBack(nil, int(f.Length))
		if st == nil && c.recall(f.StreamID) == resetByUs {
			return nil // the client had not heard of it
		}
		return http2.StreamError{StreamID: f.StreamID, Code: http2.ErrCodeStreamClosed}
	}
	if !st.inflow.take(f.Length) {
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
		return http2.StreamError{StreamID: f.StreamID, Code: http2.ErrCodeProtocol}
	}
	if st.bodyClosed {
		c.giveBack(nil, int(f.Length)) // of the connection: the client should not send more
	} else {
		c.giveBack(st, int(f.Length)-len(data)) // padding
		st.body = append(st.body, data...)
		st.readable.set()
	}
	if f.StreamEnded() {
		return c.receivedEnd(st)
	}
	return nil
}

// receivedEnd ends the client's side of st.
func (c *http2Conn) receivedEnd(st *http2Stream) error {
	if st.declared >= 0 && st.received != st.declared {
		return http2.StreamError{StreamID: st.id, Code: http2.ErrCodeProtocol}
	}
	st.remoteEnded = true
	if st.bodyErr == nil {
		st.bodyErr = io.EOF
	}
	for key, values := range st.trailer {
		st.request.Trailer[key] = values
	}
	st.readable.set()
	return nil
}

func (c *http2Conn) receiveHeaders(f *http2.MetaHeadersFrame) error {
	id := f.StreamID
	if id%2 == 0 {
		return http2.ConnectionError(http2.ErrCodeProtocol)
	}
	if st := c.streams[id]; st != nil {
		return c.receiveTrailer(st, f)
	}
	if id <= c.maxID {
		switch c.recall(id) {
		case resetByUs:
			return nil
		case resetByClient:
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
	st := &http2Stream{c: c, id: id, window: c.peerWindow, declared: -1}
	st.inflow.init(c.settings.streamWindow)
	if err := c.readRequest(st, f); err != nil {
		return err
	}
	if len(c.streams) == 0 {
		c.of.setState(http.StateActive)
	}
	c.streams[id] = st
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
	if len(c.backlog) >= int(4*c.settings.maxStreams) { // (h2 6)
		return http2.ConnectionError(http2.ErrCodeEnhanceYourCalm)
	}
	c.backlog = append(c.backlog, st)
	return nil
}

func (c *http2Conn) receiveTrailer(st *http2Stream, f *http2.MetaHeadersFrame) error {
	if st.remoteEnded {
		return http2.StreamError{StreamID: st.id, Code: http2.ErrCodeStreamClosed}
	}
	if !f.StreamEnded() || len(f.PseudoFields()) > 0 {
		return http2.StreamError{StreamID: st.id, Code: http2.ErrCodeProtocol}
	}
	c.empty = 0
	for _, field := range f.RegularFields() {
		key := canonicalKey(field.Name)
		if !httpguts.ValidTrailerHeader(key) {
			return http2.StreamError{StreamID: st.id, Code: http2.ErrCodeProtocol}
		}
		if _, announced := st.request.Trailer[key]; announced {
			if st.trailer == nil {
				st.trailer = make(http.Header)
			}
			st.trailer[key] = append(st.trailer[key], field.Value)
		}
	}
	return c.receivedEnd(st)
}

// isUnused reports whether the client has not used a stream yet: only HEADERS may come for it.
func (c *http2Conn) isUnused(id uint32) bool { return id > c.maxID || id%2 == 0 }

// isRefused reports whether the client has opened a stream that GOAWAY does not accept, before it
// had heard of that.
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

// inOrder returns streams in the order in which they were opened: the order of a map would make
// runs differ.
func inOrder(streams iter.Seq[*http2Stream]) []*http2Stream {
	return slices.SortedFunc(streams, func(a, b *http2Stream) int { return cmp.Compare(a.id, b.id) })
}

// malformed resets a stream because of what the client has sent.
func (c *http2Conn) malformed(e http2.StreamError) {
	if e.StreamID > c.maxID && e.StreamID%2 == 1 {
		c.maxID = e.StreamID
	}
	if st := c.streams[e.StreamID]; st != nil {
		c.reset(st, e.Code, e)
		return
	}
	c.answers++
	c.remember(e.StreamID, resetByUs)
	_ = c.framer.WriteRSTStream(e.StreamID, e.Code)
}

// reset ends st on both sides. err is for the handler.
func (c *http2Conn) reset(st *http2Stream, code http2.ErrCode, err error) {
	if st.err != nil {
		return
	}
	c.answers++
	c.remember(st.id, resetByUs)
	_ = c.framer.WriteRSTStream(st.id, code)
	c.wake.set()
	c.endStream(st, err)
}

// sentEnd ends our side of st. A client that has not ended its own should send no more.
func (c *http2Conn) sentEnd(st *http2Stream) {
	if !st.remoteEnded {
		c.reset(st, http2.ErrCodeNo, errHTTP2Closed)
		return
	}
	c.remember(st.id, endedByBoth)
	c.endStream(st, errHTTP2Closed)
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
	for _, timer := range []*asyncio.TimerHandle{st.readTimer, st.writeTimer} {
		if timer != nil {
			timer.Cancel()
		}
	}
	if err != errHTTP2Closed { // a handler that has sent all that it has may go on
		st.cancel(errClientGone)
	}
	st.readable.set()
	c.dequeue(st)
	st.sendable.set()
	if len(c.streams) == 0 {
		c.isIdle()
	}
}

// An http2Body is the body of a request.
type http2Body http2Stream

// Read implements [io.Reader]. It suspends the calling task until there is something. Only one task
// may read at a time.
func (b *http2Body) Read(p []byte) (int, error) {
	st := (*http2Stream)(b)
	c := st.c
	if _, err := c.task(); err != nil {
		return 0, fmt.Errorf("%w (in the Read of a request's body)", err)
	}
	if st.reading {
		return 0, fmt.Errorf("%w: the body", asyncio.ErrBusy)
	}
	if st.expects && !st.bodyClosed {
		st.expects = false
		st.response.sendContinue()
	}
	st.reading = true
	defer func() { st.reading = false }()
	for {
		switch {
		case st.bodyClosed:
			return 0, http.ErrBodyReadAfterClose
		case st.read < len(st.body):
			n := copy(p, st.body[st.read:])
			if st.read += n; st.read == len(st.body) {
				st.body, st.read = st.body[:0], 0
			}
			c.giveBack(st, n)
			return n, nil
		case st.bodyErr != nil:
			return 0, st.bodyErr
		case len(p) == 0:
			return 0, nil
		}
		if err := c.await(&st.readable); err != nil {
			return 0, err
		}
	}
}

// Close implements [io.Closer]. It does not suspend.
func (b *http2Body) Close() error {
	st := (*http2Stream)(b)
	if !st.bodyClosed {
		st.bodyClosed = true
		st.c.giveBack(nil, len(st.body)-st.read)
		st.body, st.read = nil, 0
		st.readable.set()
	}
	return nil
}
