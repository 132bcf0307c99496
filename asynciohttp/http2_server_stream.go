package asynciohttp

import (
	"context"
	"fmt"
	"net/http"
	"os"

	"golang.org/x/net/http2"

	"github.com/goasyncio/asyncio"
)

// A serverStream is a request with its response.
type serverStream struct {
	http2Stream
	conn     *http2Server
	ctx      context.Context // of the request (http2server 4)
	cancel   context.CancelCauseFunc
	request  *http.Request
	response http2Response
	refused  http.Handler // answers instead of the server's handler, nil for a good request

	expects    bool // the client waits for 100 Continue
	readTimer  *asyncio.TimerHandle
	writeTimer *asyncio.TimerHandle
}

// halfEnded implements [http2StreamEnd] (http2server 3).
func (st *serverStream) halfEnded() {
	if st.localEnded {
		st.c.reset(&st.http2Stream, http2.ErrCodeNo, errHTTP2Closed)
	}
}

// over implements [http2StreamEnd].
func (st *serverStream) over(err error) {
	for _, timer := range []*asyncio.TimerHandle{st.readTimer, st.writeTimer} {
		if timer != nil {
			timer.Cancel()
		}
	}
	if err != errHTTP2Closed { // a handler that has sent all that it has may go on
		st.cancel(errClientGone)
	}
}

func (st *serverStream) readTimedOut() {
	if st.bodyErr == nil {
		st.bodyErr = os.ErrDeadlineExceeded
		st.readable.set()
	}
}

func (st *serverStream) writeTimedOut() {
	st.c.reset(&st.http2Stream, http2.ErrCodeInternal, os.ErrDeadlineExceeded)
}

// An http2RequestBody is the body of a request that a server has received.
type http2RequestBody serverStream

// Read implements [io.Reader]. It suspends the calling task until there is something. Only one task
// may read at a time.
func (b *http2RequestBody) Read(p []byte) (int, error) {
	st := (*serverStream)(b)
	task, err := st.c.task()
	if err != nil {
		return 0, fmt.Errorf("%w (in the Read of a request's body)", err)
	}
	if st.expects && !st.reading && !st.bodyClosed {
		st.expects = false
		st.response.sendContinue()
	}
	n, err := st.readBody(task.GetContext(), p, "the body")
	if err == errBodyClosed {
		err = http.ErrBodyReadAfterClose
	}
	return n, err
}

// Close implements [io.Closer]. It does not suspend.
func (b *http2RequestBody) Close() error {
	(*serverStream)(b).closeBody()
	return nil
}
