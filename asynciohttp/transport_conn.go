package asynciohttp

import (
	"bufio"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http/httptrace"

	"github.com/goasyncio/asyncio"
)

// A clientConn is a connection of a Transport (transport 2).
type clientConn struct {
	pool *pool
	host *host
	h2   *http2Client // nil for HTTP/1.1, which what follows tls is for

	conn   net.Conn    // nil before it is dialled
	within contextConn // conn, if contexts can end its operations
	idler  idleConn    // conn, if it can tell that something has come
	tls    *tls.ConnectionState

	reused bool // it has served a request

	proxied   bool   // requests go to a proxy, with whole URLs
	proxyAuth string // and this header

	br     *bufio.Reader   // nil while it is idle (transport 3)
	e      *clientExchange // the request that it belongs to, nil while it is idle
	left   int64           // so many bytes may be read
	nowait bool            // reads must not wait
	sawEOF bool
	failed error // of the last read, for package net/http's parsers hide some errors

	idle           bool
	idleSince      asyncio.Instant
	older, younger *clientConn // by how long they are idle
	onNews         func()      // for OnReadable
}

// contextConn is implemented by connections for tasks, such as [*asyncio.Conn].
type contextConn interface {
	ReadContext(ctx context.Context, p []byte) (int, error)
	WriteContext(ctx context.Context, p []byte) (int, error)
}

// idleConn is implemented by connections for tasks that can be watched without one.
type idleConn interface {
	ReadNowait(p []byte) (int, error)
	OnReadable(fn func()) error
}

// use makes conn the connection.
func (c *clientConn) use(conn net.Conn) {
	c.conn = conn
	c.within, _ = conn.(contextConn)
	c.idler, _ = conn.(idleConn)
}

// got gives c to e.
func (c *clientConn) got(e *clientExchange, how httptrace.GotConnInfo) {
	e.how = how
	if c.h2 != nil {
		return
	}
	c.e = e
	if c.idler != nil && c.reused {
		_ = c.idler.OnReadable(nil)
	}
	if c.br == nil {
		c.br = c.pool.t.reader(c)
	}
}

// reader returns a buffered reader of c.
func (t *Transport) reader(c *clientConn) *bufio.Reader {
	if br, ok := t.readers.Get().(*bufio.Reader); ok {
		br.Reset(c)
		return br
	}
	return bufio.NewReaderSize(c, cmp.Or(t.ReadBufferSize, 4<<10))
}

// free gives the buffer away, which must be empty and unused.
func (c *clientConn) free() {
	if c.br != nil {
		c.br.Reset(nil)
		c.pool.t.readers.Put(c.br)
		c.br = nil
	}
}

// rest makes c idle: from now on anything that arrives closes it (transport 3). The error says that
// this has happened already.
func (c *clientConn) rest() error {
	if c.idler != nil {
		if err := c.watch(); err != nil {
			return err
		}
	}
	c.e = nil
	c.free()
	return nil
}

// watch has the loop tell when something arrives, unless that has happened already.
func (c *clientConn) watch() error {
	var p [1]byte
	if _, err := c.idler.ReadNowait(p[:]); err != asyncio.ErrWouldBlock {
		return errDiedIdle
	}
	if c.onNews == nil {
		c.onNews = c.news
	}
	return c.idler.OnReadable(c.onNews)
}

// news is called when something may have arrived.
func (c *clientConn) news() {
	if c.idle && c.watch() != nil {
		c.close()
	}
}

// Read is for the buffered reader. It reads no more than is allowed. An error stays: package
// net/textproto drops one where it looks whether a line is continued, and expects it to come again,
// but a cancel comes once.
func (c *clientConn) Read(p []byte) (n int, err error) {
	if c.failed != nil {
		return 0, c.failed
	}
	if c.left <= 0 {
		return 0, errHeaderTooLong
	}
	if int64(len(p)) > c.left {
		p = p[:c.left]
	}
	switch {
	case !c.nowait:
		n, err = c.read(c.e.ctx, p)
	case c.idler != nil:
		n, err = c.idler.ReadNowait(p)
	default:
		err = asyncio.ErrWouldBlock
	}
	switch err {
	case nil, asyncio.ErrWouldBlock:
	case io.EOF:
		c.sawEOF = true
	default:
		c.failed = err
	}
	c.left -= int64(n)
	return n, err
}

var errHeaderTooLong = errors.New("asynciohttp: MaxResponseHeaderBytes")

// read reads, and ctx ends the wait.
func (c *clientConn) read(ctx context.Context, p []byte) (int, error) {
	if c.within != nil {
		return c.within.ReadContext(ctx, p)
	}
	return c.inTaskOf(ctx, func() (int, error) { return c.conn.Read(p) })
}

// write writes all of p, and ctx ends the wait.
func (c *clientConn) write(ctx context.Context, p []byte) (n int, err error) {
	if c.within != nil {
		n, err = c.within.WriteContext(ctx, p)
	} else {
		n, err = c.inTaskOf(ctx, func() (int, error) { return c.conn.Write(p) })
	}
	if n > 0 && c.e != nil {
		c.e.wrote = true
	}
	return n, err
}

// inTaskOf does an operation of a connection that takes no context. A connection for tasks uses
// that of the task, so the operation needs one of its own, which is awaited in any case: it works
// on the caller's bytes.
func (c *clientConn) inTaskOf(ctx context.Context, op func() (int, error)) (int, error) {
	task := asyncio.CreateTask(ctx, func(context.Context) (int, error) { return op() }, asyncio.TaskName("I/O of a Transport's connection"))
	n, err := task.Await(context.WithoutCancel(ctx))
	if errors.Is(err, asyncio.ErrCancelled) {
		// a cancel that came too late to stop it arrives at the next await
		if done, failed := task.Result(); failed == nil {
			asyncio.DeliverAgain(ctx, err)
			return done, nil
		}
	}
	return n, err
}

// close closes c, for good. It is called once: by who dials c, by the request that c belongs to, or
// by the pool while c is idle (pool 1).
func (c *clientConn) close() {
	if c.h2 != nil {
		c.h2.shut(errHTTP2Unused)
		return
	}
	c.drop()
	if c.conn != nil {
		_ = c.conn.Close()
	}
}

// drop takes c out of the pool's account.
func (c *clientConn) drop() {
	if c.idle {
		c.pool.take(c)
	}
	if c.idler != nil && c.onNews != nil {
		_ = c.idler.OnReadable(nil)
	}
	c.pool.leave(c.host)
}
