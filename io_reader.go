package asyncio

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"iter"
	"slices"

	"github.com/goasyncio/asyncio/internal/driver"
)

// A StreamReader reads from a connection, or returns the data that it is fed. Its methods are for
// the loop only. Those with a ctx must be called in a task, and suspend it only if the buffered
// data does not suffice; the others do not suspend. One task may read at a time; a second gets
// [ErrBusy]. A cancel, or the end of ctx, loses nothing: bytes that have arrived stay for the next
// call. Errors are those of the connection (see [Conn]), the one given to SetException, and those
// that the methods name. Python: asyncio.StreamReader.
type StreamReader struct {
	loop  *EventLoop
	conn  StreamConn // nil if it is fed
	limit int

	buf      []byte // bytes that have arrived
	taken    int    // how many of buf were read
	room     int    // for the next read (stream 5)
	borrowed bool   // buf is the loop's shared buffer (stream 4)
	eof      bool
	err      error // from SetException

	late    bool  // a method that reads the connection began after its deadline (conn 2)
	reading *task // the task that is suspended in a method
	h       half  // where that task waits, if the reader is fed
}

// NewStreamReader returns a reader for data that does not come from a connection: it is fed with
// FeedData and FeedEOF. It is for the loop only and does not suspend. It panics with
// [ErrNoRunningLoop].
func NewStreamReader(ctx context.Context, opts ...StreamOption) *StreamReader {
	l := mustLoop(ctx, "NewStreamReader")
	r := &StreamReader{loop: l, limit: streamOptions(opts).limit}
	r.h = half{loop: l, verb: "read from a stream that is fed"}
	return r
}

// An IncompleteReadError says that the stream ended before the requested bytes had come. It matches
// [io.ErrUnexpectedEOF] or, if nothing had come, [io.EOF]. Python: IncompleteReadError.
type IncompleteReadError struct {
	Partial  []byte // the bytes that had come
	Expected int    // the number of bytes asked for, -1 for a separator
}

func (e *IncompleteReadError) Error() string {
	if e.Expected < 0 {
		return fmt.Sprintf("asyncio: end of stream after %d bytes, before the separator", len(e.Partial))
	}
	return fmt.Sprintf("asyncio: end of stream after %d of %d bytes", len(e.Partial), e.Expected)
}

// Is makes e match the error that package io would return.
func (e *IncompleteReadError) Is(target error) bool {
	return target == io.EOF && len(e.Partial) == 0 || target == io.ErrUnexpectedEOF && len(e.Partial) > 0
}

// A LimitOverrunError says that there is no separator within the limit. The data stays in the
// reader; Read and ReadExactly, which have no limit, can still return it. Python:
// LimitOverrunError.
type LimitOverrunError struct {
	Found bool // there is a separator, beyond the limit
	// the number of bytes before the separator, or that are certainly not part of one
	Consumed int
}

func (e *LimitOverrunError) Error() string {
	if e.Found {
		return fmt.Sprintf("asyncio: the separator comes after %d bytes, beyond the limit", e.Consumed)
	}
	return fmt.Sprintf("asyncio: no separator in %d bytes, the limit is reached", e.Consumed)
}

// FeedData appends p to the stream. It is for readers made by [NewStreamReader]. It panics with
// [ErrInvalidState] after FeedEOF, and on any other reader.
func (r *StreamReader) FeedData(p []byte) {
	r.mustBeFed("FeedData")
	if r.eof {
		panic(fmt.Errorf("%w: FeedData after FeedEOF", ErrInvalidState))
	}
	if len(p) > 0 {
		r.compact()
		r.buf = append(r.buf, p...)
		r.h.wake()
	}
}

// FeedEOF ends the stream: nothing more will come. It is for readers made by [NewStreamReader]; on
// any other it panics with [ErrInvalidState].
func (r *StreamReader) FeedEOF() {
	r.mustBeFed("FeedEOF")
	r.eof = true
	r.h.wake()
}

// SetException makes every read fail with err; if the reader is fed, also a read that waits
// already.
func (r *StreamReader) SetException(err error) {
	r.loop.mustBeOwner("SetException")
	r.err = err
	r.h.wake()
}

// Exception returns the error that SetException was given.
func (r *StreamReader) Exception() error { return r.err }

func (r *StreamReader) mustBeFed(caller string) {
	r.loop.mustBeOwner(caller)
	if r.conn != nil {
		panic(fmt.Errorf("%w: the reader has a connection (in %s)", ErrInvalidState, caller))
	}
}

// AtEOF reports whether a read has reached the end of the stream and nothing is left to return.
func (r *StreamReader) AtEOF() bool { return r.eof && len(r.unread()) == 0 }

// Buffered returns how many bytes have arrived and were not read.
func (r *StreamReader) Buffered() int { return len(r.unread()) }

// String returns Python's repr: <StreamReader 4 bytes eof limit=3>.
func (r *StreamReader) String() string {
	var b bytes.Buffer
	b.WriteString("<StreamReader")
	if n := len(r.unread()); n > 0 {
		fmt.Fprintf(&b, " %d bytes", n)
	}
	if r.eof {
		b.WriteString(" eof")
	}
	if r.limit != DefaultStreamLimit {
		fmt.Fprintf(&b, " limit=%d", r.limit)
	}
	if r.reading != nil {
		fmt.Fprintf(&b, " waiter=%s", r.reading.GetName())
	}
	if r.err != nil {
		fmt.Fprintf(&b, " exception=%v", r.err)
	}
	b.WriteByte('>')
	return b.String()
}

func (r *StreamReader) unread() []byte { return r.buf[r.taken:] }

// compact makes room by moving the unread bytes to the front.
func (r *StreamReader) compact() {
	switch {
	case r.taken == 0:
	case r.taken == len(r.buf) && cap(r.buf) > DefaultStreamLimit:
		r.buf, r.taken = nil, 0 // the memory of a burst is given back
	default:
		r.buf = r.buf[:copy(r.buf, r.buf[r.taken:])]
		r.taken = 0
	}
}

// take removes the first n bytes and returns them. It hands out the buffer itself, without a copy,
// if that is well filled and n is all of it.
func (r *StreamReader) take(n int) []byte {
	if r.taken == 0 && n == len(r.buf) && wellFilled(n, cap(r.buf)) {
		r.keep()
		p := r.buf[:n:n]
		r.buf = nil
		return p
	}
	p := make([]byte, n)
	copy(p, r.buf[r.taken:])
	r.taken += n
	return p
}

// wellFilled reports whether n bytes may hold on to memory of size bytes.
func wellFilled(n, size int) bool { return n <= size && 4*n >= 3*size }

// readBuffer is the buffer that all StreamReaders of a loop read into (stream 4).
type readBuffer []byte

var loopReads = newPart[readBuffer]()

func (b *readBuffer) buffer() []byte {
	if *b == nil {
		*b = make([]byte, maxRoom)
	}
	return *b
}

// keep makes the loop's buffer the reader's, if the reader uses it. The loop gets another one.
func (r *StreamReader) keep() {
	if r.borrowed {
		*loopReads.of(r.loop), r.borrowed = nil, false
	}
}

// begin starts every method that reads.
func (r *StreamReader) begin(ctx context.Context, caller string) (*task, error) {
	t, err := r.loop.enterOn(ctx, caller)
	if err != nil {
		return nil, err
	}
	if r.reading != nil {
		return nil, fmt.Errorf("%w: %s reads (in %s)", ErrBusy, r.reading.GetName(), caller)
	}
	r.late = r.conn != nil && r.conn.tooLate()
	return t, r.err
}

// more suspends t until more bytes have come, or the end. n is the length of the message if it is
// known, else 0.
func (r *StreamReader) more(ctx context.Context, t *task, n int) error {
	r.reading = t
	defer r.endRead()
	c, ok := r.conn.(*Conn)
	if !ok {
		return r.moreOf(ctx, t, n)
	}
	if len(r.unread()) > 0 { // else t has not suspended since begin looked at ctx
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		r.makeRoom(n) // beginRead may suspend (stream 4)
	}
	if err := c.beginRead(t, r.late); err != nil {
		return err
	}
	for {
		if err := r.readNow(c, n); err != driver.ErrAgain {
			return err
		}
		if err := c.ways.rd.wait(ctx, t); err != nil {
			return c.refused("read", err)
		}
	}
}

// moreOf is more for a reader that is fed or has TLS.
func (r *StreamReader) moreOf(ctx context.Context, t *task, n int) error {
	if r.conn != nil {
		free := r.makeRoom(n)
		got, err := r.receive(ctx, t, free)
		return r.arrived(free, got, err)
	}
	// FeedData may have moved the unread bytes to the front, so their number is compared
	for had := len(r.unread()); len(r.unread()) == had && !r.eof && r.err == nil; {
		if err := r.h.wait(ctx, t); err != nil {
			return err
		}
	}
	return r.err
}

// readNow reads what has come. It returns driver.ErrAgain if the read has to wait. It is a function
// of its own so that its frame is gone while a task waits (stack 9).
//
//go:noinline
func (r *StreamReader) readNow(c *Conn, n int) error {
	if len(r.unread()) > 0 {
		free := r.makeRoom(n)
		got, err := c.tryRead(free)
		return r.arrived(free, got, err)
	}
	free := loopReads.of(r.loop).buffer()
	got, err := c.tryRead(free)
	r.buf, r.taken, r.borrowed = nil, 0, got > 0
	if r.borrowed {
		r.buf = free[:got]
	}
	if got >= largeRoom {
		r.room = maxRoom
	}
	return r.ended(err)
}

// arrived takes in the bytes of a read into free, the room that makeRoom returned.
func (r *StreamReader) arrived(free []byte, got int, err error) error {
	r.buf = r.buf[:len(r.buf)+got]
	switch {
	case err == driver.ErrAgain: // nothing is known about the next read
	case got == len(free):
		r.room = max(r.room, min(2*got, maxRoom))
	case got < r.room/4:
		r.room /= 2
	}
	return r.ended(err)
}

// ended notes the end of the stream, which is not an error.
func (r *StreamReader) ended(err error) error {
	switch err {
	case nil:
		return r.err
	case io.EOF:
		r.eof = true
		return nil
	}
	return err
}

func (r *StreamReader) endRead() { r.reading = nil }

// settle ends every method that may use the loop's buffer.
func (r *StreamReader) settle() {
	if r.borrowed {
		r.own(0)
	}
}

// own makes the bytes that the reader holds its own, with room for that many more. It moves them
// into a new buffer, unless they and the room fill the loop's well.
func (r *StreamReader) own(room int) {
	rest := r.unread()
	if r.borrowed && r.taken == 0 && wellFilled(len(rest)+room, cap(r.buf)) {
		r.keep()
		return
	}
	r.buf, r.taken, r.borrowed = nil, 0, false
	if len(rest) > 0 {
		r.buf = append(make([]byte, 0, len(rest)+room), rest...)
	}
}

const ( // the sizes of buffers (stream 5)
	minRead = 4 << 10
	maxRead = 256 << 10          // limits the growth of a buffer
	maxRoom = DefaultStreamLimit // for a reader that is empty
	// a read this long announces more; messages from this on are long (stream 6)
	largeRoom = 16 << 10
)

// makeRoom returns room for the next read in r's own buffer. n is as for more.
func (r *StreamReader) makeRoom(n int) []byte {
	if have := len(r.unread()); n >= largeRoom && have > 0 {
		if r.borrowed || r.taken > 0 || len(r.buf) == cap(r.buf) {
			r.own(min(n-have, max(have, maxRoom)))
		}
		return r.buf[len(r.buf):min(n, cap(r.buf))]
	}
	want := max(minRead, r.room)
	if r.borrowed {
		r.own(max(want, min(len(r.buf), maxRead)))
	}
	r.compact()
	if len(r.buf) == 0 && cap(r.buf) < want {
		r.buf = make([]byte, 0, want)
	} else if cap(r.buf)-len(r.buf) < want {
		r.buf = slices.Grow(r.buf, max(want, min(len(r.buf), maxRead)))
	}
	return r.buf[len(r.buf):cap(r.buf)]
}

// receive reads from the connection.
func (r *StreamReader) receive(ctx context.Context, t *task, p []byte) (int, error) {
	if ctx.Err() != nil {
		return 0, context.Cause(ctx)
	}
	return r.conn.readOn(ctx, t, p, r.late)
}

// Read returns up to n bytes, at least one: those that have arrived, or else those that come next.
// At the end of the stream it returns io.EOF. If n is negative, Read returns everything up to the
// end of the stream, and the end is not an error. The limit does not apply.
func (r *StreamReader) Read(ctx context.Context, n int) ([]byte, error) {
	t, err := r.begin(ctx, "StreamReader.Read")
	if err != nil || n == 0 {
		return nil, err
	}
	defer r.settle()
	if n < 0 {
		for !r.eof {
			if err := r.more(ctx, t, 0); err != nil {
				return nil, err
			}
		}
		return r.take(len(r.unread())), nil
	}
	if err := r.some(ctx, t); err != nil {
		return nil, err
	}
	return r.take(min(n, len(r.unread()))), nil
}

// some waits until there is something to return.
func (r *StreamReader) some(ctx context.Context, t *task) error {
	for len(r.unread()) == 0 {
		if r.eof {
			return io.EOF
		}
		if err := r.more(ctx, t, 0); err != nil {
			return err
		}
	}
	return nil
}

// ReadInto is Read into p. It does not allocate, and if the reader holds nothing, bytes go straight
// to p. It is the fast way for long messages, because allocating memory for each costs more than
// receiving it. To fill p, use io.ReadFull of [StreamReader.Reader].
func (r *StreamReader) ReadInto(ctx context.Context, p []byte) (int, error) {
	t, err := r.begin(ctx, "StreamReader.ReadInto")
	if err != nil || len(p) == 0 {
		return 0, err
	}
	if r.conn != nil && len(r.unread()) == 0 && !r.eof {
		r.reading = t
		defer r.endRead()
		n, err := r.receive(ctx, t, p)
		r.eof = r.eof || err == io.EOF
		return n, err
	}
	if err := r.some(ctx, t); err != nil {
		return 0, err
	}
	n := copy(p, r.unread())
	r.taken += n
	return n, nil
}

// ReadExactly returns n bytes. If the stream ends before, the error is an [*IncompleteReadError]
// with the bytes that came. The limit does not apply.
func (r *StreamReader) ReadExactly(ctx context.Context, n int) ([]byte, error) {
	if n < 0 {
		return nil, fmt.Errorf("%w: %d bytes (in ReadExactly)", ErrInvalidArgument, n)
	}
	t, err := r.begin(ctx, "StreamReader.ReadExactly")
	if err != nil {
		return nil, err
	}
	defer r.settle()
	for len(r.unread()) < n {
		if r.eof {
			return nil, &IncompleteReadError{Partial: r.take(len(r.unread())), Expected: n}
		}
		if err := r.more(ctx, t, n); err != nil {
			return nil, err
		}
	}
	return r.take(n), nil
}

// ReadUntil returns everything up to and including one of the separators. If several are found, the
// result ends with the one that ends first.
//
//   - If the result, without the separator, is longer than the limit, or certainly will be, the
//     error is a [*LimitOverrunError], and the data stays.
//   - If the stream ends before a separator, the error is an [*IncompleteReadError] with the bytes
//     that came.
func (r *StreamReader) ReadUntil(ctx context.Context, separators ...[]byte) ([]byte, error) {
	shortest, longest := 0, 0
	for i, sep := range separators {
		if i == 0 || len(sep) < shortest {
			shortest = len(sep)
		}
		longest = max(longest, len(sep))
	}
	if shortest == 0 {
		return nil, fmt.Errorf("%w: no separator, or an empty one (in ReadUntil)", ErrInvalidArgument)
	}
	t, err := r.begin(ctx, "StreamReader.ReadUntil")
	if err != nil {
		return nil, err
	}
	defer r.settle()
	clean := 0 // no separator begins in the first clean bytes
	for {
		if buf := r.unread(); len(buf)-clean >= shortest {
			at, end := -1, 0
			for _, sep := range separators {
				i := bytes.Index(buf[clean:], sep)
				if i < 0 {
					continue
				}
				if e := clean + i + len(sep); at < 0 || e < end || e == end && clean+i > at {
					at, end = clean+i, e
				}
			}
			if at > r.limit {
				return nil, &LimitOverrunError{Found: true, Consumed: at}
			}
			if at >= 0 {
				return r.take(end), nil
			}
			clean = max(0, len(buf)+1-longest)
			if clean > r.limit {
				return nil, &LimitOverrunError{Consumed: clean}
			}
		}
		if r.eof {
			return nil, &IncompleteReadError{Partial: r.take(len(r.unread())), Expected: -1}
		}
		if err := r.more(ctx, t, 0); err != nil {
			return nil, err
		}
	}
}

var newline = []byte{'\n'}

// ReadLine returns the next line with its '\n'. The last line may have none; after it the error is
// [io.EOF]. A line longer than the limit is a [*LimitOverrunError], and the data stays: the next
// ReadLine fails in the same way.
func (r *StreamReader) ReadLine(ctx context.Context) ([]byte, error) {
	line, err := r.ReadUntil(ctx, newline)
	if e, ok := err.(*IncompleteReadError); ok {
		if len(e.Partial) == 0 {
			return nil, io.EOF
		}
		return e.Partial, nil
	}
	return line, err
}

// Lines returns an iterator for a range loop over the lines up to the end of the stream. An error
// is the last thing that it yields. Python: async for line in reader.
func (r *StreamReader) Lines(ctx context.Context) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		for {
			line, err := r.ReadLine(ctx)
			if err == io.EOF || !yield(line, err) || err != nil {
				return
			}
		}
	}
}

// Reader returns the stream as an [io.Reader] whose reads suspend with ctx.
func (r *StreamReader) Reader(ctx context.Context) io.Reader { return boundReader{r, ctx} }

type boundReader struct {
	r   *StreamReader
	ctx context.Context
}

func (b boundReader) Read(p []byte) (int, error) { return b.r.ReadInto(b.ctx, p) }
