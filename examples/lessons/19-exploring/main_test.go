package main

import (
	"context"
	"os"
	"strings"
	"testing"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/internal/lessontest"
)

// An exploration has loops of its own, so it must not run on the goroutine of one.
func TestLesson(t *testing.T) {
	lessontest.Run(t, func(ctx context.Context) error {
		if err := program(ctx); err != nil {
			return err
		}
		_, err := asyncio.ToThread(ctx, func(context.Context) (asyncio.None, error) { return asyncio.None{}, explore() })
		return err
	})
}

// The first lines are what the Python program prints.
func TestLesson_SameAsPython(t *testing.T) {
	var text [2]string
	for i, name := range []string{"expected.txt", "expected.go.txt"} {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		text[i], _, _ = strings.Cut(string(b), "%% ")
	}
	if !strings.HasPrefix(text[1], text[0]) {
		t.Errorf("Python prints\n%s\nGo prints\n%s", text[0], text[1])
	}
}
