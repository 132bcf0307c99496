package asynciohttptest_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/asynciohttp/asynciohttptest"
	"github.com/goasyncio/asyncio/sim"
)

// A deadline that a handler makes with time.Now means so much from now on the simulated clock too,
// whatever carries the response.
func TestDeadline_OfRealTime(t *testing.T) {
	over := func(http2 bool) func(ctx context.Context, h http.Handler) error {
		return func(ctx context.Context, h http.Handler) error {
			s, err := asynciohttptest.NewUnstartedServer(ctx, h)
			if err != nil {
				return err
			}
			s.EnableHTTP2 = http2
			s.StartTLS()
			req, err := http.NewRequestWithContext(ctx, "GET", s.URL, nil)
			if err != nil {
				return err
			}
			resp, err := s.Client().Do(req)
			if err != nil {
				return err
			}
			if resp.ProtoAtLeast(2, 0) != http2 {
				t.Errorf("it is %s", resp.Proto)
			}
			_, _ = io.ReadAll(resp.Body) // it is cut off
			return errors.Join(resp.Body.Close(), s.Close())
		}
	}
	for name, serve := range map[string]func(ctx context.Context, h http.Handler) error{
		"HTTP/1.1": over(false),
		"HTTP/2":   over(true),
		"recorder": func(ctx context.Context, h http.Handler) error {
			return asynciohttptest.NewRecorder().Serve(ctx, h, httptest.NewRequest("GET", "/", nil))
		},
	} {
		t.Run(name, func(t *testing.T) {
			early, late := errors.New("not written"), error(nil)
			sim.Run(t, func(ctx context.Context) error {
				return serve(ctx, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					rc := http.NewResponseController(w)
					if err := rc.SetWriteDeadline(time.Now().Add(5 * time.Second)); err != nil {
						t.Error(err)
					}
					write := func() error {
						if err := asyncio.Sleep(r.Context(), 3*time.Second); err != nil {
							return err // with HTTP/2 the deadline ends the stream
						}
						_, err := io.WriteString(w, "x")
						return errors.Join(err, rc.Flush())
					}
					early, late = write(), write()
				}))
			})
			if early != nil || late == nil {
				t.Errorf("after 3 s %v, after 6 s %v", early, late)
			}
		})
	}
}
