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
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/asynciohttp"
	"github.com/goasyncio/asyncio/internal/leaktest"
)

// TestMain fails the run if it leaves a goroutine behind. Benchmarks start the program once more,
// as their server.
func TestMain(m *testing.M) {
	if which := os.Getenv(benchedServer); which != "" {
		fmt.Fprintln(os.Stderr, serveBenched(which))
		os.Exit(1)
	}
	if n, err := strconv.Atoi(os.Getenv(benchServer)); err == nil {
		fmt.Fprintln(os.Stderr, serveBench(n))
		os.Exit(1)
	}
	os.Exit(leaktest.Run(m))
}

// A site is a server on the loop of ctx, with its log and the reports to the exception handler.
type site struct {
	*httptest.Server
	t      *testing.T
	client *http.Client

	mu       sync.Mutex
	logged   bytes.Buffer
	reported []asyncio.ExceptionContext
}

func (s *site) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.logged.Write(p)
}

func (s *site) log() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.logged.String()
}

func (s *site) reports() (all []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.reported {
		all = append(all, fmt.Sprintf("%s: %v", c.Message, c.Exception))
	}
	return all
}

// request makes a request to the site.
func (s *site) request(method, path string, body io.Reader) *http.Request {
	req, err := http.NewRequest(method, s.URL+path, body)
	if err != nil {
		s.t.Fatal(err)
	}
	return req
}

// fetch does a request in a task and returns the status and the body.
func (s *site) fetch(ctx context.Context, method, path string, body io.Reader) (int, string, error) {
	resp, err := asynciohttp.Do(ctx, s.client, s.request(method, path, body))
	if err != nil {
		return 0, "", err
	}
	b, err := asynciohttp.ReadAll(resp.Body, 1<<30)
	return resp.StatusCode, string(b), err
}

var protocols = []string{"HTTP/1.1", "HTTP/1.1 with TLS", "HTTP/2"}

// serving runs body on a loop with a server of h, once for each protocol.
func serving(t *testing.T, h http.Handler, body func(ctx context.Context, s *site) error) {
	t.Helper()
	for _, protocol := range protocols {
		t.Run(protocol, func(t *testing.T) {
			s := &site{t: t}
			_, err := asyncio.Run(t.Context(), asyncio.Do(func(ctx context.Context) error {
				l, err := asyncio.GetRunningLoop(ctx)
				if err != nil {
					return err
				}
				l.SetExceptionHandler(func(_ *asyncio.EventLoop, c asyncio.ExceptionContext) {
					s.mu.Lock()
					defer s.mu.Unlock()
					s.reported = append(s.reported, c)
				})
				s.Server = httptest.NewUnstartedServer(asynciohttp.Handler(l, h))
				s.Config.ErrorLog = log.New(s, "", 0)
				switch protocol {
				case "HTTP/1.1":
					s.Start()
				case "HTTP/2":
					s.EnableHTTP2 = true
					fallthrough
				default:
					s.StartTLS()
				}
				s.client = s.Client()
				defer asyncio.Cleanup(ctx, time.Minute, func(ctx context.Context) error {
					_, err := asyncio.ToThread(ctx, func(context.Context) (int, error) { s.Close(); return 0, nil })
					return err
				})
				return asyncio.Timeout(ctx, time.Minute, func(ctx context.Context, _ *asyncio.TimeoutScope) error { return body(ctx, s) })
			}), asyncio.DebugMode(true))
			if err != nil {
				t.Error(err)
			}
		})
	}
}

func pattern(n int) []byte {
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(i * 7 / 3)
	}
	return p
}

func TestHandler_IsATask(t *testing.T) {
	count := 0 // no lock
	serving(t, asynciohttp.HandlerFunc(func(ctx context.Context, w http.ResponseWriter, r *http.Request) error {
		before := count
		if err := asyncio.Sleep(r.Context(), 0); err != nil {
			return err
		}
		count++
		_ = before
		if ctx.Value(http.ServerContextKey) == nil {
			t.Error("net/http's values are gone")
		}
		w.Header().Set("X-Test", "yes")
		w.WriteHeader(http.StatusCreated)
		w.Header().Set("X-Late", "no")
		_, err := fmt.Fprintf(w, "%s of %s", asyncio.CurrentTask(ctx).GetName(), r.URL.Query().Get("who"))
		return err
	}), func(ctx context.Context, s *site) error {
		resp, err := asynciohttp.Do(ctx, s.client, s.request("GET", "/a?who=me", nil))
		if err != nil {
			return err
		}
		b, err := asynciohttp.ReadAll(resp.Body, 100)
		const want = "GET /a of me"
		if string(b) != want || err != nil || resp.StatusCode != 201 || resp.Header.Get("X-Test") != "yes" || resp.Header.Get("X-Late") != "" || resp.ContentLength != int64(len(want)) {
			t.Errorf("%q, %v, %v", b, err, resp)
		}
		count = 0
		var all []asyncio.Coroutine[int]
		for range 50 {
			all = append(all, func(ctx context.Context) (int, error) {
				status, _, err := s.fetch(ctx, "GET", "/", nil)
				return status, err
			})
		}
		got, err := asyncio.Gather(ctx, all...)
		if count != len(got) || len(got) != 50 {
			t.Errorf("%d of 50 counted", count)
		}
		return err
	})
}

// Both directions at once, with far more bytes than any buffer holds; memory use is that of the
// transports.
func TestHandler_StreamsBothWays(t *testing.T) {
	serving(t, asynciohttp.HandlerFunc(func(ctx context.Context, w http.ResponseWriter, r *http.Request) error {
		if err := http.NewResponseController(w).EnableFullDuplex(); err != nil {
			return err
		}
		_, err := io.Copy(w, r.Body)
		return err
	}), func(ctx context.Context, s *site) error {
		want := pattern(3 << 20)
		_, got, err := s.fetch(ctx, "POST", "/", bytes.NewReader(want))
		if got != string(want) {
			t.Errorf("%d bytes came back of %d", len(got), len(want))
		}
		return err
	})
}

type writerFunc func(p []byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

// Copying a body passes on every byte read, loses none that the writer does not take, and counts as
// reading.
func TestBody_WriteTo(t *testing.T) {
	want := pattern(300_000)
	serving(t, asynciohttp.HandlerFunc(func(ctx context.Context, w http.ResponseWriter, r *http.Request) error {
		var got []byte
		full := errors.New("full")
		for _, c := range []struct {
			take int
			err  error
			want error
		}{{100, nil, io.ErrShortWrite}, {0, full, full}, {10, full, full}} {
			n, err := io.Copy(writerFunc(func(p []byte) (int, error) {
				got = append(got, p[:c.take]...)
				return c.take, c.err
			}), r.Body)
			if n != int64(c.take) || err != c.want {
				t.Errorf("copied %d, %v, want %d, %v", n, err, c.take, c.want)
			}
		}
		busy := 0
		copied, err := io.Copy(writerFunc(func(p []byte) (int, error) {
			other := asyncio.CreateTask(ctx, func(ctx context.Context) (int, error) { return r.Body.Read(make([]byte, 1)) })
			if _, err := other.Await(ctx); !errors.Is(err, asyncio.ErrBusy) {
				t.Errorf("a second reader: %v", err)
			}
			busy++
			got = append(got, p...)
			return len(p), nil
		}), r.Body)
		if copied != int64(len(want)-110) || busy < 2 || !bytes.Equal(got, want) {
			t.Errorf("copied %d in %d pieces; %d bytes, or others, came in all", copied, busy, len(got))
		}
		return err
	}), func(ctx context.Context, s *site) error {
		_, _, err := s.fetch(ctx, "POST", "/", bytes.NewReader(want))
		return err
	})
}

// http 2: a client that does not read stops the handler.
func TestHandler_BackPressure(t *testing.T) {
	const total = 32 << 20
	written := 0
	var done *asyncio.Event
	serving(t, asynciohttp.HandlerFunc(func(ctx context.Context, w http.ResponseWriter, r *http.Request) error {
		defer done.Set()
		for p := pattern(1 << 20); written < total; {
			n, err := w.Write(p)
			if written += n; err != nil {
				return err
			}
		}
		return nil
	}), func(ctx context.Context, s *site) error {
		done, written = new(asyncio.Event), 0
		resp, err := asynciohttp.Do(ctx, s.client, s.request("GET", "/", nil))
		if err != nil {
			return err
		}
		if _, err := asyncio.WaitFor(ctx, asyncio.Do(done.Wait), 200*time.Millisecond); !errors.Is(err, asyncio.ErrTimeout) {
			t.Errorf("the handler did not wait (%v): %d bytes are somewhere", err, written)
		}
		n, err := io.Copy(io.Discard, resp.Body)
		if n != total {
			t.Errorf("%d bytes came, want %d", n, total)
		}
		resp.Body.Close()
		return err
	})
}

// http 5: a client that goes ends the request's context.
func TestHandler_ClientGone(t *testing.T) {
	var entered, left *asyncio.Event
	serving(t, asynciohttp.HandlerFunc(func(ctx context.Context, w http.ResponseWriter, r *http.Request) error {
		entered.Set()
		err := asyncio.Sleep(ctx, time.Hour)
		var c *asyncio.CancelledError
		if !errors.As(err, &c) || c.Msg != "the client has gone" || !errors.Is(err, context.Canceled) {
			t.Errorf("the handler got %v", err)
		}
		if e := asyncio.Sleep(context.WithoutCancel(ctx), time.Millisecond); e != nil {
			t.Errorf("cleaning up: %v", e)
		}
		left.Set()
		return err
	}), func(ctx context.Context, s *site) error {
		entered, left = new(asyncio.Event), new(asyncio.Event)
		task := asyncio.CreateTask(ctx, func(ctx context.Context) (int, error) {
			status, _, err := s.fetch(ctx, "GET", "/", nil)
			return status, err
		})
		if err := entered.Wait(ctx); err != nil {
			return err
		}
		task.Cancel()
		if _, err := task.Await(ctx); !errors.Is(err, asyncio.ErrCancelled) {
			t.Errorf("the client got %v", err)
		}
		err := left.Wait(ctx)
		if len(s.reports()) > 0 {
			t.Errorf("reported: %q", s.reports())
		}
		return err
	})
}

// http 6: a panic of a handler aborts the response and is logged once.
func TestHandler_Panics(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("/boom", func(w http.ResponseWriter, r *http.Request) { panic("boom") })
	mux.HandleFunc("/quiet", func(w http.ResponseWriter, r *http.Request) { panic(http.ErrAbortHandler) })
	serving(t, mux, func(ctx context.Context, s *site) error {
		for _, path := range []string{"/quiet", "/boom"} {
			if status, body, err := s.fetch(ctx, "POST", path, nil); err == nil {
				t.Errorf("%s: %d %q", path, status, body)
			}
			if path == "/quiet" && s.log() != "" {
				t.Errorf("logged: %s", s.log())
			}
		}
		for !strings.Contains(s.log(), "boom") { // the log entry follows the abort
			if err := asyncio.Sleep(ctx, time.Millisecond); err != nil {
				return err
			}
		}
		if !strings.Contains(s.log(), "TestHandler_Panics") {
			t.Errorf("the log does not say where: %s", s.log())
		}
		if len(s.reports()) > 0 {
			t.Errorf("reported as well: %q", s.reports())
		}
		return nil
	})
}

// Errors of handlers, and cancelled handlers (http 7).
func TestHandler_Failures(t *testing.T) {
	fails := errors.New("it fails")
	mux := http.NewServeMux()
	handle := func(path string, f asynciohttp.HandlerFunc) { mux.Handle(path, f) }
	handle("/error", func(ctx context.Context, w http.ResponseWriter, r *http.Request) error { return fails })
	handle("/error-late", func(ctx context.Context, w http.ResponseWriter, r *http.Request) error {
		fmt.Fprint(w, "half")
		return errors.Join(http.NewResponseController(w).Flush(), fails)
	})
	cancelled := func(ctx context.Context) error {
		asyncio.CurrentTask(ctx).Cancel()
		return asyncio.Sleep(ctx, time.Hour)
	}
	handle("/cancel", func(ctx context.Context, w http.ResponseWriter, r *http.Request) error { return cancelled(ctx) })
	mux.HandleFunc("/cancel-quiet", func(w http.ResponseWriter, r *http.Request) { _ = cancelled(r.Context()) })
	mux.HandleFunc("/cancel-late", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, "half")
		_ = cancelled(r.Context())
	})
	mux.HandleFunc("/cancel-refused", func(w http.ResponseWriter, r *http.Request) {
		_ = cancelled(r.Context())
		asyncio.CurrentTask(r.Context()).Uncancel()
		fmt.Fprint(w, "all")
	})
	serving(t, mux, func(ctx context.Context, s *site) error {
		for _, c := range []struct {
			path   string
			status int // 0: the response is broken off
		}{
			{"/error", 500}, {"/error-late", 0}, {"/cancel", 503}, {"/cancel-quiet", 503}, {"/cancel-late", 0}, {"/cancel-refused", 200},
		} {
			status, body, err := s.fetch(ctx, "POST", c.path, nil)
			if c.status == 0 {
				if err == nil {
					t.Errorf("%s: %d %q, want an error", c.path, status, body)
				}
			} else if status != c.status || err != nil {
				t.Errorf("%s: %d %q, %v; want %d", c.path, status, body, err, c.status)
			}
		}
		if got := s.reports(); len(got) != 2 || got[0] != "Unhandled exception in HTTP handler: it fails" {
			t.Errorf("reports: %q", got)
		}
		return nil
	})
}

// http 4: whatever interrupts reads and writes, each byte arrives once.
func TestHandler_CancelLosesNothing(t *testing.T) {
	want := pattern(1 << 20)
	interrupted := 0
	// soon runs fn under a time limit that often ends it.
	soon := func(ctx context.Context, fn func() (int, error)) (n int, err error) {
		e := asyncio.Timeout(ctx, 20*time.Microsecond, func(context.Context, *asyncio.TimeoutScope) error {
			n, err = fn()
			return err
		})
		if errors.Is(e, asyncio.ErrTimeout) {
			interrupted++
			return n, nil
		}
		return n, e
	}
	serving(t, asynciohttp.HandlerFunc(func(ctx context.Context, w http.ResponseWriter, r *http.Request) error {
		var got []byte
		for buf := make([]byte, 10_000); ; {
			n, err := soon(ctx, func() (int, error) { return r.Body.Read(buf) })
			got = append(got, buf[:n]...)
			if err == io.EOF {
				break
			}
			if err != nil {
				return err
			}
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%d bytes came, not the %d sent", len(got), len(want))
		}
		for len(got) > 0 {
			n, err := soon(ctx, func() (int, error) { return w.Write(got[:min(len(got), 10_000)]) })
			got = got[n:]
			if err != nil {
				return err
			}
		}
		return nil
	}), func(ctx context.Context, s *site) error {
		interrupted = 0
		_, got, err := s.fetch(ctx, "POST", "/", bytes.NewReader(want))
		if got != string(want) {
			t.Errorf("%d bytes came back, not the %d sent", len(got), len(want))
		}
		if interrupted == 0 {
			t.Error("nothing was interrupted")
		}
		return err
	})
}

// http 8: a handler ends while a read is under way, and its child tasks go on.
func TestHandler_EndsWithAReadUnderWay(t *testing.T) {
	var after chan error
	serving(t, asynciohttp.HandlerFunc(func(ctx context.Context, w http.ResponseWriter, r *http.Request) error {
		l, err := asyncio.GetRunningLoop(ctx)
		if err != nil {
			return err
		}
		asyncio.CreateTask(l.Context(), asyncio.Do(func(context.Context) error {
			_, err := r.Body.Read(make([]byte, 1))
			_, e := w.Write([]byte("x"))
			after <- errors.Join(err, e)
			return nil
		}))
		return asyncio.Sleep(ctx, time.Millisecond)
	}), func(ctx context.Context, s *site) error {
		after = make(chan error, 1)
		stalled, w := io.Pipe()
		defer w.Close()
		if _, _, err := s.fetch(ctx, "POST", "/", stalled); err != nil && !strings.Contains(err.Error(), "EOF") {
			t.Logf("the client: %v", err)
		}
		err, _, e := asyncio.Recv(ctx, after)
		if err == nil || !errors.Is(err, net.ErrClosed) {
			t.Errorf("after the end: %v", err)
		}
		return e
	})
}

func TestHandler_Trailers(t *testing.T) {
	serving(t, asynciohttp.HandlerFunc(func(ctx context.Context, w http.ResponseWriter, r *http.Request) error {
		b, err := io.ReadAll(r.Body)
		w.Header().Set("Trailer", "X-Sum")
		fmt.Fprint(w, "body")
		w.Header().Set("X-Sum", fmt.Sprint(string(b), r.Trailer.Get("X-Asked")))
		return err
	}), func(ctx context.Context, s *site) error {
		req := s.request("POST", "/", io.MultiReader(strings.NewReader("in"))) // of unknown length
		req.Trailer = http.Header{"X-Asked": {"deed"}}
		resp, err := asynciohttp.Do(ctx, s.client, req)
		if err != nil {
			return err
		}
		_, err = asynciohttp.ReadAll(resp.Body, 100)
		if got := resp.Trailer.Get("X-Sum"); got != "indeed" {
			t.Errorf("trailer %q", got)
		}
		return err
	})
}

func TestHandler_EarlyHintsFilesAndForms(t *testing.T) {
	file := t.TempDir() + "/f"
	want := pattern(300_000)
	if err := os.WriteFile(file, want, 0o600); err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /file/{name}", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Link", "</style.css>")
		w.WriteHeader(http.StatusEarlyHints)
		http.ServeFile(w, r, file)
	})
	mux.HandleFunc("POST /form", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, r.FormValue("a"), r.Pattern)
	})
	serving(t, mux, func(ctx context.Context, s *site) error {
		hints := 0
		req := s.request("GET", "/file/x", nil)
		req = req.WithContext(httptrace.WithClientTrace(req.Context(), &httptrace.ClientTrace{
			Got1xxResponse: func(code int, h textproto.MIMEHeader) error { hints = code; return nil },
		}))
		resp, err := asynciohttp.Do(ctx, s.client, req)
		if err != nil {
			return err
		}
		b, err := asynciohttp.ReadAll(resp.Body, 1<<20)
		if err != nil || !bytes.Equal(b, want) || hints != http.StatusEarlyHints {
			t.Errorf("%d bytes, %v, hints %d", len(b), err, hints)
		}
		req = s.request("POST", "/form", strings.NewReader("a=1"))
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		if resp, err = asynciohttp.Do(ctx, s.client, req); err != nil {
			return err
		}
		b, err = asynciohttp.ReadAll(resp.Body, 100)
		if string(b) != "1POST /form" {
			t.Errorf("%q", b)
		}
		return err
	})
}

func TestHandler_Hijack(t *testing.T) {
	s := &site{t: t}
	_, err := asyncio.Run(t.Context(), asyncio.Do(func(ctx context.Context) error {
		l, err := asyncio.GetRunningLoop(ctx)
		if err != nil {
			return err
		}
		s.Server = httptest.NewServer(asynciohttp.Handler(l, asynciohttp.HandlerFunc(func(ctx context.Context, w http.ResponseWriter, r *http.Request) error {
			nc, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				return err
			}
			c, err := asyncio.NewConn(ctx, nc)
			if err != nil {
				return err
			}
			defer c.Close()
			if _, err := w.Write(nil); err != http.ErrHijacked {
				t.Errorf("Write after Hijack: %v", err)
			}
			_, err = io.WriteString(c, "raw bytes")
			return err
		})))
		defer asyncio.ToThread(ctx, func(context.Context) (int, error) { s.Close(); return 0, nil })
		c, err := asyncio.Dial(ctx, "tcp", s.Listener.Addr().String())
		if err != nil {
			return err
		}
		defer c.Close()
		if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			return err
		}
		b, err := io.ReadAll(c)
		if string(b) != "raw bytes" {
			t.Errorf("%q", b)
		}
		return err
	}))
	if err != nil {
		t.Error(err)
	}
}

// http 7: a closed loop answers nothing, but its clients get an error.
func TestHandler_LoopClosed(t *testing.T) {
	l := asyncio.NewEventLoop(t.Context())
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	asynciohttp.Handler(l, http.NotFoundHandler()).ServeHTTP(w, httptest.NewRequest("GET", "/", nil))
	if w.Code != http.StatusServiceUnavailable {
		t.Errorf("status %d", w.Code)
	}
}

func TestHandler_OneWriterAtATime(t *testing.T) {
	serving(t, asynciohttp.HandlerFunc(func(ctx context.Context, w http.ResponseWriter, r *http.Request) error {
		long := asyncio.CreateTask(ctx, func(context.Context) (int, error) { return w.Write(pattern(100_000)) })
		if err := asyncio.Sleep(ctx, 0); err != nil {
			return err
		}
		if _, err := w.Write([]byte("x")); !errors.Is(err, asyncio.ErrBusy) {
			t.Errorf("a second writer: %v", err)
		}
		_, err := long.Await(ctx)
		return err
	}), func(ctx context.Context, s *site) error {
		_, got, err := s.fetch(ctx, "GET", "/", nil)
		if len(got) != 100_000 {
			t.Errorf("%d bytes", len(got))
		}
		return err
	})
}

// A request's body is forwarded to another server, and the response comes back; neither is held in
// memory.
func TestDo_Proxy(t *testing.T) {
	var s *site
	mux := http.NewServeMux()
	mux.Handle("/in", asynciohttp.HandlerFunc(func(ctx context.Context, w http.ResponseWriter, r *http.Request) error {
		resp, err := asynciohttp.Do(ctx, s.client, s.request("POST", "/out", r.Body))
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		_, err = io.Copy(w, resp.Body)
		return err
	}))
	mux.Handle("/out", asynciohttp.HandlerFunc(func(ctx context.Context, w http.ResponseWriter, r *http.Request) error {
		b, err := io.ReadAll(r.Body)
		if err == nil {
			_, err = w.Write(bytes.ToUpper(b))
		}
		return err
	}))
	serving(t, mux, func(ctx context.Context, here *site) error {
		s = here
		_, got, err := s.fetch(ctx, "POST", "/in", strings.NewReader(strings.Repeat("abc", 100_000)))
		if got != strings.Repeat("ABC", 100_000) {
			t.Errorf("%d bytes", len(got))
		}
		return err
	})
}

func TestDo_CancelEndsTheRequest(t *testing.T) {
	gone := make(chan string, 1)
	plain := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/body" {
			_ = http.NewResponseController(w).Flush()
		}
		<-r.Context().Done()
		gone <- r.URL.Path
	}))
	defer plain.Close()
	_, err := asyncio.Run(t.Context(), asyncio.Do(func(ctx context.Context) error {
		limited := func(ctx context.Context) (context.Context, context.CancelFunc) {
			return asyncio.WithTimeout(ctx, 20*time.Millisecond)
		}
		for _, path := range []string{"/header", "/body"} {
			fetch := func(ctx context.Context) error {
				req, err := http.NewRequest("GET", plain.URL+path, nil)
				if err != nil {
					return err
				}
				resp, err := asynciohttp.Do(ctx, plain.Client(), req)
				if err != nil {
					return err
				}
				_, err = asynciohttp.ReadAll(resp.Body, 10)
				return err
			}
			err := asyncio.Timeout(ctx, 20*time.Millisecond, func(ctx context.Context, _ *asyncio.TimeoutScope) error { return fetch(ctx) })
			if !errors.Is(err, asyncio.ErrTimeout) {
				t.Errorf("%s, cancelled: %v", path, err)
			}
			if p, _, err := asyncio.Recv(ctx, gone); p != path || err != nil {
				t.Errorf("%s: the server noticed %q, %v", path, p, err)
			}
			ctx, cancel := limited(ctx)
			if err := fetch(ctx); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("%s, out of time: %v", path, err)
			}
			cancel()
			if p, _, err := asyncio.Recv(context.WithoutCancel(ctx), gone); p != path || err != nil {
				t.Errorf("%s: the server noticed %q, %v", path, p, err)
			}
		}
		return nil
	}))
	if err != nil {
		t.Error(err)
	}
}

func TestDo_Errors(t *testing.T) {
	_, err := asyncio.Run(t.Context(), asyncio.Do(func(ctx context.Context) error {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		ln.Close()
		if _, err := asynciohttp.Get(ctx, "http://"+ln.Addr().String()); err == nil {
			t.Error("nobody listens, and no error")
		}
		if _, err := asynciohttp.Get(ctx, ":"); err == nil {
			t.Error("no URL, and no error")
		}
		if _, err := asynciohttp.Get(context.Background(), "http://localhost/"); !errors.Is(err, asyncio.ErrNoRunningLoop) {
			t.Errorf("without a loop: %v", err)
		}
		if _, err := asynciohttp.Do(ctx, nil, nil); !errors.Is(err, asyncio.ErrInvalidArgument) {
			t.Errorf("without a request: %v", err)
		}
		return nil
	}))
	if err != nil {
		t.Error(err)
	}
}

func TestReadAll_Limit(t *testing.T) {
	for _, c := range []struct {
		limit int64
		want  string
		err   error
	}{{10, "12345", nil}, {5, "12345", nil}, {4, "1234", asynciohttp.ErrTooLong}, {0, "", asynciohttp.ErrTooLong}} {
		b, err := asynciohttp.ReadAll(io.NopCloser(strings.NewReader("12345")), c.limit)
		if string(b) != c.want || !errors.Is(err, c.err) {
			t.Errorf("limit %d: %q, %v; want %q, %v", c.limit, b, err, c.want, c.err)
		}
	}
}

// A cancel of Serve lets the current requests end, and accepts no more.
func TestServe_Drains(t *testing.T) {
	_, err := asyncio.Run(t.Context(), asyncio.Do(func(ctx context.Context) error {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		entered, leave := new(asyncio.Event), new(asyncio.Event)
		srv := &http.Server{Handler: asynciohttp.HandlerFunc(func(ctx context.Context, w http.ResponseWriter, r *http.Request) error {
			entered.Set()
			_, err := io.WriteString(w, "done")
			return errors.Join(err, leave.Wait(ctx))
		})}
		server := asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error { return asynciohttp.Serve(ctx, srv, ln) }))
		client := &http.Client{Transport: &http.Transport{}}
		defer client.CloseIdleConnections()
		get := func(ctx context.Context) (string, error) {
			req, err := http.NewRequest("GET", "http://"+ln.Addr().String(), nil)
			if err != nil {
				return "", err
			}
			resp, err := asynciohttp.Do(ctx, client, req)
			if err != nil {
				return "", err
			}
			b, err := asynciohttp.ReadAll(resp.Body, 100)
			return string(b), err
		}
		answer := asyncio.CreateTask(ctx, get)
		if err := entered.Wait(ctx); err != nil {
			return err
		}
		server.Cancel()
		for { // until it has stopped listening
			c, err := asyncio.Dial(ctx, "tcp", ln.Addr().String())
			if err != nil {
				break
			}
			c.Close()
		}
		if server.Done() || answer.Done() {
			t.Error("it did not wait for the request")
		}
		leave.Set()
		if got, err := answer.Await(ctx); got != "done" || err != nil {
			t.Errorf("%q, %v", got, err)
		}
		if _, err := server.Await(ctx); !errors.Is(err, asyncio.ErrCancelled) {
			t.Errorf("Serve: %v", err)
		}
		return nil
	}))
	if err != nil {
		t.Error(err)
	}
}

// Several loops get the requests in turn, and work at the same time.
func TestGroupHandler(t *testing.T) {
	_, err := asyncio.RunLoopGroup(t.Context(), 3, func(ctx context.Context, g *asyncio.LoopGroup) (int, error) {
		srv := httptest.NewServer(asynciohttp.GroupHandler(g, asynciohttp.HandlerFunc(func(ctx context.Context, w http.ResponseWriter, r *http.Request) error {
			l, err := asyncio.GetRunningLoop(ctx)
			for i := range g.Len() {
				if l == g.Loop(i) {
					fmt.Fprint(w, i)
				}
			}
			return err
		})))
		defer asyncio.ToThread(ctx, func(context.Context) (int, error) { srv.Close(); return 0, nil })
		seen := make(map[string]int)
		for range 9 {
			req, err := http.NewRequest("GET", srv.URL, nil)
			if err != nil {
				return 0, err
			}
			resp, err := asynciohttp.Do(ctx, srv.Client(), req)
			if err != nil {
				return 0, err
			}
			b, err := asynciohttp.ReadAll(resp.Body, 10)
			if err != nil {
				return 0, err
			}
			seen[string(b)]++
		}
		if len(seen) != 3 || seen["0"] != 3 {
			t.Errorf("%v", seen)
		}
		return 0, nil
	})
	if err != nil {
		t.Error(err)
	}
}

// program returns the path of a program that a test needs.
func program(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		install := fmt.Sprintf("no %s, which .ci/run installs", name)
		if os.Getenv("CI") == "true" {
			t.Fatal(install)
		}
		t.Skip(install)
	}
	return path
}

// A nil argument is reported where it is passed, not at the first request.
func TestMisuse_Nil(t *testing.T) {
	panicOf := func(fn func()) (err error) {
		defer func() { err, _ = recover().(error) }()
		fn()
		return nil
	}
	_, err := asyncio.Run(t.Context(), asyncio.Do(func(ctx context.Context) error {
		l, err := asyncio.GetRunningLoop(ctx)
		if err != nil {
			return err
		}
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		for name, err := range map[string]error{
			"Handler without a loop":       panicOf(func() { asynciohttp.Handler(nil, http.NotFoundHandler()) }),
			"Handler without a handler":    panicOf(func() { asynciohttp.Handler(l, nil) }),
			"GroupHandler without a group": panicOf(func() { asynciohttp.GroupHandler(nil, http.NotFoundHandler()) }),
			"Serve without a listener":     asynciohttp.Serve(ctx, new(http.Server), nil),
			"Serve without a server":       asynciohttp.Serve(ctx, nil, ln),
		} {
			if !errors.Is(err, asyncio.ErrInvalidArgument) {
				t.Errorf("%s: %v", name, err)
			}
		}
		if _, err := ln.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("Serve has left its listener open: %v", err)
		}
		return nil
	}))
	if err != nil {
		t.Error(err)
	}
}
