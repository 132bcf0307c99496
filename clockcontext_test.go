package asyncio_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
)

// Contexts with deadlines cost the virtual clock nothing until they fire.
func TestContext_ManyDeadlines(t *testing.T) {
	n := 20_000
	if raceEnabled {
		n = 2_000
	}
	runFast(t, func(ctx context.Context) error {
		tasks := make([]*asyncio.Task[asyncio.None], n)
		for i := range tasks {
			tasks[i] = asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error {
				inner, cancel := asyncio.WithTimeout(ctx, time.Duration(i)*time.Millisecond)
				defer cancel()
				if err := asyncio.Sleep(inner, time.Hour); !errors.Is(err, context.DeadlineExceeded) {
					return fmt.Errorf("task %d: %w", i, err)
				}
				return nil
			}))
		}
		_, err := asyncio.Gather(ctx, tasks...)
		return err
	})
}

// The end of a context reaches all its descendants in one iteration, however they were derived.
func TestContext_EndsAllItsDescendants(t *testing.T) {
	run(t, func(ctx context.Context) error {
		outer, cancelOuter := asyncio.WithTimeout(ctx, time.Second)
		defer cancelOuter()
		type key struct{}
		valued := context.WithValue(outer, key{}, 1)
		child, cancelChild := asyncio.WithCancel(valued)
		defer cancelChild()
		grandchild, cancelGrandchild := asyncio.WithTimeout(child, time.Hour)
		defer cancelGrandchild()
		std, cancelStd := context.WithCancel(grandchild)
		defer cancelStd()
		belowStd, cancelBelow := asyncio.WithTimeout(std, time.Hour)
		defer cancelBelow()
		freed, cancelFreed := asyncio.WithTimeout(context.WithoutCancel(outer), 5*time.Second)
		defer cancelFreed()
		sibling, cancelSibling := asyncio.WithCancel(outer)
		cancelSibling() // leaves the family before it ends
		if err := asyncio.Sleep(sibling, 1); !errors.Is(err, context.Canceled) {
			t.Errorf("sibling: %v", err)
		}
		var tasks []*asyncio.Task[asyncio.None]
		for _, c := range []context.Context{outer, valued, child, grandchild, std, belowStd, freed} {
			tasks = append(tasks, asyncio.CreateTask(ctx, asyncio.Do(func(context.Context) error {
				err := asyncio.Sleep(c, time.Hour)
				if now := loop(t, ctx).Time(); now != time.Second && c != freed || now != 5*time.Second && c == freed {
					t.Errorf("%v ended at %v", c, now)
				}
				return err
			})))
		}
		results, err := asyncio.GatherResults(ctx, tasks...)
		for _, r := range results {
			if !errors.Is(r.Err, context.DeadlineExceeded) {
				t.Errorf("%v", r.Err)
			}
		}
		return err
	})
}
