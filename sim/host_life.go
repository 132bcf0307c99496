package sim

import (
	"context"
	"fmt"
	"math"
	"regexp"
	"sync"
	"sync/atomic"
	"time"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/internal/driver"
)

// A life of a host, from the moment at which the host is turned on: its goroutine, its end, crashes
// and pauses between two steps, and what the network and the world tell its loop.

// A life is one run of a host's program (host 1), and the driver of its loop.
type life struct {
	w         *world
	host      *Host
	loop      driver.Loop
	eventLoop *asyncio.EventLoop
	runner    *asyncio.Runner
	program   *asyncio.Task[asyncio.None]

	state   lifeState
	n       int           // choosing: how many are ready
	until   time.Duration // waiting: until when, on the world's clock
	fresh   bool          // an iteration has begun since its last step
	pending atomic.Bool   // woken since the last Wait returned
	tells   []tell
	baton   chan int      // orders, with which it has the turn
	back    time.Duration // the host is off, if chaos ends the life; 0 if it does not
	killed  bool          // the life has been ended by a crash or a kill (host 2)
	buried  chan struct{}
	held    int            // this life's part of w.held, guarded by w.mu
	jobs    sync.WaitGroup // thread functions, in a bubble

	paused time.Duration // until when the life runs nothing, on the world's clock
	frozen bool          // it runs nothing but steps
	steps  int           // that it may still make while it is frozen
	disk   driver.Disk   // as it is mounted
	clock  atomic.Pointer[clock]

	kept    []keptBack   // callbacks that are kept back, by their places
	entries []entryReady // the ready callbacks, if effects are recorded

	// for each ready callback: the step that made it ready, 0 if no step did; only kept with a
	// tracer
	causes  []int
	outside bool // callbacks that become ready now are not caused by the last step
}

// lifeState is the state that a life is in (world 5).
type lifeState uint8

const (
	starting lifeState = iota // it waits for its first turn
	running                   // it has the turn, or its step waits for a life that it ends
	choosing                  // it is parked in Choose
	waiting                   // it is parked in Wait
	gone                      // it has ended
)

// A tell is a readiness message to an endpoint.
type tell struct {
	to          driver.Notifier
	read, write bool
}

// begin turns the host on, with a loop that is not running yet. main's loop is made by its runner.
// After the run nothing begins, though deferred functions may ask for it.
func (h *Host) begin(program func(ctx context.Context) error) *life {
	if h.w.ended {
		return nil
	}
	h.lives++
	h.w.acts()
	l := &life{w: h.w, host: h, baton: make(chan int, 1)}
	now := h.w.time()
	l.clock.Store(&clock{rate: h.rate, world: now, start: h.w.epoch.Add(now + h.skew).In(h.zone)})
	h.life = l
	l.disk = h.disk.fileSystem()
	h.process = h.w.net.attach(h.name, h.addr, l.tell)
	ctx := context.WithValue(context.Background(), hostKey{}, l)
	l.runner = asyncio.NewRunner(ctx, asyncio.LoopFactory(l.newLoop), asyncio.HandleSIGINT(false))
	if program == nil {
		return l
	}
	loop, err := l.runner.GetLoop()
	if err != nil {
		panic(err) // it was made by newLoop
	}
	l.program = asyncio.CreateTask(loop.Context(), asyncio.Do(program), asyncio.TaskName("main"))
	if h.w.picture != nil {
		h.w.picture.begins(l)
	}
	h.w.note(h.name + " is turned on")
	go l.live()
	return l
}

// newLoop makes the loop.
func (l *life) newLoop(ctx context.Context) *asyncio.EventLoop {
	l.eventLoop = asyncio.NewEventLoop(driver.With(ctx, l))
	l.eventLoop.SetDebug(l.w.supervised)
	l.eventLoop.SetExceptionHandler(l.report)
	if l.w.watched && l.w.bubble == nil { // a bubble sees blocked steps by its clock
		l.eventLoop.SetStallWatchdog(stepPatience, l.stalled)
	}
	return l.eventLoop
}

// live is the goroutine of a life that is not main's.
func (l *life) live() {
	err := errExited // unless the goroutine gets to the end
	defer func() {
		if l.killed { // the kill may have come while it closed
			err = ErrCrashed
			l.unwind()
		}
		l.end(err)
	}()
	if <-l.baton != die {
		l.state = running
		_, e := asyncio.RunUntilComplete(l.eventLoop, l.program)
		if !l.killed {
			if closed := l.runner.Close(); e == nil {
				e = closed
			}
		}
		err = e
	}
}

// unwind makes the tasks of a killed life call their deferred functions.
func (l *life) unwind() {
	late := time.AfterFunc(threadPatience, func() {
		l.w.leak(fmt.Sprintf("host %s is killed, and a deferred function of one of its tasks waits for something outside of the simulation, or for another task, or computes for longer than %v; it is\n%s",
			l.host.name, threadPatience, goroutineWith("runtime.Goexit(")))
	})
	defer late.Stop()
	_ = l.eventLoop.Close()
}

// end is the last act of a life: it reports the end to those that wait for it, and hands the turn
// on.
func (l *life) end(err error) {
	w, h := l.w, l.host
	if err == errExited {
		w.fail(err)
		l.killed = true
		_ = l.eventLoop.Close()
	}
	l.state = gone
	if w.picture != nil {
		w.picture.ends(l, err)
	}
	w.acts()
	w.forget(l)
	l.letGo(math.MaxInt)
	h.skew = l.Wall().Sub(w.epoch.Add(w.time()))
	if !l.killed {
		h.process.kill()
		h.disk.unmount()
	}
	h.life, h.err, h.known = nil, err, l.killed || err == nil || l.stoppedByChaos(err)
	if h.known && l.back > 0 && !l.killed {
		h.backAfter(l.back)
	}
	for _, hope := range h.ends {
		hope.comeTrue()
	}
	h.ends = nil
	if l.buried != nil {
		close(l.buried)
		return
	}
	w.pass(l)
}

// letGo takes back up to n holds. A hold taken before a kill is released here, because its owner
// will not release it.
func (l *life) letGo(n int) {
	l.w.mu.Lock()
	n = min(n, l.held)
	l.held -= n
	l.w.held -= n
	l.w.mu.Unlock()
}

// kill ends the life at once (host 2).
func (l *life) kill() {
	l.killed = true
	if l.state == running { // the life kills itself; it ends with its step
		return
	}
	l.buried = make(chan struct{})
	l.baton <- die
	<-l.buried
}

// strike applies SetCrashes and SetPauses between two steps. It reports whether the life has ended.
func (l *life) strike() (crashed bool) {
	w, h := l.w, l.host
	if w.fault(h.crashFault, h.crashProbability) {
		h.powerOff()
		l.killed = true
		h.backAfter(h.back)
		return true
	}
	if h.pauseProbability > 0 && !w.isCalm() {
		longest := int64(h.longestPause)
		l.pause(time.Duration(w.amount(h.pauses, span{least: 1, most: longest, p: h.pauseProbability, tried: longest})))
	}
	if w.chaos != 0 {
		return l.suffer()
	}
	return false
}

// pause makes the life run nothing for d from now on, unless it is in a longer pause.
func (l *life) pause(d time.Duration) { l.paused = max(l.paused, later(l.w.time(), d)) }

// isPaused reports whether the life is in a pause and runs nothing.
func (l *life) isPaused() bool { return l.paused > l.w.time() || l.isFrozen() }

func (l *life) isFrozen() bool { return l.frozen && l.steps == 0 }

// next returns the earliest time at which the life can go on, as things are.
func (l *life) next() time.Duration {
	switch {
	case l.isFrozen():
		return driver.Never
	case l.isPaused():
		return l.paused
	case l.state == waiting:
		return l.until
	}
	return driver.Never
}

// do acts on the loop while its life is parked, or from the life itself.
func (l *life) do(fn func()) {
	l.loop.Do(fn)
	if l.state == waiting {
		l.pending.Store(true)
	}
}

func (l *life) Now() time.Duration { return l.clock.Load().at(l.w.time()) }
func (l *life) Start() time.Time   { return l.clock.Load().start }
func (l *life) Wall() time.Time    { return l.Start().Add(l.Now()) }

// tell records that an endpoint of the network is ready. It does not interrupt a step.
func (l *life) tell(to driver.Notifier, read, write bool) {
	l.tells = append(l.tells, tell{to, read, write})
}

// deliver passes the network's readiness messages on to the loop. cause is the step that they
// follow from.
func (l *life) deliver(cause int) {
	if len(l.tells) == 0 || l.state != choosing && l.state != waiting {
		return
	}
	for i := 0; i < len(l.tells); i++ {
		t := l.tells[i]
		t.to.Ready(t.read, t.write)
	}
	l.tells = l.tells[:0]
	if l.state == waiting {
		l.pending.Store(true)
	}
	if l.w.tracer != nil {
		l.note(cause)
	}
}

// note records step as the cause of every callback that has become ready since the last note.
func (l *life) note(step int) {
	for n := l.loop.Len(); len(l.causes) < n; {
		l.causes = append(l.causes, step)
	}
}

// report is the exception handler of the life's loop.
func (l *life) report(_ *asyncio.EventLoop, c asyncio.ExceptionContext) {
	w := l.w
	if w.over || l.killed {
		return
	}
	r := &reported{message: c.Message, err: c.Exception}
	if c.Task != nil {
		r.task = l.host.prefix + c.Task.GetName()
	} else if m := nameInRepr.FindStringSubmatch(c.Source); m != nil {
		r.task = l.host.prefix + m[1]
	}
	// The run is not over at once (world 4): main goes on and may describe the consequences.
	if w.failure == nil {
		w.failure, w.wrongAt, w.wrongTask = r, w.step, r.task
	}
}

// nameInRepr finds a task's name in the repr of a task that nobody holds any more.
var nameInRepr = regexp.MustCompile(`^<Task .*? name='([^']*)'`)
