package maprange

import (
	"context"
	"iter"
	"maps"
	"time"

	"example.com/checked/helpers"

	"github.com/goasyncio/asyncio"
)

func ranges(ctx context.Context, events map[string]*asyncio.Event, tasks map[int]*asyncio.Task[int], names []string) error {
	for name := range events { // want `the body awaits by asyncio.Event.Wait`
		if err := events[name].Wait(ctx); err != nil {
			return err
		}
	}
	for _, task := range maps.All(tasks) { // want `the body schedules by asyncio.Future.Cancel`
		task.Cancel()
	}
	for task := range maps.Values(tasks) { // want `the body awaits by asyncio.Future.Await`
		task.Await(ctx)
	}
	for _, event := range events { // want `the body schedules by asyncio.Event.Set.*helpers.Set → asyncio.Event.Set`
		helpers.Set(event)
	}
	for range tasks { // each round is the same
		asyncio.CreateTask(ctx, helpers.Fetch)
	}
	for range 3 {
		for _, event := range events { // want `the body schedules by asyncio.CreateTask`
			asyncio.CreateTask(ctx, asyncio.Do(event.Wait))
		}
	}
	for name := range events { // want `the body awaits by asyncio.Sleep`
		helpers.Each(names, func(other string) {
			if name == other {
				helpers.Wait(ctx)
			}
		})
	}
	for _, event := range events { // want `the body schedules by asyncio.Event.Set`
		defer event.Set()
	}
	for _, event := range events { //asynciovet:allow maprange the events have nothing to do with each other
		event.Set()
	}

	sum := 0
	for _, task := range tasks {
		if task.Done() {
			sum++
		}
		asyncio.NewQueue[int](1)
	}
	for _, name := range names {
		events[name].Set()
	}
	for name := range sequence(names) {
		events[name].Set()
	}
	for name := range events { // another goroutine's order is random anyway
		go func() { time.Sleep(time.Duration(len(name))) }()
	}
	return asyncio.Sleep(ctx, time.Second)
}

func sequence(names []string) iter.Seq[string] { return nil }
