package asyncio_test

import (
	"context"
	"runtime/pprof"
	"strings"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
)

// labelsHere returns the labels of the calling goroutine as the profile of goroutines shows them,
// or "" if there are none.
//
//go:noinline
func labelsHere(t *testing.T) string {
	t.Helper()
	for record := range strings.SplitSeq(goroutineProfile(t), "\n\n") {
		if !strings.Contains(record, "asyncio_test.labelsHere") {
			continue
		}
		_, labels, _ := strings.Cut(record, "# labels: ")
		labels, _, _ = strings.Cut(labels, "\n")
		return labels
	}
	t.Fatal("the profile has no goroutine that asks for it")
	return ""
}

func goroutineProfile(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	must(t, pprof.Lookup("goroutine").WriteTo(&b, 1))
	return b.String()
}

func wantLabels(t *testing.T, who, want string) {
	t.Helper()
	if got := labelsHere(t); got != want {
		t.Errorf("%s has the labels %q, want %q", who, got, want)
	}
}

// labelled sets labels as one does at the top of a goroutine.
func labelled(ctx context.Context) {
	pprof.SetGoroutineLabels(pprof.WithLabels(ctx, pprof.Labels("req", "42")))
}

// nowhereLabelled checks that no goroutine, not even an idle one, has the labels of labelled.
func nowhereLabelled(t *testing.T) {
	t.Helper()
	for record := range strings.SplitSeq(goroutineProfile(t), "\n\n") {
		if strings.Contains(record, `"req":"42"`) {
			t.Errorf("a label has stayed:\n%s", record)
		}
	}
}

// Labels that a task, callback or thread function sets are gone when it has ended, however it was
// run (label 1, label 2).
func TestLabels_AreNotLeftBehind(t *testing.T) {
	const mine = `{"req":"42"}`
	for name, use := range map[string]func(t *testing.T, ctx context.Context) error{
		"awaited at once": func(t *testing.T, ctx context.Context) error {
			return ended(ctx, asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error {
				labelled(ctx)
				wantLabels(t, "the task", mine)
				return nil
			})))
		},
		"nested": func(t *testing.T, ctx context.Context) error {
			return ended(ctx, asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error {
				err := ended(ctx, asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error {
					labelled(ctx)
					return nil
				})))
				wantLabels(t, "the task in the middle", "")
				return err
			})))
		},
		"suspended": func(t *testing.T, ctx context.Context) error {
			return ended(ctx, asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error {
				labelled(ctx)
				other := asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error {
					wantLabels(t, "another task", "")
					return asyncio.Sleep(ctx, time.Second)
				}))
				must(t, asyncio.Sleep(ctx, time.Second))
				wantLabels(t, "the task after a sleep", mine)
				err := ended(ctx, other)
				wantLabels(t, "the task after another", mine)
				return err
			})))
		},
		"eager": func(t *testing.T, ctx context.Context) error {
			task := asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error {
				labelled(ctx)
				return asyncio.Sleep(ctx, time.Second)
			}), asyncio.EagerStart(true))
			wantLabels(t, "who started it", "")
			return ended(ctx, task)
		},
		"panic": func(t *testing.T, ctx context.Context) error {
			loop(t, ctx).SetExceptionHandler(func(*asyncio.EventLoop, asyncio.ExceptionContext) {})
			defer loop(t, ctx).SetExceptionHandler(nil)
			if ended(ctx, asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error {
				labelled(ctx)
				panic("labelled")
			}))) == nil {
				t.Error("no error")
			}
			return nil
		},
		"callback": func(t *testing.T, ctx context.Context) error {
			loop(t, ctx).CallSoon(func() { labelled(ctx) })
			loop(t, ctx).CallSoon(func() { wantLabels(t, "the next callback", "") })
			return asyncio.Sleep(ctx, time.Second)
		},
		"thread": func(t *testing.T, ctx context.Context) error {
			loop(t, ctx).SetDefaultExecutor(asyncio.NewThreadPoolExecutor(1))
			for _, set := range []bool{true, false} {
				_, err := asyncio.ToThread(ctx, func(ctx context.Context) (asyncio.None, error) {
					wantLabels(t, "a thread function", "")
					if set {
						labelled(ctx)
					}
					return asyncio.None{}, nil
				})
				must(t, err)
			}
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			run(t, func(ctx context.Context) error {
				must(t, use(t, ctx))
				wantLabels(t, "the task that goes on", "")
				must(t, ended(ctx, asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error {
					wantLabels(t, "a later task", "")
					must(t, asyncio.Sleep(ctx, time.Second))
					wantLabels(t, "a later task after a sleep", "")
					return nil
				}))))
				loop(t, ctx).CallSoon(func() { wantLabels(t, "a later callback", "") })
				must(t, asyncio.Sleep(ctx, time.Second))
				nowhereLabelled(t)
				return nil
			})
		})
	}
}

// A goroutine of an executor passes no labels on from one job to the next, even if the loop has
// never met labels and so does not ask for that.
func TestLabels_OfAnExecutor(t *testing.T) {
	run(t, func(ctx context.Context) error {
		e, next := asyncio.NewThreadPoolExecutor(1), make(chan struct{})
		loop(t, ctx).SetDefaultExecutor(e)
		must(t, e.Submit(func() {
			labelled(t.Context())
			<-next
		}))
		loop(t, ctx).CallSoon(func() { close(next) }) // the thread function is queued by then
		_, err := asyncio.ToThread(ctx, func(context.Context) (asyncio.None, error) {
			wantLabels(t, "a thread function", "")
			return asyncio.None{}, nil
		})
		return err
	})
}

// A task, callback or thread function made with a labelled context has its labels; nothing else has
// them (label 1).
func TestLabels_AreThoseOfTheContext(t *testing.T) {
	run(t, func(ctx context.Context) error {
		plain := ctx
		const theirs = `{"req":"42"}`
		expect := func(who, want string) asyncio.Coroutine[asyncio.None] {
			return asyncio.Do(func(ctx context.Context) error {
				wantLabels(t, who, want)
				err := asyncio.Sleep(ctx, time.Second)
				wantLabels(t, who+" after a sleep", want)
				return err
			})
		}
		pprof.Do(ctx, pprof.Labels("req", "42"), func(ctx context.Context) {
			child := asyncio.CreateTask(ctx, expect("a child", theirs))
			other := asyncio.CreateTask(plain, expect("a child with another context", ""))
			must(t, ended(ctx, child))
			must(t, ended(plain, other))
			wantLabels(t, "the parent", theirs)
			must(t, ended(plain, asyncio.CreateTask(plain, expect("another child with another context", ""))))
			wantLabels(t, "the parent after another await", theirs)
			must(t, ended(ctx, asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error {
				loop(t, ctx).CallSoon(func() { wantLabels(t, "a callback", theirs) })
				return asyncio.Sleep(ctx, time.Second)
			}))))
			loop(t, ctx).SetDefaultExecutor(asyncio.NewThreadPoolExecutor(1))
			for _, c := range []struct {
				ctx  context.Context
				want string
			}{{ctx, theirs}, {plain, ""}, {ctx, theirs}} {
				_, err := asyncio.ToThread(c.ctx, func(context.Context) (asyncio.None, error) {
					wantLabels(t, "a thread function", c.want)
					return asyncio.None{}, nil
				})
				must(t, err)
			}
			must(t, asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg *asyncio.TaskGroup) error {
				tg.CreateTask(ctx, func(context.Context) error {
					wantLabels(t, "a child of a group", theirs)
					return nil
				})
				return nil
			}))
		})
		wantLabels(t, "the parent after all", "")
		nowhereLabelled(t)
		return nil
	})
}

// Everything that a loop runs has the labels of the context that the loop was made with. The labels
// of the goroutine that runs the loop play no part (label 1).
func TestLabels_OfTheLoop(t *testing.T) {
	for name, c := range map[string]struct {
		loop, caller context.Context
		want         string
	}{
		"context":   {pprof.WithLabels(t.Context(), pprof.Labels("loop", "a")), t.Context(), `{"loop":"a"}`},
		"goroutine": {t.Context(), pprof.WithLabels(t.Context(), pprof.Labels("caller", "b")), ""},
	} {
		t.Run(name, func(t *testing.T) {
			defer pprof.SetGoroutineLabels(t.Context())
			pprof.SetGoroutineLabels(c.caller)
			_, err := asyncio.Run(onVirtualTime(c.loop, new(reports)), asyncio.Do(func(ctx context.Context) error {
				wantLabels(t, "main", c.want)
				must(t, ended(ctx, asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error {
					labelled(ctx)
					return nil
				}))))
				wantLabels(t, "main after a task", c.want)
				_, err := loop(t, ctx).CallSoonThreadsafe(func() { wantLabels(t, "a callback", c.want) })
				must(t, err)
				return asyncio.Sleep(ctx, time.Second)
			}))
			must(t, err)
		})
	}
}

// wantNames is wantLabels without the label of the coroutine.
func wantNames(t *testing.T, who, want string) {
	t.Helper()
	labels := labelsHere(t)
	if before, after, ok := strings.Cut(labels, `"coroutine":"`); ok {
		_, after, _ = strings.Cut(after, `", `)
		labels = before + after
	}
	if labels != want {
		t.Errorf("%s has the labels %q, want %q", who, labels, want)
	}
}

func TestLabels_NameTheTask(t *testing.T) {
	main := func(ctx context.Context) error {
		const task = `{"task":"fetch"}`
		fetch := asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error {
			wantLabels(t, "the task", `{"coroutine":"asyncio_test.TestLabels_NameTheTask.func1.1", "task":"fetch"}`)
			must(t, asyncio.Sleep(ctx, time.Second))
			wantNames(t, "the task after a sleep", task)
			must(t, ended(ctx, asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error {
				wantNames(t, "its child", `{"task":"parse"}`)
				return nil
			}), asyncio.TaskName("parse"))))
			wantNames(t, "the task after its child", task)
			pprof.Do(ctx, pprof.Labels("req", "42"), func(ctx context.Context) {
				wantNames(t, "the task in pprof.Do", `{"req":"42", "task":"fetch"}`)
				_, err := asyncio.ToThread(ctx, func(context.Context) (asyncio.None, error) { return asyncio.None{}, nil })
				must(t, err)
			})
			wantNames(t, "the task after pprof.Do", task)
			if got, _ := pprof.Label(asyncio.CurrentTask(ctx).GetContext(), "task"); got != "fetch" {
				t.Errorf("the task's context says %q", got)
			}
			return nil
		}), asyncio.TaskName("fetch"))
		must(t, ended(ctx, fetch))
		must(t, ended(ctx, asyncio.CreateTask(ctx, asyncio.Do(func(context.Context) error {
			wantNames(t, "a task without a name of its own", `{"task":"Task-2"}`)
			return nil
		}))))
		return asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg *asyncio.TaskGroup) error {
			asyncio.GroupTask(ctx, tg, asyncio.Do(func(context.Context) error {
				wantNames(t, "a child of a group", `{"task":"child"}`)
				return nil
			}), asyncio.TaskName("child"))
			return nil
		})
	}
	t.Run("option", func(t *testing.T) {
		_, err := asyncio.Run(onVirtualTime(t.Context(), new(reports)), asyncio.Do(func(ctx context.Context) error {
			wantNames(t, "main", `{"task":"Task-1"}`)
			return main(ctx)
		}), asyncio.LabelTasks(true))
		must(t, err)
	})
	t.Run("in the run", func(t *testing.T) {
		run(t, func(ctx context.Context) error {
			loop(t, ctx).SetTaskLabels(true)
			must(t, main(ctx))
			loop(t, ctx).SetTaskLabels(false)
			return ended(ctx, asyncio.CreateTask(ctx, asyncio.Do(func(context.Context) error {
				wantLabels(t, "a task after that", "")
				return nil
			})))
		})
	})
}

// Labels of a context from elsewhere are respected too, once the loop knows that labels may exist
// (label 3).
func TestLabels_OfOtherContexts(t *testing.T) {
	preset := pprof.WithLabels(t.Context(), pprof.Labels("req", "42"))
	run(t, func(ctx context.Context) error {
		loop(t, ctx).SetTaskLabels(true)
		loop(t, ctx).SetTaskLabels(false)
		must(t, ended(ctx, asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error {
			pprof.SetGoroutineLabels(preset)
			return nil
		}))))
		pprof.SetGoroutineLabels(preset)
		must(t, ended(ctx, asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error {
			wantLabels(t, "a child", "")
			return nil
		}))))
		wantLabels(t, "the parent", `{"req":"42"}`)
		pprof.SetGoroutineLabels(ctx)
		nowhereLabelled(t)
		return nil
	})
}

type secretive struct {
	context.Context
	panics *bool
}

func (c secretive) Value(key any) any {
	if *c.panics {
		panic("no value")
	}
	return c.Context.Value(key)
}

// If a context panics when asked for its labels, its task has no labels, and nothing else happens.
func TestLabels_OfAContextThatPanics(t *testing.T) {
	run(t, func(ctx context.Context) error {
		pprof.Do(ctx, pprof.Labels("req", "42"), func(ctx context.Context) {
			panics := false
			task := asyncio.CreateTask(secretive{ctx, &panics}, asyncio.Do(func(context.Context) error {
				panics = false
				wantLabels(t, "the task", "")
				return nil
			}))
			panics = true
			must(t, ended(ctx, task))
		})
		return nil
	})
}
