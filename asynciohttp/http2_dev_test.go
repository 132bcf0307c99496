package asynciohttp

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"testing"

	"github.com/goasyncio/asyncio"
)

func devHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "Hello %s %s %d", r.Method, r.URL.Path, len(body))
	})
	big := make([]byte, 64<<10)
	mux.HandleFunc("/big", func(w http.ResponseWriter, r *http.Request) { w.Write(big) })
	mux.HandleFunc("/small", func(w http.ResponseWriter, r *http.Request) { w.Write(big[:64]) })
	return mux
}

func TestDevServe(t *testing.T) {
	addr := os.Getenv("DEV_ADDR")
	if addr == "" {
		t.Skip()
	}
	asyncio.Run(context.Background(), asyncio.Do(func(ctx context.Context) error {
		l, err := asyncio.Listen(ctx, "tcp", addr)
		if err != nil {
			return err
		}
		hs := &http.Server{Handler: devHandler()}
		for {
			c, err := l.AcceptContext(ctx)
			if err != nil {
				return err
			}
			asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error {
				err := serveHTTP2(ctx, hs, c, bufio.NewReaderSize(c, 4096), nil, func(http.ConnState) {})
				if err != nil {
					fmt.Println(err)
				}
				return err
			}))
		}
	}))
}

func TestDevServeGo(t *testing.T) {
	addr := os.Getenv("DEV_ADDR")
	if addr == "" {
		t.Skip()
	}
	hs := &http.Server{Addr: addr, Handler: devHandler(), Protocols: new(http.Protocols)}
	hs.Protocols.SetUnencryptedHTTP2(true)
	hs.ListenAndServe()
}
