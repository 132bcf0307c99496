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

// Every host begins at the epoch, in its location, and again after a crash goes on from there.
func TestEpoch(t *testing.T) {
	zone := time.FixedZone("here", 2*60*60)
	epoch := time.Date(2024, time.February, 28, 23, 59, 59, 0, zone)
	for want, opts := range map[time.Time][]sim.Option{
		epoch: {sim.Epoch(epoch)},
		time.Date(2000, time.January, 1, 0, 0, 0, 0, time.UTC): nil,
	} {
		sim.Explore(t, func(ctx context.Context) error {
			now := func(ctx context.Context) time.Time {
				l, err := asyncio.GetRunningLoop(ctx)
				if err != nil {
					t.Error(err)
				}
				return l.Now()
			}
			check := func(ctx context.Context, what string, want time.Time) error {
				if got := now(ctx); !got.Equal(want) || got.Location().String() != want.Location().String() || got != got.Round(0) {
					return fmt.Errorf("%s: it is %v, want %v", what, got, want)
				}
				return nil
			}
			if err := check(ctx, "main", want); err != nil {
				return err
			}
			lives := 0
			h := sim.NewHost(ctx, "h", func(ctx context.Context) error {
				lives++
				return errors.Join(
					check(ctx, fmt.Sprint("life ", lives), want.Add(time.Duration(lives-1)*(24*time.Hour+time.Minute))),
					asyncio.Sleep(ctx, time.Second),
				)
			})
			if err := h.Wait(ctx); err != nil {
				return err
			}
			h.JumpClock(time.Minute)
			if err := asyncio.Sleep(ctx, 24*time.Hour-time.Second); err != nil {
				return err
			}
			h.Restart()
			if err := h.Wait(ctx); err != nil {
				return err
			}
			if err := asyncio.WriteFile(ctx, "a", nil, 0o666); err != nil {
				return err
			}
			info, err := asyncio.Stat(ctx, "a")
			if err != nil {
				return err
			}
			if m := info.ModTime(); !m.Equal(want.Add(24*time.Hour + time.Second)) {
				return fmt.Errorf("a file is of %v", m)
			}
			return nil
		}, append(opts, sim.Runs(5))...)
	}
}

// A deadline on the scale of the epoch has its meaning.
func TestEpoch_Deadline(t *testing.T) {
	sim.Run(t, func(ctx context.Context) error {
		sim.NewHost(ctx, "server", silent)
		if err := asyncio.Sleep(ctx, time.Second); err != nil {
			return err
		}
		c, err := asyncio.Dial(ctx, "tcp", "server:1")
		if err != nil {
			return err
		}
		l, err := asyncio.GetRunningLoop(ctx)
		if err != nil {
			return err
		}
		began := l.Time()
		if err := c.SetDeadline(l.Now().Add(5 * time.Second)); err != nil {
			return err
		}
		_, err = c.Read(make([]byte, 1))
		if took := l.Time().Sub(began); !errors.Is(err, os.ErrDeadlineExceeded) || took != 5*time.Second {
			return fmt.Errorf("after %v: %w", took, err)
		}
		return c.Close()
	}, sim.Epoch(time.Now()))
}
