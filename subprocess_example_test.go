//go:build linux || darwin || freebsd

package asyncio_test

import (
	"context"
	"fmt"
	"syscall"
	"time"

	"github.com/goasyncio/asyncio"
)

// A process that is spoken to line by line.
func ExampleProcess() {
	_, err := asyncio.Run(context.Background(), asyncio.Do(func(ctx context.Context) error {
		p, err := asyncio.CreateSubprocessExec(ctx, "cat", nil, asyncio.Stdin(asyncio.Pipe), asyncio.Stdout(asyncio.Pipe))
		if err != nil {
			return err
		}
		defer p.Close()
		for _, word := range []string{"ping\n", "pong\n"} {
			if _, err := p.Stdin.Write(ctx, []byte(word)); err != nil {
				return err
			}
			line, err := p.Stdout.ReadLine(ctx)
			if err != nil {
				return err
			}
			fmt.Printf("%s", line)
		}
		if err := p.Stdin.Close(ctx); err != nil {
			return err
		}
		fmt.Println(p.Wait(ctx))
		return nil
	}))
	fmt.Println(err)
	// Output:
	// ping
	// pong
	// 0 <nil>
	// <nil>
}

func ExampleProcess_Communicate() {
	_, err := asyncio.Run(context.Background(), asyncio.Do(func(ctx context.Context) error {
		p, err := asyncio.CreateSubprocessShell(ctx, "tr a-z A-Z; exit 3", asyncio.Stdin(asyncio.Pipe), asyncio.Stdout(asyncio.Pipe))
		if err != nil {
			return err
		}
		out, _, err := p.Communicate(ctx, []byte("hello"))
		code, _ := p.ReturnCode()
		fmt.Printf("%s %d\n", out, code)
		return err
	}))
	fmt.Println(err)
	// Output:
	// HELLO 3
	// <nil>
}

// A process, with all that it has started, ends with its scope.
func ExampleSubprocessOption() {
	_, err := asyncio.Run(context.Background(), asyncio.Do(func(ctx context.Context) error {
		var p *asyncio.Process
		late, err := asyncio.MoveOnAfter(ctx, 10*time.Millisecond, func(ctx context.Context) (err error) {
			p, err = asyncio.CreateSubprocessShell(ctx, "sleep 1000 & wait", asyncio.Stdin(asyncio.DevNull), asyncio.Env("LANG=C"), asyncio.Dir("/"))
			if err != nil {
				return err
			}
			_, err = p.Wait(ctx)
			return err
		})
		if err != nil {
			return err
		}
		code, err := p.Wait(ctx)
		fmt.Println(late, code)
		return err
	}))
	fmt.Println(err)
	// Output:
	// true -9
	// <nil>
}

func ExampleStdio() {
	_, err := asyncio.Run(context.Background(), asyncio.Do(func(ctx context.Context) error {
		p, err := asyncio.CreateSubprocessShell(ctx, "echo this; echo that >&2",
			asyncio.Stdin(asyncio.DevNull), asyncio.Stdout(asyncio.Pipe), asyncio.Stderr(asyncio.ToStdout))
		if err != nil {
			return err
		}
		out, _, err := p.Communicate(ctx, nil)
		fmt.Printf("%s", out)
		return err
	}))
	fmt.Println(err)
	// Output:
	// this
	// that
	// <nil>
}

// A program that ends in order when it is asked to.
func ExampleEventLoop_AddSignalHandler() {
	_, err := asyncio.Run(context.Background(), asyncio.Do(func(ctx context.Context) error {
		loop, err := asyncio.GetRunningLoop(ctx)
		if err != nil {
			return err
		}
		var stop asyncio.Event
		if err := loop.AddSignalHandler(syscall.SIGTERM, stop.Set); err != nil {
			return err
		}
		if err := syscall.Kill(syscall.Getpid(), syscall.SIGTERM); err != nil {
			return err
		}
		if err := stop.Wait(ctx); err != nil {
			return err
		}
		fmt.Println("asked to stop")
		return nil
	}))
	fmt.Println(err)
	// Output:
	// asked to stop
	// <nil>
}
