package inspect_test

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/inspect"
)

// served runs look on a goroutine, with the address of the page, while a loop with eight tasks
// runs, one of them of that name.
func served(t *testing.T, name string, look func(ctx context.Context, url string) error) {
	s := httptest.NewServer(inspect.Handler())
	defer s.Close()
	run(t, func(ctx context.Context) error {
		asyncio.CreateTask(ctx, asyncio.Do(sleeper), asyncio.TaskName(name))
		spawn(ctx, 6, sleeper)
		_, err := asyncio.ToThread(ctx, func(ctx context.Context) (asyncio.None, error) {
			return asyncio.None{}, look(ctx, s.URL+"/debug/asyncio/")
		})
		return err
	})
}

func get(ctx context.Context, url string) (*http.Response, error) {
	r, err := http.NewRequestWithContext(ctx, "GET", url, nil)
	if err != nil {
		return nil, err
	}
	return http.DefaultClient.Do(r)
}

func TestHandler(t *testing.T) {
	tests := []struct {
		path, kind string
		status     int
		has        []string
	}{
		{"", "text/html; charset=utf-8", 200, []string{`"tasks":8`, "inspect_test.sleeper", "EventSource"}},
		{"json", "application/json", 200, []string{`"tasks": 8`, `"count": 7`}},
		{"json?each=3", "application/json", 200, []string{`"each": [`, `"name": "Task-1"`}},
		{"json?each=-1", "text/plain; charset=utf-8", 400, []string{"each=-1: it is a number of tasks from 0 to 10000"}},
		{"json?each=many", "text/plain; charset=utf-8", 400, []string{"each=many"}},
		{"json?each=1000000", "text/plain; charset=utf-8", 400, []string{"each=1000000"}},
		{"nothing", "text/plain; charset=utf-8", 404, nil},
	}
	served(t, "", func(ctx context.Context, url string) error {
		for _, tt := range tests {
			res, err := get(ctx, url+tt.path)
			if err != nil {
				return err
			}
			body, err := io.ReadAll(res.Body)
			_ = res.Body.Close()
			if err != nil {
				return err
			}
			if res.StatusCode != tt.status || res.Header.Get("Content-Type") != tt.kind {
				t.Errorf("%q: %d, %s", tt.path, res.StatusCode, res.Header.Get("Content-Type"))
			}
			for _, text := range tt.has {
				if !strings.Contains(string(body), text) {
					t.Errorf("%q has no %q:\n%s", tt.path, text, body)
				}
			}
		}
		http.DefaultClient.CloseIdleConnections()
		return nil
	})
}

// The name of a task cannot end the element in which the page carries it.
func TestHandler_Escapes(t *testing.T) {
	const evil = "</script><script>alert(1)</script>"
	served(t, evil, func(ctx context.Context, url string) error {
		res, err := get(ctx, url)
		if err != nil {
			return err
		}
		defer res.Body.Close()
		defer http.DefaultClient.CloseIdleConnections()
		body, err := io.ReadAll(res.Body)
		if strings.Contains(string(body), evil) || !strings.Contains(string(body), "alert(1)") {
			t.Error("the page has the name as it is, or not at all")
		}
		return err
	})
}

func TestHandler_Events(t *testing.T) {
	served(t, "", func(ctx context.Context, url string) error {
		ctx, cancel := context.WithCancel(ctx)
		defer cancel()
		res, err := get(ctx, url+"events")
		if err != nil {
			return err
		}
		defer res.Body.Close()
		line, err := bufio.NewReader(res.Body).ReadString('\n')
		if err != nil {
			return err
		}
		text, found := strings.CutPrefix(line, "data: ")
		var p inspect.Process
		if err := json.Unmarshal([]byte(text), &p); !found || err != nil || len(p.Loops) != 1 || p.Loops[0].Tasks != 8 {
			t.Errorf("%q, %v", line, err)
		}
		return nil
	})
}
