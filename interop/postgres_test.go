//go:build unix

package interop

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/lib/pq"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/asynciosql"
)

func TestPostgresRows(t *testing.T) {
	url := startPostgres(t)
	runBattery(t, postgresServer(t, url), postgresRows(url))
}

// startPostgres starts a server in a temporary directory, at a Unix socket, and returns a
// connection string. The test's end stops the server.
func startPostgres(t *testing.T) (url string) {
	t.Helper()
	const installed = "/usr/lib/postgresql/*/bin/"
	initdb, postgres := program(t, "initdb", "postgresql", installed+"initdb"), program(t, "postgres", "postgresql", installed+"postgres")
	dir := directory(t)
	who := new(syscall.SysProcAttr)
	if os.Getuid() == 0 { // the server refuses to run as root
		u, err := user.Lookup("nobody")
		must(t, err)
		uid, _ := strconv.Atoi(u.Uid)
		gid, _ := strconv.Atoi(u.Gid)
		must(t, os.Chown(dir, uid, gid))
		who.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	}
	command := func(path string, args ...string) *exec.Cmd {
		cmd := exec.Command(path, args...)
		cmd.Dir, cmd.SysProcAttr = dir, who
		return cmd
	}
	data := filepath.Join(dir, "data")
	if out, err := command(initdb, "-D", data, "-U", "test", "-A", "trust", "-N", "--locale=C", "-E", "UTF8").CombinedOutput(); err != nil {
		t.Fatalf("initdb: %v\n%s", err, out)
	}
	url = "host=" + dir + " user=test dbname=postgres"
	server := command(postgres, "-D", data, "-k", dir, "-c", "listen_addresses=", "-c", "fsync=off", "-c", "max_connections=50")
	start(t, server, syscall.SIGINT /* it disconnects its clients and ends */, func() error {
		c, err := pgx.Connect(context.Background(), url)
		if err != nil {
			return err
		}
		return c.Close(context.Background())
	})
	return url
}

// postgresServer is what the battery needs: an advisory lock that one connection has and others
// wait for.
func postgresServer(t *testing.T, url string) server {
	control, err := pgx.Connect(t.Context(), url)
	must(t, err)
	t.Cleanup(func() { must(t, control.Close(context.Background())) })
	var mu sync.Mutex // a connection does one thing after another
	exec := func(sql string) error {
		_, err := control.Exec(context.Background(), sql)
		return err
	}
	must(t, exec("select pg_advisory_lock(1)"))
	return server{
		held: func() (n int, err error) {
			mu.Lock()
			defer mu.Unlock()
			err = control.QueryRow(context.Background(), "select count(*) from pg_locks where locktype = 'advisory' and not granted").Scan(&n)
			return n, err
		},
		release: func(...string) error {
			mu.Lock()
			defer mu.Unlock()
			return errors.Join(exec("select pg_advisory_unlock(1)"), exec("select pg_advisory_lock(1)"))
		},
	}
}

// queries are what the battery asks a database.
type queries struct{ ask, hold, connection string }

var postgresQueries = queries{
	ask:        "select $1::text",
	hold:       "select $1::text from pg_advisory_xact_lock_shared(1)",
	connection: "select pg_backend_pid()::text",
}

func postgresRows(url string) []row {
	gone := outcome{atOnce, takenBack, replaced}
	return []row{
		{
			library: "pgxpool", way: inThread, sim: "no", cancel: gone, done: gone, closing: waitsThem,
			open: func(ctx context.Context, conns int) (*client, error) { return pgxpoolClient(ctx, url, conns, nil) },
		},
		{
			library: "pgxpool", way: onView, sim: "no", cancel: gone, done: gone, closing: waitsThem,
			open: func(ctx context.Context, conns int) (*client, error) {
				return pgxpoolClient(ctx, url, conns, asyncio.ThreadsafeDialer(ctx))
			},
		},
		{
			library: "pgxpool, CopyFrom", way: onView, sim: "no", cancel: gone, done: gone, closing: waitsThem,
			open: func(ctx context.Context, conns int) (*client, error) {
				return pgxpoolCopier(ctx, url, conns, asyncio.ThreadsafeDialer(ctx))
			},
		},
		{
			library: "database/sql, lib/pq", way: inThread, sim: "no", cancel: gone, done: gone, closing: leavesThem,
			open: func(_ context.Context, conns int) (*client, error) { return libpqClient(url, conns, nil) },
		},
		{
			library: "database/sql, lib/pq", way: onView, sim: "yes", cancel: gone, done: gone, closing: leavesThem,
			open: func(ctx context.Context, conns int) (*client, error) {
				return libpqClient(url, conns, asyncio.ThreadsafeDialer(ctx))
			},
		},
		{
			library: "pgx", way: onView, sim: "yes", single: true,
			cancel: outcome{atOnce, takenBack, closed}, done: outcome{atOnce, takenBack, closed}, closing: waitsThem,
			open: func(ctx context.Context, _ int) (*client, error) {
				return pgxClient(ctx, url, asyncio.ThreadsafeDialer(ctx))
			},
		},
		asynciosqlRow("pgx", url, postgresQueries, outcome{ended, takenBack, replaced}),
		asynciosqlRow("lib/pq", url, postgresQueries, outcome{ended, takenBack, replaced}),
	}
}

// newPgxpool makes a pool, whose connections dial makes unless it is nil.
func newPgxpool(ctx context.Context, url string, conns int, dial dialFunc) (*pgxpool.Pool, error) {
	config, err := pgxpool.ParseConfig(url + " pool_max_conns=" + strconv.Itoa(conns))
	if err != nil {
		return nil, err
	}
	if dial != nil {
		config.ConnConfig.DialFunc = dial
	}
	return pgxpool.NewWithConfig(asyncio.Outside(ctx), config)
}

func pgxpoolClient(ctx context.Context, url string, conns int, dial dialFunc) (*client, error) {
	pool, err := newPgxpool(ctx, url, conns, dial)
	if err != nil {
		return nil, err
	}
	scan := func(ctx context.Context, sql string, args ...any) (value string, err error) {
		err = pool.QueryRow(ctx, sql, args...).Scan(&value)
		return value, err
	}
	return sqlClient(scan, postgresQueries, func() error { pool.Close(); return nil }), nil
}

// pgxClient makes a client with one connection.
func pgxClient(ctx context.Context, url string, dial dialFunc) (*client, error) {
	config, err := pgx.ParseConfig(url)
	if err != nil {
		return nil, err
	}
	config.DialFunc = dial
	c, err := asyncio.ToThread(ctx, func(ctx context.Context) (*pgx.Conn, error) { return pgx.ConnectConfig(ctx, config) })
	if err != nil {
		return nil, err
	}
	var inUse sync.Mutex // threads lock it: one may go on for a while after its task has left
	scan := func(ctx context.Context, sql string, args ...any) (value string, err error) {
		inUse.Lock()
		defer inUse.Unlock()
		err = c.QueryRow(ctx, sql, args...).Scan(&value)
		return value, err
	}
	return sqlClient(scan, postgresQueries, func() error {
		inUse.Lock()
		defer inUse.Unlock()
		return c.Close(context.Background())
	}), nil
}

// pgxpoolCopier makes a client that copies a value into a table and reads it back. It also sends
// some megabytes each time, for which pgx starts goroutines that read and write.
func pgxpoolCopier(ctx context.Context, url string, conns int, dial dialFunc) (*client, error) {
	pool, err := newPgxpool(ctx, url, conns, dial)
	if err != nil {
		return nil, err
	}
	big := strings.Repeat("x", 1<<20)
	scan := func(ctx context.Context, sql string, args ...any) (value string, err error) {
		err = pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, "create temp table copied (value text, filler text) on commit drop"); err != nil {
				return err
			}
			values := [][]any{{"", big}, {"", big}}
			for _, arg := range args {
				values = append(values, []any{arg, big})
			}
			if _, err := tx.CopyFrom(ctx, pgx.Identifier{"copied"}, []string{"value", "filler"}, pgx.CopyFromRows(values)); err != nil {
				return err
			}
			if len(args) > 0 {
				if err := tx.QueryRow(ctx, "select max(value) from copied where filler = $1", big).Scan(&args[0]); err != nil {
					return err
				}
			}
			return tx.QueryRow(ctx, sql, args...).Scan(&value)
		})
		return value, err
	}
	return sqlClient(scan, postgresQueries, func() error { pool.Close(); return nil }), nil
}

// libpqClient makes a client whose connections dial makes unless it is nil.
func libpqClient(url string, conns int, dial dialFunc) (*client, error) {
	connector, err := pq.NewConnector(url)
	if err != nil {
		return nil, err
	}
	if dial != nil {
		connector.Dialer(pqDialer(dial))
	}
	db := sql.OpenDB(connector)
	db.SetMaxOpenConns(conns)
	return sqlClient(scanner(db), postgresQueries, db.Close), nil
}

// A pqDialer dials for lib/pq.
type pqDialer dialFunc

func (d pqDialer) Dial(network, address string) (net.Conn, error) {
	return d(context.Background(), network, address)
}

func (d pqDialer) DialTimeout(network, address string, _ time.Duration) (net.Conn, error) {
	return d(context.Background(), network, address)
}

func (d pqDialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	return d(ctx, network, address)
}

// A scan blocks for a query of one value.
type scan func(ctx context.Context, sql string, args ...any) (string, error)

func (s scan) inThread(ctx context.Context, sql string, args ...any) (string, error) {
	return asyncio.ToThread(ctx, func(ctx context.Context) (string, error) { return s(ctx, sql, args...) })
}

// sqlClient asks in threads.
func sqlClient(s scan, q queries, shut func() error) *client {
	return &client{
		ask:        func(ctx context.Context, value string) (string, error) { return s.inThread(ctx, q.ask, value) },
		hold:       func(ctx context.Context, value string) (string, error) { return s.inThread(ctx, q.hold, value) },
		connection: func(ctx context.Context) (string, error) { return s.inThread(ctx, q.connection) },
		close:      inThreadOnly(shut),
		goroutine:  func(ctx context.Context, value string) (string, error) { return s(ctx, q.ask, value) },
	}
}

func scanner(db *sql.DB) scan {
	return func(ctx context.Context, sql string, args ...any) (value string, err error) {
		err = db.QueryRowContext(ctx, sql, args...).Scan(&value)
		return value, err
	}
}

// asynciosqlRow is a driver under package asynciosql.
func asynciosqlRow(driver, source string, q queries, stopped outcome) row {
	name := map[string]string{"lib/pq": "postgres", "go-sql-driver/mysql": "mysql"}
	return row{
		library: "database/sql, " + driver, way: ours + " (asynciosql)", sim: "with a driver in the process",
		cancel: stopped, done: stopped, closing: leavesThem,
		open: func(_ context.Context, conns int) (*client, error) {
			pool, err := sql.Open(cmp.Or(name[driver], driver), source)
			if err != nil {
				return nil, err
			}
			pool.SetMaxOpenConns(conns)
			pool.SetMaxIdleConns(conns)
			db := asynciosql.New(pool)
			scan := func(ctx context.Context, query string, args ...any) (value string, err error) {
				err = db.QueryRow(ctx, query, args...).Scan(&value)
				return value, err
			}
			return &client{
				ask:        func(ctx context.Context, value string) (string, error) { return scan(ctx, q.ask, value) },
				hold:       func(ctx context.Context, value string) (string, error) { return scan(ctx, q.hold, value) },
				connection: func(ctx context.Context) (string, error) { return scan(ctx, q.connection) },
				close:      db.Close,
				goroutine:  func(ctx context.Context, value string) (string, error) { return scanner(pool)(ctx, q.ask, value) },
			}, nil
		},
	}
}
