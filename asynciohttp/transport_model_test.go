package asynciohttp_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/asynciohttp"
	"github.com/goasyncio/asyncio/sim"
)

// A clientModel is a host with tasks that make requests and give them up at random, and one with a
// server that answers well and badly. It notes what both saw.
type clientModel struct {
	limit   int            // MaxConnsPerHost, 0 for none
	plain   bool           // the connections hide all but net.Conn
	http2   bool           // it is spoken, by a Server of this package
	open    int            // the client's connections
	up      bool           // the server was not cancelled before it began
	arrived map[string]int // at the server, by the request's id
	posts   int            // that were answered
}

const modelAddr = "srv:80"

// serve is the server: HTTP by hand, so that it can misbehave.
func (m *clientModel) serve(ctx context.Context) error {
	ln, err := asyncio.Listen(ctx, "tcp", ":80")
	if err != nil {
		return err
	}
	m.up = true
	if m.http2 {
		return m.serveHTTP2(ctx, ln)
	}
	for {
		c, err := ln.AcceptContext(ctx)
		if err != nil {
			return err
		}
		// A task that is cancelled before its first step does not run at all.
		asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error {
			m.serveConn(ctx, c)
			return nil
		})).AddDoneCallback(func(*asyncio.Task[asyncio.None]) { _ = c.Close() })
	}
}

func (m *clientModel) serveConn(ctx context.Context, c *asyncio.Conn) {
	rnd := asyncio.Rand(ctx)
	br := bufio.NewReader(c)
	for {
		req, err := http.ReadRequest(br)
		if err != nil {
			return
		}
		id := req.Header.Get("X-Id")
		m.arrived[id]++
		early := rnd.IntN(8) == 0
		if !early {
			if _, err := io.Copy(io.Discard, req.Body); err != nil {
				return
			}
		}
		if rnd.IntN(3) == 0 && asyncio.Sleep(ctx, time.Duration(rnd.IntN(5000))*time.Microsecond) != nil {
			return
		}
		var answer bytes.Buffer
		text := strings.Repeat(id+" ", 1+rnd.IntN(2000))
		fmt.Fprintf(&answer, "HTTP/1.1 200 OK\r\nX-Id: %s\r\n", id)
		switch rnd.IntN(4) {
		case 0:
			answer.WriteString("Transfer-Encoding: chunked\r\n\r\n")
			for rest := text; rest != ""; {
				n := min(len(rest), 1+rnd.IntN(3000))
				fmt.Fprintf(&answer, "%x\r\n%s\r\n", n, rest[:n])
				rest = rest[n:]
			}
			answer.WriteString("0\r\n\r\n")
		case 1:
			fmt.Fprintf(&answer, "Connection: close\r\n\r\n%s", text)
			early = true
		default:
			fmt.Fprintf(&answer, "Content-Length: %d\r\n\r\n%s", len(text), text)
		}
		whole := answer.Bytes()
		ends := rnd.IntN(10)
		switch ends {
		case 0: // no answer
			return
		case 1: // half of one
			whole = whole[:len("HTTP/1.1 200 OK\r\n")+rnd.IntN(len(whole)-len("HTTP/1.1 200 OK\r\n"))]
		}
		for least := len("HTTP/1.1 200 OK\r\n"); len(whole) > 0; least = 1 {
			n := min(len(whole), least+rnd.IntN(4000))
			if _, err := c.Write(whole[:n]); err != nil {
				return
			}
			whole = whole[n:]
			if rnd.IntN(4) == 0 && asyncio.Sleep(ctx, time.Duration(rnd.IntN(2000))*time.Microsecond) != nil {
				return
			}
		}
		if early || ends <= 2 {
			return
		}
	}
}

// countedConn counts the connections that are open at the client.
type countedConn struct {
	*asyncio.Conn
	m *clientModel
}

func (c *countedConn) Close() error {
	if c.m != nil {
		c.m.open--
		c.m = nil
	}
	return c.Conn.Close()
}

func (m *clientModel) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	c, err := asyncio.Dial(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	m.open++
	if m.limit > 0 && m.open > m.limit {
		c.Close()
		return nil, fmt.Errorf("%w: %d connections are open", errModel, m.open)
	}
	counted := &countedConn{c, m}
	if m.plain {
		return struct{ net.Conn }{counted}, nil
	}
	return counted, nil
}

// errModel is the error of what must not happen.
var errModel = errors.New("wrong")

// request makes one request and checks the answer.
func (m *clientModel) request(ctx context.Context, client *http.Client, id string) error {
	rnd := asyncio.Rand(ctx)
	method, body := http.MethodGet, io.Reader(nil)
	switch rnd.IntN(4) {
	case 0:
		method, body = http.MethodPost, strings.NewReader(id)
	case 1:
		method, body = http.MethodPost, io.MultiReader(strings.NewReader(strings.Repeat(id, 1+rnd.IntN(30_000))))
	}
	id += "-" + method
	if rnd.IntN(6) == 0 {
		var cancel context.CancelFunc
		ctx, cancel = asyncio.WithTimeout(ctx, time.Duration(rnd.IntN(8000))*time.Microsecond)
		defer cancel()
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://"+modelAddr+"/"+id, body)
	if err != nil {
		return err
	}
	req.Header.Set("X-Id", id)
	if rnd.IntN(4) == 0 && method == http.MethodPost {
		req.Header.Set("Expect", "100-continue")
	}
	resp, err := client.Do(req)
	if err != nil {
		// something else's bytes, not only cut off
		if strings.Contains(err.Error(), "malformed HTTP") {
			return fmt.Errorf("%w: %s: %w", errModel, id, err)
		}
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusServiceUnavailable {
		return errors.New("the handler was cancelled")
	}
	if got := resp.Header.Get("X-Id"); got != id {
		return fmt.Errorf("%w: the answer to %s is that to %s", errModel, id, got)
	}
	var got []byte
	if rnd.IntN(5) == 0 {
		got = make([]byte, rnd.IntN(100))
		_, err = io.ReadFull(resp.Body, got)
		if err != nil {
			return err
		}
	} else if got, err = io.ReadAll(resp.Body); err != nil {
		return err
	}
	for i := range got {
		if want := (id + " ")[i%(len(id)+1)]; got[i] != want {
			return fmt.Errorf("%w: byte %d of the answer to %s is %q", errModel, i, id, got[i])
		}
	}
	if method == http.MethodPost {
		m.posts++
	}
	return nil
}

func (m *clientModel) run(ctx context.Context, workers, requests int) error {
	m.arrived = make(map[string]int)
	sim.NewHost(ctx, "srv", func(ctx context.Context) error {
		return asyncio.Cleanup(ctx, time.Hour, m.serve) // no cancel ends the server
	})
	if err := asyncio.Sleep(ctx, 10*time.Millisecond); err != nil {
		return err
	}
	tr := &asynciohttp.Transport{
		DialContext: m.dial, MaxConnsPerHost: m.limit, MaxIdleConnsPerHost: 2, IdleConnTimeout: 20 * time.Millisecond,
		ResponseHeaderTimeout: 100 * time.Millisecond, ExpectContinueTimeout: time.Millisecond,
	}
	if m.http2 {
		tr.Protocols = unencrypted()
		tr.HTTP2 = &http.HTTP2Config{MaxReceiveBufferPerConnection: 64 << 10, MaxReceiveBufferPerStream: 16 << 10,
			SendPingTimeout: 50 * time.Millisecond, PingTimeout: 20 * time.Millisecond}
	}
	client := &http.Client{Transport: tr}
	sim.AtEnd(ctx, "a POST was sent once", func() error {
		for id, n := range m.arrived {
			if n > 1 && strings.HasSuffix(id, "-POST") {
				return fmt.Errorf("%s came %d times", id, n)
			}
		}
		return nil
	})
	return asyncio.Cleanup(ctx, time.Minute, func(ctx context.Context) error {
		var tasks []*asyncio.Task[asyncio.None]
		for w := range workers {
			tasks = append(tasks, asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error {
				for i := range requests {
					rnd := asyncio.Rand(ctx)
					id := fmt.Sprintf("%d-%d", w, i)
					var err error
					if rnd.IntN(4) == 0 {
						err = asyncio.Timeout(ctx, time.Duration(rnd.IntN(10_000))*time.Microsecond, func(ctx context.Context, _ *asyncio.TimeoutScope) error {
							return m.request(ctx, client, id)
						})
					} else {
						err = m.request(ctx, client, id)
					}
					if errors.Is(err, errModel) {
						return err
					}
					if errors.Is(err, asyncio.ErrCancelled) && asyncio.CurrentTask(ctx).Cancelling() > 0 {
						return err
					}
					if rnd.IntN(3) == 0 {
						if err := asyncio.Sleep(ctx, time.Duration(rnd.IntN(30_000))*time.Microsecond); err != nil {
							return err
						}
					}
				}
				return nil
			}), asyncio.TaskName("worker "+strconv.Itoa(w))))
		}
		if _, _, err := asyncio.Wait(ctx, tasks); err != nil {
			return err
		}
		for _, task := range tasks {
			if _, err := task.Result(); err != nil && !errors.Is(err, asyncio.ErrCancelled) {
				return err
			}
		}
		// A pool that is sound has an idle place for everybody: as many requests at a time as it
		// allows get through, though some are refused by the server.
		if err := m.afterwards(ctx, client); err != nil {
			return err
		}
		tr.CloseIdleConnections()
		return sim.Eventually(ctx, time.Second, "every connection is closed", func() bool { return m.open == 0 })
	})
}

// afterwards sees that no place in the pool was lost.
func (m *clientModel) afterwards(ctx context.Context, client *http.Client) error {
	for i := range max(m.limit, 2) {
		answered := !m.up
		for try := 0; try < 40 && !answered; try++ {
			err := m.request(ctx, client, fmt.Sprintf("after-%d-%d", i, try))
			answered = err == nil
			if errors.Is(err, errModel) {
				return err
			}
		}
		if !answered {
			return fmt.Errorf("%w: no request gets through any more", errModel)
		}
	}
	return nil
}

// modelRuns is how many seeds are tried. ASYNCIO_MODELS sets it.
func modelRuns(n int) int {
	if more, err := strconv.Atoi(os.Getenv("ASYNCIO_MODELS")); err == nil {
		return more
	}
	return n
}

// Cancels and time-outs at random points, and a server that fails at random: every answer is that
// to its request, no connection and no place in the pool is lost, and the limit is kept.
func TestTransport_Model(t *testing.T) {
	for name, m := range map[string]clientModel{
		"no limit":    {},
		"one":         {limit: 1},
		"three":       {limit: 3},
		"plain conns": {limit: 2, plain: true},
		"HTTP/2":      {http2: true},
		"HTTP/2, one": {http2: true, limit: 1},
		"HTTP/2, two": {http2: true, limit: 2, plain: true},
	} {
		t.Run(name, func(t *testing.T) {
			sim.Explore(t, func(ctx context.Context) error {
				m := m
				return m.run(ctx, 5, 8)
			}, sim.Runs(modelRuns(100)), sim.Cancels())
		})
	}
}
