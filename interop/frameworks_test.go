//go:build unix

package interop

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/gin-gonic/gin"
	"github.com/go-chi/chi/v5"
	gorilla "github.com/gorilla/websocket"
	"github.com/labstack/echo/v5"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/interop/grpc_testing"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/asynciohttp"
)

// In these rows the library under test is a server on the loop, and the client is an ordinary one,
// on goroutines. So they say what becomes of a handler when its client gives up.

func TestFrameworks(t *testing.T) {
	g := new(loopGate)
	runBattery(t, g.server(), append(frameworkRows(g), grpcServerRow(g)))
}

func TestServers(t *testing.T) {
	g := newGate()
	runBattery(t, g.server(), serverRows(g))
}

// A loopGate holds back the answers of handlers that are tasks.
type loopGate struct {
	mu      sync.Mutex
	loop    *asyncio.EventLoop
	held    int
	waiting waiters         // the loop's
	open    map[string]bool // released, perhaps before the request came; the loop's
}

// begin makes the gate belong to another loop.
func (g *loopGate) begin(ctx context.Context) error {
	loop, err := asyncio.GetRunningLoop(ctx)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.loop, g.waiting, g.open = loop, make(waiters), make(map[string]bool)
	return err
}

// wait suspends the handler until the answer may be given.
func (g *loopGate) wait(ctx context.Context, value string) error {
	if g.open[value] {
		return nil
	}
	g.count(1)
	defer g.count(-1)
	_, err := g.waiting.wait(ctx, value, func() error { return nil })
	return err
}

func (g *loopGate) count(n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.held += n
}

func (g *loopGate) server() server {
	return server{
		held: func() (int, error) {
			g.mu.Lock()
			defer g.mu.Unlock()
			return g.held, nil
		},
		release: func(values ...string) error {
			_, err := g.loop.CallSoonThreadsafe(func() {
				for _, value := range values {
					g.open[value] = true
					g.waiting.deliver(value)
				}
			})
			return err
		},
	}
}

// frameworks make handlers that answer /ask/VALUE after other tasks have had a turn, /hold/VALUE
// when the gate lets them, and /connection/VALUE with the client's address.
var frameworks = []struct {
	name string
	make func(g *loopGate) http.Handler
}{
	{"chi", func(g *loopGate) http.Handler {
		r := chi.NewRouter()
		r.Get("/{what}/{value}", func(w http.ResponseWriter, r *http.Request) {
			answer, err := g.answer(r.Context(), chi.URLParam(r, "what"), chi.URLParam(r, "value"), r.RemoteAddr)
			if err == nil {
				io.WriteString(w, answer)
			}
		})
		return r
	}},
	{"echo", func(g *loopGate) http.Handler {
		e := echo.New()
		e.GET("/:what/:value", func(c *echo.Context) error {
			r := c.Request()
			answer, err := g.answer(r.Context(), c.Param("what"), c.Param("value"), r.RemoteAddr)
			if err != nil {
				return err
			}
			return c.String(http.StatusOK, answer)
		})
		return e
	}},
	{"gin", func(g *loopGate) http.Handler {
		gin.SetMode(gin.ReleaseMode)
		r := gin.New()
		r.GET("/:what/:value", func(c *gin.Context) {
			// c itself leads to no loop
			answer, err := g.answer(c.Request.Context(), c.Param("what"), c.Param("value"), c.Request.RemoteAddr)
			if err == nil {
				c.String(http.StatusOK, answer)
			}
		})
		return r
	}},
}

func (g *loopGate) answer(ctx context.Context, what, value, address string) (string, error) {
	switch what {
	case "hold":
		return value, g.wait(ctx, value)
	case "connection":
		return address, nil
	}
	return value, asyncio.Sleep(ctx, 0)
}

func frameworkRows(g *loopGate) []row {
	gone := outcome{atOnce, takenBack, replaced}
	rows := []row{gorillaServerRow(g)}
	for _, f := range frameworks {
		rows = append(rows, row{
			library: f.name, way: ours + " (asynciohttp)", sim: "no", cancel: gone, done: gone, closing: waitsThem,
			open: func(ctx context.Context, conns int) (*client, error) {
				if err := g.begin(ctx); err != nil {
					return nil, err
				}
				address, stop, err := serveInTasks(ctx, f.make(g))
				if err != nil {
					return nil, err
				}
				return serverClient(address, conns, stop), nil
			},
		})
	}
	return rows
}

// serveInTasks serves HTTP in tasks of the loop.
func serveInTasks(ctx context.Context, h http.Handler) (address net.Addr, stop func(ctx context.Context) error, err error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, nil, err
	}
	serving := asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error {
		return asynciohttp.Serve(ctx, &http.Server{Handler: h}, ln)
	}))
	return ln.Addr(), func(ctx context.Context) error {
		serving.Cancel()
		if _, err := serving.Await(ctx); !errors.Is(err, asyncio.ErrCancelled) {
			return err
		}
		return nil
	}, nil
}

// gorillaServerRow upgrades connections in handlers that are tasks.
func gorillaServerRow(g *loopGate) row {
	return row{
		library: "gorilla/websocket, server", way: ours + " (asynciohttp)", sim: "no", single: true,
		cancel: outcome{atOnce, runsOn, closed}, done: outcome{atOnce, runsOn, closed}, closing: endsThem,
		open: func(ctx context.Context, _ int) (*client, error) {
			if err := g.begin(ctx); err != nil {
				return nil, err
			}
			address, stop, err := serveInTasks(ctx, asynciohttp.HandlerFunc(g.serveWebSocket))
			if err != nil {
				return nil, err
			}
			c, err := gorillaThreadClient(ctx, gorilla.Dialer{}, "ws://"+address.String())
			if err != nil {
				return nil, err
			}
			closeClient := c.close
			c.close = func(ctx context.Context) error { return errors.Join(closeClient(ctx), stop(ctx)) }
			return c, nil
		},
	}
}

func (g *loopGate) serveWebSocket(ctx context.Context, w http.ResponseWriter, r *http.Request) error {
	ws, err := new(gorilla.Upgrader).Upgrade(w, r, nil) // its connection is one of the loop
	if err != nil {
		return err
	}
	defer ws.Close()
	for {
		_, message, err := ws.ReadMessage()
		if err != nil {
			return nil // the client has gone
		}
		what, value, _ := strings.Cut(strings.TrimSpace(string(message)), " ")
		answer, err := g.answer(ctx, what, value, r.RemoteAddr)
		if err != nil {
			return err
		}
		if err := ws.WriteMessage(gorilla.TextMessage, []byte(answer)); err != nil {
			return nil // the client has gone
		}
	}
}

// serverClient makes an ordinary client of a server, which stop ends.
func serverClient(address net.Addr, conns int, stop func(ctx context.Context) error) *client {
	tr := &http.Transport{MaxConnsPerHost: conns}
	c := httpClient(tr, func(ctx context.Context, path string) (string, error) {
		return asyncio.ToThread(ctx, func(ctx context.Context) (string, error) {
			return getText(ctx, &http.Client{Transport: tr}, "http://"+address.String()+path)
		})
	})
	c.close = func(ctx context.Context) error {
		err := stop(ctx)
		tr.CloseIdleConnections()
		return err
	}
	return c
}

// serverRows are servers on goroutines that accept on a listener of the loop.
func serverRows(g *gate) []row {
	return []row{
		{
			library: "net/http, Serve", way: onView, sim: "no",
			cancel: outcome{atOnce, takenBack, replaced}, done: outcome{atOnce, takenBack, replaced}, closing: waitsThem,
			open: func(ctx context.Context, conns int) (*client, error) {
				ln, err := asyncio.Listen(ctx, "tcp", "127.0.0.1:0")
				if err != nil {
					return nil, err
				}
				hs := &http.Server{Handler: httpHandler(g)}
				ended := make(chan error, 1)
				view := ln.Threadsafe()
				go func() { ended <- hs.Serve(view) }()
				return serverClient(ln.Addr(), conns, inThreadOnly(func() error {
					if err := hs.Shutdown(context.Background()); err != nil {
						return err
					}
					if err := <-ended; err != http.ErrServerClosed {
						return err
					}
					return nil
				})), nil
			},
		},
		{
			library: "grpc-go, Serve", way: onView, sim: "no",
			cancel: outcome{atOnce, takenBack, kept}, done: outcome{atOnce, takenBack, kept}, closing: waitsThem,
			open: func(ctx context.Context, _ int) (*client, error) {
				ln, err := asyncio.Listen(ctx, "tcp", "127.0.0.1:0")
				if err != nil {
					return nil, err
				}
				gs := grpc.NewServer()
				grpc_testing.RegisterTestServiceServer(gs, &grpcService{gate: g})
				ended := make(chan error, 1)
				view := ln.Threadsafe()
				go func() { ended <- gs.Serve(view) }()
				cc, err := grpc.NewClient("passthrough:"+ln.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
				if err != nil {
					return nil, err
				}
				c := grpcClient(cc, asyncio.ToThread)
				c.close = inThreadOnly(func() error {
					gs.GracefulStop()
					return errors.Join(<-ended, cc.Close())
				})
				return c, nil
			},
		},
	}
}
