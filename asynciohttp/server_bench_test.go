package asynciohttp_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/asynciohttp"
)

// benchedServer is the environment variable that makes the test's program a server. It names which
// one.
const benchedServer = "ASYNCIOHTTP_BENCHED_SERVER"

// serveBenched serves until the process is killed.
func serveBenched(which string) error {
	runtime.GOMAXPROCS(1)
	mux := http.NewServeMux()
	for _, n := range []int{64, 64 << 10} {
		body := bytes.Repeat([]byte("x"), n)
		mux.HandleFunc(fmt.Sprintf("/%d", n), func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "text/plain")
			_, _ = w.Write(body)
		})
	}
	mux.HandleFunc("/memory", func(w http.ResponseWriter, r *http.Request) {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		fmt.Fprint(w, m.HeapInuse+m.StackInuse)
	})
	if which == "net/http" {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		fmt.Println(ln.Addr())
		return http.Serve(ln, mux)
	}
	_, err := asyncio.Run(context.Background(), asyncio.Do(func(ctx context.Context) error {
		ln, err := asyncio.Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		fmt.Println(ln.Addr())
		return (&asynciohttp.Server{Handler: mux}).Serve(ctx, ln)
	}))
	return err
}

// A benched is a server in a process of its own.
type benched struct {
	addr string
	cmd  *exec.Cmd
}

func startBenched(b *testing.B, which string) *benched {
	b.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), benchedServer+"="+which)
	out, err := cmd.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	addr, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		b.Fatal(err)
	}
	return &benched{strings.TrimSpace(addr), cmd}
}

// stop returns the processor time that the process has used.
func (p *benched) stop() time.Duration {
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
	return p.cmd.ProcessState.UserTime() + p.cmd.ProcessState.SystemTime()
}

// A benchClient sends the same request over and over, and reads responses of a known length.
type benchClient struct {
	net.Conn
	r       *bufio.Reader
	request []byte
}

func (p *benched) dial(b *testing.B, path string) *benchClient {
	b.Helper()
	c, err := net.Dial("tcp", p.addr)
	if err != nil {
		b.Fatal(err)
	}
	return &benchClient{c, bufio.NewReaderSize(c, 64<<10), fmt.Appendf(nil, "GET %s HTTP/1.1\r\nHost: bench.test\r\nUser-Agent: bench/1.0\r\nAccept: */*\r\n\r\n", path)}
}

func (c *benchClient) do() (string, error) {
	if _, err := c.Write(c.request); err != nil {
		return "", err
	}
	r, err := http.ReadResponse(c.r, nil)
	if err != nil {
		return "", err
	}
	var short strings.Builder
	_, err = io.Copy(&short, io.LimitReader(r.Body, 20))
	_, err2 := io.Copy(io.Discard, r.Body)
	if err == nil {
		err = err2
	}
	return short.String(), err
}

// BenchmarkServer is the processor time that a request costs the server on one core, with a hundred
// keep-alive connections, and the memory of an idle connection; beside net/http's. The servers are
// processes of their own, which the metrics are about. The reference is docs/performance.md, which
// has other peers too; this is quicker.
func BenchmarkServer(b *testing.B) {
	for _, which := range []string{"net/http", "asynciohttp"} {
		name := strings.ReplaceAll(which, "/", "-")
		for _, path := range []string{"/64", "/65536"} {
			b.Run(path[1:]+"/"+name, func(b *testing.B) {
				const connections = 100
				p := startBenched(b, which)
				var clients []*benchClient
				for range connections {
					clients = append(clients, p.dial(b, path))
				}
				b.ResetTimer()
				var wg sync.WaitGroup
				for i, c := range clients {
					wg.Go(func() {
						defer c.Close()
						for n := i; n < b.N; n += connections {
							if _, err := c.do(); err != nil {
								b.Error(err)
								return
							}
						}
					})
				}
				wg.Wait()
				b.StopTimer()
				b.ReportMetric(float64(p.stop())/float64(b.N), "cpu-ns/op")
			})
		}
		b.Run("idle/"+name, func(b *testing.B) {
			const idle = 1000
			p := startBenched(b, which)
			defer p.stop()
			meter := p.dial(b, "/memory")
			defer meter.Close()
			memory := func() (bytes float64) {
				text, err := meter.do()
				if err != nil {
					b.Fatal(err)
				}
				_, _ = fmt.Sscan(text, &bytes)
				return bytes
			}
			for b.Loop() {
				before := memory()
				var clients []*benchClient
				for range idle {
					c := p.dial(b, "/64")
					if _, err := c.do(); err != nil {
						b.Fatal(err)
					}
					clients = append(clients, c)
				}
				// until they have been idle for long
				least := memory()
				for end := time.Now().Add(3 * time.Second); time.Now().Before(end); runtime.Gosched() {
					least = min(least, memory())
				}
				b.ReportMetric((least-before)/idle, "bytes/conn")
				for _, c := range clients {
					_ = c.Close()
				}
			}
		})
	}
}
