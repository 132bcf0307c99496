package inspection_test

import (
	"context"
	"testing"

	"github.com/goasyncio/asyncio/internal/inspection"
)

// A silentLoop takes a survey up, or does not, and never ends it.
type silentLoop struct {
	begins bool
	step   inspection.Step
	asked  func()
}

func (l *silentLoop) Survey(context.Context, inspection.Ask) (began <-chan struct{}, done <-chan *inspection.Survey, ok bool) {
	b := make(chan struct{})
	if l.begins {
		close(b)
	}
	l.asked()
	return b, make(chan *inspection.Survey), true
}

func (l *silentLoop) Step() inspection.Step { return l.step }
func (l *silentLoop) Watch()                {}
func (*silentLoop) Time(bool)               {}
func (*silentLoop) Ping(func()) bool        { return true }
func (*silentLoop) Cancel(context.Context, string, string, string) (<-chan bool, bool) {
	return nil, false
}
func (l *silentLoop) Stack() []byte {
	return []byte("goroutine 8 [running]:\nmain.work()\n\t/src/app/main.go:7 +0x1\n")
}

// Nobody waits for a loop that will not answer, even without an end of the context (inspection 3).
func TestLook_DoesNotWait(t *testing.T) {
	for _, begins := range []bool{false, true} {
		l := &silentLoop{begins: begins}
		l.asked = func() { inspection.Ends(l) }
		inspection.Begins(l)
		if p := inspection.Look(context.Background(), inspection.Ask{}); len(p.Loops) != 0 {
			t.Errorf("the run has ended, begun %v: %d loops", begins, len(p.Loops))
		}

		l = &silentLoop{begins: begins, asked: func() {}, step: inspection.Step{Count: 5, Task: "work", Goroutine: 8}}
		inspection.Begins(l)
		p := inspection.Look(context.Background(), inspection.Ask{})
		inspection.Ends(l)
		if s := p.Loops[0].Stuck; s == nil || s.Task != "work" || s.Where != "/src/app/main.go:7" {
			t.Errorf("the loop is stuck, begun %v: %+v", begins, p.Loops[0])
		}

		ctx, cancel := context.WithCancel(t.Context())
		l = &silentLoop{begins: begins, asked: cancel} // it waits for events
		inspection.Begins(l)
		p = inspection.Look(ctx, inspection.Ask{})
		inspection.Ends(l)
		if len(p.Loops) != 1 || p.Loops[0].Stuck != nil {
			t.Errorf("the context has ended, begun %v: %+v", begins, p.Loops)
		}
	}
}
