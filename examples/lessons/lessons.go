// Package lessons has the lessons of this project on asyncio: each in a directory of its own, with
// a Python program, the same program in Go, a text and a question in English and in Chinese. A
// lesson corrects one wrong belief, for which its question asks first.
//
// The Go programs run by themselves: go run ./examples/lessons/05-tasks. The Python programs run
// under CPython, and under the command asyncio lab, which is this library. Both print what
// expected.txt says, at the same times. The last two explore a simulation in Go, for which there is
// no Python; expected.go.txt says what they print.
package lessons

import (
	"embed"
	"encoding/json"
	"fmt"
	"io/fs"
	"strconv"
	"strings"
)

//go:embed */lesson.en.md */lesson.zh.md */main.py */main.go */lines.txt */quiz.json */expected.txt
var files embed.FS

// A Lesson is one of them.
type Lesson struct {
	Name   string // of its directory: "05-tasks"
	Number int    // from 1 on
	Python string // the program
	Go     string // the same program
	Lines  []Pair // which lines of the two say the same, in the order of the Python lines
	Stdout string // what the Python program prints
	Texts  map[string]Text
	Right  int // the index of the right choice
}

// A Text is a lesson in one language.
type Text struct {
	Title    string
	Body     string // in Markdown, without the title
	Question string
	Choices  []string
	Because  string // why the right choice is right
}

// Languages are the keys of Lesson.Texts.
var Languages = []string{"en", "zh"}

// A Pair is a range of lines of the Python program and one of the Go program. Lines count from 1.
type Pair struct{ PythonFirst, PythonLast, GoFirst, GoLast int }

// All returns the lessons in their order. It panics if one is not complete, which a test would have
// found. Any goroutine may call it.
func All() []Lesson {
	dirs, err := fs.ReadDir(files, ".")
	if err != nil {
		panic(err)
	}
	var all []Lesson
	for _, d := range dirs {
		l, err := read(d.Name())
		if err != nil {
			panic(fmt.Errorf("lessons: %s: %w", d.Name(), err))
		}
		all = append(all, l)
	}
	return all
}

func read(name string) (l Lesson, err error) {
	l.Name = name
	number, _, _ := strings.Cut(name, "-")
	if l.Number, err = strconv.Atoi(number); err != nil {
		return l, err
	}
	file := func(base string) string {
		text, e := fs.ReadFile(files, name+"/"+base)
		if e != nil && err == nil {
			err = e
		}
		return string(text)
	}
	l.Python, l.Go = file("main.py"), file("main.go")
	l.Stdout, _, _ = strings.Cut(file("expected.txt"), "%% ")
	type question struct {
		Question string
		Choices  []string
		Because  string
	}
	var quiz struct {
		Right  int
		En, Zh question
	}
	quizText, lines := file("quiz.json"), file("lines.txt")
	l.Texts = make(map[string]Text)
	for _, lang := range Languages {
		title, body, _ := strings.Cut(file("lesson."+lang+".md"), "\n")
		l.Texts[lang] = Text{Title: strings.TrimPrefix(title, "# "), Body: strings.TrimSpace(body) + "\n"}
	}
	if err != nil {
		return l, err
	}
	if err := json.Unmarshal([]byte(quizText), &quiz); err != nil {
		return l, err
	}
	l.Right = quiz.Right
	for lang, q := range map[string]question{"en": quiz.En, "zh": quiz.Zh} {
		t := l.Texts[lang]
		t.Question, t.Choices, t.Because = q.Question, q.Choices, q.Because
		l.Texts[lang] = t
	}
	l.Lines, err = readLines(lines)
	return l, err
}

// readLines reads lines like "3-5 9-11", or "3 9".
func readLines(text string) (all []Pair, err error) {
	for line := range strings.Lines(text) {
		fields := strings.Fields(line)
		if len(fields) != 2 {
			return nil, fmt.Errorf("lines.txt: %q", line)
		}
		var p Pair
		if p.PythonFirst, p.PythonLast, err = readRange(fields[0]); err == nil {
			p.GoFirst, p.GoLast, err = readRange(fields[1])
		}
		if err != nil {
			return nil, fmt.Errorf("lines.txt: %q: %w", line, err)
		}
		all = append(all, p)
	}
	return all, nil
}

func readRange(text string) (first, last int, err error) {
	from, to, isRange := strings.Cut(text, "-")
	if !isRange {
		to = from
	}
	if first, err = strconv.Atoi(from); err == nil {
		last, err = strconv.Atoi(to)
	}
	return first, last, err
}
