package gallery

import (
	"context"
	"fmt"
	"time"

	"github.com/goasyncio/asyncio"
)

// A subscriber reads the news that a publisher sends every second. The mistake is to wait for them
// for ever: a publisher that has lost its power says nothing, and the system of the subscriber
// finds out after minutes, or never. Whoever expects a message each second can tell that something
// is wrong after a few.
//
// "When TCP sockets refuse to die", https://blog.cloudflare.com/when-tcp-sockets-refuse-to-die/
type subscriber struct {
	mistake bool
	heard   func()
}

func (b *subscriber) run(ctx context.Context) error {
	for {
		if err := b.follow(ctx); gone(err) != nil {
			return err
		}
		if err := asyncio.Sleep(ctx, think); err != nil {
			return err
		}
	}
}

// follow reads until the connection ends or is silent.
func (b *subscriber) follow(ctx context.Context) error {
	limited := func(wait func(ctx context.Context) error) error { return asyncio.FailAfter(ctx, 4*time.Second, wait) }
	if b.mistake {
		// BUG: nobody may be there
		limited = func(wait func(ctx context.Context) error) error { return wait(ctx) }
	}
	var r *asyncio.StreamReader
	var w *asyncio.StreamWriter
	err := limited(func(ctx context.Context) (err error) {
		r, w, err = asyncio.OpenConnection(ctx, "publisher"+port)
		return err
	})
	if err != nil {
		return err
	}
	defer w.Abort()
	// most systems do not probe a connection unless they are told to
	if c, ok := w.Conn().(*asyncio.Conn); ok {
		err = c.SetKeepAlive(false)
	}
	for err == nil {
		err = limited(func(ctx context.Context) error {
			_, err := r.ReadLine(ctx)
			return err
		})
		if err == nil {
			b.heard()
		}
	}
	return err
}

// publisher sends news to everybody who connects.
func publisher(ctx context.Context) error {
	server, err := asyncio.StartServer(ctx, func(ctx context.Context, _ *asyncio.StreamReader, w *asyncio.StreamWriter) error {
		for n := 0; ; n++ {
			if _, err := w.Write(ctx, fmt.Appendf(nil, "news %d\n", n)); err != nil {
				return gone(err)
			}
			if err := asyncio.Sleep(ctx, time.Second); err != nil {
				return err
			}
		}
	}, port)
	if err != nil {
		return err
	}
	return server.Serve(ctx)
}

// deadPeer is a publisher and a subscriber. When all is well again, the subscriber must hear news.
func deadPeer(mistake bool) program {
	return staged(func(ctx context.Context, s *stage) error {
		loop, err := asyncio.GetRunningLoop(ctx)
		if err != nil {
			return err
		}
		last := loop.Time()
		s.server("publisher", publisher)
		s.server("subscriber", func(ctx context.Context) error {
			return (&subscriber{mistake: mistake, heard: func() { last = loop.Time() }}).run(ctx)
		})
		s.after = func(context.Context) error {
			if silent := loop.Time().Sub(last); silent > 10*time.Second {
				return fmt.Errorf("the subscriber has heard nothing for %v", silent.Round(time.Second))
			}
			return nil
		}
		return asyncio.Sleep(ctx, 10*time.Second)
	})
}
