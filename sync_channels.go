package asyncio

import (
	"cmp"
	"context"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/goasyncio/asyncio/internal/driver"
)

// A task can wait for a Go channel without blocking the loop. Only a goroutine that blocks on a
// channel can tell when that is ready: Go offers no other way, and a receive cannot be undone.
//
//	channel 1: An operation that need not wait happens at once, in the task. But a channel can be
//	   ready for ever, so a task that has done maxUnbroken such operations in one step gives way to
//	   the others for one iteration, as at a Conn (conn 1).
//	channel 2: A task that waits has a listener: a goroutine that selects between the channel and a
//	   stop signal, and posts the operation that happened to the loop. Several channels (Select)
//	   share one listener, so that only one operation happens.
//	channel 3: However the wait ends, the task stops the listener and waits for its last word before
//	   it returns; that takes as long as a goroutine needs to wake up. If the channel was faster
//	   than the stop, the operation has happened and is the result, even for a task that was
//	   cancelled. The cancel then comes at its next await. So a value is received by the caller or
//	   not at all, and no goroutine is left.
//	channel 4: On a polling driver (virtual time) the moment at which a goroutine arrives would not
//	   be deterministic. There the loop itself looks at the channels at the beginning of each
//	   iteration, and serves tasks in the order in which they began to wait. Listeners exist only
//	   while the loop is parked and real time passes. The loop looks once at each channel, however
//	   many tasks wait there. If there are more than looksPerStep channels and the loop is busy, it
//	   does not look in every iteration, but looksPerStep times for each callback; always before it
//	   parks. Two tasks of the loop at the two ends of an unbuffered channel would look past each
//	   other, so the second deals with the first directly.
//	channel 5: The loop cannot know the sender of a channel. Another task of the loop may be waiting
//	   for time to pass, so waiting for a channel does not hold the virtual clock. A goroutine may
//	   come at any moment, so while a task waits for a channel there is no deadlock, only real time
//	   to be spent. A goroutine that the loop knows of, of ToThread or an executor, holds the clock
//	   by itself; values that it sends before it returns are received before time goes on.

// Recv receives from ch and suspends the calling task until there is a value, if there is none. ok
// is false if ch is closed and empty, as in v, ok := <-ch. A nil ch never has a value. Recv is for
// the loop's tasks only. Anyone may send: tasks with [Send], any goroutine as in Go. If there are
// several receivers, they get values in no certain order.
//
// A cancel that arrives while Recv waits ends the wait, and nothing has been received. But if a
// value comes at the same time, Recv may return it without an error, and the cancel is delivered at
// the next await. The same holds when ctx ends. No value is ever lost, and no goroutine stays
// behind. With an error nothing was received. Errors: a [CancelledError], the cause of ctx,
// [ErrNotInTask], [ErrNoRunningLoop], [ErrForeignGoroutine], [ErrInvalidArgument] for a nil
// context.
//
// On a virtual clock time goes on while a task waits for a channel, because the sender may be
// another task that sleeps. Only work given to [ToThread] or an executor stops the clock: start a
// goroutine that feeds a channel in that way. If there is no timer either, the loop waits for the
// channel in real time instead of ending with [ErrDeadlock]. On a virtual clock nobody receives
// while a task runs. So in a task a plain ch <- v to a task that waits in Recv blocks the loop for
// good unless ch has room: use Send.
//
// Python has no counterpart; the package janus has one.
func Recv[T any](ctx context.Context, ch <-chan T) (v T, ok bool, err error) {
	t, err := enter(ctx, "Recv")
	if err == nil && !t.loop().mayGoOn() {
		err = t.giveWay(ctx)
	}
	if err != nil {
		return v, false, err
	}
	select {
	case v, ok = <-ch:
		return v, ok, nil
	default:
	}
	c := &channelOp[T]{in: ch}
	if err := waitForChannel(ctx, t, c); err != nil {
		return v, false, err
	}
	return c.v, c.ok, nil
}

// Send sends v to ch and suspends the calling task until there is room or a receiver, if there is
// none. A nil ch never has one. Send panics if ch is closed, also while it waits, as ch <- v does.
// With a nil error v has been sent, with any other it has not. In all other respects it is like
// [Recv].
func Send[T any](ctx context.Context, ch chan<- T, v T) error {
	t, err := enter(ctx, "Send")
	if err == nil && !t.loop().mayGoOn() {
		err = t.giveWay(ctx)
	}
	if err != nil {
		return err
	}
	select {
	case ch <- v:
		return nil
	default:
	}
	c := &channelOp[T]{out: ch, v: v}
	if err := waitForChannel(ctx, t, c); err != nil {
		return err
	}
	c.finish()
	return nil
}

// channelOp is one operation on one channel. It is performed once: by the listener while there is
// one, otherwise by the loop.
type channelOp[T any] struct {
	in    <-chan T // to receive from, or
	out   chan<- T // to send to
	v     T
	ok    bool
	crash any // the value with which the send panicked
}

// anyChannelOp is a channelOp of any type.
type anyChannelOp interface {
	never() bool
	try() (over bool)
	block(stop <-chan struct{}) (over bool)
	meet(other anyChannelOp) (over bool)
	end() channelEnd
	selectCase() reflect.SelectCase
	take(v reflect.Value, ok bool)
	String() string
}

// A channelEnd is one end of a channel, for receiving or for sending.
type channelEnd struct {
	channel uintptr
	sends   bool
}

func (e channelEnd) other() channelEnd { return channelEnd{e.channel, !e.sends} }

func (c *channelOp[T]) String() string {
	if c.out != nil {
		return fmt.Sprintf("send on %T", c.out)
	}
	return fmt.Sprintf("receive from %T", c.in)
}

// never reports whether the channel is nil, on which nothing ever happens.
func (c *channelOp[T]) never() bool { return c.in == nil && c.out == nil }

// try performs the operation if it need not wait (channel 1), and reports whether it is over.
func (c *channelOp[T]) try() (over bool) {
	defer c.crashed(&over)
	if c.in != nil {
		select {
		case c.v, c.ok = <-c.in:
			return true
		default:
		}
		return false
	}
	select {
	case c.out <- c.v:
		return true
	default:
		return false
	}
}

// crashed is deferred around a send, because the channel may be closed.
func (c *channelOp[T]) crashed(over *bool) {
	if v := recover(); v != nil {
		c.crash, *over = v, true
	}
}

// finish panics if the operation did.
func (c *channelOp[T]) finish() {
	if c.crash != nil {
		panic(c.crash)
	}
}

// block performs the operation unless it is stopped before, and reports whether it performed it.
func (c *channelOp[T]) block(stop <-chan struct{}) (over bool) {
	defer c.crashed(&over)
	if c.in != nil {
		select {
		case c.v, c.ok = <-c.in:
			return true
		case <-stop:
			return false
		}
	}
	select {
	case c.out <- c.v:
		return true
	case <-stop:
		return false
	}
}

// meet performs the operation together with other, if other is at the other end of the same
// unbuffered channel.
func (c *channelOp[T]) meet(other anyChannelOp) (over bool) {
	o, ok := other.(*channelOp[T])
	if !ok || cap(c.in)+cap(c.out) > 0 || o.end() != c.end().other() {
		return false
	}
	from, to := o, c
	if c.in == nil {
		from, to = c, o
	}
	to.v, to.ok = from.v, true
	return true
}

func (c *channelOp[T]) end() channelEnd {
	if c.in != nil {
		return channelEnd{reflect.ValueOf(c.in).Pointer(), false}
	}
	return channelEnd{reflect.ValueOf(c.out).Pointer(), true}
}

func (c *channelOp[T]) selectCase() reflect.SelectCase {
	if c.in != nil {
		return reflect.SelectCase{Dir: reflect.SelectRecv, Chan: reflect.ValueOf(c.in)}
	}
	return reflect.SelectCase{Dir: reflect.SelectSend, Chan: reflect.ValueOf(c.out), Send: reflect.ValueOf(&c.v).Elem()}
}

// take takes over the result of reflect.Select with selectCase.
func (c *channelOp[T]) take(v reflect.Value, ok bool) {
	if c.in != nil {
		reflect.ValueOf(&c.v).Elem().Set(v)
		c.ok = ok
	}
}

// channelWait is one task that waits for the first of some channel operations.
type channelWait struct {
	t    *task
	ops  []anyChannelOp // not those on nil channels
	over anyChannelOp   // the operation that has happened

	stop, gone chan struct{} // of the listener; nil if there is none
	left       bool          // the task waits no more; a listener's post may still come

	// Used on a polling driver, while the task waits.
	seq    uint64             // 0 if it is in no list
	link   link[*channelWait] // in the order of seq
	places []*channelPlace
}

// waitForChannel waits until op is performed; an error says that it was not.
func waitForChannel(ctx context.Context, t *task, op anyChannelOp) error {
	c := &channelWait{t: t}
	if !op.never() && c.meet(op) {
		return nil
	}
	c.add(op)
	c.begin()
	defer c.leave() // also when the loop is closed meanwhile and unwinds the task
	err := t.park(ctx, c)
	c.leave()
	if err != nil && c.over != nil { // the operation has happened (channel 3)
		t.deliverAgain(ctx, err)
		return nil
	}
	return err
}

// String names the operations that the task waits for.
func (c *channelWait) String() string {
	ops := make([]string, len(c.ops))
	for i, op := range c.ops {
		ops[i] = op.String()
	}
	return strings.Join(ops, " or ")
}

// begin begins the wait; the task then parks.
func (c *channelWait) begin() {
	c.left = false
	if len(c.ops) == 0 {
		return
	}
	if l := c.t.loop(); l.drv.Polls() {
		channelWaitsOf(l).add(c)
	} else {
		c.listen()
	}
}

// leave ends the wait.
func (c *channelWait) leave() {
	if c.left {
		return
	}
	c.left = true
	c.stopListening()
	channelWaitsOf(c.t.loop()).remove(c)
}

// waiting reports whether an operation may still happen; for a task that was cancelled it may not.
func (c *channelWait) waiting() bool { return c.t.parked && c.over == nil }

// try performs the first operation that need not wait.
func (c *channelWait) try() {
	for _, op := range c.ops {
		if op.try() {
			c.over = op
			return
		}
	}
}

// listen starts the listener.
func (c *channelWait) listen() {
	c.stop, c.gone = make(chan struct{}), make(chan struct{})
	go func(stop <-chan struct{}, gone chan<- struct{}) {
		defer close(gone)
		if c.block(stop); c.over != nil {
			_ = c.t.loop().post(c) // a closed loop has unwound the task
		}
	}(c.stop, c.gone)
}

// block performs one of the operations unless it is stopped before.
func (c *channelWait) block(stop <-chan struct{}) {
	if len(c.ops) == 1 {
		if c.ops[0].block(stop) {
			c.over = c.ops[0]
		}
		return
	}
	defer func() {
		if recover() != nil { // a closed channel; reflect does not say which
			c.try()
		}
	}()
	cases := []reflect.SelectCase{{Dir: reflect.SelectRecv, Chan: reflect.ValueOf(stop)}}
	for _, op := range c.ops {
		cases = append(cases, op.selectCase())
	}
	if i, v, ok := reflect.Select(cases); i > 0 {
		c.over = c.ops[i-1]
		c.over.take(v, ok)
	}
}

// stopListening stops the listener, if there is one, and takes over the operation that it
// performed.
func (c *channelWait) stopListening() {
	if c.stop == nil {
		return
	}
	close(c.stop)
	<-c.gone
	c.stop, c.gone = nil, nil
	c.arrive()
}

// arrive wakes the task if an operation is over.
func (c *channelWait) arrive() {
	if !c.left && c.over != nil {
		c.t.unpark()
	}
}

func (c *channelWait) fire(*future) { c.arrive() }

// add makes op one of the operations, for the next begin.
func (c *channelWait) add(op anyChannelOp) {
	if !op.never() {
		c.ops = append(c.ops, op)
	}
}

// perform performs op if it need not wait.
func (c *channelWait) perform(op anyChannelOp) bool {
	return !op.never() && (op.try() || c.meet(op))
}

// meet looks for a task of the same loop at the other end of op's channel (channel 4).
func (c *channelWait) meet(op anyChannelOp) bool {
	w := channelWaitsOf(c.t.loop())
	q := w.ends[op.end().other()]
	if q == nil {
		return false
	}
	for p := range q.places.all() {
		if p.wait.waiting() && op.meet(p.op) {
			p.wait.over, c.over = p.op, op
			p.wait.arrive()
			w.remove(p.wait)
			return true
		}
		passOver(1)
	}
	return false
}

// channelWaits holds the tasks of a loop that wait for channels, on a polling driver (channel 4).
type channelWaits struct {
	loop   *EventLoop
	waits  linkedList[*channelWait]
	seq    uint64
	ends   map[channelEnd]*channelQueue
	queues linkedList[*channelQueue] // in the order in which the first task began to wait there
	// how often the loop may look at a channel, for callbacks that have run since the last poll
	looks   int
	arrived []*channelWait
}

var loopChannels = newPart[channelWaits]()

func channelWaitsOf(l *EventLoop) *channelWaits {
	w := loopChannels.of(l)
	w.loop = l
	return w
}

// A channelQueue holds the waits at one end of a channel, oldest first.
type channelQueue struct {
	end    channelEnd
	link   link[*channelQueue]
	places linkedList[*channelPlace]
}

// A channelPlace is the place of one operation of a wait in a queue.
type channelPlace struct {
	wait  *channelWait
	op    anyChannelOp
	queue *channelQueue
	link  link[*channelPlace]
}

func (w *channelWaits) add(c *channelWait) {
	w.seq++
	c.seq = w.seq
	w.waits.add(&c.link, c)
	w.loop.source = w
	for _, op := range c.ops {
		p := &channelPlace{wait: c, op: op, queue: w.queue(op.end())}
		p.queue.places.add(&p.link, p)
		c.places = append(c.places, p)
	}
}

func (w *channelWaits) queue(end channelEnd) *channelQueue {
	q := w.ends[end]
	if q != nil {
		return q
	}
	if w.ends == nil {
		w.ends = make(map[channelEnd]*channelQueue)
	}
	q = &channelQueue{end: end}
	w.ends[end] = q
	w.queues.add(&q.link, q)
	return q
}

// remove takes c out of the lists, if it is in them.
func (w *channelWaits) remove(c *channelWait) {
	if c.seq == 0 {
		return
	}
	c.seq = 0
	if w.waits.remove(&c.link); w.waits.n == 0 {
		w.loop.source = nil
	}
	for _, p := range c.places {
		q := p.queue
		q.places.remove(&p.link)
		if q.places.n == 0 {
			delete(w.ends, q.end)
			w.queues.remove(&q.link)
		}
	}
	clear(c.places)
	c.places = c.places[:0]
}

// looksPerStep is how often a busy loop looks at channels for each callback (channel 4).
const looksPerStep = 16

// poll looks at the channels of waiting tasks, on a polling driver (channel 4). A task that is
// served leaves its queues at once, so that the loop does not look at it in vain before it resumes.
func (w *channelWaits) poll() {
	w.looks += looksPerStep * w.loop.ready.n
	if w.loop.ready.n > 0 && w.looks < len(w.ends) {
		return
	}
	w.looks = 0
	for q := range w.queues.all() {
		for p := range q.places.all() {
			c := p.wait
			if c.waiting() {
				if c.try(); c.over == nil {
					passOver(1)
					break // the operations behind it cannot be done either
				}
				w.arrived = append(w.arrived, c)
			} else {
				passOver(1)
			}
		}
	}
	slices.SortFunc(w.arrived, func(a, b *channelWait) int { return cmp.Compare(a.seq, b.seq) })
	for _, c := range w.arrived {
		c.arrive()
		w.remove(c)
	}
	clear(w.arrived)
	w.arrived = w.arrived[:0]
}

// wait calls the driver's Wait, on a polling driver with tasks that wait for channels (channel 4,
// channel 5).
func (w *channelWaits) wait(until time.Duration) error {
	l := w.loop
	if d, ok := l.drv.(driver.Jumper); ok && until != driver.Never && d.Jumps() {
		return l.drv.Wait(until) // no time passes in which a goroutine could come
	}
	for c := range w.waits.all() {
		c.listen()
	}
	var stops []func() bool // while no iteration polls the contexts, their end must wake the loop
	listen := func(w *watch) {
		if w != nil && !w.fired {
			stops = append(stops, context.AfterFunc(w.ctx, l.drv.Wake))
		}
	}
	listen(l.rootWatch)
	for w := l.firstWatch; w != nil; w = w.next {
		listen(w)
	}
	if until == driver.Never {
		l.drv.Hold()
	}
	err := l.drv.Wait(until)
	if until == driver.Never {
		l.drv.Release()
	}
	for _, stop := range stops {
		stop()
	}
	for c := range w.waits.all() {
		c.stopListening()
	}
	return err
}
