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
)

// slowBody is a body of a request that notes what is done to it.
type slowBody struct {
	ctx    context.Context
	parts  []string
	pause  time.Duration
	err    error // at the end, io.EOF if nil
	reads  int
	closed int
}

func (b *slowBody) Read(p []byte) (int, error) {
	b.reads++
	if b.closed > 0 {
		return 0, errors.New("read after Close")
	}
	if err := asyncio.Sleep(b.ctx, b.pause); err != nil {
		return 0, err
	}
	if len(b.parts) == 0 {
		if b.err != nil {
			return 0, b.err
		}
		return 0, io.EOF
	}
	n := copy(p, b.parts[0])
	if b.parts[0] = b.parts[0][n:]; b.parts[0] == "" {
		b.parts = b.parts[1:]
	}
	return n, nil
}

func (b *slowBody) Close() error { b.closed++; return nil }

// send sends body and returns what came back.
func send(ctx context.Context, tr *asynciohttp.Transport, body io.ReadCloser, length int64, header ...string) (int, string, error) {
	req, _ := http.NewRequestWithContext(ctx, "POST", "http://srv/", body)
	req.ContentLength = length
	resp, got, err := exchange(tr.RoundTrip, req, header...)
	if resp == nil {
		return 0, "", err
	}
	return resp.StatusCode, got, err
}

func TestTransport_ExpectContinue(t *testing.T) {
	for _, c := range []struct {
		name          string
		first, second string // what the server sends before the body, and behind it if it comes
		status        int
		sent, again   bool // whether the body is sent, and the connection used again
		after         time.Duration
	}{
		{"continue", "HTTP/1.1 100 Continue\r\n\r\n", okay("thanks"), 200, true, true, 0},
		{"continue late", "", okay("thanks"), 200, true, true, time.Second},
		{"refused, stays", "HTTP/1.1 417 No\r\nContent-Length: 0\r\n\r\n", "", 417, true, true, 0},
		{"refused, closes", "HTTP/1.1 413 No\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", "", 413, false, false, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			conns, got := 0, ""
			scripted(t, func(ctx context.Context, n int, conn *asyncio.Conn, br *bufio.Reader) error {
				conns++
				for {
					req, err := http.ReadRequest(br)
					if err != nil {
						return io.EOF
					}
					if req.Header.Get("Expect") == "" {
						if _, err := io.WriteString(conn, okay("next")); err != nil {
							return err
						}
						continue
					}
					if _, err := io.WriteString(conn, c.first); err != nil {
						return err
					}
					b, err := io.ReadAll(req.Body)
					if got = string(b); err != nil {
						return io.EOF
					}
					if _, err := io.WriteString(conn, c.second); err != nil {
						return err
					}
				}
			}, func(ctx context.Context, tr *asynciohttp.Transport) error {
				tr.ExpectContinueTimeout = time.Second
				l, _ := asyncio.GetRunningLoop(ctx)
				body := &slowBody{ctx: ctx, parts: []string{"hello"}}
				start := l.Time()
				status, _, err := send(ctx, tr, body, 5, "Expect", "100-continue")
				if status != c.status || err != nil {
					t.Errorf("%d, %v", status, err)
				}
				if d := l.Time().Sub(start); d < c.after || d > c.after+100*time.Millisecond {
					t.Errorf("it took %v", d)
				}
				if err := asyncio.Sleep(ctx, 10*time.Millisecond); err != nil {
					return err
				}
				if (got == "hello") != c.sent || body.closed == 0 || body.reads > 0 != c.sent {
					t.Errorf("the server got %q; %d reads, closed %d times", got, body.reads, body.closed)
				}
				if _, err := ask(ctx, tr, "GET", nil); err != nil {
					t.Errorf("the next request: %v", err)
				}
				if (conns == 1) != c.again {
					t.Errorf("%d connections", conns)
				}
				return nil
			})
		})
	}
}

// A server may answer before it has read the request, and may never read it.
func TestTransport_EarlyAnswer(t *testing.T) {
	scripted(t, func(ctx context.Context, n int, c *asyncio.Conn, br *bufio.Reader) error {
		if _, err := http.ReadRequest(br); err != nil {
			return io.EOF
		}
		if _, err := io.WriteString(c, "HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig"); err != nil {
			return err
		}
		return asyncio.Sleep(ctx, time.Hour)
	}, func(ctx context.Context, tr *asynciohttp.Transport) error {
		tr.MaxConnsPerHost = 1
		for _, pause := range []time.Duration{0, time.Second} {
			body := &slowBody{ctx: ctx, parts: []string{strings.Repeat("x", 10<<20)}, pause: pause}
			status, got, err := send(ctx, tr, body, 10<<20)
			if status != 413 || got != "big" || err != nil {
				t.Errorf("%d %q, %v", status, got, err)
			}
			if err := asyncio.Sleep(ctx, 2*time.Second); err != nil {
				return err
			}
			if body.closed == 0 {
				t.Error("the request's body was not closed")
			}
		}
		return nil
	})
}

// A body that fails, or is not as long as it says, ends the request with that error, and is closed.
func TestTransport_BrokenBody(t *testing.T) {
	own := errors.New("own")
	for _, c := range []struct {
		name   string
		body   slowBody
		length int64
		is     func(error) bool
	}{
		{"fails at once", slowBody{err: own}, 10, func(err error) bool { return errors.Is(err, own) }},
		{"fails later", slowBody{parts: []string{"abc"}, err: own}, 10, func(err error) bool { return errors.Is(err, own) }},
		{"fails in chunks", slowBody{parts: []string{"abc"}, err: own}, -1, func(err error) bool { return errors.Is(err, own) }},
		{"short", slowBody{parts: []string{"abc"}}, 10, func(err error) bool { return strings.Contains(fmt.Sprint(err), "ContentLength=10 with Body length 3") }},
		{"long", slowBody{parts: []string{"abc", "def"}}, 4, func(err error) bool { return strings.Contains(fmt.Sprint(err), "ContentLength=4 with a longer Body") }},
		{"empty reads for ever", slowBody{parts: make([]string, 1000)}, 4, func(err error) bool { return errors.Is(err, io.ErrNoProgress) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			scripted(t, func(ctx context.Context, n int, conn *asyncio.Conn, br *bufio.Reader) error {
				req, err := http.ReadRequest(br)
				if err != nil {
					return io.EOF
				}
				_, _ = io.Copy(io.Discard, req.Body)
				return asyncio.Sleep(ctx, time.Hour)
			}, func(ctx context.Context, tr *asynciohttp.Transport) error {
				for _, pause := range []time.Duration{0, time.Millisecond} {
					body := c.body
					body.ctx, body.pause = ctx, pause
					body.parts = append([]string(nil), c.body.parts...)
					if _, _, err := send(ctx, tr, &body, c.length); !c.is(err) || body.closed == 0 {
						t.Errorf("%v, closed %d times", err, body.closed)
					}
				}
				return nil
			})
		})
	}
}

// So does a body in memory, which is written with the head.
func TestTransport_BrokenBodyInMemory(t *testing.T) {
	clientOf(t, http.HandlerFunc(echo), func(ctx context.Context, s *clientSite) error {
		for length, want := range map[int64]string{2: "with a longer Body", 4: "with Body length 3"} {
			req, _ := http.NewRequestWithContext(ctx, "POST", s.URL, strings.NewReader("abc"))
			req.ContentLength = length
			if _, _, err := exchange(s.tr.RoundTrip, req); err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("ContentLength %d: %v", length, err)
			}
		}
		return nil
	})
}

// A GET whose body is of unknown length waits for the first byte, up to a point. That wait ends
// with the request, and a byte that comes later is sent.
func TestTransport_FirstByte(t *testing.T) {
	got := ""
	scripted(t, func(ctx context.Context, n int, c *asyncio.Conn, br *bufio.Reader) error {
		req, err := http.ReadRequest(br)
		if err != nil {
			return io.EOF
		}
		b, err := io.ReadAll(req.Body)
		if err != nil {
			return io.EOF
		}
		got = string(b)
		_, err = io.WriteString(c, okay(""))
		return err
	}, func(ctx context.Context, tr *asynciohttp.Transport) error {
		late := &slowBody{ctx: ctx, parts: []string{"late"}, pause: time.Second}
		if _, err := ask(ctx, tr, "GET", late); got != "late" || err != nil || late.closed == 0 {
			t.Errorf("%q, %v, closed %d times", got, err, late.closed)
		}
		never := &slowBody{ctx: ctx, pause: time.Hour}
		err := asyncio.Timeout(ctx, 100*time.Millisecond, func(ctx context.Context, _ *asyncio.TimeoutScope) error {
			_, err := ask(ctx, tr, "GET", never)
			return err
		})
		if !errors.Is(err, asyncio.ErrTimeout) || never.closed == 0 {
			t.Errorf("%v, closed %d times", err, never.closed)
		}
		return nil
	})
}

// A body is read in a task, not in a callback.
func TestTransport_BodyInCallback(t *testing.T) {
	clientOf(t, http.HandlerFunc(echo), func(ctx context.Context, s *clientSite) error {
		req, _ := http.NewRequestWithContext(ctx, "GET", s.URL, nil)
		resp, err := s.tr.RoundTrip(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		l, _ := asyncio.GetRunningLoop(ctx)
		done := asyncio.CreateFuture[error](ctx)
		l.CallSoon(func() {
			_, err := resp.Body.Read(make([]byte, 1))
			_ = done.SetResult(err)
		})
		if err, _ := done.Await(ctx); !errors.Is(err, asyncio.ErrNotInTask) {
			t.Errorf("in a callback: %v", err)
		}
		return nil
	})
}

// A body that panics ends its request; the loop and the pool go on.
func TestTransport_BodyPanics(t *testing.T) {
	clientOf(t, http.HandlerFunc(echo), func(ctx context.Context, s *clientSite) error {
		l, _ := asyncio.GetRunningLoop(ctx)
		var reported []asyncio.ExceptionContext
		l.SetExceptionHandler(func(_ *asyncio.EventLoop, c asyncio.ExceptionContext) { reported = append(reported, c) })
		s.tr.MaxConnsPerHost = 1
		for range 3 {
			_, _, err := s.do(ctx, "POST", "/", io.MultiReader(readerFunc(func([]byte) (int, error) { panic("oh") })))
			if err == nil || !strings.Contains(err.Error(), "did not return") {
				t.Errorf("%v", err)
			}
		}
		if len(reported) != 3 {
			t.Errorf("reported: %v", reported)
		}
		_, got, err := s.do(ctx, "GET", "/", nil)
		if got != "GET /  <nil>" || err != nil {
			t.Errorf("afterwards: %q, %v", got, err)
		}
		return nil
	})
}

type readerFunc func(p []byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

// What becomes of a connection whose body is closed before its end.
func TestTransport_CloseEarly(t *testing.T) {
	for _, c := range []struct {
		name string
		raw  string
		rest string // comes a second later
		kept bool
	}{
		{"all there", okay("hello"), "", true},
		{"chunks, all there", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", "", true},
		{"a rest to come", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel", "lo", false},
		{"the last chunk to come", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", "0\r\n\r\n", false},
		{"long", okay(strings.Repeat("x", 300<<10)), "", false},
		{"the end is the end", "HTTP/1.1 200 OK\r\n\r\nhello", "", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			conns := 0
			scripted(t, func(ctx context.Context, n int, conn *asyncio.Conn, br *bufio.Reader) error {
				for conns++; ; {
					if _, err := answer(conn, br, c.raw); err != nil {
						return err
					}
					if c.rest != "" {
						if err := asyncio.Sleep(ctx, time.Second); err != nil {
							return err
						}
						if _, err := io.WriteString(conn, c.rest); err != nil {
							return io.EOF
						}
					}
				}
			}, func(ctx context.Context, tr *asynciohttp.Transport) error {
				for range 2 {
					req, _ := http.NewRequestWithContext(ctx, "GET", "http://srv/", nil)
					resp, err := tr.RoundTrip(req)
					if err != nil {
						return err
					}
					if err := asyncio.Sleep(ctx, 100*time.Millisecond); err != nil {
						return err
					}
					if _, err := resp.Body.Read(make([]byte, 1)); err != nil {
						return err
					}
					for range 2 {
						if err := resp.Body.Close(); err != nil {
							t.Errorf("Close: %v", err)
						}
					}
					if _, err := resp.Body.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
						t.Errorf("Read after Close: %v", err)
					}
				}
				if (conns == 1) != c.kept {
					t.Errorf("%d connections", conns)
				}
				return nil
			})
		})
	}
}

// Two tasks at one body: one reads, and the other may close it but not read.
func TestTransport_BodyShared(t *testing.T) {
	for _, encoding := range []string{"", "Content-Encoding: gzip\r\n"} {
		scripted(t, func(ctx context.Context, n int, c *asyncio.Conn, br *bufio.Reader) error {
			if _, err := answer(c, br, "HTTP/1.1 200 OK\r\n"+encoding+"\r\n"); err != nil {
				return err
			}
			_, err := br.ReadByte()
			return err
		}, func(ctx context.Context, tr *asynciohttp.Transport) error {
			req, _ := http.NewRequestWithContext(ctx, "GET", "http://srv/", nil)
			resp, err := tr.RoundTrip(req)
			if err != nil {
				return err
			}
			reader := asyncio.CreateTask(ctx, func(context.Context) (int, error) { return resp.Body.Read(make([]byte, 1)) })
			if err := asyncio.Sleep(ctx, time.Second); err != nil {
				return err
			}
			if _, err := resp.Body.Read(make([]byte, 1)); !errors.Is(err, asyncio.ErrBusy) {
				t.Errorf("a second reader: %v", err)
			}
			if err := resp.Body.Close(); err != nil {
				return err
			}
			if _, err := reader.Await(ctx); !errors.Is(err, net.ErrClosed) {
				t.Errorf("the reader: %v", err)
			}
			return nil
		})
	}
}

// After the end of the request's context the body fails, however much of it is there.
func TestTransport_BodyAfterContext(t *testing.T) {
	closed := false
	scripted(t, func(ctx context.Context, n int, c *asyncio.Conn, br *bufio.Reader) error {
		if _, err := answer(c, br, "HTTP/1.1 200 OK\r\nContent-Length: 10000\r\n\r\nhello"); err != nil {
			return err
		}
		_, err := br.ReadByte()
		closed = true
		return err
	}, func(ctx context.Context, tr *asynciohttp.Transport) error {
		within, cancel := asyncio.WithCancel(ctx)
		req, _ := http.NewRequestWithContext(within, "GET", "http://srv/", nil)
		resp, err := tr.RoundTrip(req)
		if err != nil {
			return err
		}
		cancel()
		_, err = io.ReadAll(resp.Body)
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%v", err)
		}
		if err := asyncio.Sleep(ctx, time.Second); err != nil {
			return err
		}
		if !closed {
			t.Error("the connection is open")
		}
		return resp.Body.Close()
	})
}

// A change of protocol gives the connection to the caller, with what came behind the head.
func TestTransport_Switch(t *testing.T) {
	scripted(t, func(ctx context.Context, n int, c *asyncio.Conn, br *bufio.Reader) error {
		if _, err := answer(c, br, "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\nearly "); err != nil {
			return err
		}
		for {
			line, err := br.ReadString('\n')
			if err != nil {
				return err
			}
			if _, err := io.WriteString(c, line); err != nil {
				return err
			}
		}
	}, func(ctx context.Context, tr *asynciohttp.Transport) error {
		tr.MaxConnsPerHost = 1
		for range 2 { // the place in the pool is free again
			req, _ := http.NewRequestWithContext(ctx, "GET", "http://srv/", nil)
			req.Header.Set("Connection", "Upgrade")
			req.Header.Set("Upgrade", "echo")
			resp, err := tr.RoundTrip(req)
			if err != nil {
				return err
			}
			rw, ok := resp.Body.(io.ReadWriteCloser)
			if !ok || resp.StatusCode != http.StatusSwitchingProtocols {
				t.Fatalf("%v, %T", resp.Status, resp.Body)
			}
			defer rw.Close()
			if _, err := io.WriteString(rw, "ping\n"); err != nil {
				return err
			}
			p := make([]byte, len("early ping\n"))
			if _, err := io.ReadFull(rw, p); string(p) != "early ping\n" || err != nil {
				t.Errorf("%q, %v", p, err)
			}
			if err := rw.(interface{ CloseWrite() error }).CloseWrite(); err != nil {
				return err
			}
			if n, err := rw.Read(p); n != 0 || err != io.EOF {
				t.Errorf("at the end: %d, %v", n, err)
			}
		}
		return nil
	})
}

// Where another goroutine has asked for the change, the connection is for it.
func TestTransport_SwitchOutside(t *testing.T) {
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer c.Close()
		_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n")
		_, _ = io.Copy(c, struct{ io.Reader }{rw})
	})
	clientOf(t, h, func(ctx context.Context, s *clientSite) error {
		_, err := asyncio.ToThread(ctx, func(context.Context) (asyncio.None, error) {
			req, _ := http.NewRequestWithContext(ctx, "GET", s.URL, nil)
			req.Header.Set("Connection", "Upgrade")
			req.Header.Set("Upgrade", "echo")
			resp, err := s.tr.RoundTrip(req)
			if err != nil {
				return asyncio.None{}, err
			}
			rw := resp.Body.(io.ReadWriteCloser)
			defer rw.Close()
			if _, err := io.WriteString(rw, "ping"); err != nil {
				return asyncio.None{}, err
			}
			p := make([]byte, 4)
			if _, err := io.ReadFull(rw, p); string(p) != "ping" || err != nil {
				t.Errorf("%q, %v", p, err)
			}
			return asyncio.None{}, nil
		})
		return err
	})
}

// In production a Client's Timeout and Request.Cancel work, in every phase.
func TestTransport_ClientTimeout(t *testing.T) {
	release := make(chan struct{})
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/body" {
			fmt.Fprint(w, "begins")
			w.(http.Flusher).Flush()
		}
		select {
		case <-r.Context().Done():
		case <-release:
		}
	})
	clientOf(t, h, func(ctx context.Context, s *clientSite) error {
		defer close(release)
		s.client.Timeout = 30 * time.Millisecond
		for _, path := range []string{"/", "/body"} {
			if _, _, err := s.do(ctx, "GET", path, nil); !isTimeout(err) {
				t.Errorf("Timeout, %s: %v", path, err)
			}
			cancel := make(chan struct{})
			req, _ := http.NewRequestWithContext(ctx, "GET", s.URL+path, nil)
			req.Cancel = cancel
			timer := time.AfterFunc(30*time.Millisecond, func() { close(cancel) })
			resp, err := s.tr.RoundTrip(req)
			if err == nil {
				_, err = io.ReadAll(resp.Body)
				resp.Body.Close()
			}
			timer.Stop()
			if !errors.Is(err, context.Canceled) {
				t.Errorf("Cancel, %s: %v", path, err)
			}
		}
		return nil
	})
}

// One Transport serves several loops, each with its own connections.
func TestTransport_LoopGroup(t *testing.T) {
	clientOf(t, http.HandlerFunc(echo), func(ctx context.Context, s *clientSite) error {
		_, err := asyncio.ToThread(ctx, func(ctx context.Context) (asyncio.None, error) {
			return asyncio.RunLoopGroup(ctx, 4, func(ctx context.Context, g *asyncio.LoopGroup) (asyncio.None, error) {
				var calls []*asyncio.ConcurrentFuture[asyncio.None]
				for i := range 8 {
					calls = append(calls, asyncio.StartCall(ctx, g.Next(), asyncio.Do(func(ctx context.Context) error {
						for j := range 20 {
							path := fmt.Sprintf("/%d-%d", i, j)
							if _, got, err := s.do(ctx, "POST", path, strings.NewReader("x")); got != "POST "+path+" x <nil>" || err != nil {
								return fmt.Errorf("%q, %w", got, err)
							}
						}
						return nil
					})))
				}
				for _, c := range calls {
					if _, err := c.Await(ctx); err != nil {
						return asyncio.None{}, err
					}
				}
				s.tr.CloseIdleConnections()
				return asyncio.None{}, nil
			})
		})
		return err
	})
}
