package asyncio

import (
	"reflect"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/goasyncio/asyncio/internal/recording"
)

// The flight recorder: what has happened on a loop lately, in a ring.
//
//	recorder 1: A loop without a recorder pays for it one comparison where a callback becomes ready,
//	   and one in other places that no step has to pass. With one, whatever happens is told to it
//	   where it happens. It asks nothing of the program: it calls no method of the program's
//	   types and reads no clock but the loop's, which in a simulation is the simulated one. (Thread
//	   functions are timed by their threads, and not in a simulation.)
//	recorder 2: Only the goroutine that works for the loop writes. It takes no lock but when it
//	   comes upon a function or a type for the first time, and makes nothing but blocks: one for
//	   each block's worth of words until the ring is full, and after that only in place of blocks
//	   that somebody is reading.
//	recorder 3: Any goroutine may read at any time, also while a step is stuck. It pins the blocks,
//	   which is a number in each: a block that is pinned is not written again. The writer leaves
//	   it to its readers, and writes to a new one. A reader that pins a block which is about to be
//	   written again sees by its number that it has come too late.
//	recorder 4: Words are stored whole, and read whole. Of the block that is being written a reader
//	   takes the words before the first that is 0 (word 1); so the writer clears a block before it
//	   makes it known.
//	recorder 5: The clock is read in each step. While a loop is busy and its steps take less than
//	   shortStep, it is read in one of sparseClock. It is always read where the loop waits, and
//	   for the first steps after that.
//	recorder 6: A name is needed for each task that is in the window. A task that has ended is
//	   defined in the block in which it ends, or it was made there: so where one of its words is,
//	   there its name is too, since the end comes last (word 5). The others are there when the
//	   recording is taken, and the loop lists them, a slice in each iteration, as a survey does
//	   (survey 1). A task that ends between the beginning of the list and its turn puts itself on
//	   it.
//	recorder 7: A step that panics, or is unwound, ends as any other: with the end of its task. When
//	   a loop is closed its words stay for those who read them, and its list is not made any more.
type flightRecorder struct {
	loop   *EventLoop
	limit  int // how many blocks the ring has
	blocks []atomic.Pointer[recordBlock]
	opened atomic.Uint64 // how many blocks have been begun

	block *recordBlock                  // that is being written
	words *[recording.BlockWords]uint64 // its words
	n     int                           // how many have been written

	clock  time.Duration // as last read
	unread int           // steps since then
	sparse int           // how many steps there are from one reading to the next (recorder 5)
	short  int           // readings in a row that found short steps

	under  uint32 // the task whose step is under way
	actor  recording.ActorKind
	next   callback // whose turn it is, if it is no task, until it begins or does something
	fresh  uint32   // First if the iteration has no word yet
	number uint32   // of the last task
	serial uint32   // of the last task that is called Task-serial

	codes codes
	cache [64]nameCache
	lists []*taskLister // lists that are being made (recorder 6)

	stall atomic.Int64 // reported by the watchdog, not yet written

	mu     sync.Mutex
	names  []recordName // appended to by the loop
	byName map[uintptr]uint32
}

// A recordBlock is a part of the ring.
type recordBlock struct {
	words   [recording.BlockWords]uint64 // first, for the alignment on 32 bits
	readers atomic.Int32
	number  atomic.Uint64 // which block of the recording it is, from 1 on; 0 while it is cleared
	first   uint32        // the number of the last task before it; the loop's
}

// A recordName is a function or a type.
type recordName struct {
	code uintptr
	typ  reflect.Type
}

// A nameCache is the name that was last asked for of those that share its place.
type nameCache struct {
	key  uintptr
	name uint32
}

const (
	shortStep   = time.Microsecond
	sparseClock = 16

	// minBlocks is the smallest ring.
	minBlocks = 4
)

// plainStores says that words can be stored as any other variable (recorder 4): the race detector
// wants to see that it is on purpose, and a processor of 32 bits would store halves.
const plainStores = !raceDetector && unsafe.Sizeof(uintptr(0)) == 8

// put writes a word. It is short enough to be inlined.
func (r *flightRecorder) put(w uint64) {
	if !plainStores || r.n >= recording.BlockWords {
		r.putSlowly(w)
	} else {
		r.words[r.n] = w
		r.n++
	}
}

func (r *flightRecorder) putSlowly(w uint64) {
	if r.n == recording.BlockWords {
		r.turnOver()
	}
	r.block.store(r.n, w)
	r.n++
}

func (b *recordBlock) store(i int, w uint64) {
	p := &b.words[i&(recording.BlockWords-1)]
	if plainStores {
		*p = w
	} else {
		atomic.StoreUint64(p, w)
	}
}

// reserve sees to it that the next n words are in one block (word 3).
func (r *flightRecorder) reserve(n int) {
	if recording.BlockWords-r.n >= n {
		return
	}
	for r.n < recording.BlockWords {
		r.put(recording.Of(recording.Pad, 0, 0))
	}
	r.turnOver()
}

// turnOver begins the next block: the oldest of the ring, or a new one if there are not enough yet,
// or the oldest is being read (recorder 3).
func (r *flightRecorder) turnOver() {
	opened := r.opened.Load()
	place := &r.blocks[opened%uint64(r.limit)]
	b := place.Load()
	if b != nil {
		b.number.Store(0)
		if b.readers.Load() != 0 {
			b = nil
		}
	}
	if b == nil {
		b = new(recordBlock)
	} else {
		for i := range b.words {
			b.store(i, 0)
		}
	}
	b.first = r.number
	b.number.Store(opened + 1)
	place.Store(b)
	r.opened.Store(opened + 1)
	r.block, r.words, r.n = b, &b.words, 0
	r.put(recording.Wide(recording.Clock, uint64(r.clock)))
	r.put(recording.Of(recording.Amid, uint32(r.actor), r.under))
	r.put(recording.Of(recording.Number, 0, r.serial))
}

// time returns the note for the time at now (word 4).
func (r *flightRecorder) time(now time.Duration) uint32 {
	r.reserve(2) // a block that begins between a time and its word would count it twice
	d := now - r.clock
	r.clock, r.unread = now, 0
	if d < 0 || d >= recording.MaxTime {
		r.put(recording.Wide(recording.Clock, uint64(now)))
		return 1
	}
	return uint32(d) + 1
}

// tick returns the note for the time at which a step begins (recorder 5).
func (r *flightRecorder) tick() uint32 {
	now := r.loop.drv.Now()
	if r.fresh != 0 {
		r.begins() // now and then, for the numbers in it
	}
	if now-r.clock >= time.Duration(r.unread)*shortStep {
		r.short, r.sparse = 0, 1
	} else if r.short++; r.short > sparseClock {
		r.sparse = sparseClock
	}
	return r.time(now)
}

// iteration only notes that an iteration has begun: its first word says so. If that is a Step or a
// Call, it says so by itself, and most of the time that is enough.
func (r *flightRecorder) iteration() {
	if r.fresh != 0 {
		r.begins()
	}
	r.fresh = recording.First
	if r.next != nil {
		r.next = nil
	}
	if r.stall.Load() != 0 {
		r.stalled()
	}
}

func (r *flightRecorder) stalled() {
	r.put(recording.Of(recording.Stall, 0, uint32(time.Duration(r.stall.Swap(0))/time.Millisecond)))
}

// begins writes that the iteration has begun.
func (r *flightRecorder) begins() {
	r.fresh, r.under, r.actor = 0, 0, recording.Nobody
	r.put(recording.Of(recording.Iteration, uint32(min(len(r.loop.timers), recording.MaxNote)), uint32(r.loop.ready.n)))
}

func (r *flightRecorder) idle() {
	if r.fresh != 0 {
		r.begins()
	}
	t := r.time(r.loop.drv.Now())
	r.put(recording.Of(recording.Idle, t, 0))
}

func (r *flightRecorder) woken() {
	t := r.time(r.loop.drv.Now())
	r.put(recording.Of(recording.Woken, t, 0))
	r.short, r.sparse = 0, 1
}

func (r *flightRecorder) turn(cb callback) {
	if _, ok := cb.(*task); !ok {
		r.next = cb
	}
}

// acts notes the callback whose turn it is, if that is a quick one, which has no step of its own.
func (r *flightRecorder) acts() {
	if r.next != nil {
		r.callNext()
	}
}

func (r *flightRecorder) callNext() {
	cb := r.next
	r.next = nil
	if _, ok := cb.(quick); ok {
		r.call(r.callback(cb), 0)
	}
}

func (r *flightRecorder) call(subject, time uint32) {
	first := r.fresh
	r.fresh, r.under, r.actor = 0, subject, recording.ACallback
	r.put(recording.Of(recording.Call, time|first, subject))
}

func (r *flightRecorder) begun(cb callback) {
	if r.next != nil {
		r.next = nil
	}
	if cb == nil { // a step goes on that began while the recorder was off
		if r.loop.current == nil {
			return
		}
		cb = r.loop.current
	}
	if t, ok := cb.(*task); ok {
		id := t.recorded
		if id == 0 {
			id = r.of(t)
		}
		var tick uint32
		if r.unread++; r.unread >= r.sparse {
			tick = r.tick()
		}
		first := r.fresh
		r.fresh, r.under, r.actor = 0, id, recording.ATask
		r.put(recording.Of(recording.Step, tick|first, id))
		return
	}
	subject := r.callback(cb)
	var tick uint32
	if r.unread++; r.unread >= r.sparse {
		tick = r.tick()
	}
	r.call(subject, tick)
}

// waits notes that the step ends because t suspends. If it only gives way, there is nothing to say.
func (r *flightRecorder) waits(t *task) {
	if t.parked || t.waiter != nil {
		r.waitsFor(t)
	}
}

func (r *flightRecorder) waitsFor(t *task) {
	on := r.thing(t)
	switch {
	case on.Task != 0:
		r.put(recording.Of(recording.Join, 0, on.Task))
	case on.Name != 0:
		r.put(recording.Of(recording.Wait, 0, on.Name|on.Object<<12))
	default:
		return
	}
	r.under, r.actor = 0, recording.Nobody
}

// thing returns what t waits for.
func (r *flightRecorder) thing(t *task) recording.Thing {
	if t.parked {
		if t.on == nil {
			return recording.Thing{}
		}
		return r.object(t.on)
	}
	f := t.waiter
	if f == nil || f.state != pending {
		return recording.Thing{}
	}
	if u, ok := f.super.(*task); ok {
		return recording.Thing{Name: r.typeOf(f), Task: r.of(u)}
	}
	if f.super != nil {
		return r.object(f.super)
	}
	return r.object(f)
}

func (r *flightRecorder) object(x any) recording.Thing {
	return recording.Thing{Name: r.typeOf(x), Object: objectBits(x)}
}

// objectBits returns 20 bits of the address of what x points to (word 6), 0 if it is no pointer.
func objectBits(x any) uint32 {
	v := reflect.ValueOf(x)
	if v.Kind() != reflect.Pointer {
		return 0
	}
	p := v.Pointer()
	return uint32(p>>3^p>>23) & (1<<20 - 1)
}

// typeOf returns the name of x's type.
func (r *flightRecorder) typeOf(x any) uint32 {
	typ := reflect.TypeOf(x)
	key := reflect.ValueOf(typ).Pointer()
	if c := &r.cache[key>>6&63]; c.key == key {
		return c.name
	}
	return r.find(key, recordName{typ: typ})
}

// function returns the name of a function.
func (r *flightRecorder) function(code uintptr) uint32 {
	if c := &r.cache[code>>6&63]; c.key == code {
		return c.name
	}
	return r.find(code, recordName{code: code})
}

// find looks up a name, or adds it. When there are too many, the others have none.
func (r *flightRecorder) find(key uintptr, name recordName) uint32 {
	i, ok := r.byName[key]
	if !ok {
		r.mu.Lock()
		if len(r.names) < recording.MaxNames {
			i = uint32(len(r.names))
			r.names = append(r.names, name)
			r.byName[key] = i
		}
		r.mu.Unlock()
	}
	r.cache[key>>6&63] = nameCache{key, i}
	return i
}

// callback returns the subject for a callback (word 6): the function that it calls, or its type.
func (r *flightRecorder) callback(cb callback) uint32 {
	var name uint32
	switch cb := cb.(type) {
	case *Handle:
		name = r.function(cb.code())
	case *TimerHandle:
		name = r.function(cb.code())
	case *posted:
		name = r.function((*Handle)(cb).code())
	case *DoneCallback:
		name = r.function(funcPC(cb.src))
	default:
		name = r.typeOf(cb)
	}
	return name | objectBits(cb)<<12
}

func (r *flightRecorder) scheduled(cb callback) {
	r.acts()
	if t, ok := cb.(*task); ok && t.recorded == r.under && r.actor == recording.ATask && r.fresh == 0 {
		return // it gives way: its step ends without a wait (word 2)
	}
	if r.fresh != 0 {
		r.begins()
	}
	var from uint32
	if r.loop.inbox.emptying {
		from = 1
	}
	if t, ok := cb.(*task); ok {
		r.put(recording.Of(recording.Wake, from, r.of(t)))
		return
	}
	r.put(recording.Of(recording.Due, from, r.callback(cb)))
}

func (r *flightRecorder) made(t *task) {
	r.acts()
	r.define(recording.Made, t)
}

// of returns the number of t.
func (r *flightRecorder) of(t *task) uint32 {
	if t.recorded == 0 {
		r.define(recording.Known, t)
	}
	return t.recorded
}

// define writes a task's name and coroutine, and gives it its number if it has none (word 5).
func (r *flightRecorder) define(k recording.Kind, t *task) {
	if t.recorded == 0 {
		if r.number++; r.number == 0 {
			r.number++
		}
		t.recorded = r.number
	}
	note := r.function(t.self.codeWith(&r.codes)) << 2
	if t.own {
		note |= recording.Own
	}
	switch name := t.name.Load(); {
	case t.num != 0 && t.num == r.serial+1: // its name has nothing new
		r.serial++
		r.put(recording.Of(k, note|recording.Serial, t.recorded))
	case t.num != 0:
		r.reserve(2)
		r.serial = t.num
		r.put(recording.Of(k, note, t.recorded))
		r.put(recording.Of(recording.Number, 0, t.num))
	default:
		r.reserve(1 + maxText)
		r.put(recording.Of(k, note, t.recorded))
		r.text(*name)
	}
}

// maxText is how many words there are at most for a text.
const maxText = 9

func (r *flightRecorder) text(s string) {
	for range maxText {
		r.put(recording.OfText(s))
		if len(s) <= recording.TextBytes {
			break
		}
		s = s[recording.TextBytes:]
	}
}

func (r *flightRecorder) ended(t *task) {
	r.acts()
	if r.fresh != 0 {
		r.begins()
	}
	r.reserve(2 + maxText) // the definition, if it takes one, and the end
	if t.recorded == 0 || int32(t.recorded-r.block.first) <= 0 {
		r.define(recording.Known, t)
	}
	for _, l := range r.lists {
		l.add(t)
	}
	end, err := recording.Finished, t.fut.err
	switch {
	case t.fut.state == cancelled:
		end = recording.Cancelled
	case err != nil:
		if end = recording.Failed; isPanic(err) {
			end = recording.Panicked
		}
	}
	note := uint32(end) << 12
	if err != nil {
		note |= r.typeOf(err)
	}
	r.put(recording.Of(recording.Done, note, t.recorded))
	if r.under == t.recorded {
		r.under, r.actor = 0, recording.Nobody
	}
}

func isPanic(err error) bool {
	_, ok := err.(*PanicError)
	return ok
}

func (r *flightRecorder) cancelled(t *task, c *CancelledError) {
	r.acts()
	if r.fresh != 0 {
		r.begins()
	}
	id := r.of(t)
	var cause uint32
	if c.cause != nil {
		cause = r.typeOf(c.cause)
	}
	r.reserve(1 + maxText)
	r.put(recording.Of(recording.Cancel, cause, id))
	if c.Msg != "" {
		r.text(c.Msg)
	}
}

func (r *flightRecorder) ran(code uintptr, ago, took time.Duration) {
	r.acts()
	if r.fresh != 0 {
		r.begins()
	}
	name := r.function(code)
	r.reserve(3)
	r.put(recording.Of(recording.Job, 0, name))
	r.put(recording.Wide(recording.Span, uint64(ago)))
	r.put(recording.Wide(recording.Span, uint64(took)))
}

func (r *flightRecorder) panicked() { recordTrouble(r.loop, "a panic") }
