package asynciohttp_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/goasyncio/asyncio"
)

// useWrk has wrk ask a server for /hello and /echo as fast as it answers, over many connections,
// without bodies and with. Each request gets the right answer, and served, which the server's
// handlers count by host and URI, without a lock, is the number of them. It must be called in a
// task.
func useWrk(ctx context.Context, t *testing.T, url string, served map[string]int) error {
	t.Helper()
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
		return err
	}
	for path, args := range map[string][]string{"/hello": nil, "/echo": {"-s", script}} {
		// On a busy machine few may be answered in a second, so wrk runs until each connection
		// could have had its turn.
		for total, run := 0, 0; total < connections; run++ {
			// Requests that one run leaves behind are served in the next, and not counted with it.
			target := fmt.Sprintf("%s%s?run=%d", url, path, run)
			out, err := asyncio.ToThread(ctx, func(ctx context.Context) (string, error) {
				args := append([]string{"-t", "1", "-c", strconv.Itoa(connections), "-d", "1s", "--timeout", "30s"}, args...)
				out, err := exec.CommandContext(ctx, wrk, append(args, target)...).CombinedOutput()
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
			_, key, _ := strings.Cut(target, "://")
			if n := served[key]; n < answered || n > answered+connections {
				t.Errorf("%s: %d requests served, and wrk counted %d answers", target, n, answered)
			}
			total += answered
			t.Logf("%s: %d requests in a second", path, answered)
		}
	}
	return nil
}
