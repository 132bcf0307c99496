package asyncio_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/goasyncio/asyncio"
)

// lockProgram is a program of testdata/cpython/locks.py, which explains the steps.
type lockProgram struct {
	scripts [][]string
	orders  []lockOrder
}

// A lockOrder is what the main task does to task n at the start of an iteration.
type lockOrder struct {
	uncancel bool
	n, at    int
}

func parseLockProgram(t *testing.T, text string) lockProgram {
	t.Helper()
	var p lockProgram
	scripts, orders, _ := strings.Cut(text, " @ ")
	for s := range strings.SplitSeq(scripts, " | ") {
		p.scripts = append(p.scripts, strings.Fields(s))
	}
	for _, o := range strings.Fields(orders) {
		at, err := strconv.Atoi(o[2:])
		must(t, err)
		p.orders = append(p.orders, lockOrder{o[0] == '~', int(o[1] - '0'), at})
	}
	return p
}

// lockWorld holds the objects that the tasks of a program share.
type lockWorld struct {
	lock       asyncio.Lock
	one, two   *asyncio.Semaphore
	zero       *asyncio.Semaphore
	bounded    *asyncio.BoundedSemaphore
	event      asyncio.Event
	cond       asyncio.Condition
	gate, pair *asyncio.Barrier
	tasks      []*asyncio.Task[asyncio.None]
}

const lockNames = "LSTZNECGH"

func newLockWorld() *lockWorld {
	return &lockWorld{
		one: asyncio.NewSemaphore(1), two: asyncio.NewSemaphore(2), zero: asyncio.NewSemaphore(0),
		bounded: asyncio.NewBoundedSemaphore(1), gate: asyncio.NewBarrier(3), pair: asyncio.NewBarrier(2),
	}
}

func (w *lockWorld) primitive(name byte) fmt.Stringer {
	all := []fmt.Stringer{&w.lock, w.one, w.two, w.zero, w.bounded, &w.event, &w.cond, w.gate, w.pair}
	if i := strings.IndexByte(lockNames, name); i >= 0 {
		return all[i]
	}
	return nil
}

var shortState = strings.NewReplacer(", waiters:", "+", ", value:", "=")

func (w *lockWorld) state(name byte) string {
	s := w.primitive(name).String()
	return shortState.Replace(s[strings.IndexByte(s, '['):strings.IndexByte(s, '>')])
}

// step does one step of a program. It returns the error that a method panics with.
func (w *lockWorld) step(ctx context.Context, op string) (index string, err error) {
	type acquirer interface {
		Acquire(context.Context) error
		Release()
	}
	switch verb := op[1]; {
	case op == "..":
		return "", asyncio.Sleep(ctx, 0)
	case op[0] == 'K':
		w.tasks[verb-'0'].Cancel()
	case op[0] == 'U':
		w.tasks[verb-'0'].Uncancel()
	case op == "Ew":
		return "", w.event.Wait(ctx)
	case op == "Es":
		w.event.Set()
	case op == "Ec":
		w.event.Clear()
	case op == "Cw":
		return "", w.cond.Wait(ctx)
	case op == "Cf":
		return "", w.cond.WaitFor(ctx, w.event.IsSet)
	case op == "Cn":
		return "", panicOf(func() { w.cond.Notify(1) })
	case op == "CN":
		return "", panicOf(w.cond.NotifyAll)
	case op[0] == 'G' || op[0] == 'H':
		b := w.primitive(op[0]).(*asyncio.Barrier)
		switch verb {
		case 'w':
			i, err := b.Wait(ctx)
			return strconv.Itoa(i), err
		case 'r':
			return "", b.Reset(ctx)
		}
		return "", b.Abort(ctx)
	case verb == 'a':
		return "", w.primitive(op[0]).(acquirer).Acquire(ctx)
	default:
		return "", panicOf(w.primitive(op[0]).(acquirer).Release)
	}
	return "", nil
}

func lockOutcome(index string, err error) string {
	switch {
	case err == nil:
		return index
	case errors.Is(err, asyncio.ErrCancelled):
		return "!"
	case errors.Is(err, asyncio.ErrBrokenBarrier):
		return "b"
	case errors.Is(err, asyncio.ErrNotAcquired):
		return "x"
	}
	return "?" + err.Error()
}

// trace runs the program in the same way as locks.py.
func (p lockProgram) trace(t *testing.T, ctx context.Context) []string {
	const iterations = 30
	var trace []string
	w, tick, stopped := newLockWorld(), 0, false
	used := ""
	for n, script := range p.scripts {
		for _, op := range script {
			used += op[:1]
		}
		w.tasks = append(w.tasks, asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error {
			for _, op := range script {
				outcome := lockOutcome(w.step(ctx, op))
				if stopped {
					return nil
				}
				event := fmt.Sprintf("%d:%d%s%s", tick, n, op, outcome)
				if strings.Contains(lockNames, op[:1]) {
					event += w.state(op[0])
				}
				trace = append(trace, event)
			}
			return nil
		})))
	}
	for ; tick < iterations; tick++ {
		for _, o := range p.orders {
			if o.at == tick {
				if o.uncancel {
					w.tasks[o.n].Uncancel()
				} else {
					w.tasks[o.n].Cancel()
				}
			}
		}
		must(t, asyncio.Sleep(ctx, 0))
	}
	for n, task := range w.tasks {
		how := "waits"
		if task.Cancelled() {
			how = "cancelled"
		} else if task.Done() {
			how = "done"
		}
		trace = append(trace, fmt.Sprintf("%d:%s:%d", n, how, task.Cancelling()))
	}
	for i := range len(lockNames) {
		if strings.IndexByte(used, lockNames[i]) >= 0 {
			trace = append(trace, lockNames[i:i+1]+w.state(lockNames[i]))
		}
	}
	stopped = true
	for slices.ContainsFunc(w.tasks, func(task *asyncio.Task[asyncio.None]) bool { return !task.Done() }) {
		for _, task := range w.tasks {
			task.Cancel()
		}
		if w.cond.Locked() {
			w.cond.Release()
		}
		must(t, asyncio.Sleep(ctx, 0))
	}
	return trace
}

// Every step of every program happens in the iteration, in the order and with the state that
// CPython recorded. The programs include a cancel of every task in every iteration, and random
// programs.
func TestLocksReplay(t *testing.T) {
	golden, err := os.Open("testdata/cpython/locks.golden")
	must(t, err)
	defer golden.Close()
	lines, failed := bufio.NewScanner(golden), 0
	for lines.Scan() {
		text, want, ok := strings.Cut(lines.Text(), " => ")
		if !ok {
			t.Fatalf("locks.golden: %q", lines.Text())
		}
		p := parseLockProgram(t, text)
		run(t, func(ctx context.Context) error {
			got := p.trace(t, ctx)
			if all := strings.Fields(want); !slices.Equal(got, all) {
				i := 0
				for i < len(got) && i < len(all) && got[i] == all[i] {
					i++
				}
				t.Errorf("%s\ndiffers from event %d on:\n   here %v\nCPython %v", text, i, got[i:], all[i:])
				failed++
			}
			return nil
		})
		if failed > 5 {
			t.Fatal("and so on")
		}
	}
}
