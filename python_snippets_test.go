package asyncio_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
)

// The Go examples of docs/python.md, word for word: a test of the page compares them.

func transfer(ctx context.Context, lock *asyncio.Lock, amount int) error {
	paid := func() error {
		if err := lock.Acquire(ctx); err != nil {
			return err
		}
		defer lock.Release()
		return pay(ctx, amount)
	}
	if err := paid(); err != nil {
		return err
	}
	err := asyncio.Timeout(ctx, time.Second, func(ctx context.Context, tm *asyncio.TimeoutScope) error {
		return confirm(ctx)
	})
	if err != nil {
		return err
	}
	return asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg *asyncio.TaskGroup) error {
		tg.CreateTask(ctx, notify("payer"))
		tg.CreateTask(ctx, notify("payee"))
		return nil
	})
}

type ledgerKey struct{}

// note adds a line to the ledger that is in ctx.
func note(ctx context.Context, format string, args ...any) {
	ledger := ctx.Value(ledgerKey{}).(*[]string)
	*ledger = append(*ledger, fmt.Sprintf(format, args...))
}

func pay(ctx context.Context, amount int) error {
	err := asyncio.Sleep(ctx, time.Second)
	note(ctx, "paid %d", amount)
	return err
}

func confirm(ctx context.Context) error {
	note(ctx, "confirmed")
	return asyncio.Sleep(ctx, time.Second/2)
}

func notify(who string) func(ctx context.Context) error {
	return func(ctx context.Context) error {
		note(ctx, "told the %s", who)
		return nil
	}
}

func TestPythonSnippets_AsyncWith(t *testing.T) {
	run(t, func(ctx context.Context) error {
		var lock asyncio.Lock
		var ledger []string
		err := transfer(context.WithValue(ctx, ledgerKey{}, &ledger), &lock, 7)
		if want := []string{"paid 7", "confirmed", "told the payer", "told the payee"}; !slices.Equal(ledger, want) || lock.Locked() {
			t.Errorf("%q, %v, want %q", ledger, &lock, want)
		}
		return err
	})
}

func pages(ctx context.Context, get func(ctx context.Context, i int) (string, error), n int) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		for i := range n {
			page, err := get(ctx, i)
			if !yield(page, err) || err != nil {
				return
			}
		}
	}
}

func total(ctx context.Context, get func(ctx context.Context, i int) (string, error)) (int, error) {
	sum := 0
	for page, err := range pages(ctx, get, 3) {
		if err != nil {
			return 0, err
		}
		sum += len(page)
	}
	return sum, nil
}

func firstTwo(ctx context.Context, get func(ctx context.Context, i int) (string, error)) ([]string, error) {
	next, stop := iter.Pull2(pages(ctx, get, 3))
	defer stop()
	first, err, _ := next()
	if err != nil {
		return nil, err
	}
	second, err, _ := next()
	return []string{first, second}, err
}

func TestPythonSnippets_Generators(t *testing.T) {
	run(t, func(ctx context.Context) error {
		get := func(ctx context.Context, i int) (string, error) {
			return fmt.Sprintf("page %d", i), asyncio.Sleep(ctx, time.Second)
		}
		if n, err := total(ctx, get); n != 18 || err != nil {
			t.Errorf("%d, %v, want 18", n, err)
		}
		if two, err := firstTwo(ctx, get); !slices.Equal(two, []string{"page 0", "page 1"}) || err != nil {
			t.Errorf("%q, %v, want the first two pages", two, err)
		}
		fails := func(context.Context, int) (string, error) { return "", errors.ErrUnsupported }
		if _, err := total(ctx, fails); err != errors.ErrUnsupported {
			t.Errorf("%v, want %v", err, errors.ErrUnsupported)
		}
		if _, err := firstTwo(ctx, fails); err != errors.ErrUnsupported {
			t.Errorf("%v, want %v", err, errors.ErrUnsupported)
		}
		return nil
	})
}

type document struct {
	takes             time.Duration
	discarded, closed bool
}

func (doc *document) close() { doc.closed = true }

func store(ctx context.Context, doc *document) error {
	_, err := asyncio.WaitFor(ctx, asyncio.Do(func(ctx context.Context) error { return asyncio.Sleep(ctx, doc.takes) }), time.Minute)
	return err
}

func discard(ctx context.Context, doc *document) error {
	err := asyncio.Sleep(ctx, time.Second/2)
	doc.discarded = err == nil
	return err
}

func save(ctx context.Context, doc *document) (bool, error) {
	defer doc.close()
	err := store(ctx, doc)
	switch {
	case errors.Is(err, asyncio.ErrTimeout):
		return false, nil
	case errors.Is(err, asyncio.ErrCancelled):
		e := asyncio.Cleanup(ctx, time.Second, func(ctx context.Context) error { return discard(ctx, doc) })
		if e != nil {
			return false, errors.Join(err, e)
		}
		return false, err
	case err != nil:
		return false, err
	}
	return true, nil
}

func TestPythonSnippets_Exceptions(t *testing.T) {
	run(t, func(ctx context.Context) error {
		quick, slow, stopped := &document{takes: time.Second}, &document{takes: time.Hour}, &document{takes: time.Second}
		if saved, err := save(ctx, quick); !saved || err != nil || !quick.closed {
			t.Errorf("%v, %v, %+v, want it saved and closed", saved, err, quick)
		}
		if saved, err := save(ctx, slow); saved || err != nil || !slow.closed {
			t.Errorf("%v, %v, %+v, want it closed", saved, err, slow)
		}
		task := asyncio.CreateTask(ctx, asyncio.Coro(func(ctx context.Context) (bool, error) { return save(ctx, stopped) }))
		if err := asyncio.Sleep(ctx, time.Second/2); err != nil {
			return err
		}
		task.Cancel("enough")
		if err := asyncio.Sleep(ctx, time.Second/4); err != nil {
			return err
		}
		task.Cancel("at once") // does not interrupt the clean-up
		_, _, err := asyncio.Wait(ctx, []asyncio.AnyTask{task})
		if !task.Cancelled() || !stopped.discarded || !stopped.closed {
			t.Errorf("%v, %+v, want it cancelled, discarded and closed", task, stopped)
		}
		return err
	})
}

func withoutTimeouts(err error) (timeouts int, rest error) {
	var group *asyncio.GroupError
	if !errors.As(err, &group) {
		return 0, err
	}
	late, rest := group.Split(func(err error) bool { return errors.Is(err, asyncio.ErrTimeout) })
	if late != nil {
		timeouts = len(late.Exceptions)
	}
	return timeouts, rest
}

func TestPythonSnippets_ExceptStar(t *testing.T) {
	late, broken := &asyncio.TimeoutError{}, errors.New("broken")
	n, rest := withoutTimeouts(&asyncio.GroupError{Exceptions: []error{late, broken, late}})
	if n != 2 || !errors.Is(rest, broken) || errors.Is(rest, asyncio.ErrTimeout) {
		t.Errorf("%d, %v, want 2 and what is broken", n, rest)
	}
	if n, rest := withoutTimeouts(&asyncio.GroupError{Exceptions: []error{late}}); n != 1 || rest != nil {
		t.Errorf("%d, %v, want 1 and nothing else", n, rest)
	}
	if n, rest := withoutTimeouts(broken); n != 0 || rest != broken {
		t.Errorf("%d, %v, want the error itself", n, rest)
	}
}

type visitorKey struct{}

func visitor(ctx context.Context) string {
	if name, ok := ctx.Value(visitorKey{}).(string); ok {
		return name
	}
	return "nobody"
}

func greet(ctx context.Context, name string) (string, error) {
	ctx = context.WithValue(ctx, visitorKey{}, name)
	return asyncio.CreateTask(ctx, greeting).Await(ctx)
}

func greeting(ctx context.Context) (string, error) {
	return "hello, " + visitor(ctx), nil
}

func TestPythonSnippets_ContextVariables(t *testing.T) {
	run(t, func(ctx context.Context) error {
		greeted, err := greet(ctx, "Ada")
		if greeted != "hello, Ada" || visitor(ctx) != "nobody" {
			t.Errorf("%q, then %q, want the variable set in the callee alone", greeted, visitor(ctx))
		}
		return err
	})
}

func work(n int) asyncio.Coroutine[int] {
	return func(ctx context.Context) (int, error) {
		return n * n, asyncio.Sleep(ctx, time.Second)
	}
}

func lesson(ctx context.Context) (results []int, err error) {
	loop := asyncio.NewEventLoop(ctx)
	defer func() { err = errors.Join(err, loop.Close()) }()
	tasks := []*asyncio.Future[int]{
		asyncio.EnsureFuture(loop.Context(), work(1)),
		asyncio.EnsureFuture(loop.Context(), work(2)),
	}
	_, err = asyncio.RunUntilComplete(loop, asyncio.Do(func(ctx context.Context) error {
		_, _, err := asyncio.Wait(ctx, tasks)
		return err
	}))
	for _, t := range tasks {
		n, e := t.Result()
		results, err = append(results, n), errors.Join(err, e)
	}
	return results, err
}

func TestPythonSnippets_RunUntilComplete(t *testing.T) {
	results, err := lesson(background)
	if !slices.Equal(results, []int{1, 4}) || err != nil {
		t.Errorf("%v, %v, want 1 and 4", results, err)
	}
}

func cached(key string) asyncio.Coroutine[string] {
	return func(context.Context) (string, error) { return "the value of " + key, nil }
}

func eagerly(ctx context.Context) (bool, error) {
	loop, err := asyncio.GetRunningLoop(ctx)
	if err != nil {
		return false, err
	}
	one := asyncio.CreateTask(ctx, cached("a"), asyncio.EagerStart(true)) // this task alone
	loop.SetTaskFactory(asyncio.EagerTaskFactory)                         // all tasks from now on
	two := asyncio.CreateTask(ctx, cached("b"))
	return one.Done() && two.Done(), nil
}

func TestPythonSnippets_Eager(t *testing.T) {
	run(t, func(ctx context.Context) error {
		done, err := eagerly(ctx)
		if !done {
			t.Error("the tasks are not done, want them done at once")
		}
		return err
	})
}

func worker(ctx context.Context, queue *asyncio.Queue[string]) error {
	for job, err := range queue.All(ctx) { // ends when the queue is shut down and empty
		if err != nil {
			return err
		}
		if err := do(ctx, job); err != nil {
			return err
		}
		queue.TaskDone()
	}
	return nil
}

func do(ctx context.Context, job string) error {
	note(ctx, "did %s", job)
	return asyncio.Sleep(ctx, time.Second)
}

func TestPythonSnippets_QueueShutDown(t *testing.T) {
	run(t, func(ctx context.Context) error {
		var ledger []string
		queue := asyncio.NewQueue[string](0)
		task := asyncio.CreateTask(context.WithValue(ctx, ledgerKey{}, &ledger), asyncio.Do(func(ctx context.Context) error { return worker(ctx, queue) }))
		for _, job := range []string{"one", "two"} {
			if err := queue.Put(ctx, job); err != nil {
				return err
			}
		}
		queue.Shutdown(false)
		_, err := task.Await(ctx)
		if want := []string{"did one", "did two"}; !slices.Equal(ledger, want) {
			t.Errorf("%q, want %q", ledger, want)
		}
		return errors.Join(err, queue.Join(ctx))
	})
}
