//go:build unix

package inspection

import (
	"log/slog"
	"maps"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
)

// signalsRecorded are the signals at which a recording may be written: those that Go programs do
// not live by, and that the kernel does not send for its own reasons.
var signalsRecorded = map[string]os.Signal{
	"HUP": syscall.SIGHUP, "QUIT": syscall.SIGQUIT, "USR1": syscall.SIGUSR1, "USR2": syscall.SIGUSR2, "WINCH": syscall.SIGWINCH,
}

// recordAtSignal writes a recording at each signal of that name, "USR2" say, for as long as the
// process lives.
func recordAtSignal(name string) {
	short := strings.TrimPrefix(strings.ToUpper(name), "SIG")
	s := signalsRecorded[short]
	switch {
	case s == nil:
		slog.Warn("asyncio: no recording is written at that signal", slog.String("ASYNCIORECORD_SIGNAL", name),
			slog.String("possible", strings.Join(slices.Sorted(maps.Keys(signalsRecorded)), ", ")))
		return
	case troubleDirectory == "":
		slog.Warn("asyncio: no recording is written at a signal: ASYNCIORECORD_DIR names no directory for it", slog.String("ASYNCIORECORD_SIGNAL", name))
		return
	}
	came := make(chan os.Signal, 1)
	signal.Notify(came, s)
	go func() {
		for range came {
			RecordTrouble("SIG" + short)
		}
	}()
}
