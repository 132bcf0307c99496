package asynciohttp_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/asynciohttp"
	"github.com/goasyncio/asyncio/sim"
)

// together makes n requests at once and returns their outcomes, sorted.
func together(ctx context.Context, tr *asynciohttp.Transport, n int) (got []string, err error) {
	var tasks []*asyncio.Task[string]
	for range n {
		tasks = append(tasks, asyncio.CreateTask(ctx, func(ctx context.Context) (string, error) { return outcome(ctx, tr, "GET", nil), nil }))
	}
	for _, task := range tasks {
		s, err := task.Await(ctx)
		if err != nil {
			return nil, err
		}
		got = append(got, s)
	}
	slices.Sort(got)
	return got, nil
}

// slowly answers each request after a second, on its own, and notes how many it has at once.
func slowly(most *int) h2Script {
	return func(ctx context.Context, p *h2Peer) error {
		now := 0
		for {
			if err := p.until(""); err != nil {
				return err
			}
			var id uint32
			last := p.seen[len(p.seen)-1]
			if _, err := fmt.Sscanf(last, "%d headers", &id); err != nil {
				continue
			}
			now++
			*most = max(*most, now)
			asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error {
				defer func() { now-- }()
				if err := pause(ctx); err != nil {
					return err
				}
				_ = p.okay(id, fmt.Sprintf("%d.%d", p.n, id)) // the client may have gone
				return nil
			}))
		}
	}
}

// Requests share connections up to the limits of the server and of the Transport.
func TestTransportHTTP2_Sharing(t *testing.T) {
	for _, test := range []struct {
		name  string
		tr    func(tr *asynciohttp.Transport)
		first bool // a request before the others tells the server's limit
		conns int
		most  int // requests at once on a connection
		took  time.Duration
	}{
		{"one dial for all", nil, false, 1, 7, time.Second},
		{"the server's limit", nil, true, 4, 2, time.Second},
		{"the server's limit, and one of connections", func(tr *asynciohttp.Transport) { tr.MaxConnsPerHost = 2 }, true, 2, 2, 2 * time.Second},
		{"the server's limit, strictly", func(tr *asynciohttp.Transport) { tr.HTTP2 = &http.HTTP2Config{StrictMaxConcurrentRequests: true} }, true, 1, 2, 4 * time.Second},
		{"no keep-alive", func(tr *asynciohttp.Transport) { tr.DisableKeepAlives = true }, true, 8, 1, time.Second},
	} {
		t.Run(test.name, func(t *testing.T) {
			most := 0
			var settings []http2.Setting
			if test.first {
				settings = []http2.Setting{{ID: http2.SettingMaxConcurrentStreams, Val: 2}}
			}
			seen := withPeer(t, slowly(&most), settings, func(ctx context.Context, tr *asynciohttp.Transport) error {
				if test.tr != nil {
					test.tr(tr)
				}
				if test.first {
					if got := outcome(ctx, tr, "GET", nil); got != `200 "0.1"` {
						t.Error(got)
					}
				}
				l, _ := asyncio.GetRunningLoop(ctx)
				start := l.Time()
				got, err := together(ctx, tr, 7)
				if err != nil {
					return err
				}
				if took := l.Time().Sub(start).Truncate(time.Second); took != test.took {
					t.Errorf("%v", took)
				}
				if len(slices.Compact(got)) != 7 || !strings.HasPrefix(got[0], "200") {
					t.Errorf("%q", got)
				}
				return nil
			})
			if len(seen) != test.conns || most != test.most {
				t.Errorf("%d connections, %d requests at once", len(seen), most)
			}
		})
	}
}

// A limit that comes after places were promised, and before they are taken, holds for them.
func TestTransportHTTP2_LateLimit(t *testing.T) {
	most := 0
	var conns []*h2Peer
	scripted(t, func(ctx context.Context, n int, c *asyncio.Conn, br *bufio.Reader) error {
		limit := http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 2}
		if err := http2.NewFramer(c, nil).WriteSettings(limit); err != nil {
			return err
		}
		p, err := acceptHTTP2(n, c, br, limit)
		if err != nil {
			return err
		}
		conns = append(conns, p)
		return slowly(&most)(ctx, p)
	}, func(ctx context.Context, tr *asynciohttp.Transport) error {
		tr.Protocols, tr.DisableCompression, tr.MaxConnsPerHost = unencrypted(), true, 1
		tr.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
			c, err := asyncio.DialContext(ctx, network, addr)
			return c, errors.Join(err, pause(ctx)) // the limit has come then
		}
		got, err := together(ctx, tr, 7)
		if err != nil {
			return err
		}
		if most != 2 || len(conns) != 1 || got[0] != `200 "0.1"` || got[6] != `200 "0.9"` {
			t.Errorf("%d at once, %d connections, %q", most, len(conns), got)
		}
		return nil
	})
}

// The dial that many wait for belongs to one request. If that is given up, the next one dials; if
// it fails, all do.
func TestTransportHTTP2_SharedDial(t *testing.T) {
	withPeer(t, answerAll, nil, func(ctx context.Context, tr *asynciohttp.Transport) error {
		dials, now, most := 0, 0, 0
		var fail error
		tr.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
			dials++
			now++
			most = max(most, now)
			defer func() { now-- }()
			if err := pause(ctx); err != nil {
				return nil, err
			}
			if fail != nil {
				return nil, fail
			}
			return asyncio.DialContext(ctx, network, addr)
		}
		l, _ := asyncio.GetRunningLoop(ctx)
		first := asyncio.CreateTask(ctx, func(ctx context.Context) (string, error) { return outcome(ctx, tr, "GET", nil), nil })
		l.CallLater(500*time.Millisecond, func() { first.Cancel() })
		if err := asyncio.Sleep(ctx, 0); err != nil {
			return err
		}
		got, err := together(ctx, tr, 5)
		if err != nil {
			return err
		}
		if dials != 2 || most != 1 || got[0] != `200 "0.1"` || got[4] != `200 "0.9"` {
			t.Errorf("%d dials, %d at once, %q", dials, most, got)
		}
		if s, _ := first.Await(ctx); !strings.Contains(s, "cancelled") {
			t.Error(s)
		}
		tr.CloseIdleConnections()
		dials, most, fail = 0, 0, errors.New("no way")
		start := l.Time()
		if got, err = together(ctx, tr, 5); err != nil {
			return err
		}
		if took := l.Time().Sub(start); dials != 5 || most != 4 || took != 2*time.Second || got[0] != "error: no way" || got[4] != "error: no way" {
			t.Errorf("%d dials, %d at once, %v, %q", dials, most, took, got)
		}
		return nil
	})
}

// A server with TLS that speaks HTTP/1.1 gets as many connections as without HTTP/2, though the
// first dial was waited for.
func TestTransportHTTP2_NotSpoken(t *testing.T) {
	inTask(t, func(ctx context.Context) error {
		var round atomic.Pointer[sync.WaitGroup]
		srv := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			all := round.Load()
			all.Done()
			all.Wait()
			io.WriteString(w, r.Proto)
		}))
		defer srv.Close()
		tr := &asynciohttp.Transport{TLSClientConfig: srv.Client().Transport.(*http.Transport).TLSClientConfig.Clone(), ForceAttemptHTTP2: true, MaxIdleConnsPerHost: 10}
		defer tr.CloseIdleConnections()
		reused := 0
		traced := httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(i httptrace.GotConnInfo) {
			if i.Reused {
				reused++
			}
		}})
		for range 2 {
			all := new(sync.WaitGroup)
			all.Add(8)
			round.Store(all)
			if err := asyncio.RunTaskGroup(traced, func(ctx context.Context, tg *asyncio.TaskGroup) error {
				for range 8 {
					tg.CreateTask(ctx, func(ctx context.Context) error {
						req, err := http.NewRequestWithContext(ctx, "GET", srv.URL, nil)
						if err != nil {
							return err
						}
						_, got, err := exchange(tr.RoundTrip, req)
						if got != "HTTP/1.1" {
							t.Error(got)
						}
						return err
					})
				}
				return nil
			}); err != nil {
				return err
			}
		}
		if reused != 8 {
			t.Errorf("%d of 8 connections were used again", reused)
		}
		return nil
	})
}

// Connections without a request are kept and closed as with HTTP/1.1, and their end is seen at
// once.
func TestTransportHTTP2_Idle(t *testing.T) {
	for _, test := range []struct {
		name string
		tr   func(tr *asynciohttp.Transport)
		then func(ctx context.Context, tr *asynciohttp.Transport) error
		next string // of a POST that cannot be repeated
	}{
		{"kept", nil, func(ctx context.Context, _ *asynciohttp.Transport) error { return asyncio.Sleep(ctx, 24*time.Hour) }, `200 "0.3"`},
		{"in time", func(tr *asynciohttp.Transport) { tr.IdleConnTimeout = time.Minute },
			func(ctx context.Context, _ *asynciohttp.Transport) error { return asyncio.Sleep(ctx, 59*time.Second) }, `200 "0.3"`},
		{"too long", func(tr *asynciohttp.Transport) { tr.IdleConnTimeout = time.Minute },
			func(ctx context.Context, _ *asynciohttp.Transport) error { return asyncio.Sleep(ctx, 61*time.Second) }, `200 "1.1"`},
		{"closed", nil, func(_ context.Context, tr *asynciohttp.Transport) error { tr.CloseIdleConnections(); return nil }, `200 "1.1"`},
		{"not kept", func(tr *asynciohttp.Transport) { tr.MaxIdleConnsPerHost = -1 }, func(context.Context, *asynciohttp.Transport) error { return nil }, `200 "1.1"`},
		{"the last of several", func(tr *asynciohttp.Transport) { tr.MaxIdleConns = 1 }, func(ctx context.Context, tr *asynciohttp.Transport) error {
			req, err := http.NewRequestWithContext(ctx, "GET", "http://srv:80/", nil)
			if err != nil {
				return err
			}
			own := tr.Clone()
			defer own.CloseIdleConnections()
			_, _, err = exchange(own.RoundTrip, req)
			return err
		}, `200 "0.3"`},
		{"reset by the network", nil, func(ctx context.Context, _ *asynciohttp.Transport) error {
			sim.NetworkOf(ctx).ResetAll()
			return pause(ctx)
		}, `200 "1.1"`},
	} {
		t.Run(test.name, func(t *testing.T) {
			withPeer(t, answerAll, nil, func(ctx context.Context, tr *asynciohttp.Transport) error {
				if test.tr != nil {
					test.tr(tr)
				}
				if got := outcome(ctx, tr, "GET", nil); got != `200 "0.1"` {
					t.Error(got)
				}
				if err := test.then(ctx, tr); err != nil {
					return err
				}
				if got := outcome(ctx, tr, "POST", io.MultiReader(strings.NewReader("x"))); got != test.next {
					t.Errorf("%s, want %s", got, test.next)
				}
				return nil
			})
		})
	}
}

// CloseIdleConnections leaves a connection with a request alone, and Request.Close ends one after
// it.
func TestTransportHTTP2_InUse(t *testing.T) {
	most := 0
	withPeer(t, slowly(&most), nil, func(ctx context.Context, tr *asynciohttp.Transport) error {
		task := asyncio.CreateTask(ctx, func(ctx context.Context) (string, error) {
			return outcome(ctx, tr, "GET", nil, "Connection", "close"), nil
		})
		if err := asyncio.Sleep(ctx, 500*time.Millisecond); err != nil {
			return err
		}
		tr.CloseIdleConnections()
		if got := outcome(ctx, tr, "GET", nil); got != `200 "1.1"` {
			t.Error(got)
		}
		if got, err := task.Await(ctx); got != `200 "0.1"` || err != nil {
			t.Errorf("%s, %v", got, err)
		}
		return nil
	})
}

// Which requests are sent again, and when (transport 4).
func TestTransportHTTP2_Retry(t *testing.T) {
	again := func() io.Reader { return strings.NewReader("a body") } // http.NewRequest sets GetBody
	once := func() io.Reader { return io.MultiReader(strings.NewReader("a body")) }
	goAway := func(last uint32) h2Script {
		return func(_ context.Context, p *h2Peer) error { return p.WriteGoAway(last, http2.ErrCodeNo, nil) }
	}
	refuse := func(code http2.ErrCode) h2Script {
		return func(_ context.Context, p *h2Peer) error { return p.WriteRSTStream(3, code) }
	}
	closes := func(_ context.Context, p *h2Peer) error { return errors.Join(p.Close(), io.EOF) }
	const cannot = "error: asynciohttp: the request cannot be sent again, as its body was read and GetBody is nil: "
	for _, test := range []struct {
		name, method string
		body         func() io.Reader
		header       []string
		answer       h2Script
		want         string
	}{
		{"GOAWAY", "GET", nil, nil, goAway(1), `200 "1.1"`},
		{"GOAWAY, POST", "POST", again, nil, goAway(1), `200 "1.1"`},
		{"GOAWAY, a body that cannot be had again", "POST", once, nil, goAway(1), cannot + "asynciohttp: the server has sent GOAWAY: NO_ERROR"},
		{"GOAWAY that includes the request", "GET", nil, nil, func(ctx context.Context, p *h2Peer) error {
			return errors.Join(goAway(3)(ctx, p), pause(ctx), p.okay(3, "still"))
		}, `200 "still"`},
		{"GOAWAY twice", "POST", again, nil, func(ctx context.Context, p *h2Peer) error {
			return errors.Join(goAway(1<<31-1)(ctx, p), pause(ctx), goAway(1)(ctx, p))
		}, `200 "1.1"`},
		{"REFUSED_STREAM", "POST", again, nil, refuse(http2.ErrCodeRefusedStream), `200 "0.5"`},
		{"REFUSED_STREAM, a body that cannot be had again", "POST", once, nil, refuse(http2.ErrCodeRefusedStream), cannot + "stream error: stream ID 3; REFUSED_STREAM; received from the peer"},
		{"PROTOCOL_ERROR", "GET", nil, nil, refuse(http2.ErrCodeProtocol), `200 "1.1"`},
		{"CANCEL", "GET", nil, nil, refuse(http2.ErrCodeCancel), "error: stream error: stream ID 3; CANCEL; received from the peer"},
		{"an end", "GET", nil, nil, closes, `200 "1.1"`},
		{"an end, POST", "POST", again, nil, closes, "error: unexpected EOF"},
		{"an end, POST with a key", "POST", again, []string{"Idempotency-Key", "1"}, closes, `200 "1.1"`},
		{"an end, POST with a key, a body that cannot be had again", "POST", once, []string{"Idempotency-Key", "1"}, closes, "error: unexpected EOF"},
		{"an end in the response", "GET", nil, nil, func(_ context.Context, p *h2Peer) error {
			return errors.Join(p.respond(3, false), p.Close(), io.EOF)
		}, `200 "" unexpected EOF`},
	} {
		t.Run(test.name, func(t *testing.T) {
			withPeer(t, func(ctx context.Context, p *h2Peer) error {
				if p.n > 0 {
					return answerAll(ctx, p)
				}
				want := "3 headers"
				if test.body != nil {
					want = "3 data"
				}
				if err := errors.Join(p.until("1 headers"), p.okay(1, "hello"), p.until(want), test.answer(ctx, p)); err != nil {
					return err
				}
				return answerAll(ctx, p)
			}, nil, func(ctx context.Context, tr *asynciohttp.Transport) error {
				if got := outcome(ctx, tr, "GET", nil); got != `200 "hello"` {
					t.Error(got)
				}
				var body io.Reader
				if test.body != nil {
					body = test.body()
				}
				if got := outcome(ctx, tr, test.method, body, test.header...); got != test.want {
					t.Errorf("got  %s\nwant %s", got, test.want)
				}
				return nil
			})
		})
	}
}

// Requests that a server refuses again and again are sent eight times, with growing pauses.
func TestTransportHTTP2_Refused(t *testing.T) {
	n := 0
	withPeer(t, func(ctx context.Context, p *h2Peer) error {
		for {
			if err := p.until(fmt.Sprintf("%d headers", 2*n+1)); err != nil {
				return err
			}
			if err := p.WriteRSTStream(uint32(2*n+1), http2.ErrCodeRefusedStream); err != nil {
				return err
			}
			n++
		}
	}, nil, func(ctx context.Context, tr *asynciohttp.Transport) error {
		l, _ := asyncio.GetRunningLoop(ctx)
		start := l.Time()
		got := outcome(ctx, tr, "GET", nil)
		if took := l.Time().Sub(start); n != 8 || !strings.Contains(got, "REFUSED_STREAM") || took < 63*time.Second || took > 70*time.Second {
			t.Errorf("%d times, %v, %s", n, took, got)
		}
		ctx, cancel := asyncio.WithTimeout(ctx, 2*time.Second)
		defer cancel()
		if got := outcome(ctx, tr, "GET", nil); got != "error: context deadline exceeded" || n != 11 {
			t.Errorf("%d times, %s", n, got)
		}
		return nil
	})
}

// A request of which nothing went out is sent again, whatever it is.
func TestTransportHTTP2_NeverSent(t *testing.T) {
	withPeer(t, answerAll, nil, func(ctx context.Context, tr *asynciohttp.Transport) error {
		dials := 0
		tr.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
			c, err := asyncio.Dial(ctx, network, addr)
			dials++
			return &fullConn{c, ctx, dials*2 - 1}, err
		}
		if got := outcome(ctx, tr, "GET", nil); got != `200 "0.1"` {
			t.Error(got)
		}
		if err := pause(ctx); err != nil { // the writer acknowledges the settings, and is stuck
			return err
		}
		l, _ := asyncio.GetRunningLoop(ctx)
		l.CallLater(time.Second, sim.NetworkOf(ctx).ResetAll)
		if got := outcome(ctx, tr, "POST", strings.NewReader("x")); got != `200 "1.1"` {
			t.Error(got)
		}
		return nil
	})
}

// fullConn is a connection that takes some writes, and then none.
type fullConn struct {
	net.Conn
	ctx   context.Context
	takes int
}

func (c *fullConn) Write(p []byte) (int, error) {
	if c.takes--; c.takes < 0 {
		return 0, asyncio.Sleep(c.ctx, time.Hour)
	}
	return c.Conn.Write(p)
}

// A cancel resets the stream, and the connection stays; so does the end of a context, also if
// nobody reads the response.
func TestTransportHTTP2_Cancel(t *testing.T) {
	body := func(ctx context.Context, tr *asynciohttp.Transport) (*http.Response, error) {
		req, err := http.NewRequestWithContext(ctx, "GET", "http://srv/", nil)
		if err != nil {
			return nil, err
		}
		req.Header.Set("User-Agent", "")
		return tr.RoundTrip(req)
	}
	for name, give := range map[string]func(ctx context.Context, tr *asynciohttp.Transport) error{
		"a cancel of the task": func(ctx context.Context, tr *asynciohttp.Transport) error {
			task := asyncio.CreateTask(ctx, func(ctx context.Context) (string, error) { return outcome(ctx, tr, "GET", nil), nil })
			if err := pause(ctx); err != nil {
				return err
			}
			task.Cancel()
			if got, _ := task.Await(ctx); !strings.Contains(got, "cancelled") {
				return errors.New(got)
			}
			return nil
		},
		"a time limit": func(ctx context.Context, tr *asynciohttp.Transport) error {
			ctx, cancel := asyncio.WithTimeout(ctx, time.Second)
			defer cancel()
			if got := outcome(ctx, tr, "GET", nil); got != "error: context deadline exceeded" {
				return errors.New(got)
			}
			return nil
		},
		"Close": func(ctx context.Context, tr *asynciohttp.Transport) error {
			resp, err := body(ctx, tr)
			if err != nil {
				return err
			}
			return resp.Body.Close()
		},
		"a cancel of a read": func(ctx context.Context, tr *asynciohttp.Transport) error {
			resp, err := body(ctx, tr)
			if err != nil {
				return err
			}
			err = asyncio.Timeout(ctx, time.Second, func(context.Context, *asyncio.TimeoutScope) error {
				_, err := io.ReadAll(resp.Body)
				return err
			})
			if _, again := resp.Body.Read(make([]byte, 1)); !isTimeout(err) || !errors.Is(again, asyncio.ErrCancelled) {
				return fmt.Errorf("%v, then %v", err, again)
			}
			return nil
		},
		"the end of a context": func(ctx context.Context, tr *asynciohttp.Transport) error {
			inner, cancel := asyncio.WithCancel(ctx)
			resp, err := body(inner, tr)
			if err != nil {
				return err
			}
			_ = resp // nobody reads or closes it
			cancel()
			return nil
		},
		"the reader's hook": func(ctx context.Context, tr *asynciohttp.Transport) error {
			ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{WroteRequest: func(httptrace.WroteRequestInfo) { panic("oh") }})
			defer func() {
				if recover() != "oh" {
					panic("no panic")
				}
			}()
			return errors.New(outcome(ctx, tr, "GET", nil))
		},
	} {
		t.Run(name, func(t *testing.T) {
			seen := withPeer(t, func(ctx context.Context, p *h2Peer) error {
				if err := errors.Join(p.until("1 headers"), p.okay(1, "hello"), p.until("3 headers")); err != nil {
					return err
				}
				if strings.Contains(name, "Close") || strings.Contains(name, "read") && !strings.Contains(name, "hook") || strings.Contains(name, "context") {
					if err := p.respond(3, false); err != nil {
						return err
					}
				}
				if err := p.until("3 reset"); err != nil {
					return err
				}
				return answerAll(ctx, p)
			}, []http2.Setting{{ID: http2.SettingMaxConcurrentStreams, Val: 1}}, func(ctx context.Context, tr *asynciohttp.Transport) error {
				tr.MaxConnsPerHost = 1
				if got := outcome(ctx, tr, "GET", nil); got != `200 "hello"` {
					t.Error(got)
				}
				if err := give(ctx, tr); err != nil {
					t.Error(err)
				}
				if got := outcome(ctx, tr, "GET", nil); got != `200 "0.5"` {
					t.Error(got)
				}
				return nil
			})
			got := slices.DeleteFunc(seen[0], func(s string) bool { return s == "ping" })
			if want := []string{"1 " + helloRequest, "3 " + helloRequest, "3 reset CANCEL", "5 " + helloRequest}; !slices.Equal(got, want) {
				t.Errorf("the server saw %q", got)
			}
		})
	}
}

// A server that does not respond gets no more requests than it allows, though they are given up: a
// place is free when it has answered a PING (http2client 4).
func TestTransportHTTP2_Unsure(t *testing.T) {
	answers := false
	withPeer(t, func(ctx context.Context, p *h2Peer) error {
		for {
			f, err := p.ReadFrame()
			if err != nil {
				return io.EOF
			}
			switch f := f.(type) {
			case *http2.PingFrame:
				for !answers {
					if err := pause(ctx); err != nil {
						return err
					}
				}
				if err := p.WritePing(true, f.Data); err != nil {
					return err
				}
			case *http2.MetaHeadersFrame:
				if f.StreamID == 1 || answers {
					if err := p.okay(f.StreamID, fmt.Sprint(f.StreamID)); err != nil {
						return err
					}
				}
			}
		}
	}, []http2.Setting{{ID: http2.SettingMaxConcurrentStreams, Val: 3}}, func(ctx context.Context, tr *asynciohttp.Transport) error {
		tr.MaxConnsPerHost = 1
		if got := outcome(ctx, tr, "GET", nil); got != `200 "1"` {
			t.Error(got)
		}
		short := func() string {
			ctx, cancel := asyncio.WithTimeout(ctx, 10*time.Second)
			defer cancel()
			return outcome(ctx, tr, "GET", nil)
		}
		for range 5 {
			if got := short(); got != "error: context deadline exceeded" {
				t.Error(got)
			}
		}
		answers = true
		if got := short(); got != `200 "9"` { // three were sent, two had no place
			t.Error(got)
		}
		return nil
	})
}

// A server that has gone without a word is noticed by PING, and one that takes nothing by
// WriteByteTimeout.
func TestTransportHTTP2_Health(t *testing.T) {
	for _, test := range []struct {
		name   string
		config http.HTTP2Config
		answer h2Script
		body   func() io.Reader
		want   string
		took   time.Duration
	}{
		{"no answer", http.HTTP2Config{SendPingTimeout: 10 * time.Second, PingTimeout: 5 * time.Second},
			func(ctx context.Context, _ *h2Peer) error { return asyncio.Sleep(ctx, time.Hour) }, nil,
			"error: asynciohttp: the connection is lost: the server does not answer a PING (HTTP2Config.PingTimeout)", 15 * time.Second},
		{"no answer in the time of the default", http.HTTP2Config{SendPingTimeout: 10 * time.Second},
			func(ctx context.Context, _ *h2Peer) error { return asyncio.Sleep(ctx, time.Hour) }, nil,
			"error: asynciohttp: the connection is lost: the server does not answer a PING (HTTP2Config.PingTimeout)", 25 * time.Second},
		{"an answer", http.HTTP2Config{SendPingTimeout: 10 * time.Second, PingTimeout: 5 * time.Second},
			func(ctx context.Context, p *h2Peer) error {
				for range 4 {
					if err := errors.Join(p.until("ping"), p.WritePing(true, [8]byte{})); err != nil {
						return err
					}
				}
				return p.okay(1, "late")
			}, nil, `200 "late"`, 40 * time.Second},
		{"nothing is taken", http.HTTP2Config{WriteByteTimeout: 3 * time.Second},
			func(ctx context.Context, p *h2Peer) error {
				return errors.Join(p.WriteWindowUpdate(1, 1<<30), p.WriteWindowUpdate(0, 1<<30), asyncio.Sleep(ctx, time.Hour))
			}, func() io.Reader {
				return readerFunc(func(p []byte) (int, error) { return len(p), nil })
			}, "i/o timeout", 9 * time.Second}, // something was taken before
	} {
		t.Run(test.name, func(t *testing.T) {
			withPeer(t, func(ctx context.Context, p *h2Peer) error {
				return errors.Join(p.until("1 headers"), test.answer(ctx, p))
			}, nil, func(ctx context.Context, tr *asynciohttp.Transport) error {
				tr.HTTP2 = &test.config
				l, _ := asyncio.GetRunningLoop(ctx)
				start := l.Time()
				method, body := "GET", io.Reader(nil)
				if test.body != nil {
					method, body = "POST", test.body()
				}
				got := outcome(ctx, tr, method, body)
				if took := l.Time().Sub(start).Truncate(time.Second); !strings.Contains(got, test.want) || took != test.took {
					t.Errorf("%s, %v", got, took)
				}
				return nil
			})
		})
	}
}
