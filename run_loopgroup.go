package asyncio

import (
	"context"
	"errors"
	"fmt"
	"net"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
)

// A LoopGroup is several loops that run at the same time, as a rule one for each core.
// [RunLoopGroup] makes one. The state of a task stays on its loop, so inside each loop nothing
// needs a lock; use [Call] to get from loop to loop.
//
//	loopgroup 1: The main coroutine runs on the first loop. When it has ended, so do the other
//	   loops: their tasks are cancelled and waited for, and the loops are closed, all at the same
//	   time and while the first still answers calls. Then the first ends as after Run.
//	loopgroup 2: If a loop ends before its time, because a task called runtime.Goexit or t.FailNow,
//	   main is cancelled.
//	loopgroup 3: On virtual time there is one loop, whatever n is. The machine would decide the
//	   order between several.
//
// Any goroutine may call its methods; only Each and Listen suspend. Python has no counterpart; its
// programs use processes.
type LoopGroup struct {
	loops []*EventLoop
	turn  atomic.Uint32
}

// RunLoopGroup makes n event loops, or GOMAXPROCS of them if n is 0. Each is run by a goroutine of
// its own. It runs main on the first loop and returns main's result. It blocks the calling
// goroutine and is [Run] in every other respect. opts hold for all loops, but SIGINT cancels main
// alone.
//
//	asyncio.RunLoopGroup(ctx, 0, func(ctx context.Context, g *asyncio.LoopGroup) (asyncio.None, error) {
//		listeners, err := g.Listen(ctx, "tcp", ":7000")
//		if err != nil {
//			return asyncio.None{}, err
//		}
//		return asyncio.None{}, g.Each(ctx, func(ctx context.Context, i int) error { return serve(ctx, listeners[i]) })
//	})
func RunLoopGroup[T any](ctx context.Context, n int, main func(ctx context.Context, g *LoopGroup) (T, error), opts ...RunOption) (_ T, err error) {
	var zero T
	if err := checkRun(ctx, main == nil, "RunLoopGroup"); err != nil {
		return zero, err
	}
	if n < 0 {
		return zero, fmt.Errorf("%w: %d loops (in RunLoopGroup)", ErrInvalidArgument, n)
	}
	if n == 0 {
		n = runtime.GOMAXPROCS(0)
	}
	first := NewRunner(ctx, opts...)
	defer func() { err = joinErrors(err, first.Close()) }()
	l, err := first.GetLoop()
	if err != nil {
		return zero, err
	}
	g := &LoopGroup{loops: []*EventLoop{l}}
	others := otherLoops{ctx: l.ctx}
	defer func() { err = joinErrors(err, others.wait()) }()
	defer others.stop()
	// On virtual time there is one loop only (loopgroup 3).
	for len(g.loops) < n && !l.drv.Polls() {
		// Clip keeps append from writing into the caller's array.
		r := NewRunner(ctx, append(slices.Clip(opts), HandleSIGINT(false))...)
		l, err := others.start(r)
		if err != nil {
			return zero, err
		}
		g.loops = append(g.loops, l)
	}
	return RunIn(first, func(ctx context.Context) (T, error) {
		t := CurrentTask(ctx)
		others.onEarlyEnd(func() { t.CancelCause(errLoopEnded) })
		defer others.join(ctx)
		return main(ctx, g)
	})
}

var errLoopEnded = fmt.Errorf("another loop of the group ended: %w", ErrGoexit)

// otherLoops are all loops of a group except the first.
type otherLoops struct {
	ctx     *loopContext // of the first
	running sync.WaitGroup
	stops   []func()

	mu    sync.Mutex
	err   error
	early bool   // one has ended before it was told to
	tell  func() // runs on the first loop, when early is set (loopgroup 2)
}

// start makes the loop of r and runs it on a goroutine until it is stopped.
func (o *otherLoops) start(r *Runner) (*EventLoop, error) {
	l, err := r.GetLoop()
	if err != nil {
		return nil, err
	}
	over := &Future[None]{future: future{loop: l}}
	o.stops = append(o.stops, func() {
		_, _ = l.CallSoonThreadsafe(func() { // a closed loop has stopped
			if !over.Done() {
				over.finish(nil)
			}
		})
	})
	o.running.Add(1)
	go func() {
		defer o.running.Done()
		ended := errLoopEnded // unless RunIn returns, which a Goexit prevents
		defer func() {
			if ended != nil {
				o.endedEarly()
			}
			o.failed(r.Close())
		}()
		_, err := RunIn(r, func(ctx context.Context) (None, error) { return over.Await(context.WithoutCancel(ctx)) })
		ended = err
		o.failed(err)
	}()
	return l, nil
}

func (o *otherLoops) failed(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.err = joinErrors(o.err, err)
}

func (o *otherLoops) endedEarly() {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.early = true; o.tell != nil {
		_, _ = o.ctx.loop.CallSoonThreadsafe(o.tell)
	}
}

func (o *otherLoops) onEarlyEnd(tell func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.tell = tell; o.early {
		tell()
	}
}

func (o *otherLoops) stop() {
	for _, stop := range o.stops {
		stop()
	}
}

// join stops the loops and suspends the calling task until they have ended (loopgroup 1).
func (o *otherLoops) join(ctx context.Context) {
	if len(o.stops) == 0 {
		return
	}
	o.stop()
	ended := RunInExecutor(o.ctx, freely{}, func() (None, error) { o.running.Wait(); return None{}, nil })
	_ = Cleanup(context.WithoutCancel(ctx), Forever, func(ctx context.Context) error {
		_, err := ended.Await(ctx)
		return err
	})
}

// wait blocks until the loops have ended.
func (o *otherLoops) wait() error {
	o.running.Wait()
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.err
}

// Len returns the number of loops.
func (g *LoopGroup) Len() int { return len(g.loops) }

// Loop returns one of the loops, 0 <= i < Len. The first is main's. To find state that is
// distributed by a key, use Loop(hash % Len).
func (g *LoopGroup) Loop(i int) *EventLoop { return g.loops[i] }

// Next returns each of the loops in turn.
func (g *LoopGroup) Next() *EventLoop {
	return g.loops[int((g.turn.Add(1)-1)%uint32(len(g.loops)))]
}

// Each runs fn on every loop at the same time, with the number of the loop, and waits until all
// have returned. It must be called in a task of one of the loops, which it suspends. The first
// error cancels the rest; errors and cancels are those of a [TaskGroup].
func (g *LoopGroup) Each(ctx context.Context, fn func(ctx context.Context, i int) error) error {
	if fn == nil {
		return fmt.Errorf("%w: nil function (in Each)", ErrInvalidArgument)
	}
	return RunTaskGroup(ctx, func(ctx context.Context, tg *TaskGroup) error {
		for i, l := range g.loops {
			tg.CreateTask(ctx, func(ctx context.Context) error {
				_, err := Call(ctx, l, Do(func(ctx context.Context) error { return fn(ctx, i) }))
				return err
			})
		}
		return nil
	})
}

// Listen listens on one address for all loops: the i-th listener, and the connections that it
// accepts, belong to Loop(i). On Linux the system distributes TCP connections among them
// ([ReusePort]). If one of these listeners is closed before the others, the connections that it has
// not accepted are lost. Elsewhere, and for Unix sockets, a goroutine accepts and hands each
// connection to whichever loop accepts first.
//
// Listen must be called in a task of one of the loops, which it suspends. After a cancel nothing is
// left open. Errors are those of [Listen].
func (g *LoopGroup) Listen(ctx context.Context, network, address string, opts ...ListenOption) (_ []*Listener, err error) {
	if len(g.loops) == 1 {
		ln, err := Listen(ctx, network, address, opts...)
		if err != nil {
			return nil, err
		}
		return []*Listener{ln}, nil
	}
	all := make([]*Listener, 0, len(g.loops))
	defer func() {
		if err != nil {
			closeListeners(all)
			all = nil
		}
	}()
	if runtime.GOOS == "linux" && strings.HasPrefix(network, "tcp") {
		opts = append(opts[:len(opts):len(opts)], ReusePort())
		for _, l := range g.loops {
			ln, err := callOpening(ctx, l, func(ctx context.Context) (*Listener, error) { return Listen(ctx, network, address, opts...) })
			if ln != nil {
				all = append(all, ln)
			}
			if err != nil {
				return all, err
			}
			address = ln.Addr().String() // the port, if it was 0
		}
		return all, nil
	}
	if _, err := enter(ctx, "LoopGroup.Listen"); err != nil {
		return all, err
	}
	lc := listenConfig(opts)
	nl, err := openOutside(ctx, func(ctx context.Context) (net.Listener, error) { return lc.Listen(ctx, network, address) })
	if err != nil {
		return all, err
	}
	shares := shareListener(nl, len(g.loops))
	for i, l := range g.loops {
		ln, err := callOpening(ctx, l, func(ctx context.Context) (*Listener, error) { return NewListener(ctx, shares[i]) })
		if ln != nil {
			all = append(all, ln)
		}
		if err != nil {
			for _, s := range shares[len(all):] {
				s.Close()
			}
			return all, err
		}
	}
	return all, nil
}

// callOpening is [Call] of a function that opens something. It returns the opened object even if a
// cancel took the place of the result.
func callOpening[T any](ctx context.Context, l *EventLoop, open func(ctx context.Context) (*T, error)) (opened *T, err error) {
	_, err = Call(ctx, l, Do(func(ctx context.Context) (err error) {
		opened, err = open(ctx)
		return err
	}))
	return opened, err
}

// closeListeners closes each listener on its loop.
func closeListeners(all []*Listener) {
	for _, ln := range all {
		_, _ = ln.loop.CallSoonThreadsafe(func() { _ = ln.Close() }) // a closed loop has closed it
	}
}

// shareListener makes n listeners of one. A connection goes to one that waits in Accept. Closing
// the last of them closes nl.
func shareListener(nl net.Listener, n int) []*listenerShare {
	s := &sharedListener{Listener: nl, accepted: make(chan acceptResult), unused: make(chan struct{})}
	s.open.Store(int32(n))
	go s.accept()
	shares := make([]*listenerShare, n)
	for i := range shares {
		shares[i] = &listenerShare{sharedListener: s, closed: make(chan struct{})}
	}
	return shares
}

type sharedListener struct {
	net.Listener
	accepted chan acceptResult
	open     atomic.Int32  // shares that are open
	unused   chan struct{} // closed when no share is open
}

type acceptResult struct {
	c   net.Conn
	err error
}

func (s *sharedListener) accept() {
	for {
		c, err := s.Listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		select {
		case s.accepted <- acceptResult{c, err}:
		case <-s.unused:
			if c != nil {
				c.Close()
			}
			return
		}
	}
}

type listenerShare struct {
	*sharedListener
	closed chan struct{}
	once   sync.Once
}

func (s *listenerShare) Accept() (net.Conn, error) {
	select {
	case a := <-s.accepted:
		return a.c, a.err
	case <-s.closed:
		return nil, net.ErrClosed
	}
}

func (s *listenerShare) Close() (err error) {
	s.once.Do(func() {
		close(s.closed)
		if s.open.Add(-1) == 0 {
			close(s.unused)
			err = s.Listener.Close()
		}
	})
	return err
}
