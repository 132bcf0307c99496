//go:build darwin || freebsd

package driver

import (
	"os"
	"sync"
	"syscall"
	"time"
)

// The poller on darwin and freebsd: one kqueue. The rules are those of epoll_linux.go, with these
// differences.
//
//   - Each direction is a filter of its own, cleared when it is reported (EV_CLEAR): an edge.
//   - Closing a descriptor takes its filters out, even if somebody has a duplicate, and an event
//     names the descriptor only. That is enough: within one batch nothing is closed (endpoint 2),
//     so no number has been used again.
//   - The wait is a system call that blocks, and its limit the call's own.
//   - Wake-ups come through a pipe, which is read until it is empty.

const pollerExists = true

type poller struct {
	kq     int
	events [256]syscall.Kevent_t
	slots

	// held so that the pipe is not closed, and its number used again, while a goroutine writes to
	// it
	waking sync.Mutex
	pipe   [2]int // -1 once closed; guarded by waking
}

func newPoller() (*poller, error) {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	kq, err := syscall.Kqueue()
	if err != nil {
		return nil, os.NewSyscallError("kqueue", err)
	}
	syscall.CloseOnExec(kq)
	p := &poller{kq: kq}
	if err := syscall.Pipe(p.pipe[:]); err != nil {
		syscall.Close(kq)
		return nil, os.NewSyscallError("pipe", err)
	}
	for _, fd := range p.pipe {
		syscall.CloseOnExec(fd)
		if err := syscall.SetNonblock(fd, true); err != nil {
			p.close()
			return nil, os.NewSyscallError("fcntl", err)
		}
	}
	if err := p.change(p.pipe[0], syscall.EVFILT_READ, syscall.EV_ADD|syscall.EV_CLEAR); err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

func (p *poller) change(fd, filter, flags int) error {
	var ev [1]syscall.Kevent_t
	syscall.SetKevent(&ev[0], fd, filter, flags)
	_, err := syscall.Kevent(p.kq, ev[:], nil, nil)
	return os.NewSyscallError("kevent", err)
}

// register adds a socket's descriptor.
func (p *poller) register(fd int, generation uint32) error {
	var ev [2]syscall.Kevent_t
	syscall.SetKevent(&ev[0], fd, syscall.EVFILT_READ, syscall.EV_ADD|syscall.EV_CLEAR)
	syscall.SetKevent(&ev[1], fd, syscall.EVFILT_WRITE, syscall.EV_ADD|syscall.EV_CLEAR)
	_, err := syscall.Kevent(p.kq, ev[:], nil, nil)
	return os.NewSyscallError("kevent", err)
}

// unregister takes out a descriptor that is not closed at once.
func (p *poller) unregister(fd int) {
	_ = p.change(fd, syscall.EVFILT_READ, syscall.EV_DELETE)
	_ = p.change(fd, syscall.EVFILT_WRITE, syscall.EV_DELETE)
}

// setWatched changes the directions in which somebody else's descriptor is watched.
func (p *poller) setWatched(fd int, generation uint32, was, is direction) error {
	for _, f := range []struct {
		d      direction
		filter int
	}{{toRead, syscall.EVFILT_READ}, {toWrite, syscall.EVFILT_WRITE}} {
		flags := 0
		switch {
		// even if it was watched: the descriptor may have been closed, and its number used again
		case is&f.d != 0:
			flags = syscall.EV_ADD
		case was&f.d != 0:
			flags = syscall.EV_DELETE
		default:
			continue
		}
		if err := p.change(fd, f.filter, flags); err != nil && flags == syscall.EV_ADD {
			return err
		}
	}
	return nil
}

// wait waits until the driver's clock reaches until; now is the clock's current time. It tells the
// notifiers of ready endpoints and reports whether wake was called.
func (p *poller) wait(until, now time.Duration) (woken bool, err error) {
	var timeout *syscall.Timespec
	if len(p.due) > 0 {
		until = now
	}
	if until != Never {
		ts := syscall.NsecToTimespec(int64(max(until-now, 0)))
		timeout = &ts
	}
	n, err := syscall.Kevent(p.kq, nil, p.events[:], timeout)
	if err == syscall.EINTR {
		return false, nil
	} else if err != nil {
		return false, os.NewSyscallError("kevent", err)
	}
	for i := range p.events[:n] {
		ev := &p.events[i]
		fd := int(ev.Ident)
		if fd == p.pipe[0] {
			woken = true
			var buf [64]byte
			for {
				if n, err := syscall.Read(fd, buf[:]); n < len(buf) || err != nil {
					break
				}
			}
			continue
		}
		s := p.now(fd)
		if s == nil {
			continue
		}
		gone := ev.Flags&(syscall.EV_EOF|syscall.EV_ERROR) != 0
		if gone {
			s.greedy = true
		}
		read, write := ev.Filter == syscall.EVFILT_READ, ev.Filter == syscall.EVFILT_WRITE
		// A peer that has ended its stream may still read. A peer that takes no more writes has
		// ended both directions.
		s.ready(read || gone && write, write || ev.Flags&syscall.EV_ERROR != 0)
	}
	p.tellDue()
	return woken, nil
}

// wake ends the current or next wait. Any goroutine may call it.
func (p *poller) wake() {
	p.waking.Lock()
	defer p.waking.Unlock()
	if p.pipe[1] >= 0 {
		_, _ = syscall.Write(p.pipe[1], []byte{0}) // a full pipe is as good
	}
}

func (p *poller) close() error {
	p.closeAll()
	p.waking.Lock()
	defer p.waking.Unlock()
	for i, fd := range p.pipe {
		syscall.Close(fd)
		p.pipe[i] = -1
	}
	return os.NewSyscallError("close", syscall.Close(p.kq))
}
