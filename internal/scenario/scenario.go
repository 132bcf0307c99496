// Package scenario compares the library with CPython's behaviour. It has a small language of
// concurrent programs ([Parse]), a generator of them ([Generate]), and an interpreter on the
// library's public interface ([Trace]). The same interpreter runs on CPython
// (testdata/cpython/scenario.py, driven by [Oracle]). [Shrink] makes a difference between the two
// small. docs/scenarios.md describes the language.
package scenario

import (
	"fmt"
	"strings"
)

// A Scenario is declarations and programs. It can also be written as text in the language.
type Scenario struct {
	Declarations []*Instruction
	Programs     []*Program
	text         string // the text that it was parsed from
}

// A Program is the code of tasks. It starts only programs below it, so every scenario ends.
type Program struct {
	Name string
	Body []*Instruction
}

// An Instruction is one line, with the block below it.
type Instruction struct {
	Line    int // in the text
	Verb    string
	Args    []string
	Body    []*Instruction
	Clauses []*Instruction // except and finally, of a try
}

// Parse reads a scenario.
func Parse(text string) (*Scenario, error) {
	if !strings.HasSuffix(text, "\n") {
		text += "\n"
	}
	var top []*Instruction
	blocks := []*[]*Instruction{&top}
	n := 0
	for line := range strings.Lines(text) {
		n++
		code, _, _ := strings.Cut(strings.TrimRight(line, "\r\n"), "#")
		words := strings.Fields(code)
		if len(words) == 0 {
			continue
		}
		spaces := len(code) - len(strings.TrimLeft(code, " "))
		depth := spaces / 2
		if spaces%2 != 0 || depth >= len(blocks) {
			return nil, fmt.Errorf("line %d: badly indented", n)
		}
		blocks = blocks[:depth+1]
		i := &Instruction{Line: n, Verb: words[0], Args: words[1:]}
		block := blocks[depth]
		if i.Verb == "except" || i.Verb == "finally" {
			if len(*block) == 0 || (*block)[len(*block)-1].Verb != "try" {
				return nil, fmt.Errorf("line %d: %s without try", n, i.Verb)
			}
			try := (*block)[len(*block)-1]
			try.Clauses = append(try.Clauses, i)
		} else {
			*block = append(*block, i)
		}
		blocks = append(blocks, &i.Body)
	}
	s := &Scenario{text: text}
	for _, i := range top {
		if i.Verb == "task" {
			if len(i.Args) != 1 {
				return nil, fmt.Errorf("line %d: task NAME", i.Line)
			}
			s.Programs = append(s.Programs, &Program{i.Args[0], i.Body})
		} else {
			s.Declarations = append(s.Declarations, i)
		}
	}
	if err := s.check(); err != nil {
		return nil, err
	}
	return s, nil
}

// syntax describes the form of an instruction: its arguments, without those of callbacks' effects,
// and whether it has a block.
type syntax struct {
	args  string // see checkArgs
	block bool
}

// grammar has every instruction. The letters of args stand for: n a number, m a number or -,
// w a word, p the name of a program below, a a thing or a program with (), e an effect (the rest of
// the line), ? from here on optional, * any number of the one before.
var grammar = map[string]syntax{
	"yield": {}, "sleep": {args: "n"}, "return": {args: "n"}, "raise": {args: "w"}, "reraise": {},
	"spawn": {args: "wp"}, "eager": {args: "wp"}, "await": {args: "a"},
	"cancel": {args: "w?w"}, "uncancel": {args: "w"}, "set": {args: "wn"}, "fail": {args: "ww"}, "state": {args: "w"},
	"soon": {args: "we"}, "later": {args: "wne"}, "drop": {args: "w"}, "done": {args: "wwe"}, "undone": {args: "ww"},
	"gather": {args: "a*"}, "gather-results": {args: "a*"}, "wait": {args: "wmw*"},
	"try": {block: true}, "except": {args: "w", block: true}, "finally": {block: true},

	"wait-for": {args: "ma"}, "shield": {args: "a"}, "as-completed": {args: "ma*"},
	"timeout": {args: "m?w", block: true}, "timeout.reschedule": {args: "wm"},
	"group": {args: "w", block: true}, "group.spawn": {args: "wwp"}, "group.eager": {args: "wwp"}, "group.cancel": {args: "w"},
	"with":         {args: "w", block: true},
	"lock.acquire": {args: "w"}, "lock.release": {args: "w"}, "lock.locked": {args: "w"},
	"event.wait": {args: "w"}, "event.set": {args: "w"}, "event.clear": {args: "w"},
	"semaphore.acquire": {args: "w"}, "semaphore.release": {args: "w"}, "semaphore.locked": {args: "w"},
	"condition.acquire": {args: "w"}, "condition.release": {args: "w"},
	"condition.wait": {args: "w"}, "condition.notify": {args: "wn"},
	"barrier.wait": {args: "w"}, "barrier.reset": {args: "w"}, "barrier.abort": {args: "w"},
	"queue.put": {args: "wn"}, "queue.get": {args: "w"}, "queue.join": {args: "w"},
	"queue.put-nowait": {args: "wn"}, "queue.get-nowait": {args: "w"},
	"queue.task-done": {args: "w"}, "queue.shutdown": {args: "w?w"},
}

var declarations = map[string]string{
	"future": "w*", "lock": "w", "event": "w", "condition": "w?w",
	"semaphore": "wn", "bounded": "wn", "barrier": "wn",
	"queue": "wn", "priority-queue": "wn", "lifo-queue": "wn", "eager-tasks": "",
}

func (s *Scenario) check() error {
	for _, d := range s.Declarations {
		args, ok := declarations[d.Verb]
		if !ok {
			return fmt.Errorf("line %d: no such declaration: %s", d.Line, d.Verb)
		}
		if err := checkArgs(d, args, d.Args, nil); err != nil {
			return err
		}
		if d.Verb == "barrier" && number(d.Args[1]) == 0 {
			return fmt.Errorf("line %d: a barrier for none", d.Line)
		}
	}
	if len(s.Programs) == 0 || s.Programs[0].Name != "main" {
		return fmt.Errorf("the first task must be main")
	}
	for n, p := range s.Programs {
		below := map[string]bool{}
		for _, q := range s.Programs[n+1:] {
			below[q.Name] = true
		}
		if below[p.Name] {
			return fmt.Errorf("task %s is there twice", p.Name)
		}
		if err := checkBlock(p.Body, below); err != nil {
			return err
		}
	}
	return nil
}

func checkBlock(block []*Instruction, below map[string]bool) error {
	for _, i := range block {
		g, ok := grammar[i.Verb]
		if !ok {
			return fmt.Errorf("line %d: no such instruction: %s", i.Line, i.Verb)
		}
		if len(i.Body) > 0 && !g.block {
			return fmt.Errorf("line %d: %s has no block", i.Line, i.Verb)
		}
		if err := checkArgs(i, g.args, i.Args, below); err != nil {
			return err
		}
		for _, b := range [][]*Instruction{i.Body, i.Clauses} {
			if err := checkBlock(b, below); err != nil {
				return err
			}
		}
	}
	return nil
}

func checkArgs(i *Instruction, pattern string, args []string, below map[string]bool) error {
	bad := fmt.Errorf("line %d: cannot read the arguments of %s", i.Line, i.Verb)
	optional := false
	for n := 0; n < len(pattern); n++ {
		c := pattern[n]
		if c == '?' {
			optional = true
			continue
		}
		many := n+1 < len(pattern) && pattern[n+1] == '*'
		if len(args) == 0 && (optional || many) {
			return nil
		}
		for {
			if len(args) == 0 {
				return bad
			}
			a := args[0]
			args = args[1:]
			program, called := strings.CutSuffix(a, "()")
			switch c {
			case 'm', 'n':
				if !isNumber(a) && (c == 'n' || a != "-") {
					return bad
				}
			case 'p':
				program, called = a, true
				fallthrough
			case 'a':
				if called && !below[program] {
					return fmt.Errorf("line %d: no task %s below", i.Line, program)
				}
			case 'e':
				g, ok := grammar[a]
				if !ok || g.block {
					return bad
				}
				return checkArgs(&Instruction{Line: i.Line, Verb: a}, g.args, args, below)
			}
			if !many || len(args) == 0 {
				break
			}
		}
		if many {
			n++
		}
	}
	if len(args) > 0 {
		return bad
	}
	return nil
}

func isNumber(s string) bool {
	for _, c := range s {
		if c < '0' || c > '9' {
			return false
		}
	}
	return s != "" && len(s) < 7
}

// String writes s out in the language, without comments.
func (s *Scenario) String() string {
	p := printer{}
	p.block(0, s.Declarations)
	for _, t := range s.Programs {
		p.line(0, "task", []string{t.Name})
		p.block(1, t.Body)
	}
	return p.b.String()
}

type printer struct{ b strings.Builder }

func (p *printer) line(depth int, verb string, args []string) {
	p.b.WriteString(strings.Repeat("  ", depth))
	p.b.WriteString(strings.Join(append([]string{verb}, args...), " "))
	p.b.WriteByte('\n')
}

func (p *printer) block(depth int, block []*Instruction) {
	for _, i := range block {
		p.line(depth, i.Verb, i.Args)
		p.block(depth+1, i.Body)
		p.block(depth, i.Clauses)
	}
}
