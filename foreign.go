package asyncio

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"unsafe"
)

// How a loop tells the goroutines that may touch it from all others.
//
//	foreign 1: Every access that could corrupt a loop is checked before anything is touched. The
//	   check reads only what is written atomically, so a refused call is no data race either. A call
//	   that changes only plain fields of its own object (an uncontended lock) goes unchecked outside
//	   debug mode.
//	foreign 2: debug.SetPanicOnFault is a bit of each goroutine that can be read back. A new
//	   goroutine has it off, whichever goroutine starts it. Stacks have it on from their first
//	   moment to their last. A goroutine has it on while it does the loop's work: the hub, Close, a
//	   driver's.
//	foreign 3: A goroutine without the bit is suspected, but not yet refused. The slower checks in
//	   look and suspect decide. They admit the caller of a loop that is not running, a stack whose
//	   bit was cleared, and a sequence of iter.Pull that the running step has entered. The stack and
//	   the sequence then get the bit. Any other goroutine's bit is left as it was.
//	foreign 4: The hubs of a loop make all of its stacks, and the ids of the hubs are noted. A
//	   goroutine's own trace tells which goroutine created it, and thereby whether it is a stack of
//	   the loop. A stack that runs while the loop does not wait is the one in control.
//	foreign 5: A goroutine of iter.Pull runs only while the goroutine that has entered it waits. So
//	   it may touch the loop if the stack in control has entered it and waits, which only the traces
//	   of all goroutines tell. Outside debug mode a sequence made by a goroutine of the loop is
//	   admitted without that look, and any other is looked at only once. If there are too many
//	   traces to look at, all sequences are admitted.
//	foreign 6: While several loops run, the bit does not say which loop a stack belongs to. guard is
//	   then guardShared, and the address of a local variable is looked at: an aligned block of 2 KiB
//	   of memory never belongs to two stacks. Each stack keeps the few such blocks that have been
//	   found to be its own, and the loop points at the blocks of the stack in control. A goroutine
//	   whose address is elsewhere is suspected (foreign 3). Blocks are forgotten when their stack
//	   turns out to have moved. One call is missed: that of another loop's stack which has grown, in
//	   this very step, into memory that the stack in control has just moved away from, in its own
//	   step.
//	foreign 7: In debug mode guard is the id of the goroutine in control, and ids are compared,
//	   whatever the bit says. Reading an id costs a walk over the whole stack. So a goroutine that
//	   has the bit is also recognised by the blocks of the stack in control (foreign 6).
//	foreign 8: Where the bit is set, a fault at an address that is not nil is a panic with an Addr.
//	   If such a panic reaches the library, the program ends, as it would without the bit.
//	foreign 9: Loops of a simulation have the turn one at a time, and one that does not have it is
//	   parked (guardParked), which refuses everybody. So the bit is enough for the one that has it,
//	   however many there are, and none of them is guardShared. Debug mode does not compare ids
//	   either. One call is missed: that of a stack of a loop that is not of this simulation.

// kin holds the goroutines of a loop, as far as anybody has asked (foreign 4, foreign 5). Any
// goroutine may look at it.
type kin struct {
	mu     sync.Mutex
	hubs   map[uint64]int      // for each hub's id, how many of the stacks it has made are left
	others map[uint64]struct{} // ids of stacks, where known, and of sequences that were admitted
}

// maxKin bounds others. A goroutine that was forgotten is looked at again.
const maxKin = 1 << 14

func (k *kin) add(id uint64) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.others == nil || len(k.others) >= maxKin {
		k.others = make(map[uint64]struct{})
	}
	k.others[id] = struct{}{}
}

func (k *kin) has(id uint64) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	_, ok := k.others[id]
	return ok
}

// makes adds n to the number of stacks that a hub has made and that are left.
func (k *kin) makes(hub uint64, n int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.hubs == nil {
		k.hubs = make(map[uint64]int)
	}
	if k.hubs[hub] += n; k.hubs[hub] == 0 {
		delete(k.hubs, hub)
	}
}

func (k *kin) isHub(id uint64) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.hubs[id] > 0
}

// borrow sets the bit of a goroutine that does the loop's work for a while (foreign 2). giveBack
// puts the bit back.
func borrow() (giveBack func()) {
	was := debug.SetPanicOnFault(true)
	return func() { debug.SetPanicOnFault(was) }
}

// hasBit reports whether the calling goroutine has the bit (foreign 2). Checks that are made often
// have this written out, because two calls are too much for the compiler to inline.
func hasBit() bool {
	has := debug.SetPanicOnFault(true)
	debug.SetPanicOnFault(has)
	return has
}

// checkOwner returns an error for a call from a foreign goroutine or to a closed loop. mustBeOwner
// panics with that error.
func (l *EventLoop) checkOwner(caller string) error {
	if l == nil {
		return zeroValue(caller)
	}
	g := l.guard.Load()
	if g == 0 {
		if debug.SetPanicOnFault(true) {
			return nil
		}
		debug.SetPanicOnFault(false)
	}
	return l.look(g, caller)
}

// look is the part of checkOwner for cases that the bit does not decide.
//
//go:noinline
func (l *EventLoop) look(g uint64, caller string) error {
	switch g {
	case guardClosed:
		return fmt.Errorf("%w (in %s)", ErrLoopClosed, caller)
	case guardParked:
		return l.foreign(self(), caller)
	case guardShared: // the address decides (foreign 6)
		if l.blocks.Load().have(blockOf(unsafe.Pointer(&g))) {
			return nil
		}
	case 0:
		if !l.running.Load() {
			return nil // the loop is at rest and its caller owns it
		}
	default: // an id (foreign 7)
		block := blockOf(unsafe.Pointer(&g))
		if l.blocks.Load().have(block) && hasBit() {
			return nil
		}
		if g == goroutineID() {
			l.blocks.Load().add(block)
			return nil
		}
	}
	return l.suspect(g, caller)
}

// suspect admits or refuses a suspected goroutine (foreign 3).
func (l *EventLoop) suspect(g uint64, caller string) error {
	me := self()
	switch {
	case !me.pulled:
		return l.foreign(me, caller)
	case l.kin.isHub(me.by):
		if g == guardShared {
			l.blocks.Load().add(blockOf(unsafe.Pointer(&me)))
		}
	case !l.hasEntered(me):
		return l.foreign(me, caller)
	case g == guardShared:
		l.blocks.Load().add(blockOf(unsafe.Pointer(&me)))
	}
	debug.SetPanicOnFault(true)
	return nil
}

// isOn reports whether the calling goroutine is a stack of l that has control.
func (l *EventLoop) isOn() bool {
	g := l.guard.Load()
	if isID(g) {
		return g == goroutineID()
	}
	if g != 0 && g != guardShared || !l.running.Load() {
		return false
	}
	if !hasBit() {
		return false
	}
	me := self()
	return me.pulled && l.kin.isHub(me.by)
}

// checkForeign and mustNotBeForeign are for calls that are allowed on a closed loop. On a closed
// loop they refuse nobody. On a loop that is closing they refuse none of its own goroutines.
func (l *EventLoop) checkForeign(caller string) error {
	if l != nil && l.guard.Load() == guardClosed {
		if l.closed.Load() {
			return nil
		}
		// Close is unwinding tasks.
		if l.turns && hasBit() {
			return nil
		}
		if me := self(); !me.pulled && !hasBit() || me.pulled && l.isOfAnother(me) {
			return l.foreign(me, caller)
		}
		return nil
	}
	return l.checkOwner(caller)
}

// isOfAnother reports whether me is a stack of another running loop.
func (l *EventLoop) isOfAnother(me origin) bool {
	r := &runningLoops
	r.Lock()
	defer r.Unlock()
	for other := range r.all {
		if other != l && other.kin.isHub(me.by) {
			return true
		}
	}
	return false
}

func (l *EventLoop) mustNotBeForeign(caller string) {
	if err := l.checkForeign(caller); err != nil {
		panic(err)
	}
}

func (l *EventLoop) mustBeOwner(caller string) {
	if err := l.checkOwner(caller); err != nil {
		panic(err)
	}
}

// mayNow reports whether the caller may do at once what any goroutine may ask for. err is the
// result of a check. While the loop does not run, the check takes its caller for the owner. But
// another goroutine may ask at just that moment, as between the end of main and the end of its
// other tasks. So on the machine's clock no goroutine may do it at once then.
func (l *EventLoop) mayNow(err error) bool {
	if err != nil || l.drv.Polls() || l.closed.Load() {
		return err == nil
	}
	if !l.running.Load() {
		return false
	}
	has := hasBit()
	g := l.guard.Load()
	return has || isID(g) && g == goroutineID()
}

// byOwnTask reports whether a task of the running loop calls a function that other goroutines may
// call too, and wait in. The error is for a caller that must not wait: a task of another loop. A
// stack whose bit was cleared, or a sequence of iter.Pull that never called before, is taken for
// another goroutine: telling these apart would cost each caller a look at its trace.
func (l *EventLoop) byOwnTask(caller string) (bool, error) {
	if l == nil {
		return false, zeroValue(caller)
	}
	g := l.guard.Load()
	if !hasBit() || !l.running.Load() {
		return false, nil
	}
	if g == guardClosed { // the loop unwinds its tasks; the operation itself says that
		return true, nil
	}
	if isID(g) && g == goroutineID() {
		return true, nil
	}
	if err := l.checkOwner(caller); err != nil {
		return false, fmt.Errorf("%w; a task must not block its own loop either: call what uses the connection in ToThread", err)
	}
	return true, nil
}

// blockedStep describes the wait of a step that waits for another goroutine other than by an await:
// for a channel, a lock and the like. It returns "" for a step that computes, sleeps or is in a
// system call, and if it does not find the step among the traces of all goroutines.
func (l *EventLoop) blockedStep() string {
	traces := allStacks()
	stacks := make(map[uint64]bool)
	for trace := range bytes.SplitSeq(traces, []byte("\n\n")) {
		if o := originOf(trace); o.pulled && l.kin.isHub(o.by) {
			stacks[o.id] = true
		}
	}
	for trace := range bytes.SplitSeq(traces, []byte("\n\n")) {
		// a sequence that a stack has made may be what the step runs
		if o := originOf(trace); o.pulled && (stacks[o.id] || stacks[o.by]) {
			if wait := waitOf(trace); wait != "" {
				return wait
			}
		}
	}
	return ""
}

// waitsForOthers are the beginnings of the states of goroutines that wait for other goroutines.
var waitsForOthers = []string{"chan ", "select", "sync.", "semacquire"}

// waitOf returns the state and the innermost functions of a goroutine that waits for others, "" for
// any other.
func waitOf(trace []byte) string {
	head, frames, _ := bytes.Cut(trace, []byte("\n"))
	_, state, _ := bytes.Cut(head, []byte("["))
	state, _, _ = bytes.Cut(state, []byte("]"))
	state, _, _ = bytes.Cut(state, []byte(","))
	if !slices.ContainsFunc(waitsForOthers, func(w string) bool { return bytes.HasPrefix(state, []byte(w)) }) {
		return ""
	}
	var in []string
	for frame := range bytes.SplitSeq(frames, []byte("\n")) {
		end := bytes.LastIndexByte(frame, '(')
		if end > 0 && frame[0] != '\t' && len(in) < 3 && !bytes.HasPrefix(frame, []byte("runtime.")) && !bytes.HasPrefix(frame, []byte("sync.")) {
			in = append(in, string(frame[:end]))
		}
	}
	return string(state) + " in " + strings.Join(in, ", called by ")
}

// orPost has the loop call fn for a caller that may not do it now. It returns err if that says more
// than that the caller is foreign. Otherwise it returns nil, even if the loop is closing: closing
// the loop closes the object that fn is about.
func (l *EventLoop) orPost(err error, fn postedCall) error {
	if err != nil && !errors.Is(err, ErrForeignGoroutine) {
		return err
	}
	_ = l.post(fn)
	return nil
}

// A postedCall is a function of the library's that another goroutine has asked for. It takes its
// turn in the ready queue.
type postedCall func()

func (fn postedCall) fire(*future) { fn() }

// zeroValue returns the error for an object that has no loop because the package did not make it.
func zeroValue(caller string) error {
	return fmt.Errorf("%w: a zero value, which belongs to no loop: it is for a function of this package to make (in %s)", ErrInvalidArgument, caller)
}

// foreign returns the error for a call from the goroutine me.
func (l *EventLoop) foreign(me origin, caller string) error {
	who := fmt.Sprintf("goroutine %d", me.id)
	if me.pulled {
		who += ", a task of another loop or a sequence of iter.Pull,"
	} else if me.creator != "" {
		who += ", which " + me.creator + " started,"
	}
	whose := "of an event loop"
	if g := l.runner.Load(); g != 0 {
		whose = fmt.Sprintf("of the event loop that goroutine %d runs", g)
	}
	err := fmt.Errorf("%w: %s called %s %s: %s", ErrForeignGoroutine, who, caller, whose, remedy(caller))
	if isConnection(caller) && me.id != 0 {
		// Libraries drop such errors or replace them with their own, so this one is also logged.
		if _, told := foreignUsers.LoadOrStore(me.creator+caller, true); !told {
			slog.Error("asyncio: a connection was used by a goroutine outside its event loop", slog.Any("exception", err))
		}
	}
	return err
}

// foreignUsers has the foreign uses of connections that have been logged.
var foreignUsers sync.Map

// isConnection reports whether caller is a method of a connection that only tasks may call.
func isConnection(caller string) bool {
	kind, method, _ := strings.Cut(caller, ".")
	switch kind {
	case "Conn", "TLSConn", "PacketConn":
		return strings.HasPrefix(method, "Read") || strings.HasPrefix(method, "Write")
	}
	return false
}

// remedy says what to do instead of calling caller.
func remedy(caller string) string {
	switch kind, _, _ := strings.Cut(caller, "."); kind {
	case "Conn", "PacketConn", "Listener":
		return "a library that uses it on goroutines of its own needs its view, which Threadsafe returns; call the library in ToThread"
	case "TLSConn":
		return "a library that reads and writes on goroutines of its own needs a connection of package crypto/tls: call it in ToThread with one, " +
			"or give this one to it with Detach"
	case "Dial", "DialPacket", "DialContext", "Listen", "ListenPacket", "OpenConnection", "OpenUnixConnection":
		return "a task has to call it; a goroutine can dial with the function that ThreadsafeDialer returns, or use package net"
	case "StreamReader", "StreamWriter", "Server", "Process", "File":
		return "have a task do it: RunCoroutineThreadsafe or Call starts one from any goroutine"
	}
	switch caller {
	case "Release", "Notify", "NotifyAll", "Set", "Clear", "PutNowait", "GetNowait", "TaskDone", "Shutdown", "SetResult", "SetException",
		"Cancel", "CallSoon", "Stop", "AddDoneCallback", "RemoveDoneCallback", "Reschedule", "Started":
		return "have the loop do it with CallSoonThreadsafe"
	case "CallLater", "CallAt":
		return "have the loop do it with CallSoonThreadsafe(func() { loop." + caller + "(…) })"
	}
	return "have a task of the loop do it: RunCoroutineThreadsafe or Call starts one from any goroutine; CallSoonThreadsafe runs a function on the loop"
}

// An origin is what the trace of a goroutine says about the goroutine.
type origin struct {
	id      uint64
	creator string // the function that made it, empty for the goroutine of main
	by      uint64 // the id of the goroutine that made it
	pulled  bool   // it is a coroutine of iter.Pull
}

// self returns the origin of the calling goroutine. That takes some microseconds, and more for a
// deeper stack.
func self() origin {
	for size := 4 << 10; ; size *= 4 {
		buf := make([]byte, size)
		if n := runtime.Stack(buf, false); n < size {
			return originOf(buf[:n])
		}
	}
}

// originOf reads one goroutine's trace.
func originOf(trace []byte) (o origin) {
	o.id = leadingNumber(trace, "goroutine ")
	// with GODEBUG=tracebackancestors the traces of its ancestors follow
	i := bytes.Index(trace, []byte("\ncreated by "))
	if i < 0 {
		return o
	}
	line, _, _ := bytes.Cut(trace[i+len("\ncreated by "):], []byte("\n"))
	creator, by, _ := bytes.Cut(line, []byte(" in "))
	o.creator, o.by = strings.ReplaceAll(string(creator), "%2e", "."), leadingNumber(by, "goroutine ")
	o.pulled = strings.HasPrefix(o.creator, "iter.Pull")
	return o
}

func leadingNumber(text []byte, prefix string) (n uint64) {
	text, ok := bytes.CutPrefix(text, []byte(prefix))
	if !ok {
		return 0
	}
	for _, c := range text {
		if c < '0' || c > '9' {
			break
		}
		n = n*10 + uint64(c-'0')
	}
	return n
}

// hasEntered reports whether the running step has entered the sequence whose goroutine me is
// (foreign 5).
func (l *EventLoop) hasEntered(me origin) bool {
	known := l.kin.has(me.by) || l.kin.has(me.id)
	if known && (!l.debug() || runtime.NumGoroutine() > manyGoroutines) {
		l.kin.add(me.id)
		return true
	}
	all, complete := sequencesNow()
	head, exact := l.head()
	maker, entered := all.enteredBy(me, head, exact)
	if !entered && complete {
		// an incomplete list may lack the stack in control, and nobody is refused for that
		return false
	}
	if maker != 0 {
		l.kin.add(maker)
	}
	l.kin.add(me.id)
	l.setMode(kinMode, true)
	return true
}

// manyGoroutines is how many goroutines debug mode looks at, at most, for each call.
const manyGoroutines = 1000

// sequences holds all goroutines of iter.Pull, and so all stacks.
type sequences map[uint64]sequence

type sequence struct {
	origin
	runs  bool // or blocks, or is about to run: it has control of itself
	waits bool // for a sequence that it has entered or that has entered it, not at a place
}

// sequencesNow returns the sequences that exist now. complete reports whether these are all.
func sequencesNow() (all sequences, complete bool) {
	all = make(sequences)
	traces := allStacks()
	for trace := range bytes.SplitSeq(traces, []byte("\n\n")) {
		if o := originOf(trace); o.pulled {
			state, frames, _ := bytes.Cut(trace, []byte("\n"))
			runs := !bytes.Contains(state, []byte("[coroutine"))
			all[o.id] = sequence{o, runs, !runs && !atPlace(frames)}
		}
	}
	return all, len(traces) < maxTraces
}

// head returns a test for the stack in control. exact reports whether only one stack can pass the
// test.
func (l *EventLoop) head() (head func(sequence) bool, exact bool) {
	if l.modes.Load()&kinMode != 0 {
		if id := l.step.head.Load(); id != 0 {
			return func(s sequence) bool { return s.id == id }, true
		}
	}
	return func(s sequence) bool { return l.kin.isHub(s.by) }, false
}

// enteredBy reports whether a head has entered the sequence of me, directly or by way of others. If
// the head made the sequence, it is returned as the maker. Otherwise the head counts as having
// entered it if the head waits and no sequence that the head made explains that.
func (all sequences) enteredBy(me origin, head func(sequence) bool, exact bool) (maker uint64, entered bool) {
	for _, h := range all {
		if !h.waits || !head(h) {
			continue
		}
		if all.leadsTo(me, h.id) {
			return h.id, true
		}
		taken := false
		for _, s := range all {
			// If h is in control, a sequence that waits at a place has been entered by another.
			inside := s.runs || !exact && !s.waits
			taken = taken || s.id != me.id && inside && all.leadsTo(s.origin, h.id)
		}
		entered = entered || !taken
	}
	return 0, entered
}

// leadsTo reports whether o was made by head, or by a waiting sequence that itself leads to head.
func (all sequences) leadsTo(o origin, head uint64) bool {
	for o.by != head {
		maker, ok := all[o.by]
		if !ok || !maker.waits {
			return false
		}
		o = maker.origin
	}
	return true
}

// atPlace reports whether a stack with these frames waits at a place. Otherwise it waits in a
// function of iter.Pull. Either the program called that function or the library did so for the
// program, as when CallSoon is given the stop of a sequence.
func atPlace(frames []byte) bool {
	for frame := range bytes.SplitSeq(frames, []byte("\n")) {
		if bytes.HasPrefix(frame, []byte("iter.")) || bytes.HasPrefix(frame, []byte("\t")) {
			continue
		}
		if bytes.HasPrefix(frame, []byte(coroPrefix)) {
			return true
		}
		name, ok := bytes.CutPrefix(frame, []byte(libraryPrefix))
		return ok && slices.ContainsFunc(placesIn, func(f string) bool { return bytes.HasPrefix(name, []byte(f)) })
	}
	return false
}

// placesIn lists the functions that wait at places, except those of package coro: all that call
// Toggle.
var placesIn = []string{"(*task).park(", "(*task).yield(", "(*future).await(", "(*waitQueue).wait(", "(*stack).rest("}

const coroPrefix = "github.com/goasyncio/asyncio/internal/coro."

// goroutineID reads the id that stack traces begin with. There is no documented faster way, so it
// is only for callers that need to know.
func goroutineID() uint64 {
	var buf [40]byte
	n := runtime.Stack(buf[:], false)
	return leadingNumber(buf[:n], "goroutine ")
}

// blocks are the blocks of memory that have been found to be one stack's (foreign 6). Other
// goroutines read them.
type blocks struct {
	of   [4]atomic.Uintptr
	next int
}

// blockOf returns the block that an address on a stack is in.
func blockOf(p unsafe.Pointer) uintptr { return uintptr(p) >> 11 }

func (b *blocks) have(block uintptr) bool {
	return b != nil && (b.of[0].Load() == block || b.of[1].Load() == block || b.of[2].Load() == block || b.of[3].Load() == block)
}

// add is called on the stack in control.
func (b *blocks) add(block uintptr) {
	if b != nil {
		b.of[b.next].Store(block)
		b.next = (b.next + 1) % len(b.of)
	}
}

func (b *blocks) clear() {
	for i := range b.of {
		b.of[i].Store(0)
	}
}

// runningLoops holds all running loops of the process.
var runningLoops struct {
	sync.Mutex
	all map[*EventLoop]struct{}
}

// observeRun is told when a run of a loop begins and when it ends. A room sets it.
var observeRun = func(l *EventLoop, begins bool) {}

// joinsLoops and leavesLoops are called when a run of the loop begins and ends.
func (l *EventLoop) joinsLoops() {
	r := &runningLoops
	r.Lock()
	defer r.Unlock()
	if r.all == nil {
		r.all = make(map[*EventLoop]struct{})
	}
	r.all[l] = struct{}{}
	observeRun(l, true)
	switch len(r.all) {
	case 1:
	case 2:
		for other := range r.all {
			other.share(true)
		}
	default:
		l.share(true)
	}
}

func (l *EventLoop) leavesLoops() {
	r := &runningLoops
	r.Lock()
	defer r.Unlock()
	delete(r.all, l)
	observeRun(l, false)
	l.share(false)
	if len(r.all) == 1 {
		for other := range r.all {
			other.share(false)
		}
	}
}

func (l *EventLoop) share(on bool) {
	l.setMode(sharedMode, on && !l.turns)
	l.settleGuard()
}

// settleGuard brings guard in line with sharedMode, unless guard has a value that takes precedence.
// It must be called after a change of either.
func (l *EventLoop) settleGuard() {
	if l.modes.Load()&sharedMode != 0 {
		l.guard.CompareAndSwap(0, guardShared)
	} else {
		l.guard.CompareAndSwap(guardShared, 0)
	}
}

// setGuard is for the loop itself.
func (l *EventLoop) setGuard(g uint64) {
	l.guard.Store(g)
	l.settleGuard()
}

// isID reports whether guard is the id of a goroutine.
func isID(g uint64) bool { return g != 0 && g < guardShared }

// mustEnd ends the program if v, a recovered value, is a fault (foreign 8).
func mustEnd(v any) {
	if f, ok := v.(interface {
		runtime.Error
		Addr() uintptr
	}); ok {
		crash(fmt.Errorf("unexpected fault address %#x: %w", f.Addr(), error(f)))
	}
}
