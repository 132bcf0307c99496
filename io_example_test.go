package asyncio_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/goasyncio/asyncio"
)

// These run on the real clock: there is no network on virtual time.

func ExampleStartServer() {
	main := func(ctx context.Context) error {
		server, err := asyncio.StartServer(ctx, func(ctx context.Context, r *asyncio.StreamReader, w *asyncio.StreamWriter) error {
			for line, err := range r.Lines(ctx) {
				if err != nil {
					return err
				}
				if _, err := w.Write(ctx, []byte(strings.ToUpper(string(line)))); err != nil {
					return err
				}
			}
			return nil
		}, "127.0.0.1:0")
		if err != nil {
			return err
		}

		r, w, err := asyncio.OpenConnection(ctx, server.Addrs()[0].String())
		if err != nil {
			return err
		}
		if _, err := w.Write(ctx, []byte("hello\n")); err != nil {
			return err
		}
		line, err := r.ReadLine(ctx)
		fmt.Printf("%q %v\n", line, err)
		return errors.Join(w.Close(ctx), server.Shutdown(ctx))
	}
	_, err := asyncio.Run(context.Background(), asyncio.Do(main))
	fmt.Println(err)
	// Output:
	// "HELLO\n" <nil>
	// <nil>
}

// What is written for net.Conn runs in a task, here package bufio.
func ExampleConn() {
	main := func(ctx context.Context) error {
		ln, err := asyncio.Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		defer ln.Close()
		asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error {
			c, err := ln.Accept()
			if err != nil {
				return err
			}
			defer c.Close()
			for in := bufio.NewScanner(c); in.Scan(); {
				if _, err := fmt.Fprintf(c, "you said %s\n", in.Text()); err != nil {
					return err
				}
			}
			return nil
		}))
		c, err := asyncio.Dial(ctx, "tcp", ln.Addr().String())
		if err != nil {
			return err
		}
		defer c.Close()
		if _, err := fmt.Fprintln(c, "good morning"); err != nil {
			return err
		}
		line, err := bufio.NewReader(c).ReadString('\n')
		fmt.Print(line)
		return err
	}
	_, err := asyncio.Run(context.Background(), asyncio.Do(main))
	fmt.Println(err)
	// Output:
	// you said good morning
	// <nil>
}

func ExamplePacketConn() {
	main := func(ctx context.Context) error {
		here, err := asyncio.ListenPacket(ctx, "udp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		defer here.Close()
		there, err := asyncio.Dial(ctx, "udp", here.LocalAddr().String())
		if err != nil {
			return err
		}
		defer there.Close()
		if _, err := there.Write([]byte("ping")); err != nil {
			return err
		}
		p := make([]byte, 1500)
		n, from, err := here.ReadFrom(p)
		fmt.Printf("%s, from there: %v\n", p[:n], from.String() == there.LocalAddr().String())
		return err
	}
	_, err := asyncio.Run(context.Background(), asyncio.Do(main))
	fmt.Println(err)
	// Output:
	// ping, from there: true
	// <nil>
}

// A server gives its clients a tenth of a second to finish.
func ExampleServer_Shutdown() {
	main := func(ctx context.Context) error {
		server, err := asyncio.StartServer(ctx, func(ctx context.Context, r *asyncio.StreamReader, w *asyncio.StreamWriter) error {
			if _, err := w.Write(ctx, []byte("what is it?\n")); err != nil {
				return err
			}
			_, err := r.ReadLine(ctx)
			return err
		}, "127.0.0.1:0")
		if err != nil {
			return err
		}
		r, w, err := asyncio.OpenConnection(ctx, server.Addrs()[0].String())
		if err != nil {
			return err
		}
		defer w.Abort()
		if _, err := r.ReadLine(ctx); err != nil {
			return err
		}
		// The client is silent.
		ctx, cancel := asyncio.WithTimeout(ctx, 100*time.Millisecond)
		defer cancel()
		fmt.Println(server.Shutdown(ctx))
		return nil
	}
	_, err := asyncio.Run(context.Background(), asyncio.Do(main))
	fmt.Println(err)
	// Output:
	// context deadline exceeded
	// <nil>
}

// A reader that is fed needs no network.
func ExampleStreamReader_ReadUntil() {
	main := func(ctx context.Context) error {
		r := asyncio.NewStreamReader(ctx, asyncio.Limit(20))
		r.FeedData([]byte("name: value\r\nplain\nno end"))
		r.FeedEOF()
		for {
			part, err := r.ReadUntil(ctx, []byte("\r\n"), []byte("\n"))
			var short *asyncio.IncompleteReadError
			if errors.As(err, &short) {
				fmt.Printf("%q at the end: %v\n", short.Partial, errors.Is(err, io.ErrUnexpectedEOF))
				return nil
			} else if err != nil {
				return err
			}
			fmt.Printf("%q\n", part)
		}
	}
	_, err := asyncio.Run(background, asyncio.Do(main))
	fmt.Println(err)
	// Output:
	// "name: value\r\n"
	// "plain\n"
	// "no end" at the end: true
	// <nil>
}
