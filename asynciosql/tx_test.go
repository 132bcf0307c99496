package asynciosql_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/asynciosql"
	"github.com/goasyncio/asyncio/sim"
)

// insert is a body that sets one key.
func insert(key string) func(ctx context.Context, tx *asynciosql.Tx) error {
	return func(ctx context.Context, tx *asynciosql.Tx) error {
		_, err := tx.Exec(ctx, "set "+key+" 1")
		return err
	}
}

// A transactor begins a transaction: on the DB, or on a connection.
type transactor struct {
	name string
	inTx func(ctx context.Context, db *asynciosql.DB, opts *sql.TxOptions, body func(ctx context.Context, tx *asynciosql.Tx) error) error
}

var transactors = []transactor{
	{"DB", func(ctx context.Context, db *asynciosql.DB, opts *sql.TxOptions, body func(ctx context.Context, tx *asynciosql.Tx) error) error {
		return db.InTx(ctx, opts, body)
	}},
	{"Conn", func(ctx context.Context, db *asynciosql.DB, opts *sql.TxOptions, body func(ctx context.Context, tx *asynciosql.Tx) error) (err error) {
		// The error of the transaction is not the body's, which would cost the connection by
		// itself.
		failed := db.OnConn(ctx, func(ctx context.Context, c *asynciosql.Conn) error {
			err = c.InTx(ctx, opts, body)
			return nil
		})
		if err == nil {
			err = failed
		}
		return err
	}},
}

// eachTransactor runs a test for each transactor, on a server with one connection, in a bubble and
// so on a clock that jumps. It compares the number of reports with what test has put into
// s.reports.
func eachTransactor(t *testing.T, test func(t *testing.T, ctx context.Context, s *server, db *asynciosql.DB, with transactor)) {
	for _, with := range transactors {
		t.Run(with.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newServer(t, 1)
				reported, err := runReporting(t, real, func(ctx context.Context) error {
					db := asynciosql.New(s.DB, asynciosql.Grace(3*time.Second))
					test(t, ctx, s, db, with)
					s.set(func() { s.commit, s.rollback = "", "" })
					s.works(t, ctx, db)
					return nil
				})
				must(t, err)
				if len(reported) != s.reports {
					t.Errorf("%d reports, want %d: %q", len(reported), s.reports, reported)
				}
			})
		})
	}
}

// sql 7: a transaction whose body does not return nil is rolled back, and the connection is kept. A
// Goexit ends the run: see TestInTx_Goexit.
func TestInTx_RollsBack(t *testing.T) {
	errBody := errors.New("the body has failed")
	for name, c := range map[string]struct {
		end  func(ctx context.Context) error
		want error
	}{
		"error": {func(context.Context) error { return errBody }, errBody},
		"panic": {func(context.Context) error { panic(errBody) }, errBody},
		"a cancel": {func(ctx context.Context) error {
			asyncio.CurrentTask(ctx).Cancel()
			return asyncio.Sleep(ctx, time.Second)
		}, asyncio.ErrCancelled},
		"a cancel that is owed": {func(ctx context.Context) error { asyncio.CurrentTask(ctx).Cancel(); return nil }, asyncio.ErrCancelled},
		"a timeout": {func(ctx context.Context) error {
			return asyncio.Timeout(ctx, time.Second, func(ctx context.Context, _ *asyncio.TimeoutScope) error {
				return asyncio.Sleep(ctx, time.Hour)
			})
		}, asyncio.ErrTimeout},
	} {
		t.Run(name, func(t *testing.T) {
			eachTransactor(t, func(t *testing.T, ctx context.Context, s *server, db *asynciosql.DB, with transactor) {
				if name == "panic" {
					s.reports = 1
				}
				task := start(ctx, func(ctx context.Context) error {
					return with.inTx(ctx, db, nil, func(ctx context.Context, tx *asynciosql.Tx) error {
						must(t, insert("a")(ctx, tx))
						return c.end(ctx)
					})
				})
				err := result(ctx, task)
				matches(t, err, c.want)
				known(t, err)
				is(t, "the table", s.has(), "")
				if _, ever := s.open(); ever != 1 && (with.name == "DB" || name == "error" || name == "a timeout") {
					t.Errorf("%d connections", ever)
				}
			})
		})
	}
}

// The same when ctx has ended: the rollback is done on another one.
func TestInTx_ContextEnds(t *testing.T) {
	for name, end := range map[string]func(ctx context.Context) error{
		"with an error":   func(ctx context.Context) error { return ctx.Err() },
		"and is not seen": func(ctx context.Context) error { return nil },
	} {
		t.Run(name, func(t *testing.T) {
			eachTransactor(t, func(t *testing.T, ctx context.Context, s *server, db *asynciosql.DB, with transactor) {
				inner, cancel := context.WithCancel(ctx)
				err := with.inTx(inner, db, nil, func(ctx context.Context, tx *asynciosql.Tx) error {
					must(t, insert("a")(ctx, tx))
					cancel()
					return end(ctx)
				})
				matches(t, err, context.Canceled)
				known(t, err)
				is(t, "the table", s.has(), "")
			})
		})
	}
}

// t.FailNow in a body, as tests have it.
func TestInTx_Goexit(t *testing.T) {
	for _, with := range transactors {
		t.Run(with.name, func(t *testing.T) {
			s := newServer(t, 1)
			ended := make(chan struct{})
			go func() {
				defer close(ended)
				_, _ = runReporting(t, sim.NewEventLoop, func(ctx context.Context) error {
					return with.inTx(ctx, asynciosql.New(s.DB), nil, func(ctx context.Context, tx *asynciosql.Tx) error {
						must(t, insert("a")(ctx, tx))
						runtime.Goexit()
						return nil
					})
				})
			}()
			<-ended
			is(t, "the table", s.has(), "")
			is(t, "connections in use", s.Stats().InUse, 0)
		})
	}
}

// sql 7, sql 8: what a commit can come to.
func TestInTx_Commit(t *testing.T) {
	for _, c := range []struct {
		name, words string
		want        []error // of InTx
		unknown     bool
		there       bool
		ever        int // connections
	}{
		{"succeeds", "", nil, false, true, 1},
		{"is refused", "fail", []error{errFake}, false, false, 1},
		{"is cut", "cut", []error{errCut}, true, false, 2},
		{"is not answered", "after cut", []error{errCut}, true, false, 2},
		{"is bad", "bad", []error{driver.ErrBadConn}, true, false, 2},
	} {
		t.Run(c.name, func(t *testing.T) {
			eachTransactor(t, func(t *testing.T, ctx context.Context, s *server, db *asynciosql.DB, with transactor) {
				s.commit = c.words
				err := with.inTx(ctx, db, nil, insert("a"))
				is(t, "failed", err != nil, c.want != nil)
				matches(t, err, c.want...)
				is(t, "unknown", errors.Is(err, asynciosql.ErrOutcomeUnknown), c.unknown)
				is(t, "committed", s.has() == "a", c.there)
				s.set(func() { s.commit = "" })
				s.works(t, ctx, db)
				_, ever := s.open()
				is(t, "connections", ever, c.ever)
			})
		})
	}
}

// sql 7: a commit goes on although its task is stopped. If the answer comes within the grace it
// counts; otherwise the driver's context ends.
func TestInTx_CommitUnderACancel(t *testing.T) {
	for _, c := range []struct {
		name, words string
		answer      bool // comes
		unknown     bool
		fails       bool
		there       bool
		took        time.Duration
	}{
		{name: "it succeeds", words: "wait", answer: true, there: true},
		{name: "it is refused", words: "wait fail", answer: true, fails: true},
		{name: "it is cut", words: "wait cut", answer: true, fails: true, unknown: true},
		{name: "no answer", words: "wait", fails: true, unknown: true, took: 3 * time.Second},
		{name: "no answer after its effect", words: "after", fails: true, unknown: true, there: true, took: 3 * time.Second},
		{name: "a deaf driver", words: "late", fails: true, unknown: true, there: true, took: 6 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, by := range stops {
				eachTransactor(t, func(t *testing.T, ctx context.Context, s *server, db *asynciosql.DB, with transactor) {
					s.commit = c.words
					task, stop := by.run(ctx, func(ctx context.Context) error {
						if err := with.inTx(ctx, db, nil, insert("a")); err != nil {
							return errors.Join(errFailed, err)
						}
						return asyncio.Sleep(ctx, time.Hour)
					})
					if _, _, err := asyncio.Recv(ctx, s.entered); err != nil {
						t.Fatal(err)
					}
					before := time.Now()
					stop()
					if c.answer {
						// The loop hears of the end of ctx.
						must(t, asyncio.Sleep(ctx, time.Millisecond))
						c.took = time.Millisecond
						s.goes(t, ctx)
					}
					err := result(ctx, task)
					is(t, "took", time.Since(before), c.took)
					matches(t, err, by.want)
					is(t, "InTx failed", errors.Is(err, errFailed), c.fails)
					is(t, "unknown", errors.Is(err, asynciosql.ErrOutcomeUnknown), c.unknown)
					if c.words == "late" {
						s.reports = 1
						s.goes(t, ctx)
						must(t, asyncio.Sleep(ctx, time.Second))
					}
					is(t, "committed", s.has() == "a", c.there)
				})
			}
		})
	}
}

var errFailed = errors.New("InTx has failed")

// Without a Ping nobody can tell whether a failed commit was refused.
func TestInTx_CommitWithoutPing(t *testing.T) {
	s := newServer(t, 1)
	s.noPing, s.commit = true, "fail"
	run(t, func(ctx context.Context) error {
		db := asynciosql.New(s.DB)
		err := db.InTx(ctx, nil, insert("a"))
		matches(t, err, errFake, asynciosql.ErrOutcomeUnknown)
		s.set(func() { s.commit = "" })
		s.works(t, ctx, db)
		_, ever := s.open()
		is(t, "connections", ever, 2)
		return nil
	})
}

// sql 7: a rollback that fails costs the connection, and no more. One that hangs costs the grace.
func TestInTx_RollbackFails(t *testing.T) {
	errBody := errors.New("the body has failed")
	for _, c := range []struct {
		name, words string
		took        time.Duration
	}{
		{"fails", "fail", 0},
		{"is cut", "cut", 0},
		{"hangs", "wait", 3 * time.Second},
		{"is deaf", "deaf", 6 * time.Second},
	} {
		t.Run(c.name, func(t *testing.T) {
			eachTransactor(t, func(t *testing.T, ctx context.Context, s *server, db *asynciosql.DB, with transactor) {
				s.rollback = c.words
				before := time.Now()
				err := with.inTx(ctx, db, nil, func(ctx context.Context, tx *asynciosql.Tx) error {
					must(t, insert("a")(ctx, tx))
					return errBody
				})
				is(t, "took", time.Since(before), c.took)
				is(t, "the error", err, errBody)
				if c.words == "deaf" {
					s.reports = 1
					is(t, "places", s.Stats().InUse, 1)
					s.goes(t, ctx)
				}
				is(t, "the table", s.has(), "")
				s.works(t, ctx, db)
				_, ever := s.open()
				is(t, "connections", ever, 2)
			})
		})
	}
}

// A stop while the transaction begins. A BEGIN that has reached the database may be answered.
func TestInTx_BeginStopped(t *testing.T) {
	for _, by := range stops {
		for _, answer := range []bool{true, false} {
			t.Run(fmt.Sprint(by.name, ", answer ", answer), func(t *testing.T) {
				eachTransactor(t, func(t *testing.T, ctx context.Context, s *server, db *asynciosql.DB, with transactor) {
					task, stop := by.run(ctx, func(ctx context.Context) error {
						return with.inTx(ctx, db, &sql.TxOptions{ReadOnly: true}, func(context.Context, *asynciosql.Tx) error {
							t.Error("the body runs")
							return nil
						})
					})
					s.enters(t, ctx, "")
					before := time.Now()
					stop()
					must(t, asyncio.Sleep(ctx, time.Second))
					if answer {
						s.goes(t, ctx)
					}
					err := result(ctx, task)
					matches(t, err, by.want)
					known(t, err)
					is(t, "took", time.Since(before), map[bool]time.Duration{true: time.Second, false: 3 * time.Second}[answer])
				})
			})
		}
	}
}

// A body of OnConn leaves behind a task that is in a transaction.
func TestConnInTx_LeftBehind(t *testing.T) {
	s := newServer(t, 1)
	run(t, func(ctx context.Context) error {
		db := asynciosql.New(s.DB)
		var other *asyncio.Task[asyncio.None]
		var inside asyncio.Event
		matches(t, db.OnConn(ctx, func(ctx context.Context, c *asynciosql.Conn) error {
			other = start(ctx, func(ctx context.Context) error {
				return c.InTx(ctx, nil, func(ctx context.Context, tx *asynciosql.Tx) error {
					must(t, insert("a")(ctx, tx))
					inside.Set()
					return asyncio.Sleep(ctx, time.Hour)
				})
			})
			return inside.Wait(ctx)
		}), asyncio.ErrBusy)
		err := result(ctx, other)
		matches(t, err, sql.ErrConnDone)
		known(t, err)
		is(t, "the table", s.has(), "")
		s.works(t, ctx, db)
		return nil
	})
}

// The same, while it is in a statement of it, or in its BEGIN.
func TestConnInTx_LeftBehindInTheMidst(t *testing.T) {
	for waits, opts := range map[string]*sql.TxOptions{"set a 1": nil, "": {ReadOnly: true}} {
		t.Run(waits, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := newServer(t, 1)
				reported, err := runReporting(t, real, func(ctx context.Context) error {
					db := asynciosql.New(s.DB, asynciosql.Grace(3*time.Second))
					var other *aTask
					before := time.Now()
					matches(t, db.OnConn(ctx, func(ctx context.Context, c *asynciosql.Conn) error {
						other = start(ctx, func(ctx context.Context) error {
							return c.InTx(ctx, opts, func(ctx context.Context, tx *asynciosql.Tx) error {
								_, err := tx.Exec(ctx, "wait set a 1")
								return err
							})
						})
						s.enters(t, ctx, waits)
						return nil
					}), asyncio.ErrBusy)
					is(t, "took", time.Since(before), 0)
					err := result(ctx, other)
					matches(t, err, sql.ErrConnDone)
					known(t, err)
					is(t, "the table", s.has(), "")
					s.works(t, ctx, db)
					return nil
				})
				must(t, err)
				is(t, "reports", len(reported), 0)
			})
		})
	}
}

func TestInTx_Misuse(t *testing.T) {
	eachTransactor(t, func(t *testing.T, ctx context.Context, s *server, db *asynciosql.DB, with transactor) {
		noBody := func(context.Context, *asynciosql.Tx) error { t.Error("the body runs"); return nil }
		matches(t, with.inTx(ctx, db, nil, nil), asyncio.ErrInvalidArgument)
		var kept *asynciosql.Tx
		var stmt, lent *asynciosql.Stmt
		outside := ctx
		must(t, with.inTx(ctx, db, nil, func(ctx context.Context, tx *asynciosql.Tx) error {
			// a transaction in a transaction
			matches(t, db.InTx(ctx, nil, noBody), asyncio.ErrInvalidState)
			matches(t, asynciosql.New(s.DB).InTx(ctx, nil, noBody), asyncio.ErrInvalidState)
			// the DB instead of the transaction, which has the only connection
			matches(t, db.InTx(outside, nil, noBody), asyncio.ErrDeadlock)
			_, err := db.Exec(ctx, "set b 1")
			matches(t, err, asyncio.ErrDeadlock)
			// a statement while a range is open, and from another task
			for _, err := range tx.Query(ctx, "rows 3") {
				must(t, err)
				matches(t, insert("b")(ctx, tx), asyncio.ErrBusy)
				matches(t, tx.QueryRow(ctx, "get a").Err(), asyncio.ErrBusy)
			}
			other := start(ctx, func(ctx context.Context) error { _, err := tx.Exec(ctx, "wait set c 1"); return err })
			s.enters(t, ctx, "set c 1")
			matches(t, insert("b")(ctx, tx), asyncio.ErrBusy)
			s.goes(t, ctx)
			must(t, result(ctx, other))
			kept = tx
			stmt, err = tx.Prepare(ctx, "get a")
			must(t, err)
			lent = tx.Stmt(stmt)
			return nil
		}))
		is(t, "the table", s.has(), "c")
		matches(t, insert("b")(ctx, kept), sql.ErrTxDone)
		matches(t, kept.QueryRow(ctx, "get a").Err(), sql.ErrTxDone)
		matches(t, stmt.QueryRow(ctx).Err(), sql.ErrTxDone)
		matches(t, lent.QueryRow(ctx).Err(), sql.ErrTxDone)
		for _, err := range kept.Query(ctx, "rows 3") {
			matches(t, err, sql.ErrTxDone)
		}
		_, err := kept.Prepare(ctx, "get a")
		matches(t, err, sql.ErrTxDone)
		must(t, stmt.Close(ctx))
	})
}

// A body leaves a task behind that is using the transaction: nothing is committed, and the task is
// stopped.
func TestInTx_LeavesATaskBehind(t *testing.T) {
	for name, use := range map[string]func(t *testing.T, ctx context.Context, s *server, tx *asynciosql.Tx, ready *asyncio.Event) error{
		"in a statement": func(t *testing.T, ctx context.Context, s *server, tx *asynciosql.Tx, ready *asyncio.Event) error {
			start(ctx, func(ctx context.Context) error { s.enters(t, ctx, "set b 1"); ready.Set(); return nil })
			_, err := tx.Exec(ctx, "wait set b 1")
			return err
		},
		"in a range": func(t *testing.T, ctx context.Context, s *server, tx *asynciosql.Tx, ready *asyncio.Event) error {
			for _, err := range tx.Query(ctx, "rows 100") {
				if err != nil {
					return err
				}
				ready.Set()
				must(t, asyncio.Sleep(ctx, time.Minute))
			}
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			eachTransactor(t, func(t *testing.T, ctx context.Context, s *server, db *asynciosql.DB, with transactor) {
				var other *asyncio.Task[asyncio.None]
				err := with.inTx(ctx, db, nil, func(ctx context.Context, tx *asynciosql.Tx) error {
					must(t, insert("a")(ctx, tx))
					var ready asyncio.Event
					other = start(ctx, func(ctx context.Context) error { return use(t, ctx, s, tx, &ready) })
					return ready.Wait(ctx)
				})
				matches(t, err, asyncio.ErrBusy)
				known(t, err)
				matches(t, result(ctx, other), sql.ErrTxDone)
				is(t, "the table", s.has(), "")
			})
		})
	}
}

// Statements of the body that fail do not end it; the database has the last word.
func TestInTx_GoesOnAfterAnError(t *testing.T) {
	eachTransactor(t, func(t *testing.T, ctx context.Context, s *server, db *asynciosql.DB, with transactor) {
		must(t, with.inTx(ctx, db, nil, func(ctx context.Context, tx *asynciosql.Tx) error {
			_, err := tx.Exec(ctx, "fail set b 1")
			matches(t, err, errFake)
			return insert("a")(ctx, tx)
		}))
		is(t, "the table", s.has(), "a")
	})
}
