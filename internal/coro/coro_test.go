package coro

import (
	"runtime"
	"testing"
)

type bodyFunc func()

func (f bodyFunc) Run() { f() }

func start(body func(*Coro)) *Coro {
	c := new(Coro)
	c.Init(bodyFunc(func() { body(c) }))
	return c
}

func TestCoro_ResumeAndYieldAlternate(t *testing.T) {
	var got []int
	c := start(func(c *Coro) {
		for i := range 3 {
			got = append(got, i)
			if !c.Yield(Suspended) {
				t.Error("Yield = false")
			}
		}
	})
	for want := range 3 {
		if signal := c.Resume(); len(got) != want+1 || c.Ended() || signal != Suspended {
			t.Fatalf("after %d resumes: %v, ended %v", want+1, got, c.Ended())
		}
	}
	c.Resume()
	if !c.Ended() {
		t.Error("the body has returned, Ended = false")
	}
	<-c.Kill() // of an ended coroutine: nothing
}

// A signal reaches whoever resumed, and the coroutine goes on where it was.
func TestCoro_Asks(t *testing.T) {
	c := start(func(c *Coro) {
		c.Yield(Asks)
		c.Yield(Suspended)
	})
	for _, want := range []Signal{Asks, Suspended, Suspended} {
		if got := c.Resume(); got != want {
			t.Errorf("signal %v, want %v", got, want)
		}
	}
	if !c.Ended() {
		t.Error("not ended")
	}
}

// Contract 2: each Resume may come from another goroutine.
func TestCoro_ResumedByDifferentGoroutines(t *testing.T) {
	n := 0
	c := start(func(c *Coro) {
		for c.Yield(Suspended) {
			n++
		}
	})
	for range 100 {
		done := make(chan struct{})
		go func() {
			defer close(done)
			c.Resume()
		}()
		<-done
	}
	<-c.Kill()
	if n != 99 {
		t.Errorf("n = %d", n)
	}
}

// Contract 3: a Goexit of the body, at once or later, leaves the resumer alone.
func TestCoro_Goexit(t *testing.T) {
	for _, suspended := range []bool{false, true} {
		deferred := false
		c := start(func(c *Coro) {
			defer func() { deferred = true }()
			if suspended {
				c.Yield(Suspended)
			}
			runtime.Goexit()
		})
		signal := c.Resume()
		if suspended {
			signal = c.Resume()
		}
		if signal != Died || !deferred {
			t.Errorf("signal %v, deferred = %v", signal, deferred)
		}
		<-c.Bury()
	}
}

// Contract 5: Kill unwinds, whether the body returns or exits when Yield says false.
func TestCoro_Kill(t *testing.T) {
	for name, unwind := range map[string]func(){"return": func() {}, "exit": Exit} {
		deferred := false
		c := start(func(c *Coro) {
			defer func() { deferred = true }()
			if !c.Yield(Suspended) {
				unwind()
			}
		})
		c.Resume()
		<-c.Kill()
		if !deferred || !c.Ended() {
			t.Errorf("%s: deferred %v, ended %v", name, deferred, c.Ended())
		}
		<-c.Kill()
	}
	entered := false
	c := start(func(*Coro) { entered = true })
	<-c.Kill()
	if entered {
		t.Error("a coroutine that was never resumed was entered by Kill")
	}
}

func TestCoro_LeavesNoGoroutine(t *testing.T) {
	before := runtime.NumGoroutine()
	for range 100 {
		c := start(func(c *Coro) { c.Yield(Suspended); runtime.Goexit() })
		c.Resume()
		c.Resume()
		<-c.Bury()
		k := start(func(c *Coro) {
			if !c.Yield(Suspended) {
				Exit()
			}
		})
		k.Resume()
		<-k.Kill()
	}
	for range 1_000_000 {
		if runtime.NumGoroutine() <= before {
			return
		}
		runtime.Gosched()
	}
	t.Errorf("%d goroutines before, %d after", before, runtime.NumGoroutine())
}
