package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/goasyncio/asyncio/inspect"
)

// Commands that look at a running process.

// attachTimeout is how long an answer may take.
const attachTimeout = 10 * time.Second

// everyTask is more tasks than a loop can have.
const everyTask = 1 << 30

func newPsCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "ps PID|URL",
		Short: "List the tasks of a process",
		Long:  "ps lists the tasks of all event loops of a process, with the columns of Python's asyncio ps.\n\n" + prepared,
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return attached(cmd, args[0], asJSON, everyTask, listTasks)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func newPstreeCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "pstree PID|URL",
		Short: "Show which tasks of a process wait for which",
		Long: "pstree shows the tasks of a process as a tree, as Python's asyncio pstree does: below each task\n" +
			"the calls that it is in, and below these the tasks that it waits for.\n\n" + prepared,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return attached(cmd, args[0], asJSON, everyTask, showTree)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func newStacksCommand() *cobra.Command {
	var asJSON bool
	var dump string
	cmd := &cobra.Command{
		Use:   "stacks PID|URL",
		Short: "Show what the tasks of a process wait for, in groups",
		Long: "stacks shows the tasks of a process in groups, by coroutine and by the place where they wait, and the\n" +
			"locks and queues that they wait for. Of a loop that is stuck it shows the step that does not return.\n" +
			"With --dump it reads the text that a Go program prints when it gets SIGQUIT, and groups the tasks in it.\n\n" + prepared,
		Example: "  asyncio stacks 4711\n" +
			"  asyncio stacks --dump stderr.log",
		Args: func(cmd *cobra.Command, args []string) error {
			if dump != "" {
				return cobra.NoArgs(cmd, args)
			}
			return cobra.ExactArgs(1)(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if dump == "" {
				return attached(cmd, args[0], asJSON, 0, showGroups)
			}
			var in io.Reader = cmd.InOrStdin()
			if dump != "-" {
				f, err := os.Open(dump)
				if err != nil {
					return &failure{statusFailure, err}
				}
				defer f.Close()
				in = f
			}
			if err := showDump(cmd.OutOrStdout(), in); err != nil {
				return &failure{statusFailure, err}
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	cmd.Flags().StringVar(&dump, "dump", "", "read a goroutine dump from this `file`, or from standard input if it is -")
	return cmd
}

const prepared = "The process must run with ASYNCIOINSPECT=1, or import github.com/goasyncio/asyncio/inspect.\n" +
	"Instead of its number, the URL of the page that this package serves will do: http://host:8080/debug/asyncio/"

// attached asks a process and shows the answer.
func attached(cmd *cobra.Command, arg string, asJSON bool, each int, show func(io.Writer, *inspect.Process) error) error {
	at, err := newTarget(arg)
	if err != nil {
		return err
	}
	p, err := at.look(cmd.Context(), each)
	if err != nil {
		return failed(err)
	}
	out := cmd.OutOrStdout()
	if asJSON {
		e := json.NewEncoder(out)
		e.SetIndent("", "  ")
		err = e.Encode(p)
	} else {
		err = show(out, p)
	}
	return failed(err)
}

// taskColumns are the columns of Python's asyncio ps, with the least widths that they have
// there. In the place of a thread's id is the number of the loop.
var taskColumns = []struct {
	name  string
	width int
}{{"loop", 10}, {"task id", 20}, {"task name", 20}, {"coroutine stack", 50}, {"awaiter chain", 50}, {"awaiter name", 15}, {"awaiter id", 15}}

// nobody is the id of the awaiter of a task for which no task waits.
const nobody = "0x0"

// listTasks prints the table of Python's asyncio ps.
func listTasks(out io.Writer, p *inspect.Process) error {
	t := tabwriter.NewWriter(out, 0, 0, 1, ' ', 0)
	row := func(cells ...string) {
		for i, c := range cells {
			end := "\t"
			if i == len(cells)-1 {
				end = "\n"
			}
			fmt.Fprintf(t, "%-*s%s", taskColumns[i].width, shown(c), end)
		}
	}
	var heads []string
	line := len(taskColumns) - 1
	for _, c := range taskColumns {
		heads = append(heads, c.name)
		line += c.width
	}
	row(heads...)
	fmt.Fprintln(t, strings.Repeat("-", line))
	for _, l := range p.Loops {
		number := strconv.Itoa(l.Number)
		if l.Stuck != nil {
			row(number, "", l.Stuck.Task, "is stuck: "+l.Stuck.Where, "", "", nobody)
		}
		byID := tasksByID(l)
		for _, k := range l.Each {
			if len(k.AwaitedBy) == 0 {
				row(number, k.ID, k.Name, chain(k), "", "", nobody)
			}
			for _, id := range k.AwaitedBy {
				by := byID[id]
				if by == nil { // it has ended since
					by = &inspect.Task{Name: "Unknown"}
				}
				row(number, k.ID, k.Name, chain(k), chain(by), by.Name, id)
			}
		}
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, l := range p.Loops {
		if text := leftOut(l); text != "" {
			if _, err := fmt.Fprintln(out, text); err != nil {
				return err
			}
		}
	}
	return nil
}

// leftOut says how many tasks of a loop a page has left out.
func leftOut(l *inspect.Loop) string {
	if n := l.Tasks - len(l.Each); n > 0 && len(l.Each) == eachOfPage {
		return fmt.Sprintf("and %d more tasks of loop %d: a page shows the oldest %d", n, l.Number, eachOfPage)
	}
	return ""
}

func tasksByID(l *inspect.Loop) map[string]*inspect.Task {
	all := make(map[string]*inspect.Task, len(l.Each))
	for _, k := range l.Each {
		all[k.ID] = k
	}
	return all
}

// chain names the calls that a task is in, innermost first.
func chain(k *inspect.Task) string {
	if len(k.Stack) == 0 {
		if k.Coroutine == "" {
			return ""
		}
		return k.Coroutine + ", " + k.State
	}
	names := make([]string, len(k.Stack))
	for i, call := range k.Stack {
		names[i], _ = splitCall(call)
	}
	return strings.Join(names, " -> ")
}

// splitCall splits "main.fetch() at /src/app/fetch.go:12" into the name and the place.
func splitCall(call string) (name, place string) {
	name, place, _ = strings.Cut(call, "() at ")
	return name, place
}

// showTree prints the tree of Python's asyncio pstree.
func showTree(out io.Writer, p *inspect.Process) error {
	w := &treeWriter{out: out}
	for _, l := range p.Loops {
		if len(p.Loops) > 1 {
			w.line("", fmt.Sprintf("loop %d", l.Number))
		}
		if l.Stuck != nil {
			w.line("", fmt.Sprintf("the loop is stuck in task %s, at %s, for at least %v", l.Stuck.Task, l.Stuck.Where, l.Stuck.For.Round(time.Millisecond)))
		}
		if l.Circle != nil {
			w.line("", "tasks wait for each other in a circle: "+circle(l))
		}
		w.tree(l)
		if text := leftOut(l); text != "" {
			w.line("", text)
		}
	}
	return w.err
}

type treeWriter struct {
	out     io.Writer
	err     error
	awaited map[string][]*inspect.Task // by the id of the task that waits
	shown   map[string]bool
}

func (w *treeWriter) line(indent, text string) {
	if w.err == nil {
		_, w.err = fmt.Fprintf(w.out, "%s%s\n", indent, text)
	}
}

func (w *treeWriter) tree(l *inspect.Loop) {
	w.awaited, w.shown = make(map[string][]*inspect.Task), make(map[string]bool)
	byID := tasksByID(l)
	var roots []*inspect.Task
	for _, k := range l.Each {
		isRoot := true
		for _, id := range k.AwaitedBy {
			if byID[id] != nil && id != k.ID {
				w.awaited[id] = append(w.awaited[id], k)
				isRoot = false
			}
		}
		if isRoot {
			roots = append(roots, k)
		}
	}
	for _, k := range roots {
		w.task("", k, true)
	}
	for _, k := range l.Each { // in circles, no task is a root
		if !w.shown[k.ID] {
			w.task("", k, true)
		}
	}
}

func (w *treeWriter) task(indent string, k *inspect.Task, last bool) {
	branch, deeper := "├── ", "│   "
	if last {
		branch, deeper = "└── ", "    "
	}
	if w.shown[k.ID] {
		w.line(indent+branch, "(T) "+shown(k.Name)+", as above")
		return
	}
	w.shown[k.ID] = true
	w.line(indent+branch, "(T) "+shown(k.Name))
	indent += deeper
	calls := k.Stack
	if len(calls) == 0 {
		w.line(indent+"└──  ", shown(k.Coroutine+", "+k.State))
		indent += "    "
	}
	for i := len(calls) - 1; i >= 0; i-- {
		name, place := splitCall(calls[i])
		w.line(indent+"└──  ", name+" "+place)
		indent += "    "
	}
	below := w.awaited[k.ID]
	for i, u := range below {
		w.task(indent, u, i == len(below)-1)
	}
}
