package asyncio_test

import (
	"cmp"
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
)

// A type that must be made with a function refuses to work as a zero value: the error names that
// function.
func TestMisuse_ZeroValues(t *testing.T) {
	run(t, func(ctx context.Context) error {
		var q asyncio.Queue[int]
		var lifo asyncio.LifoQueue[int]
		var priority asyncio.PriorityQueue[int]
		var f asyncio.Future[int]
		var task asyncio.Task[int]
		var tg asyncio.TaskGroup
		var noGroup *asyncio.TaskGroup
		var status asyncio.TaskStatus[int]
		var tm asyncio.TimeoutScope
		var concurrent asyncio.ConcurrentFuture[int]
		var conn asyncio.Conn
		var packets asyncio.PacketConn
		var listener asyncio.Listener
		var server asyncio.Server
		var process asyncio.Process
		var reader asyncio.StreamReader
		var writer asyncio.StreamWriter
		child := func(context.Context) error { return nil }
		starting := func(context.Context, *asyncio.TaskStatus[int]) error { return nil }
		done := asyncio.CreateFuture[int](ctx)
		_ = done.SetResult(1)

		second := func(_ any, err error) error { return err }
		third := func(_, _ any, err error) error { return err }
		last := func(seq func(yield func(int, error) bool)) (last error) {
			for _, last = range seq {
				break
			}
			return last
		}
		for _, c := range []struct {
			name, made string
			err        error
		}{
			{"Qsize", "NewQueue", panicOf(func() { q.Qsize() })},
			{"Empty", "NewQueue", panicOf(func() { q.Empty() })},
			{"Full", "NewQueue", panicOf(func() { q.Full() })},
			{"Put", "NewQueue", q.Put(ctx, 1)},
			{"PutNowait", "NewQueue", q.PutNowait(1)},
			{"Get", "NewQueue", second(q.Get(ctx))},
			{"GetNowait", "NewQueue", second(q.GetNowait())},
			{"All", "NewQueue", last(q.All(ctx))},
			{"Join", "NewQueue", q.Join(ctx)},
			{"TaskDone", "NewQueue", panicOf(func() { q.TaskDone() })},
			{"Shutdown", "NewQueue", panicOf(func() { q.Shutdown(true) })},
			{"Statistics", "NewQueue", panicOf(func() { q.Statistics() })},
			{"LifoQueue.Put", "NewLifoQueue", lifo.Put(ctx, 1)},
			{"LifoQueue.PutNowait", "NewLifoQueue", lifo.PutNowait(1)},
			{"PriorityQueue.Put", "NewPriorityQueue", priority.Put(ctx, 1)},
			{"PriorityQueue.Get", "NewPriorityQueue", second(priority.Get(ctx))},
			{"OnGet", "NewQueue", second(asyncio.Select(ctx, asyncio.OnGet(&q)))},
			{"OnPut", "NewLifoQueue", second(asyncio.Select(ctx, asyncio.OnPut(&lifo, 1)))},

			{"Future.Cancel", "CreateFuture", panicOf(func() { f.Cancel() })},
			{"Future.CancelCause", "CreateFuture", panicOf(func() { f.CancelCause(nil) })},
			{"AddDoneCallback", "CreateFuture", panicOf(func() { f.AddDoneCallback(func(*asyncio.Future[int]) {}) })},
			{"RemoveDoneCallback", "CreateFuture", panicOf(func() { f.RemoveDoneCallback(nil) })},
			{"Future.Await", "CreateFuture", second(f.Await(ctx))},
			{"SetResult", "CreateFuture", f.SetResult(1)},
			{"SetException", "CreateFuture", f.SetException(io.EOF)},
			{"Gather", "CreateFuture", second(asyncio.Gather(ctx, &f))},
			{"Gather2", "CreateFuture", third(asyncio.Gather2[int, int](ctx, done, &f))},
			{"GatherResults", "CreateFuture", second(asyncio.GatherResults(ctx, &f))},
			{"Wait", "CreateFuture", third(asyncio.Wait(ctx, []*asyncio.Future[int]{&f}))},
			{"WaitFor", "CreateFuture", second(asyncio.WaitFor[int](ctx, &f, 0))},
			{"WaitFor a second", "CreateFuture", second(asyncio.WaitFor[int](ctx, &f, time.Second))},
			{"Shield", "CreateFuture", panicOf(func() { asyncio.Shield[int](ctx, &f) })},
			{"OnDone", "CreateFuture", second(asyncio.Select(ctx, asyncio.OnDone[int](&f)))},
			{"CaptureCallGraph", "CreateFuture", panicOf(func() { asyncio.CaptureCallGraph(ctx, &f) })},
			{"AsCompleted", "CreateFuture", func() (last error) {
				for _, last = range asyncio.AsCompleted(ctx, []*asyncio.Future[int]{&f}) {
					break
				}
				return last
			}()},

			{"Task.Cancel", "CreateTask", panicOf(func() { task.Cancel() })},
			{"Task.Await", "CreateTask", second(task.Await(ctx))},
			{"Task.GetStack", "CreateTask", panicOf(func() { task.GetStack() })},
			{"Gather of a task", "CreateTask", second(asyncio.Gather(ctx, &task))},

			{"TaskGroup.CreateTask", "RunTaskGroup", panicOf(func() { tg.CreateTask(ctx, child) })},
			{"GroupTask", "RunTaskGroup", panicOf(func() { asyncio.GroupTask(ctx, &tg, instant) })},
			{"GroupTask, nil", "RunTaskGroup", panicOf(func() { asyncio.GroupTask(ctx, noGroup, instant) })},
			{"TaskGroup.Cancel", "RunTaskGroup", panicOf(func() { tg.Cancel() })},
			{"GroupStart", "RunTaskGroup", second(asyncio.GroupStart(ctx, &tg, starting))},
			{"GroupCompleted", "RunTaskGroup", func() (last error) {
				for _, last = range asyncio.GroupCompleted[int](ctx, &tg) {
					break
				}
				return last
			}()},
			{"Started", "GroupStart", status.Started(1)},
			{"Reschedule", "Timeout", tm.Reschedule(asyncio.Never)},

			{"ConcurrentFuture.Await", "StartCall", second(concurrent.Await(ctx))},
			//asynciovet:allow blocking the zero value has nothing to wait for
			{"ConcurrentFuture.Result", "StartCall", second(concurrent.Result(t.Context()))},
			{"ConcurrentFuture.Cancel", "StartCall", panicOf(func() { concurrent.Cancel() })},
			{"Conn.Read", "Conn.Read", second(conn.Read(nil))},
			{"Conn.ReadNowait", "Conn.ReadNowait", second(conn.ReadNowait(nil))},
			{"Conn.OnReadable", "Conn.OnReadable", conn.OnReadable(nil)},
			{"Conn.WriteContext", "Conn.WriteContext", second(conn.WriteContext(ctx, nil))},
			{"Conn.CloseWrite", "Conn.CloseWrite", conn.CloseWrite()},
			{"Conn.SetNoDelay", "Conn.SetNoDelay", conn.SetNoDelay(true)},
			{"Conn.SetDeadline", "Conn.SetDeadline", conn.SetDeadline(time.Time{})},
			{"Conn.Close", "Conn.Close", conn.Close()},
			{"Conn.Detach", "Conn.Detach", second(conn.Detach())},
			{"PacketConn.ReadFrom", "PacketConn.ReadFrom", third(packets.ReadFrom(nil))},
			{"Listener.Accept", "Listener.Accept", second(listener.Accept())},
			{"Listener.Close", "Listener.Close", listener.Close()},
			{"Server.Serve", "Server.Serve", server.Serve(ctx)},
			{"Server.Close", "Server.Close", panicOf(server.Close)},
			{"Process.Wait", "Process.Wait", second(process.Wait(ctx))},
			{"Process.Kill", "Process.Kill", process.Kill()},
			{"Process.Close", "Process.Close", process.Close()},
			{"StreamReader.Read", "StreamReader.Read", second(reader.Read(ctx, 1))},
			{"StreamReader.FeedEOF", "FeedEOF", panicOf(func() { reader.FeedEOF() })},
			{"StreamWriter.Write", "StreamWriter.Write", second(writer.Write(ctx, nil))},
			{"StreamWriter.Close", "StreamWriter.Close", writer.Close(ctx)},
			{"StreamWriter.CloseSoon", "StreamWriter.CloseSoon", panicOf(writer.CloseSoon)},
			{"StreamWriter.Abort", "StreamWriter.Abort", panicOf(writer.Abort)},
		} {
			if !errors.Is(c.err, asyncio.ErrInvalidArgument) || !strings.Contains(c.err.Error(), c.made) {
				t.Errorf("%s: %v, want ErrInvalidArgument with %q", c.name, c.err, c.made)
			}
		}
		for name, got := range map[string]string{
			"Queue": q.String(), "LifoQueue": lifo.String(), "Future": f.String(), "Task": task.String(), "TaskGroup": tg.String(), "TimeoutScope": tm.String(),
		} {
			if got == "" {
				t.Errorf("%s: no String", name)
			}
		}
		made := asyncio.NewPriorityQueue(0, cmp.Compare[int])
		return made.PutNowait(1)
	})
}
