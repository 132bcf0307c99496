package scenario

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// A Difference is a scenario whose two traces differ.
type Difference struct {
	Scenario *Scenario
	Setting  Setting
	Seed     uint64   // if it was generated
	Want     []string // CPython's
	Got      []string
	Err      error // why there is no trace, or an error that the run reported
}

func (d *Difference) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s-- CPython and %s --\n", d.Scenario, d.Setting)
	n := 0
	for n < len(d.Want) && n < len(d.Got) && d.Want[n] == d.Got[n] {
		fmt.Fprintf(&b, "  %s\n", d.Want[n])
		n++
	}
	for _, line := range d.Want[n:] {
		fmt.Fprintf(&b, "- %s\n", line)
	}
	for _, line := range d.Got[n:] {
		fmt.Fprintf(&b, "+ %s\n", line)
	}
	if d.Err != nil {
		fmt.Fprintf(&b, "%v\n", d.Err)
	}
	return b.String()
}

// Compare runs s in every setting and returns the first difference to want, nil if there is none.
func Compare(s *Scenario, want []string) *Difference {
	for setting := range Setting(Settings) {
		got, err := traceInTime(s, setting)
		if err != nil || !slices.Equal(got, want) {
			return &Difference{Scenario: s, Setting: setting, Want: want, Got: got, Err: err}
		}
	}
	return nil
}

// patience is how long a scenario may take. On virtual time none takes a millisecond.
const patience = 20 * time.Second

func traceInTime(s *Scenario, setting Setting) ([]string, error) {
	type result struct {
		trace []string
		err   error
	}
	done := make(chan result, 1)
	go func() {
		trace, err := Trace(s, setting)
		done <- result{trace, err}
	}()
	select {
	case r := <-done:
		return r.trace, r.err
	case <-time.After(patience):
		return nil, fmt.Errorf("hangs")
	}
}

// Shrink returns the smallest scenario it can find that still differs.
func (d *Difference) Shrink(o *Oracle) (*Difference, error) {
	for {
		smaller, err := d.step(o)
		if err != nil || smaller == nil {
			return d, err
		}
		d = smaller
	}
}

// step returns a difference whose scenario is one edit smaller, nil if there is none.
func (d *Difference) step(o *Oracle) (*Difference, error) {
	text := d.Scenario.String()
	for n := 0; ; n++ {
		s, err := Parse(text)
		if err != nil {
			return nil, err
		}
		e := &edit{n: n}
		e.scenario(s)
		if e.n >= 0 {
			return nil, nil // all have been tried
		}
		if s, err = Parse(s.String()); err != nil || s.String() == text {
			continue
		}
		want, err := o.Trace(s)
		if err != nil {
			return nil, err
		}
		if smaller := Compare(s, want); smaller != nil {
			return smaller, nil
		}
	}
}

// An edit makes the n-th of all changes that make a scenario smaller, counting n down.
type edit struct{ n int }

// turn reports whether this change is the n-th.
func (e *edit) turn() bool {
	e.n--
	return e.n == -1
}

func (e *edit) scenario(s *Scenario) {
	for n := range s.Programs {
		if n > 0 && e.turn() {
			s.Programs = slices.Delete(s.Programs, n, n+1)
			return
		}
	}
	for _, p := range s.Programs {
		e.block(&p.Body)
	}
	e.block(&s.Declarations)
}

func (e *edit) block(block *[]*Instruction) {
	for n := 0; n < len(*block); n++ {
		i := (*block)[n]
		if e.turn() {
			*block = slices.Delete(*block, n, n+1)
			return
		}
		if i.Verb == "try" && e.turn() || i.Verb != "except" && i.Verb != "finally" && len(i.Body) > 0 && e.turn() {
			*block = slices.Replace(*block, n, n+1, i.Body...)
			return
		}
		for a := range i.Args {
			if a >= optional(i) {
				if e.turn() {
					i.Args = slices.Delete(i.Args, a, a+1)
					return
				}
			}
			if v := number(i.Args[a]); isNumber(i.Args[a]) && v > 0 && e.turn() {
				i.Args[a] = fmt.Sprint(v - 1)
				return
			}
		}
		if simpler(i) != nil && e.turn() {
			(*block)[n] = simpler(i)
			return
		}
		e.block(&i.Body)
		e.block(&i.Clauses)
		if e.n < 0 {
			return
		}
	}
}

// optional returns the index from which the arguments of i can be left out.
func optional(i *Instruction) int {
	switch i.Verb {
	case "gather", "gather-results", "future":
		return 0
	case "cancel", "as-completed", "queue.shutdown", "condition", "timeout":
		return 1
	}
	return 2
}

// simpler returns an instruction that does less, or does it in a simpler way, nil if there is none.
func simpler(i *Instruction) *Instruction {
	from := func(verb string, n int) *Instruction {
		return &Instruction{Line: i.Line, Verb: verb, Args: i.Args[n:]}
	}
	switch i.Verb {
	case "soon":
		return from(i.Args[1], 2)
	case "later", "done":
		return from(i.Args[2], 3)
	case "gather-results":
		return from("gather", 0)
	case "eager":
		return from("spawn", 0)
	case "group.spawn":
		return from("spawn", 1)
	case "group.eager":
		return from("group.spawn", 0)
	case "wait-for":
		return from("await", 1)
	case "bounded":
		return from("semaphore", 0)
	case "priority-queue", "lifo-queue":
		return from("queue", 0)
	}
	return nil
}
