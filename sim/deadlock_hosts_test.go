package sim_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/sim"
)

// asksBeforeItAnswers is a host's program: a server that, to answer a line, asks the next host.
func asksBeforeItAnswers(next string) func(ctx context.Context) error {
	return func(ctx context.Context) error {
		var busy asyncio.Lock
		s, err := asyncio.StartServer(ctx, func(ctx context.Context, r *asyncio.StreamReader, w *asyncio.StreamWriter) error {
			for {
				line, err := r.ReadLine(ctx)
				if len(line) == 0 || err != nil {
					return nil
				}
				if err := busy.Acquire(ctx); err != nil {
					return err
				}
				out := ""
				err = asks(ctx, next, string(line), &out)
				busy.Release()
				if err != nil {
					return err
				}
				if _, err := w.Write(ctx, []byte(out)); err != nil {
					return err
				}
			}
		}, ":7")
		if err != nil {
			return err
		}
		return s.Serve(ctx)
	}
}

func asks(ctx context.Context, host, line string, answer *string) error {
	r, w, err := asyncio.OpenConnection(ctx, host+":7")
	if err != nil {
		return err
	}
	defer w.CloseSoon()
	if _, err := w.Write(ctx, []byte(line)); err != nil {
		return err
	}
	got, err := r.ReadLine(ctx)
	*answer = string(got)
	return err
}

// Two hosts that each wait for the other's bytes are named as a circle, and the tasks of a server
// by the host that they serve. A host that merely waits for its clients is in no circle.
func TestDeadlock_CircleOfHosts(t *testing.T) {
	silent := func(ctx context.Context) error { // both ends wait for the other to begin
		s, err := asyncio.StartServer(ctx, func(ctx context.Context, r *asyncio.StreamReader, w *asyncio.StreamWriter) error {
			_, err := r.ReadLine(ctx)
			return err
		}, ":7")
		if err != nil {
			return err
		}
		return s.Serve(ctx)
	}
	f := sim.Check(func(ctx context.Context) error {
		sim.NewHost(ctx, "greeter", silent)
		sim.NewHost(ctx, "idle", silent)
		if err := asyncio.Sleep(ctx, time.Second); err != nil {
			return err
		}
		_, idle, err := asyncio.OpenConnection(ctx, "idle:7")
		if err != nil {
			return err
		}
		defer idle.CloseSoon()
		r, w, err := asyncio.OpenConnection(ctx, "greeter:7")
		if err != nil {
			return err
		}
		defer w.CloseSoon()
		_, err = r.ReadLine(ctx)
		return err
	}).Failure
	if !errors.Is(f, asyncio.ErrDeadlock) {
		t.Fatal(f)
	}
	circle := circleIn(f)
	for _, want := range []string{
		"main: 'main' waits to read what would have to come from greeter: 'connection from main:32769'",
		"greeter: 'connection from main:32769' waits to read what would have to come from main: 'main'",
	} {
		if !strings.Contains(circle, want) {
			t.Errorf("%q is not in\n%v", want, f)
		}
	}
	if strings.Contains(circle, "idle") {
		t.Errorf("idle is in the circle:\n%s", circle)
	}
	if !strings.Contains(f.Trace, "greeter/connection from main:32769") {
		t.Errorf("the trace does not name the host that is served:\n%s", f.Trace)
	}
}

// circleIn returns the part of a failure that names a circle.
func circleIn(f *sim.Failure) string {
	_, circle, _ := strings.Cut(f.Error(), "hosts wait for each other:")
	circle, _, _ = strings.Cut(circle, "\n\thost ")
	return circle
}

// A circle goes through the locks of hosts too: a waits for b, b for another task of a, and that
// for a lock that the first one has.
func TestDeadlock_LocksAcrossHosts(t *testing.T) {
	f := sim.Check(func(ctx context.Context) error {
		sim.NewHost(ctx, "a", asksBeforeItAnswers("b"))
		sim.NewHost(ctx, "b", asksBeforeItAnswers("a"))
		if err := asyncio.Sleep(ctx, time.Second); err != nil {
			return err
		}
		answer := ""
		return asks(ctx, "a", "hello\n", &answer)
	}).Failure
	if !errors.Is(f, asyncio.ErrDeadlock) {
		t.Fatal(f)
	}
	for _, want := range []string{
		"a: 'connection from main:32768' waits to read what would have to come from b: 'connection from a:32768'",
		"b: 'connection from a:32768' waits to read what would have to come from a: 'connection from b:32768'",
		"a: 'connection from b:32768' waits for <asyncio.Lock [locked, waiters:1]> of a: 'connection from main:32768'",
	} {
		if !strings.Contains(circleIn(f), want) {
			t.Errorf("%q is not in\n%v", want, f)
		}
	}
}
