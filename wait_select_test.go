package asyncio_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
)

// A source is something that a branch and its rival wait for. The rival is a task behind the branch
// in every queue. What trigger gives goes to exactly one of them.
type source struct {
	c       asyncio.AnyCase
	rival   func(ctx context.Context) error // a nil error means that the rival got it
	trigger func()
	shared  bool // both get it
	// wrong describes what is wrong at the end, when nobody waits any more.
	wrong func() string
	// got reports whether the branch got it. A coroutine may get it without winning, or win with an
	// error without getting it. Nil: the branch got it if it won.
	got func() bool
}

var sources = map[string]func(t *testing.T, ctx context.Context) source{
	"get": func(t *testing.T, ctx context.Context) source {
		q := asyncio.NewQueue[int](0)
		return source{c: asyncio.OnGet(q), rival: func(ctx context.Context) error { _, err := q.Get(ctx); return err },
			trigger: func() { must(t, q.PutNowait(1)) },
			wrong:   func() string { return unless(q.Statistics().Getters == 0, q) }}
	},
	"put": func(t *testing.T, ctx context.Context) source {
		q := asyncio.NewLifoQueue[int](1)
		must(t, q.PutNowait(0))
		return source{c: asyncio.OnPut(q, 1), rival: func(ctx context.Context) error { return q.Put(ctx, 2) },
			trigger: func() { _, err := q.GetNowait(); must(t, err) },
			wrong:   func() string { return unless(q.Statistics().Putters == 0 && q.Full(), q) }}
	},
	"lock": func(t *testing.T, ctx context.Context) source {
		var l asyncio.Lock
		must(t, l.Acquire(ctx))
		return source{c: asyncio.OnAcquire(&l), rival: l.Acquire, trigger: l.Release,
			wrong: func() string { return unless(len(l.Statistics().Waiters) == 0 && l.Locked(), &l) }}
	},
	"semaphore": func(t *testing.T, ctx context.Context) source {
		s := asyncio.NewBoundedSemaphore(1)
		must(t, s.Acquire(ctx))
		return source{c: asyncio.OnAcquire(s), rival: s.Acquire, trigger: s.Release,
			wrong: func() string { st := s.Statistics(); return unless(len(st.Waiters) == 0 && st.Value == 0, s) }}
	},
	"recv": func(t *testing.T, ctx context.Context) source {
		ch := make(chan int, 1)
		return source{c: asyncio.OnRecv(ch), rival: func(ctx context.Context) error { _, _, err := asyncio.Recv(ctx, ch); return err },
			trigger: func() { ch <- 1 },
			wrong:   func() string { return unless(len(ch) == 0, "not received") }}
	},
	"send": func(t *testing.T, ctx context.Context) source {
		ch := make(chan int, 1)
		ch <- 0
		return source{c: asyncio.OnSend(ch, 1), rival: func(ctx context.Context) error { return asyncio.Send(ctx, ch, 2) },
			trigger: func() { <-ch },
			wrong:   func() string { return unless(len(ch) == 1, "not sent") }}
	},
	"recv, unbuffered": func(t *testing.T, ctx context.Context) source {
		ch := make(chan int)
		var sent bool
		return source{c: asyncio.OnRecv(ch), rival: func(ctx context.Context) error { _, _, err := asyncio.Recv(ctx, ch); return err },
			trigger: func() {
				asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error {
					err := asyncio.Send(ctx, ch, 1)
					sent = true
					return err
				}))
			},
			wrong: func() string { return unless(sent, "not sent") }}
	},
	"send, unbuffered": func(t *testing.T, ctx context.Context) source {
		ch := make(chan int)
		var got bool
		return source{c: asyncio.OnSend(ch, 1), rival: func(ctx context.Context) error { return asyncio.Send(ctx, ch, 2) },
			trigger: func() {
				asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error {
					_, _, err := asyncio.Recv(ctx, ch)
					got = true
					return err
				}))
			},
			wrong: func() string { return unless(got, "not received") }}
	},
	"future": func(t *testing.T, ctx context.Context) source {
		f := asyncio.CreateFuture[int](ctx)
		return source{c: asyncio.OnDone(f), rival: awaiting(f), trigger: func() { must(t, f.SetResult(1)) }, shared: true,
			wrong: func() string { return unless(f.Done() && !f.Cancelled(), f) }}
	},
	"task": func(t *testing.T, ctx context.Context) source {
		f := asyncio.CreateFuture[int](ctx)
		task := asyncio.CreateTask(ctx, f.Await)
		return source{c: asyncio.OnDone(task), rival: awaiting(task), trigger: func() { must(t, f.SetResult(1)) }, shared: true,
			wrong: func() string { return unless(task.Done() && !task.Cancelled(), task) }}
	},
	"coroutine": func(t *testing.T, ctx context.Context) source {
		q := asyncio.NewQueue[int](0)
		c := asyncio.OnDone(asyncio.Coroutine[int](q.Get))
		return source{c: c, rival: func(ctx context.Context) error { _, err := q.Get(ctx); return err },
			trigger: func() { must(t, q.PutNowait(1)) },
			wrong:   func() string { return unless(q.Statistics().Getters == 0, q) },
			got:     func() bool { _, err := c.Result(); return err == nil }}
	},
}

func unless(ok bool, what any) string {
	if ok {
		return ""
	}
	return fmt.Sprint(what)
}

func sourceNames() []string {
	var names []string
	for name := range sources {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// A selectProgram is one Select of two sources with the iteration of each event, -1 for never.
// Events of one iteration come in the given order.
type selectProgram struct {
	kinds  [2]string
	at     [3]int // of the first trigger, the second trigger, and the cancel
	order  [3]int
	endCtx bool // end the context instead of a cancel
}

func (p selectProgram) run(t *testing.T, ctx context.Context) {
	t.Helper()
	complain := func(format string, args ...any) {
		t.Helper()
		t.Fatalf("%+v: %s", p, fmt.Sprintf(format, args...))
	}
	src := [2]source{sources[p.kinds[0]](t, ctx), sources[p.kinds[1]](t, ctx)}
	inner, end := asyncio.WithCancel(ctx)
	defer end()
	var won asyncio.AnyCase
	var err, next error
	over := false
	task := asyncio.CreateTask(inner, asyncio.Do(func(ctx context.Context) error {
		won, err = asyncio.Select(ctx, src[0].c, src[1].c)
		over = true
		next = asyncio.Sleep(ctx, 0)
		return nil
	}))
	must(t, asyncio.Sleep(ctx, 0))
	var rivals [2]tasked
	for i := range src {
		rivals[i] = start(ctx, src[i].rival)
	}
	must(t, asyncio.Sleep(ctx, 0))
	must(t, asyncio.Sleep(ctx, 0))

	cancelled, overBefore := false, false
	for tick := range 10 {
		for _, e := range p.order {
			switch {
			case p.at[e] != tick:
			case e < 2:
				src[e].trigger()
			default:
				cancelled, overBefore = !task.Done(), over
				if p.endCtx {
					end()
				} else {
					task.Cancel()
				}
			}
		}
		must(t, asyncio.Sleep(ctx, 0))
	}
	triggered := [2]bool{p.at[0] >= 0, p.at[1] >= 0}
	if !over && (triggered[0] || triggered[1] || cancelled) {
		complain("Select still waits")
	}
	if over && (won == nil) == (err == nil) {
		complain("Select = %v, %v", won, err)
	}
	if over && !cancelled && err != nil || err != nil && !errors.Is(err, context.Canceled) {
		complain("Select = %v, %v", won, err)
	}
	if cancelled && !overBefore && err == nil && !errors.Is(next, context.Canceled) {
		complain("the cancel is lost")
	}
	for i, s := range src {
		got, rival := won == s.c, rivals[i].Done()
		if s.got != nil {
			got = s.got()
		}
		switch {
		case !triggered[i] && (got || rival):
			complain("%s: got (%v by the branch, %v by the rival) though never given", p.kinds[i], got, rival)
		case triggered[i] && s.shared && !rival, triggered[i] && !s.shared && got == rival:
			complain("%s: given; got by the branch: %v, by the rival: %v", p.kinds[i], got, rival)
		}
	}
	// When every trigger has come, nothing is left over.
	for i, s := range src {
		if !triggered[i] {
			s.trigger()
		}
		settle(t, ctx)
		settle(t, ctx)
		if !rivals[i].Done() && won != s.c && !(s.got != nil && s.got()) {
			complain("%s: the rival waits for ever", p.kinds[i])
		}
		rivals[i].Cancel()
		must(t, asyncio.Sleep(ctx, 0))
		if w := s.wrong(); w != "" && !(won == nil && !over) {
			complain("%s: at the end: %s", p.kinds[i], w)
		}
	}
	if !task.Done() {
		task.Cancel()
		settle(t, ctx)
	}
	if !task.Done() {
		complain("it does not end")
	}
}

// Every pair of branch kinds is tried. The triggers come in every iteration, alone and together. A
// cancel, or the end of the context, comes in every iteration before, between and after them. A
// given thing goes once, to the winning branch or to the task behind it (select 2). No task waits
// for something that is there, and no cancel is lost.
func TestSelect_NothingIsLost(t *testing.T) {
	times := []int{-1, 0, 1, 2, 3}
	orders := [][3]int{{0, 1, 2}, {2, 0, 1}, {1, 2, 0}, {1, 0, 2}}
	if raceEnabled {
		times = []int{-1, 0, 1}
	}
	var r reports
	n := 0
	_, err := asyncio.Run(onVirtualTime(context.WithoutCancel(t.Context()), &r), asyncio.Do(func(ctx context.Context) error {
		for _, one := range sourceNames() {
			for _, two := range sourceNames() {
				for _, a := range times {
					for _, b := range times {
						for _, c := range times {
							for i, order := range orders {
								if i > 0 && a != b && a != c && b != c {
									continue // nothing to order
								}
								selectProgram{[2]string{one, two}, [3]int{a, b, c}, order, false}.run(t, ctx)
								n++
								if c >= 0 {
									selectProgram{[2]string{one, two}, [3]int{a, b, c}, order, true}.run(t, ctx)
									n++
								}
							}
						}
					}
				}
			}
		}
		return nil
	}))
	must(t, err)
	if m := r.messages(); len(m) > 0 {
		t.Errorf("exception handler: %v", m)
	}
	t.Logf("%d programs", n)
}

// If several branches are ready, the first of the arguments wins without suspending, and the others
// are untouched (select 1).
func TestSelect_FirstReadyInOrder(t *testing.T) {
	run(t, func(ctx context.Context) error {
		for _, one := range sourceNames() {
			for _, two := range sourceNames() {
				if one == "coroutine" || two == "coroutine" {
					continue // never ready at once
				}
				a, b := sources[one](t, ctx), sources[two](t, ctx)
				a.trigger()
				b.trigger()
				settle(t, ctx)
				others := false
				h := loop(t, ctx).CallSoon(func() { others = true })
				won, err := asyncio.Select(ctx, asyncio.OnDefault(), a.c, b.c)
				if won != a.c || err != nil || others {
					t.Errorf("%s, %s: %v, %v; suspended: %v", one, two, won == b.c, err, others)
				}
				h.Cancel()
				must(t, b.rival(ctx)) // still there
			}
		}
		return nil
	})
}

func TestSelect_Default(t *testing.T) {
	run(t, func(ctx context.Context) error {
		q := asyncio.NewQueue[int](0)
		ran := false
		coro := asyncio.OnDone(asyncio.Do(func(context.Context) error { ran = true; return nil }))
		idle := asyncio.OnDefault()
		if won, err := asyncio.Select(ctx, idle, asyncio.OnGet(q), coro); won != idle || err != nil || !idle.OK() {
			t.Errorf("Select = %v, %v", won, err)
		}
		settle(t, ctx)
		if ran || q.Statistics().Getters != 0 {
			t.Error("a Select with a Default has begun to wait")
		}
		if _, err := coro.Result(); !errors.Is(err, asyncio.ErrInvalidState) {
			t.Errorf("Result of what lost = %v", err)
		}
		return nil
	})
}

// A Case can be used again, and remembers only its last Select. Here a put wakes the task. When the
// task looks, there is also something to receive, and that branch comes first (select 1).
func TestSelect_InALoop(t *testing.T) {
	run(t, func(ctx context.Context) error {
		q, ch := asyncio.NewQueue[int](0), make(chan string)
		start(ctx, func(ctx context.Context) error {
			for v := range 3 {
				must(t, asyncio.Sleep(ctx, time.Minute))
				must(t, q.Put(ctx, v))
				must(t, asyncio.Send(ctx, ch, fmt.Sprint("s", v)))
			}
			must(t, asyncio.Sleep(ctx, time.Hour))
			q.Shutdown(false)
			return nil
		})
		get, recv, idle := asyncio.OnGet(q), asyncio.OnRecv(ch), asyncio.OnTimeout(10*time.Minute)
		var got []string
		for {
			won, err := asyncio.Select(ctx, recv, get, idle)
			must(t, err)
			for c, mine := range map[asyncio.AnyCase]func() (string, error){
				get:  func() (string, error) { v, err := get.Result(); return fmt.Sprint(v), err },
				recv: recv.Result,
				idle: func() (string, error) { v, err := idle.Result(); return "idle" + v.String()[:0], err },
			} {
				switch v, err := mine(); {
				case won == c && err == nil:
					got = append(got, v)
				case won == c && errors.Is(err, asyncio.ErrQueueShutDown) && !get.OK():
					equal(t, "got", got, []string{"s0", "0", "s1", "1", "s2", "2", "idle", "idle", "idle", "idle", "idle"})
					return nil
				case won == c || !errors.Is(err, asyncio.ErrInvalidState):
					t.Fatalf("%v, %v", v, err)
				}
			}
		}
	})
}

// A job costs as much with thousands of waiting workers as with a few.
func TestSelect_Linear(t *testing.T) {
	looks := func(n int) (looked int) {
		runFast(t, func(ctx context.Context) error {
			quit, jobs := asyncio.CreateFuture[int](ctx), asyncio.NewQueue[int](0)
			tasks := waitingTasks(ctx, n, func(ctx context.Context, _ int) error {
				job, stop := asyncio.OnGet(jobs), asyncio.OnDone(quit)
				for {
					if won, err := asyncio.Select(ctx, stop, job); err != nil || won == asyncio.AnyCase(stop) {
						return err
					}
				}
			})
			must(t, asyncio.Sleep(ctx, 0))
			looked = asyncio.PassedOver(func() {
				for i := range 2 * n {
					must(t, jobs.PutNowait(i))
					if i%3 == 0 {
						must(t, asyncio.Sleep(ctx, 0))
					}
				}
				for !jobs.Empty() {
					must(t, asyncio.Sleep(ctx, 0))
				}
				must(t, quit.SetResult(1))
				awaitAll(t, ctx, tasks)
			})
			return nil
		})
		return looked
	}
	if few, many := looks(200), looks(2000); many > 15*few+3000 {
		t.Errorf("%d looks in vain with 200 workers, %d with 2000", few, many)
	}
}

func TestSelect_Timeout(t *testing.T) {
	onBothClocks(t, func(t *testing.T, ctx context.Context) error {
		start := loop(t, ctx).Time()
		tick := asyncio.OnTimeout(time.Millisecond)
		q := asyncio.NewQueue[int](0)
		won, err := asyncio.Select(ctx, asyncio.OnGet(q), asyncio.OnRecv[int](nil), asyncio.OnTimeout(asyncio.Forever), tick)
		if took := loop(t, ctx).Time().Sub(start); won != tick || err != nil || took < time.Millisecond || q.Statistics().Getters != 0 {
			t.Errorf("%v, %v after %v; %v", won == tick, err, took, q)
		}
		now := asyncio.OnTimeout(-1)
		if won, err := asyncio.Select(ctx, tick, now); won != now || err != nil {
			t.Errorf("%v, %v", won, err)
		}
		return nil
	})
}

func TestSelect_ClosedChannels(t *testing.T) {
	onBothClocks(t, func(t *testing.T, ctx context.Context) error {
		a, b, c := make(chan int), make(chan int), make(chan error)
		ra, rc := asyncio.OnRecv(a), asyncio.OnRecv(c)
		task := asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error {
			won, err := asyncio.Select(ctx, asyncio.OnRecv(b), rc, ra)
			if won != ra || ra.OK() {
				t.Errorf("%v, OK = %v", won, ra.OK())
			}
			if v, err := ra.Result(); v != 0 || err != nil {
				t.Errorf("Result = %v, %v", v, err)
			}
			return err
		}))
		settle(t, ctx)
		close(a)
		_, err := task.Await(ctx)
		must(t, err)
		d := make(chan error, 1)
		d <- nil // a nil interface goes through a channel like any value
		nils := asyncio.OnRecv(d)
		if won, err := asyncio.Select(ctx, rc, nils); won != nils || !nils.OK() || err != nil {
			t.Errorf("%v, %v, %v", won, nils.OK(), err)
		}
		task = asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error { _, err := asyncio.Select(ctx, nils, rc); return err }))
		settle(t, ctx)
		must(t, asyncio.Send(ctx, c, nil))
		_, err = task.Await(ctx)
		if !rc.OK() {
			t.Error("a nil value is not received")
		}
		return err
	})
}

// A send to a closed channel panics in the calling task, as in Go. By then Select has left the
// other branches (select 6).
func TestSelect_PanicsAndHasLeft(t *testing.T) {
	clocks := map[string]context.Context{"virtual": onVirtualTime(t.Context(), new(reports))}
	if !raceEnabled { // see TestSend_ClosedMeanwhilePanicsInTheTask
		clocks["real"] = t.Context()
	}
	for what, ctx := range clocks {
		for _, late := range []bool{false, true} {
			t.Run(fmt.Sprint(what, late), func(t *testing.T) {
				_, err := asyncio.Run(ctx, asyncio.Do(func(ctx context.Context) error {
					var r reports
					loop(t, ctx).SetExceptionHandler(r.handle)
					ch, q, sem := make(chan int), asyncio.NewQueue[int](0), asyncio.NewSemaphore(0)
					ended := false
					if !late {
						close(ch)
					}
					coro := asyncio.Do(func(ctx context.Context) error {
						defer func() { ended = true }()
						return asyncio.Sleep(ctx, time.Hour)
					})
					task := start(ctx, func(ctx context.Context) error {
						_, err := asyncio.Select(ctx, asyncio.OnGet(q), asyncio.OnDone(coro), asyncio.OnAcquire(sem), asyncio.OnRecv(make(chan int)), asyncio.OnSend(ch, 1))
						return err
					})
					settle(t, ctx)
					if late {
						close(ch)
					}
					_, err := task.Await(ctx)
					var p *asyncio.PanicError
					if !errors.As(err, &p) || ended != late {
						t.Errorf("%v; coroutine ended: %v", err, ended)
					}
					if q.Statistics().Getters != 0 || len(sem.Statistics().Waiters) != 0 {
						t.Errorf("%v, %v", q, sem)
					}
					equal(t, "reports", r.messages(), []string{"panic in task"})
					return nil
				}))
				must(t, err)
			})
		}
	}
}

// A comparison that panics leaves the queue and everything else unchanged (select 6).
func TestSelect_CompareThatPanics(t *testing.T) {
	_, err := runReporting(t, func(ctx context.Context) error {
		full := asyncio.NewPriorityQueue(2, func(a, b int) int {
			if a == 13 || b == 13 {
				panic(errTest)
			}
			return a - b
		})
		must(t, full.PutNowait(1))
		must(t, full.PutNowait(2))
		task := start(ctx, func(ctx context.Context) error {
			_, err := asyncio.Select(ctx, asyncio.OnGet(asyncio.NewQueue[int](0)), asyncio.OnPut(full, 13))
			return err
		})
		settle(t, ctx)
		behind := start(ctx, func(ctx context.Context) error { return full.Put(ctx, 3) })
		settle(t, ctx)
		_, err := full.GetNowait()
		must(t, err)
		if _, err := task.Await(ctx); !errors.Is(err, errTest) {
			t.Errorf("Select = %v", err)
		}
		_, err = behind.Await(ctx) // the room was passed on to it
		return err
	})
	must(t, err)
}

func TestSelect_Misuse(t *testing.T) {
	q := asyncio.NewQueue[int](0)
	get := asyncio.OnGet(q)
	for ctx, want := range map[context.Context]error{nil: asyncio.ErrInvalidArgument, context.Background(): asyncio.ErrNoRunningLoop} {
		if _, err := asyncio.Select(ctx, get); !errors.Is(err, want) {
			t.Errorf("Select = %v, want %v", err, want)
		}
	}
	run(t, func(ctx context.Context) error {
		foreign := asyncio.NewEventLoop(context.WithoutCancel(ctx))
		defer func() { must(t, foreign.Close()) }()
		self := asyncio.CurrentTask(ctx).(tasked)
		ready := asyncio.OnTimeout(0)
		for what, c := range map[string]struct {
			cases []asyncio.AnyCase
			want  error
		}{
			"no case":       {nil, asyncio.ErrInvalidArgument},
			"nil interface": {[]asyncio.AnyCase{get, nil}, asyncio.ErrInvalidArgument},
			"nil case":      {[]asyncio.AnyCase{get, (*asyncio.Case[int])(nil)}, asyncio.ErrInvalidArgument},
			"zero case":     {[]asyncio.AnyCase{get, new(asyncio.Case[int])}, asyncio.ErrInvalidArgument},
			"twice":         {[]asyncio.AnyCase{get, ready, get}, asyncio.ErrInvalidArgument},
			"nil awaitable": {[]asyncio.AnyCase{get, asyncio.OnDone[int](nil)}, asyncio.ErrInvalidArgument},
			"nil future":    {[]asyncio.AnyCase{get, asyncio.OnDone((*asyncio.Future[int])(nil))}, asyncio.ErrInvalidArgument},
			"nil task":      {[]asyncio.AnyCase{get, asyncio.OnDone((*asyncio.Task[int])(nil))}, asyncio.ErrInvalidArgument},
			"nil coroutine": {[]asyncio.AnyCase{get, asyncio.OnDone(asyncio.Coroutine[int](nil))}, asyncio.ErrInvalidArgument},
			"nil queue":     {[]asyncio.AnyCase{get, asyncio.OnGet((*asyncio.Queue[int])(nil))}, asyncio.ErrInvalidArgument},
			"no queue":      {[]asyncio.AnyCase{get, asyncio.OnPut[int](nil, 1)}, asyncio.ErrInvalidArgument},
			"nil lock":      {[]asyncio.AnyCase{get, asyncio.OnAcquire((*asyncio.Lock)(nil))}, asyncio.ErrInvalidArgument},
			"no lock":       {[]asyncio.AnyCase{get, asyncio.OnAcquire(nil)}, asyncio.ErrInvalidArgument},
			"another loop":  {[]asyncio.AnyCase{get, asyncio.OnDone(asyncio.CreateFuture[int](foreign.Context()))}, asyncio.ErrDifferentLoop},
			"itself":        {[]asyncio.AnyCase{get, asyncio.OnDone(self)}, asyncio.ErrAwaitSelf},
		} {
			if won, err := asyncio.Select(ctx, c.cases...); won != nil || !errors.Is(err, c.want) {
				t.Errorf("%s: %v, %v, want %v", what, won, err, c.want)
			}
		}
		waits := start(ctx, func(ctx context.Context) error { _, err := asyncio.Select(ctx, get); return err })
		settle(t, ctx)
		if _, err := asyncio.Select(ctx, get); !errors.Is(err, asyncio.ErrInvalidArgument) {
			t.Errorf("a case at work in another Select: %v", err)
		}
		waits.Cancel()
		settle(t, ctx)
		must(t, q.PutNowait(1))
		if won, err := asyncio.Select(ctx, get); won != get || err != nil {
			t.Errorf("after the refusals: %v, %v", won, err)
		}
		loop(t, ctx).CallSoon(func() {
			if _, err := asyncio.Select(ctx, get); !errors.Is(err, asyncio.ErrNotInTask) {
				t.Errorf("in a callback: %v", err)
			}
		})
		return asyncio.Sleep(ctx, 0)
	})
}

// A queue or lock of another loop is refused if Select would have to wait for it.
func TestSelect_BoundToAnotherLoop(t *testing.T) {
	run(t, func(ctx context.Context) error {
		q := asyncio.NewQueue[int](0)
		var l asyncio.Lock
		must(t, l.Acquire(ctx))
		waits := start(ctx, func(ctx context.Context) error { _, err := q.Get(ctx); return err })
		settle(t, ctx)
		other := asyncio.WithLoopFactory(context.Background(), nil)
		_, err := asyncio.Run(other, asyncio.Do(func(ctx context.Context) error {
			mine := asyncio.NewQueue[int](0)
			for _, c := range []asyncio.AnyCase{asyncio.OnGet(q), asyncio.OnAcquire(&l)} {
				if _, err := asyncio.Select(ctx, asyncio.OnGet(mine), c); !errors.Is(err, asyncio.ErrDifferentLoop) {
					t.Errorf("Select = %v", err)
				}
			}
			if mine.Statistics().Getters != 0 {
				t.Error("a refused Select waits")
			}
			return nil
		}))
		waits.Cancel()
		l.Release()
		return err
	})
}

// A Select whose context ends stops its coroutines, whatever context they wait with.
func TestSelect_ContextEnds(t *testing.T) {
	run(t, func(ctx context.Context) error {
		short, cancel := asyncio.WithTimeout(ctx, time.Minute)
		defer cancel()
		ended := false
		_, err := asyncio.Select(short, asyncio.OnRecv(make(chan int)), asyncio.OnDone(asyncio.Do(func(context.Context) error {
			defer func() { ended = true }()
			//asynciovet:allow outerctx the end of its own ctx would end it before the cancel
			return asyncio.Sleep(ctx, time.Hour)
		})))
		if now := loop(t, ctx).Time().SinceStart(); !errors.Is(err, context.DeadlineExceeded) || !ended || now != time.Minute {
			t.Errorf("%v at %v; ended: %v", err, now, ended)
		}
		if _, err := asyncio.Select(short, asyncio.OnDefault()); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("with a done context: %v", err)
		}
		return nil
	})
}

// A loop that is closed while a Select waits leaves no goroutine (TestMain counts) and no waiter.
func TestSelect_LoopClosed(t *testing.T) {
	for _, l := range []*asyncio.EventLoop{asyncio.NewEventLoop(t.Context()), asyncio.NewEventLoop(onVirtualTime(t.Context(), new(reports)))} {
		l.SetExceptionHandler(new(reports).handle)
		q, sem := asyncio.NewQueue[int](0), asyncio.NewSemaphore(0)
		asyncio.CreateTask(l.Context(), asyncio.Do(func(ctx context.Context) error {
			_, err := asyncio.Select(ctx, asyncio.OnRecv(make(chan int)), asyncio.OnSend(make(chan int), 1), asyncio.OnGet(q),
				asyncio.OnDone(asyncio.Coroutine[int](q.Get)), asyncio.OnAcquire(sem), asyncio.OnTimeout(time.Hour))
			return err
		}))
		l.CallLater(time.Millisecond, l.Stop)
		must(t, l.RunForever())
		must(t, l.Close())
		if q.Statistics().Getters != 0 || len(sem.Statistics().Waiters) != 0 {
			t.Errorf("%v, %v", q, sem)
		}
	}
}

// Select takes one iteration from the event on, like the operation by itself.
func TestSelect_Ticks(t *testing.T) {
	run(t, func(ctx context.Context) error {
		tk := newTicker(t, ctx)
		must(t, asyncio.Sleep(ctx, 0))
		for name, want := range map[string]int{"get": 1, "put": 1, "lock": 1, "semaphore": 1, "recv": 1, "send": 1, "future": 2} {
			s := sources[name](t, ctx)
			never := asyncio.CreateFuture[int](ctx)
			n := tk.observe(func(ctx context.Context) error {
				_, err := asyncio.Select(ctx, asyncio.OnDone(never), s.c)
				return err
			}, func(tasked) { s.trigger() })
			if n != want {
				t.Errorf("%s takes %d ticks, want %d", name, n, want)
			}
		}
		tk.h.Cancel()
		return nil
	})
}

// Goroutines feed and drain channels while tasks select, with cancels and timeouts all the time.
// Each value arrives once, and the result of Select is true.
func TestSelect_NothingLostConcurrentSafe(t *testing.T) {
	const senders, each = 6, 150
	for _, room := range []int{0, 2} {
		t.Run(fmt.Sprint("room=", room), func(t *testing.T) {
			onBothClocks(t, func(t *testing.T, ctx context.Context) error {
				chans := []chan int{make(chan int, room), make(chan int, room), make(chan int, room)}
				out := make(chan int, room)
				var wg, drain sync.WaitGroup
				for s := range senders {
					wg.Go(func() {
						for v := range each {
							chans[s%3] <- s*each + v
						}
					})
				}
				drained := 0
				drain.Go(func() {
					for range out {
						drained++
					}
				})
				seen, left, sent := make([]int, senders*each), senders*each, 0
				q := asyncio.NewQueue[int](0)
				for left > 0 {
					var tasks []tasked
					for range 4 {
						tasks = append(tasks, start(ctx, func(ctx context.Context) error {
							a, b, c := asyncio.OnRecv(chans[0]), asyncio.OnRecv(chans[1]), asyncio.OnRecv(chans[2])
							get, send, tick := asyncio.OnGet(q), asyncio.OnSend(out, 1), asyncio.OnTimeout(40*time.Microsecond)
							for left > 0 {
								won, err := asyncio.Select(ctx, a, get, b, c, send, tick)
								if err != nil {
									return err
								}
								for _, recv := range []*asyncio.Case[int]{a, b, c} {
									if won == recv {
										v, _ := recv.Result()
										seen[v]++
										left--
									}
								}
								if won == send {
									sent++
								}
							}
							return nil
						}))
					}
					for i := 0; left > 0 && i < 5; i++ {
						must(t, asyncio.Sleep(ctx, 20*time.Microsecond))
						tasks[i%4].Cancel()
						must(t, q.PutNowait(0))
					}
					for _, task := range tasks {
						task.Cancel()
					}
					_, _, err := asyncio.Wait(ctx, tasks)
					must(t, err)
				}
				//asynciovet:allow blocking the senders have nothing left to send
				wg.Wait()
				close(out)
				//asynciovet:allow blocking its channel has just been closed
				drain.Wait()
				for v, n := range seen {
					if n != 1 {
						t.Errorf("value %d received %d times", v, n)
					}
				}
				if sent != drained {
					t.Errorf("%d sent, %d arrived", sent, drained)
				}
				return nil
			})
		})
	}
}
