package asyncio

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
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
