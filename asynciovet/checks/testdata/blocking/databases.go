package blocking

import (
	"context"
	"database/sql"
	"net"

	"google.golang.org/grpc"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/asynciosql"
)

// The bodies of asynciosql run on the loop, and what is given to Raw does not.
func database(ctx context.Context, pool *sql.DB) error {
	db := asynciosql.New(pool)
	for row, err := range db.Query(ctx, "select name from users") {
		if err != nil {
			return err
		}
		var name string
		if err := row.Scan(&name); err != nil { // a copy
			return err
		}
		pool.Exec("delete from users where name = $1", name) // want `sql.DB.Exec blocks the loop.*: use package asynciosql`
	}
	return db.OnConn(ctx, func(ctx context.Context, c *asynciosql.Conn) error {
		net.LookupHost("x") // want `net.LookupHost blocks the loop`
		if err := c.Raw(ctx, func(ctx context.Context, driverConn any) error {
			net.LookupHost("x")
			return nil
		}); err != nil {
			return err
		}
		return c.InTx(ctx, nil, inTransaction)
	})
}

func inTransaction(ctx context.Context, tx *asynciosql.Tx) error {
	net.LookupHost("x") // want `net.LookupHost blocks the loop \(it is given to asynciosql.Conn.InTx\)`
	_, err := tx.Exec(ctx, "delete from users")
	return err
}

func transact(ctx context.Context, db *asynciosql.DB, pool *sql.DB) error {
	return db.InTx(ctx, nil, func(context.Context, *asynciosql.Tx) error {
		tx, err := pool.Begin() // want `sql.DB.Begin blocks the loop \(it is given to asynciosql.DB.InTx\)`
		if err != nil {
			return err
		}
		defer tx.Rollback() // want `sql.Tx.Rollback blocks the loop`
		return tx.Commit()  // want `sql.Tx.Commit blocks the loop`
	})
}

func serveGRPC(ctx context.Context, srv *grpc.Server, conn *grpc.ClientConn, ln net.Listener) error {
	if err := asyncio.Sleep(ctx, 0); err != nil {
		return err
	}
	conn.WaitForStateChange(ctx, 1) // want `grpc.ClientConn.WaitForStateChange blocks the loop.*: call it in asyncio.ToThread`
	go srv.Serve(ln)
	srv.GracefulStop() // want `grpc.Server.GracefulStop blocks the loop.*: use asynciogrpc.GracefulStop`
	srv.Stop()
	return srv.Serve(ln) // want `grpc.Server.Serve blocks the loop.*: use asynciogrpc.Serve`
}
