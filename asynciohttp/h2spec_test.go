//go:build unix

package asynciohttp_test

import (
	"context"
	"crypto/tls"
	"net"
	"net/http/httptest"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/asynciohttp"
)

// TestH2spec runs h2spec against the server, with TLS and without.
func TestH2spec(t *testing.T) {
	h2spec := program(t, "h2spec")
	other := httptest.NewUnstartedServer(nil) // httptest has a certificate
	other.StartTLS()
	defer other.Close()
	for name, flags := range map[string][]string{"without TLS": nil, "with TLS": {"-t", "-k"}} {
		t.Run(name, func(t *testing.T) {
			_, err := asyncio.Run(t.Context(), asyncio.Do(func(ctx context.Context) error {
				l, err := asyncio.Listen(ctx, "tcp", "127.0.0.1:0")
				if err != nil {
					return err
				}
				config := h2Config(t, hello)
				config.Protocols.SetHTTP1(false) // to which a wrong preface would belong
				config.Protocols.SetHTTP2(true)
				if flags != nil {
					config.TLSConfig = &tls.Config{Certificates: other.TLS.Certificates}
				}
				serving := asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error { return asynciohttp.Serve(ctx, config, l) }))
				_, port, _ := net.SplitHostPort(l.Addr().String())
				out, err := asyncio.ToThread(ctx, func(ctx context.Context) ([]byte, error) {
					return exec.CommandContext(ctx, h2spec, append(flags, "-h", "127.0.0.1", "-p", port)...).CombinedOutput()
				})
				serving.Cancel()
				_, _ = serving.Await(ctx)
				report := regexp.MustCompile(`\n(\d+) tests, (\d+) passed, 0 skipped, 0 failed`).FindSubmatch(out)
				if report == nil || string(report[1]) != string(report[2]) {
					t.Errorf("h2spec: %v\n%s", err, out)
					return nil
				}
				t.Log(strings.TrimSpace(string(report[0])))
				return nil
			}))
			if err != nil {
				t.Error(err)
			}
		})
	}
}
