package lessons_test

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goasyncio/asyncio/examples/lessons"
)

var (
	heading = regexp.MustCompile(`(?m)^#+ `)
	fence   = regexp.MustCompile("(?s)```.*?```")
	row     = regexp.MustCompile(`(?m)^\|`)
	han     = regexp.MustCompile(`\p{Han}`)
)

// The lessons are complete, and say the same in both languages.
func TestLessons(t *testing.T) {
	all := lessons.All()
	for i, l := range all {
		t.Run(l.Name, func(t *testing.T) {
			if l.Number != i+1 || !strings.HasPrefix(l.Name, fmt.Sprintf("%02d-", l.Number)) {
				t.Errorf("lesson %d has the number %d", i+1, l.Number)
			}
			en, zh := l.Texts["en"], l.Texts["zh"]
			for what, pair := range map[string][2]any{
				"headings":    {len(heading.FindAllString(en.Body, -1)), len(heading.FindAllString(zh.Body, -1))},
				"code":        {fmt.Sprint(fence.FindAllString(en.Body, -1)), fmt.Sprint(fence.FindAllString(zh.Body, -1))},
				"table lines": {len(row.FindAllString(en.Body, -1)), len(row.FindAllString(zh.Body, -1))},
				"choices":     {len(en.Choices), len(zh.Choices)},
			} {
				if pair[0] != pair[1] {
					t.Errorf("%s: %v in English, %v in Chinese", what, pair[0], pair[1])
				}
			}
			if len(en.Choices) < 3 || l.Right < 0 || l.Right >= len(en.Choices) {
				t.Errorf("%d choices, of which %d is right", len(en.Choices), l.Right)
			}
			for lang, text := range l.Texts {
				for _, s := range append([]string{text.Title, text.Body, text.Question, text.Because}, text.Choices...) {
					if strings.TrimSpace(s) == "" {
						t.Errorf("%s: something is empty", lang)
					}
				}
				if len(slices.Compact(slices.Sorted(slices.Values(text.Choices)))) != len(text.Choices) {
					t.Errorf("%s: a choice comes twice", lang)
				}
				if s := fence.ReplaceAllString(text.Title+text.Body+text.Question+text.Because, ""); han.MatchString(s) != (lang == "zh") {
					t.Errorf("%s: it is in another language", lang)
				}
			}
			python, golang := strings.Split(l.Python, "\n"), strings.Split(l.Go, "\n")
			last := 0
			for _, p := range l.Lines {
				if p.PythonFirst < 1 || p.PythonLast < p.PythonFirst || p.PythonLast >= len(python) || p.GoFirst < 1 || p.GoLast < p.GoFirst || p.GoLast >= len(golang) {
					t.Errorf("there are no lines %+v", p)
					continue
				}
				if p.PythonFirst <= last {
					t.Errorf("lines %+v are out of order", p)
				}
				last = p.PythonLast
				if strings.TrimSpace(python[p.PythonFirst-1]) == "" || strings.TrimSpace(golang[p.GoFirst-1]) == "" {
					t.Errorf("lines %+v begin with an empty one", p)
				}
			}
			if len(l.Lines) == 0 {
				t.Error("no line has its counterpart")
			}
		})
	}
}
