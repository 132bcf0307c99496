package asynciohttp

import "io"

// copyToResponse copies src to a response, through a buffer that responses share: io.Copy would
// make one for each.
func copyToResponse(w io.Writer, src io.Reader) (int64, error) {
	buf := bodyBuffers.Get().(*[bodyBuffer]byte)
	n, err := io.CopyBuffer(struct{ io.Writer }{w}, src, buf[:])
	if err == nil { // else an operation that was given up may still use it
		bodyBuffers.Put(buf)
	}
	return n, err
}

// ReadFrom implements [io.ReaderFrom]: it copies src to the response, and suspends the task while
// the client accepts no more.
func (w *serverResponse) ReadFrom(src io.Reader) (int64, error) { return copyToResponse(w, src) }

// ReadFrom implements [io.ReaderFrom]: it copies src to the response, and suspends the task while
// the client accepts no more.
func (w *http2Response) ReadFrom(src io.Reader) (int64, error) { return copyToResponse(w, src) }
