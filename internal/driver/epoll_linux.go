package driver

import (
	"os"
	"runtime"
	"sync"
	"syscall"
	"time"
	"unsafe"
)

// The poller on Linux: one epoll instance, in which every socket is registered once, edge-triggered and for both directions.
//
//	J1 An edge is reported once. The socket keeps it as a flag, readable or writable, that only an attempt
//	   clears: EAGAIN, or on TCP a read that did not fill its buffer, for then all that had arrived is read, and
//	   what arrives later is a new edge. So a message costs one read.
//	J2 After a hang-up (the last byte and its end may be one edge), an error or urgent data (at whose mark a read stops
//	   short of what there is), only EAGAIN clears readable. On Unix sockets that is always so: a read stops short at a
//	   message that carried descriptors.
//	J3 A short write does not clear writable; the EAGAIN that follows does. Only that makes the kernel report space.
//	J4 A hang-up or an error is readiness in both directions: whoever waits is to get the error of its own attempt.
//	J5 Both directions are told in one call, the reader first.
//	J6 An event names a slot, the descriptor's number, and the slot's generation, which grows when it is taken. Closing a
//	   descriptor takes it out of epoll, unless somebody has a duplicate of it (a child that has not executed its
//	   program yet); events that come all the same are of an old generation and dropped.
//	J7 Wake-ups are an eventfd, edge-triggered too: every write is an edge, so it is never read.
//	J8 Waiting never ends early by rounding: nanoseconds where the kernel has epoll_pwait2, otherwise milliseconds
//	   rounded up.
//	J9 Descriptors of others (Watch) are registered level-triggered and for what is asked of them only.

const pollerExists = true

const (
	edgeTriggered = 1 << 31 // EPOLLET, whose sign in package syscall depends on the architecture
	readEvents    = syscall.EPOLLIN | syscall.EPOLLRDHUP | syscall.EPOLLHUP | syscall.EPOLLERR | syscall.EPOLLPRI
	writeEvents   = syscall.EPOLLOUT | syscall.EPOLLHUP | syscall.EPOLLERR
	greedyEvents  = syscall.EPOLLRDHUP | syscall.EPOLLHUP | syscall.EPOLLERR | syscall.EPOLLPRI // J2
	socketEvents  = syscall.EPOLLIN | syscall.EPOLLOUT | syscall.EPOLLRDHUP | syscall.EPOLLPRI | edgeTriggered

	wakeGeneration = 0 // of the eventfd; slots begin with 1
)

type poller struct {
	epfd   int
	events [256]syscall.EpollEvent
	slots

	millis bool // epoll_pwait2 does not exist, or is not allowed

	waking sync.Mutex // so that the eventfd is not closed, and its number used again, under a goroutine that writes to it
	wakefd int        // -1 once closed; guarded by waking
}

func newPoller() (*poller, error) {
	epfd, err := syscall.EpollCreate1(syscall.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	fd, _, errno := syscall.RawSyscall(syscall.SYS_EVENTFD2, 0, syscall.O_CLOEXEC|syscall.O_NONBLOCK, 0)
	if errno != 0 {
		syscall.Close(epfd)
		return nil, os.NewSyscallError("eventfd2", errno)
	}
	p := &poller{epfd: epfd, wakefd: int(fd)}
	if err := p.control(syscall.EPOLL_CTL_ADD, p.wakefd, wakeGeneration, syscall.EPOLLIN|edgeTriggered); err != nil {
		syscall.Close(epfd)
		syscall.Close(p.wakefd)
		return nil, err
	}
	return p, nil
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

// setWatched changes what a descriptor of others is watched for (J9).
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

// wait waits up to limit, tells what is ready and reports whether wake was called.
func (p *poller) wait(limit time.Duration) (woken bool, err error) {
	n, errno := p.waitForEvents(limit)
	if errno == syscall.EINTR {
		return false, nil
	} else if errno != 0 {
		return false, os.NewSyscallError("epoll_wait", errno)
	}
	for i := range p.events[:n] {
		ev := &p.events[i]
		if uint32(ev.Pad) == wakeGeneration {
			woken = true
			continue
		}
		s := p.at(int(ev.Fd), uint32(ev.Pad))
		if s == nil {
			continue // J6
		}
		if ev.Events&greedyEvents != 0 {
			s.greedy = true
		}
		s.ready(ev.Events&readEvents != 0, ev.Events&writeEvents != 0)
	}
	return woken, nil
}

// timespec is the kernel's, with 64 bits on every architecture.
type timespec struct{ sec, nsec int64 }

const sysEpollPwait2 = 441 // the same on all architectures

func (p *poller) waitForEvents(limit time.Duration) (int, syscall.Errno) {
	events := unsafe.Pointer(&p.events[0])
	const most = uintptr(len(p.events))
	if limit == 0 { // does not wait, so the scheduler need not know
		n, _, errno := syscall.RawSyscall6(syscall.SYS_EPOLL_PWAIT, uintptr(p.epfd), uintptr(events), most, 0, 0, 0)
		return int(n), errno
	}
	if limit == Never {
		n, _, errno := syscall.Syscall6(syscall.SYS_EPOLL_PWAIT, uintptr(p.epfd), uintptr(events), most, ^uintptr(0), 0, 0)
		return int(n), errno
	}
	if !p.millis {
		ts := timespec{int64(limit / time.Second), int64(limit % time.Second)}
		n, _, errno := syscall.Syscall6(sysEpollPwait2, uintptr(p.epfd), uintptr(events), most, uintptr(unsafe.Pointer(&ts)), 0, 0)
		runtime.KeepAlive(&ts)
		if errno != syscall.ENOSYS && errno != syscall.EPERM {
			return int(n), errno
		}
		p.millis = true
	}
	ms := min((limit+time.Millisecond-1)/time.Millisecond, 1<<31-1)
	n, _, errno := syscall.Syscall6(syscall.SYS_EPOLL_PWAIT, uintptr(p.epfd), uintptr(events), most, uintptr(ms), 0, 0)
	return int(n), errno
}

// wake ends the current or next wait. Any goroutine may call it.
func (p *poller) wake() {
	p.waking.Lock()
	defer p.waking.Unlock()
	if p.wakefd >= 0 {
		one := uint64(1)
		syscall.RawSyscall(syscall.SYS_WRITE, uintptr(p.wakefd), uintptr(unsafe.Pointer(&one)), 8)
	}
}

func (p *poller) close() error {
	p.closeAll()
	p.waking.Lock()
	defer p.waking.Unlock()
	syscall.Close(p.wakefd)
	p.wakefd = -1
	return os.NewSyscallError("close", syscall.Close(p.epfd))
}
