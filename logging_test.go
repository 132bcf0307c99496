package asyncio_test

import (
	"bytes"
	"context"
	"log"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
)

// Without a logger of the program's, reports have their stacks on lines of their own, the program's
// innermost call first, and nothing of the library's.
func TestReports_AreReadable(t *testing.T) {
	var b bytes.Buffer
	log.SetOutput(&b)
	defer log.SetOutput(os.Stderr)
	_, _ = asyncio.Run(t.Context(), asyncio.Do(func(ctx context.Context) error {
		worker := asyncio.CreateTask(ctx, asyncio.Do(indexes), asyncio.TaskName("worker"))
		_, err := worker.Await(ctx)
		return err
	}))
	lines := strings.Split(b.String(), "\n")
	if len(lines) < 5 || !strings.HasSuffix(lines[0], "ERROR asyncio: panic in task") ||
		!strings.HasPrefix(lines[1], "  exception: asyncio: panic: runtime error: index out of range") ||
		!strings.HasPrefix(lines[2], "    asyncio_test.indexes() at ") || !strings.Contains(lines[2], "logging_test.go:") ||
		!strings.HasPrefix(lines[3], "  task: <Task pending name='worker'") {
		t.Errorf("%s", b.String())
	}
}

func indexes(context.Context) error {
	var none []error
	return none[len(os.Args)]
}

// A stall is reported with the place, while it lasts.
func TestReports_OfStallsSayWhere(t *testing.T) {
	var b lockedText
	log.SetOutput(&b)
	defer log.SetOutput(os.Stderr)
	_, err := asyncio.Run(t.Context(), asyncio.Do(func(context.Context) error {
		for !strings.Contains(b.String(), "keeping the loop") {
		}
		return nil
	}), asyncio.StallWatchdog(10*time.Millisecond))
	text := b.String()
	if err != nil || !strings.Contains(text, "WARN asyncio: task 'Task-1' has been keeping the loop for") || !strings.Contains(text, "\n    asyncio_test.TestReports_OfStallsSayWhere.func") {
		t.Errorf("%v\n%s", err, text)
	}
}

// lockedText is text to which several goroutines write.
type lockedText struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedText) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedText) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}
