package scenario

import (
	"slices"
	"strconv"
)

// families are the possible subjects of a scenario, besides tasks and futures.
var families = []string{"lock", "event", "condition", "semaphore", "barrier", "queue", "group", "timeout", "combine"}

// primitives are the families and names in the scenario being made.
type primitives struct {
	families []string
	names    map[string][]string // of the declared primitives, for each family
	groups   int
	timeouts int
	cancels  bool // groups are cancelled
	eager    bool // all tasks are started eagerly
}

func (p *primitives) has(family string) bool { return slices.Contains(p.families, family) }

// choose picks families and returns their declarations.
func (g *generator) choose() []*Instruction {
	g.names = map[string][]string{}
	for range []int{0, 0, 1, 1, 1, 1, 2, 2, 2, 3, 3, 4}[g.rand.IntN(12)] {
		if f := g.pick(families...); !g.has(f) {
			g.families = append(g.families, f)
		}
	}
	g.cancels = g.rand.IntN(2) == 0
	var all []*Instruction
	if g.eager = g.rand.IntN(6) == 0; g.eager {
		all = append(all, ins("eager-tasks"))
	}
	for _, f := range families {
		if !g.has(f) {
			continue
		}
		n := 1
		if g.rand.IntN(3) == 0 {
			n = 2
		}
		for k := range n {
			if d := g.declaration(f, strconv.Itoa(k+1)); d != nil {
				g.names[f] = append(g.names[f], d.Args[0])
				all = append(all, d)
			}
		}
	}
	return all
}

func (g *generator) declaration(family, n string) *Instruction {
	switch family {
	case "lock":
		return ins("lock", "lock"+n)
	case "event":
		return ins("event", "event"+n)
	case "condition":
		d := ins("condition", "cond"+n)
		if locks := g.names["lock"]; len(locks) > 0 && g.rand.IntN(2) == 0 {
			d.Args = append(d.Args, g.pick(locks...))
		}
		return d
	case "semaphore":
		return ins(g.pick("semaphore", "bounded"), "sem"+n, g.pick("0", "1", "1", "2", "3"))
	case "barrier":
		return ins("barrier", "bar"+n, g.pick("1", "2", "2", "3", "3"))
	case "queue":
		return ins(g.pick("queue", "queue", "priority-queue", "lifo-queue"), "q"+n, g.pick("0", "1", "1", "2"))
	}
	return nil
}

func (g *generator) number() string { return strconv.Itoa(g.rand.IntN(9)) }

func (g *generator) limit() string { return g.pick("0", "0", "1", "1", "1", "2", "2", "-") }

// name returns the name of a primitive, "" if there is none.
func (g *generator) name(family string) string {
	if len(g.names[family]) == 0 {
		return ""
	}
	return g.pick(g.names[family]...)
}

// signal returns an effect on a primitive, nil if the thing that it needs does not exist.
func (g *generator) signal(depth int) *Instruction {
	if len(g.families) == 0 {
		return nil
	}
	family := g.pick(g.families...)
	name := g.name(family)
	if name != "" && g.rand.IntN(8) == 0 {
		return ins("state", name)
	}
	switch family {
	case "lock":
		return ins(g.pick("lock.release", "lock.release", "lock.release", "lock.locked"), name)
	case "event":
		return ins(g.pick("event.set", "event.set", "event.clear"), name)
	case "condition":
		if g.rand.IntN(4) == 0 {
			return ins("condition.release", name)
		}
		return ins("condition.notify", name, g.pick("0", "1", "1", "2", "9"))
	case "semaphore":
		return ins(g.pick("semaphore.release", "semaphore.release", "semaphore.release", "semaphore.locked"), name)
	case "queue":
		switch g.rand.IntN(8) {
		case 0, 1, 2:
			return ins("queue.put-nowait", name, g.number())
		case 3, 4:
			return ins("queue.get-nowait", name)
		case 5, 6:
			return ins("queue.task-done", name)
		}
		i := ins("queue.shutdown", name)
		if g.rand.IntN(2) == 0 {
			i.Args = append(i.Args, "now")
		}
		return i
	case "group":
		if g.cancels && g.groups > 0 && g.rand.IntN(3) == 0 {
			return ins("group.cancel", g.group())
		}
		if p := g.below(); p > 0 && g.groups > 0 {
			return ins(g.pick("group.spawn", "group.spawn", "group.eager"), g.group(), taskName(p), programName(p))
		}
	case "timeout":
		if g.timeouts > 0 {
			name := g.timeout()
			return g.choice(ins("timeout.reschedule", name, g.limit()), ins("timeout.reschedule", name, g.limit()), ins("state", name))
		}
	}
	return nil
}

// caught returns i, often wrapped so that its error does not end the program. i may be nil.
func (g *generator) caught(i *Instruction) []*Instruction {
	switch {
	case i == nil:
		return nil
	case g.rand.IntN(3) == 0:
		return []*Instruction{i}
	}
	try, except := ins("try"), ins("except", "error")
	try.Body, try.Clauses = []*Instruction{i}, []*Instruction{except}
	return []*Instruction{try}
}

// timeout returns the name of a timeout that may exist by then.
func (g *generator) timeout() string { return "tm" + strconv.Itoa(1+g.rand.IntN(g.timeouts)) }

func (g *generator) choice(from ...*Instruction) *Instruction { return from[g.rand.IntN(len(from))] }

// group returns the name of a group that may exist by then.
func (g *generator) group() string { return "g" + strconv.Itoa(1+g.rand.IntN(g.groups)) }

// storm returns effects that come all at once: those that hand something over, and cancels of the
// tasks that are waiting for it.
func (g *generator) storm() []*Instruction {
	var all []*Instruction
	for range 2 + g.rand.IntN(3) {
		if g.rand.IntN(2) == 0 {
			all = append(all, ins("cancel", g.any()))
		} else {
			all = append(all, g.caught(g.signal(0))...)
		}
	}
	return all
}

// waiting returns instructions that begin a program and wait for something that another program
// hands over.
func (g *generator) waiting() []*Instruction {
	family := g.pick(g.families...)
	name := g.name(family)
	inside := func(i *Instruction, body ...*Instruction) []*Instruction {
		i.Body = body
		return []*Instruction{i}
	}
	var all []*Instruction
	switch family {
	case "lock", "semaphore":
		all = inside(ins("with", name), ins(g.pick("yield", "state"), name))
		if i := all[0].Body[0]; i.Verb == "yield" {
			i.Args = nil
		}
	case "event":
		all = []*Instruction{ins("event.wait", name)}
	case "condition":
		all = inside(ins("with", name), ins("condition.wait", name))
	case "barrier":
		all = []*Instruction{ins("barrier.wait", name)}
	case "queue":
		all = []*Instruction{ins("queue.get", name)}
		if g.rand.IntN(3) == 0 {
			all = []*Instruction{ins("queue.put", name, g.number()), ins("queue.put", name, g.number())}
		}
	default:
		return nil
	}
	switch {
	case g.has("timeout") && g.rand.IntN(2) == 0:
		return inside(ins("timeout", g.limit()), all...)
	case g.rand.IntN(3) == 0:
		try, except := ins("try"), ins("except", g.pick("cancelled", "any"))
		try.Body, try.Clauses = all, []*Instruction{except}
		if i := g.signal(0); i != nil {
			except.Body = []*Instruction{i}
		}
		return []*Instruction{try}
	}
	return all
}

// handover returns instructions that hand something over to the waiting tasks, with a storm in
// between.
func (g *generator) handover() []*Instruction {
	family := g.pick(g.families...)
	name := g.name(family)
	switch family {
	case "lock":
		with := ins("with", name)
		with.Body = append([]*Instruction{ins("yield")}, g.storm()...)
		return []*Instruction{with}
	case "condition":
		with := ins("with", name)
		with.Body = append([]*Instruction{ins("condition.notify", name, g.pick("1", "1", "2", "9"))}, g.storm()...)
		return []*Instruction{with}
	case "semaphore":
		return []*Instruction{ins("semaphore.acquire", name), ins("yield"), ins("semaphore.release", name)}
	case "event":
		return []*Instruction{ins("event.set", name), ins(g.pick("event.clear", "state"), name)}
	case "queue":
		return []*Instruction{ins("queue.put", name, g.number()), ins("queue.put", name, g.number())}
	case "barrier":
		if g.rand.IntN(2) == 0 { // one waiter leaves before the others have come
			all := []*Instruction{ins("cancel", taskName(1)), ins("yield"), ins("yield")}
			if p := g.below(); p > 0 {
				all = append(all, ins("spawn", taskName(p), programName(p)))
			}
			return append(all, ins("barrier.wait", name))
		}
		return []*Instruction{ins("barrier.wait", name)}
	}
	return nil
}

// special returns instructions of one of the scenario's families, none if the thing that they need
// does not exist.
func (g *generator) special(depth int, handling bool) []*Instruction {
	around := func(verb string, args ...string) []*Instruction {
		i := ins(verb, args...)
		i.Body = g.block(depth+1, handling)
		return []*Instruction{i}
	}
	one := func(verb string, args ...string) []*Instruction { return []*Instruction{ins(verb, args...)} }
	deep := depth >= 3
	family := g.pick(g.families...)
	name := g.name(family)
	if g.rand.IntN(5) == 0 {
		return g.caught(g.signal(0))
	}
	switch family {
	case "lock", "semaphore":
		switch n := g.rand.IntN(10); {
		case n < 4 && !deep:
			return around("with", name)
		case n < 7:
			return one(family+".acquire", name)
		case n < 9 && !deep:
			// As it is written without a with block; the lock may belong to somebody else by the
			// end.
			try := ins("try")
			try.Body = g.block(depth+1, handling)
			finally := ins("finally")
			finally.Body = append(g.block(depth+2, handling), ins(family+".release", name))
			try.Clauses = []*Instruction{finally}
			return []*Instruction{ins(family+".acquire", name), try}
		}
		return g.caught(ins(family+".release", name))
	case "event":
		return one("event.wait", name)
	case "condition":
		switch n := g.rand.IntN(10); {
		case n < 4:
			with := ins("with", name)
			with.Body = []*Instruction{ins("condition.wait", name)}
			if g.rand.IntN(3) == 0 {
				with.Body = append(with.Body, ins("condition.wait", name))
			}
			if !deep && g.rand.IntN(2) == 0 {
				with.Body = append(with.Body, g.block(depth+1, handling)...)
			}
			return []*Instruction{with}
		case n < 7:
			with := ins("with", name)
			with.Body = []*Instruction{ins("condition.notify", name, g.pick("1", "1", "2", "9"))}
			if g.rand.IntN(2) == 0 {
				with.Body = append(with.Body, g.storm()...)
			}
			return []*Instruction{with}
		case n < 8 && !deep:
			return around("with", name)
		}
		return one(g.pick("condition.acquire", "condition.wait"), name)
	case "barrier":
		return one("barrier."+g.pick("wait", "wait", "wait", "wait", "wait", "reset", "abort"), name)
	case "queue":
		switch n := g.rand.IntN(10); {
		case n < 4:
			return one("queue.put", name, g.number())
		case n < 8:
			return one("queue.get", name)
		}
		return one("queue.join", name)
	case "group":
		if deep {
			return nil
		}
		g.groups++
		i := ins("group", "g"+strconv.Itoa(g.groups))
		for range 1 + g.rand.IntN(3) {
			if p := g.below(); p > 0 {
				i.Body = append(i.Body, ins(g.pick("group.spawn", "group.spawn", "group.eager"), i.Args[0], taskName(p), programName(p)))
			}
		}
		if g.rand.IntN(4) > 0 {
			i.Body = append(i.Body, g.block(depth+1, handling)...)
		}
		return []*Instruction{i}
	case "timeout":
		if !deep {
			g.timeouts++
			return around("timeout", g.limit(), "tm"+strconv.Itoa(g.timeouts))
		}
	case "combine":
		switch g.rand.IntN(3) {
		case 0:
			if a := g.awaitable(true); a != "" {
				return one("wait-for", g.limit(), a)
			}
		case 1:
			if a := g.detached(); a != "" {
				return one("shield", a)
			}
		case 2:
			return one("as-completed", append([]string{g.pick("-", "-", "0", "1", "1", "2")}, g.several(g.detached)...)...)
		}
	}
	return nil
}

// detached returns something to wait for in such a way that cancels are not passed on to it.
func (g *generator) detached() string {
	if g.rand.IntN(2) == 0 {
		return g.awaitable(true)
	}
	return g.any()
}
