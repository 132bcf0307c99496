// Package asynciohttptest has what package [net/http/httptest] has, for handlers and clients in
// tasks: a [Server] on the loop of the test, with a client for it, and a [ResponseRecorder], which
// shows what a handler does without a connection. Nothing here starts a goroutine, so tests run on
// a virtual clock and on simulated hosts as well as in real time.
//
//	func TestGreeting(t *testing.T) {
//		sim.Run(t, func(ctx context.Context) error {
//			srv, err := asynciohttptest.NewServer(ctx, routes())
//			if err != nil {
//				return err
//			}
//			defer srv.Close()
//			req, err := http.NewRequestWithContext(ctx, http.MethodGet, srv.URL+"/greeting", nil)
//			if err != nil {
//				return err
//			}
//			resp, err := srv.Client().Do(req)
//			…
//		})
//	}
//
// A Server needs a network: the machine's, or that of sim.Run and sim.Explore. A loop of
// sim.NewEventLoop alone has none; the recorder works there too. Requests for a handler are made by
// [httptest.NewRequest].
//
// An error that an asynciohttp.HandlerFunc returns goes to the loop's exception handler. That of
// package sim fails the test, so a test that expects the error sets a handler of its own:
//
//	loop.SetExceptionHandler(func(_ *asyncio.EventLoop, c asyncio.ExceptionContext) { got = c.Exception })
package asynciohttptest
