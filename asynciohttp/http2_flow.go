package asynciohttp

import (
	"context"
	"errors"
	"os"
	"slices"

	"github.com/goasyncio/asyncio"
	"golang.org/x/net/http2"
)

// http2Out is the connection as the framer's writer: a frame goes to the end of out.
type http2Out http2Conn

func (o *http2Out) Write(p []byte) (int, error) {
	o.out = append(o.out, p...)
	return len(p), nil
}

// write sends what out has, until the connection ends. It is the writer's body (h2 2).
func (c *http2Conn) write(context.Context) error {
	for {
		for len(c.out) == 0 {
			if c.last {
				c.allSent = true
				c.closeWrite()
				return nil
			}
			if cap(c.out) > 0 { // an idle connection needs no buffers
				putHTTP2Buffer(c.out)
				putHTTP2Buffer(c.spare)
				c.out, c.spare = nil, nil
			}
			if err := c.await(&c.wake); err != nil {
				return err
			}
		}
		p := c.out
		if c.spare == nil {
			c.spare = getHTTP2Buffer()
		}
		c.out, c.spare, c.answers = c.spare[:0], nil, 0
		c.taken += int64(len(p))
		c.admit()
		if err := c.writeAll(p); err != nil {
			c.writeErr = err
			return onlyCancel(err)
		}
		if cap(p) <= http2BufferKept {
			c.spare = p
		}
	}
}

// writeAll writes p to the connection. A peer that takes it slowly is no error, but one that takes
// nothing.
func (c *http2Conn) writeAll(p []byte) error {
	for {
		if t := c.settings.writeByte; t > 0 && !c.refusing {
			_ = c.conn.SetWriteDeadline(c.loop.Now().Add(t))
		}
		n, err := c.conn.Write(p)
		if n == 0 || c.refusing || !errors.Is(err, os.ErrDeadlineExceeded) {
			return err
		}
		p = p[n:]
	}
}

// wrote follows the end of the writer's task, which may have been cancelled before its first step.
// The reader notices that nothing is sent any more: the peer closes the connection, or it is closed
// here.
func (c *http2Conn) wrote(*asyncio.Task[asyncio.None]) {
	c.goneAway = true
	if !c.allSent {
		_ = c.conn.Close()
	}
}

// hasRoom reports whether data may be appended, as far as that depends on the connection (h2 3).
func (c *http2Conn) hasRoom() bool { return c.window > 0 && len(c.out) < http2OutLimit }

// admit wakes the first in the queue if there is room.
func (c *http2Conn) admit() {
	if len(c.queue) > 0 && c.hasRoom() {
		st := c.queue[0]
		c.queue = c.queue[1:]
		st.queued = false
		st.sendable.set()
	}
}

// dequeue takes st out of the queue.
func (c *http2Conn) dequeue(st *http2Stream) {
	if st.queued {
		st.queued = false
		c.queue = slices.DeleteFunc(c.queue, func(other *http2Stream) bool { return other == st })
	}
}

// sendData sends p as data of st, and the end of the stream if end is set. It suspends the calling
// task until the rest has room; what it returns was accepted.
func (c *http2Conn) sendData(st *http2Stream, p []byte, end bool) (n int, err error) {
	if len(p) == 0 && end {
		if st.err != nil {
			return 0, st.err
		}
		c.appendData(st, nil, true)
		return 0, nil
	}
	for n < len(p) {
		if err := c.awaitRoom(st); err != nil {
			return n, err
		}
		size := int(min(int64(len(p)-n), st.window, c.window, int64(c.peerFrame)))
		c.window -= int64(size)
		st.window -= int64(size)
		c.appendData(st, p[n:n+size], end && n+size == len(p))
		n += size
		c.admit()
	}
	return n, nil
}

// awaitRoom suspends until st may send at least a byte (h2 3).
func (c *http2Conn) awaitRoom(st *http2Stream) error {
	waited := false
	for {
		switch {
		case st.err != nil:
			c.admit()
			return st.err
		case st.window <= 0:
			c.admit()
		case c.hasRoom() && (waited || len(c.queue) == 0):
			return nil
		default:
			st.queued = true
			c.queue = append(c.queue, st)
		}
		if err := c.await(&st.sendable); err != nil {
			c.dequeue(st)
			c.admit()
			return err
		}
		waited = true
	}
}

// appendData appends one DATA frame. The framer would copy the data twice.
func (c *http2Conn) appendData(st *http2Stream, p []byte, end bool) {
	var flags http2.Flags
	if end {
		flags = http2.FlagDataEndStream
	}
	if c.out == nil {
		c.out = getHTTP2Buffer()
	}
	c.out = append(c.out, byte(len(p)>>16), byte(len(p)>>8), byte(len(p)), byte(http2.FrameData), byte(flags),
		byte(st.id>>24), byte(st.id>>16), byte(st.id>>8), byte(st.id))
	c.out = append(c.out, p...)
	c.empty = 0 // the peer opens windows for this
	c.wake.set()
	if end {
		c.sentEnd(st)
	}
}

// sendBlock sends the header block that the encoder has written.
func (c *http2Conn) sendBlock(st *http2Stream, end bool) {
	if c.out == nil {
		c.out = getHTTP2Buffer()
	}
	block := c.block.Bytes()
	for first := true; first || len(block) > 0; first = false {
		part := block[:min(len(block), c.peerFrame)]
		block = block[len(part):]
		if first {
			_ = c.framer.WriteHeaders(http2.HeadersFrameParam{
				StreamID: st.id, BlockFragment: part, EndStream: end, EndHeaders: len(block) == 0,
			})
		} else {
			_ = c.framer.WriteContinuation(st.id, len(block) == 0, part)
		}
	}
	c.block.Reset()
	c.wake.set()
	if end {
		c.sentEnd(st)
	}
}

// An inflow counts what the other side may still send.
type inflow struct {
	avail   int32 // that it knows of
	unsent  int32 // that it may be told of
	refresh int32 // how much of that is worth a frame
}

func (f *inflow) init(window int32) {
	f.avail = window
	f.refresh = max(window/4, 1)
}

// take counts n bytes that were received, if they were allowed.
func (f *inflow) take(n uint32) bool {
	if int64(n) > int64(f.avail) {
		return false
	}
	f.avail -= int32(n)
	return true
}

// add counts n bytes that are out of the way. It returns by how much the window is to be opened
// now.
func (f *inflow) add(n int32) uint32 {
	f.unsent += n
	if f.unsent < f.refresh {
		return 0
	}
	n, f.unsent = f.unsent, 0
	f.avail += n
	return uint32(n)
}

// giveBack opens the windows by n bytes that have been read, or that nobody will read. With st nil
// it is the window of the connection only.
func (c *http2Conn) giveBack(st *http2Stream, n int) {
	if n == 0 {
		return
	}
	if more := c.inflow.add(int32(n)); more > 0 {
		_ = c.framer.WriteWindowUpdate(0, more)
		c.wake.set()
	}
	if st != nil && st.err == nil && !st.remoteEnded {
		if more := st.inflow.add(int32(n)); more > 0 {
			_ = c.framer.WriteWindowUpdate(st.id, more)
			c.wake.set()
		}
	}
}
