package asynciohttp

import (
	"context"
	"errors"
	"net/http"
	"net/textproto"
	"net/url"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/net/http/httpguts"
	"golang.org/x/net/http2"

	"github.com/goasyncio/asyncio"
)

// An http2Context adds the response to a connection's context.
type http2Context struct {
	context.Context
	st *serverStream
}

func (x *http2Context) Value(key any) any {
	if key == (exchangeKey{}) {
		return &x.st.response
	}
	return x.Context.Value(key)
}

// readRequest makes the request of a new stream.
func (c *http2Server) readRequest(st *serverStream, f *http2.MetaHeadersFrame) error {
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
			return bad // extended CONNECT was not offered
		}
	}
	if method == "CONNECT" {
		if path != "" || scheme != "" || authority == "" {
			return bad
		}
	} else if method == "" || path == "" || scheme != "https" && scheme != "http" {
		return bad
	}
	regular := f.RegularFields()
	header := make(http.Header, len(regular))
	values := make([]string, len(regular)) // one allocation for those of all
	for i, field := range regular {
		switch field.Name {
		case "connection", "proxy-connection", "keep-alive", "transfer-encoding", "upgrade":
			return bad
		case "te":
			if field.Value != "trailers" {
				return bad
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
			return bad
		}
		authority = hosts[0]
		delete(header, "Host")
	}
	if strings.Contains(authority, "@") || authority != "" && !httpguts.ValidHostHeader(authority) {
		return bad
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
	var u *url.URL
	uri := authority
	if method == "CONNECT" {
		u = &url.URL{Host: authority}
	} else {
		if path[0] != '/' && path != "*" {
			return bad
		}
		var err error
		if u, err = url.ParseRequestURI(path); err != nil {
			return bad
		}
		uri = path
	}
	length := int64(0)
	if lengths, ok := header["Content-Length"]; ok {
		n, err := strconv.ParseUint(lengths[0], 10, 63)
		if err != nil || slices.ContainsFunc(lengths[1:], func(s string) bool { return s != lengths[0] }) {
			return bad
		}
		length = int64(n)
		st.declared = length
	} else if !f.StreamEnded() {
		length = -1
	}
	if f.Truncated {
		st.refused = http.HandlerFunc(tooLargeHeader)
	}
	st.ctx, st.cancel = context.WithCancelCause(&http2Context{c.ctx, st})
	r := &http.Request{
		Method: method, URL: u, RequestURI: uri, Host: authority,
		Proto: "HTTP/2.0", ProtoMajor: 2,
		Header: header, Trailer: trailer, ContentLength: length,
		Body: (*http2RequestBody)(st), RemoteAddr: c.of.remote,
	}
	if scheme == "https" {
		r.TLS = c.of.tls
	}
	st.request = r.WithContext(st.ctx)
	st.response.st = st
	st.response.head = method == "HEAD"
	return nil
}

func tooLargeHeader(w http.ResponseWriter, _ *http.Request) {
	http.Error(w, "431 Request Header Fields Too Large", http.StatusRequestHeaderFieldsTooLarge)
}

// handle starts the handler of st (http2server 2).
func (c *http2Server) handle(st *serverStream) {
	task := asyncio.CreateTask(st.ctx, asyncio.Do(st.run), asyncio.TaskName(st.request.Method+" "+st.request.URL.Path))
	c.handlers[st] = task
	// A task that is cancelled before its first step does not run its body.
	task.AddDoneCallback(func(*asyncio.Task[asyncio.None]) { st.leave() })
}

// run is the body of the handler's task.
func (st *serverStream) run(ctx context.Context) error {
	c := st.conn
	task := asyncio.CurrentTask(ctx)
	returned := false
	defer func() {
		if returned {
			return
		}
		v := recover() // nil for Goexit
		c.reset(&st.http2Stream, http2.ErrCodeInternal, errHTTP2Handler)
		if v != nil && v != http.ErrAbortHandler {
			c.s.logf("asynciohttp: panic serving %s: %v\n%s", c.of.remote, v, debug.Stack())
		}
	}()
	if st.err == nil { // the client may have reset it already
		if st.refused != nil {
			st.refused.ServeHTTP(&st.response, st.request)
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
func (st *serverStream) leave() {
	c := st.conn
	if st.err == nil { // a cancel, before or in the middle of the response
		c.reset(&st.http2Stream, http2.ErrCodeCancel, errHTTP2Handler)
	}
	st.response.over = true
	_ = (*http2RequestBody)(st).Close()
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
