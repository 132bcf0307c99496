package sim

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/goasyncio/asyncio"
)

// Hosts that wait for each other over the network: who waits at a connection, and who would have to
// write at its other end.
//
//	circle 1: A task that waits to read from a connection waits for the task that has used the other
//	   end last. That is a guess, as nothing says who will write; so only circles are told, and
//	   only where nothing can happen any more. Within a host, a task waits for another where the
//	   library knows that, as for the one that has a lock.
//	circle 2: The tasks are noted in runs that are explained and in no others.
type endUser struct {
	task asyncio.AnyTask // nil: a callback
	life *life
}

func (u endUser) String() string { return u.life.host.name + ": " + quote(u.task.GetName()) }

// userOfConnection returns the task that runs.
func (w *world) userOfConnection() endUser {
	l := w.turn
	return endUser{asyncio.CurrentTask(l.eventLoop.Context()), l}
}

// reads reports whether the user is alive and waits in a call that reads.
func (u endUser) reads() (yes bool) {
	if u.task == nil || u.life.state == gone || u.life.killed {
		return false
	}
	u.life.do(func() {
		if !u.task.Done() {
			place := waitsAt(u.task.GetStack())
			yes = strings.HasPrefix(place, "waits in ") && (strings.Contains(place, "Read") || strings.Contains(place, "Conn"))
		}
	})
	return yes
}

// A waitFor says which task another one waits for, and how.
type waitFor struct {
	task, words string
	network     bool
}

// heldByTask finds, in the text about a waiting task, the task of its own host that it waits for.
var heldByTask = regexp.MustCompile(`(?m)^\s*task '([^']*)',.* waits for (.*), that is for task '([^']*)'$`)

// circleOfHosts describes tasks of which each waits for the next and the last for the first, across
// hosts; "" if there are none. about is the text on the waiting tasks of each host.
func (w *world) circleOfHosts(about map[*Host]string) string {
	if w.net.who == nil {
		return ""
	}
	waits := make(map[string]waitFor)
	var order []string
	add := func(task string, f waitFor) {
		if _, ok := waits[task]; !ok {
			waits[task] = f
			order = append(order, task)
		}
	}
	for _, h := range w.hosts {
		for _, m := range heldByTask.FindAllStringSubmatch(about[h], -1) {
			add(h.name+": "+quote(m[1]), waitFor{task: h.name + ": " + quote(m[3]), words: "waits for " + m[2] + " of"})
		}
	}
	for _, s := range w.net.systems {
		for _, c := range s.connections() {
			if c.wantRead && !c.shut() && c.reader.reads() && c.peer != nil && c.peer.user.task != nil {
				add(c.reader.String(), waitFor{task: c.peer.user.String(), words: "waits to read what would have to come from", network: true})
			}
		}
	}
	for _, first := range order {
		var way []string
		network := false
		for at := first; !slices.Contains(way, at); {
			f, ok := waits[at]
			if !ok {
				break
			}
			way = append(way, at)
			network = network || f.network
			if at = f.task; at == first && network {
				var b strings.Builder
				b.WriteString("\n\thosts wait for each other:")
				for _, task := range way {
					fmt.Fprintf(&b, "\n\t\t%s %s %s", task, waits[task].words, waits[task].task)
				}
				return b.String()
			}
		}
	}
	return ""
}

// address finds addresses of hosts in names of tasks and callbacks.
var address = regexp.MustCompile(`\b10\.0\.\d{1,3}\.\d{1,3}\b|\[fd00::[0-9a-f:]+\]`)

// people replaces the addresses of hosts in s by their names.
func (t *tracer) people(s string) string {
	if len(t.hosts) == 0 || !strings.Contains(s, "10.0.") && !strings.Contains(s, "[fd00::") {
		return s
	}
	return address.ReplaceAllStringFunc(s, func(addr string) string {
		if name, ok := t.hosts[strings.Trim(addr, "[]")]; ok {
			return name
		}
		return addr
	})
}
