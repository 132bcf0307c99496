package gallery

import (
	"context"
	"strconv"
	"strings"
	"time"

	"github.com/goasyncio/asyncio"
)

// A reader keeps a copy of a number for as long as its lease lasts, and the server changes the
// number only when all leases have ended. The mistake is to measure the lease with the wall clock,
// which somebody may set back: then the lease lasts for an hour more. The clock of the loop is
// monotonic. It may be fast or slow, so the server waits for five times as long.
//
// etcd measured leases with the wall clock: https://github.com/etcd-io/etcd/issues/6700
type leaseReader struct {
	mistake bool
	loop    *asyncio.EventLoop
	copy    int
	ends    time.Time       // of the lease
	endsAt  asyncio.Instant // likewise
}

const (
	readLease   = 500 * time.Millisecond // as the reader counts
	serverLease = 5 * readLease
)

// get returns the number. ok is false if the server does not answer.
func (r *leaseReader) get(ctx context.Context) (value int, ok bool, err error) {
	held := r.loop.Time().Before(r.endsAt)
	if r.mistake {
		// BUG: it does, again and again, if the clock is set back
		held = r.loop.Now().Before(r.ends)
	}
	if held {
		return r.copy, true, nil
	}
	// from before the server grants it
	ends, endsAt := r.loop.Now().Add(readLease), r.loop.Time().Add(readLease)
	answer, err := call(ctx, "server", "read")
	if isOneOf(err, errNoAnswer) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, err
	}
	text, leased := strings.CutSuffix(answer, " leased")
	if r.copy, err = strconv.Atoi(text); leased {
		r.ends, r.endsAt = ends, endsAt
	}
	return r.copy, true, err
}

// leaseServer grants leases, but while it waits for them to end.
func leaseServer(ctx context.Context) error {
	loop, err := asyncio.GetRunningLoop(ctx)
	if err != nil {
		return err
	}
	text, err := load(ctx, "number")
	if err != nil {
		return err
	}
	number, _ := strconv.Atoi(text)
	// until when; a life before this one may have granted some
	leased := loop.Time().Add(serverLease)
	writers := 0
	var turn asyncio.Lock
	return serve(ctx, func(ctx context.Context, request string) (string, error) {
		if request == "read" {
			if writers > 0 {
				return strconv.Itoa(number), nil
			}
			leased = loop.Time().Add(serverLease)
			return strconv.Itoa(number) + " leased", nil
		}
		writers++
		defer func() { writers-- }()
		if err := turn.Acquire(ctx); err != nil {
			return "", err
		}
		defer turn.Release()
		if err := asyncio.Sleep(ctx, leased.Sub(loop.Time())); err != nil {
			return "", err
		}
		next, _ := strconv.Atoi(request)
		if next > number { // else it is a second try that comes late
			if err := save(ctx, "number", request); err != nil {
				return "", err
			}
			number = next
		}
		return "written", nil
	})
}

// leaseByWallClock is a server, a reader, and a client that writes. What they do and see must be
// linearizable.
func leaseByWallClock(mistake bool) program {
	return staged(func(ctx context.Context, s *stage) error {
		h := new(history)
		s.server("server", leaseServer)
		s.client("reader", func(ctx context.Context) error {
			loop, err := asyncio.GetRunningLoop(ctx)
			if err != nil {
				return err
			}
			r := &leaseReader{mistake: mistake, loop: loop}
			for range 60 {
				o := h.read()
				value, ok, err := r.get(ctx)
				if err != nil {
					return err
				}
				if ok {
					o.done(value)
				}
				if err := asyncio.Sleep(ctx, 2*think); err != nil {
					return err
				}
			}
			return nil
		})
		s.after = func(context.Context) error { return h.check() }
		for range 3 {
			o := h.write()
			for {
				answer, err := callFor(ctx, 10*time.Second, "server", strconv.Itoa(o.value))
				if err == nil && answer == "written" {
					o.done(o.value)
					break
				}
				if err != nil && !isOneOf(err, errNoAnswer) {
					return err
				}
				if err := asyncio.Sleep(ctx, think); err != nil {
					return err
				}
			}
			if err := asyncio.Sleep(ctx, 5*think); err != nil {
				return err
			}
		}
		return nil
	})
}
