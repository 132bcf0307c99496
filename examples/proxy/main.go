// Proxy forwards TCP connections to another address, in both directions at once. Each direction
// ends on its own: a side that has sent everything can still receive (half-close).
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/goasyncio/asyncio"
)

const dialTimeout = 10 * time.Second

// pipe copies everything that src sends to dst, and then tells dst that nothing more will come.
func pipe(dst, src *asyncio.Conn) func(ctx context.Context) error {
	return func(ctx context.Context) error {
		for buf := make([]byte, 32<<10); ; {
			n, err := src.ReadContext(ctx, buf)
			if n > 0 {
				if _, err := dst.WriteContext(ctx, buf[:n]); err != nil {
					return err
				}
			}
			if err == io.EOF {
				return dst.CloseWrite()
			}
			if err != nil {
				return err
			}
		}
	}
}

// pass is the task of one client.
func pass(ctx context.Context, client *asyncio.Conn, target string) error {
	defer client.Close()
	server, err := asyncio.WaitFor(ctx, asyncio.Coroutine[*asyncio.Conn](func(ctx context.Context) (*asyncio.Conn, error) {
		return asyncio.Dial(ctx, "tcp", target)
	}), dialTimeout)
	if err != nil {
		_ = client.Abort()
		return err
	}
	defer server.Close()
	// The first error cancels the other direction.
	err = asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg *asyncio.TaskGroup) error {
		tg.CreateTask(ctx, pipe(server, client))
		tg.CreateTask(ctx, pipe(client, server))
		return nil
	})
	if err != nil { // a reset on one side causes a reset on the other
		_ = client.Abort()
		_ = server.Abort()
	}
	return err
}

// run serves until ctx ends; it passes the address to ready, and the errors of clients to report.
func run(ctx context.Context, listen, target string, ready func(address string), report func(error)) error {
	ln, err := asyncio.Listen(ctx, "tcp", listen)
	if err != nil {
		return err
	}
	defer ln.Close()
	ready(ln.Addr().String())
	return asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg *asyncio.TaskGroup) error {
		for {
			client, err := ln.AcceptContext(ctx)
			if err != nil {
				return err
			}
			tg.CreateTask(ctx, func(ctx context.Context) error {
				err := pass(ctx, client, target)
				if err != nil && !errors.Is(err, asyncio.ErrCancelled) {
					report(fmt.Errorf("%v: %w", client.RemoteAddr(), err))
					return nil // the error concerns this client only
				}
				return err
			})
		}
	})
}

func main() {
	listen := flag.String("listen", "localhost:7001", "where to `listen`")
	target := flag.String("target", "localhost:7000", "where to pass connections on to")
	flag.Parse()
	_, err := asyncio.Run(context.Background(), asyncio.Do(func(ctx context.Context) error {
		return run(ctx, *listen, *target,
			func(address string) { fmt.Println("listening at", address) },
			func(err error) { fmt.Fprintln(os.Stderr, err) })
	}))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
