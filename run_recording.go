package asyncio

import (
	"context"
	"fmt"
	"io"
	"math"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/goasyncio/asyncio/internal/inspection"
	"github.com/goasyncio/asyncio/internal/recording"
)

// DefaultFlightRecorder is the size of the ring that ASYNCIORECORD=1 asks for, in bytes.
const DefaultFlightRecorder = 8 << 20

// FlightRecorder switches the flight recorder of the loop of a [Run] on, with a ring of so many
// bytes, or off if bytes is 0; see [EventLoop.SetFlightRecorder].
func FlightRecorder(bytes int) RunOption {
	if err := checkRing(bytes); err != nil {
		panic(fmt.Errorf("%w (in FlightRecorder)", err))
	}
	return RunOption{recorder: &bytes}
}

func checkRing(bytes int) error {
	if bytes < 0 || bytes > maxRing {
		return fmt.Errorf("%w: a ring of %d bytes, at most %d are possible", ErrInvalidArgument, bytes, maxRing)
	}
	return nil
}

// maxRing bounds a ring, in bytes.
const maxRing = 1 << 30

// SetFlightRecorder switches the flight recorder of the loop on, with a ring of so many bytes, or
// off if bytes is 0. The environment variable ASYNCIORECORD=1 switches it on for every loop, with
// [DefaultFlightRecorder] bytes; a larger number in it is the size.
//
// The recorder keeps what has happened on the loop lately: which tasks were made, by whom, and how
// they ended; each step and callback, with its time; what a task waits for, and who has woken it;
// who was cancelled by whom. The ring has room for about three words of eight bytes for each step,
// so [DefaultFlightRecorder] bytes hold the last 300,000 steps. The memory is taken as the ring
// fills. It costs a loop that works on messages a few hundredths of its time, and one that does
// nothing but switch tasks or make them up to as much again. The names of tasks and the messages of
// cancels are kept as far as 63 bytes. Switching it on again, with another size too, begins anew.
//
// What it holds is written by [EventLoop.WriteRecording], by package inspect and by the command
// asyncio record. If the environment variable ASYNCIORECORD_DIR names a directory, a recording is
// written there when a task or callback panics and when a stall watchdog reports a step, at most
// ten files for each process, the oldest of which give way to new ones.
//
// SetFlightRecorder is for the loop only. It does not suspend. It panics with [ErrInvalidArgument]
// if bytes is negative or more than 1 GiB, and with [ErrForeignGoroutine]. Python has no
// equivalent.
func (l *EventLoop) SetFlightRecorder(bytes int) {
	l.mustBeOwner("SetFlightRecorder")
	if err := checkRing(bytes); err != nil {
		panic(fmt.Errorf("%w (in SetFlightRecorder)", err))
	}
	l.record(bytes)
}

// recordByEnvironment is ASYNCIORECORD as of the start of the program, in bytes.
var recordByEnvironment = ringSize(os.Getenv("ASYNCIORECORD"))

// ringSize reads the value of ASYNCIORECORD.
func ringSize(s string) int {
	switch n, err := strconv.Atoi(s); {
	case s == "" || s == "0":
		return 0
	case err != nil || n <= 1: // as ASYNCIODEBUG=yes
		return DefaultFlightRecorder
	default:
		return min(n, maxRing)
	}
}

func init() {
	beginRecording = func(l *EventLoop) {
		if recordByEnvironment > 0 {
			l.record(recordByEnvironment)
		}
	}
	stallRecorded = func(l *EventLoop, d time.Duration) {
		if r := recordersOf(l); r != nil {
			r.stall.Store(int64(d))
			recordTrouble(l, "a stall")
		}
	}
}

// recorderParts has the recorders of loops, also those that have been switched off.
var recorderParts = newEndingPart[recorderPart](endWorkers)

type recorderPart struct{ recorder *flightRecorder }

func (p *recorderPart) end(l *EventLoop) { recorders.Delete(l) }

// recorders has the recorder of each loop that has one and is not closed, for other goroutines.
var recorders sync.Map

func recordersOf(l *EventLoop) *flightRecorder {
	r, _ := recorders.Load(l)
	f, _ := r.(*flightRecorder)
	return f
}

// record is SetFlightRecorder without its checks.
func (l *EventLoop) record(bytes int) {
	part := recorderParts.of(l)
	if bytes == 0 {
		l.setRecorder(nil)
		recorders.Delete(l)
		part.recorder = nil
		return
	}
	limit := max(minBlocks, bytes/(8*recording.BlockWords))
	r := &flightRecorder{
		loop: l, limit: limit, blocks: make([]atomic.Pointer[recordBlock], limit),
		names: make([]recordName, 1, 64), byName: make(map[uintptr]uint32), sparse: 1,
		clock: l.drv.Now(),
	}
	if old := part.recorder; old != nil {
		r.number = old.number
	}
	r.turnOver()
	part.recorder = r
	recorders.Store(l, r)
	l.setRecorder(r)
}

// A taskLister makes the list of tasks for a recording, a slice in each iteration (recorder 6).
type taskLister struct {
	r      *flightRecorder
	ctx    context.Context
	cursor *taskCursor
	batch  []*task
	slice  time.Duration

	began chan struct{} // closed when the list has begun
	done  chan struct{} // closed when it is complete
	tasks []*listBlock  // valid then
}

// A listedTask is a task as it was when the list came by.
type listedTask struct {
	recording.Task
	name *string
}

// A listBlock is a part of a list. One slice of all tasks would take longer to make than a slice of
// time has.
type listBlock struct {
	tasks [256]listedTask
	n     int
}

func (r *flightRecorder) lister(ctx context.Context, slice time.Duration) *taskLister {
	return &taskLister{r: r, ctx: ctx, slice: slice, began: make(chan struct{}), done: make(chan struct{})}
}

func (s *taskLister) String() string { return "Recording()" }

func (s *taskLister) readyName() string { return "Recording()" }

// fire does a slice.
func (s *taskLister) fire(*future) {
	l := s.r.loop
	if s.cursor == nil {
		s.begin()
	}
	until := time.Now().Add(s.slice)
	for !s.cursor.ended && s.ctx.Err() == nil {
		s.batch = l.tasks.take(s.cursor, s.batch[:0])
		for _, t := range s.batch {
			s.add(t)
		}
		if time.Now().After(until) {
			break
		}
	}
	if !s.cursor.ended && s.ctx.Err() == nil {
		l.schedule(s, nil)
		return
	}
	s.end()
}

func (s *taskLister) begin() {
	close(s.began)
	s.batch = make([]*task, 0, surveyBatch)
	s.cursor = s.r.loop.tasks.cursor()
	s.r.lists = append(s.r.lists, s)
}

func (s *taskLister) end() {
	s.r.loop.tasks.forget(s.cursor)
	for i, o := range s.r.lists {
		if o == s {
			s.r.lists = append(s.r.lists[:i:i], s.r.lists[i+1:]...)
			break
		}
	}
	if s.cursor.ended {
		close(s.done)
	}
}

// add lists t. A task that ends before its turn is listed then, so it comes only once.
func (s *taskLister) add(t *task) {
	name := t.name.Load()
	if name == nil {
		name = new(string)
	}
	listed := listedTask{name: name, Task: recording.Task{
		ID: t.recorded, Number: t.num, Own: t.own,
		Coroutine: s.r.function(t.self.codeWith(&s.r.codes)),
	}}
	if t.fut.state == pending && t.activity() == activityWaits {
		listed.Waits = s.r.waiting(t)
	}
	if n := len(s.tasks); n == 0 || s.tasks[n-1].n == len(s.tasks[n-1].tasks) {
		s.tasks = append(s.tasks, new(listBlock))
	}
	b := s.tasks[len(s.tasks)-1]
	b.tasks[b.n] = listed
	b.n++
}

// waiting is thing, without giving a task a number for the sake of a list.
func (r *flightRecorder) waiting(t *task) recording.Thing {
	if f := t.waiter; !t.parked && f != nil {
		if u, ok := f.super.(*task); ok {
			return recording.Thing{Name: r.typeOf(f), Task: u.recorded}
		}
	}
	return r.thing(t)
}

// read returns the words of the ring, oldest first, and how many came before them (recorder 3, 4).
func (r *flightRecorder) read() (words []uint64, lost uint64) {
	opened := r.opened.Load()
	oldest := uint64(1)
	if opened > uint64(r.limit) {
		oldest = opened - uint64(r.limit) + 1
	}
	pinned := make([]*recordBlock, 0, r.limit)
	for n := oldest; n <= opened; n++ {
		b := r.blocks[(n-1)%uint64(r.limit)].Load()
		if b == nil {
			continue
		}
		b.readers.Add(1)
		defer b.readers.Add(-1)
		if b.number.Load() != n {
			pinned = pinned[:0] // it has been written again; so have those before it
			continue
		}
		pinned = append(pinned, b)
	}
	words = make([]uint64, 0, len(pinned)*recording.BlockWords)
	for _, b := range pinned {
		for i := range b.words {
			w := b.load(i)
			if w == 0 {
				break
			}
			words = append(words, w)
		}
	}
	return words, (opened - uint64(len(pinned))) * recording.BlockWords
}

// load reads a word, which the loop may be writing.
//
//go:norace
func (b *recordBlock) load(i int) uint64 { return atomic.LoadUint64(&b.words[i]) }

// texts returns the names that words refer to.
func (r *flightRecorder) texts() []recording.Name {
	r.mu.Lock()
	names := r.names
	r.mu.Unlock()
	all := make([]recording.Name, len(names))
	for i, n := range names {
		switch {
		case n.typ != nil:
			all[i].Text = n.typ.String()
		case n.code != 0:
			all[i].Text, all[i].Place = function(n.code)
		}
	}
	return all
}

// recorded returns what is in the ring, with the list if it is complete.
func (r *flightRecorder) recorded(list *taskLister) *recording.Loop {
	l := r.loop
	now := l.drv.Now()
	found := &recording.Loop{Start: l.drv.Wall().Add(-now), Now: now, Simulated: l.drv.Polls()}
	found.Words, found.Lost = r.read()
	select {
	case <-list.done:
		found.Listed = true
		for _, b := range list.tasks {
			for _, t := range b.tasks[:b.n] {
				t.Task.Name = *t.name
				found.Tasks = append(found.Tasks, t.Task)
			}
		}
	default:
	}
	found.Names = r.texts() // after the words and the tasks, which refer to them
	return found
}

// WriteRecording writes what the flight recorder of the loop holds, as a file that the command
// asyncio record reads. The whole of it is one step of the loop; package inspect and the command
// take a recording without keeping the loop.
//
// It is for the loop only, and does not suspend. Once the loop is closed, it works from everywhere,
// for one goroutine at a time. It returns [ErrInvalidState] if the recorder is off,
// [ErrForeignGoroutine], and the error of w.
func (l *EventLoop) WriteRecording(w io.Writer) error {
	if !l.closed.Load() {
		if err := l.checkForeign("WriteRecording"); err != nil {
			return err
		}
	}
	part := recorderParts.ifAny(l)
	if part == nil || part.recorder == nil {
		return fmt.Errorf("%w: the flight recorder is off (in WriteRecording): switch it on with SetFlightRecorder", ErrInvalidState)
	}
	list := part.recorder.lister(context.Background(), math.MaxInt64)
	list.fire(nil)
	rec := inspection.NewRecording(recording.Asked, part.recorder.recorded(list))
	_, err := w.Write(rec.Encode())
	return err
}

// Record implements [inspection.Recorder].
func (l *inspected) Record(bytes int) {
	_, _ = (*EventLoop)(l).postFunc(func() {
		if bytes == 0 || !l.Records() {
			(*EventLoop)(l).record(bytes)
		}
	})
}

// Records implements [inspection.Recorder].
func (l *inspected) Records() bool { return recordersOf((*EventLoop)(l)) != nil }

// Recording implements [inspection.Recorder].
func (l *inspected) Recording(ctx context.Context, gone <-chan struct{}) *recording.Loop {
	r := recordersOf((*EventLoop)(l))
	if r == nil { // the loop may not have come to it yet
		passed := make(chan struct{})
		if l.Ping(func() { close(passed) }) {
			waitFor(ctx, passed, gone, inspection.Patience)
		}
		if r = recordersOf((*EventLoop)(l)); r == nil {
			return nil
		}
	}
	list := r.lister(ctx, inspection.Slice)
	if r.loop.post(list) == nil {
		list.wait(gone)
	}
	return r.recorded(list)
}

// wait waits for the list, but not for a loop that is stuck or gone.
func (s *taskLister) wait(gone <-chan struct{}) {
	if waitFor(s.ctx, s.began, gone, inspection.Patience) {
		waitFor(s.ctx, s.done, gone, math.MaxInt64)
	}
}

// waitFor waits until done is closed, and reports whether it was before gone is, ctx is done, or
// the time is up.
func waitFor(ctx context.Context, done, gone <-chan struct{}, most time.Duration) bool {
	patience := time.NewTimer(most)
	defer patience.Stop()
	select {
	case <-done:
		return true
	case <-gone:
	case <-ctx.Done():
	case <-patience.C:
	}
	return false
}

// recordTrouble has a recording written because of trouble on a loop, if a directory is named for
// that.
func recordTrouble(l *EventLoop, why string) {
	if l.drv.Polls() {
		return
	}
	inspection.RecordTrouble(why)
}
