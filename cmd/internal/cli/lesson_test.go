//go:build linux || darwin || freebsd

package cli_test

import (
	"strings"
	"testing"

	"github.com/goasyncio/asyncio/examples/lessons"
)

// Each lesson can be shown in both languages, and its program prints what it should.
func TestLesson_All(t *testing.T) {
	t.Setenv("LC_ALL", "en_US.UTF-8")
	for _, l := range lessons.All() {
		for _, lang := range lessons.Languages {
			status, stdout, stderr := command(nil, "lesson", l.Name, "--lang", lang)
			if status != 0 || stderr != "" {
				t.Errorf("%s, %s: status %d: %s", l.Name, lang, status, stderr)
			}
			text := l.Texts[lang]
			for _, part := range append([]string{text.Title, text.Question, text.Because, strings.TrimSpace(text.Body)}, text.Choices...) {
				if !strings.Contains(stdout, part) {
					t.Errorf("%s, %s: no %q in\n%s", l.Name, lang, part, stdout)
				}
			}
			_, printed, _ := strings.Cut(stdout, map[string]string{"en": "and when:\n", "zh": "内容和时间：\n"}[lang])
			var lines strings.Builder
			for line := range strings.Lines(printed) {
				_, line, _ = strings.Cut(strings.TrimLeft(line, " "), "s  ")
				lines.WriteString(line)
			}
			if want := l.Stdout + "∎\n"; lines.String() != want {
				t.Errorf("%s, %s: it prints\n%s\nwant\n%s", l.Name, lang, lines.String(), want)
			}
		}
	}
}

func TestLesson_Ways(t *testing.T) {
	t.Setenv("LC_ALL", "en_US.UTF-8")
	five := lessons.All()[4]
	for _, tt := range []struct {
		args []string
		has  string
	}{
		{[]string{"lesson"}, " 5  A task runs beside you\n"},
		{[]string{"lesson", "--lang", "zh"}, " 5  任务在你旁边运行\n"},
		{[]string{"lesson", "5"}, "Lesson 5: A task runs beside you\n"},
		{[]string{"lesson", "05"}, "Lesson 5: "},
		{[]string{"lesson", "05-ta"}, "Lesson 5: "},
		{[]string{"lesson", "tasks"}, "Lesson 5: "},
		{[]string{"lesson", "5", "1"}, "Lesson 1: "},
		{[]string{"lesson", "5", "--steps"}, "   2.000s  Task-3     takes a step\n"},
		{[]string{"lesson", "5"}, "    rice = asyncio.create_task(cook(\"rice\", 3)) │     rice := asyncio.CreateTask(ctx, cook"},
		{[]string{"lesson", "5"}, "  3.000s  got soup\n"},
	} {
		if status, stdout, stderr := command(nil, tt.args...); status != 0 || !strings.Contains(stdout, tt.has) {
			t.Errorf("%q: status %d, no %q in\n%s%s", tt.args, status, tt.has, stdout, stderr)
		}
	}
	for source, want := range map[string]string{"go": five.Go, "python": five.Python} {
		_, stdout, _ := command(nil, "lesson", "5", "--source", source)
		check(t, source, stdout, want)
	}
	t.Setenv("LC_ALL", "zh_CN.UTF-8")
	if _, stdout, _ := command(nil, "lesson", "5"); !strings.HasPrefix(stdout, "第 5 课：任务在你旁边运行\n") {
		t.Errorf("with a Chinese locale:\n%s", stdout)
	}
}

func TestLesson_Refused(t *testing.T) {
	for _, tt := range []struct {
		args []string
		says string
	}{
		{[]string{"lesson", "0"}, "there is no lesson 0; there are "},
		{[]string{"lesson", "99"}, "there is no lesson 99"},
		{[]string{"lesson", "knitting"}, `there is no lesson "knitting"; asyncio lesson lists them`},
		{[]string{"lesson", "0", "--lang", "fr"}, "--lang fr: the lessons are in en (English) and zh (Chinese)"},
		{[]string{"lesson", "5", "--source", "rust"}, "--source rust: it is python or go"},
		{[]string{"lesson", "--steps"}, "which lesson?"},
		{[]string{"lesson", ""}, "is the beginning of several lessons"},
	} {
		if status, stdout, stderr := command(nil, tt.args...); status != 2 || stdout != "" || !strings.Contains(stderr, tt.says) {
			t.Errorf("%q: status %d\n%s%s", tt.args, status, stdout, stderr)
		}
	}
}

// In a terminal the question waits for an answer.
func TestLesson_Asks(t *testing.T) {
	t.Setenv("LC_ALL", "en_US.UTF-8")
	for answer, says := range map[string]string{"1\r": "Right. create_task only", "2\r": "It is 1. create_task only", "\r": "It is 1. create_task only"} {
		c := newTerminal(t, 160, 120, "lesson", "5")
		c.shows("Your answer (1 to 3, or enter to read on):")
		c.press(answer)
		c.shows(says, "  3.000s  ∎")
		if err := <-c.ended; err != nil {
			t.Error(err)
		}
	}
}
