package asynciohttp_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/asynciohttp"
)

// curl as the client: protocols negotiated, an upload and its echo, a chunked upload, a HEAD, a
// range of a file, and a client that leaves in the middle.
func TestPeer_Curl(t *testing.T) {
	curl := program(t, "curl")
	dir := t.TempDir()
	big := pattern(2 << 20)
	if err := os.WriteFile(dir+"/big", big, 0o600); err != nil {
		t.Fatal(err)
	}
	var left *asyncio.Event
	mux := http.NewServeMux()
	handle := func(path string, f asynciohttp.HandlerFunc) { mux.Handle(path, f) }
	handle("/echo", func(ctx context.Context, w http.ResponseWriter, r *http.Request) error {
		b, err := io.ReadAll(r.Body)
		w.Header().Set("X-Proto", r.Proto)
		_, e := w.Write(b)
		return errors.Join(err, e)
	})
	handle("/endless", func(ctx context.Context, w http.ResponseWriter, r *http.Request) error {
		defer left.Set()
		for {
			if _, err := w.Write([]byte("on and on\n")); err != nil {
				return nil
			}
			if err := http.NewResponseController(w).Flush(); err != nil {
				return nil
			}
			if err := asyncio.Sleep(ctx, time.Millisecond); err != nil {
				return err
			}
		}
	})
	mux.HandleFunc("/file", func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, dir+"/big") })
	serving(t, mux, func(ctx context.Context, s *site) error {
		left = new(asyncio.Event)
		run := func(args ...string) (string, error) {
			return asyncio.ToThread(ctx, func(ctx context.Context) (string, error) {
				cmd := exec.CommandContext(ctx, curl, append([]string{"-sS", "-k", "--max-time", "30"}, args...)...)
				var stderr bytes.Buffer
				cmd.Stderr = &stderr
				out, err := cmd.Output()
				if err != nil {
					err = fmt.Errorf("curl %v: %w: %s", args, err, stderr.Bytes())
				}
				return string(out), err
			})
		}
		proto := map[string]string{"http": "HTTP/1.1", "https": "HTTP/1.1"}[strings.Split(s.URL, ":")[0]]
		if s.EnableHTTP2 {
			proto = "HTTP/2.0"
		}
		for _, c := range []struct {
			what, want string
			args       []string
		}{
			{"an echo", string(big), []string{"--data-binary", "@" + dir + "/big", s.URL + "/echo"}},
			{"a chunked upload", string(big), []string{"-T", dir + "/big", "-X", "POST", "-H", "Transfer-Encoding: chunked", s.URL + "/echo"}},
			{"the protocol", proto, []string{"-o", "/dev/null", "-w", "%header{x-proto}", "-d", "x", s.URL + "/echo"}},
			{"a file", string(big), []string{s.URL + "/file"}},
			{"a part of a file", string(big[1000:2001]), []string{"-r", "1000-2000", s.URL + "/file"}},
			{"a status", "404", []string{"-o", "/dev/null", "-w", "%{http_code}", s.URL + "/none"}},
		} {
			got, err := run(c.args...)
			if got != c.want || err != nil {
				t.Errorf("%s: %d bytes, %v; want %d", c.what, len(got), err, len(c.want))
			}
		}
		if head, err := run("-I", s.URL+"/file"); !strings.Contains(strings.ToLower(head), "content-length: 2097152") || err != nil {
			t.Errorf("HEAD: %q, %v", head, err)
		}
		if _, err := asyncio.ToThread(ctx, func(ctx context.Context) (int, error) {
			cmd := exec.CommandContext(ctx, curl, "-sSkN", s.URL+"/endless")
			stdout, err := cmd.StdoutPipe()
			if err != nil {
				return 0, err
			}
			if err := cmd.Start(); err != nil {
				return 0, err
			}
			defer cmd.Wait()
			defer cmd.Process.Kill()
			return io.ReadFull(stdout, make([]byte, 100))
		}); err != nil {
			t.Errorf("an endless response: %v", err)
		}
		return left.Wait(ctx)
	})
}
