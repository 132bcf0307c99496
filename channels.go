package asyncio

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"time"

	"github.com/goasyncio/asyncio/internal/driver"
)

// How a task waits for a Go channel without blocking the loop. Go offers no way to be told that a
// channel is ready other than a goroutine that blocks on it, and a receive cannot be undone.
//
//	H1 What need not wait happens at once, in the task.
//	H2 A task that waits has a listener: a goroutine that selects between the channel and a
//	   stop signal, and posts what happened to the loop.
//	H3 Whatever ends the wait, the task stops the listener and waits for its last word before it
//	   returns; that takes as long as a goroutine needs to wake up. If the channel was faster than
//	   the stop, the operation has happened and is the result, also of a task that was
//	   cancelled. The cancel then comes at its next await. So a value is received by the
//	   caller or not at all, and no goroutine is left.
//	H4 On a polling driver (virtual time) a goroutine's arrival would not be deterministic. There the
//	   loop itself looks at the channels at the beginning of each iteration, in the order in which
//	   tasks began to wait, and listeners exist only while it is parked. Two tasks of the loop at
//	   the two ends of an unbuffered channel would look past each other, so the second
//	   deals with the first directly.
//	H5 The loop cannot know who will feed a channel. If it is another of its tasks, that may be
//	   waiting for time to pass, so waiting for a channel does not hold the virtual clock. If it is a
//	   goroutine, it may come at any moment, so there is no deadlock while a task waits for a
//	   channel, only real time to be spent. A goroutine that the loop knows of, of ToThread or an executor,
//	   holds the clock by itself; what it sends before it returns is received before time goes on.

// Recv receives from ch and suspends the calling task until there is a value, if there is none. ok is
// false if ch is closed and empty, as in v, ok := <-ch. A nil ch never has one. It is for the
// loop's tasks only; who sends is free: tasks with [Send], any goroutine as in Go. Several receivers
// get values in no certain order.
//
// A cancel that arrives while it waits ends the wait, and nothing has been received; but if a value
// comes at the same time Recv may return it without an error, and the cancel is delivered at the next
// await. The same holds when ctx ends. No value is ever lost, and no goroutine stays behind. Errors, with
// which nothing was received: a [CancelledError], the cause of ctx, [ErrNotInTask], [ErrNoRunningLoop],
// [ErrForeignGoroutine], [ErrInvalidArgument] for a nil context.
//
// On a virtual clock time goes on while a task waits for a channel, for another task may be the one that
// will send, after a sleep. Only work given to [ToThread] or an executor stops it: a goroutine that feeds a
// channel should be started so. When there is no timer either, the loop waits for the channel in
// real time instead of ending with [ErrDeadlock]. And since there nobody receives while a task runs, a plain
// ch <- v in a task, to a task that waits in Recv, blocks the loop for good unless ch has room: use Send.
//
// Python has no counterpart; janus is the package that has.
func Recv[T any](ctx context.Context, ch <-chan T) (v T, ok bool, err error) {
	t, err := enter(ctx, "Recv")
	if err != nil {
		return v, false, err
	}
	select {
	case v, ok = <-ch:
		return v, ok, nil
	default:
	}
	c := &channelWait[T]{t: t, in: ch}
	if err := c.wait(ctx); err != nil {
		return v, false, err
	}
	return c.v, c.ok, nil
}

// Send sends v to ch and suspends the calling task until there is room or a receiver, if there is
// none. A nil ch never has one. It panics if ch is closed, also meanwhile, as ch <- v does. With a nil error
// v has been sent, with any other it has not. In all other respects it is like [Recv].
func Send[T any](ctx context.Context, ch chan<- T, v T) error {
	t, err := enter(ctx, "Send")
	if err != nil {
		return err
	}
	select {
	case ch <- v:
		return nil
	default:
	}
	c := &channelWait[T]{t: t, out: ch, v: v}
	if err := c.wait(ctx); err != nil {
		return err
	}
	if c.crash != nil {
		panic(c.crash)
	}
	return nil
}

// channelWait is one task that waits for one operation on one channel.
type channelWait[T any] struct {
	t   *task
	in  <-chan T // to receive from, or
	out chan<- T // to send to

	// The operation, once over: by the listener while there is one, otherwise by the loop.
	v     T
	ok    bool
	crash any // what the send panicked with
	over  bool

	stop, gone chan struct{} // of the listener; nil if there is none
	left       bool          // the task waits no more; a listener's post may still come
}

// anyChannelWait is a channelWait whatever its type, in the list of a loop on a polling driver.
type anyChannelWait interface {
	waiting() bool
	try()
	listen()
	settle()
}

// wait waits until the operation is over; an error says that it has not happened.
func (c *channelWait[T]) wait(ctx context.Context) error {
	l := c.t.loop()
	if c.in != nil || c.out != nil {
		if !l.drv.Polls() {
			c.listen()
		} else if c.meet() {
			return nil
		} else {
			l.channels = append(l.channels, c)
		}
	}
	defer c.leave() // also when the loop is closed meanwhile and unwinds the task
	err := c.t.park(ctx, c)
	c.leave()
	if err != nil && c.over { // H3
		if err == error(c.t.cancelErr) {
			c.t.mustCancel = true
		}
		return nil
	}
	return err
}

func (c *channelWait[T]) String() string {
	if c.out != nil {
		return fmt.Sprintf("send on %T", c.out)
	}
	return fmt.Sprintf("receive from %T", c.in)
}

// leave ends the wait.
func (c *channelWait[T]) leave() {
	if c.left {
		return
	}
	c.left = true
	c.settle()
	l := c.t.loop()
	if i := slices.Index(l.channels, anyChannelWait(c)); i >= 0 {
		l.channels = slices.Delete(l.channels, i, i+1)
	}
}

// waiting reports whether the operation may still happen: a task that was cancelled is on its
// way out.
func (c *channelWait[T]) waiting() bool { return c.t.parked && !c.over }

// try performs the operation if it need not wait.
func (c *channelWait[T]) try() {
	defer c.crashed()
	if c.in != nil {
		select {
		case c.v, c.ok = <-c.in:
			c.over = true
		default:
		}
	} else {
		select {
		case c.out <- c.v:
			c.over = true
		default:
		}
	}
	c.arrive()
}

// crashed is deferred around a send: the channel may be closed.
func (c *channelWait[T]) crashed() {
	if v := recover(); v != nil {
		c.crash, c.over = v, true
		c.arrive()
	}
}

// listen starts the listener.
func (c *channelWait[T]) listen() {
	c.stop, c.gone = make(chan struct{}), make(chan struct{})
	go func(stop <-chan struct{}, gone chan<- struct{}) {
		defer close(gone)
		if c.block(stop) {
			_ = c.t.loop().post(c) // a closed loop has unwound the task
		}
	}(c.stop, c.gone)
}

// block performs the operation unless it is stopped before, and reports which.
func (c *channelWait[T]) block(stop <-chan struct{}) (over bool) {
	defer func() {
		if v := recover(); v != nil {
			c.crash, c.over, over = v, true, true
		}
	}()
	if c.in != nil {
		select {
		case c.v, c.ok = <-c.in:
			c.over = true
		case <-stop:
		}
	} else {
		select {
		case c.out <- c.v:
			c.over = true
		case <-stop:
		}
	}
	return c.over
}

// settle stops the listener, if there is one, and takes its last word.
func (c *channelWait[T]) settle() {
	if c.stop == nil {
		return
	}
	close(c.stop)
	<-c.gone
	c.stop, c.gone = nil, nil
	c.arrive()
}

// arrive wakes the task if the operation is over.
func (c *channelWait[T]) arrive() {
	if !c.left && c.over {
		c.t.unpark()
	}
}

func (c *channelWait[T]) fire(*future) { c.arrive() }

// meet looks for a task of the same loop at the other end of an unbuffered channel (H4).
func (c *channelWait[T]) meet() bool {
	if cap(c.in)+cap(c.out) > 0 {
		return false
	}
	for _, other := range c.t.loop().channels {
		o, ok := other.(*channelWait[T])
		if !ok || !o.waiting() || (o.in == nil) == (c.in == nil) || o.address() != c.address() {
			continue
		}
		from, to := o, c
		if c.in == nil {
			from, to = c, o
		}
		to.v, to.ok = from.v, true
		from.over, to.over = true, true
		o.arrive()
		return true
	}
	return false
}

func (c *channelWait[T]) address() uintptr {
	if c.in != nil {
		return reflect.ValueOf(c.in).Pointer()
	}
	return reflect.ValueOf(c.out).Pointer()
}

// pollChannels is H4.
func (l *EventLoop) pollChannels() {
	for _, c := range l.channels {
		if c.waiting() {
			c.try()
		}
	}
}

// waitOrListen is the driver's Wait, on a polling driver with tasks that wait for channels (H4, H5).
func (l *EventLoop) waitOrListen(until time.Duration) error {
	for _, c := range l.channels {
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
	for _, c := range l.channels {
		c.settle()
	}
	return err
}
