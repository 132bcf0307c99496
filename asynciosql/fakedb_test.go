package asynciosql_test

import (
	"cmp"
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"maps"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// A server is a database in this process, with a driver of its own. It has a table of keys and
// values, transactions, and a variable in each session. Statements are words:
//
//	set KEY VALUE    Exec; takes effect at once, or with the commit
//	get KEY          a row with the value, or none
//	rows N           N rows: a number and a text
//	wide N           N rows of 40,000 bytes
//	echo ARGS        a row with the arguments
//	buffer N         N rows of a byte, all of them in one buffer
//	sets N           a result of N rows, and a second one
//	session          a row: the number of the connection, and its variable
//	let VALUE        Exec; sets the variable
//
// Words before a statement say what happens on the way:
//
//	wait       announce it, and wait for a go or the end of the context, before the effect
//	after      the same after the effect, with the end of the context for an error
//	deaf       wait before the effect, and heed no context
//	late       wait, heed no context, and succeed
//	bad, fail, cut, panic, exit
//	           before the effect: the error driver.ErrBadConn, errFake, errCut and the end of the
//	           connection, a panic, a Goexit
//
// COMMIT and ROLLBACK are preceded by the words in the server's fields.
type server struct {
	*sql.DB
	entered chan string   // what waits is announced here
	goOn    chan struct{} // and goes on when it receives
	closed  chan struct{} // receives for each connection that is closed, if somebody waits for it

	mu               sync.Mutex
	table            map[string]string
	conns            map[*fakeConn]bool
	opened           int
	stale            int // this many connections answer the next statement with driver.ErrBadConn
	commit, rollback string
	closing          time.Duration // which the closing of rows takes, unless their context ends
	prepared         int           // statements that have not been closed
	noPing           bool          // connections have no Ping
	mute             bool          // results are asked for, announce it and wait for a go
	fetched          int           // rows
	wrong            []string      // violations of the protocol
	reports          int           // to the exception handler, that a test expects
}

var errFake = errors.New("fake failure")

// errCut is the error of a connection that has been cut.
var errCut = io.ErrUnexpectedEOF

// newServer returns a server whose pool has at most conns connections, and which must be left in
// order.
func newServer(t testing.TB, conns int) *server {
	t.Helper()
	s := openServer(conns)
	t.Cleanup(func() {
		if n := s.Stats().InUse; n != 0 {
			t.Errorf("%d connections of the pool are still in use", n)
		}
		if err := s.DB.Close(); err != nil {
			t.Error(err)
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if len(s.conns) > 0 {
			t.Errorf("%d connections are still open", len(s.conns))
		}
		for _, w := range s.wrong {
			t.Error(w)
		}
	})
	return s
}

func openServer(conns int) *server {
	s := &server{
		entered: make(chan string, 100), goOn: make(chan struct{}), closed: make(chan struct{}),
		table: make(map[string]string), conns: make(map[*fakeConn]bool),
	}
	s.DB = sql.OpenDB(s)
	s.SetMaxOpenConns(conns)
	s.SetMaxIdleConns(conns)
	return s
}

// has returns the committed keys.
func (s *server) has() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(slices.Sorted(maps.Keys(s.table)), " ")
}

// open returns how many connections there are, and how many there have been.
func (s *server) open() (now, ever int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.conns), s.opened
}

func (s *server) set(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change()
}

// wordsBefore returns the words of a field.
func (s *server) wordsBefore(field *string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Fields(*field)
}

func (s *server) Connect(ctx context.Context) (driver.Conn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.opened++
	c := &fakeConn{s: s, id: s.opened}
	s.conns[c] = true
	if s.noPing {
		return &pinglessConn{c, c, c, c, c, c, c}, nil
	}
	return c, nil
}

// pinglessConn is a fakeConn that cannot be asked whether it is there.
type pinglessConn struct {
	driver.Conn
	driver.ExecerContext
	driver.QueryerContext
	driver.ConnBeginTx
	driver.ConnPrepareContext
	driver.Validator
	driver.SessionResetter
}

func (s *server) Driver() driver.Driver            { return s }
func (s *server) Open(string) (driver.Conn, error) { return s.Connect(context.Background()) }

type fakeConn struct {
	s        *server
	id       int
	variable string
	tx       map[string]string // not committed, nil outside of transactions
	broken   bool
	stale    bool
	in       sync.Mutex // held during each call, and while rows are open
}

// enter checks that one thing happens at a time.
func (c *fakeConn) enter(what string) (leave func()) {
	if !c.in.TryLock() {
		c.s.set(func() { c.s.wrong = append(c.s.wrong, what+" on a connection that is busy") })
		return func() {}
	}
	return c.in.Unlock
}

// way does what the words say and returns the rest of the statement.
func (c *fakeConn) way(ctx context.Context, words []string, late *bool) ([]string, error) {
	c.s.mu.Lock()
	if c.s.stale > 0 && !c.stale && c.id <= c.s.stale {
		c.stale = true
	}
	c.s.mu.Unlock()
	if c.stale || c.broken {
		c.broken = true
		return nil, driver.ErrBadConn
	}
	for len(words) > 0 {
		switch words[0] {
		case "wait":
			c.s.entered <- strings.Join(words[1:], " ")
			select {
			case <-c.s.goOn:
			case <-ctx.Done():
				c.broken = true
				return nil, ctx.Err()
			}
		case "deaf", "late":
			c.s.entered <- strings.Join(words[1:], " ")
			<-c.s.goOn
			if words[0] == "deaf" && ctx.Err() != nil {
				c.broken = true
				return nil, ctx.Err()
			}
		case "after":
			*late = true
		case "bad":
			c.broken = true
			return nil, driver.ErrBadConn
		case "cut":
			c.broken = true
			return nil, errCut
		case "fail":
			return nil, errFake
		case "panic":
			panic("a driver's panic")
		case "exit":
			runtime.Goexit()
		default:
			return words, nil
		}
		words = words[1:]
	}
	return words, nil
}

func (c *fakeConn) after(ctx context.Context, late bool) error {
	if !late {
		return nil
	}
	c.s.entered <- "after"
	select {
	case <-c.s.goOn:
		return nil
	case <-ctx.Done():
		c.broken = true
		return ctx.Err()
	}
}

func (c *fakeConn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	defer c.enter(query)()
	late := false
	words, err := c.way(ctx, strings.Fields(query), &late)
	if err != nil {
		return nil, err
	}
	switch words[0] {
	case "set":
		c.s.mu.Lock()
		if c.tx != nil {
			c.tx[words[1]] = words[2]
		} else {
			c.s.table[words[1]] = words[2]
		}
		c.s.mu.Unlock()
	case "let":
		c.variable = words[1]
	default:
		return nil, fmt.Errorf("no statement: %q", query)
	}
	return fakeResult{c.s, int64(c.id), 1}, c.after(ctx, late)
}

type fakeResult struct {
	s        *server
	id, rows int64
}

func (r fakeResult) LastInsertId() (int64, error) {
	r.s.mu.Lock()
	mute := r.s.mute
	r.s.mu.Unlock()
	if mute {
		r.s.entered <- "result"
		<-r.s.goOn
	}
	return r.id, errFake
}
func (r fakeResult) RowsAffected() (int64, error) { return r.rows, nil }

func (c *fakeConn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	r := &fakeRows{c: c, ctx: ctx, leave: c.enter(query)}
	late := false
	words, err := c.way(ctx, strings.Fields(query), &late)
	if err != nil {
		r.leave()
		return nil, err
	}
	switch words[0] {
	case "get":
		r.columns = []string{"value"}
		c.s.mu.Lock()
		v, ok := c.s.table[words[1]]
		if own, changed := c.tx[words[1]]; changed {
			v, ok = own, true
		}
		c.s.mu.Unlock()
		if ok {
			r.n, r.row = 1, func(int) []driver.Value { return []driver.Value{v} }
		}
	case "rows":
		r.columns = []string{"n", "text"}
		r.n, _ = strconv.Atoi(words[1])
		r.words = words[2:]
		r.row = func(i int) []driver.Value { return []driver.Value{int64(i), "row " + strconv.Itoa(i)} }
	case "wide":
		r.columns = []string{"text"}
		r.n, _ = strconv.Atoi(words[1])
		r.row = func(i int) []driver.Value { return []driver.Value{strings.Repeat(strconv.Itoa(i%10), 40_000)} }
	case "echo":
		r.n = 1
		values := make([]driver.Value, len(args))
		for i, a := range args {
			values[i] = a.Value
			r.columns = append(r.columns, cmp.Or(a.Name, "arg"+strconv.Itoa(i)))
		}
		r.row = func(int) []driver.Value { return values }
	case "buffer":
		r.columns = []string{"bytes"}
		r.n, _ = strconv.Atoi(words[1])
		buffer := make([]byte, 1)
		r.row = func(i int) []driver.Value { buffer[0] = byte(i); return []driver.Value{buffer} }
	case "sets":
		r.columns = []string{"n"}
		r.n, _ = strconv.Atoi(words[1])
		r.sets = 1
		r.row = func(i int) []driver.Value { return []driver.Value{int64(i)} }
	case "session":
		r.columns = []string{"connection", "variable"}
		r.n, r.row = 1, func(int) []driver.Value { return []driver.Value{int64(c.id), c.variable} }
	default:
		r.leave()
		return nil, fmt.Errorf("no query: %q", query)
	}
	return r, nil
}

// fakeRows are rows; the words of "rows N WORDS AT" are done on the way to row AT.
type fakeRows struct {
	c       *fakeConn
	ctx     context.Context
	columns []string
	words   []string
	n, i    int
	sets    int // results after this one
	row     func(i int) []driver.Value
	leave   func()
	closed  bool
}

func (r *fakeRows) HasNextResultSet() bool { return r.sets > 0 }
func (r *fakeRows) NextResultSet() error {
	if r.sets == 0 {
		return io.EOF
	}
	r.sets--
	r.i = 0
	return nil
}

func (r *fakeRows) Columns() []string { return r.columns }

func (r *fakeRows) Close() error {
	if r.closed {
		return nil
	}
	r.closed = true
	defer r.leave()
	r.c.s.mu.Lock()
	d := r.c.s.closing
	r.c.s.mu.Unlock()
	if d == 0 {
		return nil
	}
	select {
	case <-time.After(d):
		return nil
	case <-r.ctx.Done():
		r.c.broken = true
		return r.ctx.Err()
	}
}

func (r *fakeRows) Next(dest []driver.Value) error {
	if last := len(r.words) - 1; last > 0 && r.words[last] == strconv.Itoa(r.i) {
		words := r.words[:last]
		r.words = nil
		if _, err := r.c.way(r.ctx, words, new(bool)); err != nil {
			return err
		}
	}
	if r.i == r.n {
		return io.EOF
	}
	copy(dest, r.row(r.i))
	r.i++
	r.c.s.set(func() { r.c.s.fetched++ })
	return nil
}

func (c *fakeConn) BeginTx(ctx context.Context, opts driver.TxOptions) (driver.Tx, error) {
	defer c.enter("BEGIN")()
	words := ""
	if opts.ReadOnly { // a way in for tests
		words = "wait"
	}
	if _, err := c.way(ctx, strings.Fields(words), new(bool)); err != nil {
		return nil, err
	}
	if c.tx != nil {
		c.s.set(func() { c.s.wrong = append(c.s.wrong, "BEGIN in a transaction") })
	}
	c.tx = make(map[string]string)
	return &fakeTx{c, ctx}, nil
}

type fakeTx struct {
	c   *fakeConn
	ctx context.Context // as pgx's
}

func (tx *fakeTx) Commit() error {
	c := tx.c
	defer c.enter("COMMIT")()
	late := false
	if _, err := c.way(tx.ctx, c.s.wordsBefore(&c.s.commit), &late); err != nil {
		if errors.Is(err, errFake) {
			c.tx = nil // the server's refusal
		}
		return err
	}
	c.s.mu.Lock()
	maps.Copy(c.s.table, c.tx)
	c.s.mu.Unlock()
	c.tx = nil
	return c.after(tx.ctx, late)
}

func (tx *fakeTx) Rollback() error {
	c := tx.c
	defer c.enter("ROLLBACK")()
	if c.broken {
		return driver.ErrBadConn
	}
	if _, err := c.way(tx.ctx, c.s.wordsBefore(&c.s.rollback), new(bool)); err != nil {
		return err
	}
	c.tx = nil
	return nil
}

func (c *fakeConn) Ping(ctx context.Context) error {
	if c.broken {
		return driver.ErrBadConn
	}
	return nil
}

func (c *fakeConn) IsValid() bool { return !c.broken }

// CheckNamedValue lets arguments through that have a name.
func (c *fakeConn) CheckNamedValue(v *driver.NamedValue) (err error) {
	v.Value, err = driver.DefaultParameterConverter.ConvertValue(v.Value)
	return err
}

// ResetSession is called before the connection is used again.
func (c *fakeConn) ResetSession(context.Context) error {
	if c.tx != nil {
		c.s.set(func() { c.s.wrong = append(c.s.wrong, "a connection was given back within a transaction") })
	}
	return nil
}

func (c *fakeConn) Close() error {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	if !c.s.conns[c] {
		c.s.wrong = append(c.s.wrong, "a connection was closed twice")
	}
	delete(c.s.conns, c)
	select {
	case c.s.closed <- struct{}{}:
	default:
	}
	return nil
}

func (c *fakeConn) Begin() (driver.Tx, error) {
	return c.BeginTx(context.Background(), driver.TxOptions{})
}

func (c *fakeConn) Prepare(query string) (driver.Stmt, error) {
	return c.PrepareContext(context.Background(), query)
}

func (c *fakeConn) PrepareContext(ctx context.Context, query string) (driver.Stmt, error) {
	defer c.enter("PREPARE")()
	words := strings.Fields(query)
	if words[0] == "prepare" { // "prepare WORD STATEMENT": the word is done at once
		if _, err := c.way(ctx, words[1:2], new(bool)); err != nil {
			return nil, err
		}
		words = words[2:]
	}
	c.s.set(func() { c.s.prepared++ })
	return &fakeStmt{c, strings.Join(words, " ")}, nil
}

type fakeStmt struct {
	c     *fakeConn
	query string
}

func (s *fakeStmt) NumInput() int { return -1 }
func (s *fakeStmt) Close() error {
	defer s.c.enter("CLOSE " + s.query)()
	s.c.s.set(func() { s.c.s.prepared-- })
	return nil
}
func (s *fakeStmt) Exec([]driver.Value) (driver.Result, error) {
	return nil, errors.New("without a context")
}
func (s *fakeStmt) Query([]driver.Value) (driver.Rows, error) {
	return nil, errors.New("without a context")
}
func (s *fakeStmt) ExecContext(ctx context.Context, args []driver.NamedValue) (driver.Result, error) {
	return s.c.ExecContext(ctx, s.query, args)
}
func (s *fakeStmt) QueryContext(ctx context.Context, args []driver.NamedValue) (driver.Rows, error) {
	return s.c.QueryContext(ctx, s.query, args)
}
