package asynciohttp

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"net/http"
	"strconv"

	"github.com/goasyncio/asyncio"
)

// A requestBody is the body of a request. Reading it suspends the task until something has come.
//
//	upload 1: Every read takes bytes off the connection only on behalf of this body, and not beyond
//	   its end. After an error in its form nothing more is read from the connection.
//	upload 2: A cancel, or a deadline, ends a read and loses nothing; the next read goes on.
//	upload 3: Once closed, or once the handler has returned, it has nothing. Close reads what is
//	   left, up to maxUnreadBody bytes, so that the connection can be used again; beyond that the
//	   connection is closed.
type requestBody struct {
	w      *serverResponse
	remain int64 // of the body, or of the current chunk
	chunks chunkState
	meter  chunkMeter

	expected bool // the client waits for "100 Continue"
	askFirst bool // it is still to be sent, before the first read
	busy     bool
	sawEOF   bool
	cut      bool // the client has ended before the declared length
	closed   bool
}

// A chunkState says what comes next in a body with chunks.
type chunkState uint8

const (
	notChunked chunkState = iota
	atChunkSize
	inChunk
	atChunkEnd
	broken
)

// maxUnreadBody is how much of a body that its handler has not read is read by the server.
const maxUnreadBody = 256 << 10

// Read reads up to len(p) bytes, at least one. It is for tasks of the server's loop. Errors are
// those of net/http and of asyncio.Conn.
func (b *requestBody) Read(p []byte) (int, error) {
	if err := b.begin(); err != nil {
		return 0, err
	}
	defer b.leave()
	if b.askFirst {
		b.askFirst = false
		if err := b.w.sendContinue(); err != nil {
			return 0, err
		}
	}
	return b.read(p)
}

// begin begins an operation of the handler's, or refuses it (serve 2).
func (b *requestBody) begin() error {
	if err := b.w.c.s.foreign(); err != nil {
		return err
	}
	switch {
	case b.closed:
		return http.ErrBodyReadAfterClose
	case b.busy:
		return fmt.Errorf("%w: the body of a request", asyncio.ErrBusy)
	}
	b.busy = true
	return nil
}

func (b *requestBody) leave() { b.busy = false }

func (b *requestBody) read(p []byte) (n int, err error) {
	if b.sawEOF {
		return 0, io.EOF
	}
	if b.chunks == notChunked {
		n, err = b.readSized(p)
	} else {
		n, err = b.readChunks(p)
	}
	if err == io.EOF {
		b.sawEOF = true
		if !b.w.handlerDone {
			b.w.c.watch()
		}
	}
	return n, err
}

// readSized reads a body whose length was declared. Its last read returns io.EOF along with the
// bytes.
func (b *requestBody) readSized(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if int64(len(p)) > b.remain {
		p = p[:b.remain]
	}
	n, err := b.w.c.in.read(p)
	b.remain -= int64(n)
	if err == nil && b.remain == 0 {
		err = io.EOF
	} else if err == io.EOF && b.remain > 0 {
		b.cut, err = true, io.ErrUnexpectedEOF
	}
	return n, err
}

// readChunks reads a body with chunks, several of them if they have come.
func (b *requestBody) readChunks(p []byte) (n int, err error) {
	in := &b.w.c.in
	for {
		switch b.chunks {
		case atChunkSize:
			if n > 0 && bytes.IndexByte(in.unread(), '\n') < 0 {
				return n, nil
			}
			err = b.chunkSize()
		case inChunk:
			if len(p) == 0 {
				return n, nil
			}
			k := 0
			k, err = in.read(p[:min(int64(len(p)), b.remain)])
			n, p = n+k, p[k:]
			if b.remain -= int64(k); b.remain == 0 {
				b.chunks = atChunkEnd
			}
			if err = unexpected(err); err == nil && in.r == in.w {
				return n, nil
			}
		case atChunkEnd:
			if n > 0 && in.w-in.r < 2 {
				return n, nil
			}
			if err = in.need(2); err == nil {
				if string(in.unread()[:2]) != "\r\n" {
					b.chunks = broken
					continue
				}
				in.r += 2
				b.chunks = atChunkSize
			}
		case broken:
			err = errChunkEnd
		}
		if err != nil {
			return n, err
		}
	}
}

// chunkSize reads the line before a chunk, and behind the last one the trailer. It returns io.EOF
// there.
func (b *requestBody) chunkSize() error {
	c := b.w.c
	line, err := c.in.line(maxChunkLine)
	if err != nil {
		if !isTransient(err) {
			b.chunks = broken
		}
		return err
	}
	size, err := b.meter.size(line)
	if err != nil {
		b.chunks = broken
		return err
	}
	if size > 0 {
		b.remain, b.chunks = size, inChunk
		return nil
	}
	if err := b.trailer(); err != nil {
		// what follows must not be taken for a request
		b.chunks, b.closed = broken, true
		return err
	}
	return io.EOF
}

// isTransient reports whether a read that failed with err can be made again (upload 2).
func isTransient(err error) bool {
	var timeout interface{ Timeout() bool }
	return isRefusal(err) || errors.As(err, &timeout) && timeout.Timeout()
}

// trailer reads what is behind the last chunk. All of it must fit into the connection's buffer.
func (b *requestBody) trailer() error {
	in := &b.w.c.in
	if err := in.need(2); err != nil {
		if err == io.ErrUnexpectedEOF {
			err = errHTTPTrailerEOF
		}
		return err
	}
	if string(in.unread()[:2]) == "\r\n" {
		in.r += 2
		return nil
	}
	for !bytes.Contains(in.unread(), []byte("\r\n\r\n")) {
		if in.w-in.r >= inputBuffer {
			return errTrailerTooLong
		}
		if len(in.room()) == 0 {
			in.grow()
		}
		if err := in.fill(); err != nil {
			return errTrailerTooLong
		}
	}
	var scan headScan // what follows the first empty line is the next request's, or garbage
	scan.next(in.unread())
	text := string(in.unread()[:scan.end])
	in.r += len(text)
	in.shrink()
	var t request
	if _, err := t.parseFields(text, scan.lines, b.w.c.s.headerValueLimit()); err != nil {
		return errMalformedFields
	}
	if req := b.w.req; req.Trailer == nil {
		req.Trailer = t.Header
	} else {
		maps.Copy(req.Trailer, t.Header)
	}
	return nil
}

// Close ends reading. It suspends the task while it reads the rest of a short body (upload 3).
func (b *requestBody) Close() error {
	if err := b.begin(); err == http.ErrBodyReadAfterClose {
		return nil
	} else if err != nil {
		return err
	}
	defer b.leave()
	b.forgo()
	return b.close()
}

// forgo closes a body that the client has not been asked for.
func (b *requestBody) forgo() {
	if b.askFirst {
		b.askFirst, b.closed, b.w.closeAfter = false, true, true
	}
}

func (b *requestBody) close() (err error) {
	switch {
	case b.closed || b.sawEOF || b.cut:
	case b.expected: // the client may send nothing
	case b.chunks == notChunked && (b.w.clientCloses || b.remain > maxUnreadBody):
	default:
		if _, err = b.discard(maxUnreadBody); err == io.EOF {
			err = nil
		}
	}
	b.closed = true
	return err
}

// complete reports whether nothing of the body is left on the connection.
func (b *requestBody) complete() bool { return b.sawEOF || b.cut }

// discard reads up to limit bytes. It returns io.EOF if they were the last.
func (b *requestBody) discard(limit int64) (n int64, err error) {
	p := bodyBuffers.Get().(*[bodyBuffer]byte)
	defer bodyBuffers.Put(p)
	for n < limit && err == nil {
		k := 0
		k, err = b.read(p[:min(int64(len(p)), limit-n)])
		n += int64(k)
	}
	return n, err
}

// maxChunkLine is the longest line before a chunk, with its end.
const maxChunkLine = 4 << 10

// A chunkMeter reads the sizes of chunks, and limits how much else there is beside the data: up to
// 16 bytes for each chunk and twice the data, plus 16 KiB in all, as net/http allows.
type chunkMeter struct{ excess int64 }

// size returns the size of the chunk that line begins.
func (m *chunkMeter) size(line []byte) (int64, error) {
	switch cr := bytes.IndexByte(line, '\r'); {
	case cr < 0:
		return 0, errChunkedLF
	case cr != len(line)-2:
		return 0, errChunkedCR
	}
	line = line[:len(line)-2]
	m.excess += int64(len(line)) + 2
	digits, _, _ := bytes.Cut(bytes.TrimRight(line, " \t"), []byte(";"))
	// without underscores, signs and prefixes
	for _, d := range digits {
		if !isHex(d) {
			return 0, errChunkLength
		}
	}
	size, err := strconv.ParseUint(string(digits), 16, 64)
	if err != nil || len(digits) > 16 {
		return 0, errChunkLength
	}
	// wraps for sizes that nobody sends, as in net/http
	m.excess = max(0, m.excess-16-2*int64(size))
	if m.excess > 16<<10 {
		return 0, errChunkOverhead
	}
	return int64(min(size, math.MaxInt64)), nil
}

func isHex(b byte) bool {
	return '0' <= b && b <= '9' || 'a' <= b && b <= 'f' || 'A' <= b && b <= 'F'
}
