package timeline

import (
	"bufio"
	"encoding/json"
	"io"
	"strconv"
	"time"
)

// WriteChrome writes t in Chrome's format, the JSON of about:tracing and other viewers: hosts and
// loops are processes, tasks are threads. Any goroutine may call it. The error is that of w, or of
// [Timeline.Check].
func (t *Timeline) WriteChrome(w io.Writer) error {
	if err := t.Check(); err != nil {
		return err
	}
	c := &chrome{drawing: t.drawing(), w: bufio.NewWriter(w)}
	title, _ := json.Marshal(clean(t.Title))
	_, _ = c.w.WriteString(`{"displayTimeUnit":"ns","otherData":{"title":` + string(title) + `},"traceEvents":[`)
	c.describe()
	for i := range t.Tracks {
		c.track(i)
	}
	c.arrows()
	c.marks()
	c.counters()
	_, _ = c.w.WriteString("\n]}\n")
	return c.w.Flush() // with the first error of all
}

// chrome writes a drawing.
type chrome struct {
	*drawing
	w     *bufio.Writer
	begun bool
}

// A chromeEvent is one of traceEvents.
type chromeEvent struct {
	Phase    string         `json:"ph"`
	Name     string         `json:"name,omitempty"`
	Category string         `json:"cat,omitempty"`
	Process  int            `json:"pid"`
	Thread   int            `json:"tid"`
	At       micros         `json:"ts"`
	For      *micros        `json:"dur,omitempty"`
	ID       int            `json:"id,omitempty"`
	Binding  string         `json:"bp,omitempty"`
	Scope    string         `json:"s,omitempty"`
	Args     map[string]any `json:"args,omitempty"`
}

// micros is a time, as a decimal number of microseconds.
type micros time.Duration

func (m micros) MarshalJSON() ([]byte, error) {
	b := strconv.AppendInt(nil, int64(m)/1000, 10)
	if part := int64(m) % 1000; part != 0 {
		b = append(b, '.', byte('0'+part/100), byte('0'+part/10%10), byte('0'+part%10))
	}
	return b, nil
}

func (c *chrome) event(e chromeEvent) {
	e.Name = clean(e.Name)
	for k, v := range e.Args {
		if s, ok := v.(string); ok {
			if e.Args[k] = clean(s); s == "" {
				delete(e.Args, k)
			}
		}
	}
	text, err := json.Marshal(e)
	if err != nil {
		panic(err) // it has nothing that JSON has not
	}
	if c.begun {
		_ = c.w.WriteByte(',')
	}
	c.begun = true
	_ = c.w.WriteByte('\n')
	_, _ = c.w.Write(text)
}

// process is the number of a process; that of the whole run is 0.
func (c *chrome) process(i int) int { return i + 1 }

// on returns where an event of a track is drawn.
func (c *chrome) on(track int) (process, thread int) {
	return c.process(c.Tracks[track].Process), track + 1
}

func (c *chrome) describe() {
	for i, name := range c.names {
		c.event(chromeEvent{Phase: "M", Name: "process_name", Process: c.process(i), Args: map[string]any{"name": name}})
		c.event(chromeEvent{Phase: "M", Name: "process_sort_index", Process: c.process(i), Args: map[string]any{"sort_index": i}})
	}
	for i := range c.Tracks {
		p, t := c.on(i)
		c.event(chromeEvent{Phase: "M", Name: "thread_name", Process: p, Thread: t, Args: map[string]any{"name": c.trackName(i)}})
		c.event(chromeEvent{Phase: "M", Name: "thread_sort_index", Process: p, Thread: t, Args: map[string]any{"sort_index": i}})
	}
}

func (c *chrome) track(i int) {
	p, t := c.on(i)
	draw := func(begin, end time.Duration, name, category string, args map[string]any) {
		length := micros(end - begin)
		c.event(chromeEvent{Phase: "X", Name: name, Category: category, Process: p, Thread: t, At: micros(begin), For: &length, Args: args})
	}
	if begin, end, lives := c.life(i); lives {
		tr := &c.Tracks[i]
		maker := ""
		if tr.Maker.Track != None {
			maker = c.Tracks[tr.Maker.Track].Name
		}
		draw(begin, end, c.trackName(i), "life", map[string]any{"coroutine": tr.Coroutine, "ended": tr.Ended, "made by": maker})
	}
	for _, s := range c.tracks[i] {
		detail := s.detail
		if detail == s.name {
			detail = ""
		}
		draw(s.begin, s.end, s.name, s.state, map[string]any{"where": detail})
	}
}

func (c *chrome) arrows() {
	for i := range c.Arrows {
		a := &c.Arrows[i]
		from, to := c.at(a.From), max(c.at(a.From), c.at(a.To))
		category := "wake"
		if a.Kind == Message {
			category = "message"
		}
		for _, end := range []struct {
			phase, binding string
			point          Point
			at             time.Duration
		}{{"s", "", a.From, from}, {"f", "e", a.To, to}} {
			p, t := c.on(end.point.Track)
			if end.point.Step == None { // an arrow needs something to begin and end at
				c.event(chromeEvent{Phase: "X", Name: a.label(), Category: category, Process: p, Thread: t, At: micros(end.at), For: new(micros)})
			}
			c.event(chromeEvent{Phase: end.phase, Binding: end.binding, Name: a.label(), Category: category, Process: p, Thread: t, At: micros(end.at), ID: i + 1})
		}
	}
}

func (c *chrome) marks() {
	for i := range c.Marks {
		m := &c.Marks[i]
		e := chromeEvent{Phase: "i", Scope: "g", Name: m.Kind.String() + ": " + m.Text, Category: m.Kind.String(), At: micros(c.at(m.Point))}
		if m.Process != None {
			e.Process, e.Scope = c.process(m.Process), "p"
		}
		if m.Point.Track != None {
			e.Process, e.Thread = c.on(m.Point.Track)
			e.Scope = "t"
		}
		if m.By.Track != None {
			e.Args = map[string]any{"by": c.Tracks[m.By.Track].Name}
		}
		c.event(e)
	}
}

func (c *chrome) counters() {
	for i := range c.Counters {
		n := &c.Counters[i]
		name := n.Name
		if n.Unit != "" {
			name += " (" + n.Unit + ")"
		}
		for _, s := range n.Samples {
			c.event(chromeEvent{Phase: "C", Name: name, Process: c.process(n.Process), At: micros(c.sampled(s)), Args: map[string]any{"value": s.Value}})
		}
	}
}
