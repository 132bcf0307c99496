package goroutine

import (
	"context"
	"sync"

	"github.com/goasyncio/asyncio"
)

func convert(ctx context.Context, jobs *asyncio.Queue[string], done *asyncio.Event) error {
	var all sync.WaitGroup
	for job, err := range jobs.All(ctx) {
		if err != nil {
			return err
		}
		all.Go(func() {
			if err := encode(job); err != nil {
				jobs.PutNowait(job) // want `asyncio.Queue.PutNowait is for the loop only`
			}
		})
	}
	go func() {
		all.Wait()
		done.Set() // want `asyncio.Event.Set is for the loop only`
	}()
	return done.Wait(ctx)
}
