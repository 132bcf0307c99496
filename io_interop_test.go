package asyncio_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/goasyncio/asyncio"
)

// The tests in this file talk to other programs. If a program is absent, its tests are skipped,
// except in CI.

// absent skips the test for lack of a program; in CI it fails the test.
func absent(t *testing.T, name string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("%s is not installed", name)
	}
	t.Skipf("%s is not installed", name)
}

// program returns the path of a program.
func program(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		absent(t, name)
	}
	return path
}

// python returns the first CPython that has the needed features, whatever its version. A command
// that is only called python does not count, such as that of a version manager for a version not
// selected.
func python(t *testing.T) string {
	t.Helper()
	for _, name := range []string{os.Getenv("ASYNCIO_CPYTHON"), "python3.13", "python3"} {
		if name != "" && exec.Command(name, "-c", "import asyncio, ssl").Run() == nil {
			return name
		}
	}
	absent(t, "python3 with asyncio and ssl")
	return ""
}

// peer is another program that is running.
type peer struct {
	cmd    *exec.Cmd
	in     io.WriteCloser
	out    *bufio.Reader
	stderr bytes.Buffer
}

// startPeer starts a program, which is killed when the test ends.
func startPeer(t *testing.T, path string, args ...string) *peer {
	t.Helper()
	p := &peer{cmd: exec.CommandContext(t.Context(), path, args...)}
	p.cmd.Stderr = &p.stderr
	var err error
	p.in, err = p.cmd.StdinPipe()
	must(t, err)
	out, err := p.cmd.StdoutPipe()
	must(t, err)
	p.out = bufio.NewReader(out)
	must(t, p.cmd.Start())
	t.Cleanup(func() { _ = p.cmd.Wait() }) // after a failure; otherwise end has waited
	return p
}

// line waits for a line of output that contains sign, and returns the rest of the line.
func (p *peer) line(ctx context.Context, sign string) (string, error) {
	return asyncio.ToThread(ctx, func(context.Context) (string, error) {
		for seen := ""; ; {
			line, err := p.out.ReadString('\n')
			seen += line
			if _, after, found := strings.Cut(line, sign); found {
				return strings.TrimSpace(after), nil
			}
			if err != nil {
				return "", fmt.Errorf("%v: no %q in its output: %w\n%s", p.cmd, sign, errors.Join(err, p.cmd.Wait()), seen+p.stderr.String())
			}
		}
	})
}

// end waits for the program to end without an error, and returns the rest of its output.
func (p *peer) end(ctx context.Context) (string, error) {
	return asyncio.ToThread(ctx, func(context.Context) (string, error) {
		out, err := io.ReadAll(p.out)
		if err = errors.Join(err, p.cmd.Wait()); err != nil {
			err = fmt.Errorf("%v: %w\n%s%s", p.cmd, err, out, p.stderr.String())
		}
		return string(out), err
	})
}

// credentials holds a certificate for localhost, in files and in configurations.
type credentials struct {
	authority, cert, key string
	client, server       *tls.Config
}

func newCredentials(t *testing.T) *credentials {
	t.Helper()
	a := newAuthority(t)
	pair := a.sign(t, "localhost")
	key, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	must(t, err)
	dir := t.TempDir()
	write := func(name, kind string, der []byte) string {
		path := filepath.Join(dir, name)
		must(t, os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
		return path
	}
	return &credentials{
		authority: write("authority.pem", "CERTIFICATE", a.cert.Raw),
		cert:      write("cert.pem", "CERTIFICATE", pair.Certificate[0]),
		key:       write("key.pem", "PRIVATE KEY", key),
		client:    &tls.Config{RootCAs: a.pool, ServerName: "localhost"},
		server:    &tls.Config{Certificates: []tls.Certificate{pair}},
	}
}

// bulk is the number of bytes that the tests with CPython send at once: more than the buffers in
// between hold.
const bulk = 4 << 20

// backAndForth sends bulk bytes while it reads and compares the peer's.
func backAndForth(ctx context.Context, r *asyncio.StreamReader, w *asyncio.StreamWriter) error {
	want := pattern(bulk)
	sending := asyncio.CreateTask(ctx, func(ctx context.Context) (int, error) { return w.Write(ctx, want) })
	got, err := r.ReadExactly(ctx, bulk)
	if err != nil {
		return err
	}
	if !bytes.Equal(got, want) {
		return errors.New("what came back is not what was sent")
	}
	_, err = sending.Await(ctx)
	return err
}

// CPython's client and our server exchange lines, a large piece in both directions at once, and the
// end of the stream.
func TestInterop_CPythonClient(t *testing.T) {
	const client = `
import asyncio, ssl, sys

async def main(port, authority):
    context = ssl.create_default_context(cafile=authority) if authority else None
    r, w = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="localhost" if context else None)
    for line in [b"one\n", b"\n", b"three\n"]:
        w.write(line)
        assert await r.readline() == line
    want = bytes(i * 31 % 256 for i in range(256)) * (int(sys.argv[3]) // 256)
    w.write(want)
    got, _ = await asyncio.gather(r.readexactly(len(want)), w.drain())
    assert got == want
    if w.can_write_eof():
        w.write_eof()
        assert await r.read() == b""
    w.close()
    await w.wait_closed()
    print("well")

asyncio.run(main(int(sys.argv[1]), sys.argv[2]))
`
	path := python(t)
	for _, secure := range []bool{false, true} {
		t.Run(fmt.Sprintf("tls=%v", secure), func(t *testing.T) {
			c, authority := newCredentials(t), ""
			var opts []asyncio.StreamOption
			if secure {
				authority = c.authority
				opts = append(opts, asyncio.StreamTLS(c.server))
			}
			onRealTime(t, func(ctx context.Context) error {
				return limited(t, ctx, func(t *testing.T, ctx context.Context) error {
					server, err := asyncio.StartServer(ctx, echo, "127.0.0.1:0", opts...)
					if err != nil {
						return err
					}
					p := startPeer(t, path, "-c", client, port(server), authority, strconv.Itoa(bulk))
					if out, err := p.end(ctx); err != nil || strings.TrimSpace(out) != "well" {
						return fmt.Errorf("%q, %w", out, err)
					}
					return server.Shutdown(ctx)
				})
			})
		})
	}
}

func port(s *asyncio.Server) string {
	address := s.Addrs()[0].String()
	return address[strings.LastIndexByte(address, ':')+1:]
}

// Our client and CPython's server exchange the same.
func TestInterop_CPythonServer(t *testing.T) {
	const server = `
import asyncio, ssl, sys

async def main(cert, key):
    context = None
    if cert:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(cert, key)
    over = asyncio.Event()

    async def echo(r, w):
        while data := await r.read(65536):
            w.write(data)
            await w.drain()
        w.close()
        await w.wait_closed()
        over.set()

    s = await asyncio.start_server(echo, "127.0.0.1", 0, ssl=context)
    print("port", s.sockets[0].getsockname()[1], flush=True)
    await over.wait()
    s.close()
    print("well")

asyncio.run(main(*sys.argv[1:]))
`
	path := python(t)
	for _, secure := range []bool{false, true} {
		t.Run(fmt.Sprintf("tls=%v", secure), func(t *testing.T) {
			c, cert, key := newCredentials(t), "", ""
			var opts []asyncio.StreamOption
			if secure {
				cert, key = c.cert, c.key
				opts = append(opts, asyncio.StreamTLS(c.client))
			}
			onRealTime(t, func(ctx context.Context) error {
				return limited(t, ctx, func(t *testing.T, ctx context.Context) error {
					p := startPeer(t, path, "-c", server, cert, key)
					port, err := p.line(ctx, "port ")
					if err != nil {
						return err
					}
					r, w, err := asyncio.OpenConnection(ctx, "127.0.0.1:"+port, opts...)
					if err != nil {
						return err
					}
					if got, err := ask(ctx, r, w, "hello"); got != "hello" || err != nil {
						return fmt.Errorf("%q, %w", got, err)
					}
					if err := backAndForth(ctx, r, w); err != nil {
						return err
					}
					if err := w.WriteEOF(ctx); err != nil {
						return err
					}
					if rest, err := r.Read(ctx, -1); len(rest) != 0 || err != nil {
						return fmt.Errorf("at the end: %q, %w", rest, err)
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
		})
	}
}

// openssl's client verifies our server and gets its answer, in each version of TLS.
func TestInterop_OpenSSLClient(t *testing.T) {
	path := program(t, "openssl")
	c := newCredentials(t)
	onRealTime(t, func(ctx context.Context) error {
		return limited(t, ctx, func(t *testing.T, ctx context.Context) error {
			server, err := asyncio.StartServer(ctx, func(ctx context.Context, r *asyncio.StreamReader, w *asyncio.StreamWriter) error {
				line, err := r.ReadLine(ctx)
				if err != nil {
					return err
				}
				_, err = w.Write(ctx, bytes.ToUpper(line))
				return err
			}, "127.0.0.1:0", asyncio.StreamTLS(c.server))
			if err != nil {
				return err
			}
			for _, version := range []string{"-tls1_2", "-tls1_3"} {
				p := startPeer(t, path, "s_client", "-connect", "127.0.0.1:"+port(server), "-CAfile", c.authority, "-verify_return_error",
					"-verify_hostname", "localhost", "-servername", "localhost", "-quiet", version)
				if _, err := io.WriteString(p.in, "hello\n"); err != nil {
					return err
				}
				if out, err := p.end(ctx); out != "HELLO\n" || err != nil {
					return fmt.Errorf("%s: %q, %w", version, out, err)
				}
			}
			return server.Shutdown(ctx)
		})
	})
}

// openssl's server sends our client's lines back, reversed.
func TestInterop_OpenSSLServer(t *testing.T) {
	path := program(t, "openssl")
	c := newCredentials(t)
	for _, version := range []string{"-tls1_2", "-tls1_3"} {
		onRealTime(t, func(ctx context.Context) error {
			return limited(t, ctx, func(t *testing.T, ctx context.Context) error {
				p := startPeer(t, path, "s_server", "-accept", "127.0.0.1:0", "-naccept", "1", "-cert", c.cert, "-key", c.key, "-rev", version)
				address, err := p.line(ctx, "ACCEPT ")
				if err != nil {
					return err
				}
				r, w, err := asyncio.OpenConnection(ctx, address, asyncio.StreamTLS(c.client))
				if err != nil {
					return err
				}
				for _, line := range []string{"hello", "asyncio"} {
					if got, err := ask(ctx, r, w, line); got != reversed(line) || err != nil {
						return fmt.Errorf("%s: %q, %w", version, got, err)
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
}

func reversed(s string) string {
	var b strings.Builder
	for i := len(s) - 1; i >= 0; i-- {
		b.WriteByte(s[i])
	}
	return b.String()
}

// redis speaks RESP: a request is an array of strings, and a reply begins with a letter for its
// kind.
func TestInterop_Redis(t *testing.T) {
	path := program(t, "redis-server")
	dir, err := os.MkdirTemp("", "redis") // the path of t.TempDir may be too long for a socket
	must(t, err)
	defer os.RemoveAll(dir)
	socket := filepath.Join(dir, "s")
	onRealTime(t, func(ctx context.Context) error {
		return limited(t, ctx, func(t *testing.T, ctx context.Context) error {
			p := startPeer(t, path, "--port", "0", "--unixsocket", socket, "--dir", dir, "--save", "", "--appendonly", "no", "--daemonize", "no", "--logfile", "")
			if _, err := p.line(ctx, "eady to accept connections"); err != nil {
				return err
			}
			r, w, err := asyncio.OpenUnixConnection(ctx, socket)
			if err != nil {
				return err
			}
			defer w.Abort()

			value := string(pattern(1 << 20)) // contains line ends and zeros
			for _, c := range []struct {
				reply   string
				request []string
			}{
				{"+PONG", []string{"PING"}},
				{"+OK", []string{"SET", "key", value}},
				{value, []string{"GET", "key"}},
				{"none", []string{"GET", "nothing"}},
				{":2", []string{"RPUSH", "list", "a", "b"}},
				{"[a b]", []string{"LRANGE", "list", "0", "-1"}},
				{"-WRONGTYPE Operation against a key holding the wrong kind of value", []string{"GET", "list"}},
			} {
				if err := sendRESP(ctx, w, c.request...); err != nil {
					return err
				}
				if reply, err := readRESP(ctx, r); reply != c.reply || err != nil {
					t.Errorf("%s: %.80q, %v, want %.80q", c.request[0], reply, err, c.reply)
				}
			}

			// A task of its own sends many requests before the first reply is read.
			const n = 20_000
			sending := start(ctx, func(ctx context.Context) error {
				buffered := bufio.NewWriter(w.Writer(ctx))
				for range n {
					if _, err := buffered.WriteString("*2\r\n$4\r\nINCR\r\n$1\r\ni\r\n"); err != nil {
						return err
					}
				}
				return buffered.Flush()
			})
			for i := range n {
				if reply, err := readRESP(ctx, r); reply != ":"+strconv.Itoa(i+1) || err != nil {
					return fmt.Errorf("reply %d: %.80q, %w", i, reply, err)
				}
			}
			if err := ended(ctx, sending); err != nil {
				return err
			}

			if err := sendRESP(ctx, w, "SHUTDOWN", "NOSAVE"); err != nil {
				return err
			}
			if line, err := r.ReadLine(ctx); err != io.EOF {
				t.Errorf("after SHUTDOWN: %q, %v", line, err)
			}
			_, err = p.end(ctx)
			return err
		})
	})
}

func sendRESP(ctx context.Context, w *asyncio.StreamWriter, request ...string) error {
	var b bytes.Buffer
	fmt.Fprintf(&b, "*%d\r\n", len(request))
	for _, s := range request {
		fmt.Fprintf(&b, "$%d\r\n%s\r\n", len(s), s)
	}
	_, err := w.Write(ctx, b.Bytes())
	return err
}

// readRESP returns a reply: a string as it is, an array in brackets, any other as its line with the
// letter.
func readRESP(ctx context.Context, r *asyncio.StreamReader) (string, error) {
	line, err := r.ReadUntil(ctx, []byte("\r\n"))
	if err != nil {
		return "", err
	}
	text := strings.TrimSuffix(string(line), "\r\n")
	if text[:1] != "$" && text[:1] != "*" {
		return text, nil
	}
	n, err := strconv.Atoi(text[1:])
	switch {
	case err != nil:
		return "", err
	case n < 0:
		return "none", nil
	case text[0] == '$':
		s, err := r.ReadExactly(ctx, n+2)
		if err != nil {
			return "", err
		}
		return string(s[:n]), nil
	}
	all := make([]string, n)
	for i := range all {
		if all[i], err = readRESP(ctx, r); err != nil {
			return "", err
		}
	}
	return fmt.Sprint(all), nil
}
