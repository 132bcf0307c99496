package inspect_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/inspect"
	"github.com/goasyncio/asyncio/internal/inspection"
)

// run runs main on a loop, and fails the test if that fails.
func run(t *testing.T, main func(ctx context.Context) error) {
	t.Helper()
	if _, err := asyncio.Run(t.Context(), asyncio.Do(main)); err != nil {
		t.Error(err)
	}
}

// take has a goroutine take a snapshot while the task waits, and returns the loop of the task.
func take(ctx context.Context, opts ...inspect.Option) (*inspect.Loop, error) {
	p, err := asyncio.ToThread(ctx, func(ctx context.Context) (*inspect.Process, error) { return inspect.Take(ctx, opts...) })
	switch {
	case err != nil:
		return nil, err
	case p.PID != os.Getpid() || len(p.Loops) != 1:
		return nil, fmt.Errorf("process %d with %d loops", p.PID, len(p.Loops))
	}
	return p.Loops[0], nil
}

func sleeper(ctx context.Context) error { return asyncio.Sleep(ctx, time.Hour) }

// yield lets the others run up to their waits.
func yield(ctx context.Context) error { return asyncio.Sleep(ctx, time.Millisecond) }

func spawn(ctx context.Context, n int, coro func(ctx context.Context) error) {
	for range n {
		asyncio.CreateTask(ctx, asyncio.Do(coro))
	}
}

// group returns the group whose coroutine is in function, nil if there is none.
func group(l *inspect.Loop, function string) *inspect.Group {
	for _, g := range l.Groups {
		if strings.Contains(strings.Join(g.Stack, "\n"), function) {
			return g
		}
	}
	return nil
}

func TestTake_Groups(t *testing.T) {
	run(t, func(ctx context.Context) error {
		queue := asyncio.NewQueue[int](0)
		spawn(ctx, 30, sleeper)
		spawn(ctx, 20, func(ctx context.Context) error { _, err := queue.Get(ctx); return err })
		if err := yield(ctx); err != nil {
			return err
		}
		l, err := take(ctx)
		if err != nil {
			return err
		}
		if l.Tasks != 51 || l.Stuck != nil || l.AllGroups != len(l.Groups) {
			t.Errorf("tasks: %d, groups: %d of %d, stuck: %v", l.Tasks, len(l.Groups), l.AllGroups, l.Stuck)
		}
		g := group(l, "inspect_test.sleeper()")
		if g == nil || g.Count != 30 || g.Sampled || len(g.Examples) != 5 || g.Examples[0] != "Task-2" ||
			!strings.HasPrefix(g.State, "waits for sleep until") || !strings.Contains(g.Where, "inspect_test.go:") {
			t.Errorf("sleepers: %+v", g)
		}
		if l.Groups[0] != g {
			t.Errorf("the largest group is not the first")
		}
		if len(l.Objects) != 1 || l.Objects[0].Waiters != 20 || !strings.Contains(l.Objects[0].What, "Queue") {
			t.Errorf("objects: %+v", l.Objects)
		}
		return nil
	})
}

func TestTake_GroupsByWhatTasksDo(t *testing.T) {
	run(t, func(ctx context.Context) error {
		var event asyncio.Event
		spawn(ctx, 3, func(ctx context.Context) error { return event.Wait(ctx) })
		if err := yield(ctx); err != nil {
			return err
		}
		spawn(ctx, 4, func(ctx context.Context) error { return event.Wait(ctx) })
		counts := map[string]int{}
		done := make(chan *inspect.Process)
		go func() {
			p, err := inspect.Take(ctx)
			if err != nil {
				t.Error(err)
			}
			done <- p
		}()
		p, _, err := asyncio.Recv(ctx, done)
		if err != nil {
			return err
		}
		for _, g := range p.Loops[0].Groups {
			counts[strings.Fields(g.State)[0]] += g.Count
		}
		if counts["waits"] != 8 { // the four have started by the time the survey comes
			t.Errorf("%v", counts)
		}
		return nil
	})
}

func TestTake_LocksInACircle(t *testing.T) {
	run(t, func(ctx context.Context) error {
		var a, b asyncio.Lock
		both := func(first, second *asyncio.Lock) asyncio.Coroutine[asyncio.None] {
			return asyncio.Do(func(ctx context.Context) error {
				if err := first.Acquire(ctx); err != nil {
					return err
				}
				defer first.Release()
				if err := yield(ctx); err != nil {
					return err
				}
				if err := second.Acquire(ctx); err != nil {
					return err
				}
				defer second.Release()
				return nil
			})
		}
		there := asyncio.CreateTask(ctx, both(&a, &b), asyncio.TaskName("there"))
		asyncio.CreateTask(ctx, both(&b, &a), asyncio.TaskName("back"))
		if err := asyncio.Sleep(ctx, 20*time.Millisecond); err != nil {
			return err
		}
		l, err := take(ctx)
		if err != nil {
			return err
		}
		if slices.Sort(l.Circle); !slices.Equal(l.Circle, []string{"back", "there"}) {
			t.Errorf("circle: %v", l.Circle)
		}
		owners := map[string]string{}
		for _, o := range l.Objects {
			owners[o.Owner] = o.Names[0]
		}
		if owners["there"] != "back" || owners["back"] != "there" {
			t.Errorf("owners and waiters: %v", owners)
		}
		there.Cancel()
		return nil
	})
}

func TestTake_Each(t *testing.T) {
	run(t, func(ctx context.Context) error {
		child := asyncio.CreateTask(ctx, asyncio.Do(sleeper), asyncio.TaskName("child"))
		parent := asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error { _, err := child.Await(ctx); return err }), asyncio.TaskName("parent"))
		if err := yield(ctx); err != nil {
			return err
		}
		l, err := take(ctx, inspect.Each(10))
		if err != nil {
			return err
		}
		ids := map[string]string{}
		for _, k := range l.Each {
			ids[k.Name] = k.ID
		}
		if len(l.Each) != 3 || ids["parent"] == "" {
			t.Fatalf("each: %v", ids)
		}
		for _, k := range l.Each {
			if k.Name == "child" && (!slices.Equal(k.AwaitedBy, []string{ids["parent"]}) || !strings.Contains(k.Stack[0], "Sleep()")) {
				t.Errorf("child: %+v", k)
			}
		}
		if l, err := take(ctx, inspect.Each(2)); err != nil || len(l.Each) != 2 || l.Each[1].Name != "child" {
			t.Errorf("two of them: %v, %v", l.Each, err)
		}
		parent.Cancel()
		return nil
	})
}

func TestEach_RefusesLessThanNone(t *testing.T) {
	defer func() {
		if recover() == nil {
			t.Error("no panic")
		}
	}()
	inspect.Each(-1)
}

// Of many tasks of a kind a sample is looked at, and every one is counted.
func TestTake_Many(t *testing.T) {
	const n = 6_000
	run(t, func(ctx context.Context) error {
		spawn(ctx, n, sleeper)
		if err := yield(ctx); err != nil {
			return err
		}
		l, err := take(ctx)
		if err != nil {
			return err
		}
		g := l.Groups[0]
		if l.Tasks != n+1 || g.Count != n || !g.Sampled {
			t.Errorf("%d tasks, %d in the group, sampled: %v", l.Tasks, g.Count, g.Sampled)
		}
		return nil
	})
}

// Snapshots while tasks come and go, which moves the list that they are taken from.
func TestTake_WhileTasksComeAndGo(t *testing.T) {
	run(t, func(ctx context.Context) error {
		spawn(ctx, 500, sleeper)
		var over atomic.Bool
		snapshots := asyncio.CreateTask(ctx, func(ctx context.Context) (int, error) {
			return asyncio.ToThread(ctx, func(ctx context.Context) (int, error) {
				for i := range 20 {
					p, err := inspect.Take(ctx, inspect.Each(i%2*100))
					if err != nil || len(p.Loops) != 1 {
						return i, errors.Join(err, fmt.Errorf("snapshot %d of %d loops", i, len(p.Loops)))
					}
					if p.Loops[0].Stuck != nil {
						continue // the machine is busy with something else
					}
					n := 0
					for _, g := range p.Loops[0].Groups {
						n += g.Count
					}
					if n < 500 {
						return i, fmt.Errorf("snapshot %d has %d of the tasks that are there all the time", i, n)
					}
				}
				over.Store(true)
				return 20, nil
			})
		})
		for !over.Load() && !snapshots.Done() {
			spawn(ctx, 200, func(ctx context.Context) error { return asyncio.Sleep(ctx, 0) })
			if err := asyncio.Sleep(ctx, 0); err != nil {
				return err
			}
		}
		_, err := snapshots.Await(ctx)
		return err
	})
}

// A step that does not return is described from outside.
func TestTake_Stuck(t *testing.T) {
	release := make(chan struct{})
	taken := make(chan *inspect.Process)
	run(t, func(ctx context.Context) error {
		if err := yield(ctx); err != nil { // from here on the loop notes its steps
			return err
		}
		go func() {
			p, err := inspect.Take(ctx)
			if err != nil {
				t.Error(err)
			}
			close(release)
			taken <- p
		}()
		asyncio.CreateTask(ctx, asyncio.Do(func(context.Context) error { block(release); return nil }), asyncio.TaskName("greedy"))
		p, _, err := asyncio.Recv(ctx, taken)
		if err != nil {
			return err
		}
		s := p.Loops[0].Stuck
		if s == nil || s.Task != "greedy" || s.For <= 0 || !strings.Contains(s.Where, "inspect_test.go:") || !strings.Contains(s.Stack, "inspect_test.block(") {
			t.Errorf("stuck: %+v", s)
		}
		return nil
	})
}

//go:noinline
func block(release chan struct{}) { <-release }

// A snapshot ends with its context, and with the loop.
func TestTake_Ends(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	run(t, func(loop context.Context) error {
		p, err := asyncio.ToThread(loop, func(context.Context) (*inspect.Process, error) { return inspect.Take(ctx) })
		if err != nil {
			return err
		}
		if len(p.Loops) > 1 {
			t.Errorf("%d loops", len(p.Loops))
		}
		return nil
	})
	p, err := inspect.Take(t.Context())
	if err != nil || len(p.Loops) != 0 {
		t.Errorf("no loop runs, and there are %d, %v", len(p.Loops), err)
	}
}

func TestTake_SeveralLoops(t *testing.T) {
	run(t, func(ctx context.Context) error {
		started, end := make(chan struct{}), make(chan struct{})
		over := make(chan error, 1)
		go func() {
			_, err := asyncio.Run(t.Context(), asyncio.Do(func(ctx context.Context) error {
				close(started)
				_, _, err := asyncio.Recv(ctx, end)
				return err
			}))
			over <- err
		}()
		if _, _, err := asyncio.Recv(ctx, started); err != nil {
			return err
		}
		p, err := asyncio.ToThread(ctx, func(ctx context.Context) (*inspect.Process, error) { return inspect.Take(ctx) })
		if err != nil {
			return err
		}
		if len(p.Loops) != 2 || p.Loops[0].Number >= p.Loops[1].Number {
			t.Errorf("%d loops", len(p.Loops))
		}
		close(end)
		err, _, _ = asyncio.Recv(ctx, over)
		return err
	})
}

// What is sent and what is read have the same fields.
func TestProcess_IsWhatIsSent(t *testing.T) {
	var compare func(path string, sent, read reflect.Type)
	compare = func(path string, sent, read reflect.Type) {
		for sent.Kind() == reflect.Pointer || sent.Kind() == reflect.Slice {
			if read.Kind() != sent.Kind() {
				t.Fatalf("%s: %v is read as %v", path, sent, read)
			}
			sent, read = sent.Elem(), read.Elem()
		}
		if sent.Kind() != reflect.Struct || sent == read {
			if sent != read {
				t.Errorf("%s: %v is read as %v", path, sent, read)
			}
			return
		}
		if sent.NumField() != read.NumField() {
			t.Errorf("%s has %d fields, and %d are read", path, sent.NumField(), read.NumField())
			return
		}
		for i := range sent.NumField() {
			f, g := sent.Field(i), read.Field(i)
			if f.Name != g.Name || f.Tag != g.Tag {
				t.Errorf("%s.%s `%s` is read as %s `%s`", path, f.Name, f.Tag, g.Name, g.Tag)
			}
			compare(path+"."+f.Name, f.Type, g.Type)
		}
	}
	compare("Process", reflect.TypeFor[inspection.Process](), reflect.TypeFor[inspect.Process]())
	if _, err := json.Marshal(inspect.Process{}); err != nil {
		t.Error(err)
	}
}

// heavy keeps its loop until the channel is closed.
func heavy(goOn <-chan struct{}) { <-goOn }

type staller func(ctx context.Context) error

func (s staller) run(ctx context.Context) error { return s(ctx) }

// A step is found among thousands of goroutines, and another loop's step is not taken for it.
func TestTake_StuckAmongMany(t *testing.T) {
	const tasks = 3000
	goOn := make(chan struct{})
	stuck := make(chan struct{}, 2)
	var calls atomic.Int32
	stall := func(ctx context.Context) error {
		if calls.Add(1)%2 == 1 { // another task with the same coroutine, which waits
			return sleeper(ctx)
		}
		stuck <- struct{}{}
		heavy(goOn)
		return nil
	}
	other := staller(stall).run
	ended := make(chan error, 2)
	for i, coro := range []func(context.Context) error{stall, other} {
		go func() {
			_, err := asyncio.Run(context.Background(), asyncio.Do(func(ctx context.Context) error {
				spawn(ctx, tasks, sleeper)
				spawn(ctx, 1, coro)
				if err := yield(ctx); err != nil {
					return err
				}
				_, err := asyncio.CreateTask(ctx, asyncio.Do(coro), asyncio.TaskName(fmt.Sprint("heavy-", i))).Await(ctx)
				return err
			}))
			ended <- err
		}()
		<-stuck
	}
	p, err := inspect.Take(t.Context())
	close(goOn)
	if err != nil || len(p.Loops) != 2 {
		t.Fatalf("%v, %v", p, err)
	}
	for _, l := range p.Loops {
		if l.Stuck == nil {
			t.Errorf("loop %d is not stuck", l.Number)
			continue
		}
		byMethod := strings.Contains(l.Stuck.Stack, "inspect_test.staller.run(")
		if !strings.Contains(l.Stuck.Stack, "inspect_test.heavy(") || byMethod != (l.Stuck.Task == "heavy-1") || !strings.Contains(l.Stuck.Where, "inspect_test.go:") {
			t.Errorf("%s, at %s:\n%s", l.Stuck.Task, l.Stuck.Where, l.Stuck.Stack)
		}
	}
	for range 2 {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}

// A callback has no coroutine to be known by. A loop that waits for events is not taken for it, nor
// one that is busy, whose steps are over soon.
func TestTake_StuckCallbackAmongMany(t *testing.T) {
	burn := func() {
		for begun := time.Now(); time.Since(begun) < time.Millisecond; {
		}
	}
	for name, beside := range map[string]func(l *asyncio.EventLoop){
		"a loop that waits": func(*asyncio.EventLoop) {},
		"a loop that is busy": func(l *asyncio.EventLoop) {
			// Functions of different names, in an order that is not in step with the looks.
			callbacks := []func(){func() { burn() }, func() { burn() }, func() { burn() }, func() { burn() }, func() { burn() }, func() { burn() }, func() { burn() }, func() { burn() }}
			random := asyncio.Rand(l.Context())
			var next func()
			next = func() {
				l.CallSoon(callbacks[random.IntN(len(callbacks))])
				l.CallSoon(next)
			}
			next()
		},
	} {
		t.Run(name, func(t *testing.T) { stuckCallbackBeside(t, beside) })
	}
}

func stuckCallbackBeside(t *testing.T, beside func(l *asyncio.EventLoop)) {
	goOn, stuck := make(chan struct{}), make(chan struct{})
	ready, ended := make(chan struct{}), make(chan error, 2)
	begin := func(main func(ctx context.Context, l *asyncio.EventLoop) error) {
		go func() {
			_, err := asyncio.Run(context.Background(), asyncio.Do(func(ctx context.Context) error {
				l, err := asyncio.GetRunningLoop(ctx)
				if err != nil {
					return err
				}
				return main(ctx, l)
			}))
			ended <- err
		}()
	}
	var stop func()
	begin(func(ctx context.Context, l *asyncio.EventLoop) error {
		spawn(ctx, 3000, sleeper)
		if err := yield(ctx); err != nil {
			return err
		}
		beside(l)
		task := asyncio.CurrentTask(ctx)
		stop = func() { _, _ = l.CallSoonThreadsafe(func() { task.Cancel() }) }
		close(ready)
		return sleeper(ctx)
	})
	<-ready
	begin(func(ctx context.Context, l *asyncio.EventLoop) error {
		l.CallSoon(func() { close(stuck); heavy(goOn) })
		return yield(ctx)
	})
	<-stuck
	p, err := inspect.Take(t.Context())
	for range 20 { // a busy machine may stop the loop that answers, too
		if err != nil || p.Loops[0].Stuck == nil {
			break
		}
		p, err = inspect.Take(t.Context())
	}
	close(goOn)
	stop()
	if err != nil || len(p.Loops) != 2 || p.Loops[0].Stuck != nil || p.Loops[1].Stuck == nil {
		t.Fatalf("%v, %v", p, err)
	}
	if s := p.Loops[1].Stuck; s.Task != "" || !strings.Contains(s.Stack, "inspect_test.heavy(") {
		t.Errorf("%q:\n%s", s.Task, s.Stack)
	}
	for range 2 {
		if err := <-ended; err != nil && !errors.Is(err, asyncio.ErrCancelled) {
			t.Error(err)
		}
	}
}
