package asynciohttp

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"net/textproto"
	"slices"
	"strconv"
	"strings"
	"sync"

	"golang.org/x/net/http/httpguts"
)

// How the head of a request is written. It agrees with package net/http's byte for byte.

// userAgent is sent if the request does not say otherwise, so that a server sees no difference.
const userAgent = "Go-http-client/1.1"

// heads holds buffers for heads and short bodies.
var heads = sync.Pool{New: func() any { return new(headBuffer) }}

type headBuffer struct {
	b    []byte
	keys []string
}

func (h *headBuffer) recycle() {
	clear(h.keys)
	h.b, h.keys = h.b[:0], h.keys[:0]
	if cap(h.b) <= 2*inlineBody {
		heads.Put(h)
	}
}

// A headWriter appends fields and tells the trace of them.
type headWriter struct {
	*headBuffer
	told func(key string, value []string) // nil without a trace
}

func (w *headWriter) field(name, value string) {
	w.one(name, value)
	if w.told != nil {
		w.told(name, []string{value})
	}
}

func (w *headWriter) one(name, value string) {
	w.b = append(w.b, name...)
	w.b = append(w.b, ": "...)
	w.b = append(w.b, value...)
	w.b = append(w.b, "\r\n"...)
}

// appendHead appends the head of the request to h. body says how its body is sent.
func (e *clientExchange) appendHead(h *headBuffer, body framing) error {
	req, c := e.req, e.c
	w := &headWriter{headBuffer: h}
	if e.trace != nil {
		w.told = e.trace.WroteHeaderField
	}
	host, err := hostOf(req, c.proxied)
	if err != nil {
		return err
	}
	method := cmp.Or(req.Method, http.MethodGet)
	target := req.URL.RequestURI()
	switch {
	case c.proxied && req.URL.Scheme != "" && req.URL.Opaque == "":
		target = req.URL.Scheme + "://" + host + target
	case method == http.MethodConnect && req.URL.Path == "":
		target = cmp.Or(req.URL.Opaque, host)
	}
	for i := range len(target) {
		if b := target[i]; b < ' ' || b == 0x7f {
			return errors.New("asynciohttp: a control character in Request.URL")
		}
	}
	w.b = append(w.b, method...)
	w.b = append(w.b, ' ')
	w.b = append(w.b, target...)
	w.b = append(w.b, " HTTP/1.1\r\n"...)
	w.field("Host", host)
	agent := userAgent
	if own, ok := req.Header["User-Agent"]; ok {
		agent = ""
		if len(own) > 0 {
			agent = textproto.TrimString(own[0])
		}
	}
	if agent != "" {
		w.field("User-Agent", agent)
	}
	if err := w.transfer(req, method, body); err != nil {
		return err
	}
	w.fields(req.Header)
	w.extra(e)
	w.b = append(w.b, "\r\n"...)
	if e.trace != nil && e.trace.WroteHeaders != nil {
		e.trace.WroteHeaders()
	}
	return nil
}

// hostOf returns the value of the Host field. An invalid one is left empty, except for a proxy,
// which could do nothing with that.
func hostOf(req *http.Request, proxied bool) (string, error) {
	host, err := httpguts.PunycodeHostPort(cmp.Or(req.Host, req.URL.Host))
	if err != nil {
		return "", err
	}
	if !httpguts.ValidHostHeader(host) {
		if proxied {
			return "", errors.New("asynciohttp: invalid Host")
		}
		return "", nil
	}
	// the zone of an IPv6 address means nothing to others (RFC 6874)
	if strings.HasPrefix(host, "[") {
		if end := strings.LastIndexByte(host, ']'); end > 0 {
			if zone := strings.LastIndexByte(host[:end], '%'); zone > 0 {
				host = host[:zone] + host[end:]
			}
		}
	}
	return host, nil
}

// transfer appends the fields that say how the body is sent and whether the connection stays.
func (w *headWriter) transfer(req *http.Request, method string, body framing) error {
	if req.Close && !httpguts.HeaderValuesContainsToken(req.Header["Connection"], "close") {
		w.field("Connection", "close")
	}
	switch {
	case body.chunked:
		w.field("Transfer-Encoding", "chunked")
	case body.length > 0, body.length == 0 && saysZero(req, method):
		w.field("Content-Length", strconv.FormatInt(body.length, 10))
	}
	if !body.chunked || req.Trailer == nil {
		return nil
	}
	keys := make([]string, 0, len(req.Trailer))
	for k := range req.Trailer {
		k = http.CanonicalHeaderKey(k)
		switch k {
		case "Transfer-Encoding", "Trailer", "Content-Length":
			return fmt.Errorf("asynciohttp: invalid Trailer key %q", k)
		}
		keys = append(keys, k)
	}
	if len(keys) == 0 {
		return nil
	}
	slices.Sort(keys)
	w.one("Trailer", strings.Join(keys, ","))
	if w.told != nil {
		w.told("Trailer", keys)
	}
	return nil
}

// saysZero reports whether a request without a body says so. Many servers expect that of methods
// that usually have one.
func saysZero(req *http.Request, method string) bool {
	switch method {
	case http.MethodPost, http.MethodPut, http.MethodPatch:
		return true
	case http.MethodGet, http.MethodHead:
		return false
	}
	return req.Body != nil && len(req.TransferEncoding) == 1 && req.TransferEncoding[0] == "identity"
}

// fields appends the request's own fields, by name.
func (w *headWriter) fields(h http.Header) {
	for k := range h {
		switch k {
		case "Host", "User-Agent", "Content-Length", "Transfer-Encoding", "Trailer":
		default:
			w.keys = append(w.keys, k)
		}
	}
	slices.Sort(w.keys)
	for _, k := range w.keys {
		var told []string
		for _, v := range h[k] {
			v = textproto.TrimString(v)
			w.one(k, v)
			told = append(told, v)
		}
		if w.told != nil {
			w.told(k, told)
		}
	}
}

// asksForGzip reports whether the Transport says that it accepts gzip. An empty value counts as
// none. HEAD and ranges are not asked for compressed: some servers get the first wrong, and a part
// of something compressed is of no use.
func (e *clientExchange) asksForGzip() bool {
	h := e.req.Header
	return !e.t.DisableCompression && h.Get("Accept-Encoding") == "" && h.Get("Range") == "" && e.req.Method != http.MethodHead
}

// extra appends the Transport's fields.
func (w *headWriter) extra(e *clientExchange) {
	req := e.req
	if e.gzip = e.asksForGzip(); e.gzip {
		w.field("Accept-Encoding", "gzip")
	}
	if e.t.DisableKeepAlives && !req.Close && !httpguts.HeaderValuesContainsToken(req.Header["Connection"], "close") && !switches(req.Header) {
		w.field("Connection", "close")
	}
	if e.c.proxyAuth != "" {
		w.field("Proxy-Authorization", e.c.proxyAuth)
	}
}
