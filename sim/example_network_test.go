package sim_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/sim"
)

// A server and a client on two hosts. For a minute nothing gets from the server to the client. The
// server sends its answer again after 0.2 s, 0.4 s and so on; the first attempt that gets through
// comes after 102 s.
func ExampleNetwork() {
	var line []byte
	var took time.Duration
	r := sim.Check(func(ctx context.Context) error {
		sim.NewHost(ctx, "server", func(ctx context.Context) error {
			s, err := asyncio.StartServer(ctx, func(ctx context.Context, r *asyncio.StreamReader, w *asyncio.StreamWriter) error {
				line, err := r.ReadLine(ctx)
				if err != nil {
					return err
				}
				_, err = w.Write(ctx, line)
				return err
			}, ":7")
			if err != nil {
				return err
			}
			return s.Serve(ctx)
		})
		if err := asyncio.Sleep(ctx, time.Second); err != nil {
			return err
		}
		l, err := asyncio.GetRunningLoop(ctx)
		if err != nil {
			return err
		}
		reader, writer, err := asyncio.OpenConnection(ctx, "server:7")
		if err != nil {
			return err
		}
		network := sim.NetworkOf(ctx)
		network.Cut("server", "main")
		l.CallLater(time.Minute, func() { network.Heal() })
		start := l.Time()
		if _, err := writer.Write(ctx, []byte("hello\n")); err != nil {
			return err
		}
		if line, err = reader.ReadLine(ctx); err != nil {
			return err
		}
		took = l.Time().Sub(start).Round(10 * time.Second)
		return writer.Close(ctx)
	}, sim.Runs(10))
	fmt.Printf("%q after %v, failure: %v\n", line, took, r.Failure)
	// Output: "hello\n" after 1m40s, failure: <nil>
}

// A fault of the network is like any other: it is found, minimised, and described in words.
func TestNetwork_FaultIsExplained(t *testing.T) {
	r := sim.Check(func(ctx context.Context) error {
		sim.NetworkOf(ctx).SetLink(sim.Link{MinLatency: time.Millisecond, Loss: 0.05, Duplicate: 0.05})
		sim.NewHost(ctx, "server", func(ctx context.Context) error {
			c, err := asyncio.ListenPacket(ctx, "udp", ":1")
			if err != nil {
				return err
			}
			for p := make([]byte, 100); ; {
				n, from, err := c.ReadFrom(p)
				if err != nil {
					return err
				}
				if _, err := c.WriteTo(p[:n], from); err != nil {
					return err
				}
			}
		})
		if err := asyncio.Sleep(ctx, time.Second); err != nil {
			return err
		}
		c, err := asyncio.DialPacket(ctx, "udp", "server:1")
		if err != nil {
			return err
		}
		defer c.Close()
		if _, err := c.Write([]byte("ping")); err != nil { // and the program does not try again
			return err
		}
		limited, cancel := asyncio.WithTimeout(ctx, time.Second)
		defer cancel()
		_, err = c.ReadContext(limited, make([]byte, 100))
		return err
	}, sim.Runs(1000))
	if r.Failure == nil {
		t.Fatalf("not found: %s", r.Coverage)
	}
	text := r.Failure.Error()
	if len(r.Failure.Deviations) != 1 || !strings.Contains(text, "lose a datagram from main to server") && !strings.Contains(text, "lose a datagram from server to main") {
		t.Error(text)
	}
}
