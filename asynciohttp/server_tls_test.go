package asynciohttp_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/asynciohttp"
	"github.com/goasyncio/asyncio/asynciohttp/asynciohttptest"
	"github.com/goasyncio/asyncio/sim"
)

// A client that speaks HTTP where TLS is spoken is told so; one that speaks neither is not.
func TestServer_PlainHTTPToTLS(t *testing.T) {
	const answer = "HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n"
	for _, c := range []struct{ sent, want, log string }{
		{"GET / HTTP/1.1\r\nHost: x\r\n\r\n", answer, "client sent an HTTP request to an HTTPS server"},
		{"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", answer, "client sent an HTTP request to an HTTPS server"},
		{"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n" + strings.Repeat("x", 100000), answer, "client sent an HTTP request to an HTTPS server"},
		{"SSH-2.0-OpenSSH\r\n", "", "first record does not look like a TLS handshake"},
	} {
		sim.Run(t, func(ctx context.Context) error {
			var logged bytes.Buffer
			srv, err := asynciohttptest.NewUnstartedServer(ctx, http.NotFoundHandler())
			if err != nil {
				return err
			}
			srv.Config.ErrorLog = log.New(&logged, "", 0)
			srv.StartTLS()
			defer srv.Close()
			k, err := asyncio.Dial(ctx, "tcp", srv.Listener.Addr().String())
			if err != nil {
				return err
			}
			defer k.Close()
			if _, err := io.WriteString(k, c.sent); err != nil {
				return err
			}
			got, err := io.ReadAll(k)
			if string(got) != c.want || err != nil && c.want != "" {
				t.Errorf("%.20q: answered %q, %v; want %q", c.sent, got, err, c.want)
			}
			if !strings.Contains(logged.String(), c.log) {
				t.Errorf("%.20q: logged %q, want %q", c.sent, &logged, c.log)
			}
			return nil
		})
	}
}

// Connections that come with TLS are served as such.
func TestServer_ForeignTLS(t *testing.T) {
	other := httptest.NewUnstartedServer(nil)
	other.StartTLS()
	defer other.Close()
	client := other.Client()
	for _, proto := range []string{"http/1.1", "h2"} {
		t.Run(proto, func(t *testing.T) {
			_, err := asyncio.Run(t.Context(), asyncio.Do(func(ctx context.Context) error {
				l, err := net.Listen("tcp", "127.0.0.1:0")
				if err != nil {
					return err
				}
				s := &asynciohttp.Server{ErrorLog: discarded, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					host, _, err := net.SplitHostPort(r.RemoteAddr)
					fmt.Fprint(w, r.Proto, " ", r.TLS != nil && r.TLS.HandshakeComplete, " ", host, err)
				})}
				config := &tls.Config{Certificates: other.TLS.Certificates, NextProtos: []string{proto}}
				serving := asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error { return s.Serve(ctx, tls.NewListener(l, config)) }))
				got, err := asyncio.ToThread(ctx, func(ctx context.Context) (string, error) {
					transport := client.Transport.(*http.Transport).Clone()
					transport.ForceAttemptHTTP2 = proto == "h2"
					defer transport.CloseIdleConnections()
					resp, err := (&http.Client{Transport: transport, Timeout: time.Minute}).Get("https://" + l.Addr().String())
					if err != nil {
						return "", err
					}
					defer resp.Body.Close()
					text, err := io.ReadAll(resp.Body)
					return string(text), err
				})
				if want := map[string]string{"http/1.1": "HTTP/1.1", "h2": "HTTP/2.0"}[proto] + " true 127.0.0.1<nil>"; got != want || err != nil {
					t.Errorf("%q, %v; want %q", got, err, want)
				}
				if err := s.Shutdown(ctx); err != nil {
					return err
				}
				if _, err := serving.Await(ctx); !errors.Is(err, http.ErrServerClosed) {
					return err
				}
				return nil
			}))
			if err != nil {
				t.Error(err)
			}
		})
	}
}

// A connection with HTTP/2 goes through the states that are documented: httptest.Server panics at
// others.
func TestServer_ConnStateHTTP2(t *testing.T) {
	sim.Run(t, func(ctx context.Context) error {
		srv, err := asynciohttptest.NewUnstartedServer(ctx, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.Proto) }))
		if err != nil {
			return err
		}
		var states []string
		srv.Config.ConnState = func(_ net.Conn, state http.ConnState) { states = append(states, state.String()) }
		srv.EnableHTTP2 = true
		srv.StartTLS()
		defer srv.Close()
		client := srv.Client()
		for range 2 {
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, srv.URL, nil)
			if err != nil {
				return err
			}
			resp, err := client.Do(req)
			if err != nil {
				return err
			}
			text, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if string(text) != "HTTP/2.0" || err != nil {
				t.Errorf("%q, %v", text, err)
			}
			if err := asyncio.Sleep(ctx, time.Second); err != nil {
				return err
			}
		}
		client.CloseIdleConnections()
		if err := asyncio.Sleep(ctx, time.Second); err != nil {
			return err
		}
		if got, want := strings.Join(states, " "), "new active idle active idle active idle closed"; got != want {
			t.Errorf("the states are %s, want %s", got, want)
		}
		return nil
	})
}
