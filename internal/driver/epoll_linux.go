package driver

import (
	"os"
	"syscall"
	"time"
	"unsafe"
)

// The poller on Linux: one epoll instance, in which every socket is registered once, edge-triggered
// and for both directions.
//
//	epoll 1: An edge is reported once. The socket keeps it as a flag, readable or writable, that
//	   only an attempt clears: EAGAIN, or on TCP a read that did not fill its buffer. Such a read
//	   has taken everything that had arrived, and later bytes are a new edge. So a message costs one
//	   read.
//	epoll 2: After a hang-up (the last byte and the end of the stream may be one edge), an error or
//	   urgent data (at whose mark a read stops early), only EAGAIN clears readable. On Unix sockets
//	   that is always so: a read stops early at a message that carried descriptors.
//	epoll 3: A short write does not clear writable; the EAGAIN that follows does. Only an EAGAIN
//	   makes the kernel report space.
//	epoll 4: A hang-up or an error is readiness in both directions: each waiter must get the error
//	   from its own attempt.
//	epoll 5: Both directions are told in one call, the reader first.
//	epoll 6: An event names a slot, the descriptor's number, and the slot's generation, which grows
//	   each time the slot is taken. Closing a descriptor takes it out of epoll, unless somebody has
//	   a duplicate of it (a child that has not executed its program yet). Events that still arrive
//	   have an old generation and are dropped.
//	epoll 7: A goroutine waits, not a thread. The epoll instance is itself a descriptor, which
//	   becomes readable when there are events. It is registered in the runtime's poller, which waits
//	   for that. A blocking system call would instead hold a processor of the runtime's, and the
//	   runtime's monitor would have to take it away: with a single processor the monitor then wakes
//	   every 20 microseconds, on the core that the loop needs. A wake-up sets a deadline in the past
//	   and is no system call.
//	epoll 8: No wait ends early or late by rounding. The runtime's poller counts in milliseconds, so
//	   a timerfd ends the wait. The timerfd is set again only if it would otherwise go off too late.
//	   So it may go off early, in a later wait than it was set for, and so may a wake-up arrive.
//	   That wait then ends for no reason, which the contract of Wait allows.
//	epoll 9: Descriptors of others (Watch) are registered level-triggered, and only for the
//	   directions that are asked for.

const pollerExists = true

const (
	edgeTriggered = 1 << 31 // EPOLLET, whose sign in package syscall depends on the architecture
	// a hang-up or an error is readiness in both directions (epoll 4)
	readEvents  = syscall.EPOLLIN | syscall.EPOLLRDHUP | syscall.EPOLLHUP | syscall.EPOLLERR | syscall.EPOLLPRI
	writeEvents = syscall.EPOLLOUT | syscall.EPOLLHUP | syscall.EPOLLERR
	// after any of these only EAGAIN clears readable (epoll 2)
	greedyEvents = syscall.EPOLLRDHUP | syscall.EPOLLHUP | syscall.EPOLLERR | syscall.EPOLLPRI
	socketEvents = syscall.EPOLLIN | syscall.EPOLLOUT | syscall.EPOLLRDHUP | syscall.EPOLLPRI | edgeTriggered

	alarmGeneration = 0 // of the timerfd; slots begin with 1
)

type poller struct {
	epfd   int
	events [256]syscall.EpollEvent
	slots

	file  *os.File           // wraps epfd
	raw   syscall.RawConn    // of file
	tried func(uintptr) bool // look, for raw
	found int                // number of events that look has found
	errno syscall.Errno      // the error of look

	alarm   int           // the timerfd
	alarmAt time.Duration // when it goes off, on the driver's clock; 0 if it is not set
}

func newPoller() (*poller, error) {
	epfd, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	// otherwise NewFile would not register it with the runtime's poller
	if err := syscall.SetNonblock(epfd, true); err != nil {
		syscall.Close(epfd)
		return nil, os.NewSyscallError("fcntl", err)
	}
	p := &poller{epfd: epfd, file: os.NewFile(uintptr(epfd), "epoll"), alarm: -1}
	if err := p.open(); err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

func (p *poller) open() (err error) {
	if err = p.file.SetReadDeadline(time.Time{}); err != nil { // the runtime cannot wait for it
		return err
	}
	if p.raw, err = p.file.SyscallConn(); err != nil {
		return err
	}
	p.tried = func(uintptr) bool { p.look(); return p.found > 0 || p.errno != 0 }
	const monotonic = 1
	fd, _, errno := syscall.RawSyscall(syscall.SYS_TIMERFD_CREATE, monotonic, syscall.O_CLOEXEC|syscall.O_NONBLOCK, 0)
	if errno != 0 {
		return os.NewSyscallError("timerfd_create", errno)
	}
	p.alarm = int(fd)
	return p.control(syscall.EPOLL_CTL_ADD, p.alarm, alarmGeneration, syscall.EPOLLIN|edgeTriggered)
}

func (p *poller) control(op, fd int, generation uint32, events uint32) error {
	ev := syscall.EpollEvent{Events: events, Fd: int32(fd), Pad: int32(generation)}
	return os.NewSyscallError("epoll_ctl", syscall.EpollCtl(p.epfd, op, fd, &ev))
}

// register adds a socket's descriptor.
func (p *poller) register(fd int, generation uint32) error {
	return p.control(syscall.EPOLL_CTL_ADD, fd, generation, socketEvents)
}

// unregister takes out a descriptor that is not closed at once, or that has a duplicate.
func (p *poller) unregister(fd int) { _ = p.control(syscall.EPOLL_CTL_DEL, fd, 0, 0) }

// setWatched changes the directions in which somebody else's descriptor is watched (epoll 9).
func (p *poller) setWatched(fd int, generation uint32, was, is direction) error {
	events := uint32(0)
	if is&toRead != 0 {
		events |= syscall.EPOLLIN
	}
	if is&toWrite != 0 {
		events |= syscall.EPOLLOUT
	}
	op := syscall.EPOLL_CTL_MOD
	if was == 0 {
		op = syscall.EPOLL_CTL_ADD
	} else if is == 0 {
		op = syscall.EPOLL_CTL_DEL
	}
	return p.control(op, fd, generation, events)
}

// wait waits for events until the driver's clock reaches until; now is the clock's current time. It
// always looks once, tells the notifiers of ready endpoints, and reports whether wake has ended the
// wait. The goroutine parks in the runtime's poller, without a blocking system call (epoll 7).
func (p *poller) wait(until, now time.Duration) (woken bool, err error) {
	if until <= now || len(p.due) > 0 {
		p.look()
	} else {
		if until != Never {
			p.setAlarm(until, now)
		}
		err = p.raw.Read(p.tried)
		if err == os.ErrDeadlineExceeded {
			woken = true
			err = p.file.SetReadDeadline(time.Time{})
			p.look()
		}
		if err != nil {
			return woken, err
		}
	}
	if p.errno != 0 {
		return woken, os.NewSyscallError("epoll_wait", p.errno)
	}
	for i := range p.events[:p.found] {
		ev := &p.events[i]
		if uint32(ev.Pad) == alarmGeneration {
			p.alarmAt = 0
			continue
		}
		s := p.at(int(ev.Fd), uint32(ev.Pad))
		if s == nil {
			continue // an event of an old generation (epoll 6)
		}
		if ev.Events&greedyEvents != 0 {
			s.greedy = true
		}
		s.ready(ev.Events&readEvents != 0, ev.Events&writeEvents != 0)
	}
	p.tellDue()
	return woken, nil
}

// look takes the available events. The system call does not wait, so the scheduler need not know of
// it.
func (p *poller) look() {
	n, _, errno := syscall.RawSyscall6(syscall.SYS_EPOLL_PWAIT, uintptr(p.epfd), uintptr(unsafe.Pointer(&p.events[0])), uintptr(len(p.events)), 0, 0, 0)
	p.found, p.errno = int(n), errno
	if errno != 0 {
		p.found = 0
		if errno == syscall.EINTR {
			p.errno = 0
		}
	}
}

// setAlarm makes the timerfd go off at until, or before, so that no wait ends late (epoll 8).
func (p *poller) setAlarm(until, now time.Duration) {
	if p.alarmAt > now && p.alarmAt <= until {
		return
	}
	// The time is relative to the moment at which the kernel sees it, which is after now: never
	// early.
	until = min(until, now+maxAlarm)
	spec := struct{ interval, value syscall.Timespec }{value: syscall.NsecToTimespec(int64(until - now))}
	_, _, errno := syscall.RawSyscall6(syscall.SYS_TIMERFD_SETTIME, uintptr(p.alarm), 0, uintptr(unsafe.Pointer(&spec)), 0, 0, 0)
	if errno != 0 {
		panic(os.NewSyscallError("timerfd_settime", errno))
	}
	p.alarmAt = until
}

// maxAlarm is the longest time that fits a timespec of 32 bits.
const maxAlarm = (1<<31 - 1) * time.Second

// wake ends the current or next wait. Any goroutine may call it.
func (p *poller) wake() { _ = p.file.SetReadDeadline(past) }

var past = time.Unix(1, 0)

func (p *poller) close() error {
	p.closeAll()
	if p.alarm >= 0 {
		syscall.Close(p.alarm)
	}
	return p.file.Close()
}
