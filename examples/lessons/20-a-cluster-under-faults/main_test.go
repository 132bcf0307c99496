package main

import (
	"context"
	"testing"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/internal/lessontest"
)

// An exploration has loops of its own, so it must not run on the goroutine of one.
func TestLesson(t *testing.T) {
	lessontest.Run(t, func(ctx context.Context) error {
		_, err := asyncio.ToThread(ctx, func(context.Context) (asyncio.None, error) { return asyncio.None{}, explore() })
		return err
	})
}
