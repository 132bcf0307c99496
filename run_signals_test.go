package asyncio_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
)

// needsSignals skips t on systems where a process cannot be sent a signal.
func needsSignals(t *testing.T) {
	t.Helper()
	if runtime.GOOS == "windows" {
		t.Skip("Windows: a program cannot send a process os.Interrupt")
	}
}

// SIGINT cancels main. A second SIGINT ends the process even if main does not give way.
func TestRun_SIGINT(t *testing.T) {
	needsSignals(t)
	for _, how := range []string{"gives way", "yields", "waits for a future", "cancelled already", "uncancels", "stubborn", "blocks"} {
		t.Run(how, func(t *testing.T) {
			cmd := subprocess("TestRun_SIGINTSubprocess", "ASYNCIO_TEST_SIGINT="+how)
			out, err := cmd.StdoutPipe()
			must(t, err)
			must(t, cmd.Start())
			var said []string
			for lines := bufio.NewScanner(out); lines.Scan(); {
				said = append(said, lines.Text())
				if strings.HasPrefix(lines.Text(), "send ") {
					// the process may have died of the one before
					_ = cmd.Process.Signal(os.Interrupt)
				}
			}
			err = cmd.Wait()
			text := strings.Join(said, "\n")
			switch how {
			case "cancelled already":
				if err != nil || !strings.Contains(text, "keyboard interrupt: false") || !strings.Contains(text, "Run = asyncio: cancelled") {
					t.Errorf("%v\n%s", err, text)
				}
			case "gives way", "yields", "waits for a future":
				if err != nil || !strings.Contains(text, "keyboard interrupt: true") || !strings.Contains(text, "cleaned up") {
					t.Errorf("%v\n%s", err, text)
				}
			case "uncancels":
				if err != nil || !strings.Contains(text, "Run = <nil>") {
					t.Errorf("%v\n%s", err, text)
				}
			default:
				var exit *exec.ExitError
				if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGINT {
					t.Errorf("%v, want death by SIGINT\n%s", err, text)
				}
			}
		})
	}
}

func TestRun_SIGINTSubprocess(t *testing.T) {
	how := os.Getenv("ASYNCIO_TEST_SIGINT")
	if how == "" {
		return // run by TestRun_SIGINT
	}
	_, err := asyncio.Run(t.Context(), asyncio.Do(func(ctx context.Context) error {
		fmt.Println("send 1")
		if how == "blocks" {
			// does not let the loop run; the second signal must not need the loop
			for i := 1; ; i++ {
				// the first signal was taken long ago; repeats in case it was not
				if i%100_000 == 0 {
					fmt.Println("send again")
				}
				runtime.Gosched()
			}
		}
		switch how {
		case "yields":
			err := asyncio.Sleep(ctx, 0)
			for err == nil {
				err = asyncio.Sleep(ctx, 0)
			}
			fmt.Println("cleaned up", err)
			return err
		case "waits for a future":
			f := asyncio.CreateFuture[int](ctx)
			_, err := f.Await(ctx)
			if f.Cancelled() {
				fmt.Println("cleaned up")
			}
			return err
		case "cancelled already":
			me := asyncio.CurrentTask(ctx)
			me.Cancel("by itself")
			err := asyncio.Sleep(ctx, time.Hour)
			for me.Cancelling() < 2 {
				_ = asyncio.Sleep(ctx, time.Millisecond)
			}
			return err
		}
		err := asyncio.Sleep(ctx, time.Hour)
		switch how {
		case "uncancels":
			asyncio.CurrentTask(ctx).Uncancel()
			return nil
		case "stubborn":
			fmt.Println("send 2")
			for {
				_ = asyncio.Sleep(ctx, time.Hour)
			}
		}
		fmt.Println("cleaned up", asyncio.Sleep(ctx, time.Millisecond))
		return err
	}))
	fmt.Println("keyboard interrupt:", errors.Is(err, asyncio.ErrKeyboardInterrupt))
	fmt.Println("Run =", err)
}

// The first of the signals cancels main, and the second has its usual effect. The error names the
// first.
func TestRun_HandleSignals(t *testing.T) {
	needsSignals(t)
	for how, want := range map[string]string{
		"TERM":          "Run = asyncio: stopped by signal: terminated: asyncio: cancelled\nkeyboard interrupt: false, signal: terminated",
		"INT":           "Run = asyncio: interrupted: asyncio: cancelled\nkeyboard interrupt: true, signal: none",
		"TERM, no INT":  "signal: terminated",
		"TERM and TERM": "death: terminated",
		"TERM and INT":  "death: interrupt",
		"two runs":      "Run = asyncio: stopped by signal: terminated: asyncio: cancelled\nkeyboard interrupt: false, signal: terminated",
	} {
		t.Run(how, func(t *testing.T) {
			cmd := subprocess("TestRun_HandleSignalsSubprocess", "ASYNCIO_TEST_SIGNALS="+how)
			out, err := cmd.StdoutPipe()
			must(t, err)
			must(t, cmd.Start())
			var said []string
			for lines := bufio.NewScanner(out); lines.Scan(); {
				said = append(said, lines.Text())
				switch lines.Text() {
				case "send TERM":
					_ = cmd.Process.Signal(syscall.SIGTERM)
				case "send INT":
					_ = cmd.Process.Signal(os.Interrupt)
				}
			}
			var exit *exec.ExitError
			if errors.As(cmd.Wait(), &exit) {
				said = append(said, fmt.Sprintf("death: %v", exit.Sys().(syscall.WaitStatus).Signal()))
			}
			if text := strings.Join(said, "\n"); !strings.Contains(text, want) {
				t.Errorf("%s\nwant %s", text, want)
			}
		})
	}
}

func TestRun_HandleSignalsSubprocess(t *testing.T) {
	how := os.Getenv("ASYNCIO_TEST_SIGNALS")
	if how == "" {
		return // run by TestRun_HandleSignals
	}
	opts := []asyncio.RunOption{asyncio.HandleSignals(syscall.SIGTERM), asyncio.HandleSignals(hangup, nil)}
	if how == "TERM, no INT" {
		opts = append(opts, asyncio.HandleSIGINT(false))
	}
	first, second, _ := strings.Cut(how, " and ")
	first, _, _ = strings.Cut(first, ",")
	main := func(ctx context.Context) error {
		fmt.Println("send", first)
		err := asyncio.Sleep(ctx, time.Hour)
		if second != "" {
			fmt.Println("send", second)
			err = asyncio.Sleep(ctx, time.Hour)
		}
		return err
	}
	if how == "two runs" { // the outer run handles SIGINT, the inner one the other signals
		first = "TERM"
		inner := main
		main = func(ctx context.Context) error {
			_, err := asyncio.ToThread(ctx, func(context.Context) (asyncio.None, error) {
				return asyncio.Run(t.Context(), asyncio.Do(inner), opts...)
			})
			return err
		}
		_, err := asyncio.Run(t.Context(), asyncio.Do(main))
		reportRun(err)
		return
	}
	_, err := asyncio.Run(t.Context(), asyncio.Do(main), opts...)
	reportRun(err)
}

func reportRun(err error) {
	got := "none"
	var s *asyncio.SignalError
	if errors.As(err, &s) {
		got = s.Signal.String()
	}
	fmt.Printf("Run = %v\nkeyboard interrupt: %v, signal: %s\n", err, errors.Is(err, asyncio.ErrKeyboardInterrupt), got)
}

// hangup is SIGHUP; js has no name for it.
const hangup = syscall.Signal(1)

// A signal that arrives just as main ends is not lost. The test watches a subprocess.
func TestRun_SIGINTAtTheEnd(t *testing.T) {
	needsSignals(t)
	out, err := subprocess("TestRun_SIGINTAtTheEndSubprocess", "ASYNCIO_TEST_SIGINT_END=1").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "interrupted: true") {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestRun_SIGINTAtTheEndSubprocess(t *testing.T) {
	if os.Getenv("ASYNCIO_TEST_SIGINT_END") == "" {
		return // run by TestRun_SIGINTAtTheEnd
	}
	heard := make(chan os.Signal, 1)
	signal.Notify(heard, os.Interrupt)
	defer signal.Stop(heard)
	v, err := asyncio.Run(t.Context(), func(context.Context) (int, error) {
		p, err := os.FindProcess(os.Getpid())
		must(t, err)
		must(t, p.Signal(os.Interrupt))
		<-heard // by now it has been delivered to every listener
		return 1, nil
	})
	fmt.Println("interrupted:", errors.Is(err, asyncio.ErrKeyboardInterrupt), v)
}
