package asynciohttp_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/asynciohttp"
)

// A peerSite is a Server on real sockets, with TLS or without.
type peerSite struct {
	*asynciohttp.Server
	url    string
	client *http.Client // net/http's, for ToThread
}

// withPeers runs body beside a server of h, without TLS and with it.
func withPeers(t *testing.T, debug bool, h http.Handler, body func(ctx context.Context, s *peerSite) error) {
	t.Helper()
	for _, scheme := range []string{"http", "https"} {
		t.Run(scheme, func(t *testing.T) {
			_, err := asyncio.Run(t.Context(), asyncio.Do(func(ctx context.Context) error {
				ln, err := asyncio.Listen(ctx, "tcp", "127.0.0.1:0")
				if err != nil {
					return err
				}
				// httptest has a certificate
				other := httptest.NewUnstartedServer(nil)
				other.StartTLS()
				defer other.Close()
				s := &peerSite{
					Server: &asynciohttp.Server{Handler: h, ErrorLog: discarded, TLSConfig: &tls.Config{Certificates: other.TLS.Certificates}},
					url:    scheme + "://" + ln.Addr().String(),
					client: other.Client(),
				}
				s.client.Transport.(*http.Transport).TLSClientConfig.NextProtos = []string{"http/1.1"}
				task := asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error {
					if scheme == "https" {
						return s.ServeTLS(ctx, ln, "", "")
					}
					return s.Serve(ctx, ln)
				}))
				err = asyncio.Timeout(ctx, time.Minute, func(ctx context.Context, _ *asyncio.TimeoutScope) error { return body(ctx, s) })
				s.client.CloseIdleConnections()
				if e := asyncio.Cleanup(ctx, time.Minute, s.Shutdown); e != nil {
					err = errors.Join(err, e)
				}
				if _, e := task.Await(ctx); e != http.ErrServerClosed {
					err = errors.Join(err, e)
				}
				return err
			}), asyncio.DebugMode(debug))
			if err != nil {
				t.Error(err)
			}
		})
	}
}

// net/http's client: requests of many kinds, many at once.
func TestServer_NetHTTPClient(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("/mirror/{name}", mirror)
	mux.HandleFunc("/tls", func(w http.ResponseWriter, r *http.Request) {
		if r.TLS != nil {
			fmt.Fprint(w, r.TLS.HandshakeComplete, " ", r.TLS.NegotiatedProtocol)
		}
	})
	mux.HandleFunc("/big", func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, bytes.NewReader(pattern(3<<20))) })
	mux.HandleFunc("/echo", func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).EnableFullDuplex()
		_, _ = io.Copy(w, r.Body)
	})
	withPeers(t, true, mux, func(ctx context.Context, s *peerSite) error {
		do := func(ctx context.Context, method, path string, body io.Reader) (string, error) {
			return asyncio.ToThread(ctx, func(ctx context.Context) (string, error) {
				req, err := http.NewRequestWithContext(ctx, method, s.url+path, body)
				if err != nil {
					return "", err
				}
				resp, err := s.client.Do(req)
				if err != nil {
					return "", err
				}
				defer resp.Body.Close()
				b, err := io.ReadAll(resp.Body)
				return string(b), err
			})
		}
		got, err := do(ctx, "GET", "/tls", nil)
		if want := map[bool]string{true: "true http/1.1"}[strings.HasPrefix(s.url, "https")]; got != want || err != nil {
			t.Errorf("TLS: %q, %v, want %q", got, err, want)
		}
		got, err = do(ctx, "POST", "/mirror/a", strings.NewReader("the body"))
		if !strings.Contains(got, `body "the body" failed false`) || err != nil {
			t.Errorf("%q, %v", got, err)
		}
		got, err = do(ctx, "POST", "/mirror/a", struct{ io.Reader }{strings.NewReader("the body")})
		if !strings.Contains(got, `te ["chunked"]`) || !strings.Contains(got, `body "the body" failed false`) || err != nil {
			t.Errorf("%q, %v", got, err)
		}
		if got, err = do(ctx, "GET", "/big", nil); got != string(pattern(3<<20)) || err != nil {
			t.Errorf("%d bytes, %v", len(got), err)
		}
		want := string(pattern(3 << 20))
		if got, err = do(ctx, "POST", "/echo", struct{ io.Reader }{strings.NewReader(want)}); got != want || err != nil {
			t.Errorf("an echo of %d bytes, %v", len(got), err)
		}
		var all []asyncio.Coroutine[string]
		for i := range 50 {
			all = append(all, func(ctx context.Context) (string, error) {
				for range 5 {
					got, err := do(ctx, "PUT", "/mirror/x", strings.NewReader(strings.Repeat("y", i*100)))
					if err != nil || !strings.Contains(got, fmt.Sprintf("length %d ", i*100)) {
						return "", fmt.Errorf("%q, %w", got, err)
					}
				}
				return "", nil
			})
		}
		_, err = asyncio.Gather(ctx, all...)
		return err
	})
}

// curl: an upload and its echo, with 100-continue, chunks, HEAD and a range.
func TestServer_Curl(t *testing.T) {
	curl := program(t, "curl")
	dir := t.TempDir()
	big := pattern(2 << 20)
	if err := os.WriteFile(dir+"/big", big, 0o600); err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/echo", func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		_, _ = w.Write(b)
	})
	mux.HandleFunc("/file", func(w http.ResponseWriter, r *http.Request) {
		http.ServeContent(w, r, "big", time.Time{}, bytes.NewReader(big))
	})
	withPeers(t, true, mux, func(ctx context.Context, s *peerSite) error {
		for _, c := range []struct {
			what, want string
			args       []string
		}{
			{"an echo", string(big), []string{"--data-binary", "@" + dir + "/big", s.url + "/echo"}},
			{"a chunked upload", string(big), []string{"-T", dir + "/big", "-X", "POST", "-H", "Transfer-Encoding: chunked", s.url + "/echo"}},
			{"an upload with 100-continue", string(big), []string{"-H", "Expect: 100-continue", "--data-binary", "@" + dir + "/big", s.url + "/echo"}},
			{"a file", string(big), []string{s.url + "/file"}},
			{"a part of a file", string(big[1000:2001]), []string{"-r", "1000-2000", s.url + "/file"}},
			{"a status", "404", []string{"-o", "/dev/null", "-w", "%{http_code}", s.url + "/none"}},
			{"a HEAD", "2097152", []string{"-I", "-o", "/dev/null", "-w", "%header{content-length}", s.url + "/file"}},
			{"HTTP/1.0", string(big), []string{"-0", "--no-alpn", "--data-binary", "@" + dir + "/big", s.url + "/echo"}},
			{"two on one connection", "1", []string{"-o", "/dev/null", "-o", "/dev/null", "-w", "%{stderr}%{num_connects}", s.url + "/file", s.url + "/file"}},
		} {
			got, err := asyncio.ToThread(ctx, func(ctx context.Context) (string, error) {
				cmd := exec.CommandContext(ctx, curl, append([]string{"-sS", "-k", "--max-time", "30"}, c.args...)...)
				var stderr bytes.Buffer
				cmd.Stderr = &stderr
				out, err := cmd.Output()
				if err != nil {
					return "", fmt.Errorf("%w: %s", err, stderr.Bytes())
				}
				if len(out) == 0 {
					out = stderr.Bytes()
				}
				return strings.TrimRight(string(out), "0"), nil
			})
			if want := strings.TrimRight(c.want, "0"); got != want || err != nil {
				t.Errorf("%s: %d bytes, %v; want %d", c.what, len(got), err, len(want))
			}
		}
		return nil
	})
}

// wrk as the client.
func TestServer_Wrk(t *testing.T) {
	served := make(map[string]int)
	mux := http.NewServeMux()
	mux.HandleFunc("/hello", func(w http.ResponseWriter, r *http.Request) {
		served[r.Host+r.URL.RequestURI()]++
		_ = asyncio.Sleep(r.Context(), 0) // so that they overlap
		_, _ = io.WriteString(w, "hello")
	})
	mux.HandleFunc("/echo", func(w http.ResponseWriter, r *http.Request) {
		served[r.Host+r.URL.RequestURI()]++
		b, _ := io.ReadAll(r.Body)
		_, _ = w.Write(b)
	})
	withPeers(t, false, mux, func(ctx context.Context, s *peerSite) error {
		return useWrk(ctx, t, s.url, served)
	})
}
