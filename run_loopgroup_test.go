package asyncio_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/sim"
)

// withLoops runs main on the first of n loops on the real clock.
func withLoops(t *testing.T, n int, main func(ctx context.Context, g *asyncio.LoopGroup) error) {
	t.Helper()
	var r reports
	factory := func(ctx context.Context) *asyncio.EventLoop {
		l := asyncio.NewEventLoop(ctx)
		l.SetDebug(true)
		l.SetExceptionHandler(r.handle)
		return l
	}
	_, err := asyncio.RunLoopGroup(t.Context(), n, func(ctx context.Context, g *asyncio.LoopGroup) (asyncio.None, error) {
		return asyncio.None{}, limited(t, ctx, func(t *testing.T, ctx context.Context) error { return main(ctx, g) })
	}, asyncio.LoopFactory(factory))
	must(t, err)
	for _, m := range r.messages() {
		t.Errorf("exception handler: %s", m)
	}
}

// where returns the index of the loop of ctx in g.
func where(t *testing.T, ctx context.Context, g *asyncio.LoopGroup) int {
	for i := range g.Len() {
		if loop(t, ctx) == g.Loop(i) {
			return i
		}
	}
	t.Error("on no loop of the group")
	return -1
}

func TestLoopGroup_LoopsRunAtTheSameTime(t *testing.T) {
	withLoops(t, 3, func(ctx context.Context, g *asyncio.LoopGroup) error {
		// Each function blocks its loop until all have come.
		var come sync.WaitGroup
		come.Add(g.Len())
		return g.Each(ctx, func(ctx context.Context, i int) error {
			if where(t, ctx, g) != i {
				t.Errorf("the function of loop %d is elsewhere", i)
			}
			come.Done()
			//asynciovet:allow blocking only loops that run in parallel get past it
			come.Wait()
			return nil
		})
	})
}

func TestLoopGroup_Size(t *testing.T) {
	size := func(ctx context.Context, n int) int {
		got, err := asyncio.RunLoopGroup(ctx, n, func(ctx context.Context, g *asyncio.LoopGroup) (int, error) {
			seen := make(map[*asyncio.EventLoop]bool)
			for range 2 * g.Len() {
				seen[g.Next()] = true
			}
			if len(seen) != g.Len() {
				t.Errorf("Next gives %d of %d loops", len(seen), g.Len())
			}
			return g.Len(), nil
		})
		must(t, err)
		return got
	}
	if got, want := size(t.Context(), 0), runtime.GOMAXPROCS(0); got != want {
		t.Errorf("%d loops, want one for each of %d cores", got, want)
	}
	if got := size(t.Context(), 5); got != 5 {
		t.Errorf("%d loops, want 5", got)
	}
	// on virtual time there is one loop, whatever was asked for (loopgroup 3)
	if got := size(asyncio.WithLoopFactory(t.Context(), sim.NewEventLoop), 5); got != 1 {
		t.Errorf("%d loops on virtual time, want 1", got)
	}
	_, err := asyncio.RunLoopGroup(t.Context(), -1, func(context.Context, *asyncio.LoopGroup) (int, error) { return 0, nil })
	if !errors.Is(err, asyncio.ErrInvalidArgument) {
		t.Errorf("-1 loops: %v", err)
	}
	_, err = asyncio.RunLoopGroup[int](t.Context(), 1, nil)
	if !errors.Is(err, asyncio.ErrInvalidArgument) {
		t.Errorf("no main: %v", err)
	}
}

// The options may be the front part of a longer slice of the caller's. The rest of that slice is
// left alone, and the slice may be used again at once.
func TestLoopGroup_OptionsAreNotWrittenInto(t *testing.T) {
	used := 0
	base := []asyncio.RunOption{asyncio.DebugMode(false), asyncio.LoopFactory(func(ctx context.Context) *asyncio.EventLoop {
		used++
		return asyncio.NewEventLoop(ctx)
	})}
	_, err := asyncio.RunLoopGroup(t.Context(), 2, func(context.Context, *asyncio.LoopGroup) (int, error) { return 0, nil }, base[:1]...)
	must(t, err)
	_, err = asyncio.Run(t.Context(), asyncio.Do(func(context.Context) error { return nil }), base...)
	must(t, err)
	is(t, "loops made by the second option", used, 1)

	withLoops(t, 2, func(ctx context.Context, g *asyncio.LoopGroup) error {
		opts := make([]asyncio.TaskOption, 1)
		var calls []*asyncio.ConcurrentFuture[string]
		for i := range 20 {
			opts[0] = asyncio.TaskName(fmt.Sprint(i))
			calls = append(calls, asyncio.StartCall(ctx, g.Loop(1), func(ctx context.Context) (string, error) {
				return asyncio.CurrentTask(ctx).GetName(), nil
			}, opts...))
		}
		for i, c := range calls {
			name, err := c.Await(ctx)
			must(t, err)
			is(t, "name", name, fmt.Sprint(i))
		}
		return nil
	})
}

// When main has ended, the tasks of the other loops are cancelled. While they clean up, the first
// loop still answers (loopgroup 1).
func TestLoopGroup_End(t *testing.T) {
	var mu sync.Mutex
	var got []string
	note := func(s string) {
		mu.Lock()
		defer mu.Unlock()
		got = append(got, s)
	}
	withLoops(t, 3, func(ctx context.Context, g *asyncio.LoopGroup) error {
		for i := 1; i < g.Len(); i++ {
			_, err := asyncio.Call(ctx, g.Loop(i), func(ctx context.Context) (int, error) {
				start(loop(t, ctx).Context(), func(ctx context.Context) error {
					err := asyncio.Sleep(ctx, time.Hour)
					_, e := asyncio.Call(ctx, g.Loop(0), func(ctx context.Context) (int, error) {
						note("clean-up answered")
						return 0, asyncio.Sleep(ctx, time.Millisecond)
					})
					if e != nil {
						t.Errorf("cleaning up: %v", e)
					}
					return err
				})
				return 0, asyncio.Sleep(ctx, 0)
			})
			if err != nil {
				return err
			}
		}
		note("main ends")
		return nil
	})
	equal(t, "order", got, []string{"main ends", "clean-up answered", "clean-up answered"})
}

func TestLoopGroup_ErrorsAndPanicsOfMain(t *testing.T) {
	_, err := asyncio.RunLoopGroup(t.Context(), 2, func(ctx context.Context, g *asyncio.LoopGroup) (int, error) { return 0, errTest })
	if err != errTest {
		t.Errorf("err = %v", err)
	}
	_, err = asyncio.RunLoopGroup(t.Context(), 2, func(ctx context.Context, g *asyncio.LoopGroup) (int, error) { panic("boom") },
		asyncio.LoopFactory(quietLoop))
	if p := (*asyncio.PanicError)(nil); !errors.As(err, &p) || p.Value != "boom" {
		t.Errorf("err = %v", err)
	}
	err = nil
	ctx, cancel := context.WithCancel(t.Context())
	_, err = asyncio.RunLoopGroup(ctx, 2, func(ctx context.Context, g *asyncio.LoopGroup) (int, error) {
		return asyncio.Call(ctx, g.Loop(1), func(ctx context.Context) (int, error) {
			cancel()
			return 0, asyncio.Sleep(ctx, time.Hour)
		})
	})
	if err != context.Canceled {
		t.Errorf("the end of the group's context: %v", err)
	}
}

// If a task halts its loop by Goexit, main is cancelled and the whole group ends (loopgroup 2).
func TestLoopGroup_GoexitElsewhere(t *testing.T) {
	_, err := asyncio.RunLoopGroup(t.Context(), 2, func(ctx context.Context, g *asyncio.LoopGroup) (int, error) {
		asyncio.StartCall(ctx, g.Loop(1), func(context.Context) (int, error) {
			runtime.Goexit()
			return 0, nil
		})
		return 0, asyncio.Sleep(ctx, time.Hour)
	}, asyncio.LoopFactory(quietLoop))
	if !errors.Is(err, asyncio.ErrCancelled) || !errors.Is(err, asyncio.ErrGoexit) {
		t.Errorf("err = %v", err)
	}
}

func TestLoopGroup_Listen(t *testing.T) {
	// the system deals the connections out; for unix a goroutine does
	for _, network := range []string{"tcp", "unix"} {
		if network == "unix" && runtime.GOOS == "windows" {
			continue // the path of a temporary directory may be too long there
		}
		t.Run(network, func(t *testing.T) {
			withLoops(t, 3, func(ctx context.Context, g *asyncio.LoopGroup) error {
				address := "127.0.0.1:0"
				if network == "unix" {
					address = t.TempDir() + "/s"
				}
				listeners, err := g.Listen(ctx, network, address)
				if err != nil {
					return err
				}
				if len(listeners) != g.Len() {
					return fmt.Errorf("%d listeners", len(listeners))
				}
				const clients = 60
				// the number of loops whose listener will be closed: one loop can serve all clients
				// before the next begins
				var entered atomic.Int32
				serving := start(ctx, func(ctx context.Context) error {
					return g.Each(ctx, func(ctx context.Context, i int) error {
						ln := listeners[i]
						defer ln.Close()
						entered.Add(1)
						if ln.Addr().String() != listeners[0].Addr().String() {
							t.Errorf("listens at %v and %v", ln.Addr(), listeners[0].Addr())
						}
						return asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg *asyncio.TaskGroup) error {
							for {
								c, err := ln.AcceptContext(ctx)
								if err != nil {
									return err
								}
								tg.CreateTask(ctx, func(ctx context.Context) error {
									defer c.Close()
									_, err := fmt.Fprintf(c, "loop %d", where(t, ctx, g))
									return err
								})
							}
						})
					})
				})
				seen := make(map[string]int)
				var asking []*asyncio.Task[asyncio.None]
				for range clients {
					asking = append(asking, start(ctx, func(ctx context.Context) error {
						c, err := asyncio.Dial(ctx, network, listeners[0].Addr().String())
						if err != nil {
							return err
						}
						defer c.Close()
						b, err := io.ReadAll(c)
						seen[string(b)]++
						return err
					}))
				}
				if _, err := asyncio.Gather(ctx, asking...); err != nil {
					return err
				}
				total := 0
				for who, n := range seen {
					total += n
					if !strings.HasPrefix(who, "loop ") {
						t.Errorf("answer %q", who)
					}
				}
				if total != clients || network == "tcp" && len(seen) != g.Len() {
					t.Errorf("%d answers by %v", total, seen)
				}
				for int(entered.Load()) < g.Len() {
					if err := asyncio.Sleep(ctx, time.Millisecond); err != nil {
						return err
					}
				}
				serving.Cancel()
				if err := ended(ctx, serving); !errors.Is(err, asyncio.ErrCancelled) {
					return err
				}
				if c, err := asyncio.Dial(ctx, network, listeners[0].Addr().String()); err == nil {
					c.Close()
					t.Error("somebody still listens")
				}
				return nil
			})
		})
	}
}

func TestLoopGroup_ListenFails(t *testing.T) {
	withLoops(t, 2, func(ctx context.Context, g *asyncio.LoopGroup) error {
		if ls, err := g.Listen(ctx, "tcp", "256.0.0.1:0"); err == nil || len(ls) != 0 {
			t.Errorf("%v, %v", ls, err)
		}
		if ls, err := g.Listen(ctx, "unix", t.TempDir()+"/no/s"); err == nil || len(ls) != 0 {
			t.Errorf("%v, %v", ls, err)
		}
		return nil
	})
}
