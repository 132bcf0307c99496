package asynciohttp_test

import (
	"bytes"
	"context"
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/goasyncio/asyncio/asynciohttp"
)

// cannedConn is a connection on which a response comes as soon as a request is written, in pieces,
// and then the end. It never has to wait after that, so tasks can use it.
type cannedConn struct {
	net.Conn
	rest    []byte
	piece   int
	written chan struct{}
	once    sync.Once
}

func newCannedConn(raw []byte, piece int) *cannedConn {
	return &cannedConn{rest: raw, piece: piece, written: make(chan struct{})}
}

func (c *cannedConn) Write(p []byte) (int, error) {
	c.once.Do(func() { close(c.written) })
	return len(p), nil
}

func (c *cannedConn) Read(p []byte) (int, error) {
	<-c.written
	if len(c.rest) == 0 {
		return 0, io.EOF
	}
	n := copy(p[:min(len(p), c.piece)], c.rest)
	c.rest = c.rest[n:]
	return n, nil
}

func (c *cannedConn) ReadContext(_ context.Context, p []byte) (int, error)  { return c.Read(p) }
func (c *cannedConn) WriteContext(_ context.Context, p []byte) (int, error) { return c.Write(p) }
func (c *cannedConn) Close() error                                          { c.once.Do(func() { close(c.written) }); return nil }
func (c *cannedConn) SetDeadline(time.Time) error                           { return nil }
func (c *cannedConn) SetReadDeadline(time.Time) error                       { return nil }
func (c *cannedConn) SetWriteDeadline(time.Time) error                      { return nil }

// FuzzTransport_Response has package net/http's Transport and this one say what any bytes mean.
func FuzzTransport_Response(f *testing.F) {
	for _, name := range slices.Sorted(maps.Keys(rawResponses)) {
		if raw := rawResponses[name]; len(raw) < 2000 {
			f.Add([]byte(raw), uint8(len(raw)), false)
			f.Add([]byte(raw), uint8(0), true)
		}
	}
	log.SetOutput(io.Discard)
	f.Cleanup(func() { log.SetOutput(os.Stderr) })
	f.Fuzz(func(t *testing.T, raw []byte, piece uint8, head bool) {
		method := http.MethodGet
		if head {
			method = http.MethodHead
		}
		request := func(ctx context.Context) *http.Request {
			req, _ := http.NewRequestWithContext(ctx, method, "http://h/", nil)
			return req
		}
		const limit = 4 << 10
		conn := func() *cannedConn { return newCannedConn(bytes.Clone(raw), 1+int(piece)) }
		oracle := &http.Transport{MaxResponseHeaderBytes: limit, DialContext: func(context.Context, string, string) (net.Conn, error) { return conn(), nil }}
		want := describe(oracle, request(t.Context()))
		oracle.CloseIdleConnections()
		inTask(t, func(ctx context.Context) error {
			ours := &asynciohttp.Transport{MaxResponseHeaderBytes: limit, DialContext: func(context.Context, string, string) (net.Conn, error) { return conn(), nil }}
			if got := describe(ours, request(ctx)); got != want {
				t.Errorf("%q by %d:\ngot  %s\nwant %s", raw, 1+int(piece), got, want)
			}
			ours.CloseIdleConnections()
			return nil
		})
	})
}
