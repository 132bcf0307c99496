//go:build unix

package interop

import (
	"context"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
)

// watch has the test fail if the loop of ctx reports anything, and has a task call beat each
// millisecond until stop is called.
func watch(t *testing.T, ctx context.Context, beat func()) (loop *asyncio.EventLoop, stop func(), err error) {
	if loop, err = asyncio.GetRunningLoop(ctx); err != nil {
		return nil, nil, err
	}
	loop.SetExceptionHandler(func(_ *asyncio.EventLoop, e asyncio.ExceptionContext) {
		t.Errorf("the loop reports: %s: %v\n%s", e.Message, e.Exception, e.Stack)
	})
	beating := asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error {
		for {
			if err := asyncio.Sleep(ctx, time.Millisecond); err != nil {
				return err
			}
			beat()
		}
	}))
	return loop, func() { beating.Cancel() }, nil
}

// gaps are the times between beats that are long.
type gaps struct {
	last time.Time
	long []gap
}

type gap struct{ from, to time.Time }

func (g gap) length() time.Duration { return g.to.Sub(g.from) }

func (g *gaps) beat() {
	now := time.Now()
	if !g.last.IsZero() && now.Sub(g.last) > 3*time.Millisecond {
		g.long = append(g.long, gap{g.last, now})
	}
	g.last = now
}

func (g *gaps) longest() (longest time.Duration) {
	for _, gap := range g.long {
		longest = max(longest, gap.length())
	}
	return longest
}

// compare returns the longest gap of the loop and of the machine, and the longest of the loop
// without the time in which the machine stood still too.
func (g *gaps) compare(machine *gaps) (loop, around, own time.Duration) {
	for _, l := range g.long {
		left := l.length()
		for _, m := range machine.long {
			from, to := m.from, m.to
			if from.Before(l.from) {
				from = l.from
			}
			if to.After(l.to) {
				to = l.to
			}
			left -= max(0, to.Sub(from))
		}
		own = max(own, left)
	}
	return g.longest(), machine.longest(), own
}

// machineBeats lets a goroutine beat until the result is called.
func machineBeats() (stop func() *gaps) {
	ticker := time.NewTicker(time.Millisecond)
	quit, result := make(chan struct{}), make(chan *gaps)
	go func() {
		defer ticker.Stop()
		g := new(gaps)
		for {
			select {
			case <-ticker.C:
				g.beat()
			case <-quit:
				result <- g
				return
			}
		}
	}()
	return func() *gaps { close(quit); return <-result }
}
