package recording

import (
	"fmt"
	"time"
)

// An Event is something that happened on a loop. Kind says what, in the terms of the words; Pad,
// Clock, Amid, Number, Text and Span are no events of their own.
type Event struct {
	Kind Kind
	At   time.Duration // on the loop's clock
	Read bool          // the clock was read for it; otherwise At lies between two readings
	By   Actor         // whose step, or callback, was under way

	Task     uint32 // the ID of the task: of all kinds but Call, Due, Idle, Woken, Iteration, Stall
	Own      bool   // of Made, Known: the library has made it for itself
	Callback uint32 // of Call, Due and Job: an Actor's
	Thing    Thing  // of Wait and Join
	Name     uint32 // an index of Loop.Names: the coroutine, the error's or the cause's type
	End      End    // of Done
	Outside  bool   // of Wake and Due: another goroutine has seen to it
	Text     string // of Made and Known: the task's name; of Cancel: the message

	Ready, Timers int           // of Iteration; Unknown in most
	Took          time.Duration // of Stall and Job
}

// Unknown is a number that was not noted.
const Unknown = -1

func taskName(number uint32) string { return fmt.Sprintf("Task-%d", number) }

// An Actor is what is under way: a step of a task, or a callback.
type Actor struct {
	Kind     ActorKind
	Task     uint32
	Callback uint32 // its name's index in bits 0 to 11, and bits of its address above
}

// CallbackName returns the name's index that a callback has in it.
func CallbackName(callback uint32) uint32 { return callback & (MaxNames - 1) }

// Events reads the words. The error is an [ErrFormat].
func (l *Loop) Events() ([]Event, error) {
	r := reader{loop: l, names: uint32(max(len(l.Names), 1)), events: make([]Event, 0, len(l.Words))}
	for i, w := range l.Words {
		if err := r.word(w); err != nil {
			return nil, fmt.Errorf("%w: word %d: %w", ErrFormat, i, err)
		}
	}
	r.spread()
	return r.events, nil
}

type reader struct {
	loop   *Loop
	names  uint32 // how many there are
	events []Event
	clock  time.Duration
	begun  bool
	actor  Actor

	serial  uint32
	open    Kind // the last word, if others may belong to it
	spans   int
	pending int // the event that they belong to
}

func (r *reader) word(w uint64) error {
	k := kindOf(w)
	if !r.begun && k != Clock {
		return fmt.Errorf("a block begins with kind %d", k)
	}
	switch k {
	case Pad:
		r.open = None
		return nil
	case Clock:
		return r.readClock(w)
	case Amid:
		return r.amid(w)
	case Number, Text, Span:
		return r.more(w)
	}
	if (k == Step || k == Call) && noteOf(w)&First != 0 {
		r.actor = Actor{}
		r.events = append(r.events, Event{Kind: Iteration, At: r.clock, Ready: Unknown, Timers: Unknown})
	}
	e := Event{Kind: k, At: r.clock, By: r.actor}
	if err := r.fill(&e, w); err != nil {
		return err
	}
	r.open, r.pending, r.spans = k, len(r.events), 0
	r.events = append(r.events, e)
	r.after(&e)
	return nil
}

// readClock reads a Clock, which does not go backwards.
func (r *reader) readClock(w uint64) error {
	t := time.Duration(wideOf(w))
	if r.begun && t < r.clock {
		return fmt.Errorf("time goes back from %v to %v", r.clock, t)
	}
	r.clock, r.begun, r.open = t, true, None
	return nil
}

func (r *reader) amid(w uint64) error {
	r.open = Amid
	switch kind := ActorKind(min(noteOf(w), uint32(ACallback)+1)); kind {
	case Nobody:
		r.actor = Actor{}
	case ATask:
		r.actor = Actor{Kind: ATask, Task: subjectOf(w)}
	case ACallback:
		r.actor = Actor{Kind: ACallback, Callback: subjectOf(w)}
		return r.known(CallbackName(subjectOf(w)))
	default:
		return fmt.Errorf("an actor of kind %d", noteOf(w))
	}
	return nil
}

func (r *reader) known(name uint32) error {
	if name >= r.names {
		return fmt.Errorf("there is no name %d", name)
	}
	return nil
}

// more reads a word that belongs to the event before.
func (r *reader) more(w uint64) error {
	k := kindOf(w)
	definition := r.open == Made || r.open == Known
	switch {
	case k == Number && definition:
		r.serial = subjectOf(w)
		r.events[r.pending].Text = taskName(r.serial)
		r.open = None
	case k == Number && r.open == Amid:
		r.serial, r.open = subjectOf(w), None
	case k == Text && (definition || r.open == Cancel):
		r.events[r.pending].Text += textOf(w)
	case k == Span && r.open == Job && r.spans < 2:
		e := &r.events[r.pending]
		span := time.Duration(wideOf(w))
		if r.spans++; r.spans == 1 {
			e.At -= min(span, e.At)
		} else {
			e.Took = span
		}
	default:
		return fmt.Errorf("kind %d behind kind %d", k, r.open)
	}
	return nil
}

// time reads a time (word 4).
func (r *reader) time(e *Event, w uint64) {
	if note := noteOf(w) &^ First; note != 0 {
		r.clock += time.Duration(note - 1)
		e.At, e.Read = r.clock, true
	}
}

// fill fills in what w says.
func (r *reader) fill(e *Event, w uint64) error {
	note, subject := noteOf(w), subjectOf(w)
	switch e.Kind {
	case Step:
		r.time(e, w)
		e.Task = subject
	case Call:
		r.time(e, w)
		e.Callback = subject
		return r.known(CallbackName(subject))
	case Due, Job:
		e.Callback, e.Outside = subject, note&1 != 0
		return r.known(CallbackName(subject))
	case Wait:
		e.Task, e.Thing = r.actor.Task, Thing{Name: CallbackName(subject), Object: subject >> 12}
		return r.known(e.Thing.Name)
	case Join:
		e.Task, e.Thing = r.actor.Task, Thing{Task: subject}
	case Wake:
		e.Task, e.Outside = subject, note&1 != 0
	case Made, Known:
		e.Task, e.Name, e.Own = subject, note>>2, note&Own != 0
		if note&Serial != 0 {
			r.serial++
			e.Text = taskName(r.serial)
		}
		return r.known(e.Name)
	case Done:
		e.Task, e.End, e.Name = subject, End(min(note>>12, 255)), note&(MaxNames-1)
		if e.End > Panicked {
			return fmt.Errorf("an end of kind %d", e.End)
		}
		return r.known(e.Name)
	case Cancel:
		e.Task, e.Name = subject, note
		return r.known(e.Name)
	case Idle, Woken:
		r.time(e, w)
		e.By = Actor{}
	case Iteration:
		e.By = Actor{}
		e.Ready, e.Timers = int(subject), int(note)
	case Stall:
		e.Took = time.Duration(subject) * time.Millisecond
	default:
		return fmt.Errorf("kind %d is not known", e.Kind)
	}
	return nil
}

// after says who is under way behind e (word 2).
func (r *reader) after(e *Event) {
	switch e.Kind {
	case Step:
		r.actor = Actor{Kind: ATask, Task: e.Task}
	case Call:
		r.actor = Actor{Kind: ACallback, Callback: e.Callback}
	case Wait, Join, Idle, Iteration:
		r.actor = Actor{}
	case Done:
		if r.actor.Task == e.Task {
			r.actor = Actor{}
		}
	}
}

// spread gives the events between two readings of the clock times between these: a step where the
// clock was not read counts as as long as its neighbours.
func (r *reader) spread() {
	all := r.events
	from := 0 // the last event for which the clock was read
	steps := 0
	for i := range all {
		if !all[i].Read {
			if all[i].begins() {
				steps++
			}
			continue
		}
		begin := all[from].At
		took := all[i].At - begin
		n := 0
		for j := from + 1; steps > 0 && j < i; j++ {
			if all[j].begins() {
				n++
			}
			if all[j].Kind != Job {
				all[j].At = begin + time.Duration(float64(took)*float64(n)/float64(steps+1))
			}
		}
		from, steps = i, 0
	}
}

func (e *Event) begins() bool { return e.Kind == Step || e.Kind == Call }
