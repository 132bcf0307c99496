package browser

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/inspect"
	"github.com/goasyncio/asyncio/internal/inspection"
)

func TestMain(m *testing.M) {
	inspection.Disable() // the import of package inspect has opened the socket
	os.Exit(m.Run())
}

// A program runs on a loop of its own while a test looks at its page.
type program struct {
	t    *testing.T
	loop *asyncio.EventLoop
	ctx  context.Context // of its main task
	url  string          // of the page
}

// newProgram starts main, and the page. The program is ended with the test; main need not wait.
func newProgram(t *testing.T, main func(ctx context.Context) error, opts ...inspect.HandlerOption) *program {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	p := &program{t: t}
	started, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		_, err := asyncio.Run(ctx, asyncio.Do(func(ctx context.Context) (err error) {
			p.ctx = ctx
			if p.loop, err = asyncio.GetRunningLoop(ctx); err != nil {
				return err
			}
			if err := main(ctx); err != nil {
				return err
			}
			close(started)
			return asyncio.Sleep(ctx, time.Hour)
		}))
		ended <- err
	}()
	select {
	case <-started:
	case err := <-ended:
		t.Fatalf("the program has ended: %v", err)
	}
	t.Cleanup(func() {
		stop()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("the program ends with %v", err)
		}
	})
	server := httptest.NewServer(inspect.Handler(opts...))
	t.Cleanup(server.Close)
	p.url = server.URL + "/debug/asyncio/"
	return p
}

// do has the program call fn.
func (p *program) do(fn func(ctx context.Context)) {
	p.t.Helper()
	done := make(chan struct{})
	if _, err := p.loop.CallSoonThreadsafe(func() {
		defer close(done)
		fn(p.ctx)
	}); err != nil {
		p.t.Fatal(err)
	}
	<-done
}

func sleeper(ctx context.Context) error { return asyncio.Sleep(ctx, time.Hour) }

func reader(ctx context.Context, q *asyncio.Queue[int]) error {
	_, err := q.Get(ctx)
	return err
}

// says is an expression: whether the page has a text.
func says(text string) string { return fmt.Sprintf(`document.body.innerText.includes(%q)`, text) }

// count is an expression: the number in the row of a coroutine.
func count(coroutine string) string {
	return fmt.Sprintf(`+([...document.querySelectorAll("tbody tr")].find(r => r.cells[1] && r.cells[1].innerText.includes(%q))?.cells[0].innerText || 0)`, coroutine)
}

func TestInspect_IsLive(t *testing.T) {
	p := newProgram(t, func(ctx context.Context) error {
		for range 50 {
			asyncio.CreateTask(ctx, asyncio.Do(sleeper))
		}
		return asyncio.Sleep(ctx, 0)
	})
	b := newTab(t, "en-US", 1300, 900)
	b.open(p.url)
	b.until(count("browser.sleeper") + " === 50")
	eval[bool](b, `document.querySelector("tbody summary").click() || true`)
	p.do(func(ctx context.Context) {
		for range 25 {
			asyncio.CreateTask(ctx, asyncio.Do(sleeper))
		}
		q := asyncio.NewQueue[int](0)
		for range 7 {
			asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error { return reader(ctx, q) }))
		}
	})
	b.until(count("browser.sleeper") + " === 75")
	b.until(says("Queue maxsize=0 _getters[7]"))
	// Steps and lags come with the looks.
	b.until(says("longest in a minute"))
	b.until(`document.querySelectorAll("svg.lags rect").length >= 2`)
	if !eval[bool](b, `document.querySelector("tbody details").open`) {
		t.Error("what was opened has closed when the page was drawn again")
	}
	b.drawn()
	b.screenshot("inspect")

	eval[bool](b, `(() => { const f = document.getElementById("filter"); f.value = "getters"; f.dispatchEvent(new Event("input")); return true })()`)
	b.until(count("browser.sleeper") + " === 0")
	if !eval[bool](b, says("7")) {
		t.Error("the filter shows nothing")
	}
	eval[bool](b, `document.getElementById("pause").click() || true`)
	if !eval[bool](b, says("paused")) {
		t.Error("the page does not pause")
	}
	b.clean(p.url)
}

func TestInspect_Chinese(t *testing.T) {
	p := newProgram(t, func(ctx context.Context) error {
		asyncio.CreateTask(ctx, asyncio.Do(sleeper))
		return asyncio.Sleep(ctx, 0)
	})
	b := newTab(t, "zh-CN", 480, 900)
	b.open(p.url)
	b.until(says("按协程和等待位置分组的任务"))
	b.drawn()
	b.screenshot("inspect-narrow-zh")
	if w := eval[int](b, `document.documentElement.scrollWidth`); w > 480 {
		t.Errorf("the page is %d pixels wide, the window 480", w)
	}
	if missing := eval[string](b, `(() => {
		const en = Object.keys(words.en), zh = Object.keys(words.zh);
		return [...en.filter(k => !zh.includes(k)), ...zh.filter(k => !en.includes(k))].join();
	})()`); missing != "" {
		t.Errorf("one of the languages has no %s", missing)
	}
	eval[bool](b, `document.getElementById("lang").click() || true`)
	b.until(says("Tasks by coroutine and place") + ` && document.documentElement.lang === "en"`)
	b.clean(p.url)
}

func TestInspect_Dark(t *testing.T) {
	p := newProgram(t, sleepOnce)
	b := newTab(t, "en-US", 900, 600)
	b.scheme("dark")
	b.open(p.url)
	b.until(says("Loop"))
	b.screenshot("inspect-dark")
	if n := b.brightness(3, 300); n > 200 {
		t.Errorf("the page is as bright as %d of 765", n)
	}
	b.clean(p.url)
}

func sleepOnce(ctx context.Context) error { return asyncio.Sleep(ctx, 0) }

// compute keeps its loop until it is told to go on.
func compute(goOn <-chan struct{}) { <-goOn }

func TestInspect_Stall(t *testing.T) {
	goOn := make(chan struct{})
	p := newProgram(t, sleepOnce)
	b := newTab(t, "en-US", 1300, 900)
	b.open(p.url)
	b.until(says("Tasks by coroutine and place"))
	released := false
	release := func() {
		if !released {
			released = true
			close(goOn)
		}
	}
	t.Cleanup(release)
	p.do(func(ctx context.Context) {
		asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error { compute(goOn); return nil }), asyncio.TaskName("hash"))
	})
	b.until(says("The loop is stuck: in task hash") + " && " + says("browser/inspect_test.go:"))
	if !eval[bool](b, says("browser.compute(")) {
		t.Error("the page does not show the stack")
	}
	b.screenshot("inspect-stall")
	b.open(p.url) // the page is served while the loop is stuck
	b.until(says("The loop is stuck: in task hash"))
	release()
	b.until(says("Tasks by coroutine and place") + " && !" + says("is stuck"))
	b.clean(p.url)
}

func TestInspect_Trouble(t *testing.T) {
	p := newProgram(t, func(ctx context.Context) error {
		var first, second asyncio.Lock
		both := func(a, b *asyncio.Lock) func(ctx context.Context) error {
			return func(ctx context.Context) error {
				if err := a.Acquire(ctx); err != nil {
					return err
				}
				defer a.Release()
				if err := asyncio.Sleep(ctx, time.Millisecond); err != nil {
					return err
				}
				if err := b.Acquire(ctx); err != nil {
					return err
				}
				b.Release()
				return nil
			}
		}
		asyncio.CreateTask(ctx, asyncio.Do(both(&first, &second)), asyncio.TaskName("there"))
		asyncio.CreateTask(ctx, asyncio.Do(both(&second, &first)), asyncio.TaskName("back"))
		q := asyncio.NewQueue[int](0)
		asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error {
			for i := range 5000 {
				if err := q.Put(ctx, i); err != nil {
					return err
				}
			}
			return asyncio.Sleep(ctx, time.Hour)
		}), asyncio.TaskName("producer"))
		server, err := asyncio.StartServer(ctx, func(ctx context.Context, r *asyncio.StreamReader, w *asyncio.StreamWriter) error {
			return asyncio.Sleep(ctx, time.Hour)
		}, "127.0.0.1:0")
		if err != nil {
			return err
		}
		_ = server
		return asyncio.Sleep(ctx, 5*time.Millisecond)
	})
	b := newTab(t, "en-US", 1300, 900)
	b.open(p.url)
	for _, text := range []string{"Tasks wait for each other in a circle: ", "A queue grows: ", "5,000 values", "task producer puts some there, at browser/inspect_test.go:", "Servers (1)", "The next timers"} {
		b.until(says(text))
	}
	b.drawn()
	b.screenshot("inspect-trouble")
	b.clean(p.url)
}

func TestInspect_Cancel(t *testing.T) {
	evil := `</script><script>alert(1)</script><img src=x onerror=alert(2)>"'&{{data}}` + "\x00\x1b[31m 任务\u2028 "
	var ended error
	p := newProgram(t, func(ctx context.Context) error {
		asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error {
			ended = asyncio.Sleep(ctx, time.Hour)
			return ended
		}), asyncio.TaskName(evil))
		return asyncio.Sleep(ctx, 0)
	}, inspect.AllowCancel())
	b := newTab(t, "en-US", 1300, 900)
	b.open(p.url)
	button := fmt.Sprintf(`[...document.querySelectorAll("button")].find(x => x.dataset.key?.endsWith(%q))`, evil)
	b.until(`!!` + button)
	eval[bool](b, button+`.closest("details").querySelector("summary").click() || true`)
	eval[bool](b, button+`.click() || true`)
	b.until(button + `.textContent.startsWith("Really cancel ")`)
	b.screenshot("inspect-cancel")
	p.do(func(context.Context) {
		if ended != nil {
			t.Errorf("one click cancels: %v", ended)
		}
	})
	eval[bool](b, button+`.click() || true`)
	b.until(says("was asked to cancel."))
	b.until(`!` + button)
	p.do(func(context.Context) {
		if !errors.Is(ended, asyncio.ErrCancelled) || !strings.Contains(ended.Error(), "cancelled by package inspect") {
			t.Errorf("the task ends with %v", ended)
		}
	})
	if n := eval[int](b, `document.images.length`); n != 0 {
		t.Errorf("%d images", n)
	}
	b.clean(p.url)
}

// Whoever may not cancel is told so, and nothing is cancelled.
func TestInspect_RefusesToCancel(t *testing.T) {
	spared := func(ctx context.Context) error {
		asyncio.CreateTask(ctx, asyncio.Do(sleeper), asyncio.TaskName("spared"))
		return asyncio.Sleep(ctx, 0)
	}
	open, shut := newProgram(t, spared, inspect.AllowCancel()), newProgram(t, spared)
	process, err := inspect.Take(t.Context(), inspect.Each(10))
	if err != nil {
		t.Fatal(err)
	}
	task := func(loop int) (id string) {
		for _, k := range process.Loops[loop].Each {
			if k.Name == "spared" {
				id = k.ID
			}
		}
		return id
	}
	loops := process.Loops
	tests := []struct {
		name   string
		url    string
		loop   string
		id     string
		task   string
		origin string
		want   string
	}{
		{"not allowed", shut.url, fmt.Sprint(loops[1].Number), task(1), "spared", "", "403 cancelling is not allowed here: inspect.Handler was called without AllowCancel"},
		{"from another site", open.url, fmt.Sprint(loops[0].Number), task(0), "spared", "http://evil.example", "403 cross-origin request detected"},
		{"another name", open.url, fmt.Sprint(loops[0].Number), task(0), "other", "", "404 there is no such task"},
		{"another id", open.url, fmt.Sprint(loops[0].Number), "0x1", "spared", "", "404 there is no such task"},
		{"no id", open.url, fmt.Sprint(loops[0].Number), "what", "spared", "", "404 there is no such task"},
		{"another loop", open.url, "0", task(0), "spared", "", "404 there is no such task: no loop has the number 0"},
		{"no loop", open.url, "one", task(0), "spared", "", "400 loop=one: it is the number of a loop"},
	}
	for _, tt := range tests {
		form := url.Values{"loop": {tt.loop}, "id": {tt.id}, "name": {tt.task}}
		r, err := http.NewRequestWithContext(t.Context(), "POST", tt.url+"cancel", strings.NewReader(form.Encode()))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
		if tt.origin != "" {
			r.Header.Set("Origin", tt.origin)
		}
		res, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		var body strings.Builder
		if err := res.Write(&body); err != nil {
			t.Fatal(err)
		}
		_ = res.Body.Close()
		status, text, _ := strings.Cut(tt.want, " ")
		if fmt.Sprint(res.StatusCode) != status || !strings.Contains(body.String(), text) {
			t.Errorf("%s: %s, want %s", tt.name, body.String(), tt.want)
		}
	}
	if process, err = inspect.Take(t.Context(), inspect.Each(10)); err != nil || task(0) == "" || task(1) == "" {
		t.Errorf("a task is gone: %v", err)
	}
}
