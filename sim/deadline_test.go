package sim_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/sim"
)

// A deadline that was made with time.Now, as libraries make it, means so much from now, on the
// clock of the simulated host.
func TestDeadline_OfRealTime(t *testing.T) {
	for _, c := range []struct{ set, after time.Duration }{
		{-time.Hour, 0},
		{0, 0},
		{time.Millisecond, time.Millisecond},
		{2500 * time.Microsecond, 3 * time.Millisecond},
		{5 * time.Second, 5 * time.Second},
		{12345 * time.Millisecond, 12400 * time.Millisecond},
		{24 * time.Hour, 24 * time.Hour},
		{10000 * time.Hour, 10000 * time.Hour},
	} {
		for _, of := range []string{"time.Now", "the loop's clock"} {
			t.Run(fmt.Sprintf("%v from %s", c.set, of), func(t *testing.T) {
				sim.Explore(t, func(ctx context.Context) error {
					sim.NewHost(ctx, "server", silent)
					if err := asyncio.Sleep(ctx, 300*time.Millisecond); err != nil {
						return err
					}
					conn, err := asyncio.Dial(ctx, "tcp", "server:1")
					if err != nil {
						return err
					}
					loop, err := asyncio.GetRunningLoop(ctx)
					if err != nil {
						return err
					}
					began, want := loop.Time(), c.after
					deadline := time.Now().Add(c.set)
					if of != "time.Now" {
						deadline, want = loop.Now().Add(c.set), max(c.set, 0)
					}
					if err := conn.SetDeadline(deadline); err != nil {
						return err
					}
					_, err = conn.Read(make([]byte, 1))
					if took := loop.Time().Sub(began); !errors.Is(err, os.ErrDeadlineExceeded) || took != want {
						return fmt.Errorf("after %v: %v", took, err)
					}
					return conn.Close()
				}, sim.Runs(5))
			})
		}
	}
}

// silent accepts connections, and neither reads nor writes.
func silent(ctx context.Context) error {
	l, err := asyncio.Listen(ctx, "tcp", ":1")
	if err != nil {
		return err
	}
	for {
		if _, err := l.Accept(); err != nil {
			return err
		}
	}
}

// Until says how long it takes until a time, whatever clock it was made with.
func TestUntil(t *testing.T) {
	sim.Run(t, func(ctx context.Context) error {
		l, err := asyncio.GetRunningLoop(ctx)
		if err != nil {
			return err
		}
		if err := asyncio.Sleep(ctx, time.Minute); err != nil {
			return err
		}
		for _, c := range []struct {
			until time.Time
			want  time.Duration
		}{
			{l.Now().Add(1234567), 1234567},
			{l.Now().Add(-time.Hour), -time.Hour},
			{time.Now().Add(5 * time.Second), 5 * time.Second},
			{time.Now().Add(1500 * time.Microsecond), 2 * time.Millisecond},
		} {
			if got := l.Until(c.until); got != c.want {
				return fmt.Errorf("until %v: %v, want %v", c.until, got, c.want)
			}
		}
		if got := l.Until(time.Now().Add(-time.Hour)); got > -time.Hour {
			return fmt.Errorf("an hour ago: %v", got)
		}
		// Without its monotonic reading it is a date, decades away.
		if got := l.Until(time.Now().Round(0)); got < 20*365*24*time.Hour {
			return fmt.Errorf("until the machine's date: %v", got)
		}
		return nil
	})
}
