package inspect_test

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/inspect"
)

// takeUntil takes snapshots until one is as wanted.
func takeUntil(ctx context.Context, wanted func(*inspect.Loop) bool) (*inspect.Loop, error) {
	for {
		l, err := take(ctx)
		if err != nil || wanted(l) {
			return l, err
		}
		if err := yield(ctx); err != nil {
			return l, err
		}
	}
}

func fill(queue *asyncio.Queue[int], n int) error {
	for i := range n {
		if err := queue.PutNowait(i); err != nil {
			return err
		}
	}
	return nil
}

// A queue for which nobody waits is found once it is large, with who has filled it.
func TestTake_LargeQueue(t *testing.T) {
	run(t, func(ctx context.Context) error {
		queue := asyncio.NewQueue[int](0)
		producer := asyncio.CreateTask(ctx, asyncio.Do(func(context.Context) error { return fill(queue, 5000) }), asyncio.TaskName("producer"))
		if _, err := producer.Await(ctx); err != nil {
			return err
		}
		l, err := take(ctx)
		if err != nil {
			return err
		}
		if len(l.Queues) != 1 {
			t.Fatalf("%d large queues", len(l.Queues))
		}
		q := l.Queues[0]
		if q.What != "<Queue maxsize=0>" || q.Size != 5000 || q.Was != 4096 || q.By != "producer" || !strings.Contains(q.Where, "things_test.go:") || q.Unfinished != 5000 ||
			!strings.Contains(strings.Join(q.Stack, "\n"), "inspect_test.fill()") {
			t.Errorf("%+v", q)
		}
		for range 4500 {
			if _, err := queue.GetNowait(); err != nil {
				return err
			}
		}
		if l, err := take(ctx); err != nil || len(l.Queues) != 0 {
			t.Errorf("it is no longer large, and there are %d, %v", len(l.Queues), err)
		}
		return nil
	})
}

// Each of several loops has its own queues.
func TestTake_LargeQueuesOfSeveralLoops(t *testing.T) {
	run(t, func(ctx context.Context) error {
		filled, end, over := make(chan struct{}), make(chan struct{}), make(chan error, 1)
		go func() {
			_, err := asyncio.Run(t.Context(), asyncio.Do(func(ctx context.Context) error {
				queue := asyncio.NewLifoQueue[int](0)
				if err := fill(&queue.Queue, 2000); err != nil {
					return err
				}
				close(filled)
				_, _, err := asyncio.Recv(ctx, end)
				return err
			}))
			over <- err
		}()
		if _, _, err := asyncio.Recv(ctx, filled); err != nil {
			return err
		}
		p, err := asyncio.ToThread(ctx, func(ctx context.Context) (*inspect.Process, error) { return inspect.Take(ctx) })
		if err != nil {
			return err
		}
		if len(p.Loops) != 2 || len(p.Loops[0].Queues) != 0 || len(p.Loops[1].Queues) != 1 || p.Loops[1].Queues[0].What != "<LifoQueue maxsize=0>" {
			t.Errorf("%+v", p.Loops)
		}
		close(end)
		err, _, _ = asyncio.Recv(ctx, over)
		return err
	})
}

// The oldest task of a group has an age, and the group says who makes such tasks.
func TestTake_AgesAndMakers(t *testing.T) {
	run(t, func(ctx context.Context) error {
		spawn(ctx, 3, sleeper)
		if err := asyncio.Sleep(ctx, 50*time.Millisecond); err != nil {
			return err
		}
		l, err := take(ctx, inspect.Each(4))
		if err != nil {
			return err
		}
		g := group(l, "inspect_test.sleeper()")
		if g.Age < 34*time.Millisecond || g.Age > time.Hour || g.By != "Task-1" || !strings.Contains(g.Made, "inspect_test.go:") || len(g.IDs) != 3 || g.IDs[0] != l.Each[1].ID {
			t.Errorf("%+v", g)
		}
		if l.Each[0].Age < g.Age || l.Made < 3 {
			t.Errorf("the first task is %v old, %d made", l.Each[0].Age, l.Made)
		}
		return nil
	})
}

// burn is a step of two milliseconds.
func burn(ctx context.Context) error {
	for begin := time.Now(); time.Since(begin) < 2*time.Millisecond; {
	}
	return yield(ctx)
}

// Steps are timed from the first look on.
func TestTake_Steps(t *testing.T) {
	run(t, func(ctx context.Context) error {
		if _, err := take(ctx); err != nil {
			return err
		}
		burner := asyncio.CreateTask(ctx, asyncio.Do(burn), asyncio.TaskName("burner"))
		if _, err := burner.Await(ctx); err != nil {
			return err
		}
		l, err := take(ctx)
		if err != nil {
			return err
		}
		s := l.Steps
		if s == nil || s.Count < 3 || s.Longest < 2*time.Millisecond || s.Busy < s.Longest || s.For < s.Busy {
			t.Fatalf("%+v", s)
		}
		for _, slow := range s.Slow {
			if slow.Task == "burner" && slow.What == "inspect_test.burn" && slow.Took >= 2*time.Millisecond && strings.Contains(slow.Where, "inspect_test.go:") {
				return nil
			}
		}
		t.Errorf("%+v", s.Slow)
		return nil
	})
}

func TestTake_Timers(t *testing.T) {
	run(t, func(ctx context.Context) error {
		loop, err := asyncio.GetRunningLoop(ctx)
		if err != nil {
			return err
		}
		for i := range 20 {
			defer loop.CallLater(time.Duration(20-i)*time.Hour, func() {}).Cancel()
		}
		asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error { return asyncio.Sleep(ctx, time.Minute) }), asyncio.TaskName("napper"))
		if err := yield(ctx); err != nil {
			return err
		}
		l, err := take(ctx)
		if err != nil {
			return err
		}
		if len(l.Next) != 5 || l.Next[0].What != "sleep of napper" || l.Next[0].In > time.Minute {
			t.Fatalf("%+v", l.Next)
		}
		for i, n := range l.Next[1:] {
			if hours := (n.In + time.Minute) / time.Hour; hours != time.Duration(i+1) || !strings.HasPrefix(n.What, "callback ") {
				t.Errorf("%d: %+v", i, n)
			}
		}
		return nil
	})
}

func TestTake_ServersAndSockets(t *testing.T) {
	run(t, func(ctx context.Context) error {
		s, err := asyncio.StartServer(ctx, func(ctx context.Context, r *asyncio.StreamReader, _ *asyncio.StreamWriter) error {
			_, err := r.ReadExactly(ctx, 1)
			return err
		}, "127.0.0.1:0", asyncio.MaxClients(7))
		if err != nil {
			return err
		}
		defer s.Close()
		address := s.Addrs()[0].String()
		var open []net.Conn
		for range 3 {
			c, err := asyncio.Dial(ctx, "tcp", address)
			if err != nil {
				return err
			}
			open = append(open, c)
		}
		l, err := takeUntil(ctx, func(l *inspect.Loop) bool { return len(l.Servers) == 1 && l.Servers[0].Clients == 3 })
		if err != nil {
			return err
		}
		if s := l.Servers[0]; len(s.Addresses) != 1 || s.Addresses[0] != address || s.Limit != 7 || s.Oldest == "" || s.Age <= 0 {
			t.Errorf("%+v", s)
		}
		if a := l.Sockets; a == nil || a.Connections != 6 || a.Listeners != 1 || *a.Addresses[0] != (inspect.Address{Address: address, Connections: 3, Listens: true}) || len(a.Addresses) != 4 {
			t.Errorf("%+v", a)
		}
		for _, c := range open {
			_ = c.Close()
		}
		return nil
	})
}

func TestTake_Executor(t *testing.T) {
	run(t, func(ctx context.Context) error {
		loop, err := asyncio.GetRunningLoop(ctx)
		if err != nil {
			return err
		}
		loop.SetDefaultExecutor(asyncio.NewThreadPoolExecutor(2))
		release := make(chan struct{})
		taken := make(chan *inspect.Process, 1)
		var jobs []*asyncio.Task[int]
		for range 5 {
			jobs = append(jobs, asyncio.CreateTask(ctx, func(ctx context.Context) (int, error) {
				return asyncio.ToThread(ctx, func(context.Context) (int, error) { <-release; return 1, nil })
			}))
		}
		if err := yield(ctx); err != nil {
			return err
		}
		go func() {
			p, err := inspect.Take(ctx)
			if err != nil {
				t.Error(err)
			}
			taken <- p
			close(release)
		}()
		p, _, err := asyncio.Recv(ctx, taken)
		if err != nil {
			return err
		}
		if e := p.Loops[0].Executor; e == nil || *e != (inspect.Executor{What: "asyncio.ThreadPoolExecutor", Threads: 2, Most: 2, Running: 2, Queued: 3}) {
			t.Errorf("%+v", e)
		}
		for _, j := range jobs {
			if _, err := j.Await(ctx); err != nil {
				return err
			}
		}
		return nil
	})
}

// The objects that tasks wait for have their sizes.
func TestTake_Objects(t *testing.T) {
	run(t, func(ctx context.Context) error {
		full := asyncio.NewQueue[int](2)
		if err := fill(full, 2); err != nil {
			return err
		}
		tokens := asyncio.NewCapacityLimiter(1)
		permits := asyncio.NewSemaphore(0)
		asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error {
			if err := tokens.Acquire(ctx); err != nil {
				return err
			}
			defer tokens.Release(ctx)
			return sleeper(ctx)
		}), asyncio.TaskName("borrower"))
		spawn(ctx, 2, func(ctx context.Context) error { return tokens.Acquire(ctx) })
		spawn(ctx, 3, func(ctx context.Context) error { return full.Put(ctx, 1) })
		spawn(ctx, 4, func(ctx context.Context) error { return permits.Acquire(ctx) })
		if err := yield(ctx); err != nil {
			return err
		}
		l, err := take(ctx)
		if err != nil {
			return err
		}
		if len(l.Objects) != 3 {
			t.Fatalf("%d objects", len(l.Objects))
		}
		if o := l.Objects[0]; o.Waiters != 4 || !strings.Contains(o.What, "Semaphore [locked") {
			t.Errorf("%+v", o)
		}
		if o := l.Objects[1]; o.Waiters != 3 || o.Size != 2 || o.Limit != 2 {
			t.Errorf("%+v", o)
		}
		if o := l.Objects[2]; o.Waiters != 2 || o.Limit != 1 || len(o.Holders) != 1 || o.Holders[0] != "borrower" {
			t.Errorf("%+v", o)
		}
		return nil
	})
}

// While somebody looks, the loop's lag is noted.
func TestTake_Lags(t *testing.T) {
	run(t, func(ctx context.Context) error {
		l, err := takeUntil(ctx, func(l *inspect.Loop) bool { return len(l.Lags) > 0 })
		if err == nil && (l.Lags[0] < 0 || l.Lags[0] > time.Minute) {
			t.Errorf("%v", l.Lags)
		}
		return err
	})
}
