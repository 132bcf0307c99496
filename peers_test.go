package asyncio_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/goasyncio/asyncio"
)

// peer returns the path of a program that a test talks to. If it is not there the test is skipped, and says how to install it; in
// CI (ASYNCIO_CI is set) it fails.
func peer(t *testing.T, path, install string) string {
	t.Helper()
	found, err := exec.LookPath(path)
	if path != "" && err == nil {
		return found
	}
	if os.Getenv("ASYNCIO_CI") != "" {
		t.Fatalf("no %s: %s", path, install)
	}
	t.Skipf("no %s: %s", path, install)
	return ""
}

func cpython(t *testing.T) string {
	t.Helper()
	return peer(t, os.Getenv("ASYNCIO_CPYTHON"), "set ASYNCIO_CPYTHON to a python3.13, from pyenv install 3.13 for example")
}

// echoClient is a client made of CPython's streams. It sends lines of growing length and a tail without a newline, reads them back, and
// prints what it saw.
const echoClient = `
import asyncio, sys
async def main():
    reader, writer = await asyncio.open_connection("127.0.0.1", int(sys.argv[1]), limit=2**20)
    total = 0
    for i in range(200):
        line = b"x" * (i * i) + b"\n"
        writer.write(line)
        await writer.drain()
        got = await reader.readline()
        assert got == line, (i, len(got))
        total += len(got)
    big = b"y" * 3_000_000
    async def send():
        writer.write(big)
        await writer.drain()
        writer.write_eof()
    _, got = await asyncio.gather(send(), reader.read())
    assert got == big, len(got)
    writer.close()
    await writer.wait_closed()
    print("echoed", total + len(got))
asyncio.run(main())
`

// Clients of CPython's asyncio, several at a time, against a server here.
func TestPeer_CPythonClient(t *testing.T) {
	python := cpython(t)
	onSockets(t, func(t *testing.T, ctx context.Context) error {
		server, err := asyncio.StartServer(ctx, func(ctx context.Context, r *asyncio.StreamReader, w *asyncio.StreamWriter) error {
			_, err := io.Copy(w.Writer(ctx), r.Reader(ctx))
			return err
		}, "127.0.0.1:0")
		if err != nil {
			return err
		}
		_, port, _ := strings.Cut(server.Addrs()[0].String(), ":")
		var clients []asyncio.Coroutine[string]
		for range 3 {
			clients = append(clients, func(ctx context.Context) (string, error) {
				return asyncio.ToThread(ctx, func(ctx context.Context) (string, error) {
					out, err := exec.CommandContext(ctx, python, "-c", echoClient, port).CombinedOutput()
					return string(out), err
				})
			})
		}
		got, err := asyncio.Gather(ctx, clients...)
		for _, out := range got {
			if want := fmt.Sprintf("echoed %d\n", 200+199*200*399/6+3_000_000); out != want {
				t.Errorf("the client printed %q, want %q", out, want)
			}
		}
		return errors.Join(err, server.Shutdown(ctx))
	})
}

// echoServer is a server made of CPython's streams. It prints its port, and ends when its input does.
const echoServer = `
import asyncio, sys
async def client(reader, writer):
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()
    await writer.wait_closed()
async def main():
    server = await asyncio.start_server(client, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)
    server.close()
asyncio.run(main())
`

// Streams here against a server of CPython's asyncio.
func TestPeer_CPythonServer(t *testing.T) {
	python := cpython(t)
	cmd := exec.Command(python, "-c", echoServer)
	stdin, err := cmd.StdinPipe()
	must(t, err)
	stdout, err := cmd.StdoutPipe()
	must(t, err)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	must(t, cmd.Start())
	defer func() {
		stdin.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("the server: %v\n%s", err, stderr.String())
		}
	}()
	port, err := bufio.NewReader(stdout).ReadString('\n')
	must(t, err)
	onSockets(t, func(t *testing.T, ctx context.Context) error {
		var clients []asyncio.Coroutine[asyncio.None]
		for n := range 10 {
			clients = append(clients, asyncio.Do(func(ctx context.Context) error {
				r, w, err := asyncio.OpenConnection(ctx, "127.0.0.1:"+strings.TrimSpace(port))
				if err != nil {
					return err
				}
				for i := range 100 {
					line := fmt.Sprintf("line %d of %d\n", i, n)
					if _, err := w.Write(ctx, []byte(line)); err != nil {
						return err
					}
					if got, err := r.ReadLine(ctx); string(got) != line || err != nil {
						return fmt.Errorf("read %q, %w; want %q", got, err, line)
					}
				}
				want := pattern(1_000_000)
				sent := start(ctx, func(ctx context.Context) error {
					_, err := w.Write(ctx, want)
					return errors.Join(err, w.WriteEOF(ctx))
				})
				got, err := r.Read(ctx, -1)
				if !bytes.Equal(got, want) {
					t.Errorf("%d bytes came back of %d", len(got), len(want))
				}
				return errors.Join(err, ended(ctx, sent), w.Close(ctx))
			}))
		}
		_, err := asyncio.Gather(ctx, clients...)
		return err
	})
}
