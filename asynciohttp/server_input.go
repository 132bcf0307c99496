package asynciohttp

import (
	"bytes"
	"io"
)

// An input holds bytes that were read and not yet used. Its array belongs to the connection's
// buffers, except while the head of a request is longer than that.
type input struct {
	c    *serverConn
	buf  []byte
	r, w int // unused bytes
}

func (in *input) unread() []byte { return in.buf[in.r:in.w] }

// room returns where the next bytes go, empty if there is no room.
func (in *input) room() []byte {
	switch {
	case in.r == in.w:
		in.r, in.w = 0, 0
	case in.w == len(in.buf) && in.r > 0:
		in.w = copy(in.buf, in.buf[in.r:in.w])
		in.r = 0
	}
	return in.buf[in.w:]
}

// fill reads more, and suspends the task until there is something. There must be room.
func (in *input) fill() error {
	n, err := in.c.rwc.Read(in.room())
	in.w += n
	if n > 0 {
		return nil
	}
	if err == nil {
		err = io.ErrNoProgress
	}
	return in.c.readFailed(err)
}

// grow makes room for a line or head that is longer than the buffer.
func (in *input) grow() {
	if len(in.room()) == 0 {
		bigger := make([]byte, 2*len(in.buf))
		in.w = copy(bigger, in.unread())
		in.r, in.buf = 0, bigger
	}
}

// shrink goes back to the connection's own buffer if the bytes fit.
func (in *input) shrink() {
	own := in.c.bufs.in[:]
	if len(in.buf) > len(own) && in.w-in.r <= len(own) {
		in.w = copy(own, in.unread())
		in.r, in.buf = 0, own
	}
}

// read reads into p: bytes that are there, or else what the connection has. Long reads do not go
// through the buffer.
func (in *input) read(p []byte) (int, error) {
	if in.r == in.w {
		if len(p) >= len(in.buf) {
			n, err := in.c.rwc.Read(p)
			if err != nil {
				err = in.c.readFailed(err)
			}
			return n, err
		}
		if err := in.fill(); err != nil {
			return 0, err
		}
	}
	n := copy(p, in.unread())
	in.r += n
	return n, nil
}

// line returns a line that is no longer than max, with its end, which is valid until the next read.
func (in *input) line(max int) ([]byte, error) {
	for seen := 0; ; {
		p := in.unread()
		if i := bytes.IndexByte(p[seen:], '\n'); i >= 0 && seen+i < max {
			in.r += seen + i + 1
			return p[:seen+i+1], nil
		} else if i >= 0 || len(p) >= max {
			return nil, errLineTooLong
		}
		seen = len(p)
		if len(in.room()) == 0 {
			in.grow()
		}
		if err := in.fill(); err != nil {
			return nil, unexpected(err)
		}
	}
}

// need waits until n bytes are there, which the buffer must have room for.
func (in *input) need(n int) error {
	for in.w-in.r < n {
		if in.r > len(in.buf)-n {
			in.w = copy(in.buf, in.unread())
			in.r = 0
		}
		if err := in.fill(); err != nil {
			return unexpected(err)
		}
	}
	return nil
}

// unexpected returns the error for an end within something.
func unexpected(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}
