package asyncio

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/goasyncio/asyncio/internal/driver"
)

// An errand is an operation on a connection that the loop does for a goroutine outside. The views
// of io_threadsafe.go need it where only the loop can use the connection: in a simulation, and
// where goroutines serve the loop's connections.
//
//	errand 1: A goroutine posts an errand and waits until it is settled. Only the loop touches the
//	   connection. The goroutine does not return before, so its buffer is its own again when it goes
//	   on.
//	errand 2: The errands of one direction stand in a line and are done in the order in which they
//	   were posted. A Write is complete before the next one begins.
//	errand 3: An errand is tried when the loop takes it in, and again whenever a task would look
//	   again (conn 2). One try moves at most maxErrandPart bytes, and then the line takes its next
//	   turn in the ready queue. So no goroutine keeps the loop for long. In a simulation every try
//	   has its turn in the ready queue.
//	errand 4: Who changes the state of an errand from posted or waiting owns it: the loop for a try,
//	   or the watch to give it up. So an errand is settled once, and the loop does not touch the
//	   buffer of one that was given up.
//	errand 5: A loop that closes settles what stands in its lines with net.ErrClosed. Its inbox is
//	   closed by then, which refuses all later errands.
//	errand 6: A step of the loop may wait for a goroutine that waits for the loop: a task that calls
//	   a blocking library. On the machine's clock the watch looks twice a second, as long as there
//	   are errands. If between two looks the loop took in nothing, and its step waits for a channel,
//	   a lock or the like, then the errands that were posted fail with ErrLoopBlocked, and after
//	   blockedLooks looks also those in the lines. A step that computes, sleeps or is in a system
//	   call goes on by itself. A simulation finds blocked steps by itself.
//	errand 7: In a simulation a thread function runs as a step. While its errand is not settled, its
//	   step is over and the simulated time goes on; then the function goes on as the next step. So
//	   what it does is as reproducible as what a task does.
//	errand 8: Behind a gate (driver.Gate) a goroutine does not wait for its Write: the bytes are
//	   copied, the line has them, and a failure is the result of a later Write. Libraries write
//	   under a mutex, and for a goroutine that waits for a mutex a bubble never comes to rest. Only
//	   more than maxAhead bytes are waited for. What ends the writing stands in the same line, and
//	   deadlines do not touch what was accepted.
type errand struct {
	line    *errandLine
	do      attempter
	state   atomic.Uint32
	began   bool // it has been tried; the loop's
	settled chan struct{}
	err     error // the result, valid once it is settled
	place   link[*errand]

	ahead bool  // nobody waits for it (errand 8)
	size  int64 // of a write ahead

	// of a thread function in a simulation, nil for any other goroutine (errand 7)
	performance driver.Performance
	released    bool // the goroutine may go on; the loop's, and only with a performance
}

// An attempter is what an errand is about.
type attempter interface {
	// attempt does the operation, on the loop. If it returns driver.ErrAgain or errUnfinished, it
	// is called again.
	attempt() error
}

// errUnfinished says that the rest of an operation can be done in the next turn (errand 3).
var errUnfinished = errors.New("unfinished")

const maxErrandPart = 256 << 10

// The states of an errand.
const (
	errandPosted uint32 = iota
	errandWaits         // in the line
	errandTried         // the loop is at it
	errandSettled
)

// ask has the loop do an errand, and blocks the calling goroutine until that is done.
func (q *errands) ask(line *errandLine, do attempter) error {
	r := &errand{line: line, do: do, settled: make(chan struct{})}
	if !q.begin(r) {
		return net.ErrClosed
	}
	defer q.over(r)
	if p, ok := q.loop.drv.(driver.Performer); ok {
		r.performance = p.Performing()
	}
	if q.loop.post(r) != nil {
		return net.ErrClosed
	}
	if r.performance != nil {
		r.performance.Pause()
	}
	<-r.settled
	return r.err
}

// arrive puts the errand into its line (errand 3).
func (r *errand) arrive() {
	if !r.state.CompareAndSwap(errandPosted, errandWaits) {
		return
	}
	k := r.line
	if c, ok := r.do.(*closing); ok {
		c.refuse()
	}
	k.waiting = append(k.waiting, r)
	switch {
	case len(k.waiting) > 1:
	case k.half.loop.drv.Polls():
		k.wake()
	default:
		k.serve()
	}
}

func (*errand) fire(*future) {}

// settle tells the goroutine the result.
func (r *errand) settle(err error) {
	r.err = err
	r.state.Store(errandSettled)
	if r.ahead {
		r.line.wroteAhead(r)
		return
	}
	if r.performance == nil {
		close(r.settled)
	} else {
		r.performance.Resume(r.release, false)
	}
}

// release lets the goroutine go on.
func (r *errand) release() {
	r.released = true
	close(r.settled)
}

// giveUp settles an errand that is in this state. Any goroutine may call it.
func (r *errand) giveUp(state uint32, err error) {
	if r.state.CompareAndSwap(state, errandTried) {
		r.settle(err)
	}
}

// An errandLine has the errands of one direction (errand 2), and keeps tasks and goroutines apart.
// It is the loop's, but for user.
type errandLine struct {
	half      *half
	number    uint64 // of the connection, in the order in which views were made; 0 for none
	waiting   []*errand
	scheduled bool
	closing   bool // reads are refused, because a Close stands behind the writes

	ahead  atomic.Int64              // bytes that were accepted and not written yet (errand 8)
	broken atomic.Pointer[error]     // of a write ahead
	until  atomic.Pointer[time.Time] // the deadline that a goroutine has set for writes

	// how many goroutines are reading, writing or accepting; taskUser while a task is suspended
	// there, or is in the midst of a write
	user atomic.Int32
}

const taskUser = -1

// lineOfErrands returns the line, which it makes first if there is none.
func (h *half) lineOfErrands() *errandLine {
	if h.outside == nil {
		q := errandsOn(h.loop)
		q.lines++
		h.outside = &errandLine{half: h, number: q.lines}
	}
	return h.outside.(*errandLine)
}

// enter lets a goroutine use the direction until it calls leave. It fails while a task does.
func (k *errandLine) enter() error {
	for {
		n := k.user.Load()
		if n == taskUser {
			return ErrBusy
		}
		if k.user.CompareAndSwap(n, n+1) {
			return nil
		}
	}
}

func (k *errandLine) leave() { k.user.Add(-1) }

func (k *errandLine) take() (bool, error) {
	if k.user.Load() == taskUser { // one operation at a time (half.begin), so it is this task's
		return false, nil
	}
	if !k.user.CompareAndSwap(0, taskUser) {
		return false, k.busy()
	}
	return true, nil
}

func (k *errandLine) release() { k.user.Store(0) }

func (k *errandLine) inUse() bool { return k.user.Load() > 0 }

func (k *errandLine) busy() error {
	return fmt.Errorf("%w: %s by a goroutine outside the event loop", ErrBusy, k.half)
}

// wake has the line served in its turn.
func (k *errandLine) wake() {
	if len(k.waiting) > 0 && !k.scheduled {
		k.scheduled = true
		k.half.loop.schedule(k, nil)
	}
}

func (k *errandLine) fire(*future) {
	k.scheduled = false
	k.serve()
}

func (*errandLine) quick() {}

func (k *errandLine) readyName() string {
	if len(k.waiting) > 0 {
		return k.nameFor(k.waiting[0])
	}
	return k.String()
}

func (k *errandLine) nameFor(r *errand) string {
	if k.half.verb == "" {
		if o, ok := r.do.(ordered); ok {
			_, name := o.order()
			return "goroutine: " + name
		}
	}
	return k.String()
}

func (k *errandLine) String() string {
	if k.half.verb == "" {
		return "errand of a goroutine"
	}
	return "goroutines that " + k.half.String()
}

// serve does the errands in the line until one must wait.
func (k *errandLine) serve() {
	h := k.half
	for len(k.waiting) > 0 {
		r := k.waiting[0]
		if !r.state.CompareAndSwap(errandWaits, errandTried) {
			k.drop() // it was given up
			continue
		}
		err := error(os.ErrDeadlineExceeded)
		if r.began || r.ahead || !h.expired() {
			r.began = true
			err = r.do.attempt()
		}
		switch {
		case err == errUnfinished:
			r.state.Store(errandWaits)
			k.wake()
			return
		case err == driver.ErrAgain && (r.ahead || !h.expired()):
			r.state.Store(errandWaits)
			return
		case err == driver.ErrAgain:
			err = os.ErrDeadlineExceeded
		}
		k.drop()
		r.settle(err)
	}
}

// drop takes the first errand out of the line.
func (k *errandLine) drop() {
	k.waiting[0] = nil
	k.waiting = k.waiting[1:]
}

// errands are the part of a loop that its views share. Its loop does not change; the rest is under
// mu.
type errands struct {
	loop  *EventLoop
	lines uint64 // how many lines were made; the loop's

	mu     sync.Mutex
	all    linkedList[*errand] // that are not settled
	shared linkedList[*sharedConn]
	ended  bool

	timer   *time.Timer // calls look
	armed   bool
	seen    uint64 // inbox.taken at the last look
	noticed int    // at so many looks in a row nothing was taken in
}

var errandsOf = newEndingPart[errands](endOpen)

func init() {
	madeAtGate = append(madeAtGate, func(l *EventLoop) { errandsOf.of(l).loop = l })
}

func (q *errands) leavesGate() { q.end(nil) }

// errandsOn returns the part of l. It is for the loop only.
func errandsOn(l *EventLoop) *errands {
	q := errandsOf.of(l)
	if q.loop == nil { // goroutines read it later
		q.loop = l
	}
	if l.gate != nil {
		l.gate.Open()
	}
	return q
}

// alone returns a line for an errand that is not about a connection of the loop.
func (q *errands) alone() *errandLine { return &errandLine{half: &half{loop: q.loop}} }

// begin adds r to the errands under way. It reports false if the loop is closed.
func (q *errands) begin(r *errand) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.ended {
		return false
	}
	q.all.add(&r.place, r)
	if !q.armed && !q.loop.drv.Polls() {
		q.armed = true
		if q.timer == nil {
			q.timer = time.AfterFunc(lookEvery, q.look)
		} else {
			q.timer.Reset(lookEvery)
		}
	}
	return true
}

func (q *errands) over(r *errand) {
	q.mu.Lock()
	q.all.remove(&r.place)
	q.mu.Unlock()
}

// end settles the errands in the lines (errand 5), and closes what goroutines share with the loop.
func (q *errands) end(*EventLoop) {
	var performed []*errand
	q.mu.Lock()
	q.ended = true
	if q.timer != nil {
		q.timer.Stop()
	}
	for r := range q.all.all() {
		if r.performance == nil {
			r.giveUp(errandPosted, net.ErrClosed) // at a gate
			r.giveUp(errandWaits, net.ErrClosed)
		} else if !r.released { // no step follows in which the function could go on
			performed = append(performed, r)
		}
	}
	for s := range q.shared.all() {
		_ = s.c.Close()
	}
	q.mu.Unlock()
	for _, r := range performed {
		if r.state.Swap(errandSettled) != errandSettled {
			r.err = net.ErrClosed
		}
		r.performance.Resume(r.release, true)
	}
}

var lookEvery = 500 * time.Millisecond

// after so many looks errands in lines are given up
const blockedLooks = 20

// look is the watch (errand 6). It runs on a goroutine of its own.
func (q *errands) look() {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.all.n == 0 || q.ended {
		q.armed, q.noticed = false, 0
		return
	}
	defer q.timer.Reset(lookEvery)
	l := q.loop
	b := &l.inbox
	b.mu.Lock()
	some, taken := b.first != nil, b.taken
	b.mu.Unlock()
	if !some {
		q.noticed = 0
		if l.running.Load() && l.guard.Load() != guardParked {
			_ = l.post(arrivalFunc(func() {})) // is it taken in until the next look?
		}
		return
	}
	if taken != q.seen || q.noticed == 0 {
		q.seen, q.noticed = taken, 1
		return
	}
	q.noticed++
	why := "it does not run"
	if l.running.Load() {
		if why = l.blockedStep(); why == "" {
			return
		}
	}
	err := fmt.Errorf("%w: %s", ErrLoopBlocked, why)
	for r := range q.all.all() {
		r.giveUp(errandPosted, err)
		if q.noticed >= blockedLooks {
			r.giveUp(errandWaits, err)
		}
	}
}

// An arrivalFunc is a function of the library's that another goroutine has asked for. It runs when
// it arrives, before the errands that were posted later.
type arrivalFunc func()

func (fn arrivalFunc) arrive()      { fn() }
func (fn arrivalFunc) fire(*future) {}

// A door is what all views have in common.
type door struct {
	asked  *errands // nil for a zero value, and for a view that should not have been made
	err    error    // of the call that should not have made it
	closed atomic.Bool
	shared *sharedConn // nil if only the loop can use the object
}

// enter reports whether a task of the loop calls, and not another goroutine.
func (d *door) enter(caller string) (byTask bool, err error) {
	if d.asked == nil {
		return false, cmp.Or(d.err, zeroValue(caller))
	}
	byTask, err = d.asked.loop.byOwnTask(caller)
	if err == nil && d.closed.Load() {
		err = net.ErrClosed
	}
	return byTask, err
}

// lock is the beginning of a Close. It fails for a door that is closed already.
func (d *door) lock(caller string) error {
	switch {
	case d.asked == nil:
		return cmp.Or(d.err, zeroValue(caller))
	case d.closed.Swap(true):
		return net.ErrClosed
	}
	return nil
}

// open notes what goroutines use without the loop. It reports false if the loop is closed.
func (d *door) open(own io.Closer, name string, made *trace) (ok bool) {
	if d.shared, ok = d.asked.share(own, name, made); ok {
		runtime.AddCleanup(d, (*sharedConn).drop, d.shared)
	}
	return ok
}

// closeOwn closes that, also because the loop's object is closed. It may be called more than once.
func (d *door) closeOwn() error {
	d.closed.Store(true)
	if d.shared == nil {
		return nil
	}
	return d.shared.close()
}

// A sharedConn is what a view has that goroutines use without the loop (threadsafe 4).
type sharedConn struct {
	asked  *errands
	c      io.Closer
	name   string
	made   *trace // nil if a Conn reports it
	listed bool
	place  link[*sharedConn]
}

// share puts c into the list. It reports false if the loop is closed.
func (q *errands) share(c io.Closer, name string, made *trace) (*sharedConn, bool) {
	s := &sharedConn{asked: q, c: c, name: name, made: made}
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.ended {
		return nil, false
	}
	q.shared.add(&s.place, s)
	s.listed = true
	return s, true
}

// close closes the descriptor, once.
func (s *sharedConn) close() error {
	s.asked.mu.Lock()
	listed := s.listed
	if listed {
		s.listed = false
		s.asked.shared.remove(&s.place)
	}
	s.asked.mu.Unlock()
	if !listed {
		return nil
	}
	return s.c.Close()
}

// drop is called by the collector, on a goroutine of its own.
func (s *sharedConn) drop() {
	s.asked.mu.Lock()
	forgotten := s.listed && !s.asked.ended
	s.asked.mu.Unlock()
	if forgotten {
		_ = s.close()
		if s.made != nil {
			_ = s.asked.loop.post(s)
		}
	}
}

func (s *sharedConn) fire(*future) {
	s.asked.loop.CallExceptionHandler(ExceptionContext{
		Message:         fmt.Sprintf("unclosed connection %s: nobody holds it any more; whoever opens a connection must close it (Close)", s.name),
		SourceTraceback: s.made.String(),
	})
}

func (s *sharedConn) String() string { return "unclosed connection" }
