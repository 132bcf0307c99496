package asynciosql_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/asynciosql"
	"github.com/goasyncio/asyncio/sim"
)

// sql 2: no more statements are in the database at a time than there are places, and tasks get them
// in the order in which they asked.
func TestPlaces(t *testing.T) {
	for _, c := range []struct {
		name  string
		conns int // of the sql.DB
		opts  []asynciosql.Option
		want  int
	}{
		{"as many as the pool has connections", 3, nil, 3},
		{"fewer", 3, []asynciosql.Option{asynciosql.Limit(2)}, 2},
		{"an unlimited pool", 0, nil, 10},
		{"more than the pool has", 3, []asynciosql.Option{asynciosql.Limit(20)}, 3},
		{"a limit for it", 0, []asynciosql.Option{asynciosql.Limit(20)}, 20},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newServer(t, c.conns)
			run(t, func(ctx context.Context) error {
				db := asynciosql.New(s.DB, c.opts...)
				tasks := make([]*asyncio.Task[asyncio.None], 3*c.want)
				for i := range tasks {
					tasks[i] = start(ctx, func(ctx context.Context) error {
						_, err := db.Exec(ctx, fmt.Sprintf("wait set %d 1", i))
						return err
					})
				}
				for i := 0; i < len(tasks); i += c.want {
					var at []int
					for range c.want {
						statement, _, err := asyncio.Recv(ctx, s.entered)
						must(t, err)
						var n int
						fmt.Sscanf(statement, "set %d", &n)
						at = append(at, n)
					}
					slices.Sort(at)
					is(t, "first statement", at[0], i)
					is(t, "last statement", at[c.want-1], i+c.want-1)
					is(t, "more", len(s.entered), 0)
					is(t, "connections in use", s.Stats().InUse, c.want)
					is(t, "waits in the pool", s.Stats().WaitCount, 0)
					for range c.want {
						s.goes(t, ctx)
					}
				}
				for _, task := range tasks {
					must(t, result(ctx, task))
				}
				return nil
			})
		})
	}
}

// Transactions, connections and ranges have their places across awaits.
func TestPlaces_AreHeld(t *testing.T) {
	for name, hold := range map[string]func(ctx context.Context, db *asynciosql.DB, body func(ctx context.Context) error) error{
		"InTx": func(ctx context.Context, db *asynciosql.DB, body func(ctx context.Context) error) error {
			return db.InTx(ctx, nil, func(ctx context.Context, _ *asynciosql.Tx) error { return body(ctx) })
		},
		"OnConn": func(ctx context.Context, db *asynciosql.DB, body func(ctx context.Context) error) error {
			return db.OnConn(ctx, func(ctx context.Context, _ *asynciosql.Conn) error { return body(ctx) })
		},
		"Query": func(ctx context.Context, db *asynciosql.DB, body func(ctx context.Context) error) error {
			for _, err := range db.Query(ctx, "rows 1000") {
				if err != nil {
					return err
				}
				return body(ctx)
			}
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newServer(t, 2)
			run(t, func(ctx context.Context) error {
				db := asynciosql.New(s.DB)
				errInside := func(ctx context.Context) error { _, err := db.Exec(ctx, "set inside 1"); return err }
				// With a place left it is no mistake to use the DB inside.
				must(t, hold(ctx, db, errInside))

				// Two tasks have all places. What the first wants may yet come; what the second
				// wants cannot.
				var both [2]asyncio.Event
				holding := func(i int) *asyncio.Task[asyncio.None] {
					return start(ctx, func(ctx context.Context) error {
						return hold(ctx, db, func(ctx context.Context) error {
							both[i].Set()
							if err := both[1-i].Wait(ctx); err != nil {
								return err
							}
							if err := asyncio.Sleep(ctx, time.Duration(1+i)*time.Second); err != nil {
								return err
							}
							return errInside(ctx)
						})
					})
				}
				first, second := holding(0), holding(1)
				must(t, both[0].Wait(ctx))
				must(t, both[1].Wait(ctx))
				stranger := start(ctx, errInside) // waits, and is no deadlock
				err := result(ctx, second)
				matches(t, err, asyncio.ErrDeadlock)
				if !strings.Contains(fmt.Sprint(err), "use the Tx or Conn") {
					t.Error(err)
				}
				must(t, result(ctx, first)) // the second has given its place back
				must(t, result(ctx, stranger))

				// A place that an operation has comes back by itself.
				other := start(ctx, func(ctx context.Context) error { _, err := db.Exec(ctx, "wait set a 1"); return err })
				s.enters(t, ctx, "set a 1")
				waiting := start(ctx, func(ctx context.Context) error { return hold(ctx, db, errInside) })
				must(t, asyncio.Sleep(ctx, 0))
				s.goes(t, ctx)
				must(t, result(ctx, other))
				must(t, result(ctx, waiting))
				s.works(t, ctx, db)
				return nil
			})
		})
	}
}

// A place that comes back by itself is worth waiting for, also for the task that had it.
func TestPlaces_LeftBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, 1)
		_, err := runReporting(t, real, func(ctx context.Context) error {
			db := asynciosql.New(s.DB, asynciosql.Grace(3*time.Second))
			s.set(func() { s.rollback = "deaf" })
			matches(t, db.InTx(ctx, nil, func(ctx context.Context, tx *asynciosql.Tx) error { return errFake }), errFake)
			start(ctx, func(ctx context.Context) error {
				must(t, asyncio.Sleep(ctx, time.Second))
				s.set(func() { s.rollback = "" })
				s.goes(t, ctx)
				return nil
			})
			_, err := db.Exec(ctx, "set a 1")
			must(t, err)
			s.works(t, ctx, db)
			return nil
		})
		must(t, err)
	})
}

// A DB belongs to one loop at a time.
func TestDB_Loops(t *testing.T) {
	s := newServer(t, 2)
	db := asynciosql.New(s.DB)
	main := func(ctx context.Context) error { return db.InTx(ctx, nil, insert("a")) }
	run(t, main)
	run(t, main) // the first is closed
	run(t, func(ctx context.Context) error {
		return db.InTx(ctx, nil, func(ctx context.Context, tx *asynciosql.Tx) error {
			_, err := asyncio.ToThread(ctx, func(context.Context) (int, error) {
				_, err := runReporting(t, real, func(ctx context.Context) error {
					for name, statement := range statements {
						if err := statement(ctx, db, ""); !errors.Is(err, asyncio.ErrDifferentLoop) {
							t.Errorf("%s on another loop: %v", name, err)
						}
					}
					matches(t, insert("b")(ctx, tx), asyncio.ErrDifferentLoop)
					return asynciosql.New(s.DB).InTx(ctx, nil, insert("c")) // a DB of its own
				})
				return 0, err
			})
			return err
		})
	})
	is(t, "the table", s.has(), "a c")
}

// Calls in the wrong place are refused as those of asyncio's own functions are, and nothing
// happens.
func TestMisuse_WrongPlace(t *testing.T) {
	s := newServer(t, 2)
	calls := func(ctx context.Context, db *asynciosql.DB, tx *asynciosql.Tx, stmt *asynciosql.Stmt, want error) {
		t.Helper()
		for name, statement := range statements {
			if err := statement(ctx, db, ""); !errors.Is(err, want) {
				t.Errorf("%s: %v, want %v", name, err, want)
			}
		}
		for name, err := range map[string]error{
			"Ping": db.Ping(ctx), "Close": db.Close(ctx), "Stmt.Close": stmt.Close(ctx), "Tx.Exec": insert("b")(ctx, tx),
			"Tx.QueryRow": tx.QueryRow(ctx, "get a").Err(), "Stmt.QueryRow": stmt.QueryRow(ctx).Err(),
		} {
			if !errors.Is(err, want) {
				t.Errorf("%s: %v, want %v", name, err, want)
			}
		}
	}
	for name, factory := range map[string]func(context.Context) *asyncio.EventLoop{"real": real, "virtual": sim.NewEventLoop} {
		t.Run(name, func(t *testing.T) {
			_, err := runReporting(t, factory, func(ctx context.Context) error {
				db := asynciosql.New(s.DB)
				l, err := asyncio.GetRunningLoop(ctx)
				must(t, err)
				outside := context.WithoutCancel(ctx) // of transactions
				return db.InTx(ctx, nil, func(ctx context.Context, tx *asynciosql.Tx) error {
					stmt, err := tx.Prepare(ctx, "get a")
					must(t, err)
					_, err = asyncio.ToThread(outside, func(inThread context.Context) (int, error) {
						calls(inThread, db, tx, stmt, asyncio.ErrNoRunningLoop)
						calls(outside, db, tx, stmt, asyncio.ErrForeignGoroutine)
						return 0, nil
					})
					must(t, err)
					var called asyncio.Event
					l.CallSoon(func() { calls(outside, db, tx, stmt, asyncio.ErrNotInTask); called.Set() })
					return called.Wait(ctx)
				})
			})
			must(t, err)
		})
	}
	calls(t.Context(), asynciosql.New(s.DB), &asynciosql.Tx{}, &asynciosql.Stmt{}, asyncio.ErrNoRunningLoop)
	run(t, func(ctx context.Context) error {
		calls(ctx, &asynciosql.DB{}, &asynciosql.Tx{}, &asynciosql.Stmt{}, asyncio.ErrInvalidArgument)
		return nil
	})
	is(t, "the table", s.has(), "")
	run(t, func(ctx context.Context) error {
		noTx := func(context.Context, *asynciosql.Tx) error { t.Error("the body runs"); return nil }
		noConn := func(context.Context, *asynciosql.Conn) error { t.Error("the body runs"); return nil }
		zero, db := new(asynciosql.DB), asynciosql.New(s.DB)
		for name, err := range map[string]error{
			"Conn.InTx": new(asynciosql.Conn).InTx(ctx, nil, noTx), "DB.InTx": zero.InTx(ctx, nil, noTx), "DB.OnConn": zero.OnConn(ctx, noConn),
			"OnConn without a body": db.OnConn(ctx, nil), "InTx without a body": db.InTx(ctx, nil, nil),
			"OnConn without a context": db.OnConn(nil, noConn),
		} {
			if !errors.Is(err, asyncio.ErrInvalidArgument) {
				t.Errorf("%s: %v", name, err)
			}
		}
		foreign, err := asynciosql.New(s.DB).Prepare(ctx, "get a")
		must(t, err)
		must(t, db.InTx(ctx, nil, func(ctx context.Context, tx *asynciosql.Tx) error {
			for name, stmt := range map[string]*asynciosql.Stmt{"nil": nil, "zero": new(asynciosql.Stmt), "another DB's": foreign} {
				for range 2 {
					if err := tx.Stmt(stmt).QueryRow(ctx).Err(); !errors.Is(err, asyncio.ErrInvalidArgument) {
						t.Errorf("Tx.Stmt, %s: %v", name, err)
					}
				}
			}
			return nil
		}))
		return foreign.Close(ctx)
	})
	for name, misuse := range map[string]func(){
		"New": func() { asynciosql.New(nil) }, "Limit": func() { asynciosql.Limit(0) },
		"Grace": func() { asynciosql.Grace(0) }, "BatchRows": func() { asynciosql.BatchRows(-1) },
	} {
		func() {
			defer func() {
				if err, _ := recover().(error); !errors.Is(err, asyncio.ErrInvalidArgument) {
					t.Errorf("%s: %v", name, err)
				}
			}()
			misuse()
		}()
	}
}
