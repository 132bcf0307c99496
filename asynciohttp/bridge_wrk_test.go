package asynciohttp_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/asynciohttp"
)

// wrk as the client: requests as fast as they are answered, over many connections, with bodies and
// without. Each gets the right answer; data that the handlers count needs no lock.
func TestPeer_Wrk(t *testing.T) {
	wrk := program(t, "wrk")
	const connections = 50
	script := t.TempDir() + "/echo.lua"
	if err := os.WriteFile(script, []byte(`
wrk.method = "POST"
wrk.body = string.rep("0123456789abcdef", 1024)
function response(status, headers, body)
	if status ~= 200 or body ~= wrk.body then print("wrong answer", status, #body) end
end
`), 0o600); err != nil {
		t.Fatal(err)
	}
	served := make(map[string]int)
	mux := http.NewServeMux()
	count := func(path string, f asynciohttp.HandlerFunc) {
		mux.Handle(path, asynciohttp.HandlerFunc(func(ctx context.Context, w http.ResponseWriter, r *http.Request) error {
			served[path]++
			return f(ctx, w, r)
		}))
	}
	count("/hello", func(ctx context.Context, w http.ResponseWriter, r *http.Request) error {
		if err := asyncio.Sleep(ctx, 0); err != nil { // so that they overlap
			return err
		}
		_, err := io.WriteString(w, "hello")
		return err
	})
	count("/echo", func(ctx context.Context, w http.ResponseWriter, r *http.Request) error {
		b, err := io.ReadAll(r.Body)
		if err != nil {
			return err
		}
		_, err = w.Write(b)
		return err
	})
	serving(t, mux, func(ctx context.Context, s *site) error {
		l, err := asyncio.GetRunningLoop(ctx)
		if err != nil {
			return err
		}
		l.SetDebug(false)
		for path, args := range map[string][]string{"/hello": nil, "/echo": {"-s", script}} {
			// On a busy machine few may be answered in a second, so wrk runs until each connection
			// could have had its turn.
			for total := 0; total < connections; {
				before := served[path]
				out, err := asyncio.ToThread(ctx, func(ctx context.Context) (string, error) {
					args := append([]string{"-t", "1", "-c", strconv.Itoa(connections), "-d", "1s", "--timeout", "30s"}, args...)
					out, err := exec.CommandContext(ctx, wrk, append(args, s.URL+path)...).CombinedOutput()
					return string(out), err
				})
				if err != nil {
					return fmt.Errorf("wrk: %w\n%s", err, out)
				}
				found := regexp.MustCompile(`(\d+) requests in`).FindStringSubmatch(out)
				if found == nil || strings.Contains(out, "Socket errors") || strings.Contains(out, "Non-2xx") || strings.Contains(out, "wrong answer") {
					return fmt.Errorf("%s:\n%s", path, out)
				}
				answered, err := strconv.Atoi(found[1])
				if err != nil {
					return err
				}
				// Requests under way at the end are not in wrk's count.
				if n := served[path] - before; n < answered || n > answered+connections {
					t.Errorf("%s: %d requests served, and wrk counted %d answers", path, n, answered)
				}
				total += answered
				t.Logf("%s: %d requests in a second", path, answered)
			}
		}
		return nil
	})
}
