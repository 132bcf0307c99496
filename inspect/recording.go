package inspect

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/goasyncio/asyncio/internal/inspection"
	"github.com/goasyncio/asyncio/internal/recording"
	"github.com/goasyncio/asyncio/internal/recording/picture"
	"github.com/goasyncio/asyncio/internal/timeline"
)

// A Recording is what the flight recorders of the loops of a process held at one moment. Any
// goroutine may use it.
type Recording struct {
	file  []byte
	drawn *timeline.Timeline
}

// ErrNotRecorded is returned if no loop of the process has its recorder on.
var ErrNotRecorded = inspection.ErrNotRecorded

// ErrRecordingFormat is returned for what is no recording, or one of another version.
var ErrRecordingFormat = recording.ErrFormat

// maxRecording bounds what [ReadRecording] reads, in bytes.
const maxRecording = 1 << 31

// Record returns what the flight recorders of this process hold. It blocks its caller while the
// loops list their tasks, a slice in each iteration; so it is for goroutines, not for tasks. A loop
// that is stuck is not waited for. When ctx is done, Record returns what it has. It returns
// [ErrNotRecorded]. Loops of a simulation are left out; see asyncio.EventLoop.WriteRecording.
func Record(ctx context.Context) (*Recording, error) {
	r, err := inspection.TakeRecording(ctx, recording.Asked)
	if err != nil {
		return nil, err
	}
	return newRecording(r, r.Encode())
}

// SetRecording switches the flight recorders of all loops that run on, with rings of so many bytes,
// as far as they are off; or all of them off, if bytes is 0. It does not wait for the loops, but a
// [Record] that follows does. It panics if bytes is negative. Any goroutine may call it.
func SetRecording(bytes int) {
	if bytes < 0 {
		panic(fmt.Errorf("inspect: a ring of %d bytes", bytes))
	}
	inspection.SetRecording(bytes)
}

// attachRing is the size of the rings that AttachRecording asks for, in bytes.
const attachRing = 8 << 20

// AttachRecording is [Record] for another process; see [Attach]. If d is positive, it switches the
// recorders of the process on, as far as they are off, waits for d, takes the recording, and
// switches them off again if none was on. It returns [ErrNotPrepared], or the cause of ctx.
func AttachRecording(ctx context.Context, pid int, d time.Duration) (_ *Recording, err error) {
	off := false
	if d > 0 {
		began, err := inspection.AttachRecording(ctx, pid, inspection.AskRecording{Bytes: attachRing})
		if err != nil {
			return nil, err
		}
		off = !began.Was
		wait := time.NewTimer(d)
		defer wait.Stop()
		select {
		case <-wait.C:
		case <-ctx.Done():
			if off { // it must not go on for nobody
				_, _ = inspection.AttachRecording(context.WithoutCancel(ctx), pid, inspection.AskRecording{Off: true})
			}
			return nil, context.Cause(ctx)
		}
	}
	r, err := inspection.AttachRecording(ctx, pid, inspection.AskRecording{Take: true, Off: off})
	if err != nil {
		return nil, err
	}
	return decodeRecording(r.File)
}

// ReadRecording reads a file that was written by [Recording.Write], by
// asyncio.EventLoop.WriteRecording, or because of ASYNCIORECORD_DIR. It returns
// [ErrRecordingFormat], or the error of in.
func ReadRecording(in io.Reader) (*Recording, error) {
	file, err := io.ReadAll(io.LimitReader(in, maxRecording))
	if err != nil {
		return nil, err
	}
	return decodeRecording(file)
}

func decodeRecording(file []byte) (*Recording, error) {
	r, err := recording.Decode(file)
	if err != nil {
		return nil, err
	}
	return newRecording(r, file)
}

func newRecording(r *recording.Recording, file []byte) (*Recording, error) {
	drawn, err := picture.Of(r)
	if err != nil {
		return nil, err
	}
	return &Recording{file, drawn}, nil
}

// Write writes the recording as a file that [ReadRecording] reads.
func (r *Recording) Write(w io.Writer) error {
	_, err := w.Write(r.file)
	return err
}

// WriteHTML writes the recording as a page, one file that asks nothing of any other.
func (r *Recording) WriteHTML(w io.Writer) error { return r.drawn.WriteHTML(w) }

// WritePerfetto writes the recording in the format of Perfetto, https://ui.perfetto.dev.
func (r *Recording) WritePerfetto(w io.Writer) error { return r.drawn.WritePerfetto(w) }

// WriteChrome writes the recording as JSON of Chrome's trace viewer, which others read as well.
func (r *Recording) WriteChrome(w io.Writer) error { return r.drawn.WriteChrome(w) }

// serveRecording serves a recording: as a page, or as the file if the query has format=file.
func serveRecording(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), patience)
	defer cancel()
	taken, err := Record(ctx)
	if err != nil {
		status := http.StatusInternalServerError
		if errors.Is(err, ErrNotRecorded) {
			status = http.StatusNotFound
		}
		http.Error(w, err.Error(), status)
		return
	}
	if r.URL.Query().Get("format") == "file" {
		w.Header().Set("Content-Type", "application/octet-stream")
		w.Header().Set("Content-Disposition", `attachment; filename="recording.asyncrec"`)
		_ = taken.Write(w)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_ = taken.WriteHTML(w)
}
