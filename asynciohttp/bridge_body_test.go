package asynciohttp_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/asynciohttp"
)

// A source is a body whose reads each wait until the test gives it something.
type source struct{ asked, give, gone chan string }

func newSource() *source {
	return &source{asked: make(chan string, 1), give: make(chan string), gone: make(chan string)}
}

func (s *source) Read(p []byte) (int, error) {
	s.asked <- ""
	select {
	case data := <-s.give:
		return copy(p, data), nil
	case <-s.gone:
		return 0, errors.New("the transport has closed the body")
	}
}

func (s *source) Close() error { close(s.gone); return nil }

// RoundTrip makes the source a transport that answers everything with itself as the body.
func (s *source) RoundTrip(r *http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: http.StatusOK, ProtoMajor: 1, Header: http.Header{}, Body: s, Request: r}, nil
}

// body 1, body 2: a task that uses a body closed by another task gets an error, and the loop goes
// on.
func TestBody_ClosedWhileItIsRead(t *testing.T) {
	read := func(b io.ReadCloser) error {
		for p := make([]byte, 3); ; {
			if _, err := b.Read(p); err != nil {
				return err
			}
		}
	}
	copying := func(b io.ReadCloser) error {
		_, err := io.Copy(io.Discard, b)
		return err
	}
	for _, c := range []struct {
		name   string
		use    func(io.ReadCloser) error
		before []string // the reads that succeed first
		last   string   // the read in the step that closes the body
		cancel bool     // the task is also cancelled in that step
	}{
		{name: "Read, nothing comes", use: read},
		{name: "WriteTo, nothing comes", use: copying},
		{name: "Read, something came before", use: read, before: []string{"one", "seven"}},
		{name: "WriteTo, something came before", use: copying, before: []string{"one", "seven"}},
		{name: "Read, something comes in the same step", use: read, last: "seven"},
		{name: "WriteTo, something comes in the same step", use: copying, last: "seven"},
		{name: "WriteTo, the task is cancelled in the same step", use: copying, last: "seven", cancel: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			src := newSource()
			_, err := asyncio.Run(t.Context(), asyncio.Do(func(ctx context.Context) error {
				req, err := http.NewRequest("GET", "http://host.test/", nil)
				if err != nil {
					return err
				}
				resp, err := asynciohttp.Do(ctx, &http.Client{Transport: src}, req)
				if err != nil {
					return err
				}
				user := asyncio.CreateTask(ctx, asyncio.Do(func(context.Context) error { return c.use(resp.Body) }))
				for _, data := range c.before {
					if _, _, err := asyncio.Recv(ctx, src.asked); err != nil {
						return err
					}
					src.give <- data
				}
				if _, _, err := asyncio.Recv(ctx, src.asked); err != nil {
					return err
				}
				if c.last != "" {
					src.give <- c.last
				}
				resp.Body.Close()
				want := net.ErrClosed
				if c.cancel {
					user.Cancel()
					want = asyncio.ErrCancelled
				}
				return asyncio.Timeout(ctx, time.Minute, func(ctx context.Context, _ *asyncio.TimeoutScope) error {
					if _, err := user.Await(ctx); !errors.Is(err, want) {
						t.Errorf("%v, want %v", err, want)
					}
					if _, err := resp.Body.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
						t.Errorf("afterwards: %v", err)
					}
					_, _, err := asyncio.Recv(ctx, src.gone)
					return err
				})
			}))
			if err != nil {
				t.Error(err)
			}
		})
	}
}

// body 1 on the server's side: the handler has returned, and a task of its own still copies the
// bytes that arrive at that moment.
func TestBody_HandlerReturnsWhileItIsCopied(t *testing.T) {
	copied := make(chan error, 1)
	src := newSource()
	_, err := asyncio.Run(t.Context(), asyncio.Do(func(ctx context.Context) error {
		l, err := asyncio.GetRunningLoop(ctx)
		if err != nil {
			return err
		}
		h := asynciohttp.Handler(l, asynciohttp.HandlerFunc(func(ctx context.Context, w http.ResponseWriter, r *http.Request) error {
			asyncio.CreateTask(l.Context(), asyncio.Do(func(context.Context) error {
				_, err := io.Copy(io.Discard, r.Body)
				copied <- err
				return nil
			}))
			if _, _, err := asyncio.Recv(ctx, src.asked); err != nil {
				return err
			}
			src.give <- "at the last moment"
			return nil
		}))
		req, err := http.NewRequest("POST", "http://host.test/", src)
		if err != nil {
			return err
		}
		if _, err := asyncio.ToThread(ctx, func(context.Context) (int, error) { h.ServeHTTP(discardResponse{}, req); return 0, nil }); err != nil {
			return err
		}
		err, _, e := asyncio.Recv(ctx, copied)
		if !errors.Is(err, net.ErrClosed) {
			t.Errorf("the copy ended with %v", err)
		}
		return e
	}))
	if err != nil {
		t.Error(err)
	}
}

type discardResponse struct{}

func (discardResponse) Header() http.Header             { return http.Header{} }
func (discardResponse) Write(p []byte) (int, error)     { return len(p), nil }
func (discardResponse) WriteHeader(int)                 {}
func (discardResponse) SetReadDeadline(time.Time) error { return nil }
