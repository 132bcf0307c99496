package asynciohttp

import (
	"context"
	"fmt"
	"io"
	"net"
	"sync"

	"github.com/goasyncio/asyncio"
)

// A Body is the body of a request in a handler, or of a response that [Do] returned. Its methods
// are for tasks of its loop; Read, ReadContext and WriteTo suspend the calling task until there is
// something. Only one task may read at a time; a second gets [asyncio.ErrBusy].
//
//	body 1: A closed body has nothing: every method checks that first, and the bytes of a read still
//	   under way are dropped.
//	body 2: A waiting task is woken by the end of the read and by Close, whichever is first, and
//	   then checks both, closed first. A cancel of the task is reported as a cancel, even if the
//	   body was closed meanwhile.
//	body 3: The buffer is given to others once the body is closed, no read is under way and no task
//	   uses a part of it.
type Body struct {
	loop context.Context // the context of the loop
	src  io.ReadCloser
	end  func() // on the loop, once src has ended

	buf     *[bodyBuffer]byte
	read    *bodyRead // under way, nil if none
	have    []byte    // bytes of the last read that nobody has taken
	err     error     // the error behind them
	busy    bool      // a task is in a method
	closed  bool
	news    *asyncio.Future[asyncio.None] // the task's current wait, nil before the first one
	release func()                        // called by Close
}

// bodyBuffer is how much one read under way can bring.
const bodyBuffer = 32 << 10

// bodyBuffers holds unused buffers.
var bodyBuffers = sync.Pool{New: func() any { return new([bodyBuffer]byte) }}

// goroutines is an executor that runs each job on a goroutine of its own.
type goroutines struct{}

func (goroutines) Submit(job func()) error { go job(); return nil }
func (goroutines) Shutdown(bool)           {}

// A telling is an executor that runs jobs in the same way and closes a channel when the job is
// over, even if it was never begun.
type telling struct{ over chan struct{} }

func (e telling) Submit(job func()) error {
	go func() {
		defer close(e.over)
		job()
	}()
	return nil
}
func (telling) Shutdown(bool) {}

// Read reads up to len(p) bytes, at least one. It is [Body.ReadContext] with the context of the
// task.
func (b *Body) Read(p []byte) (int, error) {
	t := asyncio.CurrentTask(b.loop)
	if t == nil {
		return 0, fmt.Errorf("%w (in Body.Read)", asyncio.ErrNotInTask)
	}
	return b.ReadContext(t.GetContext(), p)
}

// ReadContext reads up to len(p) bytes, at least one, and suspends the calling task until there are
// any. A cancel of the task or the end of ctx ends the wait; nothing is lost. Errors are those of
// package net/http, and [io.EOF] at the end.
func (b *Body) ReadContext(ctx context.Context, p []byte) (int, error) {
	if b.busy {
		return 0, fmt.Errorf("%w: the body", asyncio.ErrBusy)
	}
	b.busy = true
	defer b.leave()
	if err := b.some(ctx, len(p) == 0); err != nil {
		return 0, err
	}
	n := copy(p, b.have)
	b.have = b.have[n:]
	return n, nil
}

func (b *Body) leave() {
	b.busy = false
	b.recycle()
}

// some waits until there are bytes or an error; if optional is true, it does not wait.
func (b *Body) some(ctx context.Context, optional bool) error {
	for {
		switch {
		case b.closed: // checked first (body 1)
			return fmt.Errorf("asynciohttp: the body is closed: %w", net.ErrClosed)
		case len(b.have) > 0:
			return nil
		case b.err != nil:
			return b.err
		case optional:
			return nil
		}
		if err := b.fill(ctx); err != nil {
			return err
		}
	}
}

// WriteTo implements [io.WriterTo]: it writes the bytes of each read to w, up to the end of the
// body, and suspends the calling task as Read and w do. Bytes that w did not take can still be
// read.
func (b *Body) WriteTo(w io.Writer) (written int64, err error) {
	t := asyncio.CurrentTask(b.loop)
	if t == nil {
		return 0, fmt.Errorf("%w (in Body.WriteTo)", asyncio.ErrNotInTask)
	}
	if b.busy {
		return 0, fmt.Errorf("%w: the body", asyncio.ErrBusy)
	}
	b.busy = true
	defer b.leave()
	for {
		if err := b.some(t.GetContext(), false); err == io.EOF {
			return written, nil
		} else if err != nil {
			return written, err
		}
		p := b.have
		n, err := w.Write(p)
		written += int64(n)
		if !b.closed {
			b.have = p[n:]
		}
		if err == nil && n < len(p) {
			err = io.ErrShortWrite
		}
		if err != nil {
			return written, err
		}
	}
}

// shut closes the body.
func (b *Body) shut() {
	b.closed = true
	b.have = nil
	b.tell()
	b.recycle()
}

// recycle gives the buffer back once nobody uses it (body 3).
func (b *Body) recycle() {
	if b.closed && b.buf != nil && b.read == nil && !b.busy {
		bodyBuffers.Put(b.buf)
		b.buf = nil
	}
}

// tell wakes the waiting task, if there is one (body 2).
func (b *Body) tell() {
	if b.news != nil && !b.news.Done() {
		_ = b.news.SetResult(asyncio.None{}) // a loop that is closed has woken it
	}
}

// fill waits for the current read, or a new one, or until the body is closed. An error says that
// the wait was ended; the read goes on (http 4).
func (b *Body) fill(ctx context.Context) (err error) {
	if b.read == nil {
		b.begin()
	}
	if !b.read.future.Done() {
		b.news = asyncio.CreateFuture[asyncio.None](b.loop)
		_, err = b.news.Await(ctx)
	}
	if !b.closed && b.read.take(b) {
		b.read = nil
	}
	return err
}

// A bodyRead is a read under way.
type bodyRead struct {
	future *asyncio.Future[asyncio.None]
	idle   chan struct{} // closed when the read is over
	n      int           // belongs to the goroutine until then
	err    error
}

func (b *Body) begin() {
	if b.buf == nil {
		b.buf = bodyBuffers.Get().(*[bodyBuffer]byte)
	}
	p := b.buf[:]
	r := &bodyRead{idle: make(chan struct{})}
	r.future = asyncio.RunInExecutor(b.loop, telling{r.idle}, func() (asyncio.None, error) {
		r.n, r.err = b.src.Read(p)
		return asyncio.None{}, nil
	})
	r.future.AddDoneCallback(func(*asyncio.Future[asyncio.None]) { b.tell() })
	b.read = r
}

// take takes the result of the read, if it is over.
func (r *bodyRead) take(b *Body) bool {
	if !r.future.Done() {
		return false
	}
	if b.err = r.future.Exception(); b.err != nil { // the read panicked
		return true
	}
	b.have, b.err = b.buf[:r.n], r.err
	if r.err != nil && b.end != nil {
		b.end()
	}
	return true
}

// Close ends the body; a task that waits in a method, or returns to one, gets [net.ErrClosed].
// Close does not suspend. A response's body must be closed.
func (b *Body) Close() error {
	if b.closed {
		return nil
	}
	b.shut()
	if b.release != nil {
		b.release()
	}
	return nil
}

// NewBody makes a request body for [Do], or for any other use by goroutines, from a reader that
// belongs to the loop: an asyncio.StreamReader, a pipe that a task fills. Each read of the
// transport runs as a task of the loop of ctx that reads r. Do takes a [Body] without NewBody. Any
// goroutine may call NewBody. The methods of the result are for goroutines: they block, and fail
// when ctx ends.
func NewBody(ctx context.Context, l *asyncio.EventLoop, r io.Reader) io.ReadCloser {
	return &outsideBody{asyncio.Outside(ctx), l, r}
}

type outsideBody struct {
	ctx  context.Context
	loop *asyncio.EventLoop
	r    io.Reader
}

func (b *outsideBody) Read(p []byte) (int, error) {
	return asyncio.Call(b.ctx, b.loop, func(context.Context) (int, error) { return b.r.Read(p) })
}

func (b *outsideBody) Close() error {
	c, ok := b.r.(io.Closer)
	if !ok {
		return nil
	}
	_, err := b.loop.CallSoonThreadsafe(func() { _ = c.Close() })
	return err
}
