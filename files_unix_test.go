//go:build linux || darwin || freebsd

package asyncio_test

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/goasyncio/asyncio"
)

// onRealFifo runs body on the real clock with the name of a named pipe.
func onRealFifo(t *testing.T, body func(ctx context.Context, name string) error) {
	t.Helper()
	name := filepath.Join(t.TempDir(), "pipe")
	must(t, syscall.Mkfifo(name, 0o600))
	var r reports
	_, err := asyncio.Run(t.Context(), asyncio.Do(func(ctx context.Context) error { return body(ctx, name) }),
		asyncio.LoopFactory(func(ctx context.Context) *asyncio.EventLoop {
			l := asyncio.NewEventLoop(ctx)
			l.SetExceptionHandler(r.handle)
			return l
		}))
	must(t, err)
	equal(t, "reports", r.messages(), nil)
}

// A pipe has no offsets and no size.
func TestFile_Pipe(t *testing.T) {
	onRealFifo(t, func(ctx context.Context, name string) error {
		data := pattern(300_000)
		write := start(ctx, func(ctx context.Context) error { return asyncio.WriteFile(ctx, name, data, 0o600) })
		got, err := asyncio.ReadFile(ctx, name)
		must(t, err)
		await(t, ctx, write)
		is(t, "the same", string(got) == string(data), true)

		f := open(t, ctx, name, os.O_RDWR)
		_, err = f.Write(ctx, []byte("hello"))
		must(t, err)
		p := make([]byte, 3)
		n, err := f.Read(ctx, p)
		is(t, "Read", string(p[:n]), "hel")
		must(t, err)
		n, err = f.Read(ctx, p)
		is(t, "Read", string(p[:n]), "lo")
		must(t, err)
		_, err = f.Seek(ctx, 0, io.SeekCurrent)
		wantErr(t, "Seek", err, syscall.ESPIPE)
		_, err = f.Seek(ctx, 0, io.SeekEnd)
		wantErr(t, "Seek", err, syscall.ESPIPE)
		_, err = f.ReadAt(ctx, p, 0)
		wantErr(t, "ReadAt", err, syscall.ESPIPE)
		return f.Close(ctx)
	})
}

// A read that may take for ever is given up at once, what comes behind it waits, and Close ends it.
func TestFile_PipeThatNobodyWritesTo(t *testing.T) {
	onRealFifo(t, func(ctx context.Context, name string) error {
		for _, cancelled := range []bool{true, false} {
			f := open(t, ctx, name, os.O_RDWR)
			read := start(ctx, func(ctx context.Context) error { _, err := f.Read(ctx, make([]byte, 1)); return err })
			settle(t, ctx)
			// The executor works in the order of submission, so a second job is behind the first.
			if _, err := asyncio.ToThread(ctx, instant); err != nil {
				return err
			}
			if cancelled {
				read.Cancel()
				endsCancelled(t, ctx, read)
			}
			behind := start(ctx, func(ctx context.Context) error { _, err := f.Read(ctx, make([]byte, 1)); return err })
			settle(t, ctx)
			if err := f.Close(ctx); err != nil && !errors.Is(err, fs.ErrClosed) {
				return err
			}
			if !cancelled {
				_, err := read.Await(ctx)
				wantErr(t, "Read", err, fs.ErrClosed)
			}
			_, err := behind.Await(ctx)
			wantErr(t, "a Read that waited for its turn", err, fs.ErrClosed)
		}
		return nil
	})
}
