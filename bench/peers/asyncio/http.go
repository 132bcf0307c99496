package main

import (
	"context"
	"net"
	"net/http"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/asynciohttp"
	"github.com/goasyncio/asyncio/bench/internal/peer"
)

// serveHTTP is asynciohttp's Server.
func serveHTTP(http2, declared bool) peer.Server {
	return func(size int, listening func(net.Addr)) error {
		return untilInterrupted(func(ctx context.Context) error {
			ln, err := asyncio.Listen(ctx, "tcp", "127.0.0.1:0")
			if err != nil {
				return err
			}
			listening(ln.Addr())
			return (&asynciohttp.Server{Handler: peer.Handler(size, declared), Protocols: peer.Protocols(http2)}).Serve(ctx, ln)
		})
	}
}

// fetch is asynciohttp's Transport.
func fetch(url string, size, n int) ([]peer.Measurement, error) {
	return asyncio.Run(context.Background(), func(ctx context.Context) ([]peer.Measurement, error) {
		tr := &asynciohttp.Transport{MaxIdleConnsPerHost: peer.FetchAtOnce}
		defer tr.CloseIdleConnections()
		return peer.Worked("http1", n, func(n int) error {
			return asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg *asyncio.TaskGroup) error {
				for one := range peer.FetchAtOnce {
					tg.CreateTask(ctx, func(ctx context.Context) error {
						for range peer.Share(n, one) {
							req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
							if err != nil {
								return err
							}
							if err := peer.Get(tr, req, size); err != nil {
								return err
							}
						}
						return nil
					})
				}
				return nil
			})
		})
	})
}
