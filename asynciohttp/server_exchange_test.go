package asynciohttp_test

import (
	"bytes"
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

// A hijacked connection is one for tasks, with what the client has sent already, and outlives its
// handler.
func TestServer_Hijack(t *testing.T) {
	var states []string
	s := &asynciohttp.Server{
		ConnState: func(c net.Conn, state http.ConnState) { states = append(states, state.String()) },
	}
	var response http.ResponseWriter
	var body io.Reader
	s.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		if _, ok := conn.(*asyncio.Conn); !ok {
			t.Errorf("the connection is a %T", conn)
		}
		if n := rw.Reader.Buffered(); n != len("early ") {
			t.Errorf("%d bytes early", n)
		}
		response, body = w, r.Body
		l, _ := asyncio.GetRunningLoop(r.Context())
		asyncio.CreateTask(l.Context(), asyncio.Do(func(context.Context) error {
			defer conn.Close()
			all, err := io.ReadAll(rw)
			if err != nil {
				return err
			}
			fmt.Fprintf(rw, "echo %s", all)
			return rw.Flush()
		}))
	})
	local(t, s, func(ctx context.Context, s *running) error {
		states = nil
		c, err := s.connect(ctx, get("Connection: upgrade", "Upgrade: x")+"early ")
		if err != nil {
			return err
		}
		defer c.Close()
		if err := asyncio.Sleep(ctx, time.Hour); err != nil {
			return err
		}
		if err := s.Shutdown(ctx); err != nil { // does not wait for it
			return err
		}
		if _, err := io.WriteString(c, "late"); err != nil {
			return err
		}
		_ = c.CloseWrite()
		rest, err := c.closed()
		if rest != "echo early late" || err != nil {
			t.Errorf("%q, %v", rest, err)
		}
		if _, err := response.Write([]byte("x")); !errors.Is(err, http.ErrHijacked) {
			t.Errorf("Write afterwards: %v", err)
		}
		if err := http.NewResponseController(response).Flush(); !errors.Is(err, http.ErrHijacked) {
			t.Errorf("Flush afterwards: %v", err)
		}
		if _, _, err := http.NewResponseController(response).Hijack(); !errors.Is(err, http.ErrHijacked) {
			t.Errorf("Hijack afterwards: %v", err)
		}
		if n, err := body.Read(make([]byte, 1)); n != 0 || err == nil {
			t.Errorf("Read afterwards: %d, %v", n, err)
		}
		return nil
	})
	if got := strings.Join(states, " "); got != "new active hijacked" {
		t.Errorf("states: %s", got)
	}
}

// The client is asked for the body when the handler reads it, and not otherwise.
func TestServer_Continue(t *testing.T) {
	s := &asynciohttp.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/read":
			b, err := io.ReadAll(r.Body)
			fmt.Fprintf(w, "%s %v", b, err)
		case "/answer":
			http.Error(w, "no", 403)
		case "/answer, read":
			w.WriteHeader(200)
			_, err := r.Body.Read(make([]byte, 1))
			fmt.Fprint(w, err != nil)
		case "/by hand":
			w.WriteHeader(100)
			b, err := io.ReadAll(r.Body)
			fmt.Fprintf(w, "%s %v", b, err)
		}
	})}
	local(t, s, func(ctx context.Context, s *running) error {
		for _, c := range []struct {
			path   string
			status []int
			body   string
			close  bool
		}{
			{"/read", []int{100, 200}, "abc <nil>", false},
			{"/answer", []int{403}, "no\n", true},
			{"/answer,%20read", []int{200}, "true", true},
			{"/by%20hand", []int{100, 200}, "abc <nil>", false},
		} {
			k, err := s.connect(ctx, "POST "+c.path+" HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n")
			if err != nil {
				return err
			}
			defer k.Close()
			for _, want := range c.status {
				r, err := http.ReadResponse(k.r, nil)
				if err != nil {
					return fmt.Errorf("%s: %w", c.path, err)
				}
				if r.StatusCode != want {
					t.Errorf("%s: %v, want %d", c.path, r.Status, want)
				}
				if want == 100 {
					if _, err := io.WriteString(k, "abc"); err != nil {
						return err
					}
					continue
				}
				b, err := io.ReadAll(r.Body)
				if string(b) != c.body || err != nil || r.Close != c.close {
					t.Errorf("%s: %q, %v, close %v", c.path, b, err, r.Close)
				}
			}
			if c.close {
				begin := clock(ctx)
				_, err := k.closed()
				if took := clock(ctx) - begin; err != nil || took > time.Second {
					t.Errorf("%s: the connection is closed after %v, %v", c.path, took, err)
				}
			}
		}
		return nil
	})
}

// A body that the handler leaves is read if it is short, and otherwise ends the connection; the
// client gets the answer in both cases.
func TestServer_UnreadBody(t *testing.T) {
	s := &asynciohttp.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/some" {
			_, _ = io.ReadFull(r.Body, make([]byte, 100))
		}
		fmt.Fprint(w, "done")
	})}
	local(t, s, func(ctx context.Context, s *running) error {
		for _, c := range []struct {
			path   string
			length int
			chunks bool
			close  bool
		}{
			{"/", 10_000, false, false},
			{"/", 10_000, true, false},
			{"/some", 200_000, false, false},
			{"/some", 200_000, true, false},
			{"/", 256<<10 - 1, false, false},
			{"/", 256 << 10, false, true},
			{"/some", 256 << 10, false, false},
			{"/", 300_000, true, true},
			{"/", 10 << 20, false, true},
			{"/some", 10 << 20, true, true},
		} {
			k, err := s.connect(ctx, "")
			if err != nil {
				return err
			}
			defer k.Close()
			sent := asyncio.CreateTask(ctx, asyncio.Do(func(context.Context) error {
				body := io.Reader(bytes.NewReader(make([]byte, c.length)))
				if c.chunks {
					body = struct{ io.Reader }{body}
				}
				r, err := http.NewRequest("POST", "http://x"+c.path, body)
				if err == nil {
					_ = r.Write(k) // the server may close first
				}
				return err
			}))
			r, body, err := k.response()
			if err != nil {
				return fmt.Errorf("%d bytes: %w", c.length, err)
			}
			if body != "done" || r.Close != c.close {
				t.Errorf("%+v: %q, close %v", c, body, r.Close)
			}
			if c.close {
				_ = k.Close()
			} else if _, body, err := k.get("/"); body != "done" || err != nil {
				t.Errorf("%+v: the next request: %q, %v", c, body, err)
			}
			if _, err := sent.Await(ctx); err != nil {
				return err
			}
		}
		return nil
	})
}

// serve 2: whoever may not use a request or its response is refused, and the response is none the
// worse.
func TestServer_OthersAreRefused(t *testing.T) {
	var left struct {
		w     http.ResponseWriter
		r     *http.Request
		ready bool
	}
	s := &asynciohttp.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/next" {
			return
		}
		ctx := r.Context()
		left.w, left.r = w, r
		for what, f := range map[string]func() error{
			"Write": func() error { _, err := w.Write([]byte("foreign")); return err },
			"Flush": func() error { return http.NewResponseController(w).Flush() },
			"Read":  func() error { _, err := r.Body.Read(make([]byte, 1)); return err },
			"Close": func() error { return r.Body.Close() },
			"SetReadDeadline": func() error {
				return http.NewResponseController(w).SetReadDeadline(time.Time{})
			},
			"Hijack": func() error { _, _, err := http.NewResponseController(w).Hijack(); return err },
		} {
			if _, err := asyncio.ToThread(ctx, func(context.Context) (int, error) { return 0, f() }); !errors.Is(err, asyncio.ErrForeignGoroutine) {
				t.Errorf("%s by another goroutine: %v", what, err)
			}
		}
		if _, err := asyncio.ToThread(ctx, func(context.Context) (int, error) { w.WriteHeader(103); return 0, nil }); err != nil {
			t.Error(err)
		}
		// Two tasks read.
		one := asyncio.CreateTask(ctx, func(context.Context) ([]byte, error) { return io.ReadAll(r.Body) })
		if err := asyncio.Sleep(ctx, 0); err != nil {
			t.Error(err)
		}
		if _, err := r.Body.Read(make([]byte, 1)); !errors.Is(err, asyncio.ErrBusy) {
			t.Errorf("a second reader: %v", err)
		}
		left.ready = true
		body, err := one.Await(ctx)
		if string(body) != "abc" || err != nil {
			t.Errorf("the first reader: %q, %v", body, err)
		}
		// Two tasks write.
		const long = 8 << 20
		two := asyncio.CreateTask(ctx, func(context.Context) (int, error) { return w.Write(make([]byte, long)) })
		if err := asyncio.Sleep(ctx, 0); err != nil {
			t.Error(err)
		}
		if _, err := w.Write([]byte("x")); !errors.Is(err, asyncio.ErrBusy) {
			t.Errorf("a second writer: %v", err)
		}
		if n, err := two.Await(ctx); n != long || err != nil {
			t.Errorf("the first writer: %d, %v", n, err)
		}
	})}
	real(t, s, func(ctx context.Context, s *running) error {
		c, err := s.connect(ctx, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\n")
		if err != nil {
			return err
		}
		defer c.Close()
		for !left.ready {
			if err := asyncio.Sleep(ctx, time.Millisecond); err != nil {
				return err
			}
		}
		if _, err := io.WriteString(c, "abc"); err != nil {
			return err
		}
		_, body, err := c.response()
		if len(body) != 8<<20 || strings.Trim(body, "\x00") != "" || err != nil {
			t.Errorf("%d bytes, %v", len(body), err)
		}
		// the response is over
		for what, err := range map[string]error{
			"Write": second(left.w.Write([]byte("x"))),
			"Flush": http.NewResponseController(left.w).Flush(),
			"Read":  second(left.r.Body.Read(make([]byte, 1))),
		} {
			if err == nil {
				t.Errorf("%s after the end is not refused", what)
			}
		}
		left.w.WriteHeader(500)
		r, body, err := c.get("/next")
		if err == nil && (r.StatusCode != 200 || body != "") {
			t.Errorf("the next request: %v, %q", r.Status, body)
		}
		return err
	})
}

func second(_ int, err error) error { return err }

// A task that a handler leaves behind, in the midst of a write, cannot write into the next
// response.
func TestServer_TaskIsLeftBehind(t *testing.T) {
	s := &asynciohttp.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		l, _ := asyncio.GetRunningLoop(r.Context())
		asyncio.CreateTask(l.Context(), asyncio.Do(func(context.Context) error {
			_, _ = w.Write(bytes.Repeat([]byte("a"), 8<<20))
			return nil
		}))
		_ = asyncio.Sleep(r.Context(), 0)
	})}
	local(t, s, func(ctx context.Context, s *running) error {
		c, err := s.connect(ctx, get()+get())
		if err != nil {
			return err
		}
		defer c.Close()
		if err := asyncio.Sleep(ctx, time.Second); err != nil {
			return err
		}
		all, err := c.closed()
		if strings.Count(all, "HTTP/1.1") != 1 || strings.HasSuffix(all, "0\r\n\r\n") {
			t.Errorf("%d bytes came, %v: %q", len(all), err, abridged(all))
		}
		return nil
	})
}
