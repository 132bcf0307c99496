package asyncio_test

import (
	"cmp"
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
)

// eachKind runs body for each kind of queue; new makes one.
func eachKind(t *testing.T, body func(t *testing.T, ctx context.Context, new func(maxsize int) queueOf[int])) {
	for kind, make := range map[string]func(maxsize int) queueOf[int]{
		"Queue":         func(n int) queueOf[int] { return asyncio.NewQueue[int](n) },
		"LifoQueue":     func(n int) queueOf[int] { return asyncio.NewLifoQueue[int](n) },
		"PriorityQueue": func(n int) queueOf[int] { return asyncio.NewPriorityQueue(n, cmp.Compare[int]) },
	} {
		t.Run(kind, func(t *testing.T) {
			run(t, func(ctx context.Context) error {
				body(t, ctx, make)
				return nil
			})
		})
	}
}

func putting(q queueOf[int], vs ...int) asyncio.Coroutine[asyncio.None] {
	return asyncio.Do(func(ctx context.Context) error {
		for _, v := range vs {
			if err := q.Put(ctx, v); err != nil {
				return err
			}
		}
		return nil
	})
}

func wantGet(t *testing.T, ctx context.Context, q queueOf[int], want ...int) {
	t.Helper()
	for _, w := range want {
		if v, err := q.Get(ctx); v != w || err != nil {
			t.Errorf("Get = %v, %v, want %v", v, err, w)
		}
	}
}

func wantShutDown(t *testing.T, ctx context.Context, q queueOf[int]) {
	t.Helper()
	wantErr(t, "Put", q.Put(ctx, 9), asyncio.ErrQueueShutDown)
	wantErr(t, "PutNowait", q.PutNowait(9), asyncio.ErrQueueShutDown)
	_, err := q.Get(ctx)
	wantErr(t, "Get", err, asyncio.ErrQueueShutDown)
	_, err = q.GetNowait()
	wantErr(t, "GetNowait", err, asyncio.ErrQueueShutDown)
}

func TestQueue_String(t *testing.T) {
	run(t, func(ctx context.Context) error {
		q := asyncio.NewQueue[any](0)
		getter := asyncio.CreateTask(ctx, q.Get)
		must(t, asyncio.Sleep(ctx, 0))
		shows := func(want string) {
			t.Helper()
			if got := q.String(); got != want {
				t.Errorf("String() = %s, want %s", got, want)
			}
		}
		shows("<Queue maxsize=0 _getters[1]>")
		must(t, q.PutNowait(0))
		shows("<Queue maxsize=0 _queue=[0] tasks=1>")
		_, err := getter.Await(ctx)
		must(t, err)
		q.TaskDone()
		shows("<Queue maxsize=0>")

		q = asyncio.NewQueue[any](1)
		must(t, q.PutNowait("a'b"))
		putter := asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error { return q.Put(ctx, nil) }))
		must(t, asyncio.Sleep(ctx, 0))
		shows(`<Queue maxsize=1 _queue=["a'b"] _putters[1] tasks=1>`)
		q.Shutdown(true)
		shows("<Queue maxsize=1 shutdown>")
		_, err = putter.Await(ctx)
		wantErr(t, "putter", err, asyncio.ErrQueueShutDown)

		many := asyncio.NewLifoQueue[int](0)
		for v := range 1000 {
			must(t, many.PutNowait(v))
		}
		if s := many.String(); !strings.HasPrefix(s, "<LifoQueue maxsize=0 _queue=[0, 1, ") || !strings.HasSuffix(s, ", 18, 19, ...] tasks=1000>") {
			t.Errorf("String() = %s", s)
		}
		return nil
	})
}

func TestQueue_Statistics(t *testing.T) {
	eachKind(t, func(t *testing.T, ctx context.Context, new func(int) queueOf[int]) {
		q := new(2)
		for range 3 {
			asyncio.CreateTask(ctx, q.Get)
		}
		settle(t, ctx)
		if got, want := q.Statistics(), (asyncio.QueueStatistics{Maxsize: 2, Getters: 3}); got != want {
			t.Errorf("%+v, want %+v", got, want)
		}
		var putters []*asyncio.Task[asyncio.None]
		for v := range 7 {
			putters = append(putters, asyncio.CreateTask(ctx, putting(q, v)))
		}
		asyncio.CreateTask(ctx, asyncio.Do(q.Join))
		settle(t, ctx)
		if got, want := q.Statistics(), (asyncio.QueueStatistics{Size: 2, Maxsize: 2, Putters: 2, Joiners: 1, Unfinished: 5}); got != want {
			t.Errorf("%+v, want %+v", got, want)
		}
		q.Shutdown(true)
		if got, want := q.Statistics(), (asyncio.QueueStatistics{Maxsize: 2, Joiners: 1, Unfinished: 3, ShutDown: true}); got != want {
			t.Errorf("%+v, want %+v", got, want)
		}
		for range 3 {
			q.TaskDone()
		}
		settle(t, ctx)
		for _, p := range putters[5:] {
			wantErr(t, "putter", p.Exception(), asyncio.ErrQueueShutDown)
		}
	})
}

func TestQueue_EmptyAndFull(t *testing.T) {
	eachKind(t, func(t *testing.T, ctx context.Context, new func(int) queueOf[int]) {
		for _, maxsize := range []int{-1, 0, 1} {
			q := new(maxsize)
			if !q.Empty() || q.Full() || q.Maxsize() != maxsize {
				t.Errorf("%v: Empty %v, Full %v, Maxsize %v", q, q.Empty(), q.Full(), q.Maxsize())
			}
			must(t, q.Put(ctx, 1))
			if q.Empty() || q.Full() != (maxsize == 1) || q.Qsize() != 1 {
				t.Errorf("%v: Empty %v, Full %v, Qsize %v", q, q.Empty(), q.Full(), q.Qsize())
			}
			wantGet(t, ctx, q, 1)
			if !q.Empty() || q.Full() {
				t.Errorf("%v is not as it was", q)
			}
		}
	})
}

func TestQueue_Order(t *testing.T) {
	run(t, func(ctx context.Context) error {
		for _, c := range []struct {
			q    queueOf[int]
			want []int
		}{
			{asyncio.NewQueue[int](0), []int{1, 3, 2}},
			{asyncio.NewLifoQueue[int](0), []int{2, 3, 1}},
			{asyncio.NewPriorityQueue(0, cmp.Compare[int]), []int{1, 2, 3}},
		} {
			for _, v := range []int{1, 3, 2} {
				must(t, c.q.Put(ctx, v))
			}
			wantGet(t, ctx, c.q, c.want...)
		}
		return nil
	})
}

// A PriorityQueue returns equal values in the order they were put, whatever is got in between.
func TestPriorityQueue_Stable(t *testing.T) {
	type job struct{ priority, number int }
	q := asyncio.NewPriorityQueue(0, func(a, b job) int { return cmp.Compare(a.priority, b.priority) })
	r := rand.New(rand.NewPCG(1, 2))
	var model []job
	for n := range 5000 {
		if len(model) == 0 || r.IntN(9) < 5 {
			j := job{r.IntN(4), n}
			must(t, q.PutNowait(j))
			model = append(model, j)
			continue
		}
		want := slices.MinFunc(model, func(a, b job) int {
			return cmp.Or(cmp.Compare(a.priority, b.priority), cmp.Compare(a.number, b.number))
		})
		model = slices.DeleteFunc(model, func(j job) bool { return j == want })
		if got, err := q.GetNowait(); got != want || err != nil {
			t.Fatalf("GetNowait = %v, %v, want %v", got, err, want)
		}
	}
}

// A compare function that panics does no harm to the values in the queue.
func TestPriorityQueue_ComparePanics(t *testing.T) {
	fail := false
	q := asyncio.NewPriorityQueue(0, func(a, b int) int {
		if fail {
			panic(errTest)
		}
		return cmp.Compare(a, b)
	})
	for _, v := range []int{4, 2, 5, 1, 3} {
		must(t, q.PutNowait(v))
	}
	before := q.String()
	fail = true
	wantErr(t, "PutNowait", panicOf(func() { _ = q.PutNowait(0) }), errTest)
	wantErr(t, "GetNowait", panicOf(func() { _, _ = q.GetNowait() }), errTest)
	fail = false
	if got := q.String(); got != before {
		t.Errorf("%s, was %s", got, before)
	}
	wantErr(t, "nil compare", panicOf(func() { asyncio.NewPriorityQueue[int](0, nil) }), asyncio.ErrInvalidArgument)
}

func TestQueue_PutWaitsForRoom(t *testing.T) {
	run(t, func(ctx context.Context) error {
		q := asyncio.NewQueue[int](2)
		var put []int
		task := asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error {
			for v := range 3 {
				if err := q.Put(ctx, v); err != nil {
					return err
				}
				put = append(put, v)
			}
			return nil
		}))
		settle(t, ctx)
		equal(t, "put", put, []int{0, 1})
		wantGet(t, ctx, q, 0)
		must(t, asyncio.Sleep(ctx, 0))
		equal(t, "put", put, []int{0, 1, 2})
		wantGet(t, ctx, q, 1, 2)
		if !task.Done() {
			t.Error("the putter is not done")
		}
		return nil
	})
}

// Callbacks use the methods that do not wait.
func TestQueue_FromCallbacks(t *testing.T) {
	eachKind(t, func(t *testing.T, ctx context.Context, new func(int) queueOf[int]) {
		q, l := new(1), loop(t, ctx)
		l.CallLater(10*time.Millisecond, func() { must(t, q.PutNowait(1)) })
		wantGet(t, ctx, q, 1)
		if now := l.Time().SinceStart(); now != 10*time.Millisecond {
			t.Errorf("got at %v", now)
		}
		must(t, q.Put(ctx, 2))
		l.CallLater(10*time.Millisecond, func() {
			if v, err := q.GetNowait(); v != 2 || err != nil {
				t.Errorf("GetNowait = %v, %v", v, err)
			}
		})
		must(t, q.Put(ctx, 3))
		if now := l.Time().SinceStart(); now != 20*time.Millisecond {
			t.Errorf("put at %v", now)
		}
		l.CallSoon(func() {
			_, err := q.Get(ctx)
			wantErr(t, "Get in a callback", err, asyncio.ErrNotInTask)
		})
		settle(t, ctx)
		wantGet(t, ctx, q, 3)
	})
}

func TestQueue_NowaitErrors(t *testing.T) {
	eachKind(t, func(t *testing.T, ctx context.Context, new func(int) queueOf[int]) {
		q := new(1)
		_, err := q.GetNowait()
		wantErr(t, "GetNowait", err, asyncio.ErrQueueEmpty)
		must(t, q.PutNowait(1))
		wantErr(t, "PutNowait", q.PutNowait(2), asyncio.ErrQueueFull)
		if v, err := q.GetNowait(); v != 1 || err != nil {
			t.Errorf("GetNowait = %v, %v", v, err)
		}
	})
}

func TestQueue_CancelledGetterLeavesTheValue(t *testing.T) {
	run(t, func(ctx context.Context) error {
		q := asyncio.NewQueue[int](0)
		first, second := asyncio.CreateTask(ctx, q.Get), asyncio.CreateTask(ctx, q.Get)
		must(t, asyncio.Sleep(ctx, 0))
		first.Cancel()
		must(t, asyncio.Sleep(ctx, 0))
		if !first.Cancelled() {
			t.Errorf("%v", first)
		}
		must(t, q.Put(ctx, 1))
		must(t, asyncio.Sleep(ctx, 0))
		if v, err := second.Result(); v != 1 || err != nil {
			t.Errorf("second: %v, %v", v, err)
		}

		// A getter is woken and then cancelled. The value stays, in its place (queue 1).
		reader := asyncio.CreateTask(ctx, q.Get)
		must(t, asyncio.Sleep(ctx, 0))
		must(t, q.PutNowait(1))
		must(t, q.PutNowait(2))
		reader.Cancel()
		_, err := reader.Await(ctx)
		wantErr(t, "reader", err, asyncio.ErrCancelled)
		wantGet(t, ctx, q, 1, 2)
		return nil
	})
}

func TestQueue_CancelOneOfManyGetters(t *testing.T) {
	run(t, func(ctx context.Context) error {
		q := asyncio.NewQueue[int](0)
		var readers []*asyncio.Task[int]
		for range 3 {
			readers = append(readers, asyncio.CreateTask(ctx, q.Get))
		}
		must(t, asyncio.Sleep(ctx, 0))
		must(t, q.PutNowait(1))
		must(t, q.PutNowait(2))
		readers[0].Cancel()
		_, err := readers[0].Await(ctx)
		wantErr(t, "first", err, asyncio.ErrCancelled)
		b, err := readers[1].Await(ctx)
		must(t, err)
		c, err := readers[2].Await(ctx)
		must(t, err)
		equal(t, "the others", []int{b, c}, []int{1, 2})
		return nil
	})
}

func TestQueue_CancelledPutterHasNotPut(t *testing.T) {
	run(t, func(ctx context.Context) error {
		q := asyncio.NewQueue[int](1)
		must(t, q.PutNowait(1))
		writer := asyncio.CreateTask(ctx, putting(q, 2))
		must(t, asyncio.Sleep(ctx, 0))
		wantGet(t, ctx, q, 1) // wakes the writer
		writer.Cancel()
		_, err := writer.Await(ctx)
		wantErr(t, "writer", err, asyncio.ErrCancelled)
		if !q.Empty() {
			t.Errorf("%v", q)
		}
		_, err = asyncio.CreateTask(ctx, putting(q, 2)).Await(ctx)
		must(t, err)
		wantGet(t, ctx, q, 2)

		put := []*asyncio.Task[asyncio.None]{
			asyncio.CreateTask(ctx, putting(q, 1)), asyncio.CreateTask(ctx, putting(q, 2)), asyncio.CreateTask(ctx, putting(q, 3)),
		}
		must(t, asyncio.Sleep(ctx, 0))
		put[2].Cancel()
		must(t, asyncio.Sleep(ctx, 0))
		if !put[0].Done() || put[1].Done() || !put[2].Cancelled() {
			t.Errorf("%v", put)
		}
		wantGet(t, ctx, q, 1)
		must(t, asyncio.Sleep(ctx, 0))
		wantGet(t, ctx, q, 2)
		_, err = put[1].Await(ctx)
		return err
	})
}

func TestQueue_WaitersThatGaveUpAreNotKept(t *testing.T) {
	eachKind(t, func(t *testing.T, ctx context.Context, new func(int) queueOf[int]) {
		q := new(1)
		short, cancel := asyncio.WithTimeout(ctx, 100*time.Millisecond)
		defer cancel()
		_, err := q.Get(short)
		wantErr(t, "Get", err, context.DeadlineExceeded)
		must(t, q.PutNowait(1))
		writer := asyncio.CreateTask(ctx, putting(q, 2))
		must(t, asyncio.Sleep(ctx, 0))
		if n := q.Statistics().Putters; n != 1 {
			t.Errorf("%d putters", n)
		}
		writer.Cancel()
		_, err = writer.Await(ctx)
		wantErr(t, "writer", err, asyncio.ErrCancelled)
		if s := q.Statistics(); s.Getters != 0 || s.Putters != 0 {
			t.Errorf("%+v", s)
		}
	})
}

func TestQueue_ManyValuesThroughOnePlace(t *testing.T) {
	eachKind(t, func(t *testing.T, ctx context.Context, new func(int) queueOf[int]) {
		q := new(1)
		asyncio.CreateTask(ctx, putting(q, 0, 1, 2, 3, 4))
		wantGet(t, ctx, q, 0, 1, 2, 3, 4)
	})
}

// Several putters are woken together. As many succeed as there is room (queue 2).
func TestQueue_PuttersBehindABurstOfGets(t *testing.T) {
	eachKind(t, func(t *testing.T, ctx context.Context, new func(int) queueOf[int]) {
		q := new(2)
		asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error {
			must(t, asyncio.Sleep(ctx, 0))
			for range q.Qsize() {
				if _, err := q.GetNowait(); err != nil {
					return err
				}
			}
			return nil
		}))
		var all []*asyncio.Task[asyncio.None]
		for v := range 4 {
			all = append(all, asyncio.CreateTask(ctx, putting(q, v)))
		}
		_, _, err := asyncio.Wait(ctx, all)
		must(t, err)
		if q.Qsize() != 2 {
			t.Errorf("%v", q)
		}
	})
}

func TestQueue_JoinAndTaskDone(t *testing.T) {
	eachKind(t, func(t *testing.T, ctx context.Context, new func(int) queueOf[int]) {
		q := new(0)
		wantErr(t, "TaskDone", panicOf(q.TaskDone), asyncio.ErrInvalidArgument)
		must(t, q.Join(ctx))
		must(t, q.Join(ctx))
		for v := range 100 {
			must(t, q.PutNowait(v))
		}
		sum := 0
		for range 2 {
			asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error {
				for {
					v, err := q.Get(ctx)
					if err != nil {
						return err
					}
					must(t, asyncio.Sleep(ctx, time.Millisecond))
					sum += v
					q.TaskDone()
				}
			}))
		}
		must(t, q.Join(ctx))
		if sum != 99*100/2 {
			t.Errorf("joined at %d", sum)
		}
		wantErr(t, "TaskDone", panicOf(q.TaskDone), asyncio.ErrInvalidArgument)
	})
}

func TestQueue_ShutdownEmpty(t *testing.T) {
	eachKind(t, func(t *testing.T, ctx context.Context, new func(int) queueOf[int]) {
		q := new(0)
		getter := asyncio.CreateTask(ctx, q.Get)
		must(t, asyncio.Sleep(ctx, 0))
		q.Shutdown(false)
		must(t, q.Join(ctx))
		must(t, asyncio.Sleep(ctx, 0))
		wantErr(t, "getter", getter.Exception(), asyncio.ErrQueueShutDown)
		wantShutDown(t, ctx, q)
		q.Shutdown(true)
		wantShutDown(t, ctx, q)
	})
}

func TestQueue_ShutdownNonempty(t *testing.T) {
	eachKind(t, func(t *testing.T, ctx context.Context, new func(int) queueOf[int]) {
		q := new(1)
		must(t, q.PutNowait(1))
		joiner, putter := asyncio.CreateTask(ctx, asyncio.Do(q.Join)), asyncio.CreateTask(ctx, putting(q, 2))
		must(t, asyncio.Sleep(ctx, 0))
		q.Shutdown(false)
		if q.Qsize() != 1 {
			t.Errorf("%v", q)
		}
		must(t, asyncio.Sleep(ctx, 0))
		wantErr(t, "putter", putter.Exception(), asyncio.ErrQueueShutDown)
		wantGet(t, ctx, q, 1)
		must(t, asyncio.Sleep(ctx, 0))
		if joiner.Done() {
			t.Error("joined with a value not done")
		}
		wantShutDown(t, ctx, q)
		q.TaskDone()
		must(t, asyncio.Sleep(ctx, 0))
		if !joiner.Done() || joiner.Exception() != nil {
			t.Errorf("%v", joiner)
		}
		wantErr(t, "TaskDone", panicOf(q.TaskDone), asyncio.ErrInvalidArgument)
	})
}

func TestQueue_ShutdownImmediate(t *testing.T) {
	for _, taken := range []int{0, 1} {
		eachKind(t, func(t *testing.T, ctx context.Context, new func(int) queueOf[int]) {
			q := new(0)
			joiner := asyncio.CreateTask(ctx, asyncio.Do(q.Join), asyncio.TaskName("joiner"))
			must(t, q.PutNowait(1))
			must(t, q.PutNowait(1))
			for range taken {
				wantGet(t, ctx, q, 1)
			}
			must(t, asyncio.Sleep(ctx, 0))
			q.Shutdown(true)
			if q.Qsize() != 0 {
				t.Errorf("%v", q)
			}
			must(t, asyncio.Sleep(ctx, 0))
			if joiner.Done() != (taken == 0) {
				t.Errorf("%d taken: %v", taken, joiner)
			}
			wantShutDown(t, ctx, q)
			for range taken {
				q.TaskDone()
			}
			wantErr(t, "TaskDone", panicOf(q.TaskDone), asyncio.ErrInvalidArgument)
			_, err := joiner.Await(ctx)
			must(t, err)
		})
	}
}

func TestQueue_All(t *testing.T) {
	eachKind(t, func(t *testing.T, ctx context.Context, new func(int) queueOf[int]) {
		q := new(1)
		asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error {
			_, err := putting(q, 0, 1, 2, 3)(ctx)
			q.Shutdown(false)
			return err
		}))
		var got []int
		for v, err := range q.All(ctx) {
			must(t, err)
			must(t, asyncio.Sleep(ctx, time.Second)) // the body may await
			got = append(got, v)
		}
		equal(t, "got", got, []int{0, 1, 2, 3})
	})
}

// Values that All has not yielded are still in the queue.
func TestQueue_AllLeftEarlyOrCancelled(t *testing.T) {
	run(t, func(ctx context.Context) error {
		q := asyncio.NewQueue[int](0)
		for v := range 3 {
			must(t, q.PutNowait(v))
		}
		for v, err := range q.All(ctx) {
			must(t, err)
			if v == 1 {
				break
			}
		}
		wantGet(t, ctx, q, 2)
		var errs []error
		task := asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error {
			for _, err := range q.All(ctx) {
				errs = append(errs, err)
			}
			return nil
		}))
		settle(t, ctx)
		task.Cancel()
		_, err := task.Await(ctx)
		if len(errs) != 1 || !errors.Is(errs[0], asyncio.ErrCancelled) {
			t.Errorf("%v", errs)
		}
		return err
	})
}

func TestQueue_DoneContext(t *testing.T) {
	eachKind(t, func(t *testing.T, ctx context.Context, new func(int) queueOf[int]) {
		q := new(0)
		done, cancel := context.WithCancelCause(ctx)
		cancel(errTest)
		must(t, q.PutNowait(1))
		_, err := q.Get(done)
		wantErr(t, "Get", err, errTest)
		wantErr(t, "Put", q.Put(done, 2), errTest)
		wantErr(t, "Join", q.Join(done), errTest)
		if q.Qsize() != 1 {
			t.Errorf("%v", q)
		}
	})
}

// A getter keeps its turn even if its context ends after it was woken (context 3).
func TestQueue_ContextEndsAfterTheWakeUp(t *testing.T) {
	run(t, func(ctx context.Context) error {
		q := asyncio.NewQueue[int](0)
		inner, cancel := asyncio.WithCancel(ctx)
		getter := asyncio.CreateTask(ctx, func(context.Context) (int, error) { return q.Get(inner) })
		other := asyncio.CreateTask(ctx, q.Get)
		settle(t, ctx)
		must(t, q.PutNowait(1))
		cancel()
		if v, err := getter.Await(ctx); v != 1 || err != nil {
			t.Errorf("getter: %v, %v", v, err)
		}
		// The end of its context wakes a getter that waits, and the value goes to the next getter.
		inner, cancel = asyncio.WithCancel(ctx)
		robbed := asyncio.CreateTask(ctx, func(context.Context) (int, error) { return q.Get(inner) })
		settle(t, ctx)
		cancel()
		must(t, q.PutNowait(2))
		_, err := robbed.Await(ctx)
		wantErr(t, "robbed", err, context.Canceled)
		v, err := other.Await(ctx)
		if v != 2 {
			t.Errorf("other: %v", v)
		}
		return err
	})
}

func TestQueue_Misuse(t *testing.T) {
	eachKind(t, func(t *testing.T, ctx context.Context, new func(int) queueOf[int]) {
		q := new(0)
		must(t, q.PutNowait(1))
		for ctx, want := range map[context.Context]error{nil: asyncio.ErrInvalidArgument, context.Background(): asyncio.ErrNoRunningLoop} {
			_, err := q.Get(ctx)
			wantErr(t, "Get", err, want)
			wantErr(t, "Put", q.Put(ctx, 1), want)
			wantErr(t, "Join", q.Join(ctx), want)
		}
		if q.Qsize() != 1 {
			t.Errorf("%v", q)
		}
	})
}

// A queue may outlive its loop and serve another, but not two at a time (queue 5).
func TestQueue_OtherLoops(t *testing.T) {
	var r reports
	start := onVirtualTime(t.Context(), &r)
	q := asyncio.NewQueue[int](0)
	for range 2 {
		_, err := asyncio.Run(start, asyncio.Do(func(ctx context.Context) error {
			getter := asyncio.CreateTask(ctx, q.Get)
			settle(t, ctx)
			_, err := asyncio.ToThread(ctx, func(context.Context) (asyncio.None, error) {
				wantErr(t, "PutNowait in a thread", q.PutNowait(1), asyncio.ErrForeignGoroutine)
				wantErr(t, "Shutdown in a thread", panicOf(func() { q.Shutdown(true) }), asyncio.ErrForeignGoroutine)
				return asyncio.Run(start, asyncio.Do(func(ctx context.Context) error {
					_, err := q.Get(ctx)
					wantErr(t, "Get on another loop", err, asyncio.ErrDifferentLoop)
					return nil
				}))
			})
			must(t, err)
			must(t, q.Put(ctx, 1))
			_, err = getter.Await(ctx)
			return err
		}))
		must(t, err)
	}
}

// Deferred functions can give back what they borrowed from the queue even while the loop closes.
func TestQueue_WorksWhileItsLoopIsClosed(t *testing.T) {
	l := asyncio.NewEventLoop(t.Context())
	l.SetExceptionHandler(new(reports).handle)
	pool := asyncio.NewQueue[string](0)
	must(t, pool.PutNowait("connection"))
	for range 2 {
		asyncio.CreateTask(l.Context(), asyncio.Do(func(ctx context.Context) error {
			c, err := pool.Get(ctx)
			if err != nil {
				return err
			}
			defer func() { must(t, pool.PutNowait(c)) }()
			_, err = asyncio.CreateFuture[int](ctx).Await(ctx)
			return err
		}))
	}
	l.CallSoon(func() { l.CallSoon(l.Stop) })
	must(t, l.RunForever())
	must(t, l.Close())
	if got, want := pool.Statistics(), (asyncio.QueueStatistics{Size: 1, Unfinished: 2}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}

// The ring keeps the order however it grows and wraps, and forgets the values it gave out.
func TestQueue_ManyValues(t *testing.T) {
	for _, burst := range []int{1, 3, 7, 8, 9, 1000, 5000} {
		q, next, want := asyncio.NewQueue[int](0), 0, 0
		for range 5 {
			for range burst {
				must(t, q.PutNowait(next))
				next++
			}
			for range burst - burst/4 {
				if v, err := q.GetNowait(); v != want || err != nil {
					t.Fatalf("burst %d: GetNowait = %v, %v, want %v", burst, v, err, want)
				}
				want++
			}
		}
		for v, err := q.GetNowait(); err == nil; v, err = q.GetNowait() {
			if v != want {
				t.Fatalf("burst %d: GetNowait = %v, want %v", burst, v, want)
			}
			want++
		}
		if want != next {
			t.Errorf("burst %d: %d values put, %d got", burst, next, want)
		}
	}
}
