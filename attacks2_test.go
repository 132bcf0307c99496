package asyncio_test

import (
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
)

// More programs that no one should write, and some that anyone would.

// A job that is submitted while the only worker is about to end runs all the same. Each round
// submits as the worker before looks at its empty queue.
func TestAttack_SubmitAsTheWorkerEnds(t *testing.T) {
	e := asyncio.NewThreadPoolExecutor(1)
	late := time.NewTimer(time.Hour)
	for i := range 300_000 {
		ran := make(chan struct{})
		must(t, e.Submit(func() { close(ran) }))
		late.Reset(20 * time.Second)
		select {
		case <-ran:
		case <-late.C:
			t.Fatalf("job %d was accepted and did not run", i)
		}
	}
	e.Shutdown(true)
}
