//go:build unix

package interop

import (
	"context"
	"database/sql"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"syscall"
	"testing"

	"github.com/go-sql-driver/mysql"

	"github.com/goasyncio/asyncio"
)

func TestMariaDB(t *testing.T) {
	dsn := startMariaDB(t)
	runBattery(t, mariadbServer(t, dsn), mariadbRows(dsn))
}

// startMariaDB starts a server in a temporary directory, at a Unix socket, and returns a data
// source name for go-sql-driver/mysql. The test's end stops the server.
func startMariaDB(t *testing.T) (dsn string) {
	t.Helper()
	install := program(t, "mariadb-install-db", "mariadb-server")
	mariadbd := program(t, "mariadbd", "mariadb-server", "/usr/sbin/mariadbd")
	dir := directory(t)
	data, socket := filepath.Join(dir, "data"), filepath.Join(dir, "socket")
	args := []string{"--no-defaults", "--datadir=" + data, "--innodb-flush-log-at-trx-commit=0", "--innodb-buffer-pool-size=16M", "--innodb-log-file-size=4M"}
	if os.Getuid() == 0 {
		args = append(args, "--user=root") // otherwise it refuses
	}
	setup := append(args[:len(args):len(args)], "--auth-root-authentication-method=normal", "--skip-test-db")
	if out, err := exec.Command(install, setup...).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", install, err, out)
	}
	args = append(args, "--socket="+socket, "--skip-networking", "--pid-file="+filepath.Join(dir, "pid"))
	start(t, exec.Command(mariadbd, args...), syscall.SIGTERM, accepts("unix", socket))
	config := mysql.NewConfig()
	config.User, config.Net, config.Addr, config.DBName = "root", "unix", socket, "mysql"
	return config.FormatDSN()
}

// mariadbServer is what the battery needs: a table that one connection has locked and others wait
// for.
func mariadbServer(t *testing.T, dsn string) server {
	control, err := sql.Open("mysql", dsn)
	must(t, err)
	t.Cleanup(func() { must(t, control.Close()) })
	holder, err := control.Conn(t.Context())
	must(t, err)
	t.Cleanup(func() { must(t, holder.Close()) })
	exec := func(query string) error {
		_, err := holder.ExecContext(context.Background(), query)
		return err
	}
	must(t, exec("create table gate (open int)"))
	must(t, exec("insert into gate values (1)"))
	must(t, exec("lock tables gate write"))
	var mu sync.Mutex
	s := server{
		held: func() (n int, err error) {
			mu.Lock()
			defer mu.Unlock()
			err = control.QueryRow("select count(*) from information_schema.processlist where state = 'Waiting for table metadata lock'").Scan(&n)
			return n, err
		},
		release: func(...string) error {
			mu.Lock()
			defer mu.Unlock()
			return errors.Join(exec("unlock tables"), exec("lock tables gate write"))
		},
	}
	_, err = s.held() // so its connection is there before the battery counts
	must(t, err)
	return s
}

var mariadbQueries = queries{ask: "select ?", hold: "select ? from gate", connection: "select connection_id()"}

func mariadbRows(dsn string) []row {
	left := outcome{atOnce, runsOn, replaced}
	return []row{
		{
			library: "database/sql, go-sql-driver/mysql", way: inThread, sim: "no", cancel: left, done: left, closing: leavesThem,
			open: func(_ context.Context, conns int) (*client, error) { return mariadbClient(dsn, conns, nil) },
		},
		{
			library: "database/sql, go-sql-driver/mysql", way: onView, sim: "no", cancel: left, done: left, closing: leavesThem,
			open: func(ctx context.Context, conns int) (*client, error) {
				return mariadbClient(dsn, conns, asyncio.ThreadsafeDialer(ctx))
			},
		},
		asynciosqlRow("go-sql-driver/mysql", dsn, mariadbQueries, outcome{ended, runsOn, replaced}),
	}
}

// mariadbClient makes a client whose connections dial makes unless it is nil.
func mariadbClient(dsn string, conns int, dial dialFunc) (*client, error) {
	config, err := mysql.ParseDSN(dsn)
	if err != nil {
		return nil, err
	}
	config.DialFunc = dial
	connector, err := mysql.NewConnector(config)
	if err != nil {
		return nil, err
	}
	db := sql.OpenDB(connector)
	db.SetMaxOpenConns(conns)
	return sqlClient(scanner(db), mariadbQueries, db.Close), nil
}
