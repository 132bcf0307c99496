package goroutine

import (
	"context"

	"github.com/goasyncio/asyncio"
)

func convertInThreads(ctx context.Context, jobs *asyncio.Queue[string]) error {
	return asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg *asyncio.TaskGroup) error {
		for job, err := range jobs.All(ctx) {
			if err != nil {
				return err
			}
			tg.CreateTask(ctx, func(ctx context.Context) error {
				_, err := asyncio.ToThread(ctx, func(context.Context) (asyncio.None, error) {
					return asyncio.None{}, encode(job)
				})
				if err != nil {
					return jobs.PutNowait(job) // in the task again
				}
				return nil
			})
		}
		return nil
	})
}

func listen(loop *asyncio.EventLoop, changed *asyncio.Event, news <-chan string) {
	go func() {
		for range news {
			loop.CallSoonThreadsafe(changed.Set)
		}
	}()
}
