// Command load sends messages to an echo server again and again, over many connections at once, and
// measures their cost to the server. With -http the messages are requests of HTTP/1.1 over
// connections that are kept. It is the same for all servers, and does little itself: one thread,
// epoll, no memory.
//
//	load -port 7 -pid 123 -conns 100 -size 64 -warm 200ms -time 600ms
//
// It prints four fields, separated by commas: messages, wall-clock nanoseconds, nanoseconds of
// processor time (user and system, of all threads) that the server spent in them, and the bytes of
// memory by which the server had grown once the connections were open, had carried one message
// each, and were idle.
//
// Over each connection there is one message on its way, there or back.
//
// With -answer it is the server, of clients of HTTP/1.1 that are measured: it prints its port, and
// answers every request with a body of -size bytes.
package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"

	"github.com/goasyncio/asyncio/bench/internal/peer"
)

var (
	port     = flag.Int("port", 0, "of the server, on 127.0.0.1")
	pid      = flag.Int("pid", 0, "of the server")
	conns    = flag.Int("conns", 1, "how many connections")
	size     = flag.Int("size", 64, "bytes of a message")
	warm     = flag.Duration("warm", 200*time.Millisecond, "at least, before it measures")
	limit    = flag.Duration("time", 600*time.Millisecond, "it measures at least")
	overHTTP = flag.Bool("http", false, "send requests of HTTP/1.1; -size is then that of the bodies in the answers")
	idle     = flag.Duration("idle", 50*time.Millisecond, "how long connections are idle before their memory is taken")
	serve    = flag.Bool("answer", false, "answer requests of HTTP/1.1, until killed")
)

func main() {
	flag.Parse()
	run := run
	if *serve {
		run = answer
	}
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "load:", err)
		os.Exit(1)
	}
}

// conn is a connection. The message is sent, and then its answer comes, of whole bytes.
type conn struct{ fd, sent, got, whole int }

func run() error {
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, highest()); err != nil {
		return err
	}
	message := make([]byte, *size)
	for i := range message {
		message[i] = byte('a' + i%23)
	}
	exchange, into := (*conn).echo, make([]byte, *size)
	collect := func() error { return nil }
	if *overHTTP {
		message, into = request("/"), make([]byte, *size+maxHead)
		exchange = (*conn).get
		apart, err := dial()
		if err != nil {
			return err
		}
		collect = func() error { return apart.get(request(peer.Collect), into) }
	}
	epfd, err := syscall.EpollCreate1(0)
	if err != nil {
		return err
	}
	if err := collect(); err != nil {
		return err
	}
	before := resident(*pid)
	all := make([]conn, *conns)
	for i := range all {
		if err := all[i].connect(epfd, i); err != nil {
			return fmt.Errorf("connection %d: %w", i, err)
		}
		// The server has accepted this connection once it answers, so its queue does not overflow.
		if err := exchange(&all[i], message, into); err != nil {
			return fmt.Errorf("connection %d: %w", i, err)
		}
		if err := syscall.SetNonblock(all[i].fd, true); err != nil {
			return err
		}
	}
	time.Sleep(*idle)
	if err := collect(); err != nil {
		return err
	}
	held := max(0, resident(*pid)-before)

	for i := range all {
		if _, err := all[i].pump(message, into); err != nil {
			return err
		}
	}
	events := make([]syscall.EpollEvent, 1024)
	messages := 0
	// until goes on up to end, or longer until there are as many messages as connections.
	until := func(end time.Time) error {
		messages = 0
		for now := time.Now(); now.Before(end) || messages < len(all); now = time.Now() {
			if now.Sub(end) > time.Minute {
				return errors.New("the server does not go on")
			}
			n, _, errno := syscall.RawSyscall6(syscall.SYS_EPOLL_PWAIT, uintptr(epfd), uintptr(unsafe.Pointer(&events[0])), uintptr(len(events)), 100, 0, 0)
			if errno != 0 && errno != syscall.EINTR {
				return errno
			}
			if errno != 0 {
				continue
			}
			for _, ev := range events[:n] {
				done, err := all[ev.Fd].pump(message, into)
				if err != nil {
					return err
				}
				messages += done
			}
		}
		return nil
	}
	if err := until(time.Now().Add(*warm)); err != nil {
		return err
	}
	start, cpu := time.Now(), peer.ProcessorTime(*pid)
	if err := until(start.Add(*limit)); err != nil {
		return err
	}
	cpu = peer.ProcessorTime(*pid) - cpu
	took := time.Since(start)
	if messages == 0 || cpu <= 0 {
		return fmt.Errorf("%d messages in %v, in which the server worked for %v", messages, took, cpu)
	}
	fmt.Printf("%d,%d,%d,%d\n", messages, took.Nanoseconds(), cpu.Nanoseconds(), held)
	for _, c := range all { // with a reset, so that nothing is left behind
		_ = syscall.SetsockoptLinger(c.fd, syscall.SOL_SOCKET, syscall.SO_LINGER, &syscall.Linger{Onoff: 1})
		syscall.Close(c.fd)
	}
	return nil
}

func dial() (conn, error) {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return conn{}, err
	}
	if err := syscall.Connect(fd, &syscall.SockaddrInet4{Port: *port, Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return conn{}, err
	}
	return conn{fd: fd}, syscall.SetsockoptInt(fd, syscall.IPPROTO_TCP, syscall.TCP_NODELAY, 1)
}

func (c *conn) connect(epfd, index int) (err error) {
	if *c, err = dial(); err != nil {
		return err
	}
	const edgeTriggered = 1 << 31
	return syscall.EpollCtl(epfd, syscall.EPOLL_CTL_ADD, c.fd, &syscall.EpollEvent{
		Events: syscall.EPOLLIN | syscall.EPOLLOUT | edgeTriggered,
		Fd:     int32(index),
	})
}

// echo sends one message and waits for its echo, which has to be the same.
func (c *conn) echo(message, into []byte) error {
	c.whole = len(message)
	// A server may write before it has read everything, so a very long message is sent a part at a
	// time. The system buffers more than a part on each side.
	const part = 64 << 10
	for rest := message; len(rest) > 0; {
		part := rest[:min(len(rest), part)]
		rest = rest[len(part):]
		if _, err := syscall.Write(c.fd, part); err != nil {
			return err
		}
		for got := 0; got < len(part); {
			n, err := syscall.Read(c.fd, into[got:len(part)])
			if err != nil {
				return err
			}
			if n == 0 {
				return errClosed
			}
			got += n
		}
		if !bytes.Equal(part, into[:len(part)]) {
			return errors.New("what came back is not what was sent")
		}
	}
	return nil
}

var errClosed = errors.New("closed by the server")

// pump continues the message. If it has come back, pump counts it and starts the next one. It costs
// two system calls if all goes well: after a short read, or a write, an edge reports when there is
// more to do.
func (c *conn) pump(message, into []byte) (done int, err error) {
	if err := c.send(message); err != nil {
		return 0, err
	}
	n, _, errno := syscall.RawSyscall(syscall.SYS_READ, uintptr(c.fd), uintptr(unsafe.Pointer(&into[0])), uintptr(c.whole-c.got))
	switch {
	case errno == syscall.EAGAIN:
		return 0, nil
	case errno != 0:
		return 0, errno
	case n == 0:
		return 0, errClosed
	}
	c.got += int(n)
	if c.got < c.whole {
		return 0, nil
	}
	c.sent, c.got = 0, 0
	return 1, c.send(message)
}

// send sends the rest of the message, or as much as there is room for.
func (c *conn) send(message []byte) error {
	for c.sent < len(message) {
		n, _, errno := syscall.RawSyscall(syscall.SYS_WRITE, uintptr(c.fd), uintptr(unsafe.Pointer(&message[c.sent])), uintptr(len(message)-c.sent))
		if errno == syscall.EAGAIN {
			return nil
		}
		if errno != 0 {
			return errno
		}
		c.sent += int(n)
	}
	return nil
}

func resident(pid int) int64 {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	f := strings.Fields(string(b))
	if err != nil || len(f) < 2 {
		return 0
	}
	pages, _ := strconv.ParseInt(f[1], 10, 64)
	return pages * int64(os.Getpagesize())
}

func highest() *syscall.Rlimit {
	var r syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &r); err == nil {
		r.Cur = r.Max
	}
	return &r
}
