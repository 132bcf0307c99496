package asynciohttp_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/asynciohttp"
	"github.com/goasyncio/asyncio/sim"
)

// These tests send the same bytes to net/http's server and to this one, and compare everything that
// comes back. net/http is on a real socket; this server is on a simulated host, on virtual time,
// and gets the bytes at once and one by one.

// discarded drops what servers log.
var discarded = log.New(io.Discard, "", 0)

// An oracle is net/http's server.
type oracle struct {
	addr string
	srv  *http.Server // the same configuration, for a server of ours
}

func newOracle(t testing.TB, config *http.Server) *oracle {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	config.ErrorLog = discarded
	same := &http.Server{ // net/http writes into its own
		Handler: config.Handler, DisableGeneralOptionsHandler: config.DisableGeneralOptionsHandler,
		MaxHeaderBytes: config.MaxHeaderBytes, ReadTimeout: config.ReadTimeout,
		ReadHeaderTimeout: config.ReadHeaderTimeout, WriteTimeout: config.WriteTimeout,
		IdleTimeout: config.IdleTimeout, ErrorLog: discarded,
	}
	served := make(chan error, 1)
	go func() { served <- config.Serve(ln) }()
	t.Cleanup(func() {
		_ = config.Close()
		<-served
	})
	return &oracle{addr: ln.Addr().String(), srv: same}
}

// ask sends raw, ends the sending direction, and returns what comes back.
func (o *oracle) ask(t *testing.T, raw string) string {
	t.Helper()
	got, _ := o.tryAsk(t, raw)
	return got
}

// tryAsk also reports whether the server has reset the connection, because it has not read all.
func (o *oracle) tryAsk(t *testing.T, raw string) (answer string, reset bool) {
	t.Helper()
	c, err := net.Dial("tcp", o.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(20 * time.Second))
	_, werr := io.WriteString(c, raw)
	_ = c.(*net.TCPConn).CloseWrite()
	got, err := io.ReadAll(c)
	reset = errors.Is(err, syscall.ECONNRESET) || werr != nil
	if err != nil && !reset {
		t.Fatalf("net/http answers %q, and then %v", got, err)
	}
	return normal(got), reset
}

var date = regexp.MustCompile(`Date: [^\r]*`)

func normal(got []byte) string { return string(date.ReplaceAll(got, []byte("Date: now"))) }

// onHost runs client beside a server on a simulated host.
func onHost(t *testing.T, server func() *asynciohttp.Server, client func(ctx context.Context) error) {
	t.Helper()
	sim.Run(t, func(ctx context.Context) error { return hosts(ctx, server, client) })
}

// hosts is the body of a simulation with a server at server:80.
func hosts(ctx context.Context, server func() *asynciohttp.Server, client func(ctx context.Context) error) error {
	sim.NewHost(ctx, "server", func(ctx context.Context) error {
		s := server()
		if s.ErrorLog == nil {
			s.ErrorLog = discarded
		}
		s.Addr = ":80"
		if err := s.ListenAndServe(ctx); err != http.ErrServerClosed {
			return err
		}
		return nil
	})
	if err := asyncio.Sleep(ctx, time.Second); err != nil {
		return err
	}
	return client(ctx)
}

// askHost is ask for the server at server:80. The bytes come in pieces of so many. If the server
// closes while some are still on their way, it resets the connection, as systems do, which can cut
// what comes back.
func askHost(ctx context.Context, raw string, piece int) (got string, reset bool, err error) {
	c, err := asyncio.Dial(ctx, "tcp", "server:80")
	if err != nil {
		return "", false, err
	}
	defer c.Close()
	reader := asyncio.CreateTask(ctx, func(context.Context) ([]byte, error) { return io.ReadAll(c) })
	for p := range slices.Chunk([]byte(raw), piece) {
		if _, err := c.Write(p); err != nil {
			break // the server has refused it
		}
		if len(raw) > piece {
			if err := asyncio.Sleep(ctx, time.Millisecond); err != nil {
				return "", false, err
			}
		}
	}
	_ = c.CloseWrite()
	all, err := reader.Await(ctx)
	reset = errors.Is(err, syscall.ECONNRESET)
	if err != nil && !reset {
		return "", false, fmt.Errorf("after %q: %w", all, err)
	}
	return normal(all), reset, nil
}

// mirror answers with all that it is told.
func mirror(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %q %s %d.%d host %q url %q length %d te %q close %v\n", r.Method, r.RequestURI, r.Proto, r.ProtoMajor, r.ProtoMinor,
		r.Host, r.URL, r.ContentLength, r.TransferEncoding, r.Close)
	_ = r.Header.Write(&b)
	fmt.Fprintf(&b, "body %q failed %v\n", body, err != nil)
	_ = r.Trailer.Write(&b)
	_, _ = w.Write(b.Bytes())
}

// compare compares the verdicts of both servers on the same bytes.
func compare(t *testing.T, h http.Handler, config *http.Server, cases []string) {
	t.Helper()
	config.Handler = h
	o := newOracle(t, config)
	want := make([]string, len(cases))
	for i, raw := range cases {
		want[i] = o.ask(t, raw)
	}
	server := func() *asynciohttp.Server { return asynciohttp.NewServer(o.srv) }
	onHost(t, server, func(ctx context.Context) error {
		resets, all := 0, 0
		for i, raw := range cases {
			pieces := []int{len(raw) + 1}
			if len(raw) < 2000 && (!testing.Short() || i%5 == 0) {
				pieces = append(pieces, 1)
			}
			for _, piece := range pieces {
				all++
				got, reset, err := askHost(ctx, raw, piece)
				if reset && strings.HasPrefix(want[i], got) {
					resets++
				} else if err != nil {
					t.Errorf("%q in pieces of %d: %v", abridged(raw), piece, err)
				} else if got != want[i] {
					t.Errorf("%q in pieces of %d\n     got %q\nnet/http %q", abridged(raw), piece, abridged(got), abridged(want[i]))
				}
			}
		}
		if resets > all/20 {
			t.Errorf("%d of %d connections were reset", resets, all)
		}
		return nil
	})
}

func abridged(s string) string {
	if len(s) > 1000 {
		return s[:400] + " … " + s[len(s)-400:]
	}
	return s
}

// get is a request with so many more lines.
func get(lines ...string) string {
	return "GET / HTTP/1.1\r\nHost: h.test\r\n" + strings.Join(append(lines, "", ""), "\r\n")
}

// post is a request with lines and a body.
func post(body string, lines ...string) string {
	return "POST /p?q=1 HTTP/1.1\r\nHost: h.test\r\n" + strings.Join(append(lines, "", ""), "\r\n") + body
}

// TestServer_Verdicts: requests of every kind, good and hostile.
func TestServer_Verdicts(t *testing.T) {
	compare(t, http.HandlerFunc(mirror), new(http.Server), requests())
}

// requests are what a server may be sent, at once or in pieces.
func requests() []string {
	next := get("X-Next: yes")
	return []string{
		"",
		"\r\n",
		"\n",
		" ",
		"GET",
		"GET / HTTP/1.1",
		"GET / HTTP/1.1\r\n",
		"GET / HTTP/1.1\r\nHost: x\r\n",
		"GET / HTTP/1.1\r\nHost: x",
		get(),
		next + next,
		get() + "garbage",
		get() + "garbage\r\n\r\n",
		"\r\n" + get(),
		// the first line
		"GET /\r\n\r\n",
		"GET /\n\n",
		"GET  / HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET / HTTP/1.1 \r\nHost: x\r\n\r\n",
		" GET / HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET / a HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET\t/\tHTTP/1.1\r\nHost: x\r\n\r\n",
		"G ET / HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET / HTTP/1.1\rHost: x\r\n\r\n",
		"G(T / HTTP/1.1\r\nHost: x\r\n\r\n",
		"gEt / HTTP/1.1\r\nHost: x\r\n\r\n",
		"\xc0ET / HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET relative HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET /%zz HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET /a\x01b HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET /\x80 HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET //two/slashes HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET http://other.test/p HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET http://other.test HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET http:///p HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET ftp://u:p@other.test/p HTTP/1.1\r\nHost: x\r\n\r\n",
		"GET * HTTP/1.1\r\nHost: x\r\n\r\n",
		"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
		"OPTIONS * HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc",
		"CONNECT h.test:443 HTTP/1.1\r\nHost: x\r\n\r\n",
		"CONNECT h.test:443 HTTP/1.1\r\n\r\n",
		"CONNECT /rpc HTTP/1.1\r\n\r\n",
		"CONNECT h HTTP/1.0\r\n\r\n",
		// versions
		"GET / HTTP/1.0\r\n\r\n",
		"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n" + next,
		"GET / HTTP/1.0\r\nConnection: close, keep-alive\r\n\r\n" + next,
		"GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
		"GET / HTTP/1.2\r\nHost: x\r\n\r\n",
		"GET / HTTP/0.9\r\nHost: x\r\n\r\n",
		"GET / HTTP/2.0\r\nHost: x\r\n\r\n",
		"GET / HTTP/3.0\r\nHost: x\r\n\r\n",
		"GET / HTTP/1.10\r\nHost: x\r\n\r\n",
		"GET / HTTP/11\r\nHost: x\r\n\r\n",
		"GET / HTTP/1.a\r\nHost: x\r\n\r\n",
		"GET / http/1.1\r\nHost: x\r\n\r\n",
		"GET / HTTP/1,1\r\nHost: x\r\n\r\n",
		"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
		"PRI * HTTP/2.0\r\nHost: x\r\n\r\nSM\r\n\r\n",
		"PRI / HTTP/2.0\r\nHost: x\r\n\r\n",
		// hosts
		"GET / HTTP/1.1\r\n\r\n",
		"GET / HTTP/1.1\r\nHost:\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: \x00\r\n\r\n",
		"GET / HTTP/1.1\r\nhOsT: a\r\n\r\n",
		"GET / HTTP/1.1\r\nHost : a\r\n\r\n",
		"GET http://u.test/ HTTP/1.1\r\n\r\n",
		// fields
		get("X : b"),
		get("X y: b"),
		get(": b"),
		get(" : b"),
		get("X"),
		get("X\x00: b"),
		get("X: a\x00b"),
		get("X: a\x7fb"),
		get("X: a\tb"),
		get("X: \x80\xff"),
		get("X: a\rb"),
		get("X(: b"),
		get("X\x80: b"),
		get("x-lower-case: 1", "X-UPPER-CASE: 2", "x_under: 3", "1-digit: 4"),
		get("X: 1", "x: 2", "X: 3"),
		get("X:", "Y: ", "Z:  a  "),
		get("X: a:b"),
		get("X: a", " folded", "\ttwice"),
		get("X: a", " ", "Y: b"),
		get("X", " : folded"),
		"GET / HTTP/1.1\r\n folded: yes\r\nHost: x\r\n\r\n",
		"GET / HTTP/1.1\r\n\tHost: x\r\n\r\n",
		"GET / HTTP/1.1\nHost: x\nX: y\n\n",
		"GET / HTTP/1.1\r\nHost: x\nX: y\r\n\n",
		"GET / HTTP/1.1\r\nHost: x\r\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: x\r\n\r\r\n\r\n",
		get("Pragma: no-cache"),
		get("Pragma: no-cache", "Cache-Control: max-age=1"),
		get("Cookie: a=1; b=2", "Cookie: c=3"),
		// lengths
		post("abc", "Content-Length: 3") + next,
		post("abc", "Content-Length: 4"),
		post("", "Content-Length: 0") + next,
		post("abc", "Content-Length: +3"),
		post("abc", "Content-Length: -3"),
		post("abc", "Content-Length: 0x3"),
		post("abc", "Content-Length: 3 "),
		post("abc", "Content-Length:"),
		post("abc", "Content-Length: 3, 3"),
		post("abc", "Content-Length: 3", "Content-Length: 3") + next,
		post("abc", "Content-Length: 3", "Content-Length: 03"),
		post("abc", "Content-Length: 3", "Content-Length: 4"),
		post("abc", "Content-Length: 9223372036854775807"),
		post("abc", "Content-Length: 9223372036854775808"),
		post("abc", "Content-Length: 1_0"),
		post("abc", "Content-Length : 3"),
		post("abc") + next,
		get("Content-Length: 3") + "abc" + next,
		"HEAD / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc" + next,
		post("abc", "Content-Length: 3") + "\r\n" + next,
		post("abc", "Content-Length: 3") + "\r\n\r\n" + next,
		post("abc", "Content-Length: 3") + "\r\n\r\n\r\n" + next,
		post("abc", "Content-Length: 3", "Connection: close") + next,
		// chunks
		post("3\r\nabc\r\n0\r\n\r\n", "Transfer-Encoding: chunked") + next,
		post("3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n", "Transfer-Encoding: Chunked") + next,
		post("3\r\nabc\r\n0\r\n\r\n", "Transfer-Encoding: chunked", "Content-Length: 3") + next,
		post("3\r\nabc\r\n0\r\n\r\n", "Transfer-Encoding: chunked", "Content-Length: x") + next,
		post("3\r\nabc\r\n0\r\n\r\n", "Transfer-Encoding: chunked", "Content-Length: 1", "Content-Length: 2"),
		post("3\r\nabc\r\n0\r\n\r\n", "Transfer-Encoding: chunked, chunked"),
		post("3\r\nabc\r\n0\r\n\r\n", "Transfer-Encoding: chunked", "Transfer-Encoding: chunked"),
		post("3\r\nabc\r\n0\r\n\r\n", "Transfer-Encoding: gzip, chunked"),
		post("3\r\nabc\r\n0\r\n\r\n", "Transfer-Encoding: identity"),
		post("3\r\nabc\r\n0\r\n\r\n", "Transfer-Encoding:"),
		post("3\r\nabc\r\n0\r\n\r\n", "Transfer-Encoding: xchunked"),
		post("3\r\nabc\r\n0\r\n\r\n", "Transfer-Encoding : chunked"),
		post("3\r\nabc\r\n0\r\n\r\n", "Transfer-Encoding: \x0bchunked"),
		post("3\r\nabc\r\n0\r\n\r\n", "Transfer-Encoding: chun\u212aed"),
		post("3;x=y\r\nabc\r\n0;z\r\n\r\n", "Transfer-Encoding: chunked") + next,
		post("3 ; x\r\nabc\r\n0\r\n\r\n", "Transfer-Encoding: chunked") + next,
		post("3 \t\r\nabc\r\n0\r\n\r\n", "Transfer-Encoding: chunked") + next,
		post(" 3\r\nabc\r\n0\r\n\r\n", "Transfer-Encoding: chunked") + next,
		post("0x3\r\nabc\r\n0\r\n\r\n", "Transfer-Encoding: chunked"),
		post("+3\r\nabc\r\n0\r\n\r\n", "Transfer-Encoding: chunked"),
		post("-3\r\nabc\r\n0\r\n\r\n", "Transfer-Encoding: chunked"),
		post("\r\nabc\r\n0\r\n\r\n", "Transfer-Encoding: chunked"),
		post("g\r\nabc\r\n0\r\n\r\n", "Transfer-Encoding: chunked"),
		post("3\nabc\r\n0\r\n\r\n", "Transfer-Encoding: chunked"),
		post("3\r\nabc\n0\r\n\r\n", "Transfer-Encoding: chunked"),
		post("3\r\nabcd\r\n0\r\n\r\n", "Transfer-Encoding: chunked"),
		post("3\r\nab\r\n0\r\n\r\n", "Transfer-Encoding: chunked"),
		post("3\rx\r\nabc\r\n0\r\n\r\n", "Transfer-Encoding: chunked"),
		post("0000000000000003\r\nabc\r\n0\r\n\r\n", "Transfer-Encoding: chunked") + next,
		post("00000000000000003\r\nabc\r\n0\r\n\r\n", "Transfer-Encoding: chunked") + next,
		post("fffffffffffffffff\r\nabc\r\n0\r\n\r\n", "Transfer-Encoding: chunked"),
		post("3fffffffffffffff\r\nabc", "Transfer-Encoding: chunked"),
		post("4000000000000000\r\nabc", "Transfer-Encoding: chunked"),
		post("7fffffffffffffff\r\nabc", "Transfer-Encoding: chunked"),
		post("8000000000000000\r\nabc", "Transfer-Encoding: chunked"),
		post("ffffffffffffffff\r\nabc", "Transfer-Encoding: chunked"),
		post("3\r\nabc", "Transfer-Encoding: chunked"),
		post("3\r\nabc\r\n", "Transfer-Encoding: chunked"),
		post("3\r\nabc\r\n0\r\n", "Transfer-Encoding: chunked"),
		post("3\r\nabc\r\n0\r\n\r", "Transfer-Encoding: chunked"),
		post("", "Transfer-Encoding: chunked"),
		post("3", "Transfer-Encoding: chunked"),
		post(strings.Repeat("1\r\nx\r\n", 300)+"0\r\n\r\n", "Transfer-Encoding: chunked") + next,
		post(strings.Repeat("1;"+strings.Repeat("e", 300)+"\r\nx\r\n", 100)+"0\r\n\r\n", "Transfer-Encoding: chunked") + next,
		post("3;"+strings.Repeat("e", 5000)+"\r\nabc\r\n0\r\n\r\n", "Transfer-Encoding: chunked"),
		post("3;"+strings.Repeat("e", 4000)+"\r\nabc\r\n0\r\n\r\n", "Transfer-Encoding: chunked") + next,
		// trailers
		post("3\r\nabc\r\n0\r\nX: 1\r\n\r\n", "Transfer-Encoding: chunked", "Trailer: X") + next,
		post("3\r\nabc\r\n0\r\nx: 1\r\nY: 2\r\n\r\n", "Transfer-Encoding: chunked", "Trailer: X, z") + next,
		post("3\r\nabc\r\n0\r\nY: 2\r\n\r\n", "Transfer-Encoding: chunked") + next,
		post("3\r\nabc\r\n0\r\nY\r\n\r\n", "Transfer-Encoding: chunked") + next,
		post("3\r\nabc\r\n0\r\n folded: x\r\n\r\n", "Transfer-Encoding: chunked") + next,
		post("3\r\nabc\r\n0\r\nX: 1", "Transfer-Encoding: chunked"),
		post("3\r\nabc\r\n0\r\n\n\r\n\r\n", "Transfer-Encoding: chunked"),
		post("3\r\nabc\r\n0\r\n\n0\r\n\r\n", "Transfer-Encoding: chunked"),
		post("3\r\nabc\r\n0\r\nX: 1\n\nGET / HTTP/1.1\r\nHost: x\r\n\r\n", "Transfer-Encoding: chunked"),
		post("3\r\nabc\r\n0\r\nX: "+strings.Repeat("a", 5000)+"\r\n\r\n", "Transfer-Encoding: chunked") + next,
		post("3\r\nabc\r\n0\r\n\r\n", "Transfer-Encoding: chunked", "Trailer: Content-Length"),
		post("3\r\nabc\r\n0\r\n\r\n", "Transfer-Encoding: chunked", "Trailer: ,, "),
		post("abc", "Content-Length: 3", "Trailer: X") + next,
		// connections
		get("Connection: close") + next,
		get("Connection: Close") + next,
		get("Connection: keep-alive, close") + next,
		get("Connection: closed") + next,
		get("Connection: x close") + next,
		get("Connection: a", "Connection: close") + next,
		get("Connection: upgrade", "Upgrade: websocket") + next,
		// expectations
		post("abc", "Content-Length: 3", "Expect: 100-continue") + next,
		post("abc", "Content-Length: 3", "Expect: 100-Continue") + next,
		post("abc", "Content-Length: 3", "Expect: something") + next,
		post("abc", "Content-Length: 3", "Expect:") + next,
		post("abc", "Content-Length: 3", "Expect: a", "Expect: 100-continue") + next,
		get("Expect: 100-continue") + next,
		get("Expect: x") + next,
		"POST / HTTP/1.0\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\nabc",
		// long ones
		get("X: "+strings.Repeat("a", 10_000)) + next,
		"GET /" + strings.Repeat("a", 10_000) + " HTTP/1.1\r\nHost: x\r\n\r\n" + next,
		get(slices.Repeat([]string{"X: y"}, 490)...) + next,
		post(strings.Repeat("a", 100_000), "Content-Length: 100000") + next,
	}
}
