package asyncio

import (
	"cmp"
	"container/heap"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/goasyncio/asyncio/internal/driver"
	"github.com/goasyncio/asyncio/internal/inspection"
)

// What a survey finds besides tasks. It is looked at once all tasks have been seen, a thing at a
// time (inspection 1).

const (
	shownTimers    = 5
	shownQueues    = 20
	shownServers   = 20
	shownAddresses = 20
	shownHolders   = 5
	socketsAtOnce  = 256 // places in the driver's table
	maxAddresses   = 4096
)

// planThings lists the work of looking at things.
func (s *survey) planThings() {
	s.rest = append(s.rest, s.timers, s.executor)
	for _, n := range largeQueuesOf(s.loop) {
		s.rest = append(s.rest, func() { s.describeQueue(n) })
	}
	s.rest = append(s.rest, func() {
		slices.SortStableFunc(s.found.Queues, func(a, b *inspection.Queue) int { return cmp.Compare(b.Size, a.Size) })
		s.found.Queues = s.found.Queues[:min(len(s.found.Queues), shownQueues)]
	})
	for server := range s.servers {
		s.rest = append(s.rest, func() { s.describeServer(server) })
	}
	s.rest = append(s.rest, func() {
		slices.SortStableFunc(s.found.Servers, func(a, b *inspection.Server) int {
			return cmp.Or(cmp.Compare(b.Clients, a.Clients), slices.Compare(a.Addresses, b.Addresses))
		})
		s.found.Servers = s.found.Servers[:min(len(s.found.Servers), shownServers)]
	})
	if census, ok := s.loop.drv.(driver.Census); ok && s.loop.sockets != nil {
		s.sockets = make(map[socketPlace]int)
		s.rest = append(s.rest, func() { s.countSockets(census, 0) })
	}
}

func (s *survey) describeObject(on any, o *object) {
	shown := &inspection.Object{Waiters: o.n, Names: namesOf(o.examples)}
	switch on := on.(type) {
	case *task:
		shown.What = "task " + reprString(on.GetName())
	case fmt.Stringer:
		shown.What = on.String()
	default:
		shown.What = fmt.Sprintf("%T", on)
	}
	if h, ok := on.(holder); ok && h.heldBy() != nil {
		shown.Owner = h.heldBy().GetName()
	}
	switch on := on.(type) {
	case largeOne:
		m := on.measure()
		shown.Size, shown.Limit = m.size, max(m.limit, 0)
	case *CapacityLimiter:
		shown.Size, shown.Limit = on.AvailableTokens(), on.total
		for b := range on.borrowers {
			if len(shown.Holders) == shownHolders {
				break
			}
			if t, ok := b.(AnyTask); ok {
				shown.Holders = append(shown.Holders, t.GetName())
			}
		}
		slices.Sort(shown.Holders)
	case *semaphore:
		shown.Size = on.value
	}
	s.found.Objects = append(s.found.Objects, shown)
}

// describeQueue describes a large queue, if it still is one.
func (s *survey) describeQueue(n *largeNote) {
	q := n.queue()
	if q == nil {
		return
	}
	m := q.measure()
	if m.size < largeQueue {
		return
	}
	shown := &inspection.Queue{
		What: fmt.Sprintf("<%s maxsize=%d>", m.name, m.limit), Size: m.size, Limit: max(m.limit, 0),
		Getters: m.getters, Putters: m.putters, Unfinished: m.unfinished,
		By: n.by, Where: n.at.place(), Was: n.size, Ago: time.Since(n.when),
	}
	for _, f := range userFrames(n.at) {
		shown.Stack = append(shown.Stack, formatFrame(f))
	}
	s.found.Queues = append(s.found.Queues, shown)
}

// timers describes the timers that are due next. In the heap, a timer comes before the four below
// it, so the next ones are found without looking at all.
func (s *survey) timers() {
	all := s.loop.timers
	if len(all) == 0 {
		return
	}
	now := s.loop.Time()
	for next := (&dueNext{all, []int{0}}); len(next.at) > 0 && len(s.found.Next) < shownTimers; {
		i := heap.Pop(next).(int)
		for below := 4*i + 1; below <= 4*i+4 && below < len(all); below++ {
			heap.Push(next, below)
		}
		t := all[i]
		s.found.Next = append(s.found.Next, &inspection.Timer{What: nameOf(t.cb), In: t.when.Sub(now)})
	}
}

// dueNext is a [heap.Interface] of the places, in a heap of timers, of which all above have been
// seen.
type dueNext struct {
	timers timerHeap
	at     []int
}

func (d *dueNext) Len() int           { return len(d.at) }
func (d *dueNext) Less(i, j int) bool { return d.timers[d.at[i]].before(d.timers[d.at[j]]) }
func (d *dueNext) Swap(i, j int)      { d.at[i], d.at[j] = d.at[j], d.at[i] }
func (d *dueNext) Push(at any)        { d.at = append(d.at, at.(int)) }

func (d *dueNext) Pop() any {
	n := len(d.at) - 1
	at := d.at[n]
	d.at = d.at[:n]
	return at
}

// executor describes the default executor. Of one that the program has set it knows the type only.
func (s *survey) executor() {
	d := executors.ifAny(s.loop)
	if d == nil || d.current == nil {
		return
	}
	shown := &inspection.Executor{What: strings.TrimPrefix(fmt.Sprintf("%T", d.current), "*")}
	if e, ok := d.current.(*ThreadPoolExecutor); ok {
		shown.Threads, shown.Most, shown.Running, shown.Queued = e.measure()
	}
	s.found.Executor = shown
}

// serverOf notes the server of a task that accepts connections for it.
func (s *survey) serverOf(t *task) {
	for cb := range t.fut.callbacks {
		if a, ok := cb.(*acceptor); ok {
			if s.servers == nil {
				s.servers = make(map[*Server]bool)
			}
			s.servers[a.s] = true
		}
	}
}

func (s *survey) describeServer(server *Server) {
	shown := &inspection.Server{Clients: server.Clients(), Limit: server.options.clients}
	for _, a := range server.Addrs() {
		shown.Addresses = append(shown.Addresses, a.String())
	}
	for k := range server.clients.all() {
		shown.Oldest, shown.Age = k.task.GetName(), s.loop.observed().age(&k.task.task)
		break
	}
	s.found.Servers = append(s.found.Servers, shown)
}

// A socketPlace is what sockets are counted by.
type socketPlace struct {
	local   string
	listens bool
}

// countSockets counts the sockets from a place on, and comes back for the rest.
func (s *survey) countSockets(census driver.Census, from int) {
	next := census.OpenSockets(from, socketsAtOnce, func(local net.Addr, listens bool) {
		at := socketPlace{listens: listens}
		if local != nil {
			at.local = local.String()
		}
		if s.sockets[at] == 0 && len(s.sockets) >= maxAddresses {
			at.local = "others"
		}
		s.sockets[at]++
	})
	if next >= 0 {
		s.rest = append(s.rest, func() { s.countSockets(census, next) })
		return
	}
	s.describeSockets()
}

func (s *survey) describeSockets() {
	if len(s.sockets) == 0 {
		return
	}
	shown := new(inspection.Sockets)
	byAddress := make(map[string]*inspection.Address)
	for at, n := range s.sockets {
		a := byAddress[at.local]
		if a == nil {
			a = &inspection.Address{Address: at.local}
			byAddress[at.local] = a
			shown.Addresses = append(shown.Addresses, a)
		}
		if at.listens {
			a.Listens = true
			shown.Listeners += n
		} else {
			a.Connections += n
			shown.Connections += n
		}
	}
	slices.SortFunc(shown.Addresses, func(a, b *inspection.Address) int {
		return cmp.Or(cmp.Compare(b.Connections, a.Connections), cmp.Compare(a.Address, b.Address))
	})
	shown.Addresses = shown.Addresses[:min(len(shown.Addresses), shownAddresses)]
	s.found.Sockets = shown
}
