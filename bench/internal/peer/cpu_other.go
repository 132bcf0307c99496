//go:build !linux

package peer

import "time"

// ProcessorTime is only known on Linux.
func ProcessorTime(pid int) time.Duration { return 0 }
