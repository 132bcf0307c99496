//go:build unix

package inspection

import (
	"log/slog"
	"os"
	"os/signal"
	"strings"

	"golang.org/x/sys/unix"
)

// signalsRecorded are the signals at which a recording may be written: those that Go programs do
// not live by, and that the kernel does not send for its own reasons.
var signalsRecorded = []string{"SIGUSR1", "SIGUSR2", "SIGHUP", "SIGQUIT", "SIGWINCH"}

// recordAtSignal writes a recording at each signal of that name, "USR2" say, for as long as the
// process lives.
func recordAtSignal(name string) {
	full := "SIG" + strings.TrimPrefix(strings.ToUpper(name), "SIG")
	known := false
	for _, s := range signalsRecorded {
		known = known || s == full
	}
	switch {
	case !known:
		slog.Warn("asyncio: no recording is written at that signal", slog.String("ASYNCIORECORD_SIGNAL", name),
			slog.String("possible", strings.Join(signalsRecorded, ", ")))
		return
	case troubleDirectory == "":
		slog.Warn("asyncio: no recording is written at a signal: ASYNCIORECORD_DIR names no directory for it", slog.String("ASYNCIORECORD_SIGNAL", name))
		return
	}
	came := make(chan os.Signal, 1)
	signal.Notify(came, unix.SignalNum(full))
	go func() {
		for range came {
			RecordTrouble(full)
		}
	}()
}
