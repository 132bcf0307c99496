package asyncio

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"iter"
	"net"
	"os"
	"slices"
	"time"

	"github.com/goasyncio/asyncio/internal/driver"
)

// Streams put asyncio's names on top of connections. Python's transport reads ahead and calls the
// reader back. Here the reader reads when it is asked, and the writer writes when it is told, so
// the peer's own send buffer limits a fast peer:
//
//	stream 1: A reader holds no more than the bytes that a method needed to see and did not return.
//	   So nothing has to be paused and resumed.
//	stream 2: A write returns when the system has accepted all of it. Writes of several tasks do not
//	   mix; they take turns in the order of their calls. So does WriteSoon.
//	stream 3: Data written before Close was called is written before the connection closes. If that
//	   fails, Close returns the error, and so do Drain and WaitClosed from then on.
//	stream 4: A reader that holds nothing reads into a buffer that all readers of the loop share,
//	   and keeps the bytes that its method does not return. So an idle reader has no buffer, and
//	   bytes arrive where the processor's caches are warm. A reader owns the buffer only while its
//	   task has control: it makes the bytes its own before it may suspend. A method whose result
//	   fills the buffer well returns the buffer itself, and the loop makes another one for the next
//	   read. So a long message is not copied, and a result pins at most a third more memory than it
//	   has bytes.
//	stream 5: A reader that holds something, or has TLS, reads into a buffer of its own. The buffer
//	   has room for at least minRead bytes, for as many again as it holds, and for twice as many as
//	   the last read got if that read filled its room. So a message of any size comes in few reads,
//	   and memory grows with the bytes received, not with the length that a peer announces.
//	stream 6: A long message of a known length is read into the memory that is returned, which is
//	   allocated once the message has begun to arrive, or is the loop's buffer. Only bytes that
//	   arrived before the allocation are copied and, for a message of more than maxRoom bytes, in
//	   all no more than its length.

// DefaultStreamLimit is the limit, in bytes, of a [StreamReader] that was given none.
const DefaultStreamLimit = 64 << 10

// A StreamOption is an option of [OpenConnection], [StartServer] and related functions. Any
// goroutine may make one.
type StreamOption struct {
	limit     int
	tls       *tls.Config
	handshake time.Duration
	clients   int
	early     []byte // StartTLS: TLS bytes that have arrived already
}

// StreamLimit sets how many bytes ReadLine and ReadUntil may return, not counting the separator.
// The default is [DefaultStreamLimit]. The limit must be positive, or StreamLimit panics with
// [ErrInvalidArgument]; math.MaxInt means no limit. Python: the limit argument.
func StreamLimit(bytes int) StreamOption {
	if bytes <= 0 {
		panic(fmt.Errorf("%w: limit %d (in StreamLimit)", ErrInvalidArgument, bytes))
	}
	return StreamOption{limit: bytes}
}

// StreamTLS puts TLS on the connection before it is handed out. A server needs a configuration with
// a certificate. A client whose configuration names no server verifies the host that it connects
// to. StreamTLS panics with [ErrInvalidArgument] if config is nil, because nil must not mean a
// connection without TLS. Python: the ssl argument.
func StreamTLS(config *tls.Config) StreamOption {
	if config == nil {
		panic(fmt.Errorf("%w: nil configuration (in StreamTLS); a client that needs nothing special gives new(tls.Config)", ErrInvalidArgument))
	}
	return StreamOption{tls: config}
}

// TLSHandshakeTimeout limits the duration of a TLS handshake; the default is 60 seconds. A
// handshake that takes longer fails with a [*TimeoutError]. It is also an option of [TLSClient],
// [TLSServer] and [StreamWriter.StartTLS]. It panics with [ErrInvalidArgument] if d is not
// positive. Python: the ssl_handshake_timeout argument.
func TLSHandshakeTimeout(d time.Duration) StreamOption {
	if d <= 0 {
		panic(fmt.Errorf("%w: a handshake cannot take %v (in TLSHandshakeTimeout)", ErrInvalidArgument, d))
	}
	return StreamOption{handshake: d}
}

// MaxClients makes a server accept a connection only while fewer than n are open. The others wait
// in the system's queue.
//
// With [StreamTLS] a connection counts once its handshake is done. At most n or 100 connections,
// whichever is more, can be in a handshake. If another one comes, the server drops the connection
// whose handshake has lasted longest. So peers that connect and say nothing do not keep others out.
//
// A client ignores this option. It panics with [ErrInvalidArgument] if n is not positive.
func MaxClients(n int) StreamOption {
	if n <= 0 {
		panic(fmt.Errorf("%w: %d clients (in MaxClients)", ErrInvalidArgument, n))
	}
	return StreamOption{clients: n}
}

func streamOptions(opts []StreamOption) (o StreamOption) {
	o.limit = DefaultStreamLimit
	for _, s := range opts {
		if s.limit > 0 {
			o.limit = s.limit
		}
		if s.tls != nil {
			o.tls = s.tls
		}
		if s.handshake > 0 {
			o.handshake = s.handshake
		}
		if s.clients > 0 {
			o.clients = s.clients
		}
	}
	return o
}

// StreamConn is the connection under a pair of streams: a [*Conn] or a [*TLSConn], which document
// its methods.
type StreamConn interface {
	net.Conn
	ReadContext(ctx context.Context, p []byte) (int, error)
	WriteContext(ctx context.Context, p []byte) (int, error)
	CloseWrite() error
	Abort() error
	connLoop() *EventLoop
	tooLate() bool
	readOn(ctx context.Context, t *task, p []byte, late bool) (int, error)
}

func (c *Conn) connLoop() *EventLoop { return c.loop }

// OpenConnection connects to a TCP address ("host:port") and returns the streams to talk over it.
// It must be called in a task, which it suspends. A cancel, or the end of ctx, leaves nothing
// behind. Errors are those of [Dial] and, with [StreamTLS], of [TLSClient]. Python:
// asyncio.open_connection.
func OpenConnection(ctx context.Context, address string, opts ...StreamOption) (*StreamReader, *StreamWriter, error) {
	return openStreams(ctx, "tcp", address, opts)
}

// OpenUnixConnection is [OpenConnection] for a Unix socket. Python: asyncio.open_unix_connection.
func OpenUnixConnection(ctx context.Context, path string, opts ...StreamOption) (*StreamReader, *StreamWriter, error) {
	return openStreams(ctx, "unix", path, opts)
}

func openStreams(ctx context.Context, network, address string, opts []StreamOption) (*StreamReader, *StreamWriter, error) {
	c, err := Dial(ctx, network, address)
	if err != nil {
		return nil, nil, err
	}
	o := streamOptions(opts)
	config := o.tls
	if config == nil {
		r, w := NewStreams(c, opts...)
		return r, w, nil
	}
	if config.ServerName == "" && !config.InsecureSkipVerify {
		config = config.Clone()
		if host, _, err := net.SplitHostPort(address); err == nil {
			config.ServerName = host
		}
	}
	o.tls = config
	secure, err := startTLS(ctx, c, o, tls.Client, "OpenConnection")
	if err != nil {
		return nil, nil, err
	}
	r, w := NewStreams(secure, opts...)
	return r, w, nil
}

// NewStreams returns streams on c, which then belongs to the writer. It is for the loop only and
// does not suspend. It panics with [ErrInvalidArgument] if c is nil.
func NewStreams(c StreamConn, opts ...StreamOption) (*StreamReader, *StreamWriter) {
	if isNil(c) {
		panic(fmt.Errorf("%w: nil connection (in NewStreams)", ErrInvalidArgument))
	}
	r := &StreamReader{loop: c.connLoop(), conn: c, limit: streamOptions(opts).limit}
	if r.loop != nil {
		r.loop.mustNotBeForeign("NewStreams")
	}
	return r, &StreamWriter{loop: r.loop, conn: c, reader: r}
}

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

var loopReads = newPart[readBuffer](endNothing)

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
			w.err = err // nobody else gets this error
		}
		return err
	}), EagerStart(true), TaskName(caller))
	t.addCallback((*soonWritten)(w))
	return nil
}

// soonWritten runs at the end of a WriteSoon's task, whose error the writer has taken over.
type soonWritten StreamWriter

func (*soonWritten) fire(f *future) { f.retrieved() }
func (*soonWritten) String() string { return "StreamWriter.WriteSoon()" }

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

// StartTLS goes on with TLS on the same connection, after the writes before it. The side that
// connected is the client, unless asServer is true. No task may be reading.
//
// Bytes that the reader holds become the beginning of the peer's TLS data, for example a client's
// hello that arrived in one segment with a proxy's header. They are never treated as data, so
// plaintext injected there makes the handshake fail.
//
// If the handshake fails, the connection is closed. Errors are those of [TLSClient], and
// [ErrInvalidState] if there is TLS already. Of the options only [TLSHandshakeTimeout] has an
// effect. Python: writer.start_tls.
func (w *StreamWriter) StartTLS(ctx context.Context, config *tls.Config, asServer bool, opts ...StreamOption) error {
	return w.inTurn(ctx, "StreamWriter.StartTLS", func() error {
		c, ok := w.conn.(*Conn)
		r := w.reader
		switch {
		case !ok:
			return fmt.Errorf("%w: the connection has TLS already (in StartTLS)", ErrInvalidState)
		case r.reading != nil:
			return fmt.Errorf("%w: %s reads (in StartTLS)", ErrBusy, r.reading.GetName())
		}
		start := tls.Client
		if asServer {
			start = tls.Server
		}
		o := streamOptions(opts)
		o.tls = config
		o.early = r.unread()
		r.buf, r.taken = nil, 0
		// No reader may come in between and take the handshake for data.
		r.reading = w.loop.current
		defer func() { r.reading = nil }()
		secure, err := startTLS(ctx, c, o, start, "StreamWriter.StartTLS")
		if err != nil {
			w.err = err
			w.closing = true
			w.shut(w.conn.Close)
			return err
		}
		w.conn, r.conn = secure, secure
		return nil
	})
}
