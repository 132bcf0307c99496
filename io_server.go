package asyncio

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/goasyncio/asyncio/internal/driver"
)

// A Server accepts connections and runs a task for each. [StartServer] makes one.
//
// Its methods are for the loop only. Those with a ctx must be called in a task, which they suspend;
// the others do not suspend. A call in the wrong place returns [ErrNotInTask], [ErrNoRunningLoop]
// or [ErrDifferentLoop].
//
//	server 1: A handler's task runs until the handler returns and its writes, by WriteSoon too, have
//	   been sent; then the connection is closed.
//	server 2: An error of a handler, unless it is io.EOF, goes to the exception handler. It ends the
//	   handler's own connection and nothing else. So does a panic.
//	server 3: Closing the server stops accepting; the clients stay. The server is over when it is
//	   closed and none of its tasks is left, neither a handler's nor one that accepts.
//	server 4: Handlers get the ctx that the server was started with. Its end stops them and the
//	   server. In a function that [Call] or [LoopGroup.Each] runs, ctx ends when the function
//	   returns: call Serve there, or start the server with [context.WithoutCancel].
//	server 5: A connection takes a place of MaxClients; waiting for a connection does not. So every
//	   listener serves while fewer than n are open. With TLS the place is taken when the handshake
//	   is done. Connections in a handshake are limited on their own: beyond the limit, the one whose
//	   handshake has lasted longest is dropped. They are no clients yet, and Shutdown drops them.
//
// Python: asyncio.Server.
type Server struct {
	loop    *EventLoop
	ctx     context.Context
	handle  Handler
	options StreamOption

	listeners []*Listener
	acceptors []*acceptor
	room      *Semaphore // the free places, nil without MaxClients

	clients linkedList[*client] // clients that have a handler
	// clients without one: their handshake is under way, or they wait for a place (server 5)
	early   linkedList[*client]
	serving bool
	closed  bool
	inServe bool
	stopped Event // closed
	over    Event // closed, and no task is left (server 3)
}

// A Handler serves one client. It runs as a task; when it returns, the connection is closed. An
// error that it returns goes to the exception handler, unless it is that of a cancel, or [io.EOF],
// which says only that the client is done. Python: client_connected_cb.
type Handler func(ctx context.Context, r *StreamReader, w *StreamWriter) error

// acceptor is the task that accepts at one listener.
type acceptor struct {
	s     *Server
	task  *Task[None]
	ended bool
}

// client is one connection with its handler.
type client struct {
	s      *Server
	task   *Task[None]
	conn   StreamConn
	w      *StreamWriter // nil before the handler has begun
	placed bool          // has a place of MaxClients
	// the server has closed its connection: errors that say so do not count as failures of the
	// handler
	ended bool
	in    *linkedList[*client]
	link  link[*client]
}

// minHandshakes is the least number of handshakes that may be under way under MaxClients.
const minHandshakes = 100

// StartServer listens on a TCP address ("host:port") and runs handler, as a task, for each client.
// It returns when it accepts connections. It must be called in a task, which it suspends. A cancel,
// or the end of ctx, leaves nothing behind. Errors are those of [Listen], and [ErrInvalidArgument]
// without a handler. Python: asyncio.start_server.
func StartServer(ctx context.Context, handler Handler, address string, opts ...StreamOption) (*Server, error) {
	return startServer(ctx, handler, "tcp", address, opts)
}

// StartUnixServer is [StartServer] for a Unix socket. Python: asyncio.start_unix_server.
func StartUnixServer(ctx context.Context, handler Handler, path string, opts ...StreamOption) (*Server, error) {
	return startServer(ctx, handler, "unix", path, opts)
}

func startServer(ctx context.Context, handler Handler, network, address string, opts []StreamOption) (*Server, error) {
	if handler == nil {
		return nil, fmt.Errorf("%w: nil handler (in StartServer)", ErrInvalidArgument)
	}
	ln, err := Listen(ctx, network, address)
	if err != nil {
		return nil, err
	}
	s := NewServer(ctx, []*Listener{ln}, handler, opts...)
	if err := s.StartServing(ctx); err != nil {
		s.Close()
		return nil, err
	}
	return s, nil
}

// NewServer makes a server of listeners, which then belong to it. The server accepts nothing before
// StartServing or Serve. NewServer is for the loop only and does not suspend. It panics with
// [ErrInvalidArgument] without a handler or with a listener that is nil or another loop's.
func NewServer(ctx context.Context, listeners []*Listener, handler Handler, opts ...StreamOption) *Server {
	l := mustLoop(ctx, "NewServer")
	if handler == nil {
		panic(fmt.Errorf("%w: nil handler (in NewServer)", ErrInvalidArgument))
	}
	for _, ln := range listeners {
		if ln == nil || ln.loop != l {
			panic(fmt.Errorf("%w: a listener that is nil or another loop's (in NewServer)", ErrInvalidArgument))
		}
	}
	// Handlers get this ctx too (server 4).
	s := &Server{loop: l, ctx: ctx, handle: handler, options: streamOptions(opts), listeners: listeners}
	if s.options.clients > 0 {
		s.room = NewSemaphore(s.options.clients)
	}
	return s
}

// StartServing begins to accept, if the server does not do so yet. It suspends for one iteration.
// It returns [ErrInvalidState] if the server is closed.
func (s *Server) StartServing(ctx context.Context) error {
	if err := s.start(ctx, "Server.StartServing"); err != nil {
		return err
	}
	return Sleep(ctx, 0)
}

func (s *Server) start(ctx context.Context, caller string) error {
	if _, err := s.loop.enterOn(ctx, caller); err != nil {
		return err
	}
	if s.closed {
		return fmt.Errorf("%w: the server is closed (in %s)", ErrInvalidState, caller)
	}
	if !s.serving {
		s.serving = true
		for _, ln := range s.listeners {
			a := &acceptor{s: s, task: CreateTask(s.ctx, Do(func(ctx context.Context) error { return s.accept(ctx, ln) }), TaskName("acceptor of "+ln.Addr().String()))}
			a.task.own = true
			// the callback also runs for a task that was cancelled before it started
			a.task.addCallback(a)
			s.acceptors = append(s.acceptors, a)
		}
	}
	return nil
}

// accept runs in the task that accepts at ln.
func (s *Server) accept(ctx context.Context, ln *Listener) error {
	defer s.Close() // however accept ends
	for {
		c, err := s.next(ctx, ln)
		if err == nil {
			s.admit(c)
			continue
		}
		if s.closed || errors.Is(err, net.ErrClosed) || isCancel(ctx, err) {
			return ignoreEnd(ctx, err)
		}
		s.loop.CallExceptionHandler(ExceptionContext{Message: "a server cannot accept", Exception: err})
		if err := Sleep(ctx, time.Second); err != nil {
			return ignoreEnd(ctx, err)
		}
	}
}

// next waits for a connection at ln and, with MaxClients, for a place, which it then takes (server
// 5). An acceptor that has a place but finds no connection gives the place back before it waits.
// Acceptors get places in the order in which they asked.
func (s *Server) next(ctx context.Context, ln *Listener) (*Conn, error) {
	if s.room == nil {
		return ln.AcceptContext(ctx)
	}
	for {
		if err := s.room.Acquire(ctx); err != nil {
			return nil, err
		}
		t, err := ln.loop.enterOn(ctx, "Server")
		var c *Conn
		if err == nil {
			c, err = ln.acceptNow(t)
		}
		if err == nil {
			return c, nil
		}
		s.room.Release()
		if err := ln.wait(ctx, t, err); err != nil {
			return nil, err
		}
	}
}

// fire runs at the end of the acceptor's task.
func (a *acceptor) fire(f *future) {
	f.retrieved()
	a.ended = true
	a.s.Close()
	a.s.look()
}

func (a *acceptor) String() string { return "Server()" }

// ignoreEnd returns err if it is a cancel. Other errors are how a server is stopped, and become
// nil.
func ignoreEnd(ctx context.Context, err error) error {
	if asCancelled(err) != nil {
		return err
	}
	return nil
}

// admit starts the task of a client. With MaxClients the client has a place.
func (s *Server) admit(c *Conn) {
	k := &client{s: s, conn: c, placed: s.room != nil}
	if s.options.tls == nil {
		k.enter(&s.clients)
	} else {
		k.leavePlace()
		s.limitHandshakes()
		k.enter(&s.early)
	}
	var opts []TaskOption
	if _, simulated := s.loop.drv.(driver.Network); simulated { // else a name costs too much
		opts = []TaskOption{TaskName(connectionName(c))}
	}
	k.task = CreateTask(s.ctx, inPlaceOf(s.handle, k.run), opts...)
	k.task.addCallback(k) // the callback also runs for a task that was cancelled before it started
}

// connectionName names the task of a client in a simulation, whose traces are read by people.
func connectionName(c *Conn) string {
	if remote := c.RemoteAddr(); remote != nil && remote.String() != "" {
		return "connection from " + remote.String()
	}
	return "connection to " + c.LocalAddr().String() // of a Unix socket
}

// enter puts k into one of the server's lists.
func (k *client) enter(q *linkedList[*client]) {
	k.in = q
	q.add(&k.link, k)
}

// limitHandshakes makes room for one more handshake (server 5).
func (s *Server) limitHandshakes() {
	if s.room == nil || s.early.n < max(s.options.clients, minHandshakes) {
		return
	}
	for k := range s.early.all() {
		if _, under := k.conn.(*Conn); under && !k.ended {
			k.drop("others have come since, and the handshake is not done")
			return
		}
	}
}

// drop ends a client that has no handler yet.
func (k *client) drop(why string) {
	k.ended = true
	k.task.Cancel(why)
}

func (s *Server) dropEarly() {
	for k := range s.early.all() {
		k.drop("the server was shut down")
	}
}

func (k *client) leavePlace() {
	if k.placed {
		k.placed = false
		k.s.room.Release()
	}
}

// run is the body of the client's task.
func (k *client) run(ctx context.Context) error {
	s := k.s
	if s.options.tls != nil {
		if err := k.secure(ctx); err != nil || k.ended {
			return ignoreEnd(ctx, err)
		}
	}
	r, w := NewStreams(k.conn, StreamOption{limit: s.options.limit})
	k.w = w
	err := s.handle(ctx, r, w)
	if err != nil && err != io.EOF && !isCancel(ctx, err) {
		if !k.ended || !onlyClosed(err) {
			// The error ends this connection only (server 2).
			s.loop.CallExceptionHandler(ExceptionContext{Message: "Unhandled exception in client_connected_cb", Exception: err, Task: k.task, Conn: k.conn})
		}
		err = nil
	}
	if e := k.flush(ctx); e != nil {
		return e
	}
	return ignoreEnd(ctx, err)
}

// flush closes the connection once everything is written that WriteSoon, or a task of the handler,
// was given (server 1). Until then the client keeps its place, and Shutdown waits for it. Only a
// further cancel ends the wait.
func (k *client) flush(ctx context.Context) error {
	k.w.CloseSoon()
	if k.w.pending == 0 {
		return nil
	}
	err := k.w.closed.Wait(context.WithoutCancel(ctx))
	if err != nil {
		k.w.Abort()
	}
	return err
}

// secure does the handshake, and waits for a place (server 5).
func (k *client) secure(ctx context.Context) error {
	s := k.s
	c, err := startTLS(ctx, k.conn.(*Conn), s.options, tls.Server, "Server")
	if err != nil {
		if !isCancel(ctx, err) && !k.ended && s.loop.debug() { // any stranger can cause it
			s.loop.CallExceptionHandler(ExceptionContext{Message: "TLS handshake failed", Exception: err, Task: k.task, Conn: k.conn})
		}
		return err
	}
	k.conn = c
	if s.room != nil {
		if err := s.room.Acquire(ctx); err != nil {
			return err
		}
		k.placed = true
	}
	k.in.remove(&k.link)
	k.enter(&s.clients)
	return nil
}

// onlyClosed reports whether err says only that a connection was closed. A group says so if each of
// its leaves does.
func onlyClosed(err error) bool {
	if g := (*GroupError)(nil); errors.As(err, &g) {
		return g.Subgroup(func(err error) bool { return !errors.Is(err, net.ErrClosed) }) == nil
	}
	return errors.Is(err, net.ErrClosed)
}

// fire runs at the end of the client's task.
func (k *client) fire(f *future) {
	f.retrieved()
	k.close()
	k.in.remove(&k.link)
	k.leavePlace()
	k.s.look()
}

func (k *client) String() string { return "Server()" }

func (k *client) close() {
	if k.w != nil {
		k.w.CloseSoon()
	} else {
		_ = k.conn.Close()
	}
}

func (k *client) abort() {
	if k.w != nil {
		k.w.Abort()
	} else {
		_ = k.conn.Abort()
	}
}

// look notes the end of the server if it has come (server 3).
func (s *Server) look() {
	if !s.closed || s.clients.n+s.early.n > 0 {
		return
	}
	for _, a := range s.acceptors {
		if !a.ended {
			return
		}
	}
	s.over.Set()
}

// Serve accepts connections until the server is closed, and then returns nil. If it is cancelled or
// ctx ends first, Serve closes the server, waits for the handlers, however long they take, and
// returns that error. A program that has to end in time starts the server with [StartServer], waits
// for its signal, and calls [Server.Shutdown] with a limit. A second Serve at the same time returns
// [ErrBusy], a Serve on a closed server [ErrInvalidState]. Python: serve_forever.
func (s *Server) Serve(ctx context.Context) error {
	if s.inServe {
		return fmt.Errorf("%w: the server is being served (in Serve)", ErrBusy)
	}
	if err := s.start(ctx, "Server.Serve"); err != nil {
		return err
	}
	s.inServe = true
	defer func() { s.inServe = false }()
	err := s.stopped.Wait(ctx)
	if err != nil {
		s.Close()
		s.dropEarly()
		if e := s.over.Wait(context.WithoutCancel(ctx)); e != nil {
			return e // a second cancel
		}
	}
	return err
}

// Close stops listening. Clients that are connected are not touched; see [Server.CloseClients],
// [Server.AbortClients] and [Server.Shutdown]. It does not suspend; more calls do nothing.
func (s *Server) Close() {
	s.loop.mustNotBeForeign("Server.Close")
	if s.closed || s.loop.closing.Load() {
		return
	}
	s.closed, s.serving = true, false
	for _, ln := range s.listeners {
		_ = ln.Close()
	}
	for _, a := range s.acceptors {
		if t := a.task; t.fut.state == pending && &t.task != s.loop.current {
			t.Cancel("the server was closed")
		}
	}
	s.stopped.Set()
	s.look()
}

// CloseClients closes the connections of all clients, after the writes under way. Their handlers go
// on and find their streams closed; errors that say so are not reported as failures of the
// handlers. It does not suspend.
func (s *Server) CloseClients() {
	s.loop.mustNotBeForeign("Server.CloseClients")
	s.end((*client).close)
}

// AbortClients is CloseClients at once: writes under way are lost. It does not suspend.
func (s *Server) AbortClients() {
	s.loop.mustNotBeForeign("Server.AbortClients")
	s.end((*client).abort)
}

func (s *Server) end(how func(*client)) {
	for _, q := range []*linkedList[*client]{&s.clients, &s.early} {
		for k := range q.all() {
			k.ended = true
			how(k)
		}
	}
}

// WaitClosed suspends until the server is closed and all handlers have returned. A cancel, or the
// end of ctx, ends the wait only. Python: wait_closed.
func (s *Server) WaitClosed(ctx context.Context) error { return s.over.Wait(ctx) }

// Shutdown closes the server and waits for its handlers, so that no task of the server is left. If
// ctx ends or the calling task is cancelled first, it aborts the remaining connections, cancels
// their handlers, waits for them, and returns that error. A nil error says that no handler was
// interrupted. A connection has no handler yet while its TLS handshake is under way or MaxClients
// are open. It is dropped at once, just as a connection that the system has not handed over.
//
// To give clients ten seconds: ctx, cancel := WithTimeout(ctx, 10*time.Second).
func (s *Server) Shutdown(ctx context.Context) error {
	if ctx == nil {
		return fmt.Errorf("%w: nil context (in Server.Shutdown)", ErrInvalidArgument)
	}
	if _, err := s.loop.enterOn(context.WithoutCancel(ctx), "Server.Shutdown"); err != nil {
		return err
	}
	s.Close()
	s.dropEarly()
	err := s.over.Wait(ctx)
	if err == nil {
		return nil
	}
	s.end(func(k *client) {
		k.abort()
		k.task.Cancel("the server was shut down")
	})
	if e := s.over.Wait(context.WithoutCancel(ctx)); e != nil {
		return e // a second cancel
	}
	return err
}

// IsServing reports whether the server accepts connections.
func (s *Server) IsServing() bool { return s.serving }

// Clients returns how many clients are connected, or have handlers that have not returned.
func (s *Server) Clients() int { return s.clients.n + s.early.n }

// Addrs returns the addresses that the server listens on, none after Close. Python: Server.sockets.
func (s *Server) Addrs() []net.Addr {
	var all []net.Addr
	if !s.closed {
		for _, ln := range s.listeners {
			all = append(all, ln.Addr())
		}
	}
	return all
}

// String returns Python's repr.
func (s *Server) String() string { return fmt.Sprintf("<Server sockets=%v>", s.Addrs()) }
