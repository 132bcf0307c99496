package asynciohttp_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/asynciohttp"
	"github.com/goasyncio/asyncio/sim"
)

// A script is a server on a simulated host: it handles each connection by hand.
type script func(ctx context.Context, n int, c *asyncio.Conn, br *bufio.Reader) error

// scripted runs body on a host, with another host that runs the script for the n-th connection.
func scripted(t *testing.T, s script, body func(ctx context.Context, tr *asynciohttp.Transport) error) {
	t.Helper()
	sim.Run(t, func(ctx context.Context) error { return withScript(ctx, s, body) })
}

func withScript(ctx context.Context, s script, body func(ctx context.Context, tr *asynciohttp.Transport) error) error {
	sim.NewHost(ctx, "srv", func(ctx context.Context) error {
		ln, err := asyncio.Listen(ctx, "tcp", ":80")
		if err != nil {
			return err
		}
		for n := 0; ; n++ {
			c, err := ln.AcceptContext(ctx)
			if err != nil {
				return err
			}
			asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error {
				defer c.Close()
				err := s(ctx, n, c, bufio.NewReader(c))
				if errors.Is(err, io.EOF) || errors.Is(err, asyncio.ErrCancelled) {
					return nil
				}
				return err
			}))
		}
	})
	if err := asyncio.Sleep(ctx, 100*time.Millisecond); err != nil {
		return err
	}
	tr := new(asynciohttp.Transport)
	defer tr.CloseIdleConnections()
	return body(ctx, tr)
}

// ask sends a request to srv and returns the body of the response.
func ask(ctx context.Context, rt http.RoundTripper, method string, body io.Reader, header ...string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://srv/", body)
	if err != nil {
		return "", err
	}
	_, got, err := exchange(rt.RoundTrip, req, header...)
	return got, err
}

// answer reads a request and writes raw.
func answer(c *asyncio.Conn, br *bufio.Reader, raw string) (*http.Request, error) {
	req, err := http.ReadRequest(br)
	if err != nil {
		return nil, io.EOF
	}
	if _, err := io.Copy(io.Discard, req.Body); err != nil {
		return req, io.EOF
	}
	_, err = io.WriteString(c, raw)
	return req, err
}

func okay(body string) string {
	return fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
}

// isTimeout reports whether err says that it is one, in the ways that programs ask.
func isTimeout(err error) bool {
	var timed interface{ Timeout() bool }
	return errors.As(err, &timed) && timed.Timeout() && errors.Is(err, context.DeadlineExceeded)
}

// Which requests are sent again on a new connection, after the first answer on the old one
// (transport 4).
func TestTransport_Retry(t *testing.T) {
	for _, c := range []struct {
		name   string
		method string
		body   func() io.Reader // nil for none
		header []string
		second string // what the server sends for the second request before it closes
		again  bool
	}{
		{"GET", "GET", nil, nil, "", true},
		{"HEAD", "HEAD", nil, nil, "", true},
		{"OPTIONS", "OPTIONS", nil, nil, "", true},
		{"DELETE", "DELETE", nil, nil, "", false},
		{"POST", "POST", func() io.Reader { return strings.NewReader("x") }, nil, "", false},
		{"PUT", "PUT", func() io.Reader { return strings.NewReader("x") }, nil, "", false},
		{"POST with a key", "POST", func() io.Reader { return strings.NewReader("x") }, []string{"Idempotency-Key", "1"}, "", true},
		{"POST with another key", "POST", func() io.Reader { return strings.NewReader("x") }, []string{"X-Idempotency-Key", "1"}, "", true},
		{"POST with a key, body gone", "POST", func() io.Reader { return io.MultiReader(strings.NewReader("x")) }, []string{"Idempotency-Key", "1"}, "", false},
		{"GET with a body in memory", "GET", func() io.Reader { return strings.NewReader("x") }, nil, "", true},
		{"GET with a body gone", "GET", func() io.Reader { return io.MultiReader(strings.NewReader("x")) }, nil, "", false},
		{"GET, begun", "GET", nil, nil, "HTTP/1.1 2", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			arrived := 0
			scripted(t, func(ctx context.Context, n int, conn *asyncio.Conn, br *bufio.Reader) error {
				if _, err := answer(conn, br, okay("first")); err != nil {
					return err
				}
				second := okay("second")
				if n == 0 {
					second = c.second
				}
				_, err := answer(conn, br, second)
				if err == nil {
					arrived++
				}
				return err
			}, func(ctx context.Context, tr *asynciohttp.Transport) error {
				if got, err := ask(ctx, tr, "GET", nil); got != "first" || err != nil {
					t.Errorf("the first request: %q, %v", got, err)
				}
				var body io.Reader
				if c.body != nil {
					body = c.body()
				}
				got, err := ask(ctx, tr, c.method, body, c.header...)
				if c.again && (err != nil || got != "first" && c.method != "HEAD") || !c.again && err == nil {
					t.Errorf("%q, %v; sent again: want %v", got, err, c.again)
				}
				if arrived != 1 {
					t.Errorf("the old connection got %d requests", arrived)
				}
				return nil
			})
		})
	}
}

// A connection that has not served a request yet is no reason to try again.
func TestTransport_NoRetryOnFirst(t *testing.T) {
	conns := 0
	scripted(t, func(_ context.Context, n int, c *asyncio.Conn, br *bufio.Reader) error {
		conns++
		_, err := answer(c, br, "")
		return err
	}, func(ctx context.Context, tr *asynciohttp.Transport) error {
		if _, err := ask(ctx, tr, "GET", nil); !errors.Is(err, io.EOF) || conns != 1 {
			t.Errorf("%v, %d connections", err, conns)
		}
		return nil
	})
}

// The end of an idle connection is noticed when it comes: a POST behind it is not sent there. So is
// what nobody asked for (transport 3).
func TestTransport_DeadIdle(t *testing.T) {
	for name, last := range map[string]string{"closed": "", "unasked": okay("poison"), "408": "HTTP/1.1 408 Request Timeout\r\n\r\n"} {
		t.Run(name, func(t *testing.T) {
			ended := 0
			scripted(t, func(ctx context.Context, n int, c *asyncio.Conn, br *bufio.Reader) error {
				if _, err := answer(c, br, okay(fmt.Sprint(n))); err != nil {
					return err
				}
				if err := asyncio.Sleep(ctx, time.Second); err != nil {
					return err
				}
				if _, err := io.WriteString(c, last); err != nil {
					return err
				}
				if last != "" { // the client closes
					_, err := br.ReadByte()
					ended++
					return err
				}
				return nil
			}, func(ctx context.Context, tr *asynciohttp.Transport) error {
				for want := range 3 {
					if got, err := ask(ctx, tr, "POST", strings.NewReader("x")); got != fmt.Sprint(want) || err != nil {
						t.Errorf("request %d: %q, %v", want, got, err)
					}
					if err := asyncio.Sleep(ctx, 2*time.Second); err != nil {
						return err
					}
				}
				if last != "" && ended != 3 {
					t.Errorf("%d connections were closed", ended)
				}
				return nil
			})
		})
	}
}

// Each limit of the Transport's ends a request with an error that says so, and the next request
// gets through.
func TestTransport_Limits(t *testing.T) {
	scripted(t, func(ctx context.Context, n int, c *asyncio.Conn, br *bufio.Reader) error {
		if n == 0 {
			_, _ = br.ReadByte()
			return asyncio.Sleep(ctx, time.Hour)
		}
		for {
			if _, err := answer(c, br, okay("ok")); err != nil {
				return err
			}
		}
	}, func(ctx context.Context, tr *asynciohttp.Transport) error {
		l, _ := asyncio.GetRunningLoop(ctx)
		tr.ResponseHeaderTimeout = time.Second
		start := l.Time()
		if _, err := ask(ctx, tr, "GET", nil); !isTimeout(err) || !strings.Contains(err.Error(), "ResponseHeaderTimeout") {
			t.Errorf("ResponseHeaderTimeout: %v", err)
		}
		if d := l.Time().Sub(start); d < time.Second || d > 1100*time.Millisecond {
			t.Errorf("it took %v", d)
		}
		if got, err := ask(ctx, tr, "GET", nil); got != "ok" || err != nil {
			t.Errorf("afterwards: %q, %v", got, err)
		}
		// the limit is for the head only
		req, _ := http.NewRequestWithContext(ctx, "GET", "http://srv/", nil)
		resp, err := tr.RoundTrip(req)
		if err != nil {
			return err
		}
		if err := asyncio.Sleep(ctx, time.Minute); err != nil {
			return err
		}
		if b, err := io.ReadAll(resp.Body); string(b) != "ok" || err != nil {
			t.Errorf("a body read late: %q, %v", b, err)
		}
		return resp.Body.Close()
	})
}

// A server that does not answer a handshake is given up in time.
func TestTransport_HandshakeLimit(t *testing.T) {
	scripted(t, func(ctx context.Context, n int, c *asyncio.Conn, br *bufio.Reader) error {
		return asyncio.Sleep(ctx, time.Hour)
	}, func(ctx context.Context, tr *asynciohttp.Transport) error {
		tr.TLSHandshakeTimeout = time.Second
		l, _ := asyncio.GetRunningLoop(ctx)
		start := l.Time()
		req, _ := http.NewRequestWithContext(ctx, "GET", "https://srv:80/", nil)
		_, err := tr.RoundTrip(req)
		if timed, ok := err.(net.Error); !ok || !timed.Timeout() || !strings.Contains(err.Error(), "TLSHandshakeTimeout") {
			t.Errorf("%v", err)
		}
		if d := l.Time().Sub(start); d < time.Second || d > 1100*time.Millisecond {
			t.Errorf("it took %v", d)
		}
		return nil
	})
}

// A cancel, a time-out scope and the end of a context arrive while a request waits for anything.
func TestTransport_Ends(t *testing.T) {
	type how struct {
		name string
		run  func(ctx context.Context, body func(ctx context.Context) error) error
		is   func(err error) bool
	}
	hows := []how{
		{"Timeout", func(ctx context.Context, body func(ctx context.Context) error) error {
			return asyncio.Timeout(ctx, time.Second, func(ctx context.Context, _ *asyncio.TimeoutScope) error { return body(ctx) })
		}, func(err error) bool { return errors.Is(err, asyncio.ErrTimeout) }},
		{"WithTimeout", func(ctx context.Context, body func(ctx context.Context) error) error {
			ctx, cancel := asyncio.WithTimeout(ctx, time.Second)
			defer cancel()
			return body(ctx)
		}, isTimeout},
		{"WithCancel", func(ctx context.Context, body func(ctx context.Context) error) error {
			ctx, cancel := asyncio.WithCancel(ctx)
			l, _ := asyncio.GetRunningLoop(ctx)
			l.CallLater(time.Second, cancel)
			return body(ctx)
		}, func(err error) bool { return errors.Is(err, context.Canceled) }},
		{"Cancel", func(ctx context.Context, body func(ctx context.Context) error) error {
			task := asyncio.CreateTask(ctx, asyncio.Do(body))
			l, _ := asyncio.GetRunningLoop(ctx)
			l.CallLater(time.Second, func() { task.Cancel() })
			_, err := task.Await(ctx)
			if err != nil && !task.Cancelled() {
				err = fmt.Errorf("not cancelled: %v", err)
			}
			return err
		}, func(err error) bool { return errors.Is(err, asyncio.ErrCancelled) }},
	}
	// what the server sends before it falls silent
	for _, sent := range []string{"", "HTTP/1.1 ", "HTTP/1.1 200 OK\r\nContent-", "HTTP/1.1 200 OK\r\n\r\nbod", "HTTP/1.1 100 Continue\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nTrai", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nA: b\r\n",
		"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n\x1f\x8b"} {
		for _, h := range hows {
			t.Run(fmt.Sprintf("%s, %q", h.name, sent), func(t *testing.T) {
				closed := false
				scripted(t, func(ctx context.Context, n int, c *asyncio.Conn, br *bufio.Reader) error {
					if n > 0 {
						_, err := answer(c, br, okay("ok"))
						return err
					}
					if _, err := answer(c, br, sent); err != nil {
						return err
					}
					_, err := br.ReadByte()
					closed = true
					return err
				}, func(ctx context.Context, tr *asynciohttp.Transport) error {
					tr.MaxConnsPerHost = 1
					client := &http.Client{Transport: tr}
					err := h.run(ctx, func(ctx context.Context) error {
						req, _ := http.NewRequestWithContext(ctx, "GET", "http://srv/", nil)
						resp, err := client.Do(req)
						if err != nil {
							return err
						}
						defer resp.Body.Close()
						_, err = io.ReadAll(resp.Body)
						if _, again := resp.Body.Read(make([]byte, 1)); again == nil || err == nil || again.Error() != err.Error() {
							t.Errorf("%v, and the next Read: %v", err, again)
						}
						return err
					})
					if !h.is(err) {
						t.Errorf("ended with %v", err)
					}
					if got, err := ask(ctx, tr, "GET", nil); got != "ok" || err != nil {
						t.Errorf("the next request: %q, %v", got, err)
					}
					if !closed {
						t.Errorf("the connection was not closed")
					}
					return nil
				})
			})
		}
	}
}

// Who waits for a connection goes on when there is one, or a place, and leaves nothing behind when
// it is cancelled (transport 5).
func TestTransport_Waiting(t *testing.T) {
	scripted(t, func(ctx context.Context, n int, c *asyncio.Conn, br *bufio.Reader) error {
		for {
			if _, err := http.ReadRequest(br); err != nil {
				return io.EOF
			}
			if err := asyncio.Sleep(ctx, time.Second); err != nil {
				return err
			}
			if _, err := io.WriteString(c, okay(fmt.Sprint(n))); err != nil {
				return err
			}
		}
	}, func(ctx context.Context, tr *asynciohttp.Transport) error {
		tr.MaxConnsPerHost = 2
		l, _ := asyncio.GetRunningLoop(ctx)
		start := l.Time()
		var tasks []*asyncio.Task[string]
		for range 9 {
			tasks = append(tasks, asyncio.CreateTask(ctx, func(ctx context.Context) (string, error) { return ask(ctx, tr, "GET", nil) }))
		}
		l.CallLater(500*time.Millisecond, func() {
			tasks[2].Cancel() // waits
			tasks[0].Cancel() // has a connection, whose place is free then
		})
		got := ""
		for i, task := range tasks {
			s, err := task.Await(ctx)
			if (err != nil) != (i == 0 || i == 2) {
				t.Errorf("request %d: %v", i, err)
			}
			got += s
		}
		// 0 and 2 are gone; the others take four seconds on two connections, one of which is the
		// third
		if d := l.Time().Sub(start); d < 4*time.Second || d > 4600*time.Millisecond || strings.Contains(got, "0") == strings.Contains(got, "1") || !strings.Contains(got, "2") {
			t.Errorf("connections %q, %v", got, d)
		}
		return nil
	})
}

// An http.Client's Timeout counts on a goroutine, so a simulation refuses it and says what to use.
func TestTransport_ClientTimeoutSimulated(t *testing.T) {
	scripted(t, func(context.Context, int, *asyncio.Conn, *bufio.Reader) error { return nil }, func(ctx context.Context, tr *asynciohttp.Transport) error {
		client := &http.Client{Transport: tr, Timeout: time.Minute}
		req, _ := http.NewRequestWithContext(ctx, "GET", "http://srv/", nil)
		if _, err := client.Do(req); !errors.Is(err, errors.ErrUnsupported) || !strings.Contains(err.Error(), "asyncio.WithTimeout") {
			t.Errorf("%v", err)
		}
		return nil
	})
}

// Runs of one seed are the same, step for step.
func TestTransport_SameTrace(t *testing.T) {
	main := func(ctx context.Context) error {
		m := clientModel{limit: 2}
		return m.run(ctx, 4, 5)
	}
	for seed := range uint64(10) {
		var traces [2]string
		for i := range traces {
			var err error
			if traces[i], err = sim.Trace(main, sim.Seed(seed), sim.WithStrategy(sim.Random())); err != nil {
				t.Errorf("seed %d: %v", seed, err)
			}
		}
		if traces[0] != traces[1] {
			t.Errorf("seed %d: two traces", seed)
		}
	}
}

// stuckConn is a connection whose second write waits.
type stuckConn struct {
	*asyncio.Conn
	writes int
}

func (c *stuckConn) WriteContext(ctx context.Context, p []byte) (int, error) {
	if c.writes++; c.writes > 1 {
		return 0, asyncio.Sleep(ctx, time.Hour)
	}
	return c.Conn.WriteContext(ctx, p)
}

// A request that is cancelled before anything of it was written is not sent again: the cancel
// counts.
func TestTransport_CancelledBeforeWriting(t *testing.T) {
	dials := 0
	scripted(t, func(ctx context.Context, n int, c *asyncio.Conn, br *bufio.Reader) error {
		for {
			if _, err := answer(c, br, okay("ok")); err != nil {
				return err
			}
		}
	}, func(ctx context.Context, tr *asynciohttp.Transport) error {
		tr.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
			dials++
			c, err := asyncio.Dial(ctx, network, addr)
			return &stuckConn{Conn: c}, err
		}
		for want := 1; want <= 2; want++ {
			if got, err := ask(ctx, tr, "GET", nil); got != "ok" || err != nil {
				t.Errorf("%q, %v", got, err)
			}
			err := asyncio.Timeout(ctx, time.Second, func(ctx context.Context, _ *asyncio.TimeoutScope) error {
				_, err := ask(ctx, tr, "GET", nil)
				return err
			})
			if !errors.Is(err, asyncio.ErrTimeout) || dials != want {
				t.Errorf("%v, %d connections", err, dials)
			}
		}
		return nil
	})
}
