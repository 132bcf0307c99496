package gallery

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/goasyncio/asyncio"
)

// A resolver asks one of two servers by datagram, the faster one more often. The mistake is to
// measure how fast they are with the wall clock. When that is set back between a question and its
// answer, the answer takes less than no time, and the random number that is to be drawn below that
// is a panic. The clock of the loop does not go back.
//
// Cloudflare's resolver did that at a leap second:
// https://blog.cloudflare.com/how-and-why-the-leap-second-affected-cloudflare-dns/
type resolver struct {
	mistake bool
	loop    *asyncio.EventLoop
	servers []string
	takes   []time.Duration // smoothed
}

func (r *resolver) run(ctx context.Context) (err error) {
	if r.loop, err = asyncio.GetRunningLoop(ctx); err != nil {
		return err
	}
	r.servers, r.takes = []string{"server1", "server2"}, []time.Duration{time.Second, time.Second}
	for n := range 25 {
		if err := r.resolve(ctx, fmt.Sprint("name", n)); err != nil && !isOneOf(err, errNoAnswer) {
			return err
		}
		if err := asyncio.Sleep(ctx, think); err != nil {
			return err
		}
	}
	return nil
}

func (r *resolver) resolve(ctx context.Context, name string) error {
	i := 0
	if asyncio.Rand(ctx).Int64N(int64(r.takes[0]+r.takes[1])) < int64(r.takes[0]) {
		i = 1 // the more often, the longer the other takes
	}
	wall, clock := r.loop.Now(), r.loop.Time()
	err := asyncio.FailAfter(ctx, patience, func(ctx context.Context) error { return question(ctx, r.servers[i], name) })
	took := r.loop.Time().Sub(clock)
	if r.mistake {
		took = r.loop.Now().Sub(wall) // BUG: it may be less than nothing
	}
	r.takes[i] = (3*r.takes[i] + took) / 4
	if err != nil && (isOneOf(err, asyncio.ErrTimeout) || !isOneOf(err, asyncio.ErrCancelled)) {
		return errNoAnswer
	}
	return err
}

// question asks a server and waits for the answer to that.
func question(ctx context.Context, server, name string) error {
	c, err := asyncio.DialPacket(ctx, "udp", server+port)
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := c.WriteContext(ctx, []byte(name)); err != nil {
		return err
	}
	for buffer := make([]byte, 64); ; {
		n, err := c.ReadContext(ctx, buffer)
		if err != nil || strings.HasPrefix(string(buffer[:n]), name+" is ") {
			return err
		}
	}
}

// nameServer answers each question after some work.
func nameServer(ctx context.Context) error {
	c, err := asyncio.ListenPacket(ctx, "udp", port)
	if err != nil {
		return err
	}
	defer c.Close()
	for buffer := make([]byte, 64); ; {
		n, from, err := c.ReadFromContext(ctx, buffer)
		if err != nil {
			return err
		}
		if err := asyncio.Sleep(ctx, think); err != nil {
			return err
		}
		if _, err := c.WriteTo([]byte(string(buffer[:n])+" is 192.0.2.1"), from); err != nil {
			return err
		}
	}
}

// clockSetBack is a resolver and its servers.
func clockSetBack(mistake bool) program {
	return staged(func(ctx context.Context, s *stage) error {
		s.server("server1", nameServer)
		s.server("server2", nameServer)
		s.client("resolver", func(ctx context.Context) error { return (&resolver{mistake: mistake}).run(ctx) })
		return nil
	})
}
