// Package asynciosql lets the tasks of an asyncio loop use a database through [database/sql] and
// any driver of it: statements, rows as a range, transactions and prepared statements suspend the
// task instead of blocking the loop.
//
//	pool, err := sql.Open("pgx", "host=/run/postgresql")
//	…
//	db := asynciosql.New(pool)
//	for row, err := range db.Query(ctx, "select id, name from users where age > $1", 30) {
//		if err != nil {
//			return err
//		}
//		var id int
//		var name string
//		if err := row.Scan(&id, &name); err != nil {
//			return err
//		}
//		…
//	}
//	err = db.InTx(ctx, nil, func(ctx context.Context, tx *asynciosql.Tx) error {
//		_, err := tx.Exec(ctx, "update users set name = $1 where id = $2", name, id)
//		return err
//	})
//
// The [sql.DB] stays the program's: it sets its limits, and may go on using it on goroutines. A
// pool for n connections at a time should keep as many idle ones, which is not database/sql's
// default: SetMaxOpenConns(n) and SetMaxIdleConns(n).
//
// # How a statement gets to the database
//
//	sql 1: Code of database/sql and of the driver runs on goroutines, never on the loop. Each
//	   operation has a goroutine of its own, so none waits for another one's to be free. What the
//	   program is given, a [Row] or the result of Exec, is a copy, and asks nobody.
//	sql 2: An operation needs a place, of which there are as many as connections. A task waits for
//	   its place on the loop, first come, first served, so no goroutine waits in the queue of
//	   database/sql. [DB.InTx] and [DB.OnConn] have their place until they return, and a range over
//	   [DB.Query] until the last batch has come. A place is given back when the goroutine that used
//	   the connection is done, even if the task has left before. If every place is held by a task
//	   that waits for another one, the last to ask gets an error.
//	sql 3: An operation begins with a yield, so that a cancel that is owed, or the end of ctx, comes
//	   before it. A task that is stopped there, or while it waits for a place, has done nothing.
//	sql 4: A cancel of the task or the end of its ctx, during an operation, ends the context that
//	   the driver has, and the task goes on when the driver has returned. So nothing works behind
//	   the task's back. If the operation has succeeded all the same, or had ended before, its result
//	   counts, and a cancel is delivered at the next await. Otherwise the operation's error is the
//	   cancel, or the cause of ctx, with what the driver said as text.
//	sql 5: A driver that does not heed the end of its context holds the task for the grace, and not
//	   longer. Then the task goes on with the error, and the exception handler is told. The
//	   goroutine is left to end alone: what its operation has opened or begun it closes or rolls
//	   back, and only then is the place given back. The arguments of the statement are in its hands
//	   until then.
//	sql 6: A statement that was interrupted may have had its effect. Outside of a transaction its
//	   error says so ([ErrOutcomeUnknown]); inside, the rollback undoes it.
//	sql 7: A transaction is committed if its body has returned nil and no cancel is owed then. A
//	   commit that has begun is not told of a cancel: only when it has not been answered within the
//	   grace does its context end. If it has succeeded the transaction has too, whatever else has
//	   happened. If it has failed, and the connection still answers a ping, the failure was the
//	   database's answer; if not, the outcome is unknown. In every other case, a panic and a Goexit
//	   among them, the transaction is rolled back, and neither a cancel nor the end of ctx
//	   interrupts that. A connection on which a rollback, or a commit without an answer, has failed
//	   is closed and not used again.
//	sql 8: A connection does one thing at a time. So inside a transaction or an OnConn a second
//	   statement is refused with asyncio.ErrBusy while the first is under way, or its rows are being
//	   ranged over. That all rows have been fetched makes no difference, so a program does not
//	   depend on the size of a result.
//	sql 9: Rows are fetched in batches, which grow from 16 rows to 256 and end with 64 KiB, and so
//	   is memory bounded. The next batch is fetched when the last has been used up. However the body
//	   of a range is left, the rows are closed before the range statement ends. If reading the rest
//	   of a large result takes longer than a tenth of a second, that costs the connection; inside a
//	   transaction or an OnConn, where more depends on it, only if it takes longer than the grace.
//	sql 10: A loop that closes leaves nothing behind either: drivers are told, and the goroutines
//	   close, roll back and give back connections without it. A commit that has begun goes on.
//
// # Cancels and drivers
//
// lib/pq, pgx and go-sql-driver/mysql give a connection up when the context of a statement ends, so
// an interrupted statement costs a new connection. lib/pq and pgx have PostgreSQL cancel the
// statement. go-sql-driver/mysql closes the connection only: the server may go on with the
// statement, and commit it, after the task has been told; in a transaction it rolls back when it
// notices. None of them can interrupt a COMMIT, except that pgx closes the connection.
//
// A driver that panics or exits its goroutine fails the operation, and asyncio reports it.
// database/sql does not get over a panic when a query, a preparation or a transaction begins: it
// counts the connection as in use for ever.
//
// # Simulation
//
// Under package sim a server on the network cannot be simulated. A driver that is in the process
// and neither blocks nor waits can, with the option [InExecutor](nil): each operation is then one
// step. On a virtual clock without that option, operations take no virtual time, and the clock
// stands still while one is under way; the grace is real time.
package asynciosql
