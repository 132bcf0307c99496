package cli

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/charmbracelet/x/ansi"
	"github.com/charmbracelet/x/term"
	"github.com/spf13/cobra"

	"github.com/goasyncio/asyncio/examples/lessons"
	"github.com/goasyncio/asyncio/lab"
)

func newLessonCommand() *cobra.Command {
	s := &lessonScreen{}
	var lang, source string
	cmd := &cobra.Command{
		Use:   "lesson [LESSON...]",
		Short: "Learn asyncio, in Python and in Go",
		Long: "lesson lists the lessons, or shows the ones named: a question, the text, the Python program beside\n" +
			"the same program in Go, and what the Python program prints when this library's loop runs it, on a\n" +
			"virtual clock. A lesson is named by its number, its name, or the beginning of its name.",
		Example: "  asyncio lesson\n" +
			"  asyncio lesson 5\n" +
			"  asyncio lesson tasks --lang zh --steps\n" +
			"  asyncio lesson 5 --source go > main.go",
		RunE: func(cmd *cobra.Command, names []string) error {
			s.in, s.out = cmd.InOrStdin(), cmd.OutOrStdout()
			lang = cmp.Or(lang, preferredLanguage())
			if s.words = lessonWords[lang]; s.words == nil {
				return fmt.Errorf("--lang %s: the lessons are in en (English) and zh (Chinese)", lang)
			}
			s.lang = lang
			if len(names) == 0 {
				if s.steps || source != "" {
					return errors.New("which lesson? Name one, for instance 5")
				}
				return failed(s.list(lessons.All()))
			}
			var chosen []lessons.Lesson
			for _, name := range names {
				l, err := findLesson(lessons.All(), name)
				if err != nil {
					return err
				}
				chosen = append(chosen, l)
			}
			for _, l := range chosen {
				var err error
				switch source {
				case "":
					err = s.show(cmd.Context(), l)
				case "python":
					_, err = io.WriteString(s.out, l.Python)
				case "go":
					_, err = io.WriteString(s.out, l.Go)
				default:
					return fmt.Errorf("--source %s: it is python or go", source)
				}
				if err != nil {
					return failed(err)
				}
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&lang, "lang", "", "the `language`, en or zh (default: that of LC_ALL, LC_MESSAGES or LANG)")
	cmd.Flags().StringVar(&source, "source", "", "print only the program, `python` or go")
	cmd.Flags().BoolVar(&s.steps, "steps", false, "show each step of the loop: lines, tasks, what they wait for")
	cmd.Flags().BoolVar(&s.real, "real", false, "run on the real clock")
	return cmd
}

// preferredLanguage is the user's, as far as there are lessons in it.
func preferredLanguage() string {
	if strings.HasPrefix(cmp.Or(os.Getenv("LC_ALL"), os.Getenv("LC_MESSAGES"), os.Getenv("LANG")), "zh") {
		return "zh"
	}
	return "en"
}

// findLesson finds a lesson by its number, its name, or the beginning of its name with or without
// the number.
func findLesson(all []lessons.Lesson, name string) (found lessons.Lesson, err error) {
	if n, e := strconv.Atoi(name); e == nil {
		if n < 1 || n > len(all) {
			return found, fmt.Errorf("there is no lesson %d; there are %d", n, len(all))
		}
		return all[n-1], nil
	}
	var fit []lessons.Lesson
	for _, l := range all {
		_, slug, _ := strings.Cut(l.Name, "-")
		if l.Name == name || slug == name {
			return l, nil
		}
		if strings.HasPrefix(l.Name, name) || strings.HasPrefix(slug, name) {
			fit = append(fit, l)
		}
	}
	switch {
	case len(fit) == 1:
		return fit[0], nil
	case len(fit) > 1:
		names := make([]string, len(fit))
		for i, l := range fit {
			names[i] = l.Name
		}
		return found, fmt.Errorf("%q is the beginning of several lessons:\n  %s", name, strings.Join(names, "\n  "))
	}
	return found, fmt.Errorf("there is no lesson %q; asyncio lesson lists them", name)
}

// lessonText is what the command itself says, in one language.
type lessonText struct {
	lesson, question, answer, right, wrong, prints, more string
}

var lessonWords = map[string]*lessonText{
	"en": {
		lesson: "Lesson %d: %s", question: "First a question about main.py below. ", answer: "Your answer (1 to %d, or enter to read on): ",
		right: "Right.", wrong: "It is %d.", prints: "What it prints, and when:", more: "asyncio lesson NUMBER shows one.",
	},
	"zh": {
		lesson: "第 %d 课：%s", question: "先来一道关于下面 main.py 的题。", answer: "你的答案（1 到 %d，直接回车则跳过）：",
		right: "答对了。", wrong: "答案是 %d。", prints: "它打印的内容和时间：", more: "用 asyncio lesson 编号 来看其中一课。",
	},
}

// A lessonScreen shows lessons.
type lessonScreen struct {
	in          io.Reader
	out         io.Writer
	lang        string
	words       *lessonText
	steps, real bool
}

func (s *lessonScreen) printf(format string, args ...any) error {
	_, err := fmt.Fprintf(s.out, format, args...)
	return err
}

func (s *lessonScreen) list(all []lessons.Lesson) error {
	for _, l := range all {
		if err := s.printf("%2d  %s\n", l.Number, l.Texts[s.lang].Title); err != nil {
			return err
		}
	}
	return s.printf("\n%s\n", s.words.more)
}

// show shows a lesson: the program first, for the question is about it.
func (s *lessonScreen) show(ctx context.Context, l lessons.Lesson) error {
	text := l.Texts[s.lang]
	err := s.printf("%s\n\n%s", s.bold(fmt.Sprintf(s.words.lesson, l.Number, text.Title)), s.programs(l))
	if err == nil {
		err = s.ask(l, text)
	}
	if err == nil {
		err = s.printf("\n%s\n%s\n", s.body(text.Body), s.bold(s.words.prints))
	}
	if err != nil {
		return err
	}
	return s.run(ctx, l)
}

func (s *lessonScreen) bold(line string) string {
	if isTerminal(s.out) {
		return styleBold + line + stylePlain
	}
	return line
}

func isTerminal(x any) bool {
	f, ok := x.(*os.File)
	return ok && term.IsTerminal(f.Fd())
}

// body is the text; its headings stand out on a terminal.
func (s *lessonScreen) body(markdown string) string {
	var b strings.Builder
	for line := range strings.Lines(markdown) {
		if strings.HasPrefix(line, "#") {
			line = s.bold(strings.TrimRight(line, "\n")) + "\n"
		}
		b.WriteString(line)
	}
	return b.String()
}

// ask asks the question, if there is somebody to answer, and says what is right.
func (s *lessonScreen) ask(l lessons.Lesson, text lessons.Text) error {
	if err := s.printf("\n%s%s\n", s.words.question, text.Question); err != nil {
		return err
	}
	for i, choice := range text.Choices {
		if err := s.printf("  %d) %s\n", i+1, choice); err != nil {
			return err
		}
	}
	verdict := fmt.Sprintf(s.words.wrong, l.Right+1)
	if isTerminal(s.in) {
		if err := s.printf("\n"+s.words.answer, len(text.Choices)); err != nil {
			return err
		}
		line, err := bufio.NewReader(s.in).ReadString('\n')
		if err != nil && err != io.EOF {
			return err
		}
		if strings.TrimSpace(line) == strconv.Itoa(l.Right+1) {
			verdict = s.words.right
		}
	}
	return s.printf("\n%s %s\n", verdict, text.Because)
}

const (
	defaultWidth = 100
	besideFrom   = 90 // columns, for two programs beside each other
)

// programs is the Python program and the Go program, beside each other if there is room, with the
// lines that say the same on one height.
func (s *lessonScreen) programs(l lessons.Lesson) string {
	width := defaultWidth
	if f, ok := s.out.(*os.File); ok {
		if w, _, err := term.GetSize(f.Fd()); err == nil {
			width = w
		}
	}
	python, golang := programLines(l.Python), programLines(l.Go)
	if width < besideFrom {
		return "main.py\n\n" + indented(python) + "\nmain.go\n\n" + indented(golang)
	}
	left := ansi.StringWidth("main.py")
	for _, line := range python {
		left = max(left, ansi.StringWidth(line))
	}
	left = min(left, width/2-3)
	right := width - left - 3
	var b strings.Builder
	row := func(p, g string) {
		ps, gs := folded(p, left), folded(g, right)
		for i := range max(len(ps), len(gs)) {
			p, g = "", ""
			if i < len(ps) {
				p = ps[i]
			}
			if i < len(gs) {
				g = gs[i]
			}
			line := p + strings.Repeat(" ", left-ansi.StringWidth(p)) + " │ " + g
			b.WriteString(strings.TrimRight(line, " ") + "\n")
		}
	}
	row("main.py", "main.go")
	row(strings.Repeat("─", left), strings.Repeat("─", right))
	atPython, atGo := 0, 0 // lines that have been shown
	upTo := func(p, g int) {
		for atPython < p || atGo < g {
			one, other := "", ""
			if atPython < p {
				one = python[atPython]
				atPython++
			}
			if atGo < g {
				other = golang[atGo]
				atGo++
			}
			row(one, other)
		}
	}
	for _, pair := range l.Lines {
		if pair.GoFirst > atGo {
			upTo(pair.PythonFirst-1, pair.GoFirst-1)
			upTo(pair.PythonLast, pair.GoLast)
		}
	}
	upTo(len(python), len(golang))
	return b.String()
}

// folded breaks a line of a program that is too wide, at a space if there is one.
func folded(line string, width int) (all []string) {
	const deeper = "        "
	indent := line[:len(line)-len(strings.TrimLeft(line, " "))] + deeper
	for ansi.StringWidth(line) > width && width > 2*len(indent) {
		cut := ansi.Truncate(line, width, "")
		if space := strings.LastIndexByte(cut, ' '); space > len(indent) {
			cut = cut[:space]
		}
		all = append(all, cut)
		line = indent + strings.TrimLeft(line[len(cut):], " ")
	}
	return append(all, ansi.Truncate(line, width, "…"))
}

func programLines(text string) []string {
	return strings.Split(strings.TrimRight(strings.ReplaceAll(text, "\t", "    "), "\n"), "\n")
}

func indented(lines []string) string {
	return "    " + strings.ReplaceAll(strings.Join(lines, "\n    "), "\n    \n", "\n\n") + "\n"
}

// run runs the Python program, and puts the time before each line that it prints.
func (s *lessonScreen) run(ctx context.Context, l lessons.Lesson) error {
	ctx, stop := untilSignal(ctx)
	defer stop()
	var written error
	o := lab.Options{File: "main.py", Stdout: io.Discard, Stderr: os.Stderr, Virtual: !s.real, Limits: lab.Limits{Steps: labSteps}}
	if s.steps {
		o.Events = stepPrinter(s.out, strings.Split(l.Python, "\n"))
	} else {
		newLine := true
		o.Events = func(e lab.Event) {
			if e.Kind != "output" {
				return
			}
			for line := range strings.Lines(e.Text) {
				if newLine {
					line = fmt.Sprintf("%7.3fs  %s", e.Time.Seconds(), line)
				}
				newLine = strings.HasSuffix(line, "\n")
				if err := s.printf("%s", line); err != nil && written == nil {
					written = err
				}
			}
		}
	}
	r := lab.Run(ctx, l.Python, o)
	if written != nil {
		return written
	}
	if sig, ok := errors.AsType[*signalError](context.Cause(ctx)); ok {
		return &failure{sig.status(), sig}
	}
	if r.Status != 0 {
		return fmt.Errorf("lesson %s ends with status %d", l.Name, r.Status)
	}
	return s.printf("%7.3fs  %s\n", time.Duration(r.End).Seconds(), "∎")
}
