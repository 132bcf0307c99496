package cli

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// A dumpGroup is goroutines of a dump that run tasks with the same coroutine at the same place.
type dumpGroup struct {
	state string // of the first: "coroutine, 5 minutes"
	calls []string
	n     int
}

var errNoTasks = errors.New("there is no task in it; a goroutine dump is what a Go program prints when it gets SIGQUIT, or /debug/pprof/goroutine?debug=2")

// showDump groups the tasks of a goroutine dump. Tasks that share a stack count as one.
func showDump(out io.Writer, in io.Reader) error {
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, 1<<20)
	groups := make(map[string]*dumpGroup)
	var order []*dumpGroup
	others := 0
	var state string
	var calls []string
	end := func() {
		defer func() { state, calls = "", nil }()
		if state == "" {
			return
		}
		bottom := slices.IndexFunc(calls, func(c string) bool { return strings.HasPrefix(c, "github.com/goasyncio/asyncio.(*task).call(") })
		if bottom < 0 {
			others++
			return
		}
		users := slices.DeleteFunc(slices.Clone(calls[:bottom]), isMachinery)
		if len(users) == 0 { // the coroutine is the library's
			users = calls[:bottom]
		}
		key := strings.Join(users, "\n")
		g := groups[key]
		if g == nil {
			g = &dumpGroup{state: state, calls: users}
			groups[key] = g
			order = append(order, g)
		}
		g.n++
	}
	for lines.Scan() {
		line := lines.Text()
		switch {
		case strings.HasPrefix(line, "goroutine ") && strings.HasSuffix(line, "]:"):
			end()
			_, after, _ := strings.Cut(line, "[")
			state = strings.TrimSuffix(after, "]:")
		case line == "":
			end()
		case strings.HasPrefix(line, "\t") && len(calls) > 0:
			at, _, _ := strings.Cut(strings.TrimSpace(line), " +0x")
			calls[len(calls)-1] += " at " + at
		default:
			calls = append(calls, withoutArguments(line))
		}
	}
	end()
	if err := lines.Err(); err != nil {
		return err
	}
	if len(order) == 0 {
		return errNoTasks
	}
	slices.SortStableFunc(order, func(a, b *dumpGroup) int { return cmp.Compare(b.n, a.n) })
	w := &treeWriter{out: out}
	for _, g := range order {
		w.line("", fmt.Sprintf("%d × %s [%s]", g.n, g.calls[len(g.calls)-1], g.state))
		for _, c := range g.calls {
			w.line("    ", c)
		}
		w.line("", "")
	}
	w.line("", fmt.Sprintf("%d other goroutines", others))
	return w.err
}

// withoutArguments returns a call of a trace without the words that it was given.
func withoutArguments(call string) string {
	if strings.HasSuffix(call, ")") {
		if i := strings.LastIndexByte(call, '('); i > 0 {
			return call[:i] + "()"
		}
	}
	return call
}

// isMachinery reports whether a call is of the library or below it.
func isMachinery(call string) bool {
	for _, p := range []string{"github.com/goasyncio/asyncio.", "github.com/goasyncio/asyncio/internal/", "iter.", "runtime."} {
		if strings.HasPrefix(call, p) {
			return true
		}
	}
	return false
}
