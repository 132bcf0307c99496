package coro

import (
	"runtime"
	"slices"
	"testing"
)

// begun makes a place whose goroutine runs body.
func begun(body func(home *Place)) *Place {
	p := new(Place)
	p.Init(func(yield func(struct{}) bool) {
		p.Yield = yield
		body(p)
	})
	return p
}

func TestPlace_TwoTakeTurns(t *testing.T) {
	var got []int
	p := begun(func(home *Place) {
		for i := range 3 {
			got = append(got, 2*i)
			home.Cross()
		}
	})
	for i := range 3 {
		p.Cross()
		got = append(got, 2*i+1)
	}
	p.Cross() // the body returns
	if want := []int{0, 1, 2, 3, 4, 5}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

// Contract 2 and 3: the goroutine that waits at a place changes, and control goes from any
// goroutine to any other without passing through a third.
func TestPlace_Ring(t *testing.T) {
	const n, rounds = 5, 1000
	var (
		at      [n + 1]*Place // where each goroutine waits; the last is the test
		runs    []int
		over    bool
		leaving = -1 // the goroutine that is to go home
	)
	give := func(me, to int) {
		p := at[to]
		at[me] = p
		p.Cross()
	}
	home := make([]*Place, n)
	for i := range n {
		home[i] = begun(func(home *Place) {
			for !over {
				switch {
				case leaving == i:
					leaving = -1
					at[i] = home
					home.Cross()
				case len(runs) == n*rounds:
					give(i, n)
				default:
					runs = append(runs, i)
					give(i, (i+1)%n)
				}
			}
		})
		at[i] = home[i]
	}
	give(n, 0)
	for k, i := range runs {
		if i != k%n {
			t.Fatalf("run %d is of %d", k, i)
		}
	}
	if len(runs) != n*rounds {
		t.Fatalf("%d runs", len(runs))
	}
	//	Contract 4: one goroutine after another goes home and ends there. The goroutine that waits
	//	   at its home gives control back to the test.
	for i := range n {
		if at[i] != home[i] {
			leaving = i
			give(n, i)
		}
		over = true
		home[i].Cross()
		over = false
	}
}

// Contract 3: each crossing may be made by another goroutine.
func TestPlace_CrossedByDifferentGoroutines(t *testing.T) {
	n, over := 0, false
	p := begun(func(home *Place) {
		for !over {
			n++
			home.Cross()
		}
	})
	for range 100 {
		done := make(chan struct{})
		go func() {
			defer close(done)
			p.Cross()
		}()
		<-done
	}
	over = true
	p.Cross()
	if n != 100 {
		t.Errorf("n = %d", n)
	}
}

// Contract 5: a Goexit of the body, after any number of crossings, takes with it at most the
//
//	goroutine that waits at its home.
func TestPlace_Goexit(t *testing.T) {
	for crossings := range 4 {
		deferred := false
		p := begun(func(home *Place) {
			defer func() { deferred = true }()
			for range crossings {
				home.Cross()
			}
			runtime.Goexit()
		})
		for range crossings + 1 {
			done, returned := make(chan struct{}), false
			go func() {
				defer close(done)
				p.Cross()
				returned = true
			}()
			<-done
			if returned == deferred {
				t.Errorf("%d crossings: deferred %v, the goroutine at its home went on: %v", crossings, deferred, returned)
			}
		}
		if !deferred {
			t.Errorf("%d crossings: deferred functions did not run", crossings)
		}
	}
}

func TestPlace_LeavesNoGoroutine(t *testing.T) {
	before := runtime.NumGoroutine()
	for range 100 {
		p := begun(func(home *Place) { home.Cross() })
		p.Cross()
		p.Cross()
	}
	for range 1_000_000 {
		if runtime.NumGoroutine() <= before {
			return
		}
		runtime.Gosched()
	}
	t.Errorf("%d goroutines before, %d after", before, runtime.NumGoroutine())
}
