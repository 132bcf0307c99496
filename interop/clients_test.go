//go:build unix

package interop

import (
	"context"
	"errors"
	"maps"
	"net"
	"slices"
	"sync"

	"github.com/goasyncio/asyncio"
)

// inThreadOnly makes a coroutine function of a function that blocks and heeds no ctx.
func inThreadOnly(fn func() error) func(ctx context.Context) error {
	return func(ctx context.Context) error {
		_, err := asyncio.ToThread(ctx, func(context.Context) (asyncio.None, error) { return asyncio.None{}, fn() })
		return err
	}
}

// connections are those of a client that has one for each operation.
type connections struct {
	mu   sync.Mutex
	open map[net.Conn]bool
	last string // the address of the last one
}

// use notes a connection that is in use until the result is called.
func (cs *connections) use(c net.Conn) (done func()) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if cs.open == nil {
		cs.open = make(map[net.Conn]bool)
	}
	cs.open[c] = true
	cs.last = c.LocalAddr().String()
	return func() {
		cs.mu.Lock()
		defer cs.mu.Unlock()
		delete(cs.open, c)
	}
}

func (cs *connections) close(context.Context) (err error) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	for c := range cs.open {
		err = errors.Join(err, c.Close())
	}
	return err
}

// waiters are the tasks that wait for answers that come by callbacks. They belong to the loop, so
// they need no lock.
type waiters map[string]*asyncio.Future[string]

// wait sends a request and suspends the calling task until the answer is there.
func (ws waiters) wait(ctx context.Context, value string, send func() error) (string, error) {
	answer := asyncio.CreateFuture[string](ctx)
	ws[value] = answer
	defer delete(ws, value)
	if err := send(); err != nil {
		answer.Cancel()
		return "", err
	}
	return answer.Await(ctx)
}

// deliver is a callback of the loop. Nobody may be waiting any more.
func (ws waiters) deliver(value string) {
	if answer := ws[value]; answer != nil && !answer.Done() {
		answer.SetResult(value)
	}
}

func (ws waiters) fail(err error) {
	for _, value := range slices.Sorted(maps.Keys(ws)) {
		if answer := ws[value]; !answer.Done() {
			answer.SetException(err)
		}
	}
}
