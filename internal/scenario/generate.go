package scenario

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
)

// Generate makes the scenario of a seed. Scenarios are short and biased towards races: events in
// the same iteration or at the same time, above all cancels.
func Generate(seed uint64) *Scenario {
	g := &generator{rand: rand.New(rand.NewPCG(seed, 0))}
	g.programs = 2 + g.rand.IntN(4)
	g.futures = g.rand.IntN(4)
	s := new(Scenario)
	if g.futures > 0 {
		s.Declarations = append(s.Declarations, ins("future", futureNames[:g.futures]...))
	}
	s.Declarations = append(s.Declarations, g.choose()...)
	for p := range g.programs {
		g.program = p
		g.budget = 3 + g.rand.IntN(8) + 3*min(2, len(g.families))
		var body []*Instruction
		if p == 0 {
			for q := 1; q < g.programs; q++ {
				if g.rand.IntN(4) > 0 {
					body = append(body, ins(g.pick("spawn", "spawn", "spawn", "eager"), taskName(q), programName(q)))
				}
			}
			if len(g.families) > 0 && g.rand.IntN(2) == 0 {
				body = append(body, ins("yield")) // so that the others wait for something
				body = append(body, g.handover()...)
				body = append(body, g.storm()...)
			}
		} else if len(g.families) > 0 && g.rand.IntN(2) == 0 {
			body = append(body, g.waiting()...)
		} else if f := g.future(); g.eager && f != "" && g.rand.IntN(2) == 0 {
			body = append(body, ins("set", f, g.number())) // while its maker is still busy
		}
		s.Programs = append(s.Programs, &Program{programName(p), append(body, g.block(0, false)...)})
	}
	parsed, err := Parse(s.String())
	if err != nil {
		panic(fmt.Sprintf("seed %d: %v\n%s", seed, err, s))
	}
	return parsed
}

var futureNames = []string{"f", "g", "h"}

// A generator makes the instructions of one program after another. Tasks are named for their
// programs, and a program awaits only tasks of programs below it: tasks that await each other in a
// circle cannot be cancelled, in CPython either.
type generator struct {
	rand     *rand.Rand
	programs int
	futures  int
	program  int // the number of the program being made
	budget   int // of instructions
	handles  int
	primitives
}

func ins(verb string, args ...string) *Instruction { return &Instruction{Verb: verb, Args: args} }

func programName(p int) string {
	if p == 0 {
		return "main"
	}
	return "p" + strconv.Itoa(p)
}

func taskName(p int) string {
	if p == 0 {
		return "main"
	}
	return "t" + strconv.Itoa(p)
}

func (g *generator) pick(from ...string) string { return from[g.rand.IntN(len(from))] }

// below returns a program below the one being made, 0 if there is none.
func (g *generator) below() int {
	if g.program+1 >= g.programs {
		return 0
	}
	return g.program + 1 + g.rand.IntN(g.programs-g.program-1)
}

// future returns the name of a future, "" if there is none.
func (g *generator) future() string {
	if g.futures == 0 {
		return ""
	}
	return futureNames[g.rand.IntN(g.futures)]
}

// task returns the name of any task.
func (g *generator) task() string {
	if g.rand.IntN(6) == 0 {
		return "self"
	}
	return taskName(g.rand.IntN(g.programs))
}

// any returns the name of any task or future.
func (g *generator) any() string {
	if f := g.future(); f != "" && g.rand.IntN(3) == 0 {
		return f
	}
	return g.task()
}

// awaitable returns something to wait for in such a way that cancels are passed on to it.
func (g *generator) awaitable(coroutines bool) string {
	for range 8 {
		switch p := g.below(); g.rand.IntN(6) {
		case 0, 1, 2:
			if p > 0 {
				return taskName(p)
			}
		case 3, 4:
			if f := g.future(); f != "" {
				return f
			}
		case 5:
			if p > 0 && coroutines {
				return programName(p) + "()"
			}
		}
	}
	return ""
}

func (g *generator) several(one func() string) []string {
	var all []string
	for range 1 + g.rand.IntN(3) {
		if a := one(); a != "" {
			all = append(all, a)
		}
	}
	return all
}

func (g *generator) block(depth int, handling bool) []*Instruction {
	var block []*Instruction
	for n := 1 + g.rand.IntN(6-depth); n > 0 && g.budget > 0; {
		var next []*Instruction
		switch {
		case len(g.families) > 0 && g.rand.IntN(12) == 0:
			next = g.storm()
		case len(g.families) > 0 && g.rand.IntN(2) == 0:
			next = g.special(depth, handling)
		default:
			if i := g.instruction(depth, handling); i != nil {
				next = append(next, i)
			}
		}
		if len(next) > 0 {
			block = append(block, next...)
			g.budget -= len(next)
			n--
		}
	}
	return block
}

// instruction returns an instruction, nil if the thing that it needs does not exist.
func (g *generator) instruction(depth int, handling bool) *Instruction {
	switch n := g.rand.IntN(100); {
	case n < 12:
		return ins("yield")
	case n < 18:
		return ins("sleep", g.pick("0", "1", "1", "2"))
	case n < 32:
		if a := g.awaitable(true); a != "" {
			return ins("await", a)
		}
	case n < 40:
		as := g.several(func() string { return g.awaitable(true) })
		if f, p := g.future(), g.below(); g.eager && f != "" && p > 0 && g.rand.IntN(2) == 0 {
			as = []string{f, programName(p) + "()"}
		}
		return ins(g.pick("gather", "gather", "gather-results"), as...)
	case n < 48:
		args := []string{g.pick("all", "first", "error"), g.pick("-", "-", "0", "1", "1", "2")}
		return ins("wait", append(args, g.several(g.any)...)...)
	case n < 62:
		if depth >= 3 {
			return nil
		}
		i := ins("try")
		i.Body = g.block(depth+1, handling)
		if g.rand.IntN(4) > 0 {
			c := ins("except", g.pick("cancelled", "cancelled", "error", "any"))
			c.Body = g.block(depth+1, true)
			i.Clauses = append(i.Clauses, c)
		}
		if len(i.Clauses) == 0 || g.rand.IntN(3) == 0 {
			c := ins("finally")
			c.Body = g.block(depth+1, handling)
			i.Clauses = append(i.Clauses, c)
		}
		return i
	case n < 65:
		return ins("raise", g.pick("E1", "E1", "E2", "cancelled"))
	case n < 67:
		return ins("return", strconv.Itoa(g.rand.IntN(9)))
	case n < 71:
		if handling {
			return ins("reraise")
		}
	default:
		return g.effect(0)
	}
	return nil
}

// effect returns an instruction that does not wait.
func (g *generator) effect(depth int) *Instruction {
	for {
		if g.rand.IntN(3) == 0 {
			if i := g.signal(depth); i != nil {
				return i
			}
		}
		switch n := g.rand.IntN(30); {
		case n < 9:
			i := ins("cancel", g.any())
			if g.rand.IntN(4) == 0 && !g.has("group") {
				i.Args = append(i.Args, g.pick("m1", "m2"))
			}
			return i
		case n < 11:
			return ins("uncancel", g.task())
		case n < 15:
			if f := g.future(); f != "" {
				return ins("set", f, strconv.Itoa(g.rand.IntN(9)))
			}
		case n < 17:
			if f := g.future(); f != "" {
				return ins("fail", f, g.pick("E1", "E2", "E2", "cancelled"))
			}
		case n < 22:
			if p := g.below(); p > 0 {
				return ins(g.pick("spawn", "spawn", "eager"), taskName(p), programName(p))
			}
		case n < 23:
			return ins("state", g.any())
		case n < 28:
			if depth > 0 {
				continue
			}
			g.handles++
			name := "c" + strconv.Itoa(g.handles)
			e := g.effect(depth + 1)
			rest := append([]string{e.Verb}, e.Args...)
			if strings.Contains(strings.Join(rest, " "), "self") {
				continue
			}
			switch g.rand.IntN(5) {
			case 0:
				return ins("soon", append([]string{name}, rest...)...)
			case 1, 2:
				return ins("later", append([]string{name, g.pick("0", "1", "1", "2")}, rest...)...)
			default:
				return ins("done", append([]string{g.any(), name}, rest...)...)
			}
		case n < 29:
			if g.handles > 0 {
				return ins("undone", g.any(), "c"+strconv.Itoa(1+g.rand.IntN(g.handles)))
			}
		default:
			// drop is left to scenarios written by hand: a name can be a handle or a done callback.
		}
	}
}
