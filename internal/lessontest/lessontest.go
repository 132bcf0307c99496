// Package lessontest runs the Go programs of examples/lessons on a virtual clock.
package lessontest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/sim"
)

// Run runs the program of the lesson in whose directory the test runs, and compares what it prints,
// and the time at which it ends, with expected.txt; or with expected.go.txt, which a lesson has if
// its Go program prints something else than its Python program.
func Run(t *testing.T, program func(ctx context.Context) error) {
	t.Helper()
	want, err := os.ReadFile("expected.go.txt")
	if errors.Is(err, os.ErrNotExist) {
		want, err = os.ReadFile("expected.txt")
	}
	if err != nil {
		t.Fatal(err)
	}
	var end time.Duration
	printed := capture(t, func() {
		_, err = asyncio.Run(asyncio.WithLoopFactory(t.Context(), sim.NewEventLoop), asyncio.Do(func(ctx context.Context) error {
			l, err := asyncio.GetRunningLoop(ctx)
			if err != nil {
				return err
			}
			defer func() { end = l.Time().SinceStart() }()
			return program(ctx)
		}))
	})
	if err != nil {
		t.Error(err)
	}
	if got := fmt.Sprintf("%s%%%% %v 0\n", printed, end); got != string(want) {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// capture returns what fn prints.
func capture(t *testing.T, fn func()) string {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout := os.Stdout
	os.Stdout = w
	printed := make(chan string)
	go func() {
		text, _ := io.ReadAll(r)
		printed <- string(text)
	}()
	func() {
		defer func() {
			os.Stdout = stdout
			_ = w.Close()
		}()
		fn()
	}()
	return <-printed
}
