package asyncio_test

import (
	"context"
	"errors"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/sim"
)

func TestLoop_EqualTimersFireInOrderOfSetting(t *testing.T) {
	l := newLoop(t)
	var got, want []int
	for i := range 100 {
		l.CallAt(asyncio.Instant{}.Add(5*time.Second), func() { got = append(got, i) })
		want = append(want, i)
	}
	l.CallAt(asyncio.Instant{}.Add(5*time.Second), l.Stop)
	must(t, l.RunForever())
	equal(t, "order", got, want)
}

// Overdue timers run in the order in which they were due.
func TestLoop_OverdueTimers(t *testing.T) {
	l := newLoop(t)
	var got []string
	l.CallLater(-time.Second, func() {
		got = append(got, "a")
		l.CallSoon(func() { got = append(got, "scheduled by a") })
	})
	l.CallLater(-2*time.Second, func() { got = append(got, "b") })
	l.CallSoon(l.Stop)
	must(t, l.RunForever())
	equal(t, "in one iteration", got, []string{"b", "a"})
	l.CallSoon(l.Stop)
	must(t, l.RunForever())
	equal(t, "in the next", got, []string{"b", "a", "scheduled by a"})
}

// A cancelled timer neither holds up the clock nor keeps the loop alive.
func TestLoop_CancelledTimerIsNotWaitedFor(t *testing.T) {
	l := newLoop(t)
	l.CallLater(5*time.Second, func() { t.Error("it fired") }).Cancel()
	l.CallLater(10*time.Second, l.Stop)
	l.CallLater(time.Hour, func() {}).Cancel()
	must(t, l.RunForever())
	is(t, "time", l.Time().SinceStart(), 10*time.Second)
	wantErr(t, "with nothing left", l.RunForever(), asyncio.ErrDeadlock)
	is(t, "time", l.Time().SinceStart(), 10*time.Second)
}

func TestLoop_TimersNeverEarly(t *testing.T) {
	// Deadlines fall due one after the other on the real clock.
	_, err := asyncio.Run(t.Context(), asyncio.Do(func(ctx context.Context) error {
		l := loop(t, ctx)
		fired := 0
		for range 2000 {
			var h *asyncio.TimerHandle
			h = l.CallLater(time.Duration(asyncio.Rand(ctx).Int64N(int64(20*time.Millisecond))), func() {
				fired++
				if now := l.Time(); now.Before(h.When()) {
					t.Errorf("fired at %v, due at %v", now, h.When())
				}
			})
		}
		start := time.Now()
		if err := asyncio.Sleep(ctx, 25*time.Millisecond); err != nil {
			return err
		}
		if d := time.Since(start); d < 25*time.Millisecond {
			t.Errorf("slept %v, want at least 25ms", d)
		}
		if fired != 2000 {
			t.Errorf("%d of 2000 timers fired", fired)
		}
		return nil
	}))
	must(t, err)
}

// Timers are set and cancelled in every order. They fire in the order that sorting would give.
func TestLoop_TimersAgainstSorting(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		l := sim.NewEventLoop(t.Context())
		type timer struct {
			h    *asyncio.TimerHandle
			id   int
			dead bool
		}
		var set []*timer
		var fired []int
		for i := range 1 + rng.IntN(60) {
			tm := &timer{id: i}
			tm.h = l.CallAt(asyncio.Instant{}.Add(time.Duration(rng.IntN(8))*time.Second), func() { fired = append(fired, tm.id) })
			set = append(set, tm)
			if rng.IntN(3) == 0 {
				victim := set[rng.IntN(len(set))]
				victim.h.Cancel()
				victim.dead = true
			}
		}
		var want []int
		for when := range 8 {
			for _, tm := range set {
				if !tm.dead && tm.h.When().SinceStart() == time.Duration(when)*time.Second {
					want = append(want, tm.id)
				}
			}
		}
		l.CallAt(asyncio.Instant{}.Add(time.Minute), l.Stop)
		must(t, l.RunForever())
		equal(t, "fired", fired, want)
		must(t, l.Close())
	}
}

// A million timers are set and cancelled in every order that could be bad. The bound is a hundred
// times the usual time; quadratic behaviour would take hours.
func TestLoop_AMillionTimers(t *testing.T) {
	n := 1_000_000
	if raceEnabled {
		n = 100_000 // the race detector makes everything ten times slower
	}
	for _, order := range []string{"forwards", "backwards", "random", "fire"} {
		start := time.Now()
		l := sim.NewEventLoop(t.Context())
		hs := make([]*asyncio.TimerHandle, n)
		fired := 0
		for i := range hs {
			hs[i] = l.CallAt(asyncio.Instant{}.Add(time.Duration(rand.Int64N(int64(n)))*time.Microsecond+1), func() { fired++ })
		}
		switch order {
		case "random":
			rand.Shuffle(n, func(i, j int) { hs[i], hs[j] = hs[j], hs[i] })
		case "backwards":
			for i, j := 0, n-1; i < j; i, j = i+1, j-1 {
				hs[i], hs[j] = hs[j], hs[i]
			}
		}
		want := 0
		if order == "fire" {
			want = n
		} else {
			for _, h := range hs {
				h.Cancel()
			}
		}
		l.CallAt(asyncio.Instant{}.Add(time.Hour), l.Stop)
		must(t, l.RunForever())
		must(t, l.Close())
		if fired != want {
			t.Errorf("%s: %d fired, want %d", order, fired, want)
		}
		if d := time.Since(start); d > 2*time.Minute {
			t.Errorf("%s: took %v", order, d)
		}
	}
}

func TestLoop_DurationsAtTheEnds(t *testing.T) {
	run(t, func(ctx context.Context) error {
		l := loop(t, ctx)
		if err := asyncio.Sleep(ctx, 10*time.Second); err != nil {
			return err
		}
		// now+MaxInt64 overflows. It must mean never, not a time long ago.
		for _, d := range []time.Duration{math.MaxInt64, math.MaxInt64 - time.Duration(1)} {
			h := l.CallLater(d, func() { t.Errorf("a timer set for %v from now fired", d) })
			if h.When().Before(l.Time()) {
				t.Errorf("When() = %v", h.When())
			}
			sleeper := asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error { return asyncio.Sleep(ctx, d) }))
			if err := asyncio.Sleep(ctx, time.Hour); err != nil {
				return err
			}
			if sleeper.Done() {
				t.Errorf("Sleep(%v) has ended", d)
			}
			sleeper.Cancel()
			h.Cancel()
			tctx, cancel := asyncio.WithTimeout(ctx, d)
			if tctx.Err() != nil {
				t.Errorf("WithTimeout(%v) is done", d)
			}
			cancel()
			f := asyncio.CreateFuture[int](ctx)
			l.CallLater(time.Second, func() { must(t, f.SetResult(1)) })
			if done, _, err := asyncio.Wait(ctx, []*asyncio.Future[int]{f}, asyncio.WaitTimeout(d)); len(done) != 1 || err != nil {
				t.Errorf("Wait with timeout %v: %v, %v", d, done, err)
			}
		}
		// A delay that is not positive is due now, as in CPython.
		for _, d := range []time.Duration{0, -1, -time.Hour, math.MinInt64} {
			now := l.Time()
			fired := false
			l.CallLater(d, func() { fired = true })
			for range 2 { // the timer comes after this task in the next iteration's queue
				if err := asyncio.Sleep(ctx, d); err != nil {
					return err
				}
			}
			if !fired || l.Time() != now {
				t.Errorf("delay %v: fired %v, %v passed", d, fired, l.Time().Sub(now))
			}
			tctx, cancel := asyncio.WithTimeout(ctx, d)
			if err := asyncio.Sleep(tctx, time.Second); !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("under WithTimeout(%v): %v", d, err)
			}
			cancel()
			f := asyncio.CreateFuture[int](ctx)
			if _, pending, err := asyncio.Wait(ctx, []*asyncio.Future[int]{f}, asyncio.WaitTimeout(d)); len(pending) != 1 || err != nil {
				t.Errorf("Wait with timeout %v: %v, %v", d, pending, err)
			}
			if l.Time() != now {
				t.Errorf("delay %v: %v passed", d, l.Time().Sub(now))
			}
		}
		return nil
	})
}

func TestLoop_DeadlinesLongPast(t *testing.T) {
	for _, when := range []time.Duration{math.MinInt64, math.MinInt64 + time.Second} {
		l := asyncio.NewEventLoop(t.Context())
		l.CallAt(asyncio.Instant{}.Add(when), l.Stop)
		must(t, l.RunForever()) // hangs if the wait is 292 years too long
		l.CallLater(when, l.Stop)
		must(t, l.RunForever())
		must(t, l.Close())
	}
}
