package asyncio

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// A Server accepts connections and runs a task for each. [StartServer] makes one.
//
// Its methods are for the loop only. Those with a ctx must be called in a task, which they suspend; the others do not suspend. A call in the
// wrong place returns [ErrNotInTask], [ErrNoRunningLoop] or [ErrDifferentLoop].
//
//	U1 A handler's task runs until the handler returns; then the connection is closed, after what was written.
//	U2 An error of a handler, unless it is io.EOF, goes to the exception handler. It ends its own connection and nothing else. So does a panic.
//	U3 Closing the server stops accepting; the clients stay. It is over when it is closed and none of its tasks is left, neither a
//	   handler's nor one that accepts.
//	U4 Handlers get the ctx that the server was started with. Its end stops them and the server. In a function that [Call] or
//	   [LoopGroup.Each] runs that is when the function returns: call Serve there, or start the server with [context.WithoutCancel].
//
// Python: asyncio.Server.
type Server struct {
	loop    *EventLoop
	ctx     context.Context
	handle  Handler
	options StreamOption

	listeners []*Listener
	acceptors []*acceptor
	room      *Semaphore // nil without MaxClients

	first, last *client // with a handler, in order of arrival
	serving     bool
	closed      bool
	inServe     bool
	stopped     Event // closed
	over        Event // U3
}

// A Handler serves one client. It runs as a task; when it returns, the connection is closed. An error that it returns goes to the
// exception handler, unless it is that of a cancel, or [io.EOF]: the client has said all it had to say. Python: client_connected_cb.
type Handler func(ctx context.Context, r *StreamReader, w *StreamWriter) error

// acceptor is the task that accepts at one listener.
type acceptor struct {
	s     *Server
	task  *Task[None]
	ended bool
}

// client is one connection with its handler.
type client struct {
	s          *Server
	task       *Task[None]
	conn       StreamConn
	w          *StreamWriter // nil during the handshake
	prev, next *client
}

// StartServer listens on a TCP address ("host:port") and runs handler, as a task, for each client. It returns when it
// accepts connections. It must be called in a task, which it suspends. A cancel, or the end of ctx, leaves nothing behind. Errors are
// those of [Listen], and [ErrInvalidArgument] without a handler. Python: asyncio.start_server.
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

// NewServer makes a server of listeners, which then belong to it. It accepts nothing before StartServing or Serve. It is
// for the loop only and does not suspend. It panics with [ErrInvalidArgument] without a handler or with a listener that is nil or another loop's.
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
	s := &Server{loop: l, ctx: ctx, handle: handler, options: streamOptions(opts), listeners: listeners}
	if s.options.clients > 0 {
		s.room = NewSemaphore(s.options.clients)
	}
	return s
}

// StartServing begins to accept, if that has not begun. It suspends for one iteration. It returns [ErrInvalidState] if the server is closed.
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
			a := &acceptor{s: s, task: CreateTask(s.ctx, Do(func(ctx context.Context) error { return s.accept(ctx, ln) }))}
			a.task.addCallback(a) // also of a task that was cancelled before it started
			s.acceptors = append(s.acceptors, a)
		}
	}
	return nil
}

// accept is the task that accepts at ln.
func (s *Server) accept(ctx context.Context, ln *Listener) error {
	defer s.Close() // whatever ends it
	for {
		if s.room != nil {
			if err := s.room.Acquire(ctx); err != nil {
				return ignoreEnd(ctx, err)
			}
		}
		c, err := ln.AcceptContext(ctx)
		if err == nil {
			s.admit(c)
			continue
		}
		if s.room != nil {
			s.room.Release()
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

// fire is the end of the task.
func (a *acceptor) fire(f *future) {
	f.retrieved()
	a.ended = true
	a.s.Close()
	a.s.look()
}

func (a *acceptor) String() string { return "Server()" }

// ignoreEnd is err, unless that is how a server is stopped.
func ignoreEnd(ctx context.Context, err error) error {
	if asCancelled(err) != nil {
		return err
	}
	return nil
}

// admit starts the task of a client.
func (s *Server) admit(c *Conn) {
	k := &client{s: s, conn: c}
	if s.last == nil {
		s.first = k
	} else {
		s.last.next, k.prev = k, s.last
	}
	s.last = k
	k.task = CreateTask(s.ctx, inPlaceOf(s.handle, k.run))
	k.task.addCallback(k) // also of a task that was cancelled before it started
}

// run is the client's task.
func (k *client) run(ctx context.Context) error {
	s := k.s
	if config := s.options.tls; config != nil {
		secure, err := TLSServer(ctx, k.conn.(*Conn), config)
		if err != nil {
			if !isCancel(ctx, err) && s.loop.debug() { // any passer-by can cause it
				s.loop.CallExceptionHandler(ExceptionContext{Message: "TLS handshake failed", Exception: err, Task: k.task, Conn: k.conn})
			}
			return ignoreEnd(ctx, err)
		}
		k.conn = secure
	}
	r, w := NewStreams(k.conn, StreamOption{limit: s.options.limit})
	k.w = w
	err := s.handle(ctx, r, w)
	if err != nil && err != io.EOF && !isCancel(ctx, err) {
		s.loop.CallExceptionHandler(ExceptionContext{Message: "Unhandled exception in client_connected_cb", Exception: err, Task: k.task, Conn: k.conn})
		err = nil
	}
	w.CloseSoon()
	return ignoreEnd(ctx, err)
}

// fire is the end of the client's task.
func (k *client) fire(f *future) {
	s := k.s
	f.retrieved()
	k.close()
	if k.prev == nil {
		s.first = k.next
	} else {
		k.prev.next = k.next
	}
	if k.next == nil {
		s.last = k.prev
	} else {
		k.next.prev = k.prev
	}
	if s.room != nil {
		s.room.Release()
	}
	s.look()
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

// look notes whether it is over (U3).
func (s *Server) look() {
	if !s.closed || s.first != nil {
		return
	}
	for _, a := range s.acceptors {
		if !a.ended {
			return
		}
	}
	s.over.Set()
}

// Serve accepts until the server is closed, and then returns nil, or until it is cancelled or ctx ends: then it
// closes the server, waits for the handlers, and returns that error. A second Serve at the same time returns [ErrBusy], one on a
// closed server [ErrInvalidState]. Python: serve_forever.
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
		if e := s.over.Wait(context.WithoutCancel(ctx)); e != nil {
			return e // a second cancel
		}
	}
	return err
}

// Close stops listening. Clients that are connected are not touched; see [Server.CloseClients], [Server.AbortClients] and
// [Server.Shutdown]. It does not suspend; more calls do nothing.
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

// CloseClients closes the connections of all clients, after what is being written to them. Their handlers go on and find their streams closed. It
// does not suspend.
func (s *Server) CloseClients() {
	s.loop.mustNotBeForeign("Server.CloseClients")
	for k := s.first; k != nil; k = k.next {
		k.close()
	}
}

// AbortClients closes the connections of all clients at once. Their handlers go on and find their streams closed. It does not suspend.
func (s *Server) AbortClients() {
	s.loop.mustNotBeForeign("Server.AbortClients")
	for k := s.first; k != nil; k = k.next {
		k.abort()
	}
}

// WaitClosed suspends until the server is closed and all handlers have returned. A cancel, or the end of ctx, ends the wait only.
// Python: wait_closed.
func (s *Server) WaitClosed(ctx context.Context) error { return s.over.Wait(ctx) }

// Shutdown closes the server, waits for the handlers to return, so that no task of the server is left, and when ctx ends or the calling task is cancelled aborts the connections that are
// left, cancels their handlers, waits for these and returns that error. A nil error says that no client was interrupted.
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
	err := s.over.Wait(ctx)
	if err == nil {
		return nil
	}
	for k := s.first; k != nil; k = k.next {
		k.abort()
		k.task.Cancel("the server was shut down")
	}
	if e := s.over.Wait(context.WithoutCancel(ctx)); e != nil {
		return e // a second cancel
	}
	return err
}

// IsServing reports whether the server accepts connections.
func (s *Server) IsServing() bool { return s.serving }

// Clients returns how many clients are connected, or have handlers that have not returned.
func (s *Server) Clients() int {
	n := 0
	for k := s.first; k != nil; k = k.next {
		n++
	}
	return n
}

// Addrs returns the addresses that are listened on, none after Close. Python: Server.sockets.
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
