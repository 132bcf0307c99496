package asyncio_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
)

// The stall ends when it has been reported twice, so nothing here waits for a clock.
func TestWatchdog_ReportsWhileItRuns(t *testing.T) {
	for name, start := range map[string]func(ctx context.Context, block func()){
		"task": func(ctx context.Context, block func()) {
			asyncio.CreateTask(ctx, asyncio.Do(func(context.Context) error { block(); return nil }), asyncio.TaskName("busy"))
		},
		"resumed": func(ctx context.Context, block func()) {
			asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error {
				err := asyncio.Sleep(ctx, 1)
				block()
				return err
			}), asyncio.TaskName("busy"))
		},
		"eager": func(ctx context.Context, block func()) {
			asyncio.CreateTask(ctx, asyncio.Do(func(context.Context) error { block(); return nil }), asyncio.TaskName("busy"), asyncio.EagerStart(true))
		},
		"callback": func(ctx context.Context, block func()) {
			l, _ := asyncio.GetRunningLoop(ctx)
			l.CallSoon(block)
		},
	} {
		t.Run(name, func(t *testing.T) {
			run(t, func(ctx context.Context) error {
				stalls := make(chan asyncio.Stall)
				done := make(chan struct{})
				l := loop(t, ctx)
				l.SetStallWatchdog(time.Millisecond, func(s asyncio.Stall) {
					select {
					case stalls <- s:
					case <-done: // of another step, on a slow machine
					}
				})
				settle(t, ctx)
				var got []asyncio.Stall
				start(ctx, func() {
					for len(got) < 2 {
						if s := <-stalls; strings.Contains(string(s.Stack), "watchdogBlocks") {
							got = append(got, s)
						} else {
							watchdogBlocks(stalls, &got)
						}
					}
				})
				if err := asyncio.Sleep(ctx, time.Second); err != nil {
					return err
				}
				close(done)
				l.SetStallWatchdog(0, nil)
				if len(got) < 2 || got[0].For < time.Millisecond || got[1].For <= got[0].For {
					t.Fatalf("reported %+v", got)
				}
				want := "busy"
				if name == "callback" {
					want = ""
				}
				if got[0].Task != want {
					t.Errorf("Task = %q, want %q", got[0].Task, want)
				}
				return nil
			})
		})
	}
}

//go:noinline
func watchdogBlocks(stalls <-chan asyncio.Stall, got *[]asyncio.Stall) { *got = append(*got, <-stalls) }

// A report function that fails does not stop the watching.
func TestWatchdog_ReportThatFails(t *testing.T) {
	for name, fail := range map[string]func(){"panic": func() { panic("x") }, "Goexit": runtime.Goexit} {
		t.Run(name, func(t *testing.T) {
			logged := captureLog(t)
			run(t, func(ctx context.Context) error {
				stalls := make(chan struct{})
				done := make(chan struct{})
				loop(t, ctx).SetStallWatchdog(time.Millisecond, func(asyncio.Stall) {
					select {
					case stalls <- struct{}{}:
					case <-done:
					}
					fail()
				})
				settle(t, ctx)
				for range 3 {
					<-stalls // while this step goes on
				}
				close(done)
				loop(t, ctx).SetStallWatchdog(0, nil)
				return nil
			})
			if n := strings.Count(logged(), "panic or exit in the report function"); n < 6 {
				t.Errorf("%d failures logged of 6: %s", n, logged())
			}
		})
	}
}

// A loop that waits, or whose steps return, causes no report. The end of the run ends the watching.
func TestWatchdog_Silence(t *testing.T) {
	_, err := asyncio.Run(t.Context(), asyncio.Do(func(ctx context.Context) error {
		l := loop(t, ctx)
		l.SetStallWatchdog(time.Millisecond, func(s asyncio.Stall) {
			// any other report means that this machine was slow
			if strings.Contains(string(s.Stack), "driver.(*Real).Wait") {
				t.Errorf("waiting was reported: %s", s.Stack)
			}
		})
		_, err := asyncio.ToThread(ctx, func(context.Context) (int, error) {
			tick := time.NewTicker(2 * time.Millisecond)
			defer tick.Stop()
			for range 10 {
				<-tick.C
			}
			return 1, nil
		})
		return err
	}), asyncio.StallWatchdog(time.Minute))
	must(t, err)
	l := asyncio.NewEventLoop(t.Context())
	if err := panicOf(func() { l.SetStallWatchdog(-1, nil) }); !errors.Is(err, asyncio.ErrInvalidArgument) {
		t.Errorf("a negative limit: %v", err)
	}
	must(t, l.Close())
}

// Debug mode has a watchdog of its own, even if it is switched on during the run. A step that
// blocks for ever is reported.
func TestWatchdog_InDebugMode(t *testing.T) {
	for name, late := range map[string]bool{"from the start": false, "in the run": true} {
		t.Run(name, func(t *testing.T) {
			logged := captureLog(t)
			l := asyncio.NewEventLoop(t.Context())
			l.SetDebug(!late)
			l.SetSlowCallbackDuration(time.Millisecond)
			_, err := asyncio.RunUntilComplete(l, asyncio.Do(func(ctx context.Context) error {
				l.SetDebug(true)
				if err := asyncio.Sleep(ctx, 0); err != nil {
					return err
				}
				for limit := time.Now().Add(20 * time.Second); !strings.Contains(logged(), "has been keeping the loop"); {
					if time.Now().After(limit) {
						return errTest
					}
					runtime.Gosched()
				}
				return nil
			}))
			must(t, err)
			must(t, l.Close())
			if !strings.Contains(logged(), "TestWatchdog_InDebugMode") {
				t.Errorf("without its stack: %s", logged())
			}
		})
	}
}

// If there is no report function, stalls are logged.
func TestWatchdog_Logs(t *testing.T) {
	logged := captureLog(t)
	_, err := asyncio.Run(t.Context(), asyncio.Do(func(ctx context.Context) error {
		asyncio.CurrentTask(ctx).SetName("stuck")
		for !strings.Contains(logged(), "task 'stuck' has been keeping the loop for ") {
		}
		return nil
	}), asyncio.StallWatchdog(time.Millisecond))
	must(t, err)
	if !strings.Contains(logged(), "TestWatchdog_Logs") {
		t.Errorf("no stack in %s", logged())
	}
}

// A watchdog that was switched off and on again does not mistake the current step for the last one
// it saw.
func TestWatchdog_SwitchedOnAgain(t *testing.T) {
	stalls := make(chan asyncio.Stall, 1)
	_, err := asyncio.Run(t.Context(), asyncio.Do(func(ctx context.Context) error {
		l := loop(t, ctx)
		watch := func(limit time.Duration) {
			l.SetStallWatchdog(limit, func(s asyncio.Stall) {
				select {
				case stalls <- s:
				default:
				}
			})
		}
		watch(10 * time.Millisecond)
		innocent := asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error {
			watch(0)
			return asyncio.Sleep(ctx, time.Hour)
		}), asyncio.TaskName("innocent"))
		settle(t, ctx)
		guilty := asyncio.CreateTask(ctx, asyncio.Do(func(context.Context) error {
			watch(10 * time.Millisecond)
			s := <-stalls // the watchdog reports this step while it blocks here
			if s.Task != "guilty" || !strings.Contains(string(s.Stack), "TestWatchdog_SwitchedOnAgain") {
				t.Errorf("task %s:\n%s", s.Task, s.Stack)
			}
			return nil
		}), asyncio.TaskName("guilty"))
		_, err := guilty.Await(ctx)
		innocent.Cancel()
		return err
	}))
	must(t, err)
}

func ExampleStall() {
	_, _ = asyncio.Run(context.Background(), asyncio.Do(func(ctx context.Context) error {
		stalls := make(chan asyncio.Stall, 100)
		l, err := asyncio.GetRunningLoop(ctx)
		if err != nil {
			return err
		}
		l.SetStallWatchdog(time.Millisecond, func(s asyncio.Stall) {
			select {
			case stalls <- s:
			default:
			}
		})
		_, err = asyncio.CreateTask(ctx, asyncio.Do(func(context.Context) error {
			s := <-stalls // blocks the loop; asyncio.Recv would not
			fmt.Println("task", s.Task, "blocks:", s.For >= time.Millisecond, len(s.Stack) > 0)
			return nil
		}), asyncio.TaskName("careless")).Await(ctx)
		return err
	}))
	// Output: task careless blocks: true true
}
