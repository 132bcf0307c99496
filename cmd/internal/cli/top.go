package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/x/ansi"
	"github.com/charmbracelet/x/term"
	"github.com/spf13/cobra"

	"github.com/goasyncio/asyncio/inspect"
)

func newTopCommand() *cobra.Command {
	every := time.Second
	cmd := &cobra.Command{
		Use:   "top PID|URL",
		Short: "Watch the tasks of a process",
		Long: "top shows, again and again, what asyncio stacks shows once: the loops of a process, what keeps them\n" +
			"from going on, and their tasks in groups, with how often and how long they run.\n\n" + prepared,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if every < minTopInterval || every > maxTopInterval {
				return fmt.Errorf("--interval %v: it is from %v to %v", every, minTopInterval, maxTopInterval)
			}
			at, err := newTarget(args[0])
			if err != nil {
				return err
			}
			out, isFile := cmd.OutOrStdout().(*os.File)
			if !isFile || !term.IsTerminal(out.Fd()) || !term.IsTerminal(os.Stdin.Fd()) {
				return failed(errors.New("top needs a terminal; asyncio stacks prints what it shows, once"))
			}
			first, err := at.look(cmd.Context(), 0)
			if err != nil {
				return failed(err)
			}
			screen := &top{ctx: cmd.Context(), at: at, every: every, now: first}
			_, err = tea.NewProgram(screen, tea.WithContext(cmd.Context()), tea.WithOutput(out)).Run()
			return failed(err)
		},
	}
	cmd.Flags().DurationVar(&every, "interval", every, "look so often")
	return cmd
}

const (
	minTopInterval = 100 * time.Millisecond
	maxTopInterval = time.Hour
)

// A top is what asyncio top shows, and what its user has chosen. It is a [tea.Model].
type top struct {
	ctx   context.Context
	at    target
	every time.Duration

	now, before *inspect.Process // the last two looks; before is nil at first
	err         error            // of the last look, if it has failed

	width, height int
	paused        bool
	order         int    // an index of topOrders
	filter        string // what a row must contain
	typing        bool   // the filter is being typed
	chosen        rowKey // the row that is marked
	calls         bool   // the calls of that row are shown
}

// looked is the message that a look is over.
type looked struct {
	p   *inspect.Process
	err error
}

// tick is the message that it is time for the next look.
type tick struct{}

func (s *top) Init() tea.Cmd { return s.wait() }

func (s *top) wait() tea.Cmd {
	return tea.Tick(s.every, func(time.Time) tea.Msg { return tick{} })
}

func (s *top) look() tea.Msg {
	p, err := s.at.look(s.ctx, 0)
	return looked{p, err}
}

func (s *top) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	switch msg := msg.(type) {
	case tea.WindowSizeMsg:
		s.width, s.height = msg.Width, msg.Height
	case tick:
		if s.paused {
			return s, s.wait()
		}
		return s, s.look
	case looked:
		if s.err = msg.err; msg.err == nil && !s.paused {
			s.now, s.before = msg.p, s.now
		}
		return s, s.wait()
	case tea.KeyPressMsg:
		if s.typing {
			return s, s.typed(msg)
		}
		return s, s.pressed(msg.String())
	}
	return s, nil
}

// typed is called for a key while the filter is being typed.
func (s *top) typed(key tea.KeyPressMsg) tea.Cmd {
	switch key.String() {
	case "ctrl+c":
		return tea.Quit
	case "enter":
		s.typing = false
	case "esc":
		s.typing, s.filter = false, ""
	case "backspace":
		if runes := []rune(s.filter); len(runes) > 0 {
			s.filter = string(runes[:len(runes)-1])
		}
	default:
		s.filter += key.Text
	}
	return nil
}

func (s *top) pressed(key string) tea.Cmd {
	switch key {
	case "q", "ctrl+c":
		return tea.Quit
	case "p", "space":
		s.paused = !s.paused
	case "s":
		s.order = (s.order + 1) % len(topOrders)
	case "/":
		s.typing = true
	case "esc":
		s.filter, s.calls = "", false
	case "enter":
		s.calls = !s.calls
	case "up", "k":
		s.move(-1)
	case "down", "j":
		s.move(1)
	case "pgup":
		s.move(-10)
	case "pgdown":
		s.move(10)
	case "home", "g":
		s.move(-len(s.rows()))
	case "end", "G":
		s.move(len(s.rows()))
	}
	return nil
}

// move moves the mark by so many rows.
func (s *top) move(by int) {
	rows := s.rows()
	if len(rows) == 0 {
		return
	}
	i := max(0, slices.IndexFunc(rows, func(r row) bool { return r.key == s.chosen }))
	s.chosen = rows[min(max(i+by, 0), len(rows)-1)].key
}

// A row is a group of tasks of a loop.
type row struct {
	key   rowKey
	group *inspect.Group
	rates
}

// A rowKey is what a row is known by from one look to the next.
type rowKey struct {
	loop                     int
	coroutine, doing, placed string
}

// rates say how much the tasks of a coroutine run, in the time between two looks.
type rates struct {
	steps float64 // in a second
	busy  float64 // of the time, from 0 to 1
}

// topOrders are the orders of the rows. Ties are in the order of the looks, the largest group
// first.
var topOrders = []struct {
	name    string
	compare func(a, b row) int
}{
	{"count", func(a, b row) int { return cmp.Compare(b.group.Count, a.group.Count) }},
	{"oldest", func(a, b row) int { return cmp.Compare(b.group.Age, a.group.Age) }},
	{"steps", func(a, b row) int { return cmp.Compare(b.steps, a.steps) }},
	{"busy", func(a, b row) int { return cmp.Compare(b.busy, a.busy) }},
	{"longest", func(a, b row) int { return cmp.Compare(b.group.Longest, a.group.Longest) }},
}

// rows returns the rows that are shown, in their order.
func (s *top) rows() []row {
	var all []row
	for _, l := range s.now.Loops {
		for _, g := range l.Groups {
			key := rowKey{l.Number, g.Coroutine, kindOfState(g.State), g.Where}
			if s.filter != "" && !strings.Contains(strings.ToLower(strings.Join(append([]string{g.Coroutine, g.State, g.Where}, g.Examples...), "\n")), strings.ToLower(s.filter)) {
				continue
			}
			all = append(all, row{key, g, s.rates(l.Number, g)})
		}
	}
	slices.SortStableFunc(all, topOrders[s.order].compare)
	return all
}

// kindOfState is a state without the numbers in it, which change from look to look.
func kindOfState(state string) string {
	return strings.Map(func(r rune) rune {
		if '0' <= r && r <= '9' {
			return -1
		}
		return r
	}, state)
}

// rates compares a group with the last look. Steps are counted by coroutine.
func (s *top) rates(loop int, g *inspect.Group) (r rates) {
	if s.before == nil {
		return r
	}
	took := s.now.Time.Sub(s.before.Time).Seconds()
	for _, l := range s.before.Loops {
		if l.Number != loop || took <= 0 {
			continue
		}
		for _, old := range l.Groups {
			if old.Coroutine == g.Coroutine && old.Defined == g.Defined {
				return rates{float64(max(0, g.Steps-old.Steps)) / took, max(0, g.Busy-old.Busy).Seconds() / took}
			}
		}
	}
	return r
}

// How text is shown in a terminal.
const (
	styleBold    = "\x1b[1m"
	styleReverse = "\x1b[7m"
	styleRed     = "\x1b[31;1m"
	styleYellow  = "\x1b[33;1m"
	stylePlain   = "\x1b[m"
)

func (s *top) View() tea.View {
	v := tea.NewView(strings.Join(s.lines(), "\n"))
	v.AltScreen = true
	v.WindowTitle = "asyncio top " + s.at.String()
	return v
}

// lines returns the screen: at most as many lines as there is room for, none wider than it.
func (s *top) lines() []string {
	if s.width <= 0 || s.height <= 0 {
		return nil
	}
	above := s.above()
	foot := s.foot()
	rows := s.rows()
	mark := max(0, slices.IndexFunc(rows, func(r row) bool { return r.key == s.chosen }))
	var below []string
	if s.calls && len(rows) > 0 {
		below = s.callsOf(rows[mark])
		below = below[:min(len(below), max(3, s.height/2-len(above)))]
	}
	above = above[:min(len(above), max(1, s.height-len(below)-4))]
	room := s.height - len(above) - len(below) - 2 // for the rows: without their head and the foot
	lines := append(above, s.styled(styleBold, rowHead))
	first := min(max(0, mark-room/2), max(0, len(rows)-room))
	for i := first; i < len(rows) && i < first+room; i++ {
		style := ""
		if i == mark {
			style = styleReverse
		}
		lines = append(lines, s.styled(style, rows[i].text()))
	}
	if len(rows) == 0 && room > 0 {
		lines = append(lines, s.styled("", "no task"))
	}
	for len(lines) < s.height-len(below)-1 {
		lines = append(lines, "")
	}
	lines = append(lines, below...)
	lines = append(lines, foot)
	return lines[max(0, len(lines)-s.height):]
}

// styled cuts a line and gives it a style.
func (s *top) styled(style, text string) string {
	text = ansi.Truncate(shown(text), s.width, "…")
	if style == "" {
		return text
	}
	if style == styleReverse {
		text += strings.Repeat(" ", max(0, s.width-ansi.StringWidth(text)))
	}
	return style + text + stylePlain
}

// above returns what is said of the process and its loops.
func (s *top) above() []string {
	state := ""
	switch {
	case s.err != nil:
		state = ", does not answer: " + s.err.Error()
	case s.paused:
		state = ", paused"
	}
	p := s.now
	lines := []string{s.styled(styleBold, fmt.Sprintf("%s, process %d, %s, %s%s", p.Program, p.PID, p.Go, p.Time.Format(time.TimeOnly), state))}
	if len(p.Loops) == 0 {
		return append(lines, "no loop runs")
	}
	for _, l := range p.Loops {
		if l.Stuck != nil {
			what := "a callback"
			if l.Stuck.Task != "" {
				what = "task " + l.Stuck.Task
			}
			lines = append(lines, s.styled(styleRed, fmt.Sprintf("loop %d is stuck: %s has not returned for at least %v, at %s", l.Number, what, roughly(l.Stuck.For), short(l.Stuck.Where))))
			continue
		}
		lines = append(lines, s.styled("", s.loopText(l)))
		if l.Circle != nil {
			lines = append(lines, s.styled(styleRed, "  tasks wait for each other in a circle: "+circle(l)))
		}
		for _, q := range l.Queues {
			lines = append(lines, s.styled(styleYellow, "  "+queueText(q)))
		}
		for _, o := range l.Objects[:min(3, len(l.Objects))] {
			lines = append(lines, s.styled("", "  "+objectText(o)))
		}
	}
	return lines
}

func (s *top) loopText(l *inspect.Loop) string {
	parts := []string{fmt.Sprintf("%d tasks", l.Tasks)}
	old := (*inspect.Loop)(nil)
	if s.before != nil {
		if i := slices.IndexFunc(s.before.Loops, func(o *inspect.Loop) bool { return o.Number == l.Number }); i >= 0 {
			old = s.before.Loops[i]
		}
	}
	took := 0.0
	if old != nil && old.Stuck == nil {
		took = s.now.Time.Sub(s.before.Time).Seconds()
	}
	if took > 0 {
		parts = append(parts, fmt.Sprintf("%.0f/s made", float64(l.Made-old.Made)/took))
	}
	parts = append(parts, fmt.Sprintf("%d ready", l.Ready), fmt.Sprintf("%d timers", l.Timers))
	lag := fmt.Sprintf("lag %v", roughly(l.Lag))
	if len(l.Lags) > 0 {
		lag += fmt.Sprintf(" (%v in a minute)", roughly(max(l.Lag, slices.Max(l.Lags))))
	}
	parts = append(parts, lag)
	if took > 0 && l.Steps != nil && old.Steps != nil {
		parts = append(parts, fmt.Sprintf("%.0f steps/s", float64(l.Steps.Count-old.Steps.Count)/took),
			fmt.Sprintf("%.0f %% busy", 100*(l.Steps.Busy-old.Steps.Busy).Seconds()/took))
	}
	if l.Steps != nil {
		parts = append(parts, fmt.Sprintf("longest step %v", roughly(l.Steps.Longest)))
	}
	if e := l.Executor; e != nil {
		parts = append(parts, fmt.Sprintf("%d of %d threads work", e.Running, e.Most))
		if e.Queued > 0 {
			parts = append(parts, fmt.Sprintf("%d functions wait for one", e.Queued))
		}
	}
	if c := l.Sockets; c != nil {
		parts = append(parts, fmt.Sprintf("%d connections", c.Connections))
	}
	return fmt.Sprintf("loop %d: %s", l.Number, strings.Join(parts, ", "))
}

const rowFormat = "%4v %8v %8v %9v %7v %8v  %-30s  %s"

var rowHead = fmt.Sprintf(rowFormat, "LOOP", "TASKS", "OLDEST", "STEPS/S", "BUSY", "LONGEST", "COROUTINE", "WHERE AND FOR WHAT")

func (r row) text() string {
	g := r.group
	age, steps, busy, longest := "", "", "", ""
	if g.Age > 0 {
		age = roughly(g.Age).String()
	}
	if g.Steps > 0 {
		steps, busy, longest = fmt.Sprintf("%.0f", r.steps), fmt.Sprintf("%.1f %%", 100*r.busy), roughly(g.Longest).String()
	}
	about := ""
	if g.Sampled {
		about = "~"
	}
	return fmt.Sprintf(rowFormat, r.key.loop, about+strconv.Itoa(g.Count), age, steps, busy, longest, g.Coroutine+"()", short(cmp.Or(g.Where, g.Defined))+"  "+g.State)
}

// short is a place without all but the last two parts of its path.
func short(place string) string {
	parts := strings.Split(place, "/")
	return strings.Join(parts[max(0, len(parts)-2):], "/")
}

// callsOf returns the calls that the tasks of a row are in, and who makes such tasks.
func (s *top) callsOf(r row) []string {
	lines := []string{s.styled(styleBold, fmt.Sprintf("%s(), %s: %s", r.group.Coroutine, r.group.State, some(r.group.Examples, r.group.Count)))}
	for _, call := range r.group.Stack {
		lines = append(lines, s.styled("", "    "+call))
	}
	if r.group.Made != "" {
		by := "a callback"
		if r.group.By != "" {
			by = "task " + r.group.By
		}
		lines = append(lines, s.styled("", fmt.Sprintf("    made by %s at %s", by, r.group.Made)))
	}
	return lines
}

func (s *top) foot() string {
	if s.typing {
		return s.styled(styleBold, "/"+s.filter+"▏  enter: keep, esc: drop")
	}
	text := fmt.Sprintf("q quit   p pause   s sort (%s)   / filter   ↑↓ choose   enter calls", topOrders[s.order].name)
	if s.filter != "" {
		text = fmt.Sprintf("only %q (esc: all)   ", s.filter) + text
	}
	return s.styled(styleBold, text)
}
