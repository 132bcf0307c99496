package asyncio

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"

	"github.com/goasyncio/asyncio/internal/driver"
)

// A StreamWriter writes to a connection. Its methods are for the loop only. Those with a ctx must
// be called in a task, which they suspend; the others do not suspend. Several tasks may write: they
// take turns. Errors are those of the connection (see [Conn]) and those that the methods name.
// Python: asyncio.StreamWriter.
type StreamWriter struct {
	loop   *EventLoop
	conn   StreamConn
	reader *StreamReader

	turn    Lock
	pending int   // tasks in a method, writing or waiting for their turn
	err     error // of the first write that failed
	ended   bool  // WriteEOF was called
	closing bool
	closed  Event // the connection is closed
}

// Write writes all of p. It suspends while earlier writes are under way and while the system
// accepts no more. So a task that writes faster than the peer reads is slowed down; there is no
// need to call Drain.
//
// If a cancel, or the end of ctx, comes while Write waits for its turn, nothing was written. If it
// comes later, or the connection fails, a part may have been sent; n says how much. Since the peer
// cannot tell, every later Write then fails with the same error. Write fails with [net.ErrClosed]
// once Close was called and with [ErrInvalidState] after WriteEOF.
//
// A cancelled task that still writes something waits here as any other does. Use
// [StreamWriter.WriteSoon], which does not wait, or limit the wait with [Cleanup].
func (w *StreamWriter) Write(ctx context.Context, p []byte) (n int, err error) {
	if c, ok := w.conn.(*Conn); ok && w.pending == 0 && !w.closing && !w.ended && w.err == nil {
		// Nobody else writes: a write that need not wait needs no turn (stream 2).
		if _, err := w.loop.enterOn(ctx, "StreamWriter.Write"); err != nil {
			return 0, err
		}
		n, err = c.writeNow(p)
		if err == nil && n == len(p) {
			return n, nil
		}
		if err != nil && err != driver.ErrAgain {
			w.err = c.failure("write", err)
			return n, w.err
		}
	}
	m, err := w.writeInTurn(ctx, p[n:], n > 0)
	return n + m, err
}

// writeInTurn writes all of p when its turn has come (stream 2). If begun is true, p is the rest of
// a write.
func (w *StreamWriter) writeInTurn(ctx context.Context, p []byte, begun bool) (n int, err error) {
	t, err := w.begin(ctx, "StreamWriter.Write")
	if err != nil {
		if begun && w.err == nil {
			w.err = err
		}
		return 0, err
	}
	defer w.end()
	if w.ended {
		return 0, fmt.Errorf("%w: Write after WriteEOF", ErrInvalidState)
	}
	if c, ok := w.conn.(*Conn); ok {
		n, err = c.write(ctx, t, p)
	} else {
		n, err = w.conn.WriteContext(ctx, p)
	}
	if err != nil && (begun || n > 0 || !passing(ctx, err)) {
		w.err = err
	}
	return n, err
}

// passing reports whether err says only that the call was refused or given up; such an error says
// nothing about the connection.
func passing(ctx context.Context, err error) bool {
	return isCancel(ctx, err) || errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, ErrBusy)
}

// isCancel reports whether err stands for a cancel or the end of ctx, and not for a failure of the
// connection.
func isCancel(ctx context.Context, err error) bool {
	return asCancelled(err) != nil || ctx.Err() != nil && same(bare(err), context.Cause(ctx))
}

// inTurn runs fn when the writes before it are done.
func (w *StreamWriter) inTurn(ctx context.Context, caller string, fn func() error) error {
	if _, err := w.begin(ctx, caller); err != nil {
		return err
	}
	defer w.end()
	return fn()
}

// begin starts a method that takes its turn among the writes; end ends it.
func (w *StreamWriter) begin(ctx context.Context, caller string) (*task, error) {
	t, err := w.loop.enterOn(ctx, caller)
	if err != nil {
		return nil, err
	}
	if w.closing {
		return nil, fmt.Errorf("asyncio: %w (in %s)", net.ErrClosed, caller)
	}
	w.pending++
	if w.pending == 1 {
		err = w.turn.acquire(ctx, t) // no write is before this one: acquire neither waits nor fails
	} else {
		err = w.waitForTurn(ctx, t)
	}
	if err != nil {
		return nil, err
	}
	if w.err != nil {
		w.end()
		return nil, w.err
	}
	return t, nil
}

func (w *StreamWriter) waitForTurn(ctx context.Context, t *task) error {
	acquired := false
	defer func() {
		if !acquired { // also when the loop closes
			w.leave()
		}
	}()
	err := w.turn.acquire(ctx, t)
	if err == nil && ctx.Err() != nil { // its turn has come too late
		w.turn.release()
		err = context.Cause(ctx)
	}
	acquired = err == nil
	return err
}

func (w *StreamWriter) end() {
	w.turn.release()
	w.leave()
}

// leave ends a method. After Close, the last method to end closes the connection (stream 3).
func (w *StreamWriter) leave() {
	w.pending--
	if w.pending == 0 && w.closing {
		w.shut(w.conn.Close)
	}
}

func (w *StreamWriter) shut(how func() error) {
	if w.loop.closing.Load() {
		return // the loop closes its connections itself, and nobody can wait any more
	}
	if !w.closed.IsSet() {
		if err := how(); w.err == nil {
			w.err = err
		}
		w.closed.Set()
	}
}

// WriteSoon is Write without waiting: p is written after the writes before it, by a task of the
// writer's own if that cannot be done at once. It is for callbacks, and for the last words of a
// cancelled task, which Write would keep for as long as another task's write waits for the peer.
// Use Write for many or large messages, because WriteSoon copies whatever must wait and keeps it in
// memory, without bound. Close, Drain and WaitClosed wait for p and return the error if it could
// not be written; the end of the run cancels it.
//
// It is for the loop only and does not suspend. It fails with the error of an earlier write,
// [net.ErrClosed] once Close was called, and [ErrInvalidState] after WriteEOF. Python: writer.write
// without drain.
func (w *StreamWriter) WriteSoon(p []byte) error {
	const caller = "StreamWriter.WriteSoon"
	switch err := w.loop.checkOwner(caller); {
	case err != nil:
		return err
	case w.closing:
		return fmt.Errorf("asyncio: %w (in %s)", net.ErrClosed, caller)
	case w.err != nil:
		return w.err
	case w.ended:
		return fmt.Errorf("%w: %s after WriteEOF", ErrInvalidState, caller)
	}
	n := 0
	if c, ok := w.conn.(*Conn); ok && w.pending == 0 {
		var err error
		if n, err = c.writeNow(p); err != nil && err != driver.ErrAgain {
			w.err = c.failure("write", err)
			return w.err
		}
	}
	if n == len(p) {
		return nil
	}
	rest := bytes.Clone(p[n:])
	// The task starts eagerly, so its turn is behind the writes before it and ahead of those after
	// it.
	t := CreateTask(context.WithoutCancel(w.loop.Context()), Do(func(ctx context.Context) error {
		_, err := w.writeInTurn(ctx, rest, n > 0)
		if err != nil && w.err == nil {
			w.err = err
		}
		if isCancel(ctx, err) {
			return err
		}
		return nil // the writer has the error, and nobody awaits the task
	}), EagerStart(true), TaskName(caller))
	t.own = true
	return nil
}

// WriteLines writes the concatenation of lines as [StreamWriter.Write] does. It adds no line ends.
func (w *StreamWriter) WriteLines(ctx context.Context, lines ...[]byte) (int, error) {
	return w.Write(ctx, bytes.Join(lines, nil))
}

// Drain suspends until all writes called before it are done. It returns the error of one that
// failed, or the error that the reader's SetException was given. Write already waits; call Drain
// only to wait for other tasks' writes.
func (w *StreamWriter) Drain(ctx context.Context) error {
	if w.reader != nil && w.reader.err != nil {
		return w.reader.err
	}
	return w.inTurn(ctx, "StreamWriter.Drain", func() error { return nil })
}

// WriteEOF ends this side's sending, after the writes before it. The peer reads its end and may go
// on sending. WriteEOF suspends while there are such writes.
func (w *StreamWriter) WriteEOF(ctx context.Context) error {
	return w.inTurn(ctx, "StreamWriter.WriteEOF", func() error {
		if w.ended {
			return nil
		}
		w.ended = true
		return w.conn.CloseWrite()
	})
}

// CanWriteEOF reports whether WriteEOF is possible: on every connection, also with TLS.
func (w *StreamWriter) CanWriteEOF() bool { return true }

// Close refuses further writes, suspends until those before it are done, and closes the connection.
// A nil error says that the system has accepted everything that was written; it delivers the data
// in the background. Otherwise Close returns the error of the first write that failed. More calls
// wait and return the same.
//
// A cancel, or the end of ctx, while Close waits aborts the connection; so does a ctx that had
// ended before. Then data still to be written is lost, and Close returns the error of the cancel.
// With no write under way Close does not suspend and cannot be cancelled.
func (w *StreamWriter) Close(ctx context.Context) error {
	if err := w.loop.checkForeign("StreamWriter.Close"); err != nil {
		return err
	}
	w.CloseSoon()
	if w.closed.IsSet() || w.loop.closing.Load() {
		return w.err
	}
	if err := w.closed.Wait(ctx); err != nil {
		w.Abort()
		return err
	}
	return w.err
}

// CloseSoon is Close without waiting: the connection is closed when the writes under way are done.
// It does not suspend. Python: writer.close.
func (w *StreamWriter) CloseSoon() {
	w.loop.mustNotBeForeign("StreamWriter.CloseSoon")
	if !w.closing {
		w.closing = true
		if w.pending == 0 {
			w.shut(w.conn.Close)
		}
	}
}

// Abort closes the connection at once; writes under way fail with [net.ErrClosed]. It does not
// suspend. Python: transport.abort.
func (w *StreamWriter) Abort() {
	w.loop.mustNotBeForeign("StreamWriter.Abort")
	w.closing = true
	w.shut(w.conn.Abort)
}

// IsClosing reports whether Close or Abort was called.
func (w *StreamWriter) IsClosing() bool { return w.closing }

// WaitClosed suspends until the connection is closed by any task's Close, CloseSoon or Abort, and
// returns the error of the first write that failed.
func (w *StreamWriter) WaitClosed(ctx context.Context) error {
	if err := w.closed.Wait(ctx); err != nil {
		return err
	}
	return w.err
}

// Conn returns the connection, a [*Conn] or a [*TLSConn], for its addresses and options. Python:
// get_extra_info.
func (w *StreamWriter) Conn() StreamConn { return w.conn }

// LocalAddr returns the address of this end.
func (w *StreamWriter) LocalAddr() net.Addr { return w.conn.LocalAddr() }

// RemoteAddr returns the address of the other end.
func (w *StreamWriter) RemoteAddr() net.Addr { return w.conn.RemoteAddr() }

// Writer returns the stream as an [io.Writer] whose writes suspend with ctx.
func (w *StreamWriter) Writer(ctx context.Context) io.Writer { return boundWriter{w, ctx} }

type boundWriter struct {
	w   *StreamWriter
	ctx context.Context
}

func (b boundWriter) Write(p []byte) (int, error) { return b.w.Write(b.ctx, p) }
