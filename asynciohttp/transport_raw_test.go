package asynciohttp_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"maps"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/asynciohttp"
)

// Package net/http's Transport is the oracle: both get the same bytes from a server and must say
// the same of them.

// rawResponses are what the server sends, whatever it is asked.
var rawResponses = map[string]string{
	"plain":                           "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
	"no reason":                       "HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok",
	"reason empty":                    "HTTP/1.1 200 \r\nContent-Length: 2\r\n\r\nok",
	"until close":                     "HTTP/1.1 200 OK\r\n\r\nto the end",
	"HTTP/1.0":                        "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
	"HTTP/1.0 keep-alive":             "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok",
	"HTTP/1.0 chunked":                "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
	"HTTP/2.0":                        "HTTP/2.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
	"HTTP/3.7":                        "HTTP/3.7 200 OK\r\nContent-Length: 2\r\n\r\nok",
	"HTTP/1.1x":                       "HTTP/1.1x 200 OK\r\nContent-Length: 2\r\n\r\nok",
	"lower case":                      "http/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
	"no version":                      "200 OK\r\nContent-Length: 2\r\n\r\nok",
	"not HTTP":                        "SSH-2.0-OpenSSH_9.6\r\n",
	"status of two digits":            "HTTP/1.1 20 OK\r\nContent-Length: 2\r\n\r\nok",
	"status of four digits":           "HTTP/1.1 2000 OK\r\nContent-Length: 2\r\n\r\nok",
	"status with a sign":              "HTTP/1.1 +20 OK\r\nContent-Length: 2\r\n\r\nok",
	"status 999":                      "HTTP/1.1 999 What\r\nContent-Length: 2\r\n\r\nok",
	"status 000":                      "HTTP/1.1 000 What\r\nContent-Length: 2\r\n\r\nok",
	"nothing":                         "",
	"half a status line":              "HTTP/1.1 2",
	"no end of the head":              "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n",
	"leading newline":                 "\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
	"bare LF":                         "HTTP/1.1 200 OK\nContent-Length: 2\n\nok",
	"bare CR":                         "HTTP/1.1 200 OK\r\nA: b\rc\r\nContent-Length: 2\r\n\r\nok",
	"NUL in a value":                  "HTTP/1.1 200 OK\r\nA: b\x00c\r\nContent-Length: 2\r\n\r\nok",
	"space before the colon":          "HTTP/1.1 200 OK\r\nContent-Length : 2\r\n\r\nok",
	"space in a name":                 "HTTP/1.1 200 OK\r\nA B: c\r\nContent-Length: 2\r\n\r\nok",
	"leading space in the first name": "HTTP/1.1 200 OK\r\n A: b\r\nContent-Length: 2\r\n\r\nok",
	"continued line":                  "HTTP/1.1 200 OK\r\nA: b\r\n c\r\nContent-Length: 2\r\n\r\nok",
	"no colon":                        "HTTP/1.1 200 OK\r\nA b\r\nContent-Length: 2\r\n\r\nok",
	"empty name":                      "HTTP/1.1 200 OK\r\n: b\r\nContent-Length: 2\r\n\r\nok",
	"twice the same length":           "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok",
	"two lengths":                     "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok!",
	"list of lengths":                 "HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\nok",
	"negative length":                 "HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nok",
	"length with a plus":              "HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\nok",
	"length in hex":                   "HTTP/1.1 200 OK\r\nContent-Length: 0x2\r\n\r\nok",
	"length empty":                    "HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\nok",
	"length too large":                "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\nok",
	"short body":                      "HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\nhello",
	"long body":                       "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok and more",
	"length and chunked":              "HTTP/1.1 200 OK\r\nContent-Length: 50\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
	"chunked":                         "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
	"chunked, capital":                "HTTP/1.1 200 OK\r\nTransfer-Encoding: CHUNKED\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
	"chunked twice":                   "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
	"gzip, chunked":                   "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
	"identity":                        "HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\nhello",
	"chunk in capitals":               "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nA\r\n0123456789\r\n0\r\n\r\n",
	"chunk extension":                 "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n0\r\n\r\n",
	"chunk with 0x":                   "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0x5\r\nhello\r\n0\r\n\r\n",
	"chunk negative":                  "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\nhello\r\n0\r\n\r\n",
	"chunk size of 17 digits":         "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n00000000000000005\r\nhello\r\n0\r\n\r\n",
	"chunk size with a space":         "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5 \r\nhello\r\n0\r\n\r\n",
	"chunk size empty":                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\r\nhello\r\n0\r\n\r\n",
	"chunk with bare LF":              "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\nhello\n0\n\n",
	"chunk with a bare CR":            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\rhello\r\n0\r\n\r\n",
	"chunk too long":                  "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhello\r\n0\r\n\r\n",
	"chunk too short":                 "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nhello\r\n0\r\n\r\n",
	"no last chunk":                   "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
	"no end of the trailer":           "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n",
	"trailer":                         "HTTP/1.1 200 OK\r\nTrailer: A\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nA: b\r\n\r\n",
	"trailer not announced":           "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nA: b\r\n\r\n",
	"trailer malformed":               "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nA b\r\n\r\n",
	"forbidden trailer":               "HTTP/1.1 200 OK\r\nTrailer: Content-Length\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nContent-Length: 7\r\n\r\n",
	"trailer without chunks":          "HTTP/1.1 200 OK\r\nTrailer: A\r\nContent-Length: 2\r\n\r\nok",
	"long line of a chunk":            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;" + strings.Repeat("a", 5000) + "\r\nhello\r\n0\r\n\r\n",
	"many small chunks":               "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + strings.Repeat("1;aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\nx\r\n", 2000) + "0\r\n\r\n",
	"204":                             "HTTP/1.1 204 No Content\r\n\r\n",
	"204 with a length":               "HTTP/1.1 204 No Content\r\nContent-Length: 2\r\n\r\nok",
	"204 chunked":                     "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
	"304":                             "HTTP/1.1 304 Not Modified\r\nContent-Length: 1234\r\n\r\n",
	"304 with a body":                 "HTTP/1.1 304 Not Modified\r\nContent-Length: 2\r\n\r\nok",
	"length 0":                        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
	"close":                           "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
	"close in a list":                 "HTTP/1.1 200 OK\r\nConnection: foo, Close\r\nContent-Length: 2\r\n\r\nok",
	"close and keep-alive":            "HTTP/1.1 200 OK\r\nConnection: keep-alive, close\r\nContent-Length: 2\r\n\r\nok",
	"100 before":                      "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
	"103 before":                      "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
	"many 1xx":                        strings.Repeat("HTTP/1.1 102 Processing\r\n\r\n", 50) + "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
	"only 100":                        "HTTP/1.1 100 Continue\r\n\r\n",
	"100 with a length":               "HTTP/1.1 100 Continue\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
	"101":                             "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\nraw",
	"101 without Upgrade":             "HTTP/1.1 101 Switching Protocols\r\n\r\nraw",
	"200 with Upgrade":                "HTTP/1.1 200 OK\r\nUpgrade: x\r\nConnection: Upgrade\r\nContent-Length: 2\r\n\r\nok",
	"408 unasked":                     "HTTP/1.1 408 Request Timeout\r\nConnection: close\r\n\r\n",
	"two responses":                   "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nbad",
	"long head":                       "HTTP/1.1 200 OK\r\nA: " + strings.Repeat("a", 20_000) + "\r\nContent-Length: 2\r\n\r\nok",
	"head too long":                   "HTTP/1.1 200 OK\r\nA: " + strings.Repeat("a", 100_000) + "\r\nContent-Length: 2\r\n\r\nok",
	"too many fields":                 "HTTP/1.1 200 OK\r\n" + strings.Repeat("A: b\r\n", 20_000) + "Content-Length: 2\r\n\r\nok",
	"long status line":                "HTTP/1.1 200 " + strings.Repeat("O", 20_000) + "\r\nContent-Length: 2\r\n\r\nok",
	"gzip":                            "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: " + fmt.Sprint(len(zipped("hello"))) + "\r\n\r\n" + zipped("hello"),
	"gzip, no end":                    "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 20\r\n\r\n" + zipped("hello")[:20],
	"not gzip":                        "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 5\r\n\r\nhello",
	"gzip of nothing":                 "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 0\r\n\r\n",
	"X-Gzip":                          "HTTP/1.1 200 OK\r\nContent-Encoding: x-gzip\r\nContent-Length: 5\r\n\r\nhello",
	"names of odd case":               "HTTP/1.1 200 OK\r\ncOnTeNt-LeNgTh: 2\r\nfOO-bar: x\r\n\r\nok",
	"fields repeated":                 "HTTP/1.1 200 OK\r\nA: 1\r\nB: 2\r\nA: 3\r\nContent-Length: 2\r\n\r\nok",
	"spaces around a value":           "HTTP/1.1 200 OK\r\nA: \t b c \t \r\nContent-Length: 2\r\n\r\nok",
	"tabs for spaces":                 "HTTP/1.1\t200\tOK\r\nContent-Length: 2\r\n\r\nok",
	"bytes above 127":                 "HTTP/1.1 200 OK\r\nA: \xff\xe9\r\nContent-Length: 2\r\n\r\nok",
}

func zipped(s string) string {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	_, _ = w.Write([]byte(s))
	_ = w.Close()
	return b.String()
}

// rawServer sends the same bytes for every request.
type rawServer struct {
	ln    net.Listener
	raw   string
	close bool
	conns atomic.Int64
}

// rawIdle is how long the server waits for another request before it closes a connection.
const rawIdle = 400 * time.Millisecond

func newRawServer(t testing.TB, raw string, close bool) *rawServer {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &rawServer{ln: ln, raw: raw, close: close}
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			s.conns.Add(1)
			go s.serve(c)
		}
	}()
	return s
}

func (s *rawServer) serve(c net.Conn) {
	defer c.Close()
	br := bufio.NewReader(c)
	for {
		_ = c.SetReadDeadline(time.Now().Add(rawIdle))
		req, err := http.ReadRequest(br)
		if err != nil {
			return
		}
		if _, err := io.Copy(io.Discard, req.Body); err != nil {
			return
		}
		if _, err := io.WriteString(c, s.raw); err != nil || s.close {
			return
		}
	}
}

// verdict sends two requests and says what came of them. If the server closes after each response,
// it sends one: whether the next would still be sent on the old connection is a race. So it is
// after the answer to a HEAD that has a body all the same.
func (s *rawServer) verdict(ctx context.Context, rt http.RoundTripper, method string) string {
	var b strings.Builder
	before := s.conns.Load()
	for i := range 2 {
		if i > 0 && (s.close || method == http.MethodHead) {
			break
		}
		var body io.Reader
		if method == http.MethodPost {
			body = strings.NewReader("a body")
		}
		req, _ := http.NewRequestWithContext(ctx, method, "http://"+s.ln.Addr().String()+"/", body)
		b.WriteString(describe(rt, req) + "\n")
	}
	fmt.Fprintf(&b, "%d connections", s.conns.Load()-before)
	return b.String()
}

// describe makes a request and says what came of it.
func describe(rt http.RoundTripper, req *http.Request) string {
	resp, err := rt.RoundTrip(req)
	if err != nil {
		return "error"
	}
	defer resp.Body.Close()
	var b strings.Builder
	fmt.Fprintf(&b, "%s %q %d.%d length %d encoding %v close %v uncompressed %v\n", resp.Proto, resp.Status, resp.ProtoMajor, resp.ProtoMinor,
		resp.ContentLength, resp.TransferEncoding, resp.Close, resp.Uncompressed)
	for _, k := range slices.Sorted(maps.Keys(resp.Header)) {
		fmt.Fprintf(&b, "  %q: %q\n", k, resp.Header[k])
	}
	_, writable := resp.Body.(io.Writer)
	got, err := io.ReadAll(resp.Body)
	fmt.Fprintf(&b, "  body %q, failed %v, unexpected EOF %v, writable %v, trailer %q", got, err != nil,
		errors.Is(err, io.ErrUnexpectedEOF), writable, resp.Trailer)
	return b.String()
}

func TestTransport_RawResponses(t *testing.T) {
	log.SetOutput(io.Discard) // net/http complains of what came unasked
	t.Cleanup(func() { log.SetOutput(os.Stderr) })
	for _, method := range []string{"GET", "HEAD", "POST"} {
		for _, closes := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, closes %v", method, closes), func(t *testing.T) {
				t.Parallel()
				inTask(t, func(ctx context.Context) error {
					return asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg *asyncio.TaskGroup) error {
						for _, name := range slices.Sorted(maps.Keys(rawResponses)) {
							tg.CreateTask(ctx, func(ctx context.Context) error { return compareRaw(ctx, t, name, method, closes) })
						}
						return nil
					}, asyncio.GroupLimit(12))
				})
			})
		}
	}
}

// compareRaw compares what the two make of one response.
func compareRaw(ctx context.Context, t *testing.T, name, method string, closes bool) error {
	const limit = 64 << 10 // for heads
	s := newRawServer(t, rawResponses[name], closes)
	defer s.ln.Close()
	oracle := &http.Transport{MaxResponseHeaderBytes: limit}
	defer oracle.CloseIdleConnections()
	want, err := asyncio.ToThread(ctx, func(ctx context.Context) (string, error) { return s.verdict(ctx, oracle, method), nil })
	if err != nil {
		return err
	}
	ours := &asynciohttp.Transport{MaxResponseHeaderBytes: limit}
	defer ours.CloseIdleConnections()
	if got := s.verdict(ctx, ours, method); got != want {
		t.Errorf("%s:\ngot  %s\nwant %s", name, got, want)
	}
	return nil
}
