package goroutine

import (
	"context"
	"net"
	"sync"
	"testing"
	"time"

	"example.com/checked/helpers"

	"github.com/goasyncio/asyncio"
)

func encode(string) error { return nil }

type server struct {
	loop  *asyncio.EventLoop
	conn  *asyncio.Conn
	queue *asyncio.Queue[int]
	tasks map[string]*asyncio.Task[int]
}

// In each of the ways to get to a goroutine.
func (s *server) ways(ctx context.Context) error {
	go asyncio.Sleep(ctx, time.Second) // want `asyncio.Sleep suspends a task, and this goroutine is outside of it \(go statement\)`
	go s.put(1)                        // want `asyncio.Queue.PutNowait is for the loop only.*goroutine.server.put → asyncio.Queue.PutNowait`
	go s.fetch(ctx)                    // want `asyncio.Sleep suspends a task`
	time.AfterFunc(time.Second, func() {
		s.queue.TaskDone() // want `asyncio.Queue.TaskDone is for the loop only.*given to time.AfterFunc`
		s.queue.TaskDone() //asynciovet:allow goroutine the example needs one that is allowed
	})
	context.AfterFunc(ctx, func() { s.tasks["x"].Cancel() })   // want `asyncio.Future.Cancel is for the loop only`
	helpers.Spawn(func() { s.queue.TaskDone() })               // want `asyncio.Queue.TaskDone is for the loop only.*given to helpers.Spawn`
	helpers.SpawnAll(func() {}, func() { s.queue.TaskDone() }) // want `asyncio.Queue.TaskDone is for the loop only`
	spawn(func() { s.queue.TaskDone() })                       // want `asyncio.Queue.TaskDone is for the loop only.*given to goroutine.spawn`
	background := func() { s.queue.TaskDone() }                // want `asyncio.Queue.TaskDone is for the loop only`
	go background()
	var pool asyncio.Executor = asyncio.NewThreadPoolExecutor(1)
	pool.Submit(func() { s.queue.TaskDone() })                                           // want `asyncio.Queue.TaskDone is for the loop only.*given to asyncio.Executor.Submit`
	asyncio.RunInExecutor(ctx, pool, func() (int, error) { return s.queue.GetNowait() }) // want `asyncio.Queue.GetNowait is for the loop only`
	_, err := asyncio.ToThread(ctx, s.inThread)                                          // want `asyncio.Conn.Read suspends a task.*: use Conn.Threadsafe`
	_, err = asyncio.ToThread(ctx, helpers.Fetch)                                        // want `asyncio.Sleep suspends a task.*helpers.Fetch → helpers.Wait → asyncio.Sleep`
	_, err = asyncio.ToThread(ctx, func(ctx context.Context) (int, error) {
		func() {
			s.queue.TaskDone() // want `asyncio.Queue.TaskDone is for the loop only`
		}()
		return 0, helpers.Wait(ctx) // want `asyncio.Sleep suspends a task`
	})
	return err
}

func spawn(f func()) { go f() }

func (s *server) put(n int) { s.queue.PutNowait(n) }

func (s *server) fetch(ctx context.Context) (int, error) { return 0, asyncio.Sleep(ctx, time.Second) }

func (s *server) inThread(context.Context) (int, error) { return s.conn.Read(nil) }

// What any goroutine may call.
func (s *server) allowed(ctx context.Context) {
	view := s.conn.Threadsafe()
	go func() {
		s.conn.SetDeadline(time.Now())
		view.Read(nil)
		view.Close()
		s.conn.Close()
		s.loop.CallSoonThreadsafe(s.queue.TaskDone)
		asyncio.RunCoroutineThreadsafe(s.fetch, s.loop).Result(ctx)
		asyncio.Call(ctx, s.loop, s.fetch)
		asyncio.StartCall(ctx, s.loop, func(ctx context.Context) (int, error) { return s.queue.Get(ctx) })
		s.loop.Time()
		asyncio.Run(context.Background(), s.fetch)
	}()
}

// A goroutine that has a loop of its own.
func (s *server) ownLoop(ctx context.Context) {
	go func() {
		loop := asyncio.NewEventLoop(context.Background())
		defer loop.Close()
		loop.CallSoon(func() {})
		asyncio.CreateTask(loop.Context(), s.fetch)
		loop.RunForever()
	}()
	go func() {
		mine := asyncio.NewQueue[int](1)
		mine.PutNowait(1)
	}()
	go func() {
		s.loop.CallSoon(func() {}) // at rest, and this goroutine will run it
		s.loop.RunForever()
	}()
}

// Both a task and a goroutine call it; only the goroutine is told.
func (s *server) both(ctx context.Context) {
	s.put(1)
	go s.put(2) // want `asyncio.Queue.PutNowait is for the loop only`
}

// It asks whether there is a loop.
func sleep(ctx context.Context, d time.Duration) error {
	if _, err := asyncio.GetRunningLoop(ctx); err == nil {
		return asyncio.Sleep(ctx, d)
	}
	time.Sleep(d)
	return nil
}

func (s *server) sleeps(ctx context.Context) {
	go sleep(ctx, time.Second)
	go serve(func(net.Conn) {}) // somebody else's
}

func serve(func(net.Conn)) {}

// A test may have a loop at rest, and calls of one that runs suspend.
func onTest(t *testing.T) {
	loop := asyncio.NewEventLoop(t.Context())
	var once sync.Once
	once.Do(func() { loop.CallSoon(func() {}) })
	t.Run("", func(t *testing.T) {
		loop.CallSoon(func() {})
		asyncio.Sleep(loop.Context(), 1) // want `asyncio.Sleep suspends a task`
	})
}
