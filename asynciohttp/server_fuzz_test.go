package asynciohttp_test

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"github.com/goasyncio/asyncio/asynciohttp"
)

// sameAnswer compares the answers of both servers to raw. A server that resets the connection may
// cut its answer.
func sameAnswer(t *testing.T, o *oracle, raw string) {
	t.Helper()
	if len(raw) > 64<<10 || strings.Count(raw, "\n") > 400 {
		return // limits that depend on the release of Go
	}
	want, wantReset := o.tryAsk(t, raw)
	onHost(t, func() *asynciohttp.Server { return asynciohttp.NewServer(o.srv) }, func(ctx context.Context) error {
		got, reset, err := askHost(ctx, raw, len(raw)+1)
		switch {
		case err != nil:
			return err
		case got == want, reset && strings.HasPrefix(want, got), wantReset && strings.HasPrefix(got, want):
		default:
			t.Errorf("%q\n     got %q\nnet/http %q", raw, got, want)
		}
		return nil
	})
}

// FuzzServer: any bytes get the answer that net/http gives.
func FuzzServer(f *testing.F) {
	for _, raw := range requests() {
		f.Add(raw)
	}
	o := newOracle(f, &http.Server{Handler: http.HandlerFunc(mirror)})
	f.Fuzz(func(t *testing.T, raw string) { sameAnswer(t, o, raw) })
}

// FuzzServer_Chunks is FuzzServer for a body with chunks.
func FuzzServer_Chunks(f *testing.F) {
	for _, raw := range requests() {
		if head, body, ok := strings.Cut(raw, "\r\n\r\n"); ok && strings.Contains(head, "Transfer-Encoding: chunked") {
			f.Add(body)
		}
	}
	o := newOracle(f, &http.Server{Handler: http.HandlerFunc(mirror)})
	f.Fuzz(func(t *testing.T, chunks string) { sameAnswer(t, o, post(chunks, "Transfer-Encoding: chunked")) })
}
