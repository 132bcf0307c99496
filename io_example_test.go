package asyncio_test

import (
	"bufio"
	"context"
	"crypto/ed25519"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"strings"
	"time"

	"github.com/goasyncio/asyncio"
)

// These examples run on the real clock: there is no network on virtual time.

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

// Code written for net.Conn, here package bufio, runs in a task.
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

func ExampleDatagramConn() {
	main := func(ctx context.Context) error {
		clock, err := asyncio.ListenPacket(ctx, "udp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		defer clock.Close()
		c, err := asyncio.DialPacket(ctx, "udp", clock.LocalAddr().String())
		if err != nil {
			return err
		}
		defer c.Close()
		_, isPacketConn := net.Conn(c).(net.PacketConn)
		fmt.Println("a net.PacketConn:", isPacketConn)
		return asyncio.FailAfter(ctx, time.Minute, func(ctx context.Context) error {
			if _, err := clock.WriteTo([]byte("noon"), c.LocalAddr()); err != nil {
				return err
			}
			p := make([]byte, 1500)
			n, err := c.ReadContext(ctx, p)
			fmt.Printf("%s\n", p[:n])
			return err
		})
	}
	_, err := asyncio.Run(context.Background(), asyncio.Do(main))
	fmt.Println(err)
	// Output:
	// a net.PacketConn: true
	// noon
	// <nil>
}

func ExamplePacketConn() {
	main := func(ctx context.Context) error {
		here, err := asyncio.ListenPacket(ctx, "udp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		defer here.Close()
		there, err := asyncio.DialPacket(ctx, "udp", here.LocalAddr().String())
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
		r := asyncio.NewStreamReader(ctx, asyncio.StreamLimit(20))
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

// echo is a handler that sends back what it receives.
func echo(ctx context.Context, r *asyncio.StreamReader, w *asyncio.StreamWriter) error {
	_, err := io.Copy(w.Writer(ctx), r.Reader(ctx))
	return err
}

// A handler that keeps count of its clients needs no lock: all of them run on one loop.
func ExampleHandler() {
	main := func(ctx context.Context) error {
		visitors := 0
		var count asyncio.Handler = func(ctx context.Context, r *asyncio.StreamReader, w *asyncio.StreamWriter) error {
			visitors++
			_, err := fmt.Fprintf(w.Writer(ctx), "you are number %d", visitors)
			return err
		}
		server, err := asyncio.StartServer(ctx, count, "127.0.0.1:0")
		if err != nil {
			return err
		}
		for range 2 {
			r, w, err := asyncio.OpenConnection(ctx, server.Addrs()[0].String())
			if err != nil {
				return err
			}
			greeting, err := r.Read(ctx, -1)
			fmt.Printf("%s\n", greeting)
			if err := errors.Join(err, w.Close(ctx)); err != nil {
				return err
			}
		}
		return server.Shutdown(ctx)
	}
	_, err := asyncio.Run(context.Background(), asyncio.Do(main))
	fmt.Println(err)
	// Output:
	// you are number 1
	// you are number 2
	// <nil>
}

// A server runs until its task is cancelled.
func ExampleServer() {
	main := func(ctx context.Context) error {
		server, err := asyncio.StartServer(ctx, echo, "127.0.0.1:0")
		if err != nil {
			return err
		}
		serving := asyncio.CreateTask(ctx, asyncio.Do(server.Serve))
		r, w, err := asyncio.OpenConnection(ctx, server.Addrs()[0].String())
		if err != nil {
			return err
		}
		if _, err := w.Write(ctx, []byte("again")); err != nil {
			return err
		}
		answer, err := r.ReadExactly(ctx, 5)
		fmt.Printf("%s, %d client\n", answer, server.Clients())
		if err := errors.Join(err, w.Close(ctx)); err != nil {
			return err
		}
		serving.Cancel()
		_, err = serving.Await(ctx)
		fmt.Println(errors.Is(err, asyncio.ErrCancelled), server.IsServing(), server.Clients())
		return nil
	}
	_, err := asyncio.Run(context.Background(), asyncio.Do(main))
	fmt.Println(err)
	// Output:
	// again, 1 client
	// true false 0
	// <nil>
}

// A listener is for connections that are not streams. Here the task that accepts a connection also
// answers it.
func ExampleListener() {
	main := func(ctx context.Context) error {
		ln, err := asyncio.Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		answering := asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error {
			for {
				c, err := ln.AcceptContext(ctx)
				if err != nil {
					return err
				}
				if _, err := c.Write([]byte("busy, call again")); err != nil {
					return err
				}
				if err := c.Close(); err != nil {
					return err
				}
			}
		}))
		c, err := asyncio.Dial(ctx, "tcp", ln.Addr().String())
		if err != nil {
			return err
		}
		defer c.Close()
		answer, err := io.ReadAll(c)
		fmt.Printf("%s\n", answer)
		if err := errors.Join(err, ln.Close()); err != nil {
			return err
		}
		_, err = answering.Await(ctx)
		fmt.Println(errors.Is(err, net.ErrClosed))
		return nil
	}
	_, err := asyncio.Run(context.Background(), asyncio.Do(main))
	fmt.Println(err)
	// Output:
	// busy, call again
	// true
	// <nil>
}

// A client connects from an address of its choice.
func ExampleDialOption() {
	main := func(ctx context.Context) error {
		ln, err := asyncio.Listen(ctx, "tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		defer ln.Close()
		from := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)}
		c, err := asyncio.Dial(ctx, "tcp", ln.Addr().String(), asyncio.Dialer(&net.Dialer{LocalAddr: from}))
		if err != nil {
			return err
		}
		defer c.Close()
		fmt.Println(c.LocalAddr().(*net.TCPAddr).IP)
		return nil
	}
	_, err := asyncio.Run(context.Background(), asyncio.Do(main))
	fmt.Println(err)
	// Output:
	// 127.0.0.1
	// <nil>
}

// A server turns off keep-alive probes.
func ExampleListenOption() {
	main := func(ctx context.Context) error {
		ln, err := asyncio.Listen(ctx, "tcp", "127.0.0.1:0", asyncio.ListenConfig(&net.ListenConfig{KeepAlive: -1}))
		if err != nil {
			return err
		}
		fmt.Println(ln.Addr().Network())
		return ln.Close()
	}
	_, err := asyncio.Run(context.Background(), asyncio.Do(main))
	fmt.Println(err)
	// Output:
	// tcp
	// <nil>
}

// The limit bounds how much memory a line may take.
func ExampleStreamOption() {
	main := func(ctx context.Context) error {
		r := asyncio.NewStreamReader(ctx, asyncio.StreamLimit(8))
		r.FeedData([]byte("short\nmuch too long\n"))
		r.FeedEOF()
		for line, err := range r.Lines(ctx) {
			fmt.Printf("%q %v\n", line, err)
		}
		return nil
	}
	_, err := asyncio.Run(background, asyncio.Do(main))
	fmt.Println(err)
	// Output:
	// "short\n" <nil>
	// "" asyncio: the separator comes after 13 bytes, beyond the limit
	// <nil>
}

// A message has its length in front.
func ExampleStreamReader() {
	main := func(ctx context.Context) error {
		r := asyncio.NewStreamReader(ctx)
		reading := asyncio.CreateTask(ctx, func(ctx context.Context) (string, error) {
			length, err := r.ReadExactly(ctx, 1)
			if err != nil {
				return "", err
			}
			message, err := r.ReadExactly(ctx, int(length[0]))
			return string(message), err
		})
		// as they arrive from elsewhere
		for _, packet := range []string{"\x05he", "ll", "o, and more"} {
			r.FeedData([]byte(packet))
			if err := asyncio.Sleep(ctx, time.Second); err != nil {
				return err
			}
		}
		message, err := reading.Await(ctx)
		fmt.Printf("%q, %d bytes left\n", message, r.Buffered())
		return err
	}
	_, err := asyncio.Run(background, asyncio.Do(main))
	fmt.Println(err)
	// Output:
	// "hello", 10 bytes left
	// <nil>
}

// The error contains what came before the end.
func ExampleIncompleteReadError() {
	main := func(ctx context.Context) error {
		r := asyncio.NewStreamReader(ctx)
		r.FeedData([]byte("only this"))
		r.FeedEOF()
		_, err := r.ReadExactly(ctx, 100)
		var short *asyncio.IncompleteReadError
		if errors.As(err, &short) {
			fmt.Printf("%q of %d bytes\n", short.Partial, short.Expected)
		}
		return err
	}
	_, err := asyncio.Run(background, asyncio.Do(main))
	fmt.Println(err)
	// Output:
	// "only this" of 100 bytes
	// asyncio: end of stream after 9 of 100 bytes
}

// A line that is too long is discarded, and the next one is read.
func ExampleLimitOverrunError() {
	main := func(ctx context.Context) error {
		r := asyncio.NewStreamReader(ctx, asyncio.StreamLimit(8))
		r.FeedData([]byte("a line that is too long\nshort\n"))
		r.FeedEOF()
		_, err := r.ReadLine(ctx)
		for {
			var long *asyncio.LimitOverrunError
			if !errors.As(err, &long) {
				break
			}
			drop := long.Consumed
			if long.Found {
				drop++ // the end of the line, too
			}
			if _, err := r.ReadExactly(ctx, drop); err != nil {
				return err
			}
			fmt.Println("dropped", drop, "bytes")
			if long.Found {
				break
			}
			_, err = r.ReadLine(ctx)
		}
		line, err := r.ReadLine(ctx)
		fmt.Printf("%q\n", line)
		return err
	}
	_, err := asyncio.Run(background, asyncio.Do(main))
	fmt.Println(err)
	// Output:
	// dropped 24 bytes
	// "short\n"
	// <nil>
}

// A writer says that it is done and still reads the answer.
func ExampleStreamWriter() {
	main := func(ctx context.Context) error {
		server, err := asyncio.StartServer(ctx, func(ctx context.Context, r *asyncio.StreamReader, w *asyncio.StreamWriter) error {
			all, err := r.Read(ctx, -1)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(w.Writer(ctx), "%d bytes", len(all))
			return err
		}, "127.0.0.1:0")
		if err != nil {
			return err
		}
		r, w, err := asyncio.OpenConnection(ctx, server.Addrs()[0].String())
		if err != nil {
			return err
		}
		if _, err := w.WriteLines(ctx, []byte("one\n"), []byte("two\n")); err != nil {
			return err
		}
		if err := w.WriteEOF(ctx); err != nil {
			return err
		}
		answer, err := r.Read(ctx, -1)
		fmt.Printf("%s\n", answer)
		return errors.Join(err, w.Close(ctx), server.Shutdown(ctx))
	}
	_, err := asyncio.Run(context.Background(), asyncio.Do(main))
	fmt.Println(err)
	// Output:
	// 8 bytes
	// <nil>
}

// Streams run on a connection with TLS or without. Below both there is a connection with socket
// options.
func ExampleStreamConn() {
	options := func(c asyncio.StreamConn) *asyncio.Conn {
		switch c := c.(type) {
		case *asyncio.TLSConn:
			return c.NetConn()
		case *asyncio.Conn:
			return c
		}
		return nil
	}
	main := func(ctx context.Context) error {
		server, err := asyncio.StartServer(ctx, echo, "127.0.0.1:0")
		if err != nil {
			return err
		}
		_, w, err := asyncio.OpenConnection(ctx, server.Addrs()[0].String())
		if err != nil {
			return err
		}
		fmt.Println(options(w.Conn()).SetNoDelay(false))
		return errors.Join(w.Close(ctx), server.Shutdown(ctx))
	}
	_, err := asyncio.Run(context.Background(), asyncio.Do(main))
	fmt.Println(err)
	// Output:
	// <nil>
	// <nil>
}

// TLS by hand on an existing connection; [asyncio.StreamTLS] does it for streams.
func ExampleTLSConn() {
	main := func(ctx context.Context) error {
		forClient, forServer, err := configsOfExample()
		if err != nil {
			return err
		}
		forServer.NextProtos, forClient.NextProtos = []string{"chat/1"}, []string{"chat/2", "chat/1"}
		server, err := asyncio.StartServer(ctx, echo, "127.0.0.1:0", asyncio.StreamTLS(forServer))
		if err != nil {
			return err
		}
		c, err := asyncio.Dial(ctx, "tcp", server.Addrs()[0].String())
		if err != nil {
			return err
		}
		secure, err := asyncio.TLSClient(ctx, c, forClient)
		if err != nil {
			return err
		}
		fmt.Println(secure.ConnectionState().NegotiatedProtocol)
		if _, err := secure.Write([]byte("secret\n")); err != nil {
			return err
		}
		line, err := bufio.NewReader(secure).ReadString('\n')
		fmt.Print(line)
		return errors.Join(err, secure.Close(), server.Shutdown(ctx))
	}
	_, err := asyncio.Run(context.Background(), asyncio.Do(main))
	fmt.Println(err)
	// Output:
	// chat/1
	// secret
	// <nil>
}

// configsOfExample makes a certificate that server and client share. Real ones come from files.
func configsOfExample() (client, server *tls.Config, err error) {
	public, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		return nil, nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: "localhost"},
		DNSNames:     []string{"localhost"},
		NotAfter:     time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(nil, template, template, public, private)
	if err != nil {
		return nil, nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, nil, err
	}
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	return &tls.Config{RootCAs: pool, ServerName: "localhost"},
		&tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: private}}}, nil
}
