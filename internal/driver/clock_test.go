package driver_test

import (
	"errors"
	"math"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/goasyncio/asyncio/internal/driver"
)

// waits are the ways in which a driver waits: for the contract of Driver.
var waits = []struct {
	name string
	new  func(w *world) driver.Driver
}{
	{"channel", func(w *world) driver.Driver { return w.d }},
	{"connections", func(w *world) driver.Driver {
		a, b := adopted("tcp", "127.0.0.1:0")(w)
		a.again()
		b.again()
		w.poll() // the first news of a connection ends a wait
		return w.d
	}},
	{"virtual", func(w *world) driver.Driver { return driver.NewVirtual() }},
}

// inEachWay runs test with each way to wait, in each poller.
func inEachWay(t *testing.T, test func(w *world, d driver.Driver)) {
	for _, k := range waits {
		t.Run(k.name, func(t *testing.T) {
			inEach(t, func(w *world) {
				w.waiting = true // nothing here looks at when Ready is called
				test(w, k.new(w))
			})
		})
	}
}

// wake calls Wake on another goroutine, if possible once Wait has parked. The clock of a virtual
// driver stands still until then.
func wake(d driver.Driver, calls int) (done func()) {
	d.Hold()
	var wg sync.WaitGroup
	var over atomic.Bool
	for range calls {
		wg.Go(func() {
			if d, ok := d.(*driver.Real); ok {
				for !d.Parked() && !over.Load() {
					runtime.Gosched()
				}
			}
			d.Wake()
		})
	}
	return func() {
		over.Store(true) // another has ended the wait
		wg.Wait()
		d.Release()
	}
}

// Contract 1: the clock does not go back, and Start and Wall are on it.
func TestClock_Times(t *testing.T) {
	inEachWay(t, func(w *world, d driver.Driver) {
		last := d.Now()
		for i := range 20 {
			until := last + time.Duration(i)*50*time.Microsecond
			w.must(d.Wait(until))
			now := d.Now()
			if now < last {
				w.Errorf("the clock went back from %v to %v", last, now)
			}
			last = now
		}
		wall, at, later := d.Wall(), d.Start().Add(d.Now()), d.Wall()
		if at.Before(wall) || at.After(later) {
			w.Errorf("Start and Now say %v, Wall says %v", at, wall)
		}
	})
}

// Contract 2: Wait lasts until the time that it was given, and neither a time in the past nor one
// in a distant future is in its way.
func TestClock_Until(t *testing.T) {
	inEachWay(t, func(w *world, d driver.Driver) {
		for i := range 20 {
			until := d.Now() + time.Duration(1+i*37%300)*time.Microsecond
			waited := 0
			for d.Now() < until {
				w.must(d.Wait(until))
				waited++
			}
			if waited > 3 {
				w.Errorf("waited %d times", waited)
			}
		}
		for _, past := range []time.Duration{d.Now(), d.Now() - 1, 0, -1, math.MinInt64} {
			w.must(d.Wait(past))
		}
		for _, distant := range []time.Duration{driver.Never - 1, 1 << 62, 1 << 61, 200 * 365 * 24 * time.Hour} {
			start := d.Now()
			done := wake(d, 1)
			w.must(d.Wait(distant))
			done()
			if d.Now()-start > patience {
				w.Errorf("Wait until %v ended at %v", distant, d.Now())
			}
		}
		done := wake(d, 1)
		w.must(d.Wait(driver.Never))
		done()
	})
}

// Contract 3: a Wake before the Wait is not lost, and any number of them counts as one.
func TestClock_WakeBefore(t *testing.T) {
	inEachWay(t, func(w *world, d driver.Driver) {
		for range 10 {
			start := d.Now()
			for range 5 {
				d.Wake()
			}
			w.must(d.Wait(start + time.Hour))
			if d.Now()-start > patience {
				w.Fatal("the Wake was lost")
			}
			until := d.Now() + 50*time.Microsecond
			waited := 0
			for ; d.Now() < until; waited++ {
				w.must(d.Wait(until))
			}
			if waited > 2 {
				w.Errorf("Wait ended early %d times after one", waited-1)
			}
		}
	})
}

// A Wake from another goroutine ends the Wait that is under way; many at once do so too.
func TestClock_WakeDuring(t *testing.T) {
	inEachWay(t, func(w *world, d driver.Driver) {
		for i := range 100 {
			until := driver.Never
			if i%2 == 0 {
				until = d.Now() + time.Hour
			}
			start := d.Now()
			done := wake(d, 1+i%5)
			w.must(d.Wait(until))
			done()
			if d.Now()-start > patience {
				w.Fatal("the Wake was lost")
			}
		}
	})
}

// Work that was announced before a Wake is seen after some Wait.
func TestClock_NoWakeIsLost(t *testing.T) {
	inEachWay(t, func(w *world, d driver.Driver) {
		const senders, each = 4, 1000
		d.Hold() // a virtual clock stands still
		defer d.Release()
		var work atomic.Int64
		var wg sync.WaitGroup
		for range senders {
			wg.Go(func() {
				for range each {
					work.Add(1)
					d.Wake()
				}
			})
		}
		for taken := int64(0); taken < senders*each; {
			if n := work.Swap(0); n > 0 {
				taken += n
				continue
			}
			w.must(d.Wait(d.Now() + time.Hour)) // hangs if a Wake was lost
		}
		wg.Wait()
	})
}

// Contract 4: Wake, Hold and Release never block, also after Close, and closing twice is nothing.
func TestClock_AfterClose(t *testing.T) {
	inEachWay(t, func(w *world, d driver.Driver) {
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				for range 200 {
					d.Hold()
					d.Wake()
					d.Release()
				}
			})
		}
		w.must(d.Close())
		wg.Wait()
		d.Wake()
		w.must(d.Close())
		w.must(d.Wait(0))
	})
}

// A goroutine that works for the loop gets a turn even if something is always ready.
func TestClock_HeldWorkGetsATurn(t *testing.T) {
	inEach(t, func(w *world) {
		if !w.kernel {
			w.Skip("no poller")
		}
		defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
		adopted("tcp", "127.0.0.1:0")(w)
		w.waiting = true
		var done atomic.Bool
		w.d.Hold()
		defer w.d.Release()
		go done.Store(true)
		waited := 0
		for ; !done.Load(); waited++ {
			w.must(w.d.Wait(0))
		}
		if waited > 20 {
			w.Errorf("it had its turn after %d waits", waited)
		}
	})
}

// The virtual clock jumps to the end of a wait, does not go back, and tells whether it jumps. A
// wait that nothing can end is an error.
func TestVirtual(t *testing.T) {
	d := driver.NewVirtual()
	if !d.Start().Equal(driver.VirtualStart) || !d.Polls() {
		t.Errorf("Start %v, Polls %v", d.Start(), d.Polls())
	}
	if err := d.Wait(5 * time.Second); err != nil || d.Now() != 5*time.Second || !d.Wall().Equal(driver.VirtualStart.Add(5*time.Second)) {
		t.Errorf("%v, now %v, wall %v", err, d.Now(), d.Wall())
	}
	if err := d.Wait(time.Second); err != nil || d.Now() != 5*time.Second {
		t.Errorf("the clock went back: %v, now %v", err, d.Now())
	}
	if err := d.Wait(driver.Never); !errors.Is(err, driver.ErrStalled) {
		t.Errorf("Wait(Never) = %v", err)
	}
	if !d.Jumps() {
		t.Error("the clock does not jump")
	}
	d.Hold()
	d.Hold()
	if d.Jumps() {
		t.Error("the clock jumps although work is held")
	}
	d.Wake()
	if !d.Jumps() {
		t.Error("Wait would not return at once after a Wake")
	}
	if err := d.Wait(driver.Never); err != nil {
		t.Error(err)
	}
	d.Release()
	go d.Release() // the last one ends a wait
	if err := d.Wait(time.Minute); err != nil || d.Now() != time.Minute {
		t.Errorf("%v, now %v", err, d.Now())
	}
	d.Hold()
	go d.Release()
	if err := d.Wait(driver.Never); !errors.Is(err, driver.ErrStalled) {
		t.Errorf("Wait(Never) = %v after the last Release", err)
	}
}

// A consumer's seed depends on its name and on nothing else. The values are part of every recorded
// run.
func TestSeeds(t *testing.T) {
	var _ driver.Seeder = driver.NewVirtual()
	a, b := driver.NewVirtual().Seed("rand")
	if c, d := driver.Derive(0, "rand"); a != c || b != d {
		t.Errorf("Seed = %#x, %#x, Derive = %#x, %#x", a, b, c, d)
	}
	if a != 0x382f6d84509f4c13 || b != 0xe6a8aa15118d939a {
		t.Errorf("Seed = %#x, %#x", a, b)
	}
	seen := make(map[[2]uint64]bool)
	for _, consumer := range []string{"", "a", "b", "ab", "ba"} {
		for _, seed := range []uint64{0, 1, 1 << 63} {
			x, y := driver.Derive(seed, consumer)
			seen[[2]uint64{x, y}] = true
		}
	}
	if len(seen) != 15 {
		t.Errorf("%d different seeds, want 15", len(seen))
	}
}

// The errors that end a run are told apart.
func TestErrors_Distinct(t *testing.T) {
	all := []error{driver.ErrStalled, driver.ErrKilled, driver.ErrAgain, driver.ErrGoexit, driver.ErrSockets}
	for i, a := range all {
		for j, b := range all {
			if errors.Is(a, b) != (i == j) {
				t.Errorf("%v is %v", a, b)
			}
		}
	}
}
