//go:build linux || darwin || freebsd

package asyncio_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"github.com/goasyncio/asyncio"
)

// A program talks to a process line by line.
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

// A process, with everything it has started, ends with its scope.
func ExampleSubprocessOption() {
	_, err := asyncio.Run(context.Background(), asyncio.Do(func(ctx context.Context) error {
		scope, cancel := asyncio.WithCancel(ctx)
		p, err := asyncio.CreateSubprocessShell(scope, "sleep 1000 & wait", asyncio.Stdin(asyncio.DevNull), asyncio.SubprocessEnv("LANG=C"), asyncio.SubprocessDir("/"))
		if err != nil {
			return err
		}
		cancel() // and the shell and the processes it has started are killed
		code, err := p.Wait(ctx)
		fmt.Println(code)
		return err
	}))
	fmt.Println(err)
	// Output:
	// -9
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

// A program ends in order when asked to.
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

// A service that is told to stop takes no new work, finishes the current work, and exits.
func ExampleSignalError() {
	jobs := asyncio.NewQueue[int](0)
	main := func(ctx context.Context) error {
		worker := asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error {
			for job, err := range jobs.All(ctx) {
				if err != nil {
					return err
				}
				fmt.Println("job", job)
			}
			return nil
		}))
		for job := range 3 {
			_ = jobs.PutNowait(job)
		}
		self, _ := os.FindProcess(os.Getpid())
		_ = self.Signal(syscall.SIGTERM) // as a supervisor does

		stopped := asyncio.Sleep(ctx, time.Hour) // serves until told to stop
		err := asyncio.Cleanup(ctx, 10*time.Second, func(ctx context.Context) error {
			jobs.Shutdown(false)
			_, err := worker.Await(ctx)
			return err
		})
		if err != nil {
			return err
		}
		return stopped
	}
	_, err := asyncio.Run(context.Background(), asyncio.Do(main), asyncio.HandleSignals(syscall.SIGTERM))
	var stop *asyncio.SignalError
	if errors.As(err, &stop) {
		fmt.Println("stopped by", stop.Signal)
	}
	// Output:
	// job 0
	// job 1
	// job 2
	// stopped by terminated
}
