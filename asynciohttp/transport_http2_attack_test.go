package asynciohttp_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/asynciohttp"
	"github.com/goasyncio/asyncio/sim"
)

// An idle connection whose server answers each PING stays, whichever of the two times is longer.
func TestTransportHTTP2_HealthyIdle(t *testing.T) {
	for _, config := range []http.HTTP2Config{
		{SendPingTimeout: 10 * time.Second},
		{SendPingTimeout: time.Second, PingTimeout: time.Minute},
		{SendPingTimeout: time.Minute, PingTimeout: time.Second},
	} {
		seen := withPeer(t, answerAll, nil, func(ctx context.Context, tr *asynciohttp.Transport) error {
			tr.HTTP2 = &config
			if got := outcome(ctx, tr, "GET", nil); got != `200 "0.1"` {
				t.Error(got)
			}
			if err := asyncio.Sleep(ctx, 10*time.Minute+500*time.Millisecond); err != nil {
				return err
			}
			if got := outcome(ctx, tr, "GET", nil); got != `200 "0.3"` {
				t.Errorf("%v, %v: %s", config.SendPingTimeout, config.PingTimeout, got)
			}
			return nil
		})
		pings := strings.Count(strings.Join(seen[0], "\n"), "ping")
		if want := int(10 * time.Minute / config.SendPingTimeout); pings < want-1 || pings > want {
			t.Errorf("%v: %d pings, want %d", config.SendPingTimeout, pings, want)
		}
	}
}

// soon is outcome with a time limit.
func soon(ctx context.Context, tr *asynciohttp.Transport, method string, body io.Reader, header ...string) string {
	ctx, cancel := asyncio.WithTimeout(ctx, time.Minute)
	defer cancel()
	return outcome(ctx, tr, method, body, header...)
}

// A hook that panics ends its request, and nothing else: the place and the connection remain.
func TestTransportHTTP2_HookPanics(t *testing.T) {
	oh := func() { panic("oh") }
	for name, trace := range map[string]*httptrace.ClientTrace{
		"GetConn":              {GetConn: func(string) { oh() }},
		"GotConn":              {GotConn: func(httptrace.GotConnInfo) { oh() }},
		"WroteHeaderField":     {WroteHeaderField: func(string, []string) { oh() }},
		"WroteHeaders":         {WroteHeaders: oh},
		"WroteRequest":         {WroteRequest: func(httptrace.WroteRequestInfo) { oh() }},
		"GotFirstResponseByte": {GotFirstResponseByte: oh},
	} {
		for _, method := range []string{"GET", "POST"} {
			t.Run(name+" "+method, func(t *testing.T) {
				withPeer(t, answerAll, []http2.Setting{{ID: http2.SettingMaxConcurrentStreams, Val: 1}}, func(ctx context.Context, tr *asynciohttp.Transport) error {
					tr.MaxConnsPerHost = 1
					if got := soon(ctx, tr, "GET", nil); got != `200 "0.1"` {
						t.Error(got)
					}
					func() {
						defer func() {
							if recover() != "oh" {
								t.Error("no panic")
							}
						}()
						var body io.Reader
						if method == "POST" {
							body = strings.NewReader("x")
						}
						_ = soon(httptrace.WithClientTrace(ctx, trace), tr, method, body)
					}()
					if got := soon(ctx, tr, "GET", nil); got != `200 "0.5"` && got != `200 "0.3"` {
						t.Error(got)
					}
					return nil
				})
			})
		}
	}
}

// What had come of the body of a response that nobody gets does not count against the window.
func TestTransportHTTP2_WindowOfFailed(t *testing.T) {
	withPeer(t, func(ctx context.Context, p *h2Peer) error {
		for id := uint32(1); id < 60; id += 2 {
			if err := errors.Join(p.until(fmt.Sprint(id, " headers")), p.send(id, false, ":status", "103"), p.respond(id, false), p.WriteData(id, false, make([]byte, 5000))); err != nil {
				return err
			}
		}
		return answerAll(ctx, p)
	}, nil, func(ctx context.Context, tr *asynciohttp.Transport) error {
		tr.HTTP2 = &http.HTTP2Config{MaxReceiveBufferPerConnection: 64 << 10}
		failing := httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{Got1xxResponse: func(int, textproto.MIMEHeader) error {
			return errors.Join(asyncio.Sleep(ctx, 100*time.Millisecond), errors.New("no"))
		}})
		for range 30 {
			if got := soon(failing, tr, "GET", nil); got != "error: no" {
				t.Fatal(got)
			}
		}
		if got := soon(ctx, tr, "GET", nil); got != `200 "0.61"` {
			t.Error(got)
		}
		return nil
	})
}

// A request that ends its connection makes way for a dial (pool 3).
func TestTransportHTTP2_StrictAndClose(t *testing.T) {
	most := 0
	seen := withPeer(t, slowly(&most), []http2.Setting{{ID: http2.SettingMaxConcurrentStreams, Val: 1}}, func(ctx context.Context, tr *asynciohttp.Transport) error {
		tr.HTTP2 = &http.HTTP2Config{StrictMaxConcurrentRequests: true}
		l, _ := asyncio.GetRunningLoop(ctx)
		if got := outcome(ctx, tr, "GET", nil); got != `200 "0.1"` {
			t.Error(got)
		}
		start := l.Time()
		for i, header := range [][]string{nil, {"Connection", "close"}, nil} {
			task := asyncio.CreateTask(ctx, func(ctx context.Context) (string, error) { return outcome(ctx, tr, "GET", nil, header...), nil })
			defer func() {
				got, err := task.Await(ctx)
				if want := []string{`200 "0.3"`, `200 "0.5"`, `200 "1.1"`}[i]; got != want || err != nil {
					t.Errorf("%s, want %s", got, want)
				}
				if took := l.Time().Sub(start).Truncate(time.Second); took > 2*time.Second {
					t.Errorf("request %d took %v", i, took)
				}
			}()
		}
		return nil
	})
	if len(seen) != 2 {
		t.Errorf("%d connections", len(seen))
	}
}

// A response that is given up may be under way in very many frames.
func TestTransportHTTP2_SmallFramesUnderWay(t *testing.T) {
	withPeer(t, func(ctx context.Context, p *h2Peer) error {
		if err := errors.Join(p.until("1 headers"), p.respond(1, false), p.until("1 reset")); err != nil {
			return err
		}
		for range 20000 {
			if err := p.WriteData(1, false, []byte("x")); err != nil {
				return err
			}
		}
		return answerAll(ctx, p)
	}, nil, func(ctx context.Context, tr *asynciohttp.Transport) error {
		req, err := http.NewRequestWithContext(ctx, "GET", "http://srv/", nil)
		if err != nil {
			return err
		}
		resp, err := tr.RoundTrip(req)
		if err != nil {
			return err
		}
		resp.Body.Close()
		if got := soon(ctx, tr, "GET", nil); got != `200 "0.3"` {
			t.Error(got)
		}
		return nil
	})
}

// WriteByteTimeout ends a connection whose peer takes nothing, not one whose peer is slow.
func TestTransportHTTP2_SlowUpload(t *testing.T) {
	withPeer(t, func(ctx context.Context, p *h2Peer) error {
		return errors.Join(p.until("1 headers"), p.WriteWindowUpdate(1, 1<<30), p.WriteWindowUpdate(0, 1<<30), answerAll(ctx, p))
	}, nil, func(ctx context.Context, tr *asynciohttp.Transport) error {
		sim.NetworkOf(ctx).SetLink(sim.Link{Bandwidth: 5000})
		tr.HTTP2 = &http.HTTP2Config{WriteByteTimeout: 5 * time.Second}
		ctx, cancel := asyncio.WithTimeout(ctx, time.Hour)
		defer cancel()
		if got := outcome(ctx, tr, "POST", strings.NewReader(strings.Repeat("x", 2<<20))); got != `200 "0.1"` {
			t.Error(got)
		}
		return nil
	})
}

// With Request.Cancel too, a body reports why it has ended, and nothing is left behind.
func TestTransportHTTP2_RequestCancel(t *testing.T) {
	inTask(t, func(ctx context.Context) error {
		srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/empty" {
				return
			}
			io.WriteString(w, "half")
			w.(http.Flusher).Flush()
			<-time.After(50 * time.Millisecond)
			panic(http.ErrAbortHandler)
		}))
		srv.EnableHTTP2 = true
		srv.StartTLS()
		defer srv.Close()
		tr := &asynciohttp.Transport{TLSClientConfig: srv.Client().Transport.(*http.Transport).TLSClientConfig.Clone(), ForceAttemptHTTP2: true}
		defer tr.CloseIdleConnections()
		get := func(path string) (string, error) {
			req, err := http.NewRequestWithContext(ctx, "GET", srv.URL+path, nil)
			if err != nil {
				return "", err
			}
			req.Cancel = make(chan struct{})
			_, got, err := exchange(tr.RoundTrip, req)
			return got, err
		}
		if got, err := get("/half"); got != "half" || err == nil || !strings.Contains(err.Error(), "INTERNAL_ERROR") {
			t.Errorf("%q, %v", got, err)
		}
		before := runtime.NumGoroutine()
		for range 20 {
			if _, err := get("/empty"); err != nil {
				return err
			}
		}
		for i := 0; runtime.NumGoroutine() > before+5; i++ {
			if i == 50 {
				t.Errorf("%d goroutines, then %d", before, runtime.NumGoroutine())
				break
			}
			if err := asyncio.Sleep(ctx, 10*time.Millisecond); err != nil {
				return err
			}
		}
		return nil
	})
}

// request is not sent yet.
func TestTransportHTTP2_EarlyAnswerWithoutBody(t *testing.T) {
	withPeer(t, func(ctx context.Context, p *h2Peer) error {
		if err := errors.Join(p.until("1 headers"), p.okay(1, "hello"), p.until("3 data"), p.send(3, true, ":status", "204")); err != nil {
			return err
		}
		return answerAll(ctx, p)
	}, []http2.Setting{{ID: http2.SettingMaxConcurrentStreams, Val: 1}}, func(ctx context.Context, tr *asynciohttp.Transport) error {
		tr.MaxConnsPerHost = 1
		if got := soon(ctx, tr, "GET", nil); got != `200 "hello"` {
			t.Error(got)
		}
		inner, cancel := asyncio.WithCancel(ctx)
		if got := soon(inner, tr, "POST", strings.NewReader(strings.Repeat("x", 70000))); got != `204 ""` {
			t.Error(got)
		}
		cancel()
		if got := soon(ctx, tr, "GET", nil); got != `200 "0.5"` {
			t.Error(got)
		}
		return nil
	})
}

// closeAwaits is a body whose Close suspends.
type closeAwaits struct {
	io.Reader
	close func() error
}

func (c closeAwaits) Close() error { return c.close() }

// The response may end before the request has: the end of that is no cancel of its body.
func TestTransportHTTP2_CloseOfTheBodyAfterTheResponse(t *testing.T) {
	withPeer(t, func(ctx context.Context, p *h2Peer) error {
		return errors.Join(p.until("1 data"), p.respond(1, true), p.until("never"))
	}, nil, func(ctx context.Context, tr *asynciohttp.Transport) error {
		l, _ := asyncio.GetRunningLoop(ctx)
		var closed, wrote error
		n := 0
		body := closeAwaits{readerFunc(func(p []byte) (int, error) {
			if n++; n == 1 {
				return copy(p, "x"), nil
			}
			if err := asyncio.Sleep(asyncio.CurrentTask(l.Context()).GetContext(), time.Second); err != nil {
				return 0, err
			}
			return 0, io.EOF
		}), func() error {
			closed = asyncio.Sleep(asyncio.CurrentTask(l.Context()).GetContext(), time.Second)
			return closed
		}}
		ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{WroteRequest: func(i httptrace.WroteRequestInfo) { wrote = i.Err }})
		req, err := http.NewRequestWithContext(ctx, "POST", "http://srv/", body)
		if err != nil {
			return err
		}
		if _, err := tr.RoundTrip(req); err != nil {
			return err
		}
		if err := asyncio.Sleep(ctx, 5*time.Second); err != nil {
			return err
		}
		if closed != nil || wrote != nil {
			t.Errorf("%v, %v", closed, wrote)
		}
		return nil
	})
}

// A limit of 2 GiB for heads is one.
func TestTransportHTTP2_LargeHeaderLimit(t *testing.T) {
	for _, limit := range []int64{1 << 31, 1<<31 + 1, 1<<32 - 1, 1<<63 - 1} {
		withPeer(t, answerAll, nil, func(ctx context.Context, tr *asynciohttp.Transport) error {
			tr.MaxResponseHeaderBytes = limit
			if got := soon(ctx, tr, "GET", nil); got != `200 "0.1"` {
				t.Errorf("%d: %s", limit, got)
			}
			return nil
		})
	}
}

// A connection that ends after its request sends all of it, also if the response came first.
func TestTransportHTTP2_EndOfTheLastRequest(t *testing.T) {
	seen := withPeer(t, func(ctx context.Context, p *h2Peer) error {
		return errors.Join(p.until("1 data"), p.respond(1, true), p.until("never"))
	}, nil, func(ctx context.Context, tr *asynciohttp.Transport) error {
		tr.DisableKeepAlives = true
		l, _ := asyncio.GetRunningLoop(ctx)
		n := 0
		body := readerFunc(func(p []byte) (int, error) {
			if n++; n == 2 {
				if err := asyncio.Sleep(asyncio.CurrentTask(l.Context()).GetContext(), time.Second); err != nil {
					return 0, err
				}
				return copy(p, "the rest"), io.EOF
			}
			return copy(p, "x"), nil
		})
		if got := outcome(ctx, tr, "POST", body); got != `200 ""` {
			t.Error(got)
		}
		return asyncio.Sleep(ctx, 5*time.Second)
	})
	if got := strings.Join(seen[0], ", "); !strings.HasSuffix(got, `1 data "x", 1 data "the rest", 1 data "" end`) {
		t.Error(got)
	}
}
