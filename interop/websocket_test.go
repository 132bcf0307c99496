//go:build unix

package interop

import (
	"bufio"
	"context"
	"errors"
	"net"
	"net/http"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"

	coder "github.com/coder/websocket"
	gorilla "github.com/gorilla/websocket"

	"github.com/goasyncio/asyncio"
)

func TestWebSocket(t *testing.T) {
	dir := directory(t)
	s := fileGate(t, dir)
	runBattery(t, s, webSocketRows(startWebSocket(t, dir)))
}

// startWebSocket starts a server written with Python's websockets.
func startWebSocket(t *testing.T, dir string) (url string) {
	t.Helper()
	python := debianPython(t, "websockets")
	return "ws://" + startAt(t, syscall.SIGTERM, func(port int) (*exec.Cmd, func() error) {
		return exec.Command(python, "testdata/websocket_server.py", strconv.Itoa(port), dir), accepts("tcp", "127.0.0.1:"+strconv.Itoa(port))
	})
}

func webSocketRows(url string) []row {
	return []row{
		{
			library: "gorilla/websocket", way: asItIs, sim: "yes", single: true,
			cancel: outcome{atOnce, takenBack, closed}, done: outcome{task: ignored}, closing: endsThem,
			open: func(ctx context.Context, _ int) (*client, error) {
				dialer := gorilla.Dialer{NetDialContext: asyncio.DialContext}
				return gorillaClient(ctx, dialer, url)
			},
		},
		{
			library: "gorilla/websocket", way: onView, sim: "no", single: true,
			cancel: outcome{atOnce, takenBack, closed}, done: outcome{atOnce, takenBack, closed}, closing: endsThem,
			open: func(ctx context.Context, _ int) (*client, error) {
				dialer := gorilla.Dialer{NetDialContext: asyncio.ThreadsafeDialer(ctx)}
				return gorillaThreadClient(ctx, dialer, url)
			},
		},
		{
			library: "coder/websocket", way: inThread, sim: "no", single: true,
			cancel: outcome{atOnce, takenBack, closed}, done: outcome{atOnce, takenBack, closed}, closing: endsThem,
			open: func(ctx context.Context, _ int) (*client, error) {
				return coderClient(ctx, url, http.DefaultClient)
			},
		},
		{
			library: "coder/websocket", way: onView, sim: "no", single: true,
			cancel: outcome{atOnce, takenBack, closed}, done: outcome{atOnce, takenBack, closed}, closing: endsThem,
			open: func(ctx context.Context, _ int) (*client, error) {
				transport := &http.Transport{DialContext: asyncio.ThreadsafeDialer(ctx)}
				return coderClient(ctx, url, &http.Client{Transport: transport})
			},
		},
		{
			library: "coder/websocket, NetConn", way: inThread + ", then " + asItIs, sim: "no", single: true,
			cancel: outcome{atOnce, takenBack, closed}, done: outcome{task: ignored}, closing: endsThem,
			open: func(ctx context.Context, _ int) (*client, error) {
				c, err := dialCoderConn(ctx, url)
				if err != nil {
					return nil, err
				}
				lines := bufio.NewReader(c)
				return webSocketClient(c.Close, func(_ context.Context, message string) (string, error) {
					if _, err := c.Write([]byte(message)); err != nil {
						return "", err
					}
					answer, err := lines.ReadString('\n')
					if err != nil {
						c.Close() // the answer may still come, and is not the next one's
					}
					return answer, err
				}), nil
			},
		},
	}
}

// gorillaClient uses the library in the calling task.
func gorillaClient(ctx context.Context, dialer gorilla.Dialer, url string) (*client, error) {
	ws, _, err := dialer.DialContext(ctx, url, nil)
	if err != nil {
		return nil, err
	}
	return webSocketClient(ws.Close, func(_ context.Context, message string) (string, error) { return exchange(ws, message) }), nil
}

// gorillaThreadClient uses the library in threads. It has no ctx, so who stops waiting closes the
// connection. The task does that, not a goroutine that may come after the task's next request.
func gorillaThreadClient(ctx context.Context, dialer gorilla.Dialer, url string) (*client, error) {
	ws, err := asyncio.ToThread(ctx, func(ctx context.Context) (*gorilla.Conn, error) {
		ws, _, err := dialer.DialContext(ctx, url, nil)
		return ws, err
	})
	if err != nil {
		return nil, err
	}
	return webSocketClient(ws.Close, func(ctx context.Context, message string) (string, error) {
		answer, err := asyncio.ToThread(ctx, func(context.Context) (string, error) { return exchange(ws, message) })
		if err != nil {
			ws.Close()
		}
		return answer, err
	}), nil
}

// exchange sends a message and reads the answer.
func exchange(ws *gorilla.Conn, message string) (string, error) {
	if err := ws.WriteMessage(gorilla.TextMessage, []byte(message)); err != nil {
		return "", err
	}
	_, answer, err := ws.ReadMessage()
	if err != nil {
		ws.Close() // it cannot be read any more
	}
	return string(answer), err
}

func coderClient(ctx context.Context, url string, hc *http.Client) (*client, error) {
	ws, err := dialCoder(ctx, url, hc)
	if err != nil {
		return nil, err
	}
	return webSocketClient(ws.CloseNow, func(ctx context.Context, message string) (string, error) {
		answer, err := asyncio.ToThread(ctx, func(ctx context.Context) ([]byte, error) {
			if err := ws.Write(ctx, coder.MessageText, []byte(message)); err != nil {
				return nil, err
			}
			_, answer, err := ws.Read(ctx)
			return answer, err
		})
		return string(answer), err
	}), nil
}

func dialCoder(ctx context.Context, url string, hc *http.Client) (*coder.Conn, error) {
	return asyncio.ToThread(ctx, func(ctx context.Context) (*coder.Conn, error) {
		ws, _, err := coder.Dial(ctx, url, &coder.DialOptions{HTTPClient: hc})
		return ws, err
	})
}

// dialCoderConn returns the connection as a stream of bytes.
func dialCoderConn(ctx context.Context, url string) (net.Conn, error) {
	ws, err := dialCoder(ctx, url, http.DefaultClient)
	if err != nil {
		return nil, err
	}
	return asyncio.NewConn(ctx, coder.NetConn(asyncio.Outside(ctx), ws, coder.MessageText))
}

// webSocketClient asks on one connection, which one task uses at a time.
func webSocketClient(shut func() error, request func(ctx context.Context, message string) (string, error)) *client {
	var lock asyncio.Lock
	do := func(ctx context.Context, message string) (string, error) {
		if err := lock.Acquire(ctx); err != nil {
			return "", err
		}
		defer lock.Release()
		answer, err := request(ctx, message+"\n")
		return strings.TrimSpace(answer), err
	}
	return &client{
		ask:        func(ctx context.Context, value string) (string, error) { return do(ctx, "ask "+value) },
		hold:       func(ctx context.Context, value string) (string, error) { return do(ctx, "hold "+value) },
		connection: func(ctx context.Context) (string, error) { return do(ctx, "connection") },
		close: func(context.Context) error {
			if err := shut(); !errors.Is(err, net.ErrClosed) {
				return err
			}
			return nil
		},
	}
}
