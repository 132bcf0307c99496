package asynciolog_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"os"
	"strings"
	"testing"
	"testing/slogtest"
	"time"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/asynciolog"
)

func parse(t *testing.T, text []byte) (all []map[string]any) {
	for line := range bytes.Lines(text) {
		var m map[string]any
		if err := json.Unmarshal(line, &m); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		all = append(all, m)
	}
	return all
}

func TestTaskHandler_IsAHandler(t *testing.T) {
	var b bytes.Buffer
	h := asynciolog.NewTaskHandler(slog.NewJSONHandler(&b, nil))
	if err := slogtest.TestHandler(h, func() []map[string]any { return parse(t, b.Bytes()) }); err != nil {
		t.Error(err)
	}
}

func TestTaskHandler(t *testing.T) {
	type key struct{}
	var b bytes.Buffer
	log := slog.New(asynciolog.NewTaskHandler(slog.NewJSONHandler(&b, nil), nil, func(ctx context.Context) []slog.Attr {
		if id, ok := ctx.Value(key{}).(string); ok {
			return []slog.Attr{slog.String("trace", id)}
		}
		return nil
	}))
	_, err := asyncio.Run(context.WithValue(t.Context(), key{}, "abc"), asyncio.Do(func(ctx context.Context) error {
		fetch := asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error { log.InfoContext(ctx, "in a task"); return nil }), asyncio.TaskName("fetch"))
		if _, err := fetch.Await(ctx); err != nil {
			return err
		}
		log.InfoContext(ctx, "its own", "task", "mine")
		log.Info("without a context")
		loop, err := asyncio.GetRunningLoop(ctx)
		if err != nil {
			return err
		}
		loop.CallSoon(func() { log.InfoContext(ctx, "in a callback") })
		if err := asyncio.Sleep(ctx, 0); err != nil {
			return err
		}
		logged := asyncio.CreateFuture[asyncio.None](ctx)
		go func() {
			log.InfoContext(ctx, "in a goroutine")
			_, _ = loop.CallSoonThreadsafe(func() { _ = logged.SetResult(asyncio.None{}) })
		}()
		if _, err := logged.Await(ctx); err != nil {
			return err
		}
		_, err = asyncio.ToThread(ctx, func(ctx context.Context) (int, error) { log.InfoContext(ctx, "in a thread"); return 0, nil })
		return err
	}))
	if err != nil {
		t.Fatal(err)
	}
	want := []struct{ msg, task, trace string }{
		{"in a task", "fetch", "abc"}, {"its own", "mine", "abc"}, {"without a context", "", ""},
		{"in a callback", "", "abc"}, {"in a goroutine", "", "abc"}, {"in a thread", "", "abc"},
	}
	got := parse(t, b.Bytes())
	if len(got) != len(want) {
		t.Fatalf("%d records", len(got))
	}
	for i, w := range want {
		task, _ := got[i]["task"].(string)
		trace, _ := got[i]["trace"].(string)
		if got[i]["msg"] != w.msg || task != w.task || trace != w.trace {
			t.Errorf("%v, not %v", got[i], w)
		}
	}
}

// printed logs to a TextHandler and returns what it prints, without the time.
func printed(opts *slog.HandlerOptions, log func(*slog.Logger)) string {
	var b strings.Builder
	log(slog.New(asynciolog.NewTextHandler(&b, opts)))
	var lines []string
	for line := range strings.Lines(b.String()) {
		if _, after, ok := strings.Cut(line, "INFO "); ok && !strings.HasPrefix(line, " ") {
			line = "INFO " + after
		}
		lines = append(lines, line)
	}
	return strings.Join(lines, "")
}

func TestTextHandler(t *testing.T) {
	tests := []struct {
		log  func(*slog.Logger)
		want string
	}{
		{func(l *slog.Logger) { l.Info("hello", "n", 1, "who", "a b", "empty", "") }, "INFO hello n=1 who=\"a b\" empty=\"\"\n"},
		{func(l *slog.Logger) { l.Info("panic", "stack", "a() at a.go:1\nb() at b.go:2\n", "n", 1) },
			"INFO panic n=1\n  stack:\n    a() at a.go:1\n    b() at b.go:2\n"},
		{func(l *slog.Logger) { l.Info("two\nlines\n") }, "INFO two\n    lines\n"},
		{func(l *slog.Logger) { l.With("a", 1).WithGroup("g").With("b", 2).Info("m", slog.Group("h", "c", 3)) }, "INFO m a=1 g.b=2 g.h.c=3\n"},
		{func(l *slog.Logger) { l.Info("m", slog.Group("", "inline", 1), slog.Attr{}) }, "INFO m inline=1\n"},
		{func(l *slog.Logger) { l.Info("\x1b[31m任务", "名", "\x1b[2J") }, "INFO \ufffd[31m任务 名=\"\\x1b[2J\"\n"},
		{func(l *slog.Logger) { l.Debug("left out") }, ""},
		{func(l *slog.Logger) { l.Info("m", "took", time.Second, "err", errors.New("broken")) }, "INFO m took=1s err=broken\n"},
	}
	for _, tt := range tests {
		if got := printed(nil, tt.log); got != tt.want {
			t.Errorf("%q, not %q", got, tt.want)
		}
	}
	hide := &slog.HandlerOptions{ReplaceAttr: func(groups []string, a slog.Attr) slog.Attr {
		if len(groups) == 1 && a.Key == "password" {
			return slog.String(a.Key, "***")
		}
		return a
	}}
	if got := printed(hide, func(l *slog.Logger) { l.WithGroup("login").Info("m", "password", "secret") }); got != "INFO m login.password=***\n" {
		t.Errorf("%q", got)
	}
}

// The library's reports are readable with this handler.
func TestTextHandler_Reports(t *testing.T) {
	var b strings.Builder
	before := slog.Default()
	slog.SetDefault(slog.New(asynciolog.NewTextHandler(&b, nil)))
	defer slog.SetDefault(before)
	_, err := asyncio.Run(t.Context(), asyncio.Do(explodes))
	if _, ok := errors.AsType[*asyncio.PanicError](err); !ok {
		t.Error(err)
	}
	_, after, _ := strings.Cut(b.String(), "\n  stack:\n")
	first, _, _ := strings.Cut(after, "\n")
	if !strings.HasPrefix(first, "    asynciolog_test.explodes() at ") || !strings.Contains(b.String(), "asyncio: panic in task exception=") {
		t.Errorf("%s", b.String())
	}
}

func explodes(context.Context) error { panic("on purpose") }

func ExampleNewTextHandler() {
	log := slog.New(asynciolog.NewTextHandler(os.Stdout, &slog.HandlerOptions{Level: slog.LevelWarn}))
	log.Info("not printed")
	// Output:
}
