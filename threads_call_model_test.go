package asyncio_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
)

// A modelCall is one call of a coroutine. The coroutine is entered at most once, with a context
// that has the caller's values, and not at all if the caller's context has ended. The call is over
// when the coroutine has ended, and then its context has ended too.
type modelCall struct {
	entered, left bool
	panicked      bool
	result        int
	err           error
	ctx           context.Context
}

type callModel struct {
	*modelRun
	calls []*modelCall
	next  int
}

// coroutine makes a coroutine that works for a while. t is the only task that can cancel it, or nil
// if others can too.
func (m *callModel) coroutine(t *modelTask, c *modelCall, from context.Context, depth int) asyncio.Coroutine[int] {
	m.calls = append(m.calls, c)
	m.next++
	v, refuses, cleansUp, fails, panics := m.next, m.chance(4), m.chance(3), m.chance(4), m.chance(10)
	return func(ctx context.Context) (_ int, err error) {
		if c.entered || from.Err() != nil || ctx.Value(ctxKey{}) != "caller" {
			m.complain("entered twice: %v; the caller's context: %v; value: %v", c.entered, from.Err(), ctx.Value(ctxKey{}))
		}
		c.entered, c.ctx = true, ctx
		defer func() { c.left, c.err = true, err; m.moves++ }()
		for range m.r.IntN(4) {
			switch {
			case depth > 0 && m.chance(4):
				_, err = m.call(t, ctx, depth-1)
			default:
				err = asyncio.Sleep(ctx, time.Duration(max(0, m.r.IntN(6)-3))*time.Millisecond)
			}
			if err == nil || errors.Is(err, errTest) {
				continue
			}
			if refuses && ctx.Err() == nil && errors.Is(err, asyncio.ErrCancelled) {
				if t != nil {
					t.pending = false // the cancel has been delivered
				}
				continue
			}
			if cleansUp && ctx.Err() == nil {
				e := asyncio.Sleep(ctx, time.Millisecond)
				if errors.Is(e, asyncio.ErrCancelled) && !errors.Is(err, asyncio.ErrCancelled) && t != nil {
					t.pending = false
				}
			}
			return 0, err
		}
		if panics {
			m.panicked++
			c.panicked = true
			panic(errTest)
		}
		if fails {
			return 0, errTest
		}
		c.result = v
		return v, nil
	}
}

// call makes a call from a task, or from a coroutine that the task has called.
func (m *callModel) call(t *modelTask, ctx context.Context, depth int) (int, error) {
	limited, cancel := asyncio.WithCancel(context.WithValue(ctx, ctxKey{}, "caller"))
	defer cancel()
	if m.chance(3) {
		m.l.CallLater(time.Duration(m.r.IntN(4)-1)*time.Millisecond, func() { m.moves++; cancel() })
	}
	c := new(modelCall)
	v, err := asyncio.Call(limited, m.l, m.coroutine(t, c, limited, depth))
	m.note("task %d: a call in depth %d returns %d, %v", t.n, depth, v, err)
	switch {
	case c.entered && !c.left:
		m.complain("task %d: the call is over, its coroutine is not", t.n)
	case c.entered && c.ctx.Err() == nil:
		m.complain("task %d: the call is over, its context is not", t.n)
	case !c.entered && err == nil:
		m.complain("task %d: a coroutine that was not run has the result %d", t.n, v)
	// the cancel replaces what the coroutine returned
	case err != nil && errors.Is(err, asyncio.ErrCancelled) && t.pending:
	case c.panicked:
		var p *asyncio.PanicError
		if !errors.As(err, &p) || p.Value != errTest {
			m.complain("task %d: the coroutine panicked, the call returns %d, %v", t.n, v, err)
		}
	case c.entered && (v != c.result || err != c.err):
		m.complain("task %d: the call returns %d, %v; the coroutine %d, %v", t.n, v, err, c.result, c.err)
	}
	return v, err
}

// begin starts a call and looks at its result in one of several ways, or not at all.
func (m *callModel) begin(t *modelTask) error {
	c := new(modelCall)
	from := context.WithValue(m.l.Context(), ctxKey{}, "caller")
	var limited context.Context = from
	if m.chance(2) {
		var cancel context.CancelFunc
		limited, cancel = asyncio.WithCancel(from)
		m.l.CallLater(time.Duration(m.r.IntN(4)-1)*time.Millisecond, cancel)
	}
	f := asyncio.StartCall(limited, m.l, m.coroutine(nil, c, limited, 0))
	how := m.r.IntN(4)
	if how == 0 {
		return nil
	}
	if err := m.pause(t); err != nil {
		return err
	}
	var v int
	var err error
	switch how {
	case 1:
		err = m.while(t, "Await", func() string { return reasonIf(f.Done(), "it is done") }, func() error { v, err = f.Await(t.ctx); return err })
	case 2:
		before := f.Done()
		if f.Cancel("stop") == before {
			m.complain("Cancel reports %v", !before)
		}
		v, err = f.Await(t.ctx)
		var e *asyncio.CancelledError
		if !before && t.ctx.Err() == nil && (!errors.As(err, &e) || e.Msg != "stop") {
			m.complain("a call that was cancelled: %d, %v", v, err)
		}
		if errors.As(err, &e) && e.Msg == "stop" {
			return nil
		}
	case 3:
		done := asyncio.OnDone[int](f)
		err = m.while(t, "Select", func() string { return "it has a timeout" }, func() error {
			_, err := asyncio.Select(t.ctx, done, asyncio.OnTimeout(time.Millisecond))
			return err
		})
		if err == nil {
			v, err = done.Result()
			if errors.Is(err, asyncio.ErrInvalidState) {
				return nil
			}
		}
	}
	if err == nil && (v != c.result || !c.left) {
		m.complain("task %d: %d, the coroutine returned %d", t.n, v, c.result)
	}
	if c.panicked && errors.Is(err, errTest) || c.left && c.err != nil && err == c.err || limited.Err() != nil && errors.Is(err, context.Canceled) && !errors.Is(err, asyncio.ErrCancelled) {
		return nil
	}
	return err
}

func reasonIf(yes bool, why string) string {
	if yes {
		return why
	}
	return ""
}

func TestCall_Model(t *testing.T) {
	checkModel(t, 17, func(run *modelRun) {
		m := &callModel{modelRun: run}
		for range 1 + m.r.IntN(3) {
			m.start(1+m.r.IntN(4), func(t *modelTask) error {
				switch m.r.IntN(4) {
				case 0, 1:
					return m.while(t, "Call", func() string { return "its coroutine sleeps only" }, func() error {
						_, err := m.call(t, t.ctx, 2)
						// the second is the end of the limited context
						if errors.Is(err, errTest) || t.ctx.Err() == nil && err == context.Canceled {
							return nil
						}
						return err
					})
				case 2:
					return m.begin(t)
				}
				m.disturb()
				return m.pause(t)
			})
		}
		m.over = func() {
			for i, c := range m.calls {
				if c.entered && (!c.left || c.ctx.Err() == nil) {
					m.complain("call %d has not ended, or its context has not", i)
				}
			}
		}
	}, panicsInTasks)
}

// Between loops nothing has a fixed order. So the test runs many programs and counts the ones that
// break a promise.
func TestCall_ModelBetweenLoops(t *testing.T) {
	differ, found := 0, uint64(0)
	withLoops(t, 3, func(ctx context.Context, g *asyncio.LoopGroup) error {
		for i := range g.Len() {
			g.Loop(i).SetDebug(false)
		}
		for seed := uint64(0); seed < modelPrograms() || found == 0 && seed < modelPrograms()+2000; seed++ {
			m := &crossing{g: g, seed: seed}
			if err := m.run(ctx); err != nil {
				return err
			}
			found += m.found.Load()
			if len(m.wrong) > 0 {
				differ++
				if differ == 1 {
					t.Errorf("seed %d: %q", seed, m.wrong)
				}
			}
		}
		return nil
	})
	if found == 0 {
		t.Error("no cancel has found a coroutine at work on another loop")
	}
	t.Logf("%d programs, %d differ from the model; %d cancels found a coroutine at work on another loop", modelPrograms(), differ, found)
}

// A crossing is a random program of calls from loop to loop, with cancels.
type crossing struct {
	g     *asyncio.LoopGroup
	seed  uint64
	calls atomic.Uint64
	// calls that returned the end of their context; a cancel no longer takes its place
	ends  atomic.Uint64
	found atomic.Uint64 // cancels that found a coroutine at work which another loop had called
	mu    sync.Mutex
	wrong []string
}

func (m *crossing) complain(format string, args ...any) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.wrong = append(m.wrong, fmt.Sprintf(format, args...))
}

func (m *crossing) run(ctx context.Context) error {
	r := rand.New(rand.NewPCG(19, m.seed))
	type caller struct {
		c         *asyncio.ConcurrentFuture[int]
		task      atomic.Pointer[asyncio.Task[asyncio.None]]
		cancelled atomic.Int32 // requested
		delivered atomic.Int32
	}
	var callers []*caller
	for range 1 + r.IntN(3) {
		k := new(caller)
		own := rand.New(rand.NewPCG(m.seed, r.Uint64()))
		k.c = asyncio.StartCall(ctx, m.g.Loop(r.IntN(m.g.Len())), func(ctx context.Context) (int, error) {
			task := start(ctx, func(ctx context.Context) error {
				for range 1 + own.IntN(3) {
					if err := m.call(ctx, own, 3); errors.Is(err, asyncio.ErrCancelled) {
						k.delivered.Add(1)
						if own.IntN(2) == 0 {
							return err
						}
					}
				}
				return nil
			})
			k.task.Store(task)
			_, err := task.Await(context.WithoutCancel(ctx))
			if errors.Is(err, asyncio.ErrCancelled) {
				if k.delivered.Load() == 0 {
					k.delivered.Add(1) // before the task began, or after its calls had ended
				}
				err = nil
			}
			return 0, err
		})
		callers = append(callers, k)
	}
	for range r.IntN(6) {
		k := callers[r.IntN(len(callers))]
		for range r.IntN(3) {
			if err := asyncio.Sleep(ctx, moment(r)); err != nil {
				return err
			}
		}
		if task := k.task.Load(); task != nil {
			_, err := task.GetLoop().CallSoonThreadsafe(func() {
				if task.Cancel() {
					k.cancelled.Add(1)
				}
			})
			if err != nil {
				return err
			}
		}
	}
	for _, k := range callers {
		if _, err := k.c.Await(ctx); err != nil {
			return err
		}
		asked, came := k.cancelled.Load(), k.delivered.Load()
		if came > asked || asked > 0 && came == 0 && m.ends.Load() == 0 {
			m.complain("%d cancels asked for, %d delivered", asked, came)
		}
	}
	return nil
}

// moment is no time, or enough for something to get from one loop to another.
func moment(r *rand.Rand) time.Duration {
	return time.Duration(max(0, r.IntN(60)-30)) * time.Microsecond
}

// call calls another loop, or this one. The coroutine may call in turn.
func (m *crossing) call(ctx context.Context, r *rand.Rand, depth int) error {
	to, seed, ends := m.g.Loop(r.IntN(m.g.Len())), r.Uint64(), r.IntN(4) == 0
	id := m.calls.Add(1)
	limited := context.WithValue(ctx, ctxKey{}, id)
	if ends {
		var cancel context.CancelFunc
		limited, cancel = asyncio.WithTimeout(limited, time.Duration(r.IntN(100))*time.Microsecond)
		defer cancel()
	}
	var entered, left atomic.Bool
	var inner context.Context
	var made error
	from, _ := asyncio.GetRunningLoop(ctx)
	v, err := asyncio.Call(limited, to, func(ctx context.Context) (_ uint64, err error) {
		own := rand.New(rand.NewPCG(seed, 1))
		if l, _ := asyncio.GetRunningLoop(ctx); l != to || entered.Swap(true) || ctx.Value(ctxKey{}) != id {
			m.complain("on another loop, twice, or without the caller's values")
		}
		inner = ctx
		defer func() { made = err; left.Store(true) }()
		for range own.IntN(3) {
			if depth > 0 && own.IntN(2) == 0 {
				err = m.call(ctx, own, depth-1)
			} else {
				err = asyncio.Sleep(ctx, moment(own))
				if to != from && errors.Is(err, asyncio.ErrCancelled) {
					m.found.Add(1)
				}
			}
			if err != nil {
				if own.IntN(2) == 0 {
					_ = asyncio.Sleep(context.WithoutCancel(ctx), 0) // cleans up
				}
				return 0, err
			}
		}
		return id, nil
	})
	switch {
	case entered.Load() != left.Load():
		m.complain("the call is over, its coroutine is not")
	case err == nil && (!left.Load() || v != id || made != nil):
		m.complain("%d, want %d; the coroutine returned %v", v, id, made)
	case left.Load() && inner.Err() == nil:
		m.complain("the call is over, its context is not")
	case left.Load() && err != made && !errors.Is(err, asyncio.ErrCancelled):
		m.complain("%v, but the coroutine returned %v", err, made)
	case !left.Load() && limited.Err() == nil && !errors.Is(err, asyncio.ErrCancelled):
		m.complain("not run: %v", err)
	}
	if err != nil && !errors.Is(err, asyncio.ErrCancelled) {
		m.ends.Add(1)
	}
	if err != nil && !errors.Is(err, asyncio.ErrCancelled) && ctx.Err() == nil {
		return nil // the end of the limited context
	}
	return err
}
