// Package asynciolog has handlers for package log/slog: one that prints what people read on a
// terminal, and one that adds the current task to each record.
//
//	slog.SetDefault(slog.New(asynciolog.NewTaskHandler(asynciolog.NewTextHandler(os.Stderr, nil))))
//
// The library's own reports, of panics, stalls and errors that nobody retrieved, are records like
// any other. With another handler, such as [slog.JSONHandler], they have the same attributes; the
// attribute "stack" has a call in each line, the program's innermost first.
package asynciolog

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode"

	"github.com/goasyncio/asyncio"
)

// A TextHandler prints each record for people: time, level, message and short attributes in a line,
// and below it, indented, each attribute that has lines of its own, such as a stack. Make one with
// [NewTextHandler]. Any goroutine may use it.
type TextHandler struct {
	out    *output // shared by all handlers made of the first one
	opts   slog.HandlerOptions
	prefix string      // of keys, "request." in the group request
	groups []string    // for ReplaceAttr
	fixed  []slog.Attr // given by WithAttrs, with their full keys
}

type output struct {
	mu sync.Mutex
	w  io.Writer
}

// NewTextHandler makes a handler that prints to w, a record in one call of Write. A nil opts means
// the defaults of package slog. Any goroutine may call it.
func NewTextHandler(w io.Writer, opts *slog.HandlerOptions) *TextHandler {
	h := &TextHandler{out: &output{w: w}}
	if opts != nil {
		h.opts = *opts
	}
	return h
}

// Enabled implements [slog.Handler].
func (h *TextHandler) Enabled(_ context.Context, level slog.Level) bool {
	least := slog.LevelInfo
	if h.opts.Level != nil {
		least = h.opts.Level.Level()
	}
	return level >= least
}

// WithGroup implements [slog.Handler].
func (h *TextHandler) WithGroup(name string) slog.Handler {
	if name == "" {
		return h
	}
	g := *h
	g.prefix += name + "."
	g.groups = append(slices.Clip(h.groups), name)
	return &g
}

// WithAttrs implements [slog.Handler].
func (h *TextHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	if len(attrs) == 0 {
		return h
	}
	g := *h
	g.fixed = slices.Clip(h.fixed)
	for _, a := range attrs {
		g.fixed = h.flatten(g.fixed, h.prefix, h.groups, a)
	}
	return &g
}

// Handle implements [slog.Handler]. Its error is that of the writer.
func (h *TextHandler) Handle(_ context.Context, r slog.Record) error {
	var line, below bytes.Buffer
	if !r.Time.IsZero() {
		line.WriteString(r.Time.Format(time.DateTime + ".000 "))
	}
	line.WriteString(r.Level.String() + " ")
	head, rest, more := strings.Cut(strings.TrimRight(r.Message, "\n"), "\n")
	line.WriteString(printable(head))
	if more {
		indent(&below, rest)
	}
	attrs := slices.Clone(h.fixed)
	if h.opts.AddSource {
		if s := r.Source(); s != nil {
			attrs = append(attrs, slog.String(slog.SourceKey, s.File+":"+strconv.Itoa(s.Line)))
		}
	}
	r.Attrs(func(a slog.Attr) bool {
		attrs = h.flatten(attrs, h.prefix, h.groups, a)
		return true
	})
	for _, a := range attrs {
		text := a.Value.String()
		if strings.Contains(strings.TrimRight(text, "\n"), "\n") || a.Key == "stack" {
			below.WriteString("  " + printable(a.Key) + ":\n")
			indent(&below, text)
			continue
		}
		line.WriteString(" " + printable(a.Key) + "=" + quoted(text))
	}
	line.WriteByte('\n')
	line.Write(below.Bytes())
	h.out.mu.Lock()
	defer h.out.mu.Unlock()
	_, err := h.out.w.Write(line.Bytes())
	return err
}

// flatten appends a to list, under its full key, and a group as its parts.
func (h *TextHandler) flatten(list []slog.Attr, prefix string, groups []string, a slog.Attr) []slog.Attr {
	a.Value = a.Value.Resolve()
	if h.opts.ReplaceAttr != nil && a.Value.Kind() != slog.KindGroup {
		a = h.opts.ReplaceAttr(groups, a)
		a.Value = a.Value.Resolve()
	}
	if a.Equal(slog.Attr{}) {
		return list
	}
	if a.Value.Kind() != slog.KindGroup {
		return append(list, slog.Attr{Key: prefix + a.Key, Value: a.Value})
	}
	if a.Key != "" {
		prefix += a.Key + "."
		groups = append(slices.Clip(groups), a.Key)
	}
	for _, part := range a.Value.Group() {
		list = h.flatten(list, prefix, groups, part)
	}
	return list
}

// indent writes text, each line indented.
func indent(b *bytes.Buffer, text string) {
	for line := range strings.Lines(text) {
		b.WriteString("    " + printable(strings.TrimRight(line, "\r\n")) + "\n")
	}
}

// printable replaces what a terminal would obey instead of showing.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if r == '\t' || unicode.IsPrint(r) {
			return r
		}
		return '\uFFFD'
	}, text)
}

// quoted returns a value in quotes if one could not see where it ends.
func quoted(text string) string {
	if text == "" || strings.ContainsAny(text, " =\"\t") || printable(text) != text {
		return strconv.Quote(text)
	}
	return text
}

// A TaskHandler adds the current task to each record that is made with the context of a loop, as by
// [slog.InfoContext], and passes it on. Make one with [NewTaskHandler]. Any goroutine may use it.
type TaskHandler struct {
	inner slog.Handler
	more  []func(context.Context) []slog.Attr
}

// NewTaskHandler makes a handler that adds the attribute "task", the name of the task that makes
// the record, and passes records on to inner. A record of a callback, of a goroutine, or without a
// context has no task. Functions in more add what else a context has, such as the id of a trace; a
// nil one is left out. Any goroutine may call it.
func NewTaskHandler(inner slog.Handler, more ...func(context.Context) []slog.Attr) *TaskHandler {
	more = slices.DeleteFunc(slices.Clone(more), func(f func(context.Context) []slog.Attr) bool { return f == nil })
	return &TaskHandler{inner: inner, more: more}
}

// Enabled implements [slog.Handler].
func (h *TaskHandler) Enabled(ctx context.Context, level slog.Level) bool {
	return h.inner.Enabled(ctx, level)
}

// WithAttrs implements [slog.Handler].
func (h *TaskHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &TaskHandler{h.inner.WithAttrs(attrs), h.more}
}

// WithGroup implements [slog.Handler].
func (h *TaskHandler) WithGroup(name string) slog.Handler {
	return &TaskHandler{h.inner.WithGroup(name), h.more}
}

// Handle implements [slog.Handler]. A record that has an attribute "task" keeps it as it is.
func (h *TaskHandler) Handle(ctx context.Context, r slog.Record) error {
	if ctx == nil {
		ctx = context.Background()
	}
	has := false
	r.Attrs(func(a slog.Attr) bool {
		has = a.Key == "task"
		return !has
	})
	r = r.Clone()
	if name := taskOf(ctx); name != "" && !has {
		r.AddAttrs(slog.String("task", name))
	}
	for _, f := range h.more {
		r.AddAttrs(f(ctx)...)
	}
	return h.inner.Handle(ctx, r)
}

// taskOf returns the name of the task that the calling goroutine runs, if ctx leads to its loop.
func taskOf(ctx context.Context) (name string) {
	defer func() {
		if v := recover(); v != nil {
			if err, ok := v.(error); !ok || !errors.Is(err, asyncio.ErrForeignGoroutine) {
				panic(v)
			}
		}
	}()
	if t := asyncio.CurrentTask(ctx); t != nil {
		name = t.GetName()
	}
	return name
}
