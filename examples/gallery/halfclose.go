package gallery

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/goasyncio/asyncio"
)

// A forwarder copies bytes between a client and a server, each direction to its own end. The
// mistake is to close both directions some time after the first has ended. A client that sends its
// request, says that this was all, and waits for the answer, then gets none if the answer takes
// longer.
//
// socat waits for half a second (option -t), Docker's proxy did not wait at all:
// https://github.com/moby/moby/issues/27539
type forwarder struct{ mistake bool }

func (f *forwarder) handle(ctx context.Context, r *asyncio.StreamReader, w *asyncio.StreamWriter) error {
	fromServer, toServer, err := asyncio.OpenConnection(ctx, "sorter"+port)
	if err != nil {
		w.Abort()
		return gone(err)
	}
	defer toServer.Abort()
	var broken error // of one direction; the other must not take it for the end
	copying := func(to *asyncio.StreamWriter, from *asyncio.StreamReader) func(ctx context.Context) error {
		return func(ctx context.Context) error {
			for {
				data, err := from.Read(ctx, 1024)
				if errors.Is(err, io.EOF) && broken == nil {
					return to.WriteEOF(ctx)
				}
				if err == nil {
					_, err = to.Write(ctx, data)
				}
				if err != nil {
					broken = err
					return err
				}
			}
		}
	}
	err = asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg *asyncio.TaskGroup) error {
		there := tg.CreateTask(ctx, copying(toServer, r), asyncio.TaskName("there"))
		tg.CreateTask(ctx, copying(w, fromServer), asyncio.TaskName("back"))
		if f.mistake {
			if _, err := there.Await(ctx); err != nil {
				return err
			}
			if err := asyncio.Sleep(ctx, 500*time.Millisecond); err != nil {
				return err
			}
			tg.Cancel() // BUG: the answer may take longer
		}
		return nil
	})
	if err != nil {
		w.Abort() // the client must not take this for the end
	}
	return gone(err)
}

// sorter sorts the letters that a client sends until it says that this was all.
func sorter(ctx context.Context, r *asyncio.StreamReader, w *asyncio.StreamWriter) error {
	data, err := r.Read(ctx, -1)
	if err != nil {
		return gone(err)
	}
	if err := asyncio.Sleep(ctx, think); err != nil {
		return err
	}
	slices.Sort(data)
	_, err = w.Write(ctx, data)
	return gone(err)
}

// halfClosed is a sorter behind a forwarder, and a client. An answer that ends without an error
// must be complete, unless a program has ended meanwhile: its system then ends its connections.
func halfClosed(mistake bool) program {
	return staged(func(ctx context.Context, s *stage) error {
		serving := func(handler asyncio.Handler) program {
			return func(ctx context.Context) error {
				server, err := asyncio.StartServer(ctx, handler, port)
				if err != nil {
					return err
				}
				return server.Serve(ctx)
			}
		}
		s.server("sorter", serving(sorter))
		s.server("forwarder", serving((&forwarder{mistake}).handle))
		for range 10 {
			ended := s.ended
			answer := ""
			err := asyncio.FailAfter(ctx, 5*time.Second, func(ctx context.Context) (err error) {
				answer, err = sorted(ctx, "forwarder", "lkjihgfedcba")
				return err
			})
			if err == nil && answer != "abcdefghijkl" && s.ended == ended {
				return fmt.Errorf("the letters abcdefghijkl are %q", answer)
			}
			if err := asyncio.Sleep(ctx, think); err != nil {
				return err
			}
		}
		return nil
	})
}

// sorted is a request to the sorter at host.
func sorted(ctx context.Context, host, letters string) (string, error) {
	r, w, err := asyncio.OpenConnection(ctx, host+port)
	if err != nil {
		return "", err
	}
	defer w.Abort()
	if _, err := w.Write(ctx, []byte(letters)); err != nil {
		return "", err
	}
	if err := w.WriteEOF(ctx); err != nil {
		return "", err
	}
	answer, err := r.Read(ctx, -1)
	return string(answer), err
}
