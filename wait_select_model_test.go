package asyncio_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
)

// A selectModel holds the things that tasks wait for with Select, and their expected state: the
// holders of the lock and the permits, and the place of every value. A value was put or sent by the
// task that was told so, and one task gets it, once.
type selectModel struct {
	*modelRun
	queue     *asyncio.Queue[int]
	lock      asyncio.Lock
	permits   *asyncio.Semaphore
	buffered  chan int
	open      chan int
	futures   []*asyncio.Future[int]
	remote    *asyncio.ConcurrentFuture[int]
	holders   int
	permitted int
	kinds     []int // of cases in this program: only a few, so that tasks meet
	next      int
	put, got  map[int]bool
	late      []func() // releases of what a finished Select has acquired
	cases     map[*modelTask][]*selectCase
}

// A selectCase is a case of a Select, with what the model knows of it.
type selectCase struct {
	asyncio.AnyCase
	what  string
	won   func()
	lost  func()      // nil: Result must say that the case has not won
	ready func() bool // nil: unknown
	coro  bool        // a coroutine: Select may have to wait for its end
	open  int         // 1: receives, 2: sends on the open channel

	// for a coroutine, whether it has ignored a cancel; Select then waits as long as the coroutine
	// runs
	goesOn func() bool
}

func (m *selectModel) value() int { m.next++; return m.next }

func (m *selectModel) gets(v int) {
	if m.got[v] {
		m.complain("%d was got twice", v)
	}
	m.got[v] = true
}

func (m *selectModel) puts(v int) {
	if m.put[v] {
		m.complain("%d was put twice", v)
	}
	m.put[v] = true
}

// draw makes a case of any kind for task t.
func (m *selectModel) draw(t *modelTask) *selectCase {
	switch m.kinds[m.r.IntN(len(m.kinds))] {
	case 0:
		c := asyncio.OnGet(m.queue)
		return &selectCase{AnyCase: c, what: "get", ready: func() bool { return !m.queue.Empty() },
			won: func() { m.gets(m.result(t, c)) }, lost: func() { m.noResult(c.Result()) }}
	case 1:
		v := m.value()
		c := asyncio.OnPut(m.queue, v)
		return &selectCase{AnyCase: c, what: fmt.Sprint("put ", v), ready: func() bool { return !m.queue.Full() },
			won: func() { m.puts(v) }, lost: func() { m.noResult(c.Result()) }}
	case 2:
		c := asyncio.OnAcquire(&m.lock)
		return &selectCase{AnyCase: c, what: "lock", won: func() { m.hold(t, &m.holders, 1, m.lock.Release) }, lost: func() { m.noResult(c.Result()) }}
	case 3:
		c := asyncio.OnAcquire(m.permits)
		return &selectCase{AnyCase: c, what: "permit", won: func() { m.hold(t, &m.permitted, 2, m.permits.Release) }, lost: func() { m.noResult(c.Result()) }}
	case 4:
		c := asyncio.OnRecv(m.buffered)
		return &selectCase{AnyCase: c, what: "receive", ready: func() bool { return len(m.buffered) > 0 },
			won: func() { m.gets(m.result(t, c)) }, lost: func() { m.noResult(c.Result()) }}
	case 5:
		v := m.value()
		c := asyncio.OnSend(m.buffered, v)
		return &selectCase{AnyCase: c, what: fmt.Sprint("send ", v), ready: func() bool { return len(m.buffered) == 0 },
			won: func() { m.puts(v) }, lost: func() { m.noResult(c.Result()) }}
	case 6:
		c := asyncio.OnRecv(m.open)
		return &selectCase{AnyCase: c, what: "receive directly", open: 1, won: func() { m.gets(m.result(t, c)) }, lost: func() { m.noResult(c.Result()) }}
	case 7:
		v := m.value()
		c := asyncio.OnSend(m.open, v)
		return &selectCase{AnyCase: c, what: fmt.Sprint("send directly ", v), open: 2, won: func() { m.puts(v) }, lost: func() { m.noResult(c.Result()) }}
	case 8:
		i := m.r.IntN(len(m.futures))
		f := m.futures[i]
		c := asyncio.OnDone(f)
		check := func() {
			if v, err := c.Result(); f.Done() && !f.Cancelled() && (v != i || err != nil) {
				m.complain("task %d: OnDone gives %d, %v", t.n, v, err)
			}
		}
		return &selectCase{AnyCase: c, what: fmt.Sprint("future ", i), ready: f.Done, won: check, lost: check}
	case 9:
		c := asyncio.OnDone[int](m.remote)
		return &selectCase{AnyCase: c, what: "call", ready: func() bool { return m.remote.Done() }, lost: func() {},
			won: func() {
				if v := m.result(t, c); v != 77 {
					m.complain("task %d: the call gives %d", t.n, v)
				}
			}}
	case 10:
		d := time.Duration(m.r.IntN(5)-1) * time.Millisecond
		c := asyncio.OnTimeout(d)
		return &selectCase{AnyCase: c, what: fmt.Sprint("timeout ", d), ready: func() bool { return false }, won: func() {}, lost: func() { m.noResult(c.Result()) }}
	}
	return m.coroutine(t)
}

// coroutine makes a case of a coroutine that gets a value, at once or later. It may get it even
// after a cancel.
func (m *selectModel) coroutine(t *modelTask) *selectCase {
	yields, stubborn, fails, panics, goesOn := m.r.IntN(4), m.chance(3), m.chance(4), m.chance(8), false
	c := asyncio.OnDone(asyncio.Coroutine[int](func(ctx context.Context) (int, error) {
		for range yields {
			if err := asyncio.Sleep(ctx, 0); err != nil {
				if !stubborn || ctx.Err() != nil {
					return 0, err
				}
				goesOn = true
			}
		}
		if panics {
			m.panicked++
			panic(errTest)
		}
		if fails {
			return 0, errTest
		}
		v, err := m.queue.Get(ctx)
		if err == nil {
			m.moves++
		}
		return v, err
	}))
	seen := func() {
		switch v, err := c.Result(); {
		case err == nil:
			m.gets(v)
		case !errors.Is(err, errTest) && !errors.Is(err, asyncio.ErrInvalidState) && !errors.Is(err, context.Canceled):
			m.complain("task %d: the coroutine: %v", t.n, err)
		}
	}
	return &selectCase{AnyCase: c, what: "coroutine", coro: true, won: seen, lost: seen, goesOn: func() bool { return goesOn }}
}

func (m *selectModel) result(t *modelTask, c *asyncio.Case[int]) int {
	v, err := c.Result()
	if err != nil || !c.OK() {
		m.complain("task %d: the case that has won: %v, OK %v", t.n, err, c.OK())
	}
	return v
}

func (m *selectModel) noResult(_ any, err error) {
	if !errors.Is(err, asyncio.ErrInvalidState) {
		m.complain("a case that has not won: %v", err)
	}
}

// hold makes t hold what it has acquired for a while. It is released even if t is disturbed.
func (m *selectModel) hold(t *modelTask, holders *int, most int, release func()) {
	if *holders++; *holders > most {
		m.complain("task %d: %d holders, at most %d allowed", t.n, *holders, most)
	}
	m.late = append(m.late, func() { *holders--; release() })
}

// choose does one Select with some cases.
func (m *selectModel) choose(t *modelTask) error {
	var cases []*selectCase
	var all []asyncio.AnyCase
	what, hasDefault := "select", m.chance(8)
	for range 1 + m.r.IntN(4) {
		c := m.draw(t)
		cases, all, what = append(cases, c), append(all, c.AnyCase), what+" "+c.what+","
	}
	var fallback asyncio.AnyCase
	if hasDefault {
		fallback = asyncio.OnDefault()
		all = append(all, fallback)
		what += " default"
	}
	first := slices.IndexFunc(cases, func(c *selectCase) bool { return c.ready != nil && c.ready() })
	isOver := t.ctx.Err() != nil
	var before int
	var won asyncio.AnyCase
	err := m.while(t, what, func() string {
		if overrun(cases) {
			return ""
		}
		for _, c := range cases {
			if c.ready != nil && c.ready() || c.what == "lock" && !m.lock.Locked() || c.what == "permit" && !m.permits.Locked() {
				return c.what + " is ready"
			}
			for _, o := range m.tasks {
				if o != t && c.open != 0 && m.waitsAt(o, 3-c.open) {
					return "somebody waits at the other end of the channel"
				}
			}
		}
		return ""
	}, func() (err error) {
		m.cases[t] = cases
		before = m.moves
		won, err = asyncio.Select(t.ctx, all...)
		delete(m.cases, t)
		return err
	})
	at := slices.IndexFunc(cases, func(c *selectCase) bool { return c.AnyCase == won })
	suspended := m.moves != before+1
	m.note("task %d: case %d of%s won, %v", t.n, at, what[len("select"):], err)
	switch {
	case err != nil && won != nil || err == nil && won == nil:
		m.complain("task %d: Select returns %v, %v", t.n, won, err)
	case err == nil && at < 0 && won != fallback:
		m.complain("task %d: a case won that was not given", t.n)
	case err == nil && isOver:
		m.complain("task %d: %s won though the context had ended", t.n, what)
	case err == nil && !suspended && first >= 0 && (won == fallback || at > first):
		m.complain("task %d: case %d won, but %d was ready", t.n, at, first)
	case hasDefault && suspended && !slices.ContainsFunc(cases, func(c *selectCase) bool { return c.coro }):
		m.complain("task %d: Select with a default has suspended", t.n)
	}
	for i, c := range cases {
		if i == at {
			c.won()
		} else {
			c.lost()
		}
	}
	if len(m.late) > 0 {
		release := m.late
		m.late = nil
		if e := m.pause(t); err == nil {
			err = e
		} else if e != nil {
			_ = m.came(t, e)
		}
		for _, r := range release {
			r()
		}
	}
	return err
}

// overrun reports whether a Select is over except for a coroutine that has ignored its cancel.
func overrun(cases []*selectCase) bool {
	return slices.ContainsFunc(cases, func(c *selectCase) bool { return c.coro && c.goesOn() })
}

func (m *selectModel) waitsAt(t *modelTask, end int) bool {
	return !overrun(m.cases[t]) && slices.ContainsFunc(m.cases[t], func(c *selectCase) bool { return c.open == end })
}

// other does something besides Select, so that things happen.
func (m *selectModel) other(t *modelTask) error {
	switch m.r.IntN(7) {
	case 0:
		if v := m.value(); m.queue.PutNowait(v) == nil {
			m.puts(v)
		}
	case 1:
		if v, err := m.queue.GetNowait(); err == nil {
			m.gets(v)
		}
	case 2:
		v := m.value()
		select {
		case m.buffered <- v:
			m.puts(v)
		default:
		}
	case 3:
		select {
		case v := <-m.buffered:
			m.gets(v)
		default:
		}
	case 4:
		i := m.r.IntN(len(m.futures))
		if !m.futures[i].Done() {
			m.note("future %d is done", i)
			must2(m.modelRun, m.futures[i].SetResult(i))
		}
	case 5:
		v := m.value()
		err := m.while(t, fmt.Sprint("Send ", v), func() string { return "" }, func() error { return asyncio.Send(t.ctx, m.open, v) })
		if err == nil {
			m.puts(v)
		}
		return err
	case 6:
		m.disturb()
	}
	m.moves++
	return m.pause(t)
}

func TestSelect_Model(t *testing.T) {
	checkModel(t, 13, func(run *modelRun) {
		m := &selectModel{
			modelRun: run, queue: asyncio.NewQueue[int](1 + run.r.IntN(2)), permits: asyncio.NewSemaphore(2),
			buffered: make(chan int, 1), open: make(chan int), put: make(map[int]bool), got: make(map[int]bool),
			cases: make(map[*modelTask][]*selectCase),
		}
		for range 2 + m.r.IntN(4) {
			m.kinds = append(m.kinds, m.r.IntN(12))
		}
		for range 3 {
			m.futures = append(m.futures, asyncio.CreateFuture[int](m.l.Context()))
		}
		rest := time.Duration(m.r.IntN(6)) * time.Millisecond
		m.remote = asyncio.StartCall(m.l.Context(), m.l, func(ctx context.Context) (int, error) { return 77, asyncio.Sleep(ctx, rest) })
		for range 2 + m.r.IntN(3) {
			m.start(1+m.r.IntN(6), func(t *modelTask) error {
				if m.chance(2) {
					return m.choose(t)
				}
				return m.other(t)
			})
		}
		m.over = func() {
			for v := range m.got {
				if !m.put[v] {
					m.complain("%d was got, and nobody was told that it is put", v)
				}
			}
			left := len(m.buffered) + m.queue.Statistics().Size
			if len(m.put)-len(m.got) != left {
				m.complain("%d values put, %d got, %d left", len(m.put), len(m.got), left)
			}
			q, p := m.queue.Statistics(), m.permits.Statistics()
			if m.lock.Locked() || len(m.lock.Statistics().Waiters)+len(p.Waiters)+q.Getters+q.Putters > 0 || p.Value != 2 {
				m.complain("at the end: %v, %v, %+v", &m.lock, m.permits, q)
			}
			if v, err := m.remote.Result(context.Background()); v != 77 || err != nil {
				m.complain("the call: %d, %v", v, err)
			}
		}
	}, panicsInTasks)
}
