package asynciohttp

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"

	"github.com/goasyncio/asyncio"
)

// Do sends req with client, or [http.DefaultClient] if that is nil, and suspends the calling task
// until the header of the response is there. The body of the response is a [*Body]: reading it
// suspends the task too, and it must be closed, as usual. The connection, redirects, cookies and
// the rest are net/http's, on goroutines.
//
// Do must be called in a task. A cancel of that task, or the end of ctx, ends the request and
// leaves nothing behind; while the body is read, the end of ctx also ends the request. The context
// that req already has does not lead to the loop, but can end the request too. If req.Body is a
// [*Body], of a handler's request or another response, tasks of the loop read it; so they do if
// [NewBody] made it. Any other body is read on a goroutine and must not touch the loop. Errors are
// those of client.Do and of the await.
func Do(ctx context.Context, client *http.Client, req *http.Request) (*http.Response, error) {
	if ctx == nil || req == nil {
		return nil, fmt.Errorf("%w: nil context or request (in Do)", asyncio.ErrInvalidArgument)
	}
	if client == nil {
		client = http.DefaultClient
	}
	l, err := asyncio.GetRunningLoop(ctx)
	if err != nil {
		return nil, err
	}
	if asyncio.CurrentTask(ctx) == nil {
		return nil, fmt.Errorf("%w (in Do)", asyncio.ErrNotInTask)
	}
	inside, cancel := context.WithCancelCause(asyncio.Outside(ctx))
	stop := context.AfterFunc(req.Context(), func() { cancel(context.Cause(req.Context())) })
	release := func(why error) {
		stop()
		cancel(why)
	}
	out := req.WithContext(withValues{inside, req.Context()})
	if b, ok := req.Body.(*Body); ok {
		out.Body = NewBody(inside, l, b)
	}
	h := new(handover)
	f := asyncio.RunInExecutor(ctx, goroutines{}, func() (asyncio.None, error) {
		resp, err := client.Do(out)
		h.offer(resp, err)
		return asyncio.None{}, nil
	})
	left := asyncio.ErrLoopClosed // unless Await returns
	defer func() {
		if left != nil {
			release(left)
			h.refuse()
		}
	}()
	_, left = f.Await(ctx)
	if left != nil {
		return nil, left
	}
	if h.err != nil {
		release(h.err)
		return h.resp, h.err
	}
	resp := h.resp
	if resp.StatusCode == http.StatusSwitchingProtocols {
		return resp, nil // the body is a connection, for goroutines
	}
	src := resp.Body
	body := &Body{loop: l.Context(), src: src}
	body.release = func() {
		release(context.Canceled)
		go src.Close() // Close may wait for a read that is under way
	}
	resp.Body = body
	return resp, nil
}

// Get is [Do] with http.DefaultClient and a GET request. See there for the allowed callers,
// suspension, and cancels.
func Get(ctx context.Context, url string) (*http.Response, error) {
	req, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	return Do(ctx, nil, req)
}

// ReadAll reads the rest of a body, at most limit bytes, and closes it. It must be called in a task
// of the body's loop, and suspends it. For a longer body it returns the first limit bytes and an
// error that matches [ErrTooLong].
func ReadAll(body io.ReadCloser, limit int64) ([]byte, error) {
	defer body.Close()
	b, err := io.ReadAll(io.LimitReader(body, limit))
	if err != nil || int64(len(b)) < limit {
		return b, err
	}
	if n, err := io.ReadFull(body, make([]byte, 1)); n == 0 {
		if errors.Is(err, io.EOF) {
			err = nil
		}
		return b, err
	}
	return b, fmt.Errorf("%w: more than %d bytes", ErrTooLong, limit)
}

// ErrTooLong is returned by [ReadAll] for a body longer than the limit.
var ErrTooLong = errors.New("asynciohttp: the body is too long")

// withValues is a context with a second one, whose values count where the first has none.
type withValues struct {
	context.Context
	more context.Context
}

func (c withValues) Value(key any) any {
	if v := c.Context.Value(key); v != nil {
		return v
	}
	return c.more.Value(key)
}

// handover passes a response to a task that may have left: whichever side arrives second closes it.
type handover struct {
	mu      sync.Mutex
	resp    *http.Response
	err     error
	refused bool
}

func (h *handover) offer(resp *http.Response, err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.resp, h.err = resp, err
	if h.refused {
		h.close()
	}
}

func (h *handover) refuse() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.refused = true
	h.close()
}

func (h *handover) close() {
	if h.resp != nil && h.resp.Body != nil {
		go h.resp.Body.Close()
	}
}
