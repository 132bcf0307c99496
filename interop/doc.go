// Package interop tests the library with libraries written by others, against their real servers.
// It is a module of its own, so that users of the library do not inherit the dependencies. It has
// tests only.
//
// A battery of tests, written once, shows for each library and each way to use it what its row says
// of cancels, contexts, Close and simulations. docs/libraries.md has the same rows, and its code is
// taken from the tests.
//
// # PostgreSQL, by pgx
//
// pgx runs in asyncio.ToThread, here on connections of package net. Its DialFunc cannot give it
// plain connections of the loop: pgx also reads and closes its connection, and sets its deadlines,
// on goroutines of its own. A timer that goes off when a write takes more than 15 ms starts a
// goroutine that reads (pgconn's slowWriteTimer); the end of a context, and a failure, start others
// that interrupt and close. A Conn refuses reads and writes from elsewhere; the function of
// asyncio.ThreadsafeDialer gives connections that goroutines may use.
//
// So a query costs a goroutine while it is under way, as it does without this library, and suspends
// its task. The context that ToThread gives to the function ends with the task's wait, so a
// cancelled task takes its query back: pgx gives that connection up.
//
// # Libraries that have goroutines
//
// net/rpc, net/http's Transport, HTTP/2, SSH, pgx's CopyFrom and nats.go read and write on
// goroutines of their own. On a connection of the loop they get asyncio.ErrForeignGoroutine, which
// names the calling goroutine and the call, and says what to do instead: no crash, and no silence.
// They need the connection's view, which asyncio.Conn.Threadsafe returns.
package interop
