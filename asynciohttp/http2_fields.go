package asynciohttp

import (
	"net/http"
	"strings"
	"sync"
)

// canonicalKeys has the keys of http.Header for the names that are common in HTTP/2, and smallKeys
// the names for these keys. Others cost an allocation.
var canonicalKeys, smallKeys = func() (canonical, small map[string]string) {
	canonical, small = make(map[string]string), make(map[string]string)
	for name := range strings.FieldsSeq(`accept accept-charset accept-encoding accept-language accept-ranges
		access-control-allow-origin age allow authorization cache-control content-disposition
		content-encoding content-language content-length content-location content-range content-type
		cookie date dnt etag expect expires from grpc-encoding grpc-message grpc-status
		grpc-timeout host idempotency-key if-match if-modified-since if-none-match if-range
		if-unmodified-since last-modified link location max-forwards origin pragma priority
		proxy-authenticate proxy-authorization range referer refresh retry-after
		sec-ch-ua sec-ch-ua-mobile sec-ch-ua-platform sec-fetch-dest sec-fetch-mode sec-fetch-site
		sec-fetch-user server set-cookie strict-transport-security te traceparent tracestate trailer
		transfer-encoding upgrade-insecure-requests user-agent vary via www-authenticate
		x-content-type-options x-forwarded-for x-forwarded-host x-forwarded-proto x-frame-options
		x-request-id x-requested-with`) {
		key := http.CanonicalHeaderKey(name)
		canonical[name], small[key] = key, name
	}
	return canonical, small
}()

// canonicalKey returns the key of http.Header for a name in small letters.
func canonicalKey(name string) string {
	if key, ok := canonicalKeys[name]; ok {
		return key
	}
	return http.CanonicalHeaderKey(name)
}

// lowerKey returns the name in small letters for a key of http.Header.
func lowerKey(key string) string {
	if name, ok := smallKeys[key]; ok {
		return name
	}
	return strings.ToLower(key)
}

const (
	http2BodyBuffer = 64 << 10
	http2SmallBody  = 1 << 10 // less data has a buffer of its own
)

// Unused buffers: for what a connection sends, for the beginning of a response, and for bodies that
// nobody has read yet.
var (
	http2Buffers    = sync.Pool{New: func() any { return &bytesOf{make([]byte, 0, 16<<10)} }}
	responseBuffers = sync.Pool{New: func() any { return &bytesOf{make([]byte, 0, http2ResponseBuffer)} }}
	http2Bodies     = sync.Pool{New: func() any { return &bytesOf{make([]byte, 0, http2BodyBuffer)} }}
	emptyBytesOf    = sync.Pool{New: func() any { return new(bytesOf) }}
)

// bytesOf carries a slice through a sync.Pool without an allocation.
type bytesOf struct{ p []byte }

func takeFrom(pool *sync.Pool) []byte {
	b := pool.Get().(*bytesOf)
	p := b.p
	b.p = nil
	emptyBytesOf.Put(b)
	return p
}

func giveTo(pool *sync.Pool, p []byte) {
	if cap(p) > 0 {
		b := emptyBytesOf.Get().(*bytesOf)
		b.p = p[:0]
		pool.Put(b)
	}
}

func getHTTP2Buffer() []byte     { return takeFrom(&http2Buffers) }
func putHTTP2Buffer(p []byte)    { giveTo(&http2Buffers, p) }
func getResponseBuffer() []byte  { return takeFrom(&responseBuffers) }
func putResponseBuffer(p []byte) { giveTo(&responseBuffers, p) }
