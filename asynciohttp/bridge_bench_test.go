package asynciohttp_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/asynciohttp"
)

// BenchmarkServe is a request and its short response over keep-alive connections, served by a task
// and by a goroutine, from the same clients.
func BenchmarkServe(b *testing.B) {
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/plain")
		_, _ = io.WriteString(w, "hello")
	})
	stream := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// otherwise the first write would end the body
		_ = http.NewResponseController(w).EnableFullDuplex()
		_, _ = io.Copy(w, r.Body)
	})
	whole := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		_, _ = w.Write(b)
	})
	body := strings.Repeat("x", 64<<10)
	for _, c := range []struct {
		name    string
		handler http.Handler
		body    string
		answer  int
	}{{"hello", handler, "", len("hello")}, {"echo 64 KiB as it comes", stream, body, len(body)}, {"echo 64 KiB whole", whole, body, len(body)}} {
		bench := func(b *testing.B, h http.Handler) {
			srv := httptest.NewServer(h)
			defer srv.Close()
			client := srv.Client()
			client.Transport.(*http.Transport).MaxIdleConnsPerHost = 100
			b.ReportAllocs()
			b.ResetTimer()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					resp, err := client.Post(srv.URL, "text/plain", strings.NewReader(c.body))
					if err != nil {
						b.Error(err)
						return
					}
					if n, err := io.Copy(io.Discard, resp.Body); err != nil || n != int64(c.answer) {
						b.Errorf("%d bytes, %v, want %d", n, err, c.answer)
					}
					resp.Body.Close()
				}
			})
			b.StopTimer()
		}
		b.Run(c.name+"/net-http", func(b *testing.B) { bench(b, c.handler) })
		b.Run(c.name+"/asynciohttp", func(b *testing.B) {
			l := asyncio.NewEventLoop(b.Context())
			ended := make(chan error)
			go func() { ended <- l.RunForever() }()
			bench(b, asynciohttp.Handler(l, c.handler))
			_, _ = l.CallSoonThreadsafe(l.Stop)
			if err := <-ended; err != nil {
				b.Error(err)
			}
			if err := l.Close(); err != nil {
				b.Error(err)
			}
		})
	}
}
