package asynciohttp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/textproto"
	"net/url"
	"os"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/net/http/httpguts"
	"golang.org/x/net/http2"

	"github.com/goasyncio/asyncio"
)

// An http2Request is a request that a server answers. Its handler may go on after the stream has
// ended, but sends nothing.
type http2Request struct {
	http2Stream
	server     *http2Server
	ctx        context.Context // of the request
	cancel     context.CancelCauseFunc
	request    *http.Request
	expects    bool // the client waits for 100 Continue
	response   http2Response
	handler    http.Handler // nil for the server's
	readTimer  *asyncio.TimerHandle
	writeTimer *asyncio.TimerHandle
	cancelled  bool // the server is stopped
}

// An http2Context adds the response to a connection's context.
type http2Context struct {
	context.Context
	r *http2Request
}

func (x *http2Context) Value(key any) any {
	if key == (exchangeKey{}) {
		return &x.r.response
	}
	return x.Context.Value(key)
}

func (c *http2Server) receiveHeaders(f *http2.MetaHeadersFrame) error {
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
	st := &http2Request{server: c}
	st.c, st.id, st.declared = c.http2Conn, id, -1
	declared, err := c.readRequest(st, f)
	if err != nil {
		return err
	}
	if len(c.streams) == 0 {
		c.of.setState(http.StateActive)
	}
	c.openStream(&st.http2Stream, id, st)
	st.declared = declared
	st.mayTrail = st.announced
	if f.StreamEnded() {
		if st.declared > 0 {
			return http2.StreamError{StreamID: id, Code: http2.ErrCodeProtocol}
		}
		st.remoteEnded, st.bodyErr = true, io.EOF
	}
	if t := c.s.ReadTimeout; t > 0 {
		st.readTimer = c.s.loop.CallLater(t, st.readTimedOut)
	}
	if t := c.s.WriteTimeout; t > 0 {
		st.writeTimer = c.s.loop.CallLater(t, st.writeTimedOut)
	}
	if uint32(len(c.handlers)) < c.settings.maxStreams {
		c.handle(st)
		return nil
	}
	if len(c.backlog) >= int(4*c.settings.maxStreams) { // (h2 5)
		return http2.ConnectionError(http2.ErrCodeEnhanceYourCalm)
	}
	c.backlog = append(c.backlog, st)
	return nil
}

// readRequest makes the request of a new stream.
func (c *http2Server) readRequest(st *http2Request, f *http2.MetaHeadersFrame) (_ int64, err error) {
	bad := http2.StreamError{StreamID: st.id, Code: http2.ErrCodeProtocol}
	var method, scheme, authority, path string
	for _, field := range f.PseudoFields() {
		switch field.Name {
		case ":method":
			method = field.Value
		case ":scheme":
			scheme = field.Value
		case ":authority":
			authority = field.Value
		case ":path":
			path = field.Value
		default:
			return 0, bad // extended CONNECT was not offered
		}
	}
	if method == "CONNECT" {
		if path != "" || scheme != "" || authority == "" {
			return 0, bad
		}
	} else if method == "" || path == "" || scheme != "https" && scheme != "http" {
		return 0, bad
	}
	regular := f.RegularFields()
	header := make(http.Header, len(regular))
	values := make([]string, len(regular)) // one allocation for those of all
	for i, field := range regular {
		switch field.Name {
		case "connection", "proxy-connection", "keep-alive", "transfer-encoding", "upgrade":
			return 0, bad
		case "te":
			if field.Value != "trailers" {
				return 0, bad
			}
		}
		key := canonicalKey(field.Name)
		values[i] = field.Value
		if have, ok := header[key]; ok {
			header[key] = append(have, field.Value)
		} else {
			header[key] = values[i : i+1 : i+1]
		}
	}
	if cookies := header["Cookie"]; len(cookies) > 1 { // a client may cut it, to compress it better
		header["Cookie"] = []string{strings.Join(cookies, "; ")}
	}
	if hosts := header["Host"]; len(hosts) > 0 {
		if len(hosts) > 1 || authority != "" && hosts[0] != authority {
			return 0, bad
		}
		authority = hosts[0]
		delete(header, "Host")
	}
	if strings.Contains(authority, "@") || authority != "" && !httpguts.ValidHostHeader(authority) {
		return 0, bad
	}
	var trailer http.Header
	for _, v := range header["Trailer"] {
		for key := range strings.SplitSeq(v, ",") {
			key = textproto.CanonicalMIMEHeaderKey(textproto.TrimString(key))
			switch key {
			case "Transfer-Encoding", "Trailer", "Content-Length", "":
			default:
				if trailer == nil {
					trailer = make(http.Header)
				}
				trailer[key] = nil
			}
		}
	}
	delete(header, "Trailer")
	if expect := header["Expect"]; len(expect) > 0 && httpguts.HeaderValuesContainsToken(expect, "100-continue") {
		st.expects = true
		delete(header, "Expect")
	}
	u := &url.URL{Host: authority}
	uri := authority
	if method != "CONNECT" {
		if path[0] != '/' && path != "*" {
			return 0, bad
		}
		var err error
		if u, err = url.ParseRequestURI(path); err != nil {
			return 0, bad
		}
		uri = path
	}
	length, declared := int64(0), int64(-1)
	if lengths, ok := header["Content-Length"]; ok {
		n, err := strconv.ParseUint(lengths[0], 10, 63)
		if err != nil || slices.ContainsFunc(lengths[1:], func(s string) bool { return s != lengths[0] }) {
			return 0, bad
		}
		length = int64(n)
		declared = length
	} else if !f.StreamEnded() {
		length = -1
	}
	if f.Truncated {
		st.handler = http.HandlerFunc(tooLargeHeader)
	}
	st.ctx, st.cancel = context.WithCancelCause(&http2Context{c.ctx, st})
	r := &http.Request{
		Method: method, URL: u, RequestURI: uri, Host: authority,
		Proto: "HTTP/2.0", ProtoMajor: 2,
		Header: header, Trailer: trailer, ContentLength: length,
		Body: (*http2Body)(st), RemoteAddr: c.of.remote,
	}
	if scheme == "https" {
		r.TLS = c.of.tls
	}
	st.request = r.WithContext(st.ctx)
	st.response.st = st
	st.response.head = method == "HEAD"
	return declared, nil
}

func tooLargeHeader(w http.ResponseWriter, _ *http.Request) {
	http.Error(w, "431 Request Header Fields Too Large", http.StatusRequestHeaderFieldsTooLarge)
}

// handle starts the handler of st (h2 5).
func (c *http2Server) handle(st *http2Request) {
	task := asyncio.CreateTask(st.ctx, asyncio.Do(st.run), asyncio.TaskName(st.request.Method+" "+st.request.URL.Path))
	c.handlers[st] = task
	// A task that is cancelled before its first step does not run its body.
	task.AddDoneCallback(func(*asyncio.Task[asyncio.None]) { st.leave() })
}

// run is the body of the handler's task.
func (st *http2Request) run(ctx context.Context) error {
	c := st.server
	task := asyncio.CurrentTask(ctx)
	returned := false
	defer func() {
		switch v := recover(); {
		case returned, st.cancelled && v == nil:
		default: // a panic, or Goexit
			c.reset(&st.http2Stream, http2.ErrCodeInternal, errHTTP2Handler)
			if v != nil && v != http.ErrAbortHandler {
				c.s.logf("asynciohttp: panic serving %s: %v\n%s", c.of.remote, v, debug.Stack())
			}
		}
	}()
	if st.err == nil { // the client may have reset it already
		if st.handler != nil {
			st.handler.ServeHTTP(&st.response, st.request)
		} else {
			c.s.handle(&st.response, st.request)
		}
		cancelled := task.Cancelling() > 0
		st.response.handled(cancelled)
		err := st.response.finish()
		if returned = true; cancelled || errors.Is(err, asyncio.ErrCancelled) {
			return &asyncio.CancelledError{Msg: "in an HTTP handler"}
		}
	}
	returned = true
	return nil
}

// leave follows the end of a handler's task. Its place is for the next in the backlog.
func (st *http2Request) leave() {
	c := st.server
	if st.err == nil { // a cancel, before or in the middle of the response
		c.reset(&st.http2Stream, http2.ErrCodeCancel, errHTTP2Handler)
	}
	st.response.over = true
	_ = (*http2Body)(st).Close()
	if form := st.request.MultipartForm; form != nil {
		_ = form.RemoveAll()
	}
	st.cancel(nil)
	delete(c.handlers, st)
	for len(c.backlog) > 0 && uint32(len(c.handlers)) < c.settings.maxStreams {
		next := c.backlog[0]
		c.backlog[0] = nil
		c.backlog = c.backlog[1:]
		if next.err != nil {
			next.cancel(nil)
			c.giveBack(nil, len(next.body))
			continue
		}
		c.handle(next)
	}
	if len(c.handlers) == 0 {
		c.drained.set()
	}
}

func (st *http2Request) readTimedOut() {
	if st.bodyErr == nil {
		st.bodyErr = os.ErrDeadlineExceeded
		st.readable.set()
	}
}

func (st *http2Request) writeTimedOut() {
	st.c.reset(&st.http2Stream, http2.ErrCodeInternal, os.ErrDeadlineExceeded)
}

// An http2Body is the body of a request.
type http2Body http2Request

// Read implements [io.Reader]. It suspends the calling task until there is something.
func (b *http2Body) Read(p []byte) (int, error) {
	st := (*http2Request)(b)
	if _, err := st.c.task(); err != nil {
		return 0, fmt.Errorf("%w (in the Read of a request's body)", err)
	}
	if st.expects && !st.bodyClosed {
		st.expects = false
		st.response.sendContinue()
	}
	return st.readBody(p)
}

// Close implements [io.Closer]. It does not suspend.
func (b *http2Body) Close() error {
	b.closeBody()
	return nil
}

// announced reports whether the request has announced a trailer of this key.
func (st *http2Request) announced(key string) bool {
	_, ok := st.request.Trailer[key]
	return ok
}
