package blocking

import (
	"context"
	"net"
	"net/http"
	"time"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/asynciohttp"
)

var hello = http.NotFoundHandler()

// The ways by which a handler gets to a server of the loop.
func serveTimed(ctx context.Context, l *asyncio.EventLoop, ln net.Listener) {
	_ = &asynciohttp.Server{Handler: http.TimeoutHandler(hello, time.Second, "")} // want `http.TimeoutHandler blocks the loop of the server: use asynciohttp.TimeoutHandler`
	_ = asynciohttp.NewServer(&http.Server{
		Handler: http.StripPrefix("/x", http.TimeoutHandler(hello, time.Second, "")), // want `http.TimeoutHandler blocks`
	})

	mux := http.NewServeMux()
	mux.Handle("/slow", http.TimeoutHandler(hello, time.Second, "")) // want `http.TimeoutHandler blocks`
	_ = asynciohttp.Serve(ctx, &http.Server{Handler: mux}, ln)

	var s asynciohttp.Server
	s.Handler = timedRoutes()

	config := &http.Server{}
	config.Handler = outer
	_ = asynciohttp.NewServer(config)

	_ = asynciohttp.Handler(l, logged(http.TimeoutHandler(hello, time.Second, ""))) // want `http.TimeoutHandler blocks`
}

func timedRoutes() http.Handler {
	h := http.TimeoutHandler(hello, time.Second, "") // want `http.TimeoutHandler blocks`
	return logged(h)
}

var outer = http.HandlerFunc(inner.ServeHTTP)

var inner = http.TimeoutHandler(hello, time.Second, "") // want `http.TimeoutHandler blocks`

func logged(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { h.ServeHTTP(w, r) })
}

// Those of net/http's server are not reported, nor is asynciohttp's.
func notTimed(ctx context.Context, l *asyncio.EventLoop, ln net.Listener) *http.Server {
	_ = asynciohttp.Serve(ctx, &http.Server{Handler: asynciohttp.TimeoutHandler(hello, time.Second, "")}, ln)
	mux := http.NewServeMux()
	mux.Handle("/bridged", http.TimeoutHandler(asynciohttp.Handler(l, hello), time.Second, ""))
	return &http.Server{Handler: http.TimeoutHandler(mux, time.Second, "")}
}

// Neither is one whose loop does not serve anybody else.
func aloneOnItsLoop(ctx context.Context, ln net.Listener) {
	//asynciovet:allow blocking nobody else is served
	_ = asynciohttp.Serve(ctx, &http.Server{Handler: http.TimeoutHandler(hello, time.Second, "")}, ln)
}
