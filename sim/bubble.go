package sim

import (
	"cmp"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/goasyncio/asyncio/internal/bubble"
	"github.com/goasyncio/asyncio/internal/driver"
)

// A bubbled world is a run in a bubble of testing/synctest (package simtest), in which goroutines
// take part that are not the world's.
//
//	bubble 1: World and bubble have one clock. To move it the world sleeps in the bubble, which
//	   moves the bubble's clock only when everything in it is durably blocked.
//	bubble 2: What goroutines ask of loops waits at the gate. The world takes it in when all
//	   goroutines have come to rest (quiescence): sorted by host, connection and order, it becomes
//	   ready callbacks of the loops, and the strategy picks among these as among all others. So
//	   whether one goroutine was faster than another changes nothing.
//	bubble 3: Waiting for quiescence takes longer than a step. So the world does it only before it
//	   moves the clock, until a door is open: until the program has made something by which
//	   goroutines ask, or one has asked. From then on it does so between any two steps.
//	bubble 4: A step takes no time. One during which the bubble's clock has moved has slept. That is
//	   seen at once while a door is open or steps are watched, else when the world next moves the
//	   clock. A step that is blocked for ever shows by a timer that is far in the future (far),
//	   because everything else comes to rest before.
//	bubble 5: A life that ends settles what its goroutines wait for with net.ErrClosed, and so does
//	   every later call (errand 5). Goroutines that are left when the run is over, and after a while
//	   of simulated time in which they may still end, are a failure that names them.
type bubbled struct {
	*bubble.Bubble
	start time.Time // of the world's clock
	open  bool      // a door is (bubble 3)
	timer *time.Timer
	// calls stepSleeps, if steps are watched
	sentinel *time.Timer
	knock    chan struct{} // something is at the gate, or a context has ended; holds one

	// while the world sleeps its clock may be behind; it is read by any goroutine
	asleep atomic.Bool

	mu    sync.Mutex
	posts []gatePost // guarded by mu
}

// A gatePost waits at the gate of a life.
type gatePost struct {
	life *life
	driver.Posted
	from []uintptr // the calls of the goroutine, in a run with a trace
}

// asked is what a goroutine has asked for, where, and after which step.
type asked struct {
	what  string
	from  []uintptr
	after int
}

// maxCallers is how many calls of a goroutine are noted.
const maxCallers = 24

// askedOtherwise says, for two runs that differ, what their goroutines have first done differently.
func (t *tracer) askedOtherwise(u *tracer) string {
	tell := func(all []asked, i int) string {
		if i >= len(all) {
			return "nothing more"
		}
		return fmt.Sprintf("%s (after step %d)%s", all[i].what, all[i].after, userPlaces(framesOf(all[i].from)))
	}
	for i := range max(len(t.asked), len(u.asked)) {
		if i < len(t.asked) && i < len(u.asked) && t.asked[i].what == u.asked[i].what && slices.Equal(t.asked[i].from, u.asked[i].from) {
			continue
		}
		return fmt.Sprintf("\ngoroutines have asked for different things; in the first one asked for\n\t%s\nand in the second for\n\t%s", tell(t.asked, i), tell(u.asked, i))
	}
	return ""
}

// endOfTime is how long the clock goes on while no loop and no event waits for it: a goroutine may.
const endOfTime = 30 * 24 * time.Hour

// far is when a step that is blocked for ever is noticed (bubble 4).
const far = 150 * 365 * 24 * time.Hour

func init() {
	bubble.Option = func(b *bubble.Bubble) any { return Option{func(x *exploration) { x.bubble = b }} }
}

// errEpoch refuses a time that the clock of a bubble cannot show.
var errEpoch = errors.New("sim: a bubble begins on 1 January 2000, so its runs cannot begin before (Epoch)")

// newBubbled is called in the bubble.
func newBubbled(b *bubble.Bubble, epoch time.Time) (*bubbled, error) {
	wait := time.Until(epoch)
	if wait < 0 {
		return nil, errEpoch
	}
	time.Sleep(wait)
	t := time.NewTimer(0)
	<-t.C
	return &bubbled{Bubble: b, start: time.Now(), timer: t, knock: make(chan struct{}, 1)}, nil
}

// A gate is the gate of a life (driver.Gate).
type gate struct{ life *life }

// Gate implements [driver.Gated].
func (l *life) Gate() driver.Gate {
	if l.w.bubble == nil {
		return nil
	}
	return gate{l}
}

func (g gate) Open() { g.life.w.bubble.open = true }

func (g gate) Post(p driver.Posted) {
	b := g.life.w.bubble
	var from []uintptr
	if g.life.w.tracer != nil {
		from = make([]uintptr, maxCallers)
		from = from[:runtime.Callers(3, from)]
	}
	b.mu.Lock()
	b.posts = append(b.posts, gatePost{g.life, p, from})
	b.mu.Unlock()
	b.wake()
}

func (g gate) Flush() {
	for _, p := range g.life.w.bubble.take(func(p gatePost) bool { return p.life == g.life }) {
		p.Arrive()
	}
}

// wake ends the world's sleep.
func (b *bubbled) wake() {
	select {
	case b.knock <- struct{}{}:
	default:
	}
}

// take takes posts from the gate, in order (bubble 2).
func (b *bubbled) take(which func(gatePost) bool) []gatePost {
	b.mu.Lock()
	var taken []gatePost
	b.posts = slices.DeleteFunc(b.posts, func(p gatePost) bool {
		if which(p) {
			taken = append(taken, p)
			return true
		}
		return false
	})
	b.mu.Unlock()
	if len(taken) > 1 {
		slices.SortStableFunc(taken, func(p, q gatePost) int {
			if c := cmp.Compare(p.life.host.index, q.life.host.index); c != 0 {
				return c
			}
			n, name := p.Order()
			m, other := q.Order()
			return cmp.Or(cmp.Compare(n, m), strings.Compare(name, other))
		})
	}
	return taken
}

// takeIn waits for quiescence and lets in what is at the gate. It reports whether there was
// anything. It is called between two steps.
func (b *bubbled) takeIn(w *world) bool {
	b.Wait()
	posts := b.take(func(p gatePost) bool { return p.life.state == choosing || p.life.state == waiting })
	cause := 0
	if w.time() == w.now { // goroutines have come to rest since that step
		cause = w.step
	}
	for _, p := range posts {
		p.life.do(p.Arrive)
		if w.tracer != nil {
			p.life.note(cause)
			w.tracer.asked = append(w.tracer.asked, asked{p.life.host.prefix + p.Name(), p.from, w.step})
		}
	}
	return len(posts) > 0
}

// sleep moves the clock to until, or to the moment at which something comes (bubble 1).
func (b *bubbled) sleep(w *world, until time.Duration) (woken bool) {
	if time.Since(b.start) != w.time() { // some step since the clock last moved
		w.slept()
	}
	b.timer.Reset(until - w.time())
	b.asleep.Store(true)
	select {
	case <-b.timer.C:
	case <-b.knock:
		b.timer.Stop()
		woken = true
	}
	w.clock.Store(int64(time.Since(b.start)))
	b.asleep.Store(false)
	if woken {
		w.rest()
	}
	return woken
}

// rest waits for quiescence, before the clock moves or when somebody has knocked. It reports
// whether there is something to do at this time.
func (w *world) rest() bool {
	b := w.bubble
	select {
	case <-b.knock: // what it was for is about to be looked at
	default:
	}
	if !b.takeIn(w) {
		return false
	}
	b.open = true
	return true
}

// beginStep and endStep are called around each step.
func (b *bubbled) beginStep(w *world) {
	if w.watched {
		b.sentinel.Reset(1)
	}
}

func (b *bubbled) endStep(w *world) {
	if w.watched {
		b.sentinel.Stop()
	}
	if w.made && b.open {
		b.Wait() // checks see what goroutines have made of the step
	}
	if w.made && (w.watched || b.open) && time.Since(b.start) != w.now {
		w.slept()
	}
}

// inBubble makes a run in a bubble.
func (x *exploration) inBubble(p plan, o *outcome, r *playing, before int) {
	defer func() {
		if v := recover(); v != nil && !r.left { // goroutines that are left, and were named
			panic(v)
		}
	}()
	x.bubble.Run(p.seed, func() {
		b, err := newBubbled(x.bubble, x.epoch)
		o.w = x.newWorld(p)
		o.w.bubble = b
		close(r.begun)
		if err != nil {
			o.err = err
			return
		}
		watch := time.AfterFunc(far, func() { blockedForEver(r.stuck, r.done) })
		defer watch.Stop()
		b.sentinel = time.AfterFunc(far, o.w.stepSleeps)
		b.sentinel.Stop()
		done := make(chan struct{})
		go func() { // a t.FailNow in a task exits it
			defer close(done)
			o.err = x.run(o.w)
		}()
		<-done
		if err := b.leftover(before); err != nil {
			r.left = true
			if o.err == nil {
				o.err = err
			}
		}
	})
}

// stepSleeps is called, on a goroutine of its own, while a step sleeps.
func (w *world) stepSleeps() {
	for g := range goroutines {
		if blocks(g) && inStep(g) {
			w.leak(stepBlocks + g)
			return
		}
	}
}

// blockedForEver is the far timer's: a step waits for what cannot happen (bubble 4). told and stay
// are channels from outside the bubble, which keep the bubble from ending in a panic.
func blockedForEver(told chan<- struct{}, stay <-chan struct{}) {
	close(told)
	<-stay
}

// slept notices a step during which the clock has moved (bubble 4).
func (w *world) slept() {
	blocked := time.Since(w.bubble.start) - w.now
	w.clock.Store(int64(w.now + blocked))
	if w.leaking.Load() {
		return // the stack is known
	}
	step := "a step"
	if w.tracer != nil {
		step = fmt.Sprintf("step %d, %s,", w.step, quote(w.tracer.name(w.tracer.last())))
	}
	w.leak(fmt.Sprintf("%s blocks, and %v go by: in a task asyncio.Sleep, Recv and ToThread are for that", step, blocked))
}

// leftover waits, at the end of a run, until the program's goroutines have ended, and returns an
// error that names those that have not (bubble 5).
func (b *bubbled) leftover(before int) error {
	for d := time.Second; ; d *= 10 {
		b.Wait()
		if !b.open && runtime.NumGoroutine() <= before {
			return nil
		}
		left := b.others()
		if len(left) == 0 {
			return nil
		}
		if d > time.Hour {
			return fmt.Errorf("%d goroutines of the program are left when the run is over, and did not end within an hour: whoever starts a goroutine must end it; the first is\n%s", len(left), left[0])
		}
		time.Sleep(d)
	}
}

// others returns the stacks of the bubble's goroutines that are not its own.
func (b *bubbled) others() []string {
	var stacks []string
	mine := 0
	for g := range goroutines {
		switch n := bubbleOf(g); {
		case n == 0:
		case mine == 0: // the caller's is the first
			mine = n
		case n == mine && !isOfBubble(g):
			stacks = append(stacks, g)
		}
	}
	return stacks
}

// bubbleOf returns the number of a goroutine's bubble, 0 if it is in none.
func bubbleOf(stack string) (n int) {
	head, _, _ := strings.Cut(stack, "\n")
	if _, label, ok := strings.Cut(head, "synctest bubble "); ok {
		_, _ = fmt.Sscanf(label, "%d", &n)
	}
	return n
}

// isOfBubble reports whether a goroutine is one that every bubble has.
func isOfBubble(stack string) bool {
	for _, f := range []string{"internal/synctest.Run(", "testing.tRunner(", "testing/synctest.testingSynctestTest(", simPackage + "blockedForEver("} {
		if strings.Contains(stack, f) {
			return true
		}
	}
	return false
}

// restless returns an error if a bubble, the last one made, does not come to rest because one of
// its goroutines waits for something that is not of the bubble: a mutex, a channel from outside, a
// real connection. It is called from outside.
func restless() error {
	last, found := 0, ""
	for g := range goroutines {
		head, _, _ := strings.Cut(g, "\n")
		if n := bubbleOf(g); n >= last && n > 0 {
			if n > last {
				last, found = n, ""
			}
			if blocks(g) && !strings.Contains(head, "(durable)") && !isOfBubble(g) {
				found = g
			}
		}
	}
	if found == "" {
		return nil
	}
	return &leaked{what: "a goroutine waits for what is not of the simulation (a mutex that another holds while it waits, a channel that was made outside of the run, a real connection), so it never comes to rest; it is\n" + found}
}
