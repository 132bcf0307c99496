package asyncio_test

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"strings"
	"testing"

	"github.com/goasyncio/asyncio"
)

// queueOf is the common interface of the three kinds of queue.
type queueOf[T any] interface {
	Put(ctx context.Context, v T) error
	PutNowait(v T) error
	Get(ctx context.Context) (T, error)
	GetNowait() (T, error)
	Qsize() int
	Empty() bool
	Full() bool
	Maxsize() int
	Join(ctx context.Context) error
	TaskDone()
	Shutdown(immediate bool)
	All(ctx context.Context) iter.Seq2[T, error]
	Statistics() asyncio.QueueStatistics
	String() string
}

// queueTrace records the iteration of each event, as Trace in queues_ticks.py does.
type queueTrace struct {
	*ticker
	events []string
}

func (tr *queueTrace) note(what any) {
	tr.events = append(tr.events, fmt.Sprintf("%d:%v", tr.n, what))
}

// task runs wait in a task and notes how it ends.
func (tr *queueTrace) task(name string, wait func(ctx context.Context) (any, error)) *asyncio.Task[asyncio.None] {
	return asyncio.CreateTask(tr.ctx, asyncio.Do(func(ctx context.Context) error {
		v, err := wait(ctx)
		switch {
		case errors.Is(err, asyncio.ErrCancelled):
			tr.note(name + "!cancelled")
			return err
		case errors.Is(err, asyncio.ErrQueueShutDown):
			tr.note(name + "!shutdown")
		case err != nil:
			tr.note(name + "!" + err.Error())
		case v == nil:
			tr.note(name)
		default:
			tr.note(fmt.Sprintf("%s=%v", name, v))
		}
		return nil
	}))
}

func (tr *queueTrace) get(name string, q queueOf[int]) *asyncio.Task[asyncio.None] {
	return tr.task(name, func(ctx context.Context) (any, error) { return q.Get(ctx) })
}

func (tr *queueTrace) put(name string, q queueOf[int], v int) *asyncio.Task[asyncio.None] {
	return tr.task(name, func(ctx context.Context) (any, error) { return nil, q.Put(ctx, v) })
}

func (tr *queueTrace) join(name string, q queueOf[int]) *asyncio.Task[asyncio.None] {
	return tr.task(name, func(ctx context.Context) (any, error) { return nil, q.Join(ctx) })
}

func (tr *queueTrace) putNowait(q queueOf[int], v int) {
	tr.t.Helper()
	must(tr.t, q.PutNowait(v))
}

// take takes a value without waiting and notes it.
func (tr *queueTrace) take(q queueOf[int]) {
	tr.t.Helper()
	v, err := q.GetNowait()
	must(tr.t, err)
	tr.note(v)
}

func (tr *queueTrace) settle() { settle(tr.t, tr.ctx) }
func (tr *queueTrace) yield()  { must(tr.t, asyncio.Sleep(tr.ctx, 0)) }

// queueScenarios are the scenarios of queues_ticks.py, by name.
var queueScenarios = map[string]func(tr *queueTrace){
	"get_of_a_value_does_not_suspend": func(tr *queueTrace) {
		q := asyncio.NewQueue[int](0)
		tr.putNowait(q, 1)
		v, err := q.Get(tr.ctx)
		must(tr.t, err)
		tr.note(v)
	},
	"put_with_room_does_not_suspend": func(tr *queueTrace) {
		q := asyncio.NewQueue[int](1)
		must(tr.t, q.Put(tr.ctx, 1))
		tr.note(q.Qsize())
	},
	"put_wakes_getter": func(tr *queueTrace) {
		q := asyncio.NewQueue[int](0)
		tr.get("a", q)
		tr.settle()
		tr.note("put")
		tr.putNowait(q, 1)
		tr.settle()
	},
	"get_wakes_putter": func(tr *queueTrace) {
		q := asyncio.NewQueue[int](1)
		tr.putNowait(q, 1)
		tr.put("a", q, 2)
		tr.settle()
		tr.take(q)
		tr.settle()
		tr.note(q)
	},
	"getters_in_order": func(tr *queueTrace) {
		q := asyncio.NewQueue[int](0)
		for _, name := range []string{"a", "b", "c"} {
			tr.get(name, q)
		}
		tr.settle()
		for v := range 3 {
			tr.putNowait(q, v)
		}
		tr.note(q)
		tr.settle()
	},
	"putters_in_order": func(tr *queueTrace) {
		q := asyncio.NewQueue[int](1)
		tr.putNowait(q, 0)
		for i, name := range []string{"a", "b", "c"} {
			tr.put(name, q, i+1)
		}
		tr.settle()
		tr.note(q)
		for range 4 {
			tr.take(q)
			tr.yield()
		}
	},
	"robbed_getter_goes_to_the_end": func(tr *queueTrace) {
		q := asyncio.NewQueue[int](0)
		tr.get("a", q)
		tr.get("b", q)
		tr.settle()
		tr.putNowait(q, 1)
		tr.take(q)
		tr.settle()
		tr.note(q)
		tr.putNowait(q, 2)
		tr.settle()
		tr.putNowait(q, 3)
		tr.settle()
	},
	"robbed_putter_goes_to_the_end": func(tr *queueTrace) {
		q := asyncio.NewQueue[int](1)
		tr.putNowait(q, 1)
		tr.put("a", q, 2)
		tr.put("b", q, 3)
		tr.settle()
		tr.take(q)
		tr.putNowait(q, 9)
		tr.settle()
		tr.note(q)
		for range 3 {
			tr.take(q)
			tr.settle()
		}
	},
	"cancelled_getter_passes_the_wake_up_on": func(tr *queueTrace) {
		q := asyncio.NewQueue[int](0)
		a := tr.get("a", q)
		tr.get("b", q)
		tr.settle()
		tr.putNowait(q, 1)
		a.Cancel()
		tr.note(q)
		tr.settle()
	},
	"cancelled_putter_passes_the_wake_up_on": func(tr *queueTrace) {
		q := asyncio.NewQueue[int](1)
		tr.putNowait(q, 1)
		a := tr.put("a", q, 2)
		tr.put("b", q, 3)
		tr.settle()
		tr.take(q)
		a.Cancel()
		tr.note(q)
		tr.settle()
		tr.note(q)
	},
	"cancelled_getter_with_nothing_left_wakes_nobody": func(tr *queueTrace) {
		q := asyncio.NewQueue[int](0)
		a := tr.get("a", q)
		tr.get("b", q)
		tr.settle()
		tr.putNowait(q, 1)
		a.Cancel()
		tr.take(q)
		tr.settle()
		tr.note(q)
		tr.putNowait(q, 2)
		tr.settle()
	},
	"cancelled_getter_is_counted_until_it_has_left": func(tr *queueTrace) {
		q := asyncio.NewQueue[int](0)
		a := tr.get("a", q)
		tr.get("b", q)
		tr.settle()
		a.Cancel()
		tr.note(q)
		tr.putNowait(q, 1)
		tr.note(q)
		tr.settle()
	},
	"cancelled_getter_behind_is_counted": func(tr *queueTrace) {
		q := asyncio.NewQueue[int](0)
		tr.get("a", q)
		b := tr.get("b", q)
		tr.settle()
		b.Cancel()
		tr.putNowait(q, 1)
		tr.note(q)
		tr.settle()
		tr.note(q)
	},
	"cancel_then_put_in_one_iteration": func(tr *queueTrace) {
		q := asyncio.NewQueue[int](0)
		a := tr.get("a", q)
		tr.settle()
		a.Cancel()
		tr.putNowait(q, 1)
		tr.settle()
		tr.note(q)
	},
	"cancelled_and_uncancelled_getter_gets": func(tr *queueTrace) {
		q := asyncio.NewQueue[int](0)
		a := tr.get("a", q)
		tr.settle()
		tr.putNowait(q, 1)
		a.Cancel()
		a.Uncancel()
		tr.settle()
		tr.note(q)
	},
	"cancel_not_started": func(tr *queueTrace) {
		q := asyncio.NewQueue[int](0)
		tr.putNowait(q, 1)
		tr.get("a", q).Cancel()
		tr.settle()
		tr.note(q)
	},
	"all_woken_and_one_cancelled": func(tr *queueTrace) {
		q := asyncio.NewQueue[int](0)
		var tasks []*asyncio.Task[asyncio.None]
		for _, name := range []string{"a", "b", "c", "d"} {
			tasks = append(tasks, tr.get(name, q))
		}
		tr.settle()
		for v := range 3 {
			tr.putNowait(q, v)
		}
		tasks[1].Cancel()
		tr.note(q)
		tr.settle()
		tr.note(q)
	},
	"newcomer_overtakes_the_woken": func(tr *queueTrace) {
		q := asyncio.NewQueue[int](0)
		tr.get("a", q)
		tr.settle()
		tr.get("new", q)
		tr.putNowait(q, 1)
		tr.settle()
		tr.note(q)
		tr.putNowait(q, 2)
		tr.settle()
	},
	"producer_and_consumer": func(tr *queueTrace) {
		q := asyncio.NewQueue[int](2)
		asyncio.CreateTask(tr.ctx, asyncio.Do(func(ctx context.Context) error {
			for range 6 {
				v, err := q.Get(ctx)
				if err != nil {
					return err
				}
				tr.note(fmt.Sprintf("got%d", v))
			}
			return nil
		}))
		asyncio.CreateTask(tr.ctx, asyncio.Do(func(ctx context.Context) error {
			for v := range 6 {
				if err := q.Put(ctx, v); err != nil {
					return err
				}
				tr.note(fmt.Sprintf("put%d", v))
			}
			return nil
		}))
		tr.settle()
		tr.settle()
	},
	"two_producers_two_consumers": func(tr *queueTrace) {
		q := asyncio.NewQueue[string](1)
		for _, name := range []string{"x", "y"} {
			asyncio.CreateTask(tr.ctx, asyncio.Do(func(ctx context.Context) error {
				for v := range 3 {
					if err := q.Put(ctx, fmt.Sprint(name, v)); err != nil {
						return err
					}
					tr.note(fmt.Sprint("put-", name, v))
				}
				return nil
			}))
		}
		for _, name := range []string{"c", "d"} {
			asyncio.CreateTask(tr.ctx, asyncio.Do(func(ctx context.Context) error {
				for range 3 {
					v, err := q.Get(ctx)
					if err != nil {
						return err
					}
					tr.note(fmt.Sprint(name, "-got-", v))
				}
				return nil
			}))
		}
		for range 3 {
			tr.settle()
		}
	},
	"join_waits_for_task_done": func(tr *queueTrace) {
		q := asyncio.NewQueue[int](0)
		tr.putNowait(q, 1)
		tr.putNowait(q, 2)
		tr.join("j", q)
		tr.join("k", q)
		tr.settle()
		_, err := q.GetNowait()
		must(tr.t, err)
		q.TaskDone()
		tr.settle()
		tr.note(q)
		_, err = q.GetNowait()
		must(tr.t, err)
		q.TaskDone()
		tr.putNowait(q, 3)
		tr.settle()
		tr.note(q)
	},
	"join_of_nothing_does_not_suspend": func(tr *queueTrace) {
		must(tr.t, asyncio.NewQueue[int](0).Join(tr.ctx))
		tr.note("joined")
	},
	"join_cancelled": func(tr *queueTrace) {
		q := asyncio.NewQueue[int](0)
		tr.putNowait(q, 1)
		j := tr.join("j", q)
		k := tr.join("k", q)
		tr.settle()
		j.Cancel()
		tr.settle()
		q.TaskDone()
		k.Cancel()
		tr.settle()
	},
	"shutdown_wakes_getters_then_putters": func(tr *queueTrace) {
		q := asyncio.NewQueue[int](1)
		tr.get("a", q)
		tr.get("b", q)
		tr.settle()
		tr.put("p", q, 2)
		tr.task("s", func(context.Context) (any, error) {
			tr.note(q)
			q.Shutdown(false)
			tr.note(q)
			return nil, nil
		})
		tr.putNowait(q, 1)
		tr.settle()
		tr.note(q)
	},
	"shutdown_lets_what_is_there_be_got": func(tr *queueTrace) {
		q := asyncio.NewQueue[int](2)
		tr.putNowait(q, 1)
		tr.putNowait(q, 2)
		tr.put("p", q, 3)
		tr.settle()
		q.Shutdown(false)
		tr.note(q)
		tr.settle()
		for _, name := range []string{"a", "b", "c"} {
			tr.get(name, q)
		}
		tr.settle()
		tr.note(q)
	},
	"shutdown_immediately": func(tr *queueTrace) {
		q := asyncio.NewQueue[int](2)
		tr.putNowait(q, 1)
		tr.putNowait(q, 2)
		tr.put("p", q, 3)
		tr.join("j", q)
		tr.settle()
		q.Shutdown(true)
		tr.note(q)
		tr.settle()
		tr.note(q)
	},
	"shutdown_immediately_with_one_being_worked_on": func(tr *queueTrace) {
		q := asyncio.NewQueue[int](0)
		tr.putNowait(q, 1)
		tr.putNowait(q, 2)
		tr.join("j", q)
		tr.settle()
		tr.take(q)
		q.Shutdown(true)
		tr.settle()
		tr.note(q)
		q.TaskDone()
		tr.settle()
	},
	"shutdown_immediately_with_too_few_unfinished": func(tr *queueTrace) {
		q := asyncio.NewQueue[int](0)
		tr.putNowait(q, 1)
		tr.putNowait(q, 2)
		q.TaskDone()
		tr.join("j", q)
		tr.settle()
		q.Shutdown(true)
		tr.note(q)
		tr.settle()
		must(tr.t, q.Join(tr.ctx))
		tr.note(q)
	},
	"shutdown_and_cancel_of_a_getter": func(tr *queueTrace) {
		q := asyncio.NewQueue[int](0)
		a := tr.get("a", q)
		tr.get("b", q)
		tr.settle()
		q.Shutdown(false)
		a.Cancel()
		tr.settle()
		tr.note(q)
	},
	"shutdown_of_a_woken_getter": func(tr *queueTrace) {
		q := asyncio.NewQueue[int](0)
		tr.get("a", q)
		tr.get("b", q)
		tr.settle()
		tr.putNowait(q, 1)
		q.Shutdown(true)
		tr.settle()
		tr.note(q)
	},
	"priority_queue": func(tr *queueTrace) {
		q := asyncio.NewPriorityQueue(0, cmp.Compare[int])
		for _, v := range []int{5, 3, 8, 1, 9, 2, 7, 4, 6, 0} {
			tr.putNowait(q, v)
			tr.note(q)
		}
		for !q.Empty() {
			tr.take(q)
			tr.note(q)
		}
	},
	"priority_queue_with_getters": func(tr *queueTrace) {
		q := asyncio.NewPriorityQueue(0, cmp.Compare[int])
		for _, name := range []string{"a", "b", "c"} {
			tr.get(name, q)
		}
		tr.settle()
		for _, v := range []int{3, 1, 2} {
			tr.putNowait(q, v)
		}
		tr.settle()
	},
	"lifo_queue": func(tr *queueTrace) {
		q := asyncio.NewLifoQueue[int](3)
		for v := range 3 {
			tr.putNowait(q, v+1)
		}
		tr.put("p", q, 4)
		tr.settle()
		tr.note(q)
		for range 4 {
			tr.take(q)
			tr.yield()
		}
	},
}

// TestQueue_Traces replays the traces recorded from CPython.
func TestQueue_Traces(t *testing.T) {
	golden, err := os.Open("testdata/cpython/queues_ticks.golden")
	must(t, err)
	defer golden.Close()
	seen := 0
	lines := bufio.NewScanner(golden)
	for lines.Scan() {
		name, want, _ := strings.Cut(lines.Text(), "|")
		scenario := queueScenarios[name]
		if scenario == nil {
			t.Errorf("no Go scenario for %s", name)
			continue
		}
		seen++
		t.Run(name, func(t *testing.T) {
			run(t, func(ctx context.Context) error {
				tr := &queueTrace{ticker: newTicker(t, ctx)}
				// From the next iteration on, the counter is first in the queue.
				if err := asyncio.Sleep(ctx, 0); err != nil {
					return err
				}
				tr.n = 0
				scenario(tr)
				tr.h.Cancel()
				if got := strings.Join(tr.events, "|"); got != want {
					t.Errorf("\n   got %s\nCPython %s", got, want)
				}
				return nil
			})
		})
	}
	must(t, lines.Err())
	if seen != len(queueScenarios) {
		t.Errorf("%d scenarios in queues_ticks.golden, %d in Go", seen, len(queueScenarios))
	}
}
