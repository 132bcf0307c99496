//go:build unix

package asyncio_test

import (
	"context"
	"errors"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
)

// fault reads memory that may not be read.
func fault() {
	page, err := syscall.Mmap(-1, 0, 4096, syscall.PROT_NONE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil {
		panic(err)
	}
	sink = page[1]
}

var sink byte

// A fault at an address that is not nil is a panic in a task. It still ends the program if nobody
// recovers it (foreign 8).
func TestForeign_FaultEndsTheProgram(t *testing.T) {
	const variable = "ASYNCIO_TEST_FAULT"
	if where := os.Getenv(variable); where != "" {
		_, err := asyncio.Run(t.Context(), asyncio.Do(func(ctx context.Context) error {
			switch where {
			case "task":
				fault()
			case "callback":
				loop(t, ctx).CallSoon(fault)
			case "recovered":
				err := panicOf(fault)
				var f interface{ Addr() uintptr }
				if !errors.As(err, &f) {
					t.Errorf("a fault recovered: %v", err)
				}
			}
			return asyncio.Sleep(ctx, time.Millisecond)
		}))
		must(t, err)
		return
	}
	for where, survives := range map[string]bool{"task": false, "callback": false, "recovered": true} {
		out, err := subprocess("TestForeign_FaultEndsTheProgram", variable+"="+where).CombinedOutput()
		if survives != (err == nil) || !survives && !strings.Contains(string(out), "unexpected fault address") {
			t.Errorf("%s: %v\n%s", where, err, out)
		}
	}
}
