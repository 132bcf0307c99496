//go:build unix

package interop

import (
	"context"
	"database/sql"
	"errors"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	_ "github.com/lib/pq"

	"github.com/goasyncio/asyncio"
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

// What the battery asks PostgreSQL.
const (
	askPostgres        = "select $1::text"
	holdPostgres       = "select $1::text from pg_advisory_xact_lock_shared(1)"
	connectionPostgres = "select pg_backend_pid()::text"
)

func postgresRows(url string) []row {
	return []row{
		{
			library: "pgxpool", way: inThread, sim: "no",
			cancel: outcome{atOnce, takenBack, replaced}, done: outcome{atOnce, takenBack, replaced}, closing: waitsThem,
			open: func(ctx context.Context, conns int) (*client, error) {
				pool, err := pgxpool.New(asyncio.Outside(ctx), url+" pool_max_conns="+strconv.Itoa(conns))
				if err != nil {
					return nil, err
				}
				scan := func(ctx context.Context, sql string, args ...any) (string, error) {
					return asyncio.ToThread(ctx, func(ctx context.Context) (value string, err error) {
						err = pool.QueryRow(ctx, sql, args...).Scan(&value)
						return value, err
					})
				}
				return postgresClient(scan, func() error { pool.Close(); return nil }), nil
			},
		},
		{
			library: "database/sql, lib/pq", way: inThread, sim: "no",
			cancel: outcome{atOnce, takenBack, replaced}, done: outcome{atOnce, takenBack, replaced}, closing: leavesThem,
			open: func(_ context.Context, conns int) (*client, error) {
				db, err := sql.Open("postgres", url)
				if err != nil {
					return nil, err
				}
				db.SetMaxOpenConns(conns)
				return postgresClient(scanner(db), db.Close), nil
			},
		},
	}
}

// postgresClient asks by scan, which returns the only value of a query.
func postgresClient(scan func(ctx context.Context, sql string, args ...any) (string, error), shut func() error) *client {
	return &client{
		ask:        func(ctx context.Context, value string) (string, error) { return scan(ctx, askPostgres, value) },
		hold:       func(ctx context.Context, value string) (string, error) { return scan(ctx, holdPostgres, value) },
		connection: func(ctx context.Context) (string, error) { return scan(ctx, connectionPostgres) },
		close:      inThreadOnly(shut),
	}
}

// scanner returns a function that suspends the calling task for a query of one value.
func scanner(db *sql.DB) func(ctx context.Context, sql string, args ...any) (string, error) {
	return func(ctx context.Context, sql string, args ...any) (string, error) {
		return asyncio.ToThread(ctx, func(ctx context.Context) (value string, err error) {
			err = db.QueryRowContext(ctx, sql, args...).Scan(&value)
			return value, err
		})
	}
}
