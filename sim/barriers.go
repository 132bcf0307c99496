package sim

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/goasyncio/asyncio"
)

// Barriers: a test stops a program at a point that the program names, and lets it go on.

// A Barrier stops the tasks that come to a point of the program. turmoil calls it so too. Its
// methods are for the loop only.
type Barrier struct {
	w       *world
	point   string
	hosts   []string // all if there are none
	came    int
	held    []*heldTask
	waiting []barrierWait
	open    bool
}

type heldTask struct {
	name string
	hope *hope
}

type barrierWait struct {
	count int
	hope  *hope
}

// Pass says that the calling task is at a point of the program, for the barriers of tests. If a
// test has put one there ([NewBarrier]), Pass suspends the task until the test lets it go on. A
// cancel, or the end of ctx, ends the wait. Without a barrier Pass returns nil at once, and so it
// does outside of a simulation: it may stay in a program of production. It must be called in a
// task.
//
//	if err := sim.Pass(ctx, "log written, not synced"); err != nil {
//		return err
//	}
func Pass(ctx context.Context, point string) error {
	l, ok := ctx.Value(hostKey{}).(*life)
	if !ok || len(l.w.barriers) == 0 {
		return nil
	}
	for _, b := range slices.Clone(l.w.barriers) {
		if b.point == point && (len(b.hosts) == 0 || slices.Contains(b.hosts, l.host.name)) {
			if err := b.hold(ctx, l); err != nil {
				return err
			}
		}
	}
	return nil
}

// hold holds the calling task, unless the barrier has been opened.
func (b *Barrier) hold(ctx context.Context, l *life) error {
	if b.open {
		return nil
	}
	name := l.host.prefix
	if t := asyncio.CurrentTask(ctx); t != nil {
		name += t.GetName()
	}
	h := &heldTask{name, newHope(ctx, "", nil)}
	b.held = append(b.held, h)
	b.w.note(fmt.Sprintf("%s is held at %q", h.name, b.point))
	b.came++
	rest := b.waiting[:0]
	for _, w := range b.waiting {
		if w.count <= b.came {
			w.hope.comeTrue()
		} else if !w.hope.done.Done() {
			rest = append(rest, w)
		}
	}
	clear(b.waiting[len(rest):])
	b.waiting = rest
	defer func() {
		h.hope.done.Cancel()
		b.held = slices.DeleteFunc(b.held, func(o *heldTask) bool { return o == h })
	}()
	_, err := h.hope.done.Await(ctx)
	return err
}

// NewBarrier puts a barrier at a point of the programs, on all hosts or on those named, until
// [Barrier.Open]. The point is the one that [Pass] gets. NewBarrier is for the loop only and does
// not suspend; it panics if ctx does not come from a simulation, or for an unknown host.
//
//	written := sim.NewBarrier(ctx, "log written, not synced", "node1")
//	if err := written.Wait(ctx, 1); err != nil {
//		return err
//	}
//	node1.Crash() // at exactly this point
func NewBarrier(ctx context.Context, point string, hosts ...string) *Barrier {
	w := worldOf(ctx, "NewBarrier")
	for _, name := range hosts {
		if !slices.ContainsFunc(w.hosts, func(h *Host) bool { return h.name == name }) {
			panic(fmt.Errorf("%w: there is no host %q (in sim.NewBarrier)", asyncio.ErrInvalidArgument, name))
		}
	}
	b := &Barrier{w: w, point: point, hosts: hosts}
	w.barriers = append(w.barriers, b)
	return b
}

// Wait suspends the calling task until n tasks have come to the barrier, with those that have gone
// on since. A cancel, or the end of ctx, ends the wait.
func (b *Barrier) Wait(ctx context.Context, n int) error {
	lifeOf(ctx, "Barrier.Wait")
	if b.came >= n {
		return nil
	}
	h := newHope(ctx, "", nil)
	defer h.done.Cancel()
	b.waiting = append(b.waiting, barrierWait{n, h})
	_, err := h.done.Await(ctx)
	return err
}

// Held returns the names of the tasks that are held, with their host's in front as in traces, the
// one that came first in front.
func (b *Barrier) Held() []string {
	names := make([]string, len(b.held))
	for i, h := range b.held {
		names[i] = h.name
	}
	return names
}

// Release lets the task go on that came first of those held. It reports whether there was one.
func (b *Barrier) Release() bool {
	for _, h := range b.held {
		if !h.hope.done.Done() {
			h.hope.comeTrue()
			return true
		}
	}
	return false
}

// Open removes the barrier and lets all go on.
func (b *Barrier) Open() {
	b.open = true
	b.w.barriers = slices.DeleteFunc(b.w.barriers, func(o *Barrier) bool { return o == b })
	for b.Release() {
	}
}

func (b *Barrier) String() string {
	return fmt.Sprintf("Barrier at %q, held [%s]", b.point, strings.Join(b.Held(), " "))
}

// Freeze stops the host's program: it runs nothing until [Host.Step] or [Host.Thaw], as under a
// debugger. Like [Host.Pause], it leaves the clock and the system below alone. A program that is
// not running is left alone, and a life that begins later is not frozen. Freeze panics for main's
// host.
func (h *Host) Freeze() {
	if l := h.stop("Freeze"); l != nil {
		h.w.note(h.name + " is frozen")
		l.frozen = true
	}
}

// Step suspends the calling task until the frozen host has made n more steps, or its program has
// ended. A step is one line of a trace: a task, or a callback, until it waits again. Where the host
// has nothing to do, time goes on. Step panics if the host is not frozen.
func (h *Host) Step(ctx context.Context, n int) error {
	lifeOf(ctx, "Host.Step")
	l := h.stop("Step")
	if l == nil || !l.frozen || n < 1 {
		panic(fmt.Errorf("%w: %s of host %s, which must be frozen and on (in Host.Step)", asyncio.ErrInvalidArgument, counted(n, "step"), h.name))
	}
	l.steps += n
	hope := newHope(ctx, "step", func() bool { return l.steps == 0 || l.state == gone })
	defer hope.done.Cancel()
	h.w.hopes = append(h.w.hopes, hope)
	_, err := hope.done.Await(ctx)
	return err
}

// Thaw ends Freeze.
func (h *Host) Thaw() {
	if l := h.stop("Thaw"); l != nil && l.frozen {
		h.w.note(h.name + " is thawed")
		l.frozen, l.steps = false, 0
	}
}
