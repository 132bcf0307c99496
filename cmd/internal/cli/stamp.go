package cli

import (
	"bytes"
	"io"
	"strconv"
	"time"

	"github.com/goasyncio/asyncio"
)

// A stampWriter puts the rounded seconds since the first write before each line. The seconds are
// those of loop's clock; without a loop no time passes. Everything written is passed on at once.
type stampWriter struct {
	w         io.Writer
	loop      *asyncio.EventLoop
	begun     bool
	first     asyncio.Instant // the time of the first write, if begun
	lineStart bool            // the next byte begins a line
}

func (s *stampWriter) Write(p []byte) (int, error) {
	var now asyncio.Instant
	if s.loop != nil {
		now = s.loop.Time()
	}
	if !s.begun {
		s.begun, s.first = true, now
	}
	stamp := strconv.FormatInt(int64(now.Sub(s.first).Round(time.Second)/time.Second), 10) + " "

	var stamped []byte
	for line := range bytes.Lines(p) {
		if s.lineStart {
			stamped = append(stamped, stamp...)
		}
		stamped = append(stamped, line...)
		s.lineStart = bytes.HasSuffix(line, []byte("\n"))
	}
	if _, err := s.w.Write(stamped); err != nil {
		return 0, err
	}
	return len(p), nil
}
