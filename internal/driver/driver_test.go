package driver

import (
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Contract 3: a Wake before the Wait is not lost, and many count as one.
func TestDriver_WakeBeforeWait(t *testing.T) {
	for name, d := range map[string]Driver{"real": NewReal(), "virtual": NewVirtual()} {
		d.Wake()
		d.Wake()
		before := d.Now()
		if err := d.Wait(before + time.Hour); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if name == "virtual" && d.Now() != before {
			t.Errorf("%s: the clock moved to %v", name, d.Now())
		}
	}
}

// Every piece of work published before a Wake is seen after some Wait: none is left lying
// while the loop sleeps.
func TestReal_NoWakeIsLost(t *testing.T) {
	d := NewReal()
	var work atomic.Int64
	const senders, each = 8, 5000
	var wg sync.WaitGroup
	for range senders {
		wg.Go(func() {
			for range each {
				work.Add(1)
				d.Wake()
			}
		})
	}
	taken := int64(0)
	for taken < senders*each {
		if n := work.Swap(0); n > 0 {
			taken += n
			continue
		}
		until := Never
		if taken%3 == 0 {
			until = d.Now() + time.Hour
		}
		if err := d.Wait(until); err != nil { // hangs if a Wake was lost
			t.Fatal(err)
		}
	}
	wg.Wait()
}

func TestReal_WaitUntil(t *testing.T) {
	d := NewReal()
	for range 50 {
		until := d.Now() + 200*time.Microsecond
		for d.Now() < until {
			if err := d.Wait(until); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := d.Wait(d.Now() - time.Second); err != nil { // in the past
		t.Error(err)
	}
}

func TestVirtual_JumpsAndStalls(t *testing.T) {
	d := NewVirtual()
	if err := d.Wait(5 * time.Second); err != nil || d.Now() != 5*time.Second {
		t.Errorf("%v, now %v", err, d.Now())
	}
	if err := d.Wait(time.Second); err != nil || d.Now() != 5*time.Second {
		t.Errorf("the clock went back: %v, now %v", err, d.Now())
	}
	if err := d.Wait(Never); !errors.Is(err, ErrStalled) {
		t.Errorf("Wait(Never) = %v", err)
	}
}

func TestVirtual_StandsStillWhileHeld(t *testing.T) {
	d := NewVirtual()
	d.Hold()
	go func() {
		for range 100 {
			runtime.Gosched()
		}
		d.Wake()
		d.Release()
	}()
	if err := d.Wait(time.Hour); err != nil || d.Now() != 0 {
		t.Errorf("%v, now %v", err, d.Now())
	}
	if err := d.Wait(time.Hour); err != nil || d.Now() != time.Hour {
		t.Errorf("%v, now %v", err, d.Now())
	}
}
