package asynciohttp_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/asynciohttp"
)

// counting answers every request with the number of its connection, and counts those that are open.
func counting(open *int) script {
	return func(ctx context.Context, n int, c *asyncio.Conn, br *bufio.Reader) error {
		*open++
		defer func() { *open-- }()
		for {
			if _, err := answer(c, br, okay(fmt.Sprint(n))); err != nil {
				return err
			}
		}
	}
}

// begin sends a request to srv and leaves the body of the response to be read.
func begin(ctx context.Context, tr *asynciohttp.Transport) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, "GET", "http://srv/", nil)
	if err != nil {
		return nil, err
	}
	resp, err := tr.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	return resp.Body, nil
}

// A connection, or a place for one, that is handed to a task which is cancelled at that moment goes
// to the next (transport 5).
func TestTransport_HandedOver(t *testing.T) {
	for what, left := range map[string]int{"connection": 1, "place": 0} {
		t.Run(what, func(t *testing.T) {
			open := 0
			scripted(t, counting(&open), func(ctx context.Context, tr *asynciohttp.Transport) error {
				tr.MaxConnsPerHost = 1
				tr.DisableKeepAlives = left == 0
				body, err := begin(ctx, tr)
				if err != nil {
					return err
				}
				var waiting []*asyncio.Task[string]
				for range 3 {
					waiting = append(waiting, asyncio.CreateTask(ctx, func(ctx context.Context) (string, error) { return ask(ctx, tr, "GET", nil) }))
				}
				if err := asyncio.Sleep(ctx, time.Second); err != nil {
					return err
				}
				if _, err := io.ReadAll(body); err != nil {
					return err
				}
				waiting[0].Cancel() // it has what was handed over, and does not know yet
				for i, task := range waiting {
					if _, err := task.Await(ctx); (i == 0) != errors.Is(err, asyncio.ErrCancelled) {
						t.Errorf("request %d: %v", i, err)
					}
				}
				if err := asyncio.Sleep(ctx, time.Second); err != nil {
					return err
				}
				if open != left {
					t.Errorf("%d connections", open)
				}
				return nil
			})
		})
	}
}

// The limits of idle connections close the one that has been idle for longest, or the one that
// would be idle.
func TestTransport_IdleLimits(t *testing.T) {
	for name, c := range map[string]struct {
		tr   *asynciohttp.Transport
		open int
		next string // the connection of the next request
	}{
		"none":                {&asynciohttp.Transport{MaxIdleConnsPerHost: 5}, 4, "3"},
		"MaxIdleConns":        {&asynciohttp.Transport{MaxIdleConnsPerHost: 5, MaxIdleConns: 3}, 3, "3"},
		"MaxIdleConnsPerHost": {&asynciohttp.Transport{MaxIdleConnsPerHost: 3}, 3, "2"},
		"by default":          {&asynciohttp.Transport{}, http.DefaultMaxIdleConnsPerHost, "1"},
		"negative":            {&asynciohttp.Transport{MaxIdleConnsPerHost: -1}, 0, "4"},
		"DisableKeepAlives":   {&asynciohttp.Transport{DisableKeepAlives: true}, 0, "4"},
		"IdleConnTimeout":     {&asynciohttp.Transport{IdleConnTimeout: 900 * time.Millisecond}, 0, "4"},
	} {
		t.Run(name, func(t *testing.T) {
			open := 0
			scripted(t, counting(&open), func(ctx context.Context, _ *asynciohttp.Transport) error {
				tr := c.tr
				defer tr.CloseIdleConnections()
				var bodies []io.ReadCloser
				for range 4 {
					body, err := begin(ctx, tr)
					if err != nil {
						return err
					}
					bodies = append(bodies, body)
				}
				for _, body := range bodies {
					if _, err := io.ReadAll(body); err != nil {
						return err
					}
				}
				if err := asyncio.Sleep(ctx, time.Second); err != nil {
					return err
				}
				if open != c.open {
					t.Errorf("%d connections", open)
				}
				if got, err := ask(ctx, tr, "GET", nil); got != c.next || err != nil {
					t.Errorf("the next request: %q, %v", got, err)
				}
				return nil
			})
		})
	}
}

// A request whose context is done is not dialled for.
func TestTransport_DoneContext(t *testing.T) {
	inTask(t, func(ctx context.Context) error {
		tr := &asynciohttp.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
			t.Error("dialled")
			return nil, errors.ErrUnsupported
		}}
		done, cancel := asyncio.WithCancel(ctx)
		cancel()
		if _, err := begin(done, tr); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		return nil
	})
}
