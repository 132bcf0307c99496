package asyncio

import (
	"errors"
	"fmt"
	"os"
	"syscall"

	"github.com/goasyncio/asyncio/internal/driver"
)

// descriptorWatch holds the callbacks of AddReader and AddWriter for one descriptor.
type descriptorWatch struct {
	loop           *EventLoop
	fd             uintptr
	reader, writer *Handle
}

// watchedDescriptors has the descriptors that a loop watches for AddReader and AddWriter.
type watchedDescriptors map[uintptr]*descriptorWatch

var loopDescriptors = newPart[watchedDescriptors]()

// Ready schedules the callbacks. A poll comes at the beginning of the iteration in which they run,
// so none is ever scheduled twice.
func (w *descriptorWatch) Ready(read, write bool) {
	if read && w.reader != nil {
		w.loop.schedule(w.reader, nil)
	}
	if write && w.writer != nil {
		w.loop.schedule(w.writer, nil)
	}
}

// AddReader calls fn in every iteration in which the descriptor fd can be read without waiting, or
// is at its end or in error, until [EventLoop.RemoveReader]. A second AddReader for fd replaces the
// first. The caller keeps the descriptor, and must remove the reader before closing it.
//
// fd is a pipe, socket, terminal or the like. Regular files are always ready, and Linux refuses to
// watch them: the error then matches os.ErrInvalid. Other errors: [errors.ErrUnsupported] on
// virtual time and on systems without a poller, [ErrInvalidArgument], [ErrLoopClosed],
// [ErrForeignGoroutine], and one for the descriptor of a [Conn]. AddReader is for the loop only and
// does not suspend. Python: loop.add_reader.
func (l *EventLoop) AddReader(fd uintptr, fn func()) error {
	return l.addWatch(fd, fn, "AddReader", func(w *descriptorWatch) **Handle { return &w.reader })
}

// AddWriter is [EventLoop.AddReader] for writing. It is for the loop only and does not suspend.
// Python: loop.add_writer.
func (l *EventLoop) AddWriter(fd uintptr, fn func()) error {
	return l.addWatch(fd, fn, "AddWriter", func(w *descriptorWatch) **Handle { return &w.writer })
}

// RemoveReader removes the reader that AddReader has set, and reports whether there was one. A call
// that was due does not come any more. It is for the loop only and does not suspend. Python:
// loop.remove_reader.
func (l *EventLoop) RemoveReader(fd uintptr) bool {
	return l.removeWatch(fd, "RemoveReader", func(w *descriptorWatch) **Handle { return &w.reader })
}

// RemoveWriter removes the writer that AddWriter has set, as [EventLoop.RemoveReader] does. It is
// for the loop only and does not suspend. Python: loop.remove_writer.
func (l *EventLoop) RemoveWriter(fd uintptr) bool {
	return l.removeWatch(fd, "RemoveWriter", func(w *descriptorWatch) **Handle { return &w.writer })
}

func (l *EventLoop) addWatch(fd uintptr, fn func(), caller string, side func(*descriptorWatch) **Handle) error {
	if fn == nil {
		return fmt.Errorf("%w: nil function (in %s)", ErrInvalidArgument, caller)
	}
	if l.closed.Load() {
		return fmt.Errorf("%w (in %s)", ErrLoopClosed, caller)
	}
	if _, err := socketsOf(l.ctx, caller); err != nil {
		return err
	}
	watched := loopDescriptors.of(l)
	w := (*watched)[fd]
	if w == nil {
		w = &descriptorWatch{loop: l, fd: fd}
	}
	h := side(w)
	old := *h
	*h = &Handle{loop: l, fn: fn, created: l.created()}
	if err := w.apply(); err != nil {
		*h = old
		switch {
		case errors.Is(err, driver.ErrSockets):
			err = errors.ErrUnsupported
		case errors.Is(err, syscall.EPERM):
			err = fmt.Errorf("%w: a regular file or directory cannot be watched", os.ErrInvalid)
		}
		return fmt.Errorf("asyncio: descriptor %d: %w (in %s)", fd, err, caller)
	}
	if old != nil {
		old.Cancel()
	}
	if *watched == nil {
		*watched = make(watchedDescriptors)
	}
	(*watched)[fd] = w
	return nil
}

func (l *EventLoop) removeWatch(fd uintptr, caller string, side func(*descriptorWatch) **Handle) bool {
	l.mustNotBeForeign(caller)
	all := loopDescriptors.ifAny(l) // part 4
	if all == nil {
		return false
	}
	watched := *all
	w := watched[fd]
	if w == nil || *side(w) == nil {
		return false
	}
	h := side(w)
	(*h).Cancel()
	*h = nil
	if !l.closed.Load() {
		_ = w.apply() // the descriptor may be gone already
	}
	if w.reader == nil && w.writer == nil {
		delete(watched, fd)
	}
	return true
}

func (w *descriptorWatch) apply() error {
	return w.loop.sockets.Watch(w.fd, w.reader != nil, w.writer != nil, w)
}
