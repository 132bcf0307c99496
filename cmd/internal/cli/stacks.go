package cli

import (
	"fmt"
	"io"
	"strings"
	"time"
	"unicode"

	"github.com/goasyncio/asyncio/inspect"
)

// showGroups prints what asyncio stacks shows of each loop: first what keeps it or its tasks from
// going on, then the groups of tasks, then the rest.
func showGroups(out io.Writer, p *inspect.Process) error {
	w := &treeWriter{out: out}
	w.line("", fmt.Sprintf("%s, process %d, %s, %s", shown(p.Program), p.PID, p.Go, p.Time.Format(time.DateTime)))
	if len(p.Loops) == 0 {
		w.line("", "no loop runs")
	}
	for _, l := range p.Loops {
		if l.Stuck != nil {
			showStuck(w, l)
			continue
		}
		w.line("", fmt.Sprintf("\nloop %d: %d tasks, %d callbacks ready, %d timers, answered after %v", l.Number, l.Tasks, l.Ready, l.Timers, l.Lag.Round(time.Microsecond)))
		if l.Circle != nil {
			w.line("", "tasks wait for each other in a circle: "+circle(l))
		}
		for _, q := range l.Queues {
			showQueue(w, q)
		}
		for _, o := range l.Objects {
			w.line("", objectText(o))
		}
		for _, g := range l.Groups {
			showGroup(w, g)
		}
		if n := l.AllGroups - len(l.Groups); n > 0 {
			w.line("", fmt.Sprintf("and %d more groups", n))
		}
		showRest(w, l)
	}
	return w.err
}

func circle(l *inspect.Loop) string {
	names := make([]string, 0, len(l.Circle)+1)
	for _, name := range l.Circle {
		names = append(names, shown(name))
	}
	return strings.Join(append(names, names[0]), " -> ")
}

func showStuck(w *treeWriter, l *inspect.Loop) {
	what := "a callback"
	if l.Stuck.Task != "" {
		what = "task " + shown(l.Stuck.Task)
	}
	w.line("", fmt.Sprintf("\nloop %d is stuck: %s has not returned for at least %v, at %s", l.Number, what, l.Stuck.For.Round(time.Millisecond), l.Stuck.Where))
	for line := range strings.Lines(l.Stuck.Stack) {
		w.line("    ", strings.TrimRight(line, "\n"))
	}
}

// queueText says who makes a queue grow.
func queueText(q *inspect.Queue) string {
	by := "a callback"
	if q.By != "" {
		by = "task " + shown(q.By)
	}
	return fmt.Sprintf("%s has %d values, %d of them for %v; %s puts some there, at %s; %d tasks wait for one",
		q.What, q.Size, q.Was, roughly(q.Ago), by, q.Where, q.Getters)
}

func showQueue(w *treeWriter, q *inspect.Queue) {
	w.line("", queueText(q))
	for _, call := range q.Stack {
		w.line("    ", call)
	}
}

func objectText(o *inspect.Object) string {
	text := fmt.Sprintf("%d wait for %s: %s", o.Waiters, shown(o.What), some(o.Names, o.Waiters))
	if o.Owner != "" {
		text += "; task " + shown(o.Owner) + " has it"
	}
	if len(o.Holders) > 0 {
		text += "; tokens are with " + some(o.Holders, len(o.Holders))
	}
	return text
}

func showGroup(w *treeWriter, g *inspect.Group) {
	about := ""
	if g.Sampled {
		about = "about "
	}
	w.line("", fmt.Sprintf("\n%s%d × %s(), %s: %s", about, g.Count, g.Coroutine, shown(g.State), some(g.Examples, g.Count)))
	for _, call := range g.Stack {
		w.line("    ", call)
	}
	var facts []string
	if g.Age > 0 && len(g.Examples) > 0 {
		facts = append(facts, fmt.Sprintf("%s is %v old", shown(g.Examples[0]), roughly(g.Age)))
	}
	if g.Made != "" {
		by := "a callback"
		if g.By != "" {
			by = "task " + shown(g.By)
		}
		facts = append(facts, fmt.Sprintf("made by %s at %s", by, g.Made))
	}
	if g.Steps > 0 {
		facts = append(facts, fmt.Sprintf("%d steps took %v, the longest %v", g.Steps, roughly(g.Busy), roughly(g.Longest)))
	}
	if len(facts) > 0 {
		w.line("    ", strings.Join(facts, "; "))
	}
}

// showRest prints what else there is in a loop.
func showRest(w *treeWriter, l *inspect.Loop) {
	head := "\n"
	line := func(format string, args ...any) {
		w.line(head, fmt.Sprintf(format, args...))
		head = ""
	}
	if s := l.Steps; s != nil {
		line("steps: %d in %v, busy for %v, the longest %v", s.Count, roughly(s.For), roughly(s.Busy), roughly(s.Longest))
		for _, slow := range s.Slow {
			at := ""
			if slow.Where != "" {
				at = ", up to " + slow.Where
			}
			line("    %v, %v ago: %s %s%s", roughly(slow.Took), roughly(slow.Ago), shown(slow.Task), slow.What, at)
		}
	}
	for _, s := range l.Servers {
		text := fmt.Sprintf("server %s: %d clients", strings.Join(s.Addresses, ", "), s.Clients)
		if s.Limit > 0 {
			text += fmt.Sprintf(" of at most %d", s.Limit)
		}
		if s.Oldest != "" {
			text += ", the oldest is " + shown(s.Oldest)
		}
		line("%s", text)
	}
	if s := l.Sockets; s != nil {
		line("sockets: %d connections, %d listeners", s.Connections, s.Listeners)
		for _, a := range s.Addresses {
			line("    %s: %d", shown(a.Address), a.Connections)
		}
	}
	if e := l.Executor; e != nil {
		line("executor: %d functions run on %d of at most %d goroutines, %d wait", e.Running, e.Threads, e.Most, e.Queued)
	}
	for i, t := range l.Next {
		if i == 0 {
			line("next timers:")
		}
		line("    in %v: %s", roughly(t.In), shown(t.What))
	}
}

// roughly leaves out the digits of a duration that nobody reads.
func roughly(d time.Duration) time.Duration {
	for _, unit := range []time.Duration{time.Second, time.Millisecond, time.Microsecond} {
		if d >= unit || d <= -unit {
			return d.Round(unit / 10)
		}
	}
	return d
}

// some lists names, and says how many there are besides.
func some(names []string, all int) string {
	safe := make([]string, len(names))
	for i, name := range names {
		safe[i] = shown(name)
	}
	text := strings.Join(safe, ", ")
	if n := all - len(names); n > 0 {
		text += fmt.Sprintf(" and %d more", n)
	}
	return text
}

// shown returns text from another program in a form that a terminal shows and does not obey.
func shown(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return '\uFFFD'
	}, text)
}
