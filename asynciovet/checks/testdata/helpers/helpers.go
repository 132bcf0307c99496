// Package helpers has functions whose facts the other packages use.
package helpers

import (
	"context"
	"math/rand"
	"os/exec"
	"sync"
	"time"

	"github.com/goasyncio/asyncio"
)

func Spawn(f func()) { go f() }

func SpawnAll(fs ...func()) {
	for _, f := range fs {
		go func() { f() }()
	}
}

// Group is like the one in golang.org/x/sync/errgroup.
type Group struct{ wait sync.WaitGroup }

func (g *Group) Go(f func() error) {
	g.wait.Add(1)
	go func() {
		defer g.wait.Done()
		_ = f()
	}()
}

func (g *Group) Wait() { g.wait.Wait() }

// OnLoop runs main on a loop.
func OnLoop(main func(ctx context.Context) error) error {
	_, err := asyncio.Run(context.Background(), asyncio.Do(main))
	return err
}

func Each[T any](all []T, f func(T)) {
	for _, v := range all {
		f(v)
	}
}

func Fetch(ctx context.Context) (int, error) { return 1, Wait(ctx) }

func Wait(ctx context.Context) error { return asyncio.Sleep(ctx, time.Second) }

func Load(name string) ([]byte, error) { return exec.Command("cat", name).Output() }

func Retry(f func() error) error {
	for f() != nil {
		pause()
	}
	return nil
}

func pause() { time.Sleep(time.Second) }

// Short blocks for so short that nobody minds.
func Short() {
	time.Sleep(time.Microsecond) //asynciovet:allow blocking it is shorter than a step
}

func Jitter(d time.Duration) time.Duration { return d + time.Duration(rand.Int63n(int64(d))) }

func Set(e *asyncio.Event) { e.Set() }

func Produce(ctx context.Context) asyncio.Coroutine[int] { return Fetch }
