package asyncio_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
)

// Writes of several tasks arrive whole and in the order of the calls (stream 2). Close waits for
// them (stream 3), and later writes are refused.
func TestStreamWriter_Turns(t *testing.T) {
	onSockets(t, func(t *testing.T, ctx context.Context) error {
		_, cw, sr, sw := streams(t, ctx)
		defer sw.Close(ctx)
		const n, size = 5, 2 << 20
		var writers []*asyncio.Task[asyncio.None]
		for i := range n {
			writers = append(writers, start(ctx, func(ctx context.Context) error {
				_, err := cw.Write(ctx, bytes.Repeat([]byte{byte('a' + i)}, size))
				return err
			}))
		}
		drained := start(ctx, func(ctx context.Context) error {
			err := cw.Drain(ctx)
			for i, w := range writers {
				if !w.Done() {
					t.Errorf("Drain returned before the write %d", i)
				}
			}
			return err
		})
		settle(t, ctx)
		closing := start(ctx, cw.Close)
		settle(t, ctx)
		if _, err := cw.Write(ctx, []byte("late")); !errors.Is(err, net.ErrClosed) || !cw.IsClosing() {
			t.Errorf("Write after Close: %v", err)
		}
		if closing.Done() {
			t.Error("Close did not wait")
		}
		got, err := sr.Read(ctx, -1)
		if err != nil {
			return err
		}
		for i := range n {
			if !bytes.Equal(got[:min(size, len(got))], bytes.Repeat([]byte{byte('a' + i)}, size)) {
				t.Fatalf("the write %d is not there, or not whole", i)
			}
			got = got[size:]
		}
		if len(got) > 0 {
			t.Errorf("%d bytes too many", len(got))
		}
		return errors.Join(ended(ctx, closing), ended(ctx, drained), cw.WaitClosed(ctx), cw.Close(ctx))
	})
}

// Close returns whether everything written could be sent (stream 3).
func TestStreamWriter_CloseSaysIfItCould(t *testing.T) {
	onSockets(t, func(t *testing.T, ctx context.Context) error {
		_, cw, _, sw := streams(t, ctx)
		writing := start(ctx, func(ctx context.Context) error {
			_, err := cw.Write(ctx, pattern(64<<20))
			return err
		})
		settle(t, ctx)
		closing := start(ctx, cw.Close)
		settle(t, ctx)
		sw.Abort()
		wrote, closed := ended(ctx, writing), ended(ctx, closing)
		if wrote == nil || closed != wrote || cw.WaitClosed(ctx) != wrote {
			t.Errorf("Write: %v, Close: %v", wrote, closed)
		}

		// A Close that is cancelled gives up.
		_, cw, _, sw = streams(t, ctx)
		writing = start(ctx, func(ctx context.Context) error {
			_, err := cw.Write(ctx, pattern(64<<20))
			return err
		})
		settle(t, ctx)
		err := asyncio.Timeout(ctx, time.Millisecond, func(ctx context.Context, _ *asyncio.TimeoutScope) error { return cw.Close(ctx) })
		if !errors.Is(err, asyncio.ErrTimeout) {
			t.Errorf("Close: %v", err)
		}
		if err := ended(ctx, writing); !errors.Is(err, net.ErrClosed) {
			t.Errorf("Write: %v", err)
		}
		sw.Abort()
		return nil
	})
}

// A Write that was cancelled before it began has written nothing. If one is cut short, later writes
// fail with its error, and so does Close.
func TestStreamWriter_Cancel(t *testing.T) {
	onSockets(t, func(t *testing.T, ctx context.Context) error {
		_, cw, sr, sw := streams(t, ctx)
		defer sw.Abort()
		var n int
		big := start(ctx, func(ctx context.Context) (err error) {
			n, err = cw.Write(ctx, pattern(64<<20))
			return err
		})
		settle(t, ctx)
		next := start(ctx, func(ctx context.Context) error {
			_, err := cw.Write(ctx, []byte("next"))
			return err
		})
		settle(t, ctx)
		next.Cancel()
		if err := ended(ctx, next); !errors.Is(err, asyncio.ErrCancelled) {
			t.Errorf("one that waited for its turn: %v", err)
		}
		if _, err := sr.ReadExactly(ctx, 1<<20); err != nil { // it goes on
			t.Error(err)
		}
		big.Cancel("enough")
		if err := ended(ctx, big); !errors.Is(err, asyncio.ErrCancelled) || n < 1<<20 {
			t.Errorf("Write = %d, %v", n, err)
		}
		if _, err := cw.Write(ctx, []byte("x")); err == nil || !strings.Contains(err.Error(), "enough") {
			t.Errorf("after a part: %v", err)
		}
		if err := cw.Close(ctx); err == nil {
			t.Error("Close says that all was written")
		}
		return nil
	})
}

func TestStreamWriter_WriteEOF(t *testing.T) {
	onSockets(t, func(t *testing.T, ctx context.Context) error {
		cr, cw, sr, sw := streams(t, ctx)
		if _, err := cw.WriteLines(ctx, bytesOf("a\n", "b\n")...); err != nil {
			return err
		}
		if err := errors.Join(cw.WriteEOF(ctx), cw.WriteEOF(ctx)); err != nil || !cw.CanWriteEOF() {
			t.Errorf("WriteEOF: %v", err)
		}
		if _, err := cw.Write(ctx, []byte("x")); !errors.Is(err, asyncio.ErrInvalidState) {
			t.Errorf("Write after WriteEOF: %v", err)
		}
		got, err := io.ReadAll(sr.Reader(ctx))
		if string(got) != "a\nb\n" || err != nil {
			t.Errorf("%q, %v", got, err)
		}
		if _, err := fmt.Fprintf(sw.Writer(ctx), "%d bytes\n", len(got)); err != nil {
			t.Error(err)
		}
		if line, err := cr.ReadLine(ctx); string(line) != "4 bytes\n" || err != nil {
			t.Errorf("%q, %v", line, err)
		}
		return errors.Join(cw.Close(ctx), sw.Close(ctx))
	})
}

// If a peer does not read, the writer waits at once, and not only when memory is full.
func TestStreamWriter_SlowReader(t *testing.T) {
	onSockets(t, func(t *testing.T, ctx context.Context) error {
		_, cw, _, sw := streams(t, ctx)
		defer sw.Abort()
		written := 0
		err := asyncio.Timeout(ctx, 50*time.Millisecond, func(ctx context.Context, _ *asyncio.TimeoutScope) error {
			for {
				n, err := cw.Write(ctx, pattern(64<<10))
				written += n
				if err != nil {
					return err
				}
			}
		})
		if !errors.Is(err, asyncio.ErrTimeout) || written > 32<<20 {
			t.Errorf("%d bytes were accepted, %v", written, err)
		}
		cw.Abort()
		return nil
	})
}

// A cancelled handler says goodbye with WriteSoon and ends, although another task's write still
// waits for the peer. The goodbye comes after that write.
func TestStreamWriter_WriteSoon(t *testing.T) {
	onSockets(t, func(t *testing.T, ctx context.Context) error {
		client, server := connect(t, ctx)
		cr, cw := asyncio.NewStreams(client)
		_, w := asyncio.NewStreams(server)
		defer cw.Abort()
		want := pattern(32 << 20)
		broadcast := start(ctx, func(ctx context.Context) error { return second(w.Write(ctx, want)) })
		if err := stuck(ctx, server); err != nil {
			return err
		}
		handler := start(ctx, func(ctx context.Context) error {
			err := asyncio.Sleep(ctx, time.Hour)
			if e := w.WriteSoon([]byte("bye\n")); e != nil {
				t.Errorf("WriteSoon: %v", e)
			}
			return err
		})
		settle(t, ctx)
		handler.Cancel()
		settle(t, ctx)
		if !handler.Cancelled() {
			t.Errorf("the handler waits for the write of another")
		}
		w.CloseSoon()
		got, err := cr.Read(ctx, -1)
		if err != nil || !bytes.Equal(got, append(want, "bye\n"...)) {
			t.Errorf("%d bytes came, or others than were written: %v", len(got), err)
		}
		if err := w.WaitClosed(ctx); err != nil {
			t.Errorf("WaitClosed: %v", err)
		}
		if err := w.WriteSoon([]byte("x")); !errors.Is(err, net.ErrClosed) {
			t.Errorf("after Close: %v", err)
		}
		return ended(ctx, broadcast)
	})
}

// The turn of a WriteSoon is that of its call, whether a write waits or not, and in a callback too
// (stream 2).
func TestStreamWriter_WriteSoonInTurn(t *testing.T) {
	onSockets(t, func(t *testing.T, ctx context.Context) error {
		for _, full := range []bool{false, true} {
			client, server := connect(t, ctx)
			cr, cw := asyncio.NewStreams(client)
			_, w := asyncio.NewStreams(server)
			before := 0
			var first *asyncio.Task[asyncio.None]
			if full {
				before = 32 << 20
				first = start(ctx, func(ctx context.Context) error { return second(w.Write(ctx, make([]byte, before))) })
				if err := stuck(ctx, server); err != nil {
					return err
				}
			}
			p := []byte("a")
			must(t, w.WriteSoon(p))
			p[0] = 'x' // the caller may reuse the buffer
			b := asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error { return second(w.Write(ctx, []byte("b"))) }), asyncio.EagerStart(true))
			loop(t, ctx).CallSoon(func() { must(t, w.WriteSoon([]byte("c"))) })
			settle(t, ctx)
			must(t, w.WriteSoon([]byte("d")))
			closed := start(ctx, w.Close)
			got, err := cr.Read(ctx, -1)
			if err != nil || len(got) != before+4 || string(got[before:]) != "abcd" {
				t.Errorf("full %v: %d bytes, at the end %q, %v", full, len(got), got[max(len(got)-6, 0):], err)
			}
			cw.Abort()
			for _, t := range []*asyncio.Task[asyncio.None]{b, closed, first} {
				if t != nil {
					if err := ended(ctx, t); err != nil {
						return err
					}
				}
			}
		}
		return nil
	})
}

// If data of WriteSoon could not be written, Close says so (stream 3).
func TestStreamWriter_WriteSoonFails(t *testing.T) {
	onSockets(t, func(t *testing.T, ctx context.Context) error {
		client, server := connect(t, ctx)
		_, w := asyncio.NewStreams(server)
		writer := start(ctx, func(ctx context.Context) error { return second(w.Write(ctx, make([]byte, 32<<20))) })
		if err := stuck(ctx, server); err != nil {
			return err
		}
		must(t, w.WriteSoon([]byte("bye")))
		client.Abort()
		if err := w.Close(ctx); err == nil {
			t.Error("Close says that all was written")
		}
		if err := ended(ctx, writer); err == nil {
			t.Error("so does Write")
		}
		return nil
	})
}
