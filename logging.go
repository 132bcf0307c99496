package asyncio

import (
	"context"
	"fmt"
	"log/slog"
	"path"
	"reflect"
	"strings"
)

// What the library logs.
//
//	log 1: Records go to [slog.Default], with attributes. The calls of a stack are in an attribute
//	   "stack", one a line, and the innermost of the program's calls comes first: what the runtime
//	   does for a panic is above it, and what the library does for a task is below it, and both are
//	   left out.
//	log 2: A program that has not set a logger has the one of package slog, which prints a record in
//	   one line, with line breaks in attributes quoted. There the attributes are in the message, a
//	   line each, and so is each call.

// logReport logs a record (log 1). Of the attributes, stack has to be named "stack".
func logReport(ctx context.Context, level slog.Level, message string, attrs ...slog.Attr) {
	if ctx == nil {
		ctx = context.Background()
	}
	logger := slog.Default()
	if !isPreset(logger.Handler()) {
		logger.LogAttrs(ctx, level, message, attrs...)
		return
	}
	var b strings.Builder
	b.WriteString(message)
	for _, a := range attrs {
		text := strings.TrimRight(a.Value.String(), "\n")
		switch {
		case a.Key == "stack":
			for line := range strings.Lines(text) {
				b.WriteString("\n    " + strings.TrimRight(line, "\n"))
			}
		case strings.Contains(text, "\n"):
			b.WriteString("\n  " + a.Key + ":\n      " + strings.ReplaceAll(text, "\n", "\n      "))
		default:
			b.WriteString("\n  " + a.Key + ": " + text)
		}
	}
	logger.Log(ctx, level, b.String())
}

// isPreset reports whether h is the handler that package slog has without the program's doing. Its
// type has no name outside of that package. If it ever gets another one there, reports are printed
// as package slog does, and a test says so. To compare with the handler at the start of the program
// would not do: the init function of a package may have set another one before.
func isPreset(h slog.Handler) bool {
	t := reflect.TypeOf(h)
	return t != nil && t.Kind() == reflect.Pointer && t.Elem().PkgPath() == "log/slog" && t.Elem().Name() == "defaultHandler"
}

// stackAttr makes an attribute of a stack in the form of [runtime.Stack] (log 1).
func stackAttr(stack []byte) slog.Attr {
	if calls := programCalls(string(stack)); calls != "" {
		return slog.String("stack", calls)
	}
	return slog.String("stack", string(stack))
}

// programCalls returns the calls of a goroutine's stack without those that are the same for every
// panic and every task, empty if no call is left: "main.fetch() at /src/app/fetch.go:12", one a
// line.
func programCalls(stack string) string {
	type call struct{ function, place string }
	var calls []call
	_, rest, _ := strings.Cut(stack, "\n")
	function := ""
	for line := range strings.Lines(rest) {
		line = strings.TrimRight(line, "\n")
		place, isPlace := strings.CutPrefix(line, "\t")
		switch {
		case !isPlace:
			function = line
		case !strings.HasPrefix(function, "created by "):
			place, _, _ = strings.Cut(place, " +0x")
			calls = append(calls, call{function, place})
		}
	}
	for i := len(calls) - 1; i >= 0; i-- {
		if strings.HasPrefix(calls[i].function, "panic(") {
			calls = calls[i+1:]
			break
		}
	}
	for len(calls) > 0 && strings.HasPrefix(calls[0].function, "runtime.") {
		calls = calls[1:]
	}
	ours := func(c call) bool {
		file, _, _ := strings.Cut(path.Base(c.place), ":")
		return strings.HasPrefix(c.function, libraryPrefix) && !strings.HasSuffix(file, "_test.go") ||
			strings.HasPrefix(c.function, "github.com/goasyncio/asyncio/internal/coro.") || strings.HasPrefix(c.function, "iter.") || strings.HasPrefix(c.function, "runtime.")
	}
	for len(calls) > 0 && ours(calls[len(calls)-1]) {
		calls = calls[:len(calls)-1]
	}
	lines := make([]string, len(calls))
	for i, c := range calls {
		lines[i] = fmt.Sprintf("%s() at %s", nameOfCall(c.function), c.place)
	}
	return strings.Join(lines, "\n")
}

// nameOfCall returns the name of the function in a call as a stack shows it, without the path of
// its package: of "example.com/a/b.(*T).f(0x1, {0x2, 0x3})" it is "b.(*T).f".
func nameOfCall(call string) string {
	if strings.HasSuffix(call, ")") {
		depth := 0
		for i := len(call) - 1; i >= 0; i-- {
			switch call[i] {
			case ')':
				depth++
			case '(':
				depth--
			}
			if depth == 0 {
				call = call[:i]
				break
			}
		}
	}
	head, tail, generic := strings.Cut(call, "[")
	head = head[strings.LastIndexByte(head, '/')+1:]
	if generic {
		return head + "[" + tail
	}
	return head
}
