package asyncio_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"testing"

	"github.com/goasyncio/asyncio"
)

// A signal that arrives just as main ends is not lost. The test watches a subprocess.
func TestRun_SIGINTAtTheEnd(t *testing.T) {
	needsSignals(t)
	out, err := subprocess("TestRun_SIGINTAtTheEndSubprocess", "ASYNCIO_TEST_SIGINT_END=1").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "interrupted: true") {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestRun_SIGINTAtTheEndSubprocess(t *testing.T) {
	if os.Getenv("ASYNCIO_TEST_SIGINT_END") == "" {
		return // run by TestRun_SIGINTAtTheEnd
	}
	heard := make(chan os.Signal, 1)
	signal.Notify(heard, os.Interrupt)
	defer signal.Stop(heard)
	v, err := asyncio.Run(t.Context(), func(context.Context) (int, error) {
		p, err := os.FindProcess(os.Getpid())
		must(t, err)
		must(t, p.Signal(os.Interrupt))
		<-heard // by now it has been delivered to every listener
		return 1, nil
	})
	fmt.Println("interrupted:", errors.Is(err, asyncio.ErrKeyboardInterrupt), v)
}
