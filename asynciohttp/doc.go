// Package asynciohttp speaks HTTP in the tasks of an asyncio loop. A [Server] serves the handlers
// of package net/http, and a [Transport] carries the requests of an [http.Client], both over
// HTTP/1.1 and HTTP/2. They do it without goroutines, in production and on the simulated hosts of
// package sim alike.
//
//	func main() {
//		_, err := asyncio.Run(context.Background(), asyncio.Do(func(ctx context.Context) error {
//			mux := http.NewServeMux()
//			mux.HandleFunc("GET /rooms/{name}", enter)
//			return asynciohttp.NewServer(&http.Server{Addr: ":8080", Handler: mux}).ListenAndServe(ctx)
//		}))
//		…
//	}
//
//	func enter(w http.ResponseWriter, r *http.Request) {
//		if err := asyncio.Sleep(r.Context(), time.Second); err != nil { // suspends this task only
//			return
//		}
//		…
//	}
//
// [Serve] is short for a Server on a listener that is there already.
//
// # Handlers
//
// A handler runs in a task. It suspends where it reads the request's body, writes or flushes the
// response, and awaits something with r.Context(). Between two awaits nothing else of the loop
// runs, so data that handlers share needs no lock. What blocks stops all of them: a database
// driver, a lock that a goroutine holds, a long computation belong in [asyncio.ToThread].
//
// Handlers and middleware that call each other where they stand work as they are: [http.ServeMux],
// [http.FileServer], [http.ServeContent], [http.MaxBytesHandler], [http.StripPrefix], forms, and
// httputil.ReverseProxy with a Transport of this package. Its FlushInterval is left at zero, or
// negative to flush after each write: a timer's flush would be refused. It passes no upgrades on.
//
// What runs the handler on a goroutine, or answers on one, does not work, because the goroutine is
// not the loop's: a write or an await there is refused with [asyncio.ErrForeignGoroutine].
// [http.TimeoutHandler] moreover waits in a select, which stops the loop. Use [TimeoutHandler] in
// its place, or a limit as below. The vet tool asynciovet reports it.
// A goroutine of middleware that has nothing to do with the request or the response is harmless.
//
// [asyncio.FailAfter] limits what a handler awaits with the ctx that it gives. Reads of r.Body and
// writes of the response take no ctx, so it does not end them, and neither does the end of a
// context that r.WithContext sets. For them there are [asyncio.Timeout], which cancels the task,
// Server.ReadTimeout and WriteTimeout, and the deadlines of [http.ResponseController].
//
// [http.CloseNotifier] is not implemented, because a handler that waits for its channel would stop
// the loop. r.Context() tells the same.
//
// With HTTP/1.1 a handler of a Server may hijack the connection, as libraries for WebSocket do. It
// gets an [*asyncio.Conn], or an [*asyncio.TLSConn], without deadlines. From then on only a read or
// a write tells that the client has gone: r.Context() does not. It still ends when the handler
// returns, so a task that goes on with the connection needs another context. Server.Shutdown and
// Server.Close neither end such connections nor wait for them. A function of
// Server.RegisterOnShutdown can end them; otherwise the end of the run cancels their tasks.
//
// Package asynciohttptest tests handlers.
//
// A [HandlerFunc] is a handler that returns an error. It has the context as an argument.
//
// # net/http's server and client
//
// A program that keeps net/http's server can have some of its requests served in tasks: [Handler]
// and [GroupHandler] are handlers for goroutines which run another handler as a task. [Do] and
// [Get] await a request that net/http's client makes on goroutines, also over HTTP/2. Each request
// costs a hand-over between a goroutine and the loop, and none of this can be simulated. Use it
// where such a server or client is there already.
//
// # How a request reaches the loop from net/http's server
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
