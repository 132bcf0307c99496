package driver

import (
	"errors"
	"net"
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

// Every piece of work published before a Wake is seen after some Wait: none is left lying while the
// loop sleeps.
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

// A wait that a wake ended early leaves its end set. That end must neither keep a later wait from
// ending nor end it too late.
func TestReal_WaitInPollerAfterAnother(t *testing.T) {
	d := NewReal()
	defer d.Close()
	connected(t, d)
	for i := range 20 {
		// shorter or longer than the next
		former := d.Now() + time.Duration(i%3)*time.Millisecond + time.Microsecond
		if i%6 >= 3 {
			former = d.Now() + time.Hour
		}
		d.Wake()
		if err := d.Wait(former); err != nil {
			t.Fatal(err)
		}
		woke := make(chan struct{})
		go func() {
			defer close(woke)
			d.Wake()
		}()
		if err := d.Wait(former); err != nil {
			t.Fatal(err)
		}
		<-woke
		until, waits := d.Now()+time.Millisecond, 0
		for ; d.Now() < until; waits++ { // hangs if no end is set
			if err := d.Wait(until); err != nil {
				t.Fatal(err)
			}
		}
		if waits > 5 {
			t.Errorf("waited %d times", waits)
		}
	}
}

// A wait in the poller that is woken also tells the notifiers of ready endpoints.
func TestReal_WakeAndReady(t *testing.T) {
	if !pollerExists {
		t.Skip("no poller")
	}
	d := NewReal()
	defer d.Close()
	a, b := connected(t, d)
	var told noted
	b.Notify(&told)
	if err := d.Poll(); err != nil {
		t.Fatal(err)
	}
	told = noted{}
	if _, err := a.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	d.poller.wake() // as when the loop is about to park
	if err := d.Wait(Never); err != nil || told.reads != 1 {
		t.Error(err, told)
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

// connected returns two ends of a connection on d.
func connected(t *testing.T, d *Real) (a, b Endpoint) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	s, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	if a, err = d.Adopt(c); err != nil {
		t.Fatal(err)
	}
	if b, err = d.Adopt(s); err != nil {
		t.Fatal(err)
	}
	return a, b
}

// noted is a Notifier that counts what it is told.
type noted struct{ reads, writes int }

func (n *noted) Ready(read, write bool) {
	if read {
		n.reads++
	}
	if write {
		n.writes++
	}
}

// No Wake and no edge is lost while the driver goes to and fro between the channel and the poller.
func TestReal_NoWakeIsLostInPoller(t *testing.T) {
	d := NewReal()
	defer d.Close()
	var work atomic.Int64
	const senders, each = 4, 5000
	var wg sync.WaitGroup
	for range senders {
		wg.Go(func() {
			for range each {
				work.Add(1)
				d.Wake()
			}
		})
	}
	var a, b Endpoint
	var told noted
	taken, messages := int64(0), 0
	unread := false
	p := make([]byte, 10)
	for i := 0; taken < senders*each; i++ {
		if n := work.Swap(0); n > 0 {
			taken += n
			continue
		}
		switch i % 200 {
		case 0:
			if a != nil {
				a.Close()
				b.Close()
			}
			a, b = connected(t, d)
			a.Notify(new(noted))
			b.Notify(&told)
			unread = false
		case 150:
			if a != nil { // there was work at the last multiple of 200
				a.Close()
				b.Close()
				a = nil
			}
		}
		if a != nil {
			if !unread {
				if _, err := a.Write([]byte("x")); err != nil {
					t.Fatal(err)
				}
				unread = true
			}
			if _, err := b.Read(p); err == nil {
				unread = false
				messages++
				continue
			} else if err != ErrAgain {
				t.Fatal(err)
			}
		}
		until := Never
		if i%3 == 0 {
			until = d.Now() + time.Hour
		}
		if err := d.Wait(until); err != nil { // hangs if a Wake was lost
			t.Fatal(err)
		}
	}
	wg.Wait()
	t.Log(messages, "messages beside it")
}

// A wait in the poller is never shorter than asked for, unless something ends it.
func TestReal_WaitInPollerUntil(t *testing.T) {
	d := NewReal()
	defer d.Close()
	connected(t, d)
	if err := d.Poll(); err != nil { // the initial readiness of the connections
		t.Fatal(err)
	}
	for range 50 {
		until := d.Now() + 200*time.Microsecond
		if err := d.Wait(until); err != nil {
			t.Fatal(err)
		}
		if now := d.Now(); now < until {
			t.Errorf("woke %v early", until-now)
		}
	}
	if err := d.Wait(d.Now() - time.Second); err != nil { // in the past
		t.Error(err)
	}
}

// endpoint 1, endpoint 3 and endpoint 4 on both kinds of endpoints: waiting, needless news, and
// closing.
func TestEndpoint(t *testing.T) {
	for name, d := range map[string]*Real{"poller": NewReal(), "portable": NewPortable()} {
		t.Run(name, func(t *testing.T) {
			defer d.Close()
			a, b := connected(t, d)
			var told noted
			a.Notify(new(noted))
			b.Notify(&told)
			p := make([]byte, 100)
			for i := range 100 {
				if _, err := b.Read(p); err != ErrAgain {
					t.Fatalf("Read = %v, want ErrAgain", err)
				}
				told = noted{}
				for {
					if n, err := a.Write([]byte("0123456789")); n == 10 {
						break
					} else if err != ErrAgain {
						t.Fatal(err)
					}
					if err := d.Wait(Never); err != nil {
						t.Fatal(err)
					}
				}
				got := 0
				for got < 10 {
					n, err := b.Read(p[:1+i%20])
					got += n
					if err == ErrAgain {
						if err := d.Wait(Never); err != nil {
							t.Fatal(err)
						}
					} else if err != nil {
						t.Fatal(err)
					}
				}
				// a goroutine may have read ahead before anybody waited
				if name == "poller" && told.reads == 0 {
					t.Fatal("the reader was not told")
				}
			}
			if err := b.Close(); err != nil {
				t.Error(err)
			}
			if err := b.Close(); err != nil {
				t.Error(err)
			}
			told = noted{}
			a.Abort()
			if _, err := b.Read(p); err != net.ErrClosed {
				t.Errorf("Read after Close: %v", err)
			}
			if err := d.Poll(); err != nil {
				t.Error(err)
			}
			if told != (noted{}) {
				t.Errorf("told after Close: %+v", told)
			}
		})
	}
}

// Closing the driver closes all endpoints that are left, and a Wake that comes too late does no
// harm.
func TestReal_Close(t *testing.T) {
	for name, d := range map[string]*Real{"poller": NewReal(), "portable": NewPortable()} {
		a, b := connected(t, d)
		a.Notify(new(noted))
		b.Notify(new(noted))
		if _, err := a.Read(make([]byte, 1)); err != ErrAgain {
			t.Fatal(err)
		}
		if _, err := a.Write(make([]byte, 10)); err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		wg.Go(func() {
			for range 1000 {
				d.Wake()
			}
		})
		if err := d.Close(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		wg.Wait()
		if _, err := b.Read(make([]byte, 1)); err != net.ErrClosed {
			t.Errorf("%s: Read = %v", name, err)
		}
		if err := d.Close(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A connection accepted by somebody else's listener goes to the poller if possible.
func TestReal_AcceptsForThePoller(t *testing.T) {
	d := NewReal()
	defer d.Close()
	nl, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l, err := d.AdoptListener(struct{ net.Listener }{nl}, false)
	if err != nil {
		t.Fatal(err)
	}
	l.Notify(new(noted))
	c, err := net.Dial("tcp", nl.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	accepted, err := l.Accept()
	for ; err == ErrAgain; accepted, err = l.Accept() {
		if err := d.Wait(Never); err != nil {
			t.Fatal(err)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := accepted.(*portableConn); ok == pollerExists {
		t.Errorf("accepted a %T", accepted)
	}
	accepted.Close()
	l.Close()
}
