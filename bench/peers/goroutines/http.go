package main

import (
	"net"
	"net/http"
	"sync"

	"github.com/goasyncio/asyncio/bench/internal/peer"
)

// serveHTTP is package net/http's server.
func serveHTTP(http2, declared bool) peer.Server {
	return func(size int, listening func(net.Addr)) error {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		listening(ln.Addr())
		return (&http.Server{Handler: peer.Handler(size, declared), Protocols: peer.Protocols(http2)}).Serve(ln)
	}
}

// fetch is package net/http's Transport.
func fetch(url string, size, n int) ([]peer.Measurement, error) {
	tr := &http.Transport{MaxIdleConnsPerHost: peer.FetchAtOnce}
	return peer.Worked("http1", n, func(n int) error {
		errs := make([]error, peer.FetchAtOnce)
		var all sync.WaitGroup
		for one := range errs {
			all.Go(func() {
				for range peer.Share(n, one) {
					req, err := http.NewRequest(http.MethodGet, url, nil)
					if err == nil {
						err = peer.Get(tr, req, size)
					}
					if err != nil {
						errs[one] = err
						return
					}
				}
			})
		}
		all.Wait()
		for _, err := range errs {
			if err != nil {
				return err
			}
		}
		return nil
	})
}
