//go:build unix

package interop

import (
	"bytes"
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/asynciosql"
)

// A dialect is what the statements of one database look like.
type dialect struct {
	parameter   func(n int) string
	slowInsert  string // a number, after some seconds
	rows        string // 3,000 rows of a number times 10,000, plus 1 to 3,000
	slowRow     string // a number, after some seconds
	setVariable string // of the session
	variable    string
	inTx        string // how many transactions are open besides one's own
	running     string // how many statements of these tests are running, besides this one
}

var postgresDialect = dialect{
	parameter:   func(n int) string { return "$" + strconv.Itoa(n) },
	slowInsert:  "insert into kept select $1::bigint from pg_sleep($2::float8)",
	rows:        "select $1::bigint * 10000 + g from generate_series(1, 3000) g",
	slowRow:     "select $1::bigint from pg_sleep($2::float8)",
	setVariable: "select set_config('test.variable', 'set', false)",
	variable:    "select coalesce(current_setting('test.variable', true), '')",
	inTx:        "select count(*) from pg_stat_activity where state like 'idle in transaction%' and pid <> pg_backend_pid()",
	running:     "select count(*) from pg_stat_activity where state = 'active' and backend_type = 'client backend' and pid <> pg_backend_pid()",
}

var mariadbDialect = dialect{
	parameter:   func(int) string { return "?" },
	slowInsert:  "insert into kept select ? + 0 * sleep(?)",
	rows:        "select ? * 10000 + seq from seq_1_to_3000",
	slowRow:     "select ? + 0 * sleep(?)",
	setVariable: "set @variable = 'set'",
	variable:    "select coalesce(@variable, '')",
	inTx:        "select count(*) from information_schema.innodb_trx",
	running:     "select count(*) from information_schema.processlist where command in ('Query', 'Execute') and id <> connection_id()",
}

// TestSQL_Cancels: tasks use a database through asynciosql and are stopped at random points.
// Afterwards the pool answers, every connection answers what it is asked, no transaction is left
// open, what was reported as done or not done is, and the loop has never stood still.
func TestSQL_Cancels(t *testing.T) {
	for _, c := range []struct {
		name, driver string
		dialect      dialect
		start        func(t *testing.T) (dataSource string)
	}{
		{"PostgreSQL", "postgres pgx", postgresDialect, startPostgres},
		{"MariaDB", "mysql", mariadbDialect, startMariaDB},
	} {
		t.Run(c.name, func(t *testing.T) {
			source := c.start(t)
			for driver := range strings.FieldsSeq(c.driver) {
				t.Run(driver, func(t *testing.T) {
					db, err := sql.Open(driver, source)
					must(t, err)
					control, err := sql.Open(driver, source)
					must(t, err)
					_, err = control.Exec("create table kept (k bigint primary key)")
					must(t, err)
					before := survey(t)
					for attempt := 1; newStopping(t, db, control, c.dialect).test(); attempt++ {
						if attempt == 3 {
							t.Error("the loop stood still in three attempts")
							break
						}
					}
					must(t, db.Close())
					_, err = control.Exec("drop table kept")
					must(t, err)
					must(t, control.Close())
					before.check(t)
				})
			}
		})
	}
}

const (
	sqlConns = 6
	sqlTasks = sqlConns + 1
	sqlStops = 150 // or what cancelsVariable says
	alone    = -1  // for the time after which a use is stopped
)

// A stopping is one test with one driver.
type stopping struct {
	t       *testing.T
	pool    *sql.DB
	db      *asynciosql.DB
	control *sql.DB // not stopped
	dialect dialect
	random  *rand.Rand
	want    int // stops that hit

	hits, unknown map[string]int // by use
	number        int64          // the last that was used
	there         map[int64]error
}

func newStopping(t *testing.T, pool, control *sql.DB, d dialect) *stopping {
	pool.SetMaxOpenConns(sqlConns)
	pool.SetMaxIdleConns(sqlConns)
	control.SetMaxOpenConns(1)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	_, err := control.Exec("delete from kept")
	must(t, err)
	want, err := strconv.Atoi(cmp.Or(os.Getenv(cancelsVariable), strconv.Itoa(sqlStops)))
	must(t, err)
	return &stopping{
		t: t, pool: pool, db: asynciosql.New(pool), control: control, dialect: d, random: rand.New(rand.NewPCG(seed, 0)), want: want,
		hits: make(map[string]int), unknown: make(map[string]int), there: make(map[int64]error),
	}
}

// An sqlUse is one use of the database. It notes in s.there what it was told about the keys that it
// has inserted.
type sqlUse func(s *stopping, ctx context.Context) error

var sqlUses = map[string]sqlUse{
	"Exec": func(s *stopping, ctx context.Context) error {
		k := s.next()
		_, err := s.db.Exec(ctx, s.dialect.slowInsert, k, s.seconds())
		s.there[k] = err
		return err
	},
	"QueryRow": func(s *stopping, ctx context.Context) error { return s.echo(ctx, s.db.QueryRow) },
	"Query": func(s *stopping, ctx context.Context) error {
		n, most := s.next(), int64(1+s.random.IntN(4000))
		i := int64(0)
		for row, err := range s.db.Query(ctx, s.dialect.rows, n) {
			if err != nil {
				return err
			}
			i++
			var got int64
			if err := row.Scan(&got); err != nil || got != n*10000+i {
				return fmt.Errorf("row %d of query %d is %d (error: %w)", i, n, got, orNone(err))
			}
			if i%500 == 0 {
				if err := asyncio.Sleep(ctx, time.Microsecond); err != nil {
					return err
				}
			}
			if i == most {
				return nil
			}
		}
		if i != 3000 {
			return fmt.Errorf("%d rows", i)
		}
		return nil
	},
	"Prepare": func(s *stopping, ctx context.Context) (err error) {
		stmt, err := s.db.Prepare(ctx, s.dialect.slowInsert)
		if err != nil {
			return err
		}
		defer func() {
			if e := stmt.Close(ctx); e != nil {
				s.t.Errorf("Stmt.Close: %v", e)
			}
		}()
		for range 2 {
			k := s.next()
			_, err := stmt.Exec(ctx, k, s.seconds())
			s.there[k] = err
			if err != nil {
				return err
			}
		}
		return nil
	},
	"InTx": func(s *stopping, ctx context.Context) error { return s.transaction(ctx, s.db.InTx) },
	"OnConn": func(s *stopping, ctx context.Context) error {
		return s.db.OnConn(ctx, func(ctx context.Context, c *asynciosql.Conn) error {
			// If the body is stopped, nobody undoes this.
			if _, err := c.Exec(ctx, s.dialect.setVariable); err != nil {
				return err
			}
			if err := s.transaction(ctx, c.InTx); err != nil {
				return err
			}
			return errNotKept
		})
	},
}

// errNotKept is an error for bodies that have set something and do not undo it.
var errNotKept = errors.New("the connection is not to be kept")

// seconds returns how long a statement takes: a moment, or so long that a loop that waited for it
// would stand still.
func (s *stopping) seconds() float64 {
	if s.random.IntN(10) == 0 {
		return (4 * standstill).Seconds()
	}
	return 0.002
}

func (s *stopping) next() int64 { s.number++; return s.number }

// echo asks for a value that no other task asks for, on a connection that has no variable.
func (s *stopping) echo(ctx context.Context, queryRow func(ctx context.Context, query string, args ...any) *asynciosql.Row) error {
	n := s.next()
	var got int64
	if err := queryRow(ctx, s.dialect.slowRow, n, s.seconds()).Scan(&got); err != nil {
		return err
	}
	var variable string
	if err := queryRow(ctx, s.dialect.variable).Scan(&variable); err != nil {
		return err
	}
	if got != n || variable != "" {
		return fmt.Errorf("the answer to %d is %d, and the variable is %q", n, got, variable)
	}
	return nil
}

func (s *stopping) transaction(ctx context.Context, inTx func(context.Context, *sql.TxOptions, func(context.Context, *asynciosql.Tx) error) error) error {
	first, second := s.next(), s.next()
	roll := s.random.IntN(8) == 0
	err := inTx(ctx, nil, func(ctx context.Context, tx *asynciosql.Tx) error {
		if _, err := tx.Exec(ctx, "insert into kept values ("+s.dialect.parameter(1)+")", first); err != nil {
			return err
		}
		if err := asyncio.Sleep(ctx, time.Duration(s.random.IntN(500))*time.Microsecond); err != nil {
			return err
		}
		if roll {
			return errRollback
		}
		_, err := tx.Exec(ctx, "insert into kept values ("+s.dialect.parameter(1)+")", second)
		return err
	})
	s.there[first], s.there[second] = err, err
	return err
}

var errRollback = errors.New("rolled back on purpose")

var errSQLStopped = errors.New("the context of a use has ended")

// use runs one use in a task that is stopped after a random time: at once, in the midst, or not at
// all. Some uses are left alone however long they take: where a connection takes longer than every
// time here, the stops would come before each first statement, and the server would fall behind the
// dials that were given up.
func (s *stopping) use(ctx context.Context) error {
	names := []string{"Exec", "QueryRow", "Query", "Prepare", "InTx", "InTx", "OnConn"}
	name := names[s.random.IntN(len(names))]
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	task := asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error { return sqlUses[name](s, ctx) }))
	byContext := s.random.IntN(2) == 0
	patient := context.WithoutCancel(ctx)
	tasks := []*asyncio.Task[asyncio.None]{task}
	switch most := []int{alone, 0, 1000, 10_000, 50_000, 200_000}[s.random.IntN(6)]; most {
	case alone:
		if _, _, err := asyncio.Wait(patient, tasks); err != nil {
			return err
		}
	case 0:
	default:
		if _, _, err := asyncio.Wait(patient, tasks, asyncio.WaitTimeout(time.Duration(s.random.IntN(most))*time.Microsecond)); err != nil {
			return err
		}
	}
	hit := !task.Done()
	if byContext {
		cancel(errSQLStopped)
	} else {
		task.Cancel("a random stop")
	}
	if _, _, err := asyncio.Wait(patient, tasks); err != nil {
		return err
	}
	err := task.Exception()
	switch {
	case err == nil || errors.Is(err, errRollback) || errors.Is(err, errNotKept):
	case errors.Is(err, errSQLStopped), errors.Is(err, asyncio.ErrCancelled):
		if !hit {
			return fmt.Errorf("%s was not stopped, and ends with %w", name, err)
		}
		s.hits[name]++
		if errors.Is(err, asynciosql.ErrOutcomeUnknown) {
			s.unknown[name]++
		}
	default:
		return fmt.Errorf("%s ends with %w", name, err)
	}
	return nil
}

// test runs the uses, looks afterwards, and reports whether the loop stood still. On a machine with
// too much to do a loop can wait for a processor for longer than others do, but hardly in each
// attempt.
func (s *stopping) test() (stoodStill bool) {
	before := machineBeats()
	pulse := new(gaps)
	_, err := asyncio.Run(s.t.Context(), asyncio.Do(func(ctx context.Context) error {
		loop, stop, err := watch(s.t, ctx, pulse.beat)
		if err != nil {
			return err
		}
		defer stop()
		loop.SetStallWatchdog(standstill, func(stall asyncio.Stall) {
			// Where a step stands tells whether it waits for a database, or for a processor.
			if inDatabase.Match(stall.Stack) && !bytes.Contains(stall.Stack, []byte("asynciosql.(*Row).Scan(")) {
				s.t.Errorf("the loop waits for the database:\n%s", stall.Stack)
			}
		})
		if err := asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg *asyncio.TaskGroup) error {
			for range sqlTasks {
				tg.CreateTask(ctx, func(ctx context.Context) error {
					for s.count() < s.want {
						if err := s.use(ctx); err != nil {
							return err
						}
					}
					return nil
				})
			}
			return nil
		}); err != nil {
			return err
		}
		return s.afterwards(ctx)
	}))
	if err != nil {
		s.t.Error(err)
	}
	s.t.Logf("stopped in the midst: %v, with an unknown outcome: %v; connections in the pool %+v", s.hits, s.unknown, s.pool.Stats())
	loop, machine, own := pulse.compare(before())
	s.t.Logf("the loop stood still for at most %v, the machine for %v; beyond the machine, the loop for %v", loop, machine, own)
	if n := s.pool.Stats().WaitCount; n != 0 {
		s.t.Errorf("goroutines have waited for a connection %d times", n)
	}
	return own > standstill && !s.t.Failed()
}

// standstill is how long the loop may stand still.
const standstill = 20 * time.Millisecond

// inDatabase matches stacks that are in a driver, or in what calls it. Scan is in a sql.DB of its
// own, which has no database.
var inDatabase = regexp.MustCompile(`lib/pq\.|jackc/pgx|go-sql-driver|database/sql\.\(\*(DB|Conn|Tx|Stmt)\)`)

func (s *stopping) count() (n int) {
	for _, hits := range s.hits {
		n += hits
	}
	return n
}

// afterwards looks at the pool and at the database.
func (s *stopping) afterwards(ctx context.Context) error {
	// All connections of the pool at a time: each answers its own question, and nothing is left
	// over on it.
	meeting := asyncio.NewBarrier(sqlConns)
	for range 3 {
		if err := asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg *asyncio.TaskGroup) error {
			for range sqlConns {
				tg.CreateTask(ctx, func(ctx context.Context) error {
					return s.db.InTx(ctx, nil, func(ctx context.Context, tx *asynciosql.Tx) error {
						if _, err := meeting.Wait(ctx); err != nil {
							return err
						}
						return s.echo(ctx, tx.QueryRow)
					})
				})
			}
			return nil
		}); err != nil {
			return fmt.Errorf("the pool does not answer: %w", err)
		}
	}
	if n := s.pool.Stats().InUse; n != 0 {
		s.t.Errorf("%d connections of the pool are still in use", n)
	}
	return asyncio.FailAfter(ctx, patience, func(ctx context.Context) error {
		// A server notices a while after the end of a connection.
		for _, query := range []string{s.dialect.running, s.dialect.inTx} {
			for n := -1; n != 0; {
				if err := s.ask(ctx, func() error { return s.control.QueryRow(query).Scan(&n) }); err != nil {
					return fmt.Errorf("%d left: %s: %w", n, query, err)
				}
			}
		}
		return s.compare(ctx)
	})
}

// ask has fn called on a goroutine.
func (s *stopping) ask(ctx context.Context, fn func() error) error {
	_, err := asyncio.ToThread(ctx, func(context.Context) (asyncio.None, error) { return asyncio.None{}, fn() })
	return err
}

// compare compares what the tasks were told with what there is.
func (s *stopping) compare(ctx context.Context) error {
	kept := make(map[int64]bool)
	if err := s.ask(ctx, func() error {
		rows, err := s.control.Query("select k from kept")
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var k int64
			if err := rows.Scan(&k); err != nil {
				return err
			}
			kept[k] = true
		}
		return rows.Err()
	}); err != nil {
		return err
	}
	open := 0
	for k, err := range s.there {
		switch unknown := errors.Is(err, asynciosql.ErrOutcomeUnknown); {
		case unknown:
			open++
		case err == nil && !kept[k]:
			s.t.Errorf("%d was reported as done, and is not there", k)
		case err != nil && kept[k]:
			s.t.Errorf("%d is there, and was reported as %v", k, err)
		}
	}
	if open == 0 || open == len(s.there) || len(kept) == 0 || len(s.hits) < len(sqlUses) {
		s.t.Error("the stops have missed something")
	}
	s.t.Logf("%d keys were inserted for sure or not at all, %d perhaps; %d are there", len(s.there)-open, open, len(kept))
	return nil
}
