package inspection

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/goasyncio/asyncio/internal/recording"
)

// A Recorder is a [Loop] that has a flight recorder.
type Recorder interface {
	// Record switches the recorder on, with a ring of so many bytes, unless it is on; or off, if
	// bytes is 0. It does not wait for the loop. Any goroutine may call it.
	Record(bytes int)

	// Records reports whether the recorder is on. Any goroutine may call it.
	Records() bool

	// Recording returns what the recorder holds, nil if it is off. It waits for the loop to list
	// its tasks, unless that is stuck, ctx is done, or gone is closed. Any goroutine may call it.
	Recording(ctx context.Context, gone <-chan struct{}) *recording.Loop
}

// NewRecording makes a recording of these loops of this process.
func NewRecording(why string, loops ...*recording.Loop) *recording.Recording {
	return &recording.Recording{Program: program(), PID: os.Getpid(), Time: time.Now(), Reason: why, Loops: loops}
}

// SetRecording is [Recorder.Record] for all loops that run. It reports whether a recorder was on.
func SetRecording(bytes int) (was bool) {
	for _, run := range Running() {
		if r, ok := run.Loop.(Recorder); ok {
			was = was || r.Records()
			r.Record(bytes)
		}
	}
	return was
}

// An AskRecording says what a process is to do with its recorders: switch them on if Bytes is
// positive, then take a recording if Take is set, then switch them off if Off is set.
type AskRecording struct {
	Bytes int
	Take  bool
	Off   bool
}

// A Recorded is the answer to an AskRecording.
type Recorded struct {
	Was  bool   `json:"was"`            // a recorder was on before
	File []byte `json:"file,omitempty"` // the recording, if one was taken
}

func (a *AskRecording) answer(ctx context.Context) (r Recorded, err error) {
	if a.Bytes < 0 || a.Bytes > maxAskedRing {
		return r, fmt.Errorf("a ring of %d bytes, at most %d are possible", a.Bytes, maxAskedRing)
	}
	if a.Bytes > 0 {
		r.Was = SetRecording(a.Bytes)
	}
	if a.Take {
		taken, err := TakeRecording(ctx, recording.Asked+" from outside")
		if err != nil {
			return r, err
		}
		r.File = taken.Encode()
	}
	if a.Off {
		SetRecording(0)
	}
	return r, nil
}

// maxAskedRing is the largest ring that can be asked for from outside, in bytes.
const maxAskedRing = 64 << 20

// AttachRecording asks a process for a recording.
func AttachRecording(ctx context.Context, pid int, ask AskRecording) (*Recorded, error) {
	line, err := Attach(ctx, pid, Ask{Recording: &ask})
	if err != nil {
		return nil, err
	}
	r := new(Recorded)
	if err := json.Unmarshal(line, r); err != nil || ask.Take && r.File == nil {
		return nil, fmt.Errorf("process %d does not know of recordings: it was built with an older version", pid)
	}
	return r, nil
}

// ErrNotRecorded is returned if no loop that runs has its recorder on.
var ErrNotRecorded = errors.New("no loop has its flight recorder on")

// TakeRecording returns what the recorders of the loops that run hold.
func TakeRecording(ctx context.Context, why string) (*recording.Recording, error) {
	loops := Running()
	found := make([]*recording.Loop, len(loops))
	var all sync.WaitGroup
	for i, run := range loops {
		if r, ok := run.Loop.(Recorder); ok {
			all.Go(func() {
				if found[i] = r.Recording(ctx, run.Ended); found[i] != nil {
					found[i].Number = run.Number
				}
			})
		}
	}
	all.Wait()
	found = slices.DeleteFunc(found, func(l *recording.Loop) bool { return l == nil })
	if len(found) == 0 {
		return nil, fmt.Errorf("%w: start the program with ASYNCIORECORD=1, or switch it on", ErrNotRecorded)
	}
	return NewRecording(why, found...), nil
}

// Files that are written when there is trouble.
const (
	maxFiles     = 10               // of a process; the oldest give way
	troublePause = time.Second      // between two of them
	troubleLimit = 10 * time.Second // for taking one
)

var trouble struct {
	sync.Mutex
	last   time.Time
	number int
	busy   bool
}

// troubleDirectory is ASYNCIORECORD_DIR as of the start of the program.
var troubleDirectory = os.Getenv("ASYNCIORECORD_DIR")

// recordedSignal is ASYNCIORECORD_SIGNAL as of the start of the program: the signal at which a
// recording is written there too.
var recordedSignal = os.Getenv("ASYNCIORECORD_SIGNAL")

// RecordTrouble writes a recording to the directory for that, if there is one, on a goroutine of
// its own. What comes within a second of the last one is in that one or of the same kind, and
// writes none.
func RecordTrouble(why string) {
	if troubleDirectory == "" {
		return
	}
	t := &trouble
	t.Lock()
	defer t.Unlock()
	if t.busy || time.Since(t.last) < troublePause {
		return
	}
	t.busy = true
	go func() {
		path, err := writeTrouble(why)
		if err != nil {
			slog.Warn("asyncio: no recording was written", slog.String("because of", why), slog.Any("error", err))
		} else {
			slog.Warn("asyncio: a recording was written", slog.String("because of", why), slog.String("file", path))
		}
		t.Lock()
		defer t.Unlock()
		t.busy, t.last = false, time.Now()
	}()
}

func writeTrouble(why string) (path string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), troubleLimit)
	defer cancel()
	r, err := TakeRecording(ctx, why)
	if err != nil {
		return "", err
	}
	t := &trouble
	t.Lock()
	t.number++
	n := t.number
	t.Unlock()
	name := func(n int) string {
		return filepath.Join(troubleDirectory, fmt.Sprintf("%s-%d-%d.asyncrec", program(), os.Getpid(), n))
	}
	begun := name(n) + beginning // who finds the name finds all of the file
	if err := os.WriteFile(begun, r.Encode(), 0o600); err != nil {
		_ = os.Remove(begun)
		return "", err
	}
	if err := os.Rename(begun, name(n)); err != nil {
		_ = os.Remove(begun)
		return "", err
	}
	_ = os.Remove(name(n - maxFiles))
	return name(n), nil
}
