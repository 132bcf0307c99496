package asynciohttp

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/net/http/httpguts"
	"golang.org/x/net/http2/hpack"
)

// userAgentHTTP2 is sent if the request does not say otherwise, as package net/http does.
const userAgentHTTP2 = "Go-http-client/2.0"

var errBlockTooLong = errors.New("asynciohttp: the request's header is larger than the server accepts (SETTINGS_MAX_HEADER_LIST_SIZE)")

// headerFields are the fields of a request. A connection uses one again and again.
type headerFields struct {
	list []hpack.HeaderField
	keys []string
}

// collect makes the fields of e's request. Nothing is compressed before all are known to be good,
// for what was compressed must be sent. limit is the size that the server accepts.
func (l *headerFields) collect(e *clientExchange, limit uint64) error {
	clear(l.list)
	clear(l.keys)
	l.list, l.keys = l.list[:0], l.keys[:0]
	req := e.req
	if err := refuseConnectionFields(req.Header); err != nil {
		return err
	}
	host, err := hostOf(req, true)
	if err != nil {
		return err
	}
	method := cmp.Or(req.Method, http.MethodGet)
	l.add(":authority", host)
	l.add(":method", method)
	if method != http.MethodConnect {
		path, err := pathOf(req, host)
		if err != nil {
			return err
		}
		l.add(":path", path)
		l.add(":scheme", req.URL.Scheme)
	}
	if err := l.addTrailer(req); err != nil {
		return err
	}
	for key := range req.Header {
		l.keys = append(l.keys, key)
	}
	slices.Sort(l.keys)
	agent := true
	for _, key := range l.keys {
		values := req.Header[key]
		switch name := lowerKey(key); name {
		case "host", "content-length", "connection", "proxy-connection", "transfer-encoding", "upgrade", "keep-alive":
		case "user-agent":
			if agent = false; len(values) > 0 && values[0] != "" {
				l.add(name, values[0])
			}
		case "cookie": // in parts, which compress better
			for _, v := range values {
				for part := range strings.SplitSeq(v, ";") {
					if part = strings.TrimLeft(part, " "); part != "" {
						l.add(name, part)
					}
				}
			}
		default:
			for _, v := range values {
				l.add(name, v)
			}
		}
	}
	if n := e.length(); n > 0 || n == 0 && saysZero(&http.Request{}, method) {
		l.add("content-length", strconv.FormatInt(n, 10))
	}
	if e.gzip {
		l.add("accept-encoding", "gzip")
	}
	if agent {
		l.add("user-agent", userAgentHTTP2)
	}
	size := uint64(0)
	for _, f := range l.list {
		size += uint64(f.Size())
	}
	if size > limit {
		return errBlockTooLong
	}
	return nil
}

func (l *headerFields) add(name, value string) {
	l.list = append(l.list, hpack.HeaderField{Name: name, Value: value})
}

// addTrailer announces the trailer.
func (l *headerFields) addTrailer(req *http.Request) error {
	if len(req.Trailer) == 0 {
		return nil
	}
	keys := make([]string, 0, len(req.Trailer))
	for key := range req.Trailer {
		key = http.CanonicalHeaderKey(key)
		switch key {
		case "Transfer-Encoding", "Trailer", "Content-Length":
			return fmt.Errorf("asynciohttp: invalid Trailer key %q", key)
		}
		keys = append(keys, key)
	}
	slices.Sort(keys)
	l.add("trailer", strings.Join(keys, ","))
	return nil
}

// encode compresses the fields. It returns those that the trace is to be told of.
func (l *headerFields) encode(e *clientExchange, to *hpack.Encoder) []hpack.HeaderField {
	for _, f := range l.list {
		_ = to.WriteField(f)
	}
	if e.trace != nil && e.trace.WroteHeaderField != nil {
		return slices.Clone(l.list)
	}
	return nil
}

// refuseConnectionFields returns an error for fields of HTTP/1.1 that a request with HTTP/2 cannot
// do without. Others of this kind are left out.
func refuseConnectionFields(h http.Header) error {
	only := func(key string, good ...string) error {
		values := h[key]
		if len(values) == 0 {
			return nil
		}
		if len(values) == 1 && slices.ContainsFunc(append(good, ""), func(s string) bool { return strings.EqualFold(s, values[0]) }) {
			return nil
		}
		return fmt.Errorf("asynciohttp: invalid %s request header with HTTP/2: %q", key, values)
	}
	if err := only("Upgrade", "chunked"); err != nil {
		return err
	}
	if err := only("Transfer-Encoding", "chunked"); err != nil {
		return err
	}
	return only("Connection", "close", "keep-alive")
}

// pathOf returns the value of :path.
func pathOf(req *http.Request, host string) (string, error) {
	path := req.URL.RequestURI()
	if isPath(path) {
		return path, nil
	}
	if rest := strings.TrimPrefix(path, req.URL.Scheme+"://"+host); isPath(rest) {
		return rest, nil
	}
	return "", fmt.Errorf("asynciohttp: invalid request :path %q", path)
}

func isPath(s string) bool {
	return (s == "*" || strings.HasPrefix(s, "/")) && httpguts.ValidHeaderFieldValue(s)
}
