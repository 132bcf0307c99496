//go:build linux || darwin || freebsd

package asyncio_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
)

// raise sends a signal to this program.
func raise(t *testing.T, sig syscall.Signal) {
	t.Helper()
	must(t, syscall.Kill(os.Getpid(), sig))
}

// until waits until done, which a callback makes true.
func until(t *testing.T, ctx context.Context, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !done(); {
		if time.Now().After(end) {
			t.Fatalf("%s: it does not come", what)
		}
		must(t, asyncio.Sleep(ctx, time.Millisecond))
	}
}

// A handler is called as a callback of the loop, once for each signal. A second handler replaces
// the first. After the handler is removed, the loop no longer hears of the signal.
func TestSignals_Handler(t *testing.T) {
	onSystem(t, func(t *testing.T, ctx context.Context) error {
		l := loop(t, ctx)
		// keep tells when a signal has come that the loop does not hear of
		keep := make(chan os.Signal, 10)
		signal.Notify(keep, syscall.SIGUSR1)
		defer signal.Stop(keep)

		var first, second, other int
		must(t, l.AddSignalHandler(syscall.SIGUSR1, func() {
			first++
			if asyncio.CurrentTask(ctx) != nil {
				t.Error("a task was interrupted")
			}
		}))
		must(t, l.AddSignalHandler(syscall.SIGUSR2, func() { other++ }))
		raise(t, syscall.SIGUSR1)
		if first != 0 {
			t.Error("it was called in the middle of a step")
		}
		until(t, ctx, "the first", func() bool { return first == 1 })
		raise(t, syscall.SIGUSR1)
		until(t, ctx, "the first, again", func() bool { return first == 2 })

		must(t, l.AddSignalHandler(syscall.SIGUSR1, func() { second++ }))
		raise(t, syscall.SIGUSR1)
		until(t, ctx, "the second", func() bool { return second == 1 })
		raise(t, syscall.SIGUSR2)
		until(t, ctx, "the other", func() bool { return other == 1 })

		if !l.RemoveSignalHandler(syscall.SIGUSR1) || l.RemoveSignalHandler(syscall.SIGUSR1) {
			t.Error("RemoveSignalHandler reports the wrong thing")
		}
		for len(keep) > 0 {
			<-keep
		}
		raise(t, syscall.SIGUSR1)
		<-keep // the first one has been dealt with
		settle(t, ctx)
		if first != 2 || second != 1 || other != 1 {
			t.Errorf("%d, %d, %d calls, want 2, 1, 1", first, second, other)
		}
		return nil // the other handler goes with the loop
	})
}

// A signal wakes a loop that has nothing to do. A panic of its handler goes to the exception
// handler.
func TestSignals_WhileTheLoopWaits(t *testing.T) {
	for name, handler := range map[string]func(l *asyncio.EventLoop){
		"returns": func(l *asyncio.EventLoop) { l.Stop() },
		"panics":  func(l *asyncio.EventLoop) { l.Stop(); panic(errTest) },
	} {
		l := asyncio.NewEventLoop(t.Context())
		var r reports
		l.SetExceptionHandler(r.handle)
		must(t, l.AddSignalHandler(syscall.SIGALRM, func() { handler(l) }))
		l.CallLater(10*time.Millisecond, func() {
			go func() { _ = syscall.Kill(os.Getpid(), syscall.SIGALRM) }()
		})
		l.CallLater(time.Minute, l.Stop)
		must(t, l.RunForever())
		if l.Time().SinceStart() > 30*time.Second {
			t.Errorf("%s: the signal did not come", name)
		}
		if n := len(r.messages()); n != 1 && name == "panics" || n != 0 && name == "returns" {
			t.Errorf("%s: reports %q", name, r.messages())
		}
		must(t, l.Close())
	}
}

func TestSignals_Refused(t *testing.T) {
	onRealTime(t, func(ctx context.Context) error {
		l := loop(t, ctx)
		for _, sig := range []os.Signal{nil, syscall.Signal(0), syscall.Signal(-1), syscall.Signal(1000), syscall.SIGKILL, syscall.SIGSTOP} {
			if err := l.AddSignalHandler(sig, func() {}); !errors.Is(err, asyncio.ErrInvalidArgument) {
				t.Errorf("%v: %v", sig, err)
			}
			if l.RemoveSignalHandler(sig) {
				t.Errorf("%v: there is something to remove", sig)
			}
		}
		if err := l.AddSignalHandler(syscall.SIGUSR1, nil); !errors.Is(err, asyncio.ErrInvalidArgument) {
			t.Errorf("a nil function: %v", err)
		}
		return nil
	})
	l := asyncio.NewEventLoop(t.Context())
	must(t, l.AddSignalHandler(syscall.SIGUSR1, func() {}))
	must(t, l.Close())
	if l.RemoveSignalHandler(syscall.SIGUSR1) {
		t.Error("a closed loop still has its handler")
	}
	if err := l.AddSignalHandler(syscall.SIGUSR1, func() {}); !errors.Is(err, asyncio.ErrLoopClosed) {
		t.Errorf("on a closed loop: %v", err)
	}
}

// Removing a handler, or closing the loop, gives the signal its default effect back. While the loop
// has a handler for SIGINT, Run does not handle SIGINT. Afterwards it cancels its main task again.
func TestSignals_Defaults(t *testing.T) {
	for how, want := range map[string]string{
		"removed":       "handled\nsignal: terminated",
		"closed":        "handled\nsignal: terminated",
		"SIGINT":        "handled\nhandled\nnot cancelled\ninterrupted: true\n<nil>",
		"SIGINT often":  "not cancelled\ninterrupted: false\n<nil>",
		"SIGINT before": "handled\nnot cancelled\ninterrupted: false\n<nil>",
		"SIGINT late":   "cancelled\nsignal: interrupt",
	} {
		out, err := subprocess("TestSignals_DefaultsSubprocess", "ASYNCIO_TEST_SIGNALS="+how).CombinedOutput()
		got := ""
		for line := range strings.Lines(string(out)) {
			// the output of package testing
			if !strings.HasPrefix(line, "===") && !strings.HasPrefix(line, "---") && line != "PASS\n" {
				got += line
			}
		}
		got += fmt.Sprint(err)
		if got != want {
			t.Errorf("%s:\n%s\nwant\n%s", how, got, want)
		}
	}
}

func TestSignals_DefaultsSubprocess(t *testing.T) {
	how := os.Getenv("ASYNCIO_TEST_SIGNALS")
	if how == "" {
		return // run by TestSignals_Defaults
	}
	handled := 0
	handler := func() {
		handled++
		fmt.Println("handled")
	}
	switch how {
	case "removed", "closed":
		l := asyncio.NewEventLoop(t.Context())
		must(t, l.AddSignalHandler(syscall.SIGTERM, handler))
		_, err := asyncio.RunUntilComplete(l, asyncio.Do(func(ctx context.Context) error {
			raise(t, syscall.SIGTERM)
			until(t, ctx, "the signal", func() bool { return handled == 1 })
			return nil
		}))
		must(t, err)
		if how == "removed" {
			l.RemoveSignalHandler(syscall.SIGTERM)
		} else {
			must(t, l.Close())
		}
		raise(t, syscall.SIGTERM)
		select {} // the signal ends the program
	case "SIGINT":
		_, err := asyncio.Run(t.Context(), asyncio.Do(func(ctx context.Context) error {
			l := loop(t, ctx)
			must(t, l.AddSignalHandler(os.Interrupt, handler))
			for n := 1; n <= 2; n++ {
				raise(t, syscall.SIGINT)
				until(t, ctx, "the signal", func() bool { return handled == n })
			}
			fmt.Println("not cancelled")
			l.RemoveSignalHandler(os.Interrupt)
			raise(t, syscall.SIGINT)
			return asyncio.Sleep(ctx, time.Minute)
		}))
		fmt.Println("interrupted:", errors.Is(err, asyncio.ErrKeyboardInterrupt))
	// a signal that a handler has dealt with is not the run's as well, however soon the handler
	// goes
	case "SIGINT often":
		_, err := asyncio.Run(t.Context(), asyncio.Do(func(ctx context.Context) error {
			l := loop(t, ctx)
			for range 500 {
				came := false
				must(t, l.AddSignalHandler(os.Interrupt, func() { came = true }))
				raise(t, syscall.SIGINT)
				for !came {
					must(t, asyncio.Sleep(ctx, 0))
				}
				l.RemoveSignalHandler(os.Interrupt)
			}
			must(t, asyncio.Sleep(ctx, 10*time.Millisecond))
			fmt.Println("not cancelled")
			return nil
		}))
		fmt.Println("interrupted:", errors.Is(err, asyncio.ErrKeyboardInterrupt))
	case "SIGINT before":
		r := asyncio.NewRunner(t.Context())
		l, err := r.GetLoop()
		must(t, err)
		must(t, l.AddSignalHandler(os.Interrupt, handler))
		_, err = asyncio.RunIn(r, asyncio.Do(func(ctx context.Context) error {
			raise(t, syscall.SIGINT)
			until(t, ctx, "the signal", func() bool { return handled == 1 })
			fmt.Println("not cancelled")
			return nil
		}))
		fmt.Println("interrupted:", errors.Is(err, asyncio.ErrKeyboardInterrupt))
		must(t, r.Close())
	// adding and removing a handler after the first SIGINT does not make Run listen again
	case "SIGINT late":
		_, _ = asyncio.Run(t.Context(), asyncio.Do(func(ctx context.Context) error {
			raise(t, syscall.SIGINT)
			if err := asyncio.Sleep(ctx, time.Minute); errors.Is(err, asyncio.ErrCancelled) {
				fmt.Println("cancelled")
			}
			l := loop(t, ctx)
			must(t, l.AddSignalHandler(os.Interrupt, handler))
			l.RemoveSignalHandler(os.Interrupt)
			raise(t, syscall.SIGINT)
			return asyncio.Sleep(ctx, time.Minute)
		}))
	}
}
