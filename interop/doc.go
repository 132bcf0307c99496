// Package interop has the library work with drivers of others, against their real servers. It is a
// module of its own, so that what these need is not imposed on who imports the library. It has
// tests only.
//
// # PostgreSQL, by pgx
//
// pgx runs in asyncio.ToThread, on connections of package net, and not by its DialFunc on
// connections of the loop: it reads and closes its connection, and sets its deadlines, on
// goroutines of its own as well. A timer that goes off when a write takes more than 15 ms starts
// one that reads (pgconn's slowWriteTimer); the end of a context, and a failure, start others that
// interrupt and close. A connection of the loop belongs to the loop's tasks alone, and refuses to
// be read or written elsewhere.
//
// So a query costs a goroutine while it is under way, as it does without this library, and suspends
// its task. The context that ToThread gives to the function ends with the task's wait, so a task
// that is cancelled takes its query back: pgx gives that connection up.
//
// # Libraries that have goroutines
//
// net/rpc, net/http's Transport, HTTP/2, SSH, pgx's CopyFrom and nats.go read and write on
// goroutines of their own. On a connection of the loop they get asyncio.ErrForeignGoroutine, which
// says who called what and what to do: no crash, and no silence.
package interop
