package asynciohttp

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime/debug"
	"sync"
	"time"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/asynciohttp/internal/handling"
)

// Handler returns a handler for net/http that runs each request as a task of l, named by its method
// and path, in which h serves it (http 1-8 above). Everything in h works as on a goroutine, but may
// suspend: the body's Read, the writer's Write and Flush, and every await with the request's
// Context. Other blocking calls stop the loop; they belong in asyncio.ToThread. Middleware that
// starts goroutines, as [http.TimeoutHandler] does, goes around Handler, not into it. Copying an
// [*os.File] to the response, as [http.FileServer] does, does not stop the loop while the file is
// read.
//
// Any goroutine may call Handler and the returned handler; ServeHTTP blocks its goroutine until the
// task has ended. Handler panics with [asyncio.ErrInvalidArgument] if l or h is nil.
func Handler(l *asyncio.EventLoop, h http.Handler) http.Handler {
	if l == nil || h == nil {
		panic(fmt.Errorf("%w: nil loop or handler (in asynciohttp.Handler)", asyncio.ErrInvalidArgument))
	}
	return &bridge{func() *asyncio.EventLoop { return l }, h}
}

// GroupHandler is [Handler] for several loops, which get the requests in turn. Any goroutine may
// call it; it does not block.
func GroupHandler(g *asyncio.LoopGroup, h http.Handler) http.Handler {
	if g == nil || h == nil {
		panic(fmt.Errorf("%w: nil group or handler (in asynciohttp.GroupHandler)", asyncio.ErrInvalidArgument))
	}
	return &bridge{g.Next, h}
}

// A HandlerFunc is a handler that returns an error. It must be called below a [Server], [Handler]
// or [GroupHandler], or by Serve of an asynciohttptest.ResponseRecorder: in a task, whose ctx it
// gets. A returned cancel cancels the task. Any other error goes to the loop's exception handler,
// and the client gets 500 if nothing has been sent, otherwise an aborted connection or stream.
type HandlerFunc func(ctx context.Context, w http.ResponseWriter, r *http.Request) error

// ServeHTTP implements [http.Handler]. It must be called in a task, and suspends it where f does.
func (f HandlerFunc) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	e, _ := r.Context().Value(exchangeKey{}).(handling.Response)
	if e == nil {
		panic("asynciohttp: a HandlerFunc was called outside of a task: serve it by an asynciohttp.Server, or put asynciohttp.Handler around it for net/http's; " +
			"in a test, give it to Serve of an asynciohttptest.ResponseRecorder")
	}
	if err := f(r.Context(), w, r); err != nil {
		e.FailWith(err)
	}
}

// FailWith notes the first error of a [HandlerFunc].
func (e *exchange) FailWith(err error) {
	if e.failure == nil {
		e.failure = err
	}
}

type exchangeKey = handling.Key

type bridge struct {
	loop    func() *asyncio.EventLoop
	handler http.Handler
}

// An exchange is a request with its response. While the task lives all of it belongs to the loop,
// except for the operation under way.
type exchange struct {
	w   http.ResponseWriter
	rc  *http.ResponseController
	r   *http.Request // as given to the task
	ctx context.Context
	// blocking work for the goroutine that serves the request, one at a time (http 2)
	jobs chan func()

	status    int        // 0 before WriteHeader
	buf       []byte     // written, and not yet handed over
	sent      []byte     // handed over to the operation under way
	spare     []byte     // a chunk to write into next, nil if there is none
	op        *operation // the operation under way, nil if none
	busy      bool
	err       error         // the error of an operation
	over      bool          // the task has ended
	late      bool          // WriteHeader must still be passed on
	reading   chan struct{} // closed when the read under way at the end of the task is over
	hijack    *hijacked     // the requested hijack; belongs to the goroutine until that is over
	hijacked  bool          // the connection was given to the task
	panicked  any
	stack     []byte
	failure   error
	cancelled bool
}

// clientGone is the message of the cancel in a request's context (http 5).
const clientGone = "the client has gone"

func (b *bridge) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	l := b.loop()
	outer := r.Context()
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(outer))
	defer cancel(nil)
	defer context.AfterFunc(outer, func() {
		why := context.Cause(outer)
		if why == context.Canceled {
			why = &asyncio.CancelledError{Msg: clientGone}
		}
		cancel(why)
	})()
	e := &exchange{w: w, rc: http.NewResponseController(w), jobs: make(chan func(), 1)}
	var body *Body
	c := asyncio.StartCall(ctx, l, func(ctx context.Context) (asyncio.None, error) {
		e.ctx = context.WithValue(ctx, exchangeKey{}, e)
		e.r = r.WithContext(e.ctx)
		if r.Body != nil && r.Body != http.NoBody {
			body = &Body{loop: ctx, src: r.Body, end: func() { e.r.Trailer = r.Trailer }}
			e.r.Body = body
		}
		return asyncio.None{}, e.run(b.handler, body)
	}, asyncio.TaskName(r.Method+" "+r.URL.Path))
	for waiting := true; waiting; {
		select {
		case job := <-e.jobs:
			job()
		case <-c.Finished():
			waiting = false
		}
	}
	select {
	case job := <-e.jobs: // from a task that did not wait for it
		job()
	default:
	}
	e.finish(c, r)
}

// run serves the request in its one task (http 1).
func (e *exchange) run(h http.Handler, body *Body) error {
	defer func() {
		e.settle()
		e.over = true
		if body != nil {
			if body.read != nil {
				e.reading = body.read.idle
			}
			body.shut()
		}
		if v := recover(); v != nil { // net/http handles the panic (http 6)
			e.panicked, e.stack = v, debug.Stack()
		}
	}()
	h.ServeHTTP(e, e.r)
	e.cancelled = asyncio.CurrentTask(e.ctx).Cancelling() > 0
	err := e.failure
	if err == nil || errors.Is(err, asyncio.ErrCancelled) {
		return err
	}
	if e.ctx.Err() == nil {
		if l, e2 := asyncio.GetRunningLoop(e.ctx); e2 == nil {
			l.CallExceptionHandler(asyncio.ExceptionContext{Message: "Unhandled exception in HTTP handler", Exception: err, Task: asyncio.CurrentTask(e.ctx)})
		}
	}
	return nil
}

// finish does the goroutine's remaining work when the task has ended.
func (e *exchange) finish(c *asyncio.ConcurrentFuture[asyncio.None], r *http.Request) {
	if e.r != nil {
		r.Pattern = e.r.Pattern
		if r.MultipartForm == nil {
			r.MultipartForm = e.r.MultipartForm // net/http removes its files
		}
	}
	if e.reading != nil {
		select {
		case <-e.reading:
		default: // break off the read under way (http 8)
			_ = e.rc.SetReadDeadline(time.Unix(1, 0))
			<-e.reading
		}
	}
	if h := e.hijack; h != nil && h.c != nil {
		if !e.hijacked { // the task did not wait for it
			h.c.Close()
		}
		return
	}
	e.passHeader()
	_, err := c.Result(context.Background())
	switch p := (*asyncio.PanicError)(nil); {
	case e.panicked == http.ErrAbortHandler:
		panic(http.ErrAbortHandler)
	case e.panicked != nil:
		panic(taskPanic{asyncio.PanicError{Value: e.panicked, Stack: e.stack}})
	case errors.As(err, &p): // a panic in something that the loop did for the task (http 6)
		panic(p)
	case err != nil || e.cancelled: // the response is unfinished (http 7)
		e.fail(http.StatusServiceUnavailable)
	case e.failure != nil:
		e.fail(http.StatusInternalServerError)
	case len(e.buf) > 0:
		if _, err := e.w.Write(e.buf); err == nil {
			recycle(e.buf)
		}
	}
	recycle(e.spare)
}

// taskPanic is a panic that also prints the stack of its task: net/http prints the stack of another
// goroutine.
type taskPanic struct{ asyncio.PanicError }

func (p taskPanic) Error() string { return fmt.Sprintf("%v\n%s", p.Value, p.Stack) }

// fail answers with status. If another status was sent already, it can only abort.
func (e *exchange) fail(status int) {
	if e.status != 0 {
		panic(http.ErrAbortHandler)
	}
	http.Error(e.w, http.StatusText(status), status)
}

var errOver = fmt.Errorf("asynciohttp: the request is over: %w", net.ErrClosed)

// Header implements [http.ResponseWriter].
func (e *exchange) Header() http.Header { return e.w.Header() }

// WriteHeader waits only with an informational status, which is sent at once.
func (e *exchange) WriteHeader(status int) {
	if e.over || e.status != 0 {
		return
	}
	if status >= 100 && status < 200 && status != http.StatusSwitchingProtocols {
		_ = e.do(func() func() error {
			return func() error { e.w.WriteHeader(status); return nil }
		})
		return
	}
	e.status, e.late = status, true
	if e.settle() {
		e.passHeader() // now, because it takes the header as it stands
	}
}

// passHeader passes WriteHeader on. No operation may be under way.
func (e *exchange) passHeader() {
	if e.late {
		e.late = false
		e.w.WriteHeader(e.status)
	}
}

const (
	collect  = 4 << 10  // how much is collected before a hand-over (http 3)
	maxChunk = 64 << 10 // the most that is under way
)

// chunks holds unused buffers. A buffer whose write has failed is not put back: with HTTP/2 the
// write may still be under way.
var chunks = sync.Pool{New: func() any { return new([maxChunk]byte) }}

func recycle(p []byte) {
	if cap(p) == maxChunk {
		chunks.Put((*[maxChunk]byte)(p[:maxChunk]))
	}
}

// chunk makes room for more than the collected bytes.
func (e *exchange) chunk() {
	if cap(e.buf) == maxChunk {
		return
	}
	p := e.spare
	if e.spare = nil; p == nil {
		p = chunks.Get().(*[maxChunk]byte)[:0]
	}
	e.buf = append(p[:0], e.buf...)
}

// handOver returns the written bytes, for an operation to send.
func (e *exchange) handOver() []byte {
	e.sent, e.buf = e.buf, nil
	return e.sent
}

// Write implements [http.ResponseWriter]. It suspends the task while earlier bytes are on their
// way.
func (e *exchange) Write(p []byte) (int, error) { return write(e, p) }

// WriteString implements [io.StringWriter].
func (e *exchange) WriteString(s string) (int, error) { return write(e, s) }

func write[B []byte | string](e *exchange, p B) (n int, err error) {
	if err := e.usable(); err != nil {
		return 0, err
	}
	if e.status == 0 {
		e.WriteHeader(http.StatusOK)
	}
	if !bodyAllowed(e.status) {
		return 0, http.ErrBodyNotAllowed
	}
	for {
		if len(e.buf)+len(p) <= collect {
			e.buf = append(e.buf, p...)
			return n + len(p), nil
		}
		e.chunk()
		k := min(len(p), maxChunk-len(e.buf))
		e.buf = append(e.buf, p[:k]...)
		n += k
		p = p[k:]
		if err := e.flush(false); err != nil {
			return n, err
		}
		if e.over {
			return n, errOver
		}
	}
}

func (e *exchange) usable() error {
	switch {
	case e.over:
		return errOver
	case e.busy:
		return fmt.Errorf("%w: the response", asyncio.ErrBusy)
	case e.hijacked:
		return http.ErrHijacked
	}
	return e.err
}

// Flush implements [http.Flusher].
func (e *exchange) Flush() { _ = e.FlushError() }

// FlushError sends the written bytes and suspends the task until that is done. A cancel ends the
// wait.
func (e *exchange) FlushError() error {
	if err := e.usable(); err != nil {
		return err
	}
	if e.status == 0 {
		e.WriteHeader(http.StatusOK)
	}
	return e.flush(true)
}

// flush hands the written bytes over. If the wait ends with an error, they are still sent (http 4).
func (e *exchange) flush(through bool) error {
	return e.do(func() func() error {
		p := e.handOver()
		return func() error { return e.send(p, through) }
	})
}

// send writes p, on the goroutine that serves the request.
func (e *exchange) send(p []byte, through bool) error {
	if len(p) > 0 {
		if _, err := e.w.Write(p); err != nil {
			return err
		}
	}
	if through {
		return e.rc.Flush()
	}
	return nil
}

// do runs the job that begin returns on the goroutine that serves the request, and suspends the
// calling task until it has run. If an operation is under way that its task did not wait for, do
// first waits for that, and then calls begin.
func (e *exchange) do(begin func() (job func() error)) error {
	if err := e.usable(); err != nil {
		return err
	}
	t := asyncio.CurrentTask(e.ctx)
	if t == nil {
		return fmt.Errorf("%w (in a ResponseWriter)", asyncio.ErrNotInTask)
	}
	e.busy = true
	defer func() { e.busy = false }()
	if e.op != nil {
		if err := e.await(t.GetContext()); err != nil {
			return err
		}
	}
	switch {
	case e.over: // over meanwhile: the caller is a task that the request's task has left behind
		return errOver
	case e.err != nil:
		return e.err
	}
	e.passHeader()
	job := begin()
	op := new(operation)
	op.future = asyncio.RunInExecutor(e.ctx, serving(e.jobs), func() (asyncio.None, error) {
		op.err = job()
		return asyncio.None{}, nil
	})
	e.op = op
	if err := e.await(t.GetContext()); err != nil {
		return err
	}
	return e.err
}

// An operation is a job that the goroutine does for the task.
type operation struct {
	future *asyncio.Future[asyncio.None]
	err    error // belongs to the goroutine until it is done
}

// await waits for the operation under way and records its result. An error says that the wait was
// ended.
func (e *exchange) await(ctx context.Context) error {
	_, err := asyncio.Shield(ctx, e.op.future).Await(ctx)
	if e.settle() && err != nil && err == e.err { // the job panicked
		return nil
	}
	return err
}

// settle records the result of an operation, and reports whether none is under way any more.
func (e *exchange) settle() bool {
	if e.op == nil || !e.op.future.Done() {
		return e.op == nil
	}
	if e.err = e.op.future.Exception(); e.err == nil {
		e.err = e.op.err
	}
	if e.err == nil && !e.over && e.spare == nil && cap(e.sent) == maxChunk {
		e.spare = e.sent
	}
	e.op, e.sent = nil, nil
	return true
}

// serving is an executor that uses the goroutine of a request.
type serving chan func()

func (s serving) Submit(job func()) error { s <- job; return nil }
func (serving) Shutdown(bool)             {}

// ReadFrom implements [io.ReaderFrom]. The goroutine copies a file, as net/http does; the task
// copies anything else.
func (e *exchange) ReadFrom(src io.Reader) (n int64, err error) {
	file := src
	if l, ok := src.(*io.LimitedReader); ok {
		file = l.R
	}
	if _, ok := file.(*os.File); !ok {
		return io.Copy(struct{ io.Writer }{e}, src)
	}
	if err := e.usable(); err != nil {
		return 0, err
	}
	if e.status == 0 {
		e.WriteHeader(http.StatusOK)
	}
	copied := new(int64) // not n: the task may have left
	err = e.do(func() func() error {
		p := e.handOver()
		return func() (err error) {
			if err = e.send(p, false); err == nil {
				*copied, err = io.Copy(e.w, src)
			}
			return err
		}
	})
	if e.op == nil {
		n = *copied
	}
	return n, err
}

// SetReadDeadline, SetWriteDeadline and EnableFullDuplex are for [http.ResponseController].
func (e *exchange) SetReadDeadline(d time.Time) error {
	if e.over {
		return errOver
	}
	return e.rc.SetReadDeadline(d)
}

// SetWriteDeadline is SetReadDeadline for writing.
func (e *exchange) SetWriteDeadline(d time.Time) error {
	if e.over {
		return errOver
	}
	return e.rc.SetWriteDeadline(d)
}

// EnableFullDuplex suspends the task while an operation is under way.
func (e *exchange) EnableFullDuplex() error {
	return e.optional(e.do(func() func() error { return e.rc.EnableFullDuplex }))
}

// optional returns the error of an operation whose failure does not mean that the response has
// failed.
func (e *exchange) optional(err error) error {
	if err != nil && err == e.err {
		e.err = nil
	}
	return err
}

// Hijack implements [http.Hijacker]. The connection is for goroutines; asyncio.NewConn makes it one
// of the loop's.
func (e *exchange) Hijack() (c net.Conn, rw *bufio.ReadWriter, err error) {
	h := new(hijacked)
	err = e.optional(e.do(func() func() error {
		e.hijack = h
		return func() (err error) {
			h.c, h.rw, err = e.rc.Hijack()
			return err
		}
	}))
	if err != nil {
		return nil, nil, err
	}
	e.hijacked = true
	return h.c, h.rw, nil
}

type hijacked struct {
	c  net.Conn
	rw *bufio.ReadWriter
}

// Push implements [http.Pusher].
func (e *exchange) Push(target string, opts *http.PushOptions) error {
	if err := e.usable(); err != nil {
		return err
	}
	if p, ok := e.w.(http.Pusher); ok {
		return p.Push(target, opts)
	}
	return http.ErrNotSupported
}
