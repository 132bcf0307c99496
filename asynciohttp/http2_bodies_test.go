package asynciohttp_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/asynciohttp"
	"github.com/goasyncio/asyncio/sim"
)

// TestHTTP2_ClientThatDoesNotRead: a handler gets no further than what the connection, the server's
// buffers and the windows hold, whatever the windows allow.
func TestHTTP2_ClientThatDoesNotRead(t *testing.T) {
	for _, test := range []struct {
		name          string
		stream, conn  uint32
		least, atMost int
	}{
		{"the stream's window is small", 1000, 1 << 30, 1000, 1000},
		{"the connection's window is small", 1 << 30, 0, 65535, 65535},
		{"both are large", 1 << 30, 1 << 30, 64 << 10, 1 << 20},
	} {
		t.Run(test.name, func(t *testing.T) {
			written, piece := 0, make([]byte, 1000)
			var end error
			config := h2Config(t, func(w http.ResponseWriter, _ *http.Request) {
				for end == nil {
					var n int
					n, end = w.Write(piece)
					written += n
					if end == nil {
						end = http.NewResponseController(w).Flush()
					}
				}
			})
			overHTTP2(t, config, func(ctx context.Context, c *h2Client) error {
				if test.conn > 0 {
					if err := c.WriteWindowUpdate(0, test.conn); err != nil {
						return err
					}
				}
				if err := errors.Join(c.get(1, "/"), asyncio.Sleep(ctx, time.Hour)); err != nil {
					return err
				}
				// The last piece is accepted as far as the windows go.
				if written < test.least-len(piece) || written > test.atMost+len(piece) {
					return fmt.Errorf("%d bytes were written, want %d to %d", written, test.least, test.atMost)
				}
				if end != nil {
					return fmt.Errorf("the handler has ended: %w", end)
				}
				if err := errors.Join(c.WriteRSTStream(1, http2.ErrCodeCancel), pause(ctx)); err != nil {
					return err
				}
				if end == nil {
					return errors.New("the handler still waits, although the client has reset the stream")
				}
				return nil
			}, http2.Setting{ID: http2.SettingInitialWindowSize, Val: test.stream})
		})
	}
}

// TestHTTP2_Fairness: a stream with a short response is not kept waiting by others with long ones.
func TestHTTP2_Fairness(t *testing.T) {
	config := h2Config(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/long" {
			_, _ = w.Write(make([]byte, 4<<20))
			return
		}
		_, _ = w.Write(make([]byte, 100<<10))
	})
	overHTTP2(t, config, func(ctx context.Context, c *h2Client) error {
		err := c.WriteWindowUpdate(0, 1<<30)
		for id := uint32(1); id < 21; id += 2 {
			err = errors.Join(err, c.get(id, "/long"))
		}
		if err = errors.Join(err, pause(ctx), c.get(21, "/short")); err != nil {
			return err
		}
		before := 0
		for {
			f, err := c.ReadFrame()
			if err != nil {
				return err
			}
			if d, ok := f.(*http2.DataFrame); ok {
				if before += len(d.Data()); d.StreamID == 21 && d.StreamEnded() {
					break
				}
			}
		}
		// ten others, in turn, and what was on its way
		if most := 2 * 11 * (100 << 10); before > most {
			return fmt.Errorf("%d bytes came before the end of the short response, want at most %d", before, most)
		}
		return nil
	}, http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 30})
}

// TestHTTP2_Bodies: with the client of net/http, bodies of all sizes go both ways at once, whole.
// Some requests are given up in the middle.
func TestHTTP2_Bodies(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	_, err := asyncio.Run(t.Context(), asyncio.Do(func(ctx context.Context) error {
		l, err := asyncio.Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		server := asynciohttp.NewServer(h2Config(t, func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(w, r.Body)
		}))
		serving := asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error { return server.Serve(ctx, l) }))
		transport := &http.Transport{Protocols: new(http.Protocols)}
		transport.Protocols.SetUnencryptedHTTP2(true)
		client := &http.Client{Transport: transport}
		err = asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg *asyncio.TaskGroup) error {
			for i := range uint64(20) {
				tg.CreateTask(ctx, func(ctx context.Context) error {
					_, err := asyncio.ToThread(ctx, func(ctx context.Context) (asyncio.None, error) {
						return asyncio.None{}, echoes(ctx, client, "http://"+l.Addr().String(), rand.New(rand.NewPCG(seed, i)))
					})
					return err
				})
			}
			return nil
		})
		transport.CloseIdleConnections()
		serving.Cancel()
		_, _ = serving.Await(ctx)
		return err
	}))
	if err != nil {
		t.Error(err)
	}
}

// echoes sends bodies and compares them with what comes back.
func echoes(ctx context.Context, client *http.Client, url string, random *rand.Rand) error {
	for i := range 10 {
		size := random.IntN(300 << 10)
		if i == 0 {
			size = 3 << 20 // more than a window
		}
		body := make([]byte, size)
		for i := range body {
			body[i] = byte(random.Uint32())
		}
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		giveUp := -1
		if random.IntN(3) == 0 && len(body) > 0 {
			giveUp = random.IntN(len(body))
		}
		// The client does not know how long the body is.
		req, err := http.NewRequestWithContext(ctx, "POST", url, io.MultiReader(bytes.NewReader(body)))
		if err != nil {
			return err
		}
		resp, err := client.Do(req)
		if err != nil {
			return err
		}
		if giveUp >= 0 {
			_, err = io.CopyN(io.Discard, resp.Body, int64(giveUp))
			cancel()
			resp.Body.Close()
			if err != nil {
				return err
			}
			continue
		}
		sum := sha256.New()
		if _, err = io.Copy(sum, resp.Body); err != nil {
			return err
		}
		resp.Body.Close()
		if want := sha256.Sum256(body); !bytes.Equal(sum.Sum(nil), want[:]) {
			return fmt.Errorf("%d bytes come back changed", len(body))
		}
	}
	return nil
}

// TestHTTP2_Explore tries orders of events and cancels of every task: each response is whole, or
// the client is told that it is not; nothing hangs.
func TestHTTP2_Explore(t *testing.T) {
	long := strings.Repeat("0123456789", 4000)
	// The streams' windows keep the responses waiting, or that of the connection does.
	for _, window := range []uint32{20000, 1 << 20} {
		t.Run(fmt.Sprint("window ", window), func(t *testing.T) { exploreHTTP2(t, window, long) })
	}
}

func exploreHTTP2(t *testing.T, window uint32, long string) {
	sim.Explore(t, func(ctx context.Context) error {
		config := h2Config(t, func(w http.ResponseWriter, r *http.Request) {
			body, err := io.ReadAll(r.Body)
			if err != nil || asyncio.Sleep(r.Context(), time.Millisecond) != nil {
				panic(http.ErrAbortHandler)
			}
			_, _ = io.WriteString(w, string(body)+long)
		})
		config.IdleTimeout = time.Minute
		sim.NewHost(ctx, "server", func(ctx context.Context) error {
			l, err := asyncio.Listen(ctx, "tcp", ":80")
			if err != nil {
				return err
			}
			err = asynciohttp.NewServer(config).Serve(ctx, l)
			if errors.Is(err, asyncio.ErrCancelled) {
				err = nil
			}
			return err
		})
		return sim.NewHost(ctx, "client", func(ctx context.Context) error {
			c, err := dialHTTP2(ctx, "server:80", http2.Setting{ID: http2.SettingInitialWindowSize, Val: window})
			if err != nil {
				return givenUp(err)
			}
			defer c.Close()
			for id := uint32(1); id <= 5; id += 2 {
				body := fmt.Sprint("body ", id)
				if err := errors.Join(c.send(id, false, request("POST", "/")...), c.WriteData(id, true, []byte(body))); err != nil {
					return givenUp(err)
				}
			}
			if err := errors.Join(c.WriteWindowUpdate(0, 1<<20), c.WriteWindowUpdate(3, 1<<20), asyncio.Sleep(ctx, time.Second),
				c.WriteWindowUpdate(1, 1<<20), c.WriteRSTStream(5, http2.ErrCodeCancel)); err != nil {
				return givenUp(err)
			}
			got := make(map[uint32]string)
			for range 1000 {
				f, err := c.ReadFrame()
				if err != nil {
					return givenUp(err)
				}
				if d, ok := f.(*http2.DataFrame); ok {
					got[d.StreamID] += string(d.Data())
					if d.StreamEnded() && got[d.StreamID] != fmt.Sprint("body ", d.StreamID)+long {
						return fmt.Errorf("the response of stream %d has %d bytes and ends", d.StreamID, len(got[d.StreamID]))
					}
				}
			}
			return errors.New("the server does not end the connection")
		}).Wait(ctx)
	}, sim.Cancels(), sim.Runs(100))
}

// givenUp returns nil for the ways in which a connection ends.
func givenUp(err error) error {
	var op *net.OpError
	if err == io.EOF || err == io.ErrUnexpectedEOF || errors.As(err, &op) {
		return nil
	}
	return err
}
