package asyncio_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
)

// These models cover groups and races beyond CPython's. Each one takes a few random times and says
// what must result, and the library must produce the same, to the nanosecond. No two times are
// equal.

const noTime = asyncio.Forever

// A modelEnd describes one coroutine: how and when it ends if nobody stops it, and how long it
// cleans up if somebody does. After the clean-up it returns what it was stopped with, or fails.
type modelEnd struct {
	after, cleanup time.Duration
	how            string // ok, A or panic
	fails          bool   // in its clean-up
}

// A modelMember is what happened to one coroutine.
type modelMember struct {
	began, ended time.Duration // noTime if it did not happen
	how          string
}

// extras holds the random times of one program.
type extras struct {
	rnd                           *rand.Rand
	cancelAt, contextAt, cancelGr time.Duration
	ends                          []modelEnd
}

func (x *extras) d(most time.Duration) time.Duration {
	return time.Duration(1 + x.rnd.Int64N(int64(most)))
}

func newExtras(seed, kind uint64) *extras {
	x := &extras{rnd: rand.New(rand.NewPCG(seed, kind))}
	maybe := func() time.Duration {
		if x.rnd.IntN(3) == 0 {
			return x.d(8 * time.Second)
		}
		return noTime
	}
	x.cancelAt, x.contextAt, x.cancelGr = maybe(), maybe(), maybe()
	for range 1 + x.rnd.IntN(5) {
		x.ends = append(x.ends, modelEnd{
			after: x.d(6 * time.Second), cleanup: x.d(3 * time.Second),
			how: []string{"ok", "ok", "ok", "A", "panic"}[x.rnd.IntN(5)], fails: x.rnd.IntN(6) == 0,
		})
	}
	return x
}

// coroutine returns a coroutine that behaves like e and records in m what happens to it.
func (e modelEnd) coroutine(now func() time.Duration, m *modelMember) routine {
	return func(ctx context.Context) (err error) {
		m.began = now()
		panics := false
		defer func() {
			m.ended = now()
			if panics {
				m.how = "panic"
			} else if m.how = scopeKind(err); err != nil && m.how != "A" && m.how != "B" {
				m.how = "stopped"
			}
		}()
		if err := asyncio.Sleep(ctx, e.after); err != nil {
			if e := asyncio.Cleanup(ctx, asyncio.Forever, sleeping(e.cleanup)); e != nil {
				return e
			}
			if e.fails {
				return errB
			}
			return err
		}
		switch e.how {
		case "A":
			return errA
		case "panic":
			panics = true
			panic(context.DeadlineExceeded) // as a panic it is not the end of the context
		}
		return nil
	}
}

// run runs try in a task that is cancelled, and whose context ends, at x's times. It returns the
// trace.
func (x *extras) run(ctx context.Context, try func(ctx context.Context, now func() time.Duration) error) string {
	l, _ := asyncio.GetRunningLoop(ctx)
	began := l.Time()
	now := func() time.Duration { return l.Time().Sub(began) }
	var got, next error
	at, counted := noTime, 0
	task := start(ctx, func(outer context.Context) error {
		inner := outer
		if x.contextAt != noTime {
			var cancel context.CancelFunc
			inner, cancel = asyncio.WithTimeout(outer, x.contextAt)
			defer cancel()
		}
		got = try(inner, now)
		at, counted = now(), asyncio.CurrentTask(outer).Cancelling()
		next = asyncio.Sleep(outer, 0)
		return got
	})
	defer l.CallLater(x.cancelAt, func() { task.Cancel("stop") }).Cancel()
	_ = settled(ctx, task)
	return modelVerdict(at, scopeGroupKind(got), counted, scopeKind(next))
}

func modelVerdict(at time.Duration, what string, cancelling int, next string) string {
	return fmt.Sprintf("%v: %s, %d, then %s", at, what, cancelling, next)
}

func scopeGroupKind(err error) string {
	var g *asyncio.GroupError
	if !errors.As(err, &g) {
		return scopeKind(err)
	}
	var all []string
	for _, e := range g.Exceptions {
		all = append(all, scopeKind(e))
	}
	return fmt.Sprint("group ", all)
}

// groupModel returns what must happen in a group: its members, its result with the time, and when
// it is stopped.
func (x *extras) groupModel(limit int, supervisor bool, body time.Duration) (members []modelMember, verdict string, stop time.Duration) {
	members = make([]modelMember, len(x.ends))
	for i := range members {
		members[i] = modelMember{noTime, noTime, ""}
	}
	stop = min(x.cancelAt, x.contextAt, x.cancelGr)
	over := body
	// Let time pass from one natural end to the next, until something stops the group.
	waiting := len(members)
	running := func(t time.Duration) (n int) {
		for _, m := range members {
			if m.began <= t && m.ended > t {
				n++
			}
		}
		return n
	}
	next, now := 0, time.Duration(0)
	for {
		for next < len(members) && (limit == 0 || running(now) < limit) {
			members[next].began, members[next].ended, members[next].how = now, now+x.ends[next].after, x.ends[next].how
			next++
			waiting--
		}
		first := noTime
		for _, m := range members {
			if m.ended > now {
				first = min(first, m.ended)
			}
		}
		if over > now {
			first = min(first, over)
		}
		if first == noTime || stop < first {
			break
		}
		now = first
		for _, m := range members {
			if m.ended == now && (m.how == "A" || m.how == "panic") && !supervisor {
				stop = min(stop, now)
			}
		}
		if stop <= now {
			break
		}
	}
	if end := lastOf(members, over); stop > end && waiting == 0 {
		stop = noTime
	}
	if stop != noTime {
		over = min(over, stop)
		for i := range members {
			if m, e := &members[i], x.ends[i]; m.began != noTime && m.ended > stop {
				m.ended, m.how = stop+e.cleanup, "stopped"
				if e.fails {
					m.how = "B"
				}
			}
		}
	}
	end := max(lastOf(members, over), over)
	var failures []string
	for _, i := range byEnd(members) {
		switch m := members[i]; m.how {
		case "A", "B", "panic":
			failures = append(failures, m.how)
		}
	}
	verdict = x.verdict(end, failures, true)
	return members, verdict, stop
}

// verdict describes what is returned at end, and what the next await returns, given the failures.
func (x *extras) verdict(end time.Duration, failures []string, again bool) string {
	cancelled := x.cancelAt <= end
	counted := 0
	if cancelled {
		counted = 1
	}
	switch {
	case len(failures) > 0 && cancelled && again:
		return modelVerdict(end, fmt.Sprint("group ", failures), counted, "cancelled stop")
	case len(failures) > 0:
		return modelVerdict(end, fmt.Sprint("group ", failures), counted, "ok")
	case cancelled:
		return modelVerdict(end, "cancelled stop", counted, "ok")
	case x.contextAt <= end:
		return modelVerdict(end, "deadline", counted, "ok")
	}
	return modelVerdict(end, "ok", counted, "ok")
}

func lastOf(members []modelMember, t time.Duration) time.Duration {
	for _, m := range members {
		if m.ended != noTime {
			t = max(t, m.ended)
		}
	}
	return t
}

// byEnd returns the members that began, in the order in which they end.
func byEnd(members []modelMember) (order []int) {
	for i, m := range members {
		if m.began != noTime {
			order = append(order, i)
		}
	}
	slices.SortFunc(order, func(a, b int) int { return cmp.Compare(members[a].ended, members[b].ended) })
	return order
}

func (x *extras) group(ctx context.Context, limit int, supervisor, completed bool, body time.Duration) (members []modelMember, verdict string, seen []int) {
	members = make([]modelMember, len(x.ends))
	var opts []asyncio.GroupOption
	if limit > 0 {
		opts = append(opts, asyncio.GroupLimit(limit))
	}
	if supervisor {
		opts = append(opts, asyncio.Supervisor())
	}
	verdict = x.run(ctx, func(ctx context.Context, now func() time.Duration) error {
		return asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg group) error {
			var tasks []tasked
			for i, e := range x.ends {
				members[i] = modelMember{noTime, noTime, ""}
				tasks = append(tasks, tg.CreateTask(ctx, e.coroutine(now, &members[i])))
			}
			l, _ := asyncio.GetRunningLoop(ctx)
			l.CallLater(x.cancelGr, tg.Cancel)
			if completed {
				for task, err := range asyncio.GroupCompleted[asyncio.None](ctx, tg) {
					if err != nil {
						return err
					}
					seen = append(seen, slices.Index(tasks, task))
				}
				return nil
			}
			if body > 0 {
				return asyncio.Sleep(ctx, body)
			}
			return nil
		}, opts...)
	})
	return members, verdict, seen
}

// raceModel returns what must come of a staggered race of x.ends.
func (x *extras) raceModel(delay time.Duration) (members []modelMember, index int, verdict string) {
	members = make([]modelMember, len(x.ends))
	for i := range members {
		members[i] = modelMember{noTime, noTime, ""}
	}
	stop, index, broken := min(x.cancelAt, x.contextAt), -1, false
	start := time.Duration(0)
	for i, e := range x.ends {
		if start >= stop {
			break
		}
		m := &members[i]
		m.began, m.ended, m.how = start, start+e.after, e.how
		if e.how != "A" && m.ended < stop {
			stop, index, broken = m.ended, i, e.how == "panic"
		}
		wait := noTime
		if delay != noTime {
			wait = start + delay
		}
		if e.how == "A" {
			wait = min(wait, m.ended)
		}
		start = wait
	}
	end := time.Duration(0)
	for i := range members {
		m, e := &members[i], x.ends[i]
		if m.began >= stop { // it did not begin
			*m = modelMember{noTime, noTime, ""}
			continue
		}
		if m.ended > stop {
			m.ended, m.how = stop+e.cleanup, "stopped"
			if e.fails {
				m.how = "B"
			}
		}
		end = max(end, m.ended)
	}
	if broken {
		index = -1
	}
	if end < stop && stop != noTime && index < 0 && !broken { // all had failed before
		stop = noTime
	}
	verdict = x.verdict(end, nil, false)
	if broken && x.cancelAt >= end && x.contextAt >= end {
		verdict = modelVerdict(end, "panic", 0, "ok")
	}
	return members, index, verdict
}

// startModel returns what must come of GroupStart with the first of x.ends. That child gets ready
// after its time; kind says what it is like.
func (x *extras) startModel(kind string) string {
	e := x.ends[0]
	first := min(x.cancelAt, x.contextAt)
	if first > e.after {
		switch {
		case kind == "ends", kind == "tidy" && e.how == "A":
			return modelVerdict(e.after, map[bool]string{true: "A", false: "invalid"}[kind == "tidy"], 0, "ok")
		}
		return modelVerdict(e.after, "ok", 0, "ok")
	}
	second := max(x.cancelAt, x.contextAt)
	stopped := func(end time.Duration) string {
		if x.cancelAt < end || first == x.cancelAt {
			return modelVerdict(end, "cancelled stop", 1, "ok")
		}
		return modelVerdict(end, "deadline", 0, "ok")
	}
	switch kind {
	case "held":
		return stopped(e.after)
	case "stubborn":
		end := min(second, first+e.cleanup)
		counted := 0
		if x.cancelAt <= end {
			counted = 1
		}
		return modelVerdict(end, "ok", counted, "ok")
	case "tidy":
		return stopped(first + e.cleanup)
	}
	return stopped(first)
}

func (x *extras) start(ctx context.Context, kind string) string {
	e := x.ends[0]
	return x.run(ctx, func(inner context.Context, now func() time.Duration) (err error) {
		_ = asyncio.RunTaskGroup(context.WithoutCancel(inner), func(ctx context.Context, tg group) error {
			//asynciovet:allow outerctx the group must outlive the end of inner
			_, err = asyncio.GroupStart(inner, tg, func(ctx context.Context, s *asyncio.TaskStatus[int]) error {
				switch kind {
				case "held":
					return asyncio.Cleanup(ctx, asyncio.Forever, func(ctx context.Context) error {
						if err := asyncio.Sleep(ctx, e.after); err != nil {
							return err
						}
						return s.Started(1)
					})
				case "stubborn":
					if asyncio.Sleep(ctx, e.after) != nil {
						_ = asyncio.Sleep(ctx, e.cleanup)
					}
					return s.Started(1)
				case "tidy":
					if err := asyncio.Sleep(ctx, e.after); err != nil {
						if e := asyncio.Cleanup(ctx, asyncio.Forever, sleeping(e.cleanup)); e != nil {
							return e
						}
						return err
					}
					if e.how == "A" {
						return errA
					}
					return s.Started(1)
				}
				if err := asyncio.Sleep(ctx, e.after); err != nil || kind == "ends" {
					return err
				}
				return s.Started(1)
			})
			if errors.Is(err, asyncio.ErrInvalidState) {
				err = errors.New("invalid")
			}
			return nil
		})
		return err
	})
}

// agree runs programs of one kind and compares what each did with what it should have done. It runs
// 2,000, or a fifth of ASYNCIO_MODELS, but then at least 20,000.
func agree(t *testing.T, kind uint64, program func(ctx context.Context, x *extras) (got, want string)) {
	t.Helper()
	n := min(modelRuns(t, 2000), max(20_000, modelRuns(t, 0)/5))
	var r reports
	differ := 0
	_, err := asyncio.Run(onVirtualTime(context.Background(), &r), asyncio.Do(func(ctx context.Context) error {
		loop(t, ctx).SetDebug(false)
		for seed := range n {
			x := newExtras(uint64(seed), kind)
			if got, want := program(ctx, x); got != want {
				if differ++; differ <= 3 {
					t.Errorf("program %d: %+v\n\tgot  %s\n\twant %s", seed, *x, got, want)
				}
			}
		}
		if all := asyncio.AllTasks(ctx); len(all) != 1 {
			t.Errorf("tasks are left: %v", all)
		}
		return nil
	}))
	must(t, err)
	if differ > 0 {
		t.Errorf("%d of %d programs differ", differ, n)
	}
	for _, m := range r.messages() {
		if m != "panic in task" {
			t.Fatalf("report: %s", m)
		}
	}
}

func TestGroups_Model(t *testing.T) {
	for n, kind := range []string{"limit", "supervisor", "body", "both"} {
		t.Run(kind, func(t *testing.T) {
			agree(t, uint64(n), func(ctx context.Context, x *extras) (string, string) {
				limit, supervisor, body := 0, kind == "supervisor" || kind == "both", time.Duration(0)
				if kind == "limit" || kind == "both" {
					limit = 1 + x.rnd.IntN(3)
				}
				if kind == "body" || kind == "both" {
					body = x.d(6 * time.Second)
				}
				got, gotVerdict, _ := x.group(ctx, limit, supervisor, false, body)
				want, wantVerdict, _ := x.groupModel(limit, supervisor, body)
				return fmt.Sprint(got, gotVerdict), fmt.Sprint(want, wantVerdict)
			})
		})
	}
}

func TestGroupCompleted_Model(t *testing.T) {
	agree(t, 10, func(ctx context.Context, x *extras) (string, string) {
		supervisor := x.rnd.IntN(2) == 0
		got, gotVerdict, gotSeen := x.group(ctx, 0, supervisor, true, 0)
		want, wantVerdict, stop := x.groupModel(0, supervisor, 0)
		var seen []int
		for _, i := range byEnd(want) {
			if want[i].ended < stop {
				seen = append(seen, i)
			}
		}
		return fmt.Sprint(got, gotVerdict, gotSeen), fmt.Sprint(want, wantVerdict, seen)
	})
}

func TestGroupStart_Model(t *testing.T) {
	for n, kind := range []string{"plain", "held", "stubborn", "tidy", "ends"} {
		t.Run(kind, func(t *testing.T) {
			agree(t, uint64(20+n), func(ctx context.Context, x *extras) (string, string) {
				return x.start(ctx, kind), x.startModel(kind)
			})
		})
	}
}

func TestStaggeredRace_Model(t *testing.T) {
	agree(t, 30, func(ctx context.Context, x *extras) (string, string) {
		delay := x.d(3 * time.Second)
		if x.rnd.IntN(4) == 0 {
			delay = noTime
		}
		got, index := make([]modelMember, len(x.ends)), 0
		var coros []asyncio.Coroutine[asyncio.None]
		verdict := x.run(ctx, func(ctx context.Context, now func() time.Duration) (err error) {
			for i, e := range x.ends {
				got[i] = modelMember{noTime, noTime, ""}
				coros = append(coros, asyncio.Do(e.coroutine(now, &got[i])))
			}
			var errs []error
			_, index, errs, err = asyncio.StaggeredRace(ctx, delay, coros...)
			for i, e := range errs {
				if (e == nil) != (i == index) {
					err = fmt.Errorf("entry %d is %v, and %d has won", i, e, index)
				}
			}
			return err
		})
		want, wantIndex, wantVerdict := x.raceModel(delay)
		return fmt.Sprint(got, index, verdict), fmt.Sprint(want, wantIndex, wantVerdict)
	})
}
