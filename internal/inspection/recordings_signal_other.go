//go:build !unix

package inspection

import "log/slog"

func recordAtSignal(name string) {
	slog.Warn("asyncio: there is no recording at a signal on this system", slog.String("ASYNCIORECORD_SIGNAL", name))
}
