//go:build unix

package asynciohttp_test

import (
	"context"
	"net"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/asynciohttp"
)

// TestH2spec runs h2spec against the server, with TLS and without, if ASYNCIO_H2SPEC names the
// program. It is github.com/summerwind/h2spec.
func TestH2spec(t *testing.T) {
	h2spec := os.Getenv("ASYNCIO_H2SPEC")
	if h2spec == "" {
		t.Skip("ASYNCIO_H2SPEC does not name the program h2spec")
	}
	cert, key := certificateFiles(t)
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
				serving := asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error {
					if flags != nil {
						return asynciohttp.NewServer(config).ServeTLS(ctx, l, cert, key)
					}
					return asynciohttp.NewServer(config).Serve(ctx, l)
				}))
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

// certificateFiles writes a certificate for 127.0.0.1 and its key.
func certificateFiles(t *testing.T) (cert, key string) {
	dir := t.TempDir()
	cert, key = dir+"/cert.pem", dir+"/key.pem"
	out, err := exec.Command("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
		"-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", cert).CombinedOutput()
	if err != nil {
		t.Fatalf("openssl: %v\n%s", err, out)
	}
	return cert, key
}
