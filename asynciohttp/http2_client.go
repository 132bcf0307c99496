package asynciohttp

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"slices"

	"golang.org/x/net/http2"

	"github.com/goasyncio/asyncio"
)

// An http2Client is a connection of a [Transport] that speaks HTTP/2.
//
//	http2client 1: It is shared while the pool has it in its host's list: it has not been told to end
//	   (by GOAWAY, by an error, because a request asked for it), and then it takes requests up to the
//	   server's limit. Places that were promised and not taken yet count as streams (reserved).
//	http2client 2: It is closed when it is not shared and has no stream. Until then it is idle, for
//	   the pool, when it has no stream.
//	http2client 3: A request whose frames are still in out was never sent. A server can say that it
//	   has not processed a request: by GOAWAY with a lower stream, or by REFUSED_STREAM. Both are
//	   sent again (transport 4).
//	http2client 4: A stream that we reset on a connection that has been silent since the stream began
//	   keeps its place until the server answers a PING. So a server that does not respond gets no
//	   more requests than it allows.
//	http2client 5: The reader parses the heads of responses and hands them over. Hooks are called by
//	   the task of the request (h2 6).
type http2Client struct {
	http2Conn
	of     *clientConn
	reader *asyncio.Task[asyncio.None]

	max      uint32 // streams that the server allows
	limited  bool   // its SETTINGS have come
	maxBlock uint64 // and the size of a header
	fields   headerFields
	reserved int
	single   bool // for one request
	shared   bool // http2client 1
	gone     bool // it has no stream, and gets none
	closed   bool
	answered bool // a response has come
	lost     error
	away     *http2.GoAwayFrame // what GOAWAY said, nil if it did not come
	awaySaid string

	// For http2client 4.
	unsure int  // streams that keep their place
	quiet  bool // no PING for them, until a response comes: some servers count PINGs
}

const (
	http2FirstStreams   = 100 // before the server's first SETTINGS
	http2DefaultStreams = 1000
)

// The errors of connections.
var (
	errHTTP2Unused = errors.New("asynciohttp: the connection is closed, as it is not used")
	errHTTP2Left   = errors.New("asynciohttp: the connection takes no more requests")
	errHTTP2Silent = errors.New("asynciohttp: the connection is lost: the server does not answer a PING (HTTP2Config.PingTimeout)")
)

// unprocessed is the error of a request that the server has not processed (http2client 3).
type unprocessed struct{ err error }

func (u *unprocessed) Error() string { return u.err.Error() }
func (u *unprocessed) Unwrap() error { return u.err }

// newHTTP2Client begins HTTP/2 on a connection.
func newHTTP2Client(of *clientConn) *http2Client {
	p, t := of.pool, of.pool.t
	limits := http2Settings{
		maxFrame:      16 << 10,
		tableSize:     4096,
		peerTableSize: 4096,
		headerList:    uint32(min(t.maxHeader(), 1<<30)),
		connWindow:    1 << 30, // an unread response is not to keep the others waiting
		streamWindow:  4 << 20,
		readBuffer:    32 << 10, // there are few such connections, and much comes on each
	}
	limits.configure(t.HTTP2)
	c := &http2Client{of: of, max: cmp.Or(of.host.streams, http2FirstStreams), maxBlock: math.MaxUint64, single: t.DisableKeepAlives}
	ctx := p.loop.Context()
	c.init(ctx, p.loop, c, of.conn, of.conn, limits)
	c.out = append(getHTTP2Buffer(), http2.ClientPreface...)
	settings := []http2.Setting{
		{ID: http2.SettingEnablePush, Val: 0},
		{ID: http2.SettingInitialWindowSize, Val: uint32(limits.streamWindow)},
		{ID: http2.SettingMaxFrameSize, Val: limits.maxFrame},
		{ID: http2.SettingMaxHeaderListSize, Val: limits.headerList},
	}
	if limits.tableSize != 4096 {
		settings = append(settings, http2.Setting{ID: http2.SettingHeaderTableSize, Val: limits.tableSize})
	}
	c.hello(settings...)
	c.startWriter(ctx)
	c.watchHealth(t.HTTP2, func() { c.shut(&lostConn{err: errHTTP2Silent}) })
	c.reader = asyncio.CreateTask(ctx, asyncio.Do(c.run), asyncio.TaskName("HTTP/2 reader"))
	// a task that is cancelled before its first step is not entered
	c.reader.AddDoneCallback(func(*asyncio.Task[asyncio.None]) { c.shut(c.why(nil)) })
	return c
}

// run is the body of the reader's task.
func (c *http2Client) run(context.Context) error {
	defer func() { // also if the loop closes and unwinds the task
		c.shut(c.why(nil))
		_ = c.conn.Close()
	}()
	err := c.readFrames()
	why := c.why(err)
	if c.refusing {
		c.leave(why)
		c.last = true
		c.wake.set()
		err = c.linger()
	}
	c.shut(why)
	return onlyCancel(err)
}

// why returns the error for the requests of a connection that ended with err. Only one that was
// lost is a reason to send them again (transport 4).
func (c *http2Client) why(err error) error {
	if c.lost != nil {
		return c.lost
	}
	switch {
	case c.away != nil:
		err = fmt.Errorf("asynciohttp: the server has sent GOAWAY and closed the connection: LastStreamID=%d, ErrCode=%v, debug=%q", c.away.LastStreamID, c.away.ErrCode, c.awaySaid)
	case c.writeErr != nil && onlyCancel(c.writeErr) == nil:
		err = c.writeErr
	case err == io.EOF:
		err = io.ErrUnexpectedEOF
	case err == nil || onlyCancel(err) != nil: // in words: it is no cancel of the request's task
		err = fmt.Errorf("asynciohttp: the task of the connection has ended: %w", net.ErrClosed)
	}
	c.lost = &lostConn{err: err}
	return c.lost
}

// shut closes the connection, and ends its requests with err.
func (c *http2Client) shut(err error) {
	c.leave(err)
	if !c.closed {
		c.closed = true
		if err == errHTTP2Unused {
			c.part()
		} else {
			c.close()
		}
		c.of.drop()
	}
}

// part closes the connection when what is left of requests is sent, for which there is a little
// time.
func (c *http2Client) part() {
	if c.wake.waiting != nil && len(c.out) == 0 {
		c.close()
		return
	}
	if c.health != nil {
		c.health.Cancel()
	}
	_ = c.conn.SetWriteDeadline(c.loop.Now().Add(http2Linger))
	c.settings.writeByte = 0
	c.last = true
	c.wake.set()
	c.writer.AddDoneCallback(func(*asyncio.Task[asyncio.None]) { c.close() })
}

// leave ends the requests with err, and keeps c from getting others.
func (c *http2Client) leave(err error) {
	if c.gone {
		return
	}
	c.gone = true
	if c.lost == nil {
		c.lost = err
	}
	c.unshare()
	c.abandon(err)
}

// join makes c a connection for its host's further requests, and keeps a place for the one that has
// dialled it.
func (c *http2Client) join() {
	c.reserved = 1
	if !c.single && !c.gone {
		c.shared = true
		c.of.host.shared = append(c.of.host.shared, c.of)
	}
}

// unshare keeps c from getting further requests (http2client 1).
func (c *http2Client) unshare() {
	if c.shared {
		c.shared = false
		h := c.of.host
		h.shared = slices.DeleteFunc(h.shared, func(other *clientConn) bool { return other == c.of })
	}
}

// retire ends c as soon as it has no stream.
func (c *http2Client) retire() {
	c.unshare()
	if c.of.idle {
		c.shut(errHTTP2Unused)
		return
	}
	c.left()
}

// room returns how many requests c can take.
func (c *http2Client) room() int {
	if !c.shared || int64(c.maxID)+2*int64(c.reserved) >= math.MaxInt32-2 {
		return 0
	}
	return int(min(c.max, math.MaxInt32)) - len(c.streams) - c.reserved - c.unsure
}

// unreserve gives a promised place back.
func (c *http2Client) unreserve() {
	c.reserved--
	c.left()
}

// left implements [http2End] (http2client 2).
func (c *http2Client) left() {
	if c.gone {
		return
	}
	p, h := c.of.pool, c.of.host
	p.match(h)
	if len(c.streams) > 0 || c.reserved > 0 || c.of.idle {
		return
	}
	if !c.shared || h.isFull(p.t) {
		c.shut(errHTTP2Unused)
		return
	}
	p.list(c.of)
}

// failed implements [http2End].
func (c *http2Client) failed(code http2.ErrCode, why string) {
	if c.lost == nil {
		c.lost = fmt.Errorf("asynciohttp: the server breaks the rules of HTTP/2: %v: %s", code, why)
	}
}

// receiveGoAway implements [http2End].
func (c *http2Client) receiveGoAway(f *http2.GoAwayFrame) {
	code := f.ErrCode
	if c.away == nil {
		c.awaySaid = string(f.DebugData())
	} else if c.away.ErrCode != http2.ErrCodeNo {
		code = c.away.ErrCode
	}
	c.away = &http2.GoAwayFrame{LastStreamID: f.LastStreamID, ErrCode: code}
	c.unshare()
	for _, st := range c.all() {
		switch {
		case st.id <= f.LastStreamID:
		case st.id == 1 && code != http2.ErrCodeNo:
			// a new connection would end in the same way
			c.endStream(st, fmt.Errorf("asynciohttp: the server has answered the first request with GOAWAY: %v: %q", code, c.awaySaid))
		default:
			c.endStream(st, &unprocessed{fmt.Errorf("asynciohttp: the server has sent GOAWAY: %v", code)})
		}
	}
	c.retire()
}

// receiveSetting implements [http2End].
func (c *http2Client) receiveSetting(s http2.Setting) {
	switch s.ID {
	case http2.SettingMaxConcurrentStreams:
		c.max = s.Val
		c.limited, c.of.host.streams = true, s.Val
	case http2.SettingMaxHeaderListSize:
		c.maxBlock = uint64(s.Val)
	}
}

// receivedSettings implements [http2End].
func (c *http2Client) receivedSettings() {
	if !c.limited { // the first SETTINGS name no limit
		c.limited = true
		c.max = http2DefaultStreams
	}
	c.of.pool.match(c.of.host)
}

// receivedPong implements [http2End] (http2client 4).
func (c *http2Client) receivedPong() {
	if c.unsure > 0 {
		c.unsure, c.quiet = 0, true
		c.of.pool.match(c.of.host)
	}
}

// receiveLate implements [http2End]: the server had not heard yet that we do not want it.
func (c *http2Client) receiveLate(uint32) error { return nil }

// receiveMalformed implements [http2End].
func (c *http2Client) receiveMalformed(uint32) bool { return false }

// receiveHeaders implements [http2End]: they are a response, or the trailer of one.
func (c *http2Client) receiveHeaders(f *http2.MetaHeadersFrame) error {
	if c.isUnused(f.StreamID) {
		return http2.ConnectionError(http2.ErrCodeProtocol)
	}
	c.quiet = false
	of := c.streams[f.StreamID]
	if of == nil {
		return nil
	}
	st := of.end.(*clientStream)
	switch {
	case st.remoteEnded:
		return http2.StreamError{StreamID: st.id, Code: http2.ErrCodeStreamClosed, Cause: errors.New("HEADERS after the end of the response")}
	case f.Truncated:
		return http2.StreamError{StreamID: st.id, Code: http2.ErrCodeProtocol, Cause: st.tooLong()}
	case st.early:
		return st.receiveHead(f)
	}
	return st.receiveTrailer(f)
}
