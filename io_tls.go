package asyncio

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"
)

// A TLSConn is a [Conn] with TLS on it, by crypto/tls. [TLSClient] and [TLSServer] make one and do
// the handshake.
//
// It has the methods of a Conn and its rules. They are for the loop only, except that any goroutine
// may call Close, Abort and the methods that set deadlines or return addresses. Read, Write and
// CloseWrite must be called in a task, which they suspend; the others do not suspend. One task may
// read while another writes; a second reader or writer gets [ErrBusy]. A cancelled Read loses
// nothing.
//
// Errors are those of Conn and of crypto/tls. A config that allows renegotiation is refused.
type TLSConn struct {
	conn *Conn
	tls  *tls.Conn
	wire wire

	reading, writing *task
	closed           bool
}

// tlsHandshakeTimeout is CPython's SSL_HANDSHAKE_TIMEOUT.
const tlsHandshakeTimeout = 60 * time.Second

// TLSClient does a TLS handshake as the client and returns the secured connection, to which c then
// belongs. config must name the server or skip verification.
//
// It must be called in a task, and suspends it. The handshake is limited to 60 s, or by
// [TLSHandshakeTimeout], and by ctx and cancels. If it fails, c is closed. The error then is that
// of crypto/tls, a [*TimeoutError], or the usual error of a cancel or the end of ctx. A config that
// allows renegotiation is refused with [ErrInvalidArgument].
func TLSClient(ctx context.Context, c *Conn, config *tls.Config, opts ...StreamOption) (*TLSConn, error) {
	o := streamOptions(opts)
	o.tls = config
	return startTLS(ctx, c, o, tls.Client, "TLSClient")
}

// TLSServer is [TLSClient] for the server's side. config must have a certificate.
//
// A client that does not begin with a handshake makes it fail with a [tls.RecordHeaderError]. Its
// Conn is c then, which is still open, so that the client can be told; the caller closes it.
func TLSServer(ctx context.Context, c *Conn, config *tls.Config, opts ...StreamOption) (*TLSConn, error) {
	o := streamOptions(opts)
	o.tls, o.answers = config, true
	return startTLS(ctx, c, o, tls.Server, "TLSServer")
}

// startTLS does the handshake, with the configuration and the time limit of o.
func startTLS(ctx context.Context, c *Conn, o StreamOption, start func(net.Conn, *tls.Config) *tls.Conn, caller string) (*TLSConn, error) {
	config := o.tls
	ok := false
	defer func() {
		if !ok && c != nil {
			_ = c.Close()
		}
	}()
	if c == nil || config == nil {
		return nil, fmt.Errorf("%w: nil connection or configuration (in %s)", ErrInvalidArgument, caller)
	}
	if _, err := c.loop.enterOn(ctx, caller); err != nil {
		return nil, err
	}
	// Another handshake later is refused (tls 3).
	if config.Renegotiation != tls.RenegotiateNever {
		return nil, fmt.Errorf("%w: a connection shared by tasks cannot renegotiate (in %s)", ErrInvalidArgument, caller)
	}
	s := &TLSConn{conn: c}
	s.wire.conn, s.wire.late, s.wire.early = c, c.ways.rd.expired(), o.early
	s.tls = start(&s.wire, config)
	err := Timeout(ctx, cmp.Or(o.handshake, tlsHandshakeTimeout), func(ctx context.Context, _ *TimeoutScope) error {
		s.wire.ctx = ctx
		// With ctx, HandshakeContext would start a goroutine that closes the connection.
		err := s.tls.HandshakeContext(context.Background())
		if err == nil {
			return s.wire.flush(ctx)
		}
		s.wire.trySend() // the alert
		if record := (tls.RecordHeaderError{}); len(o.early) > 0 && errors.As(err, &record) {
			return fmt.Errorf("%w, among the %d bytes that came before it was started or behind them (in %s)", err, len(o.early), caller)
		}
		return s.wire.cause(err)
	})
	s.wire.ctx = nil
	if record := (tls.RecordHeaderError{}); o.answers && errors.As(err, &record) && record.Conn != nil {
		ok, record.Conn = true, c
		return nil, record
	}
	if err != nil {
		return nil, err
	}
	ok = true
	return s, nil
}

// wire is the connection as TLS sees it.
//
// A tls.Conn locks mutexes while it reads and writes its connection. If a task were suspended
// there, the next task to lock the mutex would stop the whole loop. Therefore:
//
//	tls 1: Bytes that TLS writes go to a buffer (wire.out) and are sent after the tls.Conn has
//	   returned. So a suspended task never holds the mutex for writing.
//	tls 2: A task that is suspended for the peer's bytes holds the mutex for reading. Only readers
//	   lock it, and a second reader is refused first.
//	tls 3: The mutex of the handshake is held while that goes on. The connection is handed out when
//	   the handshake is over, and a configuration that allows another one later is refused.
//	tls 4: Reading can make TLS write (an answer to a new key). The reader sends the answer before
//	   it waits, unless a writer is sending, which goes on until nothing is left. Meanwhile the
//	   answers pile up if the peer asks and does not read. A writer leaves about maxUnsent/2 to be
//	   sent, so anything beyond maxUnsent is some thousand answers, and the connection has failed.
//	tls 5: A cancel, the end of a context and a deadline reach the tls.Conn as temporary errors,
//	   after which it can go on.
//	tls 6: Once detached, the connection is read and written by goroutines, which may wait with a
//	   mutex: all bytes go to the connection itself. Bytes that were not sent by then go before the
//	   next ones.
//	tls 7: Bytes that had arrived when TLS began are the beginning of the data that TLS reads, and
//	   are used for nothing else. So plaintext is never mistaken for encrypted data.
type wire struct {
	conn *Conn
	ctx  context.Context // the reader's
	// the reader's Read began after the deadline (conn 2); it may take several reads of the
	// connection
	late   bool
	nowait bool   // the reader must not wait
	early  []byte // bytes that came before TLS began, and are read first (tls 7)
	out    []byte // to be sent (tls 1)
	turn   Lock   // held by the task that sends (tls 4)

	detached net.Conn // the connection that goroutines use (tls 6)
}

// transient makes an error temporary for the tls.Conn (tls 5).
type transient struct{ err error }

func (e *transient) Error() string   { return e.err.Error() }
func (e *transient) Unwrap() error   { return e.err }
func (e *transient) Timeout() bool   { return errors.Is(e.err, os.ErrDeadlineExceeded) }
func (e *transient) Temporary() bool { return true }

// cause returns the error that wire gave to TLS, or else TLS's own.
func (w *wire) cause(err error) error {
	var t *transient
	if errors.As(err, &t) {
		return t.err
	}
	return err
}

func (w *wire) Read(p []byte) (int, error) {
	if len(w.early) > 0 {
		n := copy(p, w.early)
		if w.early = w.early[n:]; len(w.early) == 0 {
			w.early = nil
		}
		return n, nil
	}
	if w.detached != nil {
		return w.detached.Read(p)
	}
	if w.nowait {
		return w.readNow(p)
	}
	var n int
	var err error
	switch locked := w.turn.Locked(); { // the reader sends answers before it waits (tls 4)
	case len(w.out) > maxUnsent && locked:
		return 0, w.conn.failure("read", errFlood)
	case len(w.out) > 0 && !locked:
		err = w.flush(w.ctx)
	}
	if err == nil {
		n, err = w.read(p)
	}
	if err != nil && (isCancel(w.ctx, err) || errors.Is(err, os.ErrDeadlineExceeded)) {
		err = &transient{err}
	}
	return n, err
}

func (w *wire) read(p []byte) (int, error) {
	t, err := w.conn.loop.enterOn(w.ctx, "TLSConn.Read")
	if err != nil {
		return 0, w.conn.refused("read", err)
	}
	return w.conn.readOn(w.ctx, t, p, w.late)
}

func (w *wire) Write(p []byte) (int, error) {
	if w.detached != nil {
		if len(w.out) > 0 {
			n, err := w.detached.Write(w.out)
			w.sent(n)
			if err != nil {
				return 0, err
			}
		}
		return w.detached.Write(p)
	}
	w.out = append(w.out, p...)
	return len(p), nil
}

// flush sends everything in the buffer. After an error the rest stays for the next flush.
func (w *wire) flush(ctx context.Context) error {
	if err := w.turn.Acquire(ctx); err != nil {
		return err
	}
	defer w.turn.Release()
	for len(w.out) > 0 {
		n, err := w.conn.WriteContext(ctx, w.out)
		w.sent(n)
		if err != nil {
			return err
		}
	}
	return nil
}

// sent takes the first n bytes, which were sent, out of the buffer; others may have appended
// meanwhile.
func (w *wire) sent(n int) {
	w.out = w.out[:copy(w.out, w.out[n:])]
	if len(w.out) == 0 && cap(w.out) > maxRead {
		w.out = nil
	}
}

// trySend sends as much as it can without waiting and reports whether that is all.
func (w *wire) trySend() bool {
	for len(w.out) > 0 && !w.conn.closed && !w.turn.Locked() {
		n, err := w.conn.end.Write(w.out)
		if err != nil {
			break
		}
		w.sent(n)
	}
	return len(w.out) == 0
}

func (w *wire) LocalAddr() net.Addr  { return w.conn.LocalAddr() }
func (w *wire) RemoteAddr() net.Addr { return w.conn.RemoteAddr() }

func (w *wire) Close() error {
	if w.detached != nil {
		return w.detached.Close()
	}
	return w.conn.Close()
}

// Deadlines of tasks are set on the Conn. These methods serve a detached connection (tls 6).

func (w *wire) SetDeadline(d time.Time) error {
	return errors.Join(w.SetReadDeadline(d), w.SetWriteDeadline(d))
}

func (w *wire) SetReadDeadline(d time.Time) error {
	if w.detached != nil {
		return w.detached.SetReadDeadline(d)
	}
	return nil
}

func (w *wire) SetWriteDeadline(d time.Time) error {
	if w.detached != nil {
		return w.detached.SetWriteDeadline(d)
	}
	return nil
}

func (s *TLSConn) connLoop() *EventLoop { return s.conn.loop }
func (s *TLSConn) tooLate() bool        { return s.conn.tooLate() }

// Read is [Conn.Read] for the data that the peer sent encrypted.
func (s *TLSConn) Read(p []byte) (int, error) {
	t, err := s.conn.loop.currentOn("TLSConn.Read")
	if err != nil {
		return 0, s.conn.refused("read", err)
	}
	return s.read(t.ctx, t, p)
}

// ReadContext is Read with a context that can end it.
func (s *TLSConn) ReadContext(ctx context.Context, p []byte) (int, error) {
	t, err := s.conn.loop.enterOn(ctx, "TLSConn.ReadContext")
	if err != nil {
		return 0, s.conn.refused("read", err)
	}
	return s.read(ctx, t, p)
}

func (s *TLSConn) read(ctx context.Context, t *task, p []byte) (int, error) {
	return s.readOn(ctx, t, p, s.conn.ways.rd.expired())
}

// readOn is [Conn.readOn] for encrypted data.
func (s *TLSConn) readOn(ctx context.Context, t *task, p []byte, late bool) (int, error) {
	if s.reading != nil {
		// a second reader would wait for the mutex (tls 2)
		return 0, s.conn.refused("read", fmt.Errorf("%w: %s by %s", ErrBusy, &s.conn.ways.rd, s.reading.GetName()))
	}
	if s.closed {
		return 0, s.conn.failure("read", net.ErrClosed)
	}
	s.reading, s.wire.ctx, s.wire.late = t, ctx, late
	defer func() { s.reading, s.wire.ctx = nil, nil }()
	n, err := s.tls.Read(p)
	// an answer that TLS wrote is sent at once (tls 4)
	if len(s.wire.out) > 0 && !s.wire.turn.Locked() {
		s.wire.trySend()
	}
	if err != nil {
		if s.closed {
			return n, s.conn.failure("read", net.ErrClosed)
		}
		return n, s.wire.cause(err)
	}
	return n, nil
}

// ReadNowait is [Conn.ReadNowait] for the data that the peer sent encrypted. A record of which only
// a part has come is kept for the next read.
func (s *TLSConn) ReadNowait(p []byte) (int, error) {
	if err := s.conn.mayReadNow("TLSConn.ReadNowait"); err != nil {
		return 0, err
	}
	if s.reading != nil {
		return 0, s.conn.refused("read", fmt.Errorf("%w: %s by %s", ErrBusy, &s.conn.ways.rd, s.reading.GetName()))
	}
	if s.closed {
		return 0, s.conn.failure("read", net.ErrClosed)
	}
	s.wire.nowait = true
	defer func() { s.wire.nowait = false }()
	n, err := s.tls.Read(p)
	if len(s.wire.out) > 0 {
		s.wire.trySend()
	}
	return n, s.wire.cause(err)
}

// readNow is Read for a reader that must not wait. An answer of TLS that the system does not accept
// now stays until the next read or write.
func (w *wire) readNow(p []byte) (int, error) {
	w.trySend()
	if len(w.out) > maxUnsent {
		return 0, w.conn.failure("read", errFlood)
	}
	n, err := w.conn.ReadNowait(p)
	if err == ErrWouldBlock {
		err = wouldBlock
	}
	return n, err
}

// wouldBlock is ErrWouldBlock for the tls.Conn (tls 5). It is made once because pools ask often.
var wouldBlock = &transient{ErrWouldBlock}

// OnReadable is [Conn.OnReadable]. Bytes that have come need not be a whole record, so the call may
// come several times before there is data.
func (s *TLSConn) OnReadable(fn func()) error { return s.conn.OnReadable(fn) }

// Write is [Conn.Write], encrypted. If it was cancelled, bytes that it reports as written may still
// have to be sent; the next Write or Close sends them before anything else.
func (s *TLSConn) Write(p []byte) (int, error) {
	t, err := s.conn.loop.currentOn("TLSConn.Write")
	if err != nil {
		return 0, s.conn.refused("write", err)
	}
	return s.write(t.ctx, t, p)
}

// WriteContext is Write with a context that can end it.
func (s *TLSConn) WriteContext(ctx context.Context, p []byte) (int, error) {
	t, err := s.conn.loop.enterOn(ctx, "TLSConn.WriteContext")
	if err != nil {
		return 0, s.conn.refused("write", err)
	}
	return s.write(ctx, t, p)
}

func (s *TLSConn) write(ctx context.Context, t *task, p []byte) (written int, err error) {
	if s.writing != nil {
		return 0, s.conn.refused("write", fmt.Errorf("%w: %s by %s", ErrBusy, &s.conn.ways.wr, s.writing.GetName()))
	}
	s.writing = t
	defer func() { s.writing = nil }()
	for {
		if s.closed {
			return written, s.conn.failure("write", net.ErrClosed)
		}
		// The rest of an earlier Write is sent first, so that this one adds to an empty buffer.
		if err := s.wire.flush(ctx); err != nil {
			return written, s.conn.refused("write", err)
		}
		if written == len(p) {
			return written, nil
		}
		n, err := s.tls.Write(p[written:min(len(p), written+tlsChunk)])
		written += n
		if err != nil {
			return written, s.wire.cause(err)
		}
	}
}

// tlsChunk is how much is encrypted before it is sent: four of TLS's records.
const tlsChunk = 64 << 10

// maxUnsent is how many bytes may wait to be sent before the connection has failed (tls 4).
const maxUnsent = 2 * tlsChunk

var errFlood = errors.New("asyncio: the peer asks for new keys, again and again, and does not read what it is answered")

// Close tells the peer that this is the end, if the system's buffer has room for that, and closes
// the connection. It does not suspend: if a cancelled Write left bytes that do not fit into that
// buffer, they are lost, and Close returns [io.ErrShortWrite]. More calls do nothing. Any goroutine
// may call it, as [Conn.Close].
func (s *TLSConn) Close() error {
	if err := s.conn.loop.checkForeign("TLSConn.Close"); !s.conn.loop.mayNow(err) {
		return s.conn.loop.orPost(err, func() { _ = s.Close() })
	}
	if s.conn.loop.closedAll() || s.closed {
		return nil
	}
	s.closed = true
	all := true
	if !s.conn.closed && s.conn.loop.guard.Load() != guardClosed {
		all = s.wire.trySend()
		_ = s.tls.CloseWrite()
		s.wire.trySend()
	}
	err := s.conn.Close()
	if err == nil && !all {
		err = s.conn.failure("close", io.ErrShortWrite)
	}
	return err
}

// Abort closes the connection and drops data that has not been delivered. It does not suspend. Any
// goroutine may call it, as [Conn.Abort].
func (s *TLSConn) Abort() error {
	if err := s.conn.loop.checkForeign("TLSConn.Abort"); !s.conn.loop.mayNow(err) {
		return s.conn.loop.orPost(err, func() { _ = s.Abort() })
	}
	if s.conn.loop.closedAll() {
		return nil
	}
	s.closed = true
	return s.conn.Abort()
}

// Detach gives the connection to goroutines, as [Conn.Detach] does: it closes s and returns a
// connection of crypto/tls, which belongs to the caller. No data that has arrived is lost. Bytes
// that a cancelled Write left are sent before the next Write's, or at Close. Detach does not
// suspend. It returns [ErrBusy] while a task reads or writes. If it fails, s stays as it is.
func (s *TLSConn) Detach() (*tls.Conn, error) {
	if err := s.conn.loop.checkOwner("TLSConn.Detach"); err != nil {
		return nil, s.conn.refused("detach", err)
	}
	if s.closed {
		return nil, s.conn.failure("detach", net.ErrClosed)
	}
	for _, t := range []*task{s.reading, s.writing} {
		if t != nil {
			return nil, s.conn.refused("detach", fmt.Errorf("%w: %s (in Detach)", ErrBusy, t.GetName()))
		}
	}
	s.wire.trySend()
	nc, err := s.conn.Detach()
	if err != nil {
		return nil, err
	}
	s.closed, s.wire.detached = true, nc
	return s.tls, nil
}

// CloseWrite tells the peer that nothing more will come; the peer reads [io.EOF] and may go on
// sending. It must be called in a task, and suspends it while the system accepts no more.
func (s *TLSConn) CloseWrite() error {
	t, err := s.conn.loop.currentOn("TLSConn.CloseWrite")
	if err != nil {
		return s.conn.refused("close", err)
	}
	if s.closed {
		return s.conn.failure("close", net.ErrClosed)
	}
	if err := s.tls.CloseWrite(); err != nil {
		return err
	}
	if err := s.wire.flush(t.ctx); err != nil {
		return s.conn.refused("close", err)
	}
	return nil
}

// ConnectionState returns the result of the handshake: the version, the protocol (ALPN), the peer's
// certificates. Python: get_extra_info of "peercert", "cipher", "ssl_object".
func (s *TLSConn) ConnectionState() tls.ConnectionState { return s.tls.ConnectionState() }

// NetConn returns the connection below, for its options. Reading or writing it breaks TLS.
func (s *TLSConn) NetConn() *Conn { return s.conn }

// LocalAddr returns the address of this end. Any goroutine may call it.
func (s *TLSConn) LocalAddr() net.Addr { return s.conn.LocalAddr() }

// RemoteAddr returns the address of the other end. Any goroutine may call it.
func (s *TLSConn) RemoteAddr() net.Addr { return s.conn.RemoteAddr() }

// SetDeadline is [Conn.SetDeadline].
func (s *TLSConn) SetDeadline(d time.Time) error { return s.conn.SetDeadline(d) }

// SetReadDeadline is [Conn.SetReadDeadline].
func (s *TLSConn) SetReadDeadline(d time.Time) error { return s.conn.SetReadDeadline(d) }

// SetWriteDeadline is [Conn.SetWriteDeadline].
func (s *TLSConn) SetWriteDeadline(d time.Time) error { return s.conn.SetWriteDeadline(d) }
