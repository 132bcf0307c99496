package asyncio_test

import (
	"context"
	"fmt"
	"io"
	"net/http"

	"github.com/goasyncio/asyncio"
)

// The Transport and the Server of net/http read and write on goroutines of their own. They run
// unchanged on connections of the loop; what blocks its caller runs in ToThread.
func ExampleThreadsafeConn() {
	text, err := asyncio.Run(context.Background(), func(ctx context.Context) (string, error) {
		ln, err := asyncio.Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			return "", err
		}
		server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprintf(w, "you asked for %s", r.URL.Path)
		})}
		go server.Serve(ln.Threadsafe())
		defer server.Close()

		transport := &http.Transport{DialContext: asyncio.ThreadsafeDialer(ctx)}
		defer transport.CloseIdleConnections()
		client := &http.Client{Transport: transport}
		return asyncio.ToThread(ctx, func(ctx context.Context) (string, error) {
			resp, err := client.Get("http://" + ln.Addr().String() + "/tea")
			if err != nil {
				return "", err
			}
			defer resp.Body.Close()
			body, err := io.ReadAll(resp.Body)
			return string(body), err
		})
	})
	fmt.Println(text, err)
	// Output: you asked for /tea <nil>
}

// A server and a client that run on goroutines have their network from NetOf: package net's here, a
// simulated one in tests.
func ExampleNet() {
	text, err := asyncio.Run(context.Background(), func(ctx context.Context) (string, error) {
		n := asyncio.NetOf(ctx)
		ln, err := n.Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			return "", err
		}
		server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprintf(w, "you asked for %s", r.URL.Path)
		})}
		go server.Serve(ln)
		defer server.Close()

		transport := &http.Transport{DialContext: n.DialContext}
		defer transport.CloseIdleConnections()
		client := &http.Client{Transport: transport}
		return asyncio.ToThread(ctx, func(ctx context.Context) (string, error) {
			resp, err := client.Get("http://" + ln.Addr().String() + "/tea")
			if err != nil {
				return "", err
			}
			defer resp.Body.Close()
			body, err := io.ReadAll(resp.Body)
			return string(body), err
		})
	})
	fmt.Println(text, err)
	// Output: you asked for /tea <nil>
}

// Goroutines accept at the view of a listener.
func ExampleThreadsafeListener() {
	text, err := asyncio.Run(context.Background(), func(ctx context.Context) (string, error) {
		ln, err := asyncio.Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			return "", err
		}
		defer ln.Close()
		view := ln.Threadsafe()
		go func() {
			c, err := view.Accept()
			if err != nil {
				return
			}
			defer c.Close()
			fmt.Fprint(c, "hello from a goroutine")
		}()
		c, err := asyncio.Dial(ctx, "tcp", ln.Addr().String())
		if err != nil {
			return "", err
		}
		defer c.Close()
		all, err := io.ReadAll(c)
		return string(all), err
	})
	fmt.Println(text, err)
	// Output: hello from a goroutine <nil>
}

// A goroutine receives what a task sends.
func ExampleThreadsafePacketConn() {
	_, err := asyncio.Run(context.Background(), asyncio.Do(func(ctx context.Context) error {
		a, err := asyncio.ListenPacket(ctx, "udp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		defer a.Close()
		b, err := asyncio.ListenPacket(ctx, "udp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		defer b.Close()
		if _, err := b.WriteTo([]byte("datagram"), a.LocalAddr()); err != nil {
			return err
		}
		view := a.Threadsafe()
		text, err := asyncio.ToThread(ctx, func(context.Context) (string, error) {
			p := make([]byte, 100)
			n, _, err := view.ReadFrom(p)
			return string(p[:n]), err
		})
		fmt.Println(text)
		return err
	}))
	fmt.Println(err)
	// Output:
	// datagram
	// <nil>
}
