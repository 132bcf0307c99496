// Package asynciohttp serves and calls HTTP in tasks of an asyncio loop. Protocols, connections and
// TLS are net/http's, with HTTP/1.1 and HTTP/2, on goroutines as usual. Only handlers, and the
// callers that wait for a response, are tasks. So data shared by handlers needs no lock.
//
//	func main() {
//		_, err := asyncio.Run(context.Background(), asyncio.Do(func(ctx context.Context) error {
//			ln, err := net.Listen("tcp", ":8080")
//			if err != nil {
//				return err
//			}
//			mux := http.NewServeMux()
//			mux.Handle("GET /rooms/{name}", asynciohttp.HandlerFunc(enter))
//			return asynciohttp.Serve(ctx, &http.Server{Handler: mux}, ln)
//		}))
//		…
//	}
//
//	func enter(ctx context.Context, w http.ResponseWriter, r *http.Request) error { … }
//
// # How a request reaches the loop
//
//	http 1: A request is one task. It begins when net/http has the header, and ServeHTTP returns to
//	   net/http after the task has ended, so the server sees an ordinary handler: keep-alive,
//	   Shutdown and its log work as usual.
//	http 2: The goroutine on which net/http serves the request waits meanwhile, and makes the
//	   blocking calls for the task: it writes. Each read of the body has a goroutine of its own,
//	   because both directions may go at once. At most one write and one read are under way, so
//	   memory is bounded and a slow peer slows the task down (back-pressure).
//	http 3: Written bytes are collected, up to 4 KiB, and handed over when that is full, at a Flush,
//	   and at the end. A short response costs no hand-over besides the end of the task.
//	http 4: A buffer under way belongs to the goroutine. A cancelled task leaves at once; the buffer
//	   is written or filled all the same, and the next write waits for it, the next read gets it. No
//	   byte is lost or sent twice.
//	http 5: The request's context has the values that net/http put there and leads to the loop. When
//	   the client has gone it ends, and its cause is an asyncio.CancelledError: every await that the
//	   handler makes with it fails so, and the task counts as cancelled. net/http notices a lost
//	   client only once the body has been read to its end, or while it is read: a handler that
//	   leaves a body unread runs on.
//	http 6: net/http handles a panic of a handler: the connection or stream is aborted and the
//	   server logs the panic, with the task's stack; http.ErrAbortHandler aborts without a word. The
//	   loop does not report it a second time.
//	http 7: A handler that was cancelled and has not taken that back with Uncancel has not finished
//	   its response. If nothing has been sent, the client gets 503; otherwise the connection or
//	   stream is aborted, so that no client takes half a response for a whole one. The same holds if
//	   the loop is closed.
//	http 8: When the task has ended, the ResponseWriter and the body refuse to be used. A read that
//	   is still under way is broken off.
package asynciohttp
