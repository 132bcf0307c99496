package asyncio_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"

	"github.com/goasyncio/asyncio"
)

// BenchmarkThreadsafeConn compares a view of the loop's connection with a connection of package
// net: round trips of goroutines to an echo server of package net.
func BenchmarkThreadsafeConn(b *testing.B) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer ln.Close()
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				buf := make([]byte, 64<<10)
				for {
					n, err := c.Read(buf)
					if err != nil {
						return
					}
					if _, err := c.Write(buf[:n]); err != nil {
						return
					}
				}
			}()
		}
	}()
	trips := func(b *testing.B, conns []net.Conn, size int) {
		var wg sync.WaitGroup
		each := max(1, b.N/len(conns))
		for _, c := range conns {
			wg.Go(func() {
				out, in := make([]byte, size), make([]byte, size)
				for range each {
					if _, err := c.Write(out); err != nil {
						b.Error(err)
						return
					}
					if _, err := io.ReadFull(c, in); err != nil {
						b.Error(err)
						return
					}
				}
			})
		}
		wg.Wait()
	}
	for _, size := range []int{64, 64 << 10} {
		for _, n := range []int{1, 100} {
			b.Run(fmt.Sprintf("net/conns=%d/bytes=%d", n, size), func(b *testing.B) {
				conns := make([]net.Conn, n)
				for i := range conns {
					var err error
					conns[i], err = net.Dial("tcp", ln.Addr().String())
					if err != nil {
						b.Fatal(err)
					}
					defer conns[i].Close()
				}
				b.ResetTimer()
				trips(b, conns, size)
			})
			b.Run(fmt.Sprintf("view/conns=%d/bytes=%d", n, size), func(b *testing.B) {
				if _, err := asyncio.Run(b.Context(), func(ctx context.Context) (asyncio.None, error) {
					conns := make([]net.Conn, n)
					for i := range conns {
						c, err := asyncio.Dial(ctx, "tcp", ln.Addr().String())
						if err != nil {
							b.Fatal(err)
						}
						conns[i] = c.Threadsafe()
						defer c.Close()
					}
					b.ResetTimer()
					_, err := asyncio.ToThread(ctx, func(context.Context) (int, error) { trips(b, conns, size); return 0, nil })
					b.StopTimer()
					return asyncio.None{}, err
				}); err != nil {
					b.Fatal(err)
				}
			})
		}
	}
}
