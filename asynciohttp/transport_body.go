package asynciohttp

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"

	"github.com/goasyncio/asyncio"
)

// A responseBody is the body of a response of a Transport. Any task of the loop may read it, one at
// a time, and close it; other goroutines may, too (transport 7).
//
//	responsebody 1: The end of the body, an error of a read and Close each let the connection go;
//	   the first of them decides. What comes later changes nothing.
//	responsebody 2: Close does not suspend. If all of a short rest has arrived, it is dropped and
//	   the connection kept. Otherwise the connection is closed.
//	responsebody 3: src is package net/http's and locks a mutex while it reads, so no second task
//	   may enter it: a reader is refused, and Close leaves it alone.
type responseBody struct {
	e      *clientExchange
	src    io.Reader
	small  bool // its length is unknown, or not more than maxUnread
	busy   bool // a task is in src
	closed bool
	err    error // of the read that ended it
}

// maxUnread is how much of a body Close may drop to keep the connection.
const maxUnread = 256 << 10

var errReadOnClosed = fmt.Errorf("asynciohttp: the response's body is closed: %w", net.ErrClosed)

// Read suspends the calling task until there is something. A cancel of the task and the end of the
// request's context end the response (transport 6).
func (b *responseBody) Read(p []byte) (int, error) { return readOn(b.e.loop, b, p) }

// readOn reads from b, which belongs to l, for any caller. For another goroutine the bytes go
// through a buffer: when the loop closes, it does not wait for the read any more, which must not
// touch its own ones then.
func readOn(l *asyncio.EventLoop, b interface{ read(p []byte) (int, error) }, p []byte) (int, error) {
	inTask, err := onLoop(l)
	switch {
	case err == nil && inTask:
		return b.read(p)
	case err == nil:
		return 0, fmt.Errorf("%w (in the Read of a response's body)", asyncio.ErrNotInTask)
	}
	got, err := asyncio.Call(context.Background(), l, func(context.Context) ([]byte, error) {
		buf := make([]byte, min(len(p), maxUnread))
		n, err := b.read(buf)
		return buf[:n], err
	}, asyncio.TaskName("body for another goroutine"))
	return copy(p, got), err
}

func (b *responseBody) read(p []byte) (n int, err error) {
	switch {
	case b.closed:
		return 0, errReadOnClosed
	case b.err != nil:
		return 0, b.err
	case b.busy:
		return 0, fmt.Errorf("%w: the response's body", asyncio.ErrBusy)
	}
	b.busy = true
	returned := false
	defer func() {
		b.busy = false
		if !returned { // the loop closes and unwinds the task
			b.fail(errGivenUp)
		}
	}()
	n, err = b.src.Read(p)
	returned = true
	switch {
	case b.closed: // by another task
		return 0, errReadOnClosed
	case err == nil:
		return n, nil
	case err == io.EOF:
		b.err = err
		b.e.finish()
	default:
		err = b.e.cause(err)
		b.fail(err)
	}
	return n, err
}

var errGivenUp = errors.New("asynciohttp: the read of the response's body did not return")

// fail ends the body with an error (responsebody 1).
func (b *responseBody) fail(err error) {
	if b.err == nil {
		b.err = err
		b.e.release()
	}
}

// Close implements [io.Closer] (responsebody 2).
func (b *responseBody) Close() error {
	if _, err := onLoop(b.e.loop); err != nil {
		_, _ = b.e.loop.CallSoonThreadsafe(b.close)
		return nil
	}
	b.close()
	return nil
}

func (b *responseBody) close() {
	if b.closed {
		return
	}
	b.closed = true
	switch {
	case b.err != nil: // over
	case !b.busy && b.small && b.e.keep && b.drain():
		b.e.finish()
	default:
		b.e.release()
	}
}

// drain drops the rest of the body, and reports whether all of it had arrived.
func (b *responseBody) drain() bool {
	c := b.e.c
	c.nowait = true
	defer func() { c.nowait = false }()
	_, err := io.CopyN(io.Discard, b.src, maxUnread+1)
	return err == io.EOF
}

// A clientBody is the body of a response, of either protocol. read is Read for tasks of the loop.
type clientBody interface {
	io.ReadCloser
	read(p []byte) (int, error)
	isClosed() bool
}

func (b *responseBody) isClosed() bool { return b.closed }

// A gunzippedBody decompresses a body while it is read.
type gunzippedBody struct {
	loop *asyncio.EventLoop
	body clientBody
	zr   *gzip.Reader // nil before the first read, and after the last
	err  error
	busy bool
}

var gunzippers sync.Pool // of *gzip.Reader

func (g *gunzippedBody) Read(p []byte) (int, error) { return readOn(g.loop, g, p) }

func (g *gunzippedBody) read(p []byte) (n int, err error) {
	switch {
	case g.body.isClosed():
		return 0, errReadOnClosed
	case g.err != nil:
		return 0, g.err
	case g.busy:
		return 0, fmt.Errorf("%w: the response's body", asyncio.ErrBusy)
	}
	g.busy = true
	defer func() { g.busy = false }()
	if g.zr == nil {
		zr, ok := gunzippers.Get().(*gzip.Reader)
		if !ok {
			zr = new(gzip.Reader)
		}
		if err := zr.Reset(compressed{g.body}); err != nil {
			g.err = err
			return 0, err
		}
		g.zr = zr
	}
	n, err = g.zr.Read(p)
	if err != nil {
		g.err = err
		gunzippers.Put(g.zr)
		g.zr = nil
	}
	return n, err
}

// compressed reads the compressed bytes, in the task that reads the others.
type compressed struct{ body clientBody }

func (c compressed) Read(p []byte) (int, error) { return c.body.read(p) }

func (g *gunzippedBody) Close() error { return g.body.Close() }

// A switchedBody is the connection after the server has switched to another protocol: an
// [io.ReadWriteCloser], as in package net/http, for tasks.
type switchedBody struct {
	conn  net.Conn
	early []byte // came with the head
}

func (b *switchedBody) Read(p []byte) (int, error) {
	if len(b.early) > 0 {
		n := copy(p, b.early)
		b.early = b.early[n:]
		return n, nil
	}
	return b.conn.Read(p)
}

func (b *switchedBody) Write(p []byte) (int, error) { return b.conn.Write(p) }
func (b *switchedBody) Close() error                { return b.conn.Close() }

// CloseWrite ends what is sent, where the connection can do that.
func (b *switchedBody) CloseWrite() error {
	if c, ok := b.conn.(interface{ CloseWrite() error }); ok {
		return c.CloseWrite()
	}
	return fmt.Errorf("asynciohttp: CloseWrite: %w", http.ErrNotSupported)
}
