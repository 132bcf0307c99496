package asyncio_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"testing"

	"github.com/goasyncio/asyncio"
)

// both starts a program and reads its errors together with its output.
func both(t *testing.T, path string, args ...string) *peer {
	t.Helper()
	return startPeer(t, program(t, "sh"), append([]string{"-c", `exec "$@" 2>&1`, "sh", path}, args...)...)
}

// say writes a line to the program.
func (p *peer) say(line string) error {
	_, err := io.WriteString(p.in, line+"\n")
	return err
}

// expect reads a line, which must be want.
func expect(ctx context.Context, r *asyncio.StreamReader, want string) error {
	line, err := r.ReadLine(ctx)
	if got := strings.TrimRight(string(line), "\r\n"); got != want || err != nil {
		return fmt.Errorf("%q, %w, want %q", got, err, want)
	}
	return nil
}

// secured is a handler that answers STARTTLS and then sends back what it receives.
func secured(c *credentials) asyncio.Handler {
	return func(ctx context.Context, r *asyncio.StreamReader, w *asyncio.StreamWriter) error {
		if err := expect(ctx, r, "STARTTLS"); err != nil {
			return err
		}
		if _, err := w.Write(ctx, []byte("GO AHEAD\n")); err != nil {
			return err
		}
		if err := w.StartTLS(ctx, c.server, true); err != nil {
			return err
		}
		return echo(ctx, r, w)
	}
}

// CPython's client switches to TLS in the middle of a conversation with our server.
func TestInterop_CPythonStartTLSClient(t *testing.T) {
	const client = `
import asyncio, ssl, sys

async def main(port, authority, n):
    r, w = await asyncio.open_connection("127.0.0.1", port)
    w.write(b"STARTTLS\n")
    assert await r.readline() == b"GO AHEAD\n"
    await w.start_tls(ssl.create_default_context(cafile=authority), server_hostname="localhost")
    for line in [b"one\n", b"\n", b"three\n"]:
        w.write(line)
        assert await r.readline() == line
    want = bytes(i * 31 % 256 for i in range(256)) * (n // 256)
    w.write(want)
    got, _ = await asyncio.gather(r.readexactly(len(want)), w.drain())
    assert got == want
    w.close()
    await w.wait_closed()
    print("well")

asyncio.run(main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3])))
`
	path, c := python(t), newCredentials(t)
	onRealTime(t, func(ctx context.Context) error {
		return limited(t, ctx, func(t *testing.T, ctx context.Context) error {
			server, err := asyncio.StartServer(ctx, secured(c), "127.0.0.1:0")
			if err != nil {
				return err
			}
			p := startPeer(t, path, "-c", client, port(server), c.authority, strconv.Itoa(bulk))
			if out, err := p.end(ctx); err != nil || strings.TrimSpace(out) != "well" {
				return fmt.Errorf("%q, %w", out, err)
			}
			return server.Shutdown(ctx)
		})
	})
}

// Our client switches to TLS in the middle of a conversation with CPython's server.
func TestInterop_CPythonStartTLSServer(t *testing.T) {
	const server = `
import asyncio, ssl, sys

async def main(cert, key):
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(cert, key)
    over = asyncio.Event()

    async def secured(r, w):
        assert await r.readline() == b"STARTTLS\n"
        w.write(b"GO AHEAD\n")
        await w.drain()
        await w.start_tls(context)
        while data := await r.read(65536):
            w.write(data)
            await w.drain()
        w.close()
        over.set()

    s = await asyncio.start_server(secured, "127.0.0.1", 0)
    print("port", s.sockets[0].getsockname()[1], flush=True)
    await over.wait()
    s.close()
    print("well")

asyncio.run(main(*sys.argv[1:]))
`
	path, c := python(t), newCredentials(t)
	onRealTime(t, func(ctx context.Context) error {
		return limited(t, ctx, func(t *testing.T, ctx context.Context) error {
			p := startPeer(t, path, "-c", server, c.cert, c.key)
			port, err := p.line(ctx, "port ")
			if err != nil {
				return err
			}
			r, w, err := asyncio.OpenConnection(ctx, "127.0.0.1:"+port)
			if err != nil {
				return err
			}
			if got, err := ask(ctx, r, w, "STARTTLS"); got != "GO AHEAD" || err != nil {
				return fmt.Errorf("%q, %w", got, err)
			}
			if err := w.StartTLS(ctx, c.client, false); err != nil {
				return err
			}
			if got, err := ask(ctx, r, w, "hello"); got != "hello" || err != nil {
				return fmt.Errorf("%q, %w", got, err)
			}
			if err := backAndForth(ctx, r, w); err != nil {
				return err
			}
			if err := w.Close(ctx); err != nil {
				return err
			}
			if out, err := p.end(ctx); err != nil || strings.TrimSpace(out) != "well" {
				return fmt.Errorf("%q, %w", out, err)
			}
			return nil
		})
	})
}

// openssl's client speaks as much SMTP as it takes to get to TLS.
func TestInterop_OpenSSLStartTLS(t *testing.T) {
	path, c := program(t, "openssl"), newCredentials(t)
	onRealTime(t, func(ctx context.Context) error {
		return limited(t, ctx, func(t *testing.T, ctx context.Context) error {
			server, err := asyncio.StartServer(ctx, func(ctx context.Context, r *asyncio.StreamReader, w *asyncio.StreamWriter) error {
				if _, err := w.Write(ctx, []byte("220 localhost ESMTP\r\n")); err != nil {
					return err
				}
				line, err := r.ReadLine(ctx)
				if err != nil || !bytes.HasPrefix(line, []byte("EHLO ")) {
					return fmt.Errorf("%q, %w", line, err)
				}
				if _, err := w.Write(ctx, []byte("250-localhost\r\n250 STARTTLS\r\n")); err != nil {
					return err
				}
				if err := expect(ctx, r, "STARTTLS"); err != nil {
					return err
				}
				if _, err := w.Write(ctx, []byte("220 go ahead\r\n")); err != nil {
					return err
				}
				if err := w.StartTLS(ctx, c.server, true); err != nil {
					return err
				}
				if line, err = r.ReadLine(ctx); err == nil {
					_, err = w.Write(ctx, bytes.ToUpper(line))
				}
				return err
			}, "127.0.0.1:0")
			if err != nil {
				return err
			}
			p := startPeer(t, path, "s_client", "-connect", "127.0.0.1:"+port(server), "-starttls", "smtp", "-CAfile", c.authority, "-verify_return_error",
				"-verify_hostname", "localhost", "-servername", "localhost", "-quiet")
			if err := p.say("hello"); err != nil {
				return err
			}
			if out, err := p.end(ctx); !strings.HasSuffix(out, "HELLO\n") || err != nil {
				return fmt.Errorf("%q, %w", out, err)
			}
			return server.Shutdown(ctx)
		})
	})
}

// keyUpdates are openssl's commands for a new key: of its own, and of its own while it asks the
// peer for one too.
var keyUpdates = []string{"k", "K", "K", "k"}

// openssl's client updates its keys between messages, and makes our server update its own while the
// server waits in a read.
func TestInterop_OpenSSLClientKeyUpdate(t *testing.T) {
	path, c := program(t, "openssl"), newCredentials(t)
	onRealTime(t, func(ctx context.Context) error {
		return limited(t, ctx, func(t *testing.T, ctx context.Context) error {
			server, err := asyncio.StartServer(ctx, shout, "127.0.0.1:0", asyncio.StreamTLS(c.server))
			if err != nil {
				return err
			}
			p := both(t, path, "s_client", "-connect", "127.0.0.1:"+port(server), "-CAfile", c.authority, "-verify_return_error", "-servername", "localhost", "-tls1_3")
			for i, command := range keyUpdates {
				if err := p.say(fmt.Sprintf("message %d", i)); err != nil {
					return err
				}
				if _, err := p.line(ctx, fmt.Sprintf("MESSAGE %d", i)); err != nil {
					return err
				}
				if err := p.say(command); err != nil {
					return err
				}
				if _, err := p.line(ctx, "KEYUPDATE"); err != nil {
					return err
				}
			}
			if err := p.say("the last"); err != nil {
				return err
			}
			if _, err := p.line(ctx, "THE LAST"); err != nil {
				return err
			}
			if err := p.say("Q"); err != nil {
				return err
			}
			_, err = p.end(ctx)
			return errors.Join(err, server.Shutdown(ctx))
		})
	})
}

// openssl's server updates its keys, and makes our client update its own, between the server's
// messages and in the middle of the client's.
func TestInterop_OpenSSLServerKeyUpdate(t *testing.T) {
	path, c := program(t, "openssl"), newCredentials(t)
	onRealTime(t, func(ctx context.Context) error {
		return limited(t, ctx, func(t *testing.T, ctx context.Context) error {
			p := startPeer(t, path, "s_server", "-accept", "127.0.0.1:0", "-naccept", "1", "-cert", c.cert, "-key", c.key, "-tls1_3")
			address, err := p.line(ctx, "ACCEPT ")
			if err != nil {
				return err
			}
			r, w, err := asyncio.OpenConnection(ctx, address, asyncio.StreamTLS(c.client))
			if err != nil {
				return err
			}
			for i, command := range keyUpdates {
				reading := start(ctx, func(ctx context.Context) error { return expect(ctx, r, fmt.Sprintf("from the server %d", i)) })
				settle(t, ctx) // the read waits while the new key comes
				if err := p.say(command); err != nil {
					return err
				}
				// openssl looks for commands before it looks for messages. (A command that it did
				// not recognise would come to us as a message.)
				if _, err := fmt.Fprintf(w.Writer(ctx), "from the client %d\n", i); err != nil {
					return err
				}
				if _, err := p.line(ctx, fmt.Sprintf("from the client %d", i)); err != nil {
					return err
				}
				if err := p.say(fmt.Sprintf("from the server %d", i)); err != nil {
					return err
				}
				if err := ended(ctx, reading); err != nil {
					return err
				}
			}
			if err := w.Close(ctx); err != nil {
				return err
			}
			_, err = p.end(ctx)
			return err
		})
	})
}
