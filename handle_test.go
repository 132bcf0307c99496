package asyncio_test

import (
	"strings"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
)

func TestHandle_Cancel(t *testing.T) {
	l := newLoop(t)
	ran := 0
	h := l.CallSoon(func() { ran++ })
	h.Cancel()
	late := l.CallLater(time.Second, func() { ran++ })
	if late.When().SinceStart() != time.Second {
		t.Errorf("When() = %v", late.When())
	}
	late.Cancel()
	late.Cancel()
	if !h.Cancelled() || !late.Cancelled() {
		t.Error("Cancelled() = false")
	}
	// A timer that is due in the iteration in which it is cancelled does not run either.
	var due *asyncio.TimerHandle
	l.CallSoon(func() { due.Cancel() })
	due = l.CallLater(0, func() { ran++ })
	l.CallLater(2*time.Second, l.Stop)
	must(t, l.RunForever())
	if ran != 0 {
		t.Errorf("%d cancelled callbacks ran", ran)
	}
}

func TestHandle_String(t *testing.T) {
	l := newLoop(t)
	h := l.CallSoon(func() {})
	if s := h.String(); !strings.HasPrefix(s, "<Handle asyncio_test.TestHandle_String.func1() at ") {
		t.Error(s)
	}
	h.Cancel()
	is(t, "cancelled", h.String(), "<Handle cancelled>")
	is(t, "Cancelled", h.Cancelled(), true)
}

func TestHandle_StringOfATimer(t *testing.T) {
	l := newLoop(t)
	h := l.CallLater(1500*time.Millisecond, func() {})
	if s := h.String(); !strings.HasPrefix(s, "<TimerHandle when=1.5s asyncio_test.TestHandle_StringOfATimer.func1() at ") {
		t.Error(s)
	}
	h.Cancel()
	if s := h.String(); s != "<TimerHandle cancelled when=1.5s>" {
		t.Error(s)
	}
}
