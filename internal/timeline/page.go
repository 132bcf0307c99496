package timeline

import (
	"bufio"
	"bytes"
	"embed"
	"encoding/json"
	"html"
	"io"
	"strconv"
	"time"
)

//go:embed page
var page embed.FS

// scripts are the parts of the page's program, in their order. The first four know no page: another
// one can use them to draw what happens in it.
var scripts = []string{"data.js", "axis.js", "view.js", "input.js", "words.js", "page.js"}

// WriteHTML writes t as one page that needs nothing else: lanes of tasks to look at, with zoom and
// search, in English and Chinese. It asks no host for anything. Any goroutine may call it. The
// error is that of w, or of [Timeline.Check].
func (t *Timeline) WriteHTML(w io.Writer) error {
	if err := t.Check(); err != nil {
		return err
	}
	out := bufio.NewWriter(w)
	parts := map[string]func(){
		"title": func() { _, _ = out.WriteString(html.EscapeString(clean(t.Title))) },
		"style": func() { _, _ = out.Write(part("page.css")) },
		"data":  func() { newColumns(out).timeline(t) },
		"script": func() {
			for _, name := range scripts {
				_, _ = out.Write(part(name))
			}
		},
	}
	rest := part("page.html")
	for {
		before, after, found := bytes.Cut(rest, []byte("{{"))
		_, _ = out.Write(before)
		if !found {
			return out.Flush() // with the first error of all
		}
		var name []byte
		name, rest, _ = bytes.Cut(after, []byte("}}"))
		parts[string(name)]()
	}
}

func part(name string) []byte {
	b, err := page.ReadFile("page/" + name)
	if err != nil {
		panic(err) // it is in this package
	}
	return b
}

// columns writes the data of the page as JSON: a column of numbers for each field, with texts by
// their numbers, which is a fifth of the size of one object a step.
type columns struct {
	w       *bufio.Writer
	texts   []string
	numbers map[string]int
}

func newColumns(w *bufio.Writer) *columns {
	c := &columns{w: w, numbers: make(map[string]int)}
	c.text("")
	return c
}

// text returns the number of a text.
func (c *columns) text(s string) int64 {
	n, ok := c.numbers[s]
	if !ok {
		n = len(c.texts)
		c.texts = append(c.texts, s)
		c.numbers[s] = n
	}
	return int64(n)
}

func (c *columns) raw(s string) { _, _ = c.w.WriteString(s) }

func (c *columns) json(v any) {
	b, err := json.Marshal(v) // in which <, > and & are escaped
	if err != nil {
		panic(err) // it has nothing that JSON has not
	}
	_, _ = c.w.Write(b)
}

// A column is a field of all elements of a slice.
type column struct {
	name string
	of   func(i int) int64
}

// part writes a slice of n elements.
func (c *columns) part(name string, n int, fields ...column) {
	c.raw(`,"` + name + `":{`)
	for i, f := range fields {
		if i > 0 {
			c.raw(",")
		}
		c.raw("\n\"" + f.name + `":[`)
		for j := range n {
			if j > 0 {
				_ = c.w.WriteByte(',')
			}
			_, _ = c.w.Write(strconv.AppendInt(c.w.AvailableBuffer(), f.of(j), 10))
		}
		c.raw("]")
	}
	c.raw("}\n")
}

// point returns the columns of a point.
func point(prefix string, of func(i int) *Point) []column {
	return []column{
		{prefix + "track", func(i int) int64 { return int64(of(i).Track) }},
		{prefix + "step", func(i int) int64 { return int64(of(i).Step) }},
		{prefix + "at", func(i int) int64 { return int64(of(i).At) }},
	}
}

// before is when the step before a step began.
func before(steps []Step, i int) time.Duration {
	if i == 0 {
		return 0
	}
	return steps[i-1].Begin
}

// takes is how long something takes, Open if it does not end.
func takes(begin, end time.Duration) int64 {
	if end == Open {
		return int64(Open)
	}
	return int64(end - begin)
}

func (c *columns) timeline(t *Timeline) {
	var start any
	if !t.Start.IsZero() {
		start = t.Start.UnixMilli()
	}
	c.raw(`{"title":`)
	c.json(clean(t.Title))
	c.raw(`,"text":`)
	c.json(clean(t.Text))
	c.raw(`,"start":`)
	c.json(start)
	c.raw(`,"simulated":`)
	c.json(t.Simulated)
	c.parts(t)
	for i, s := range c.texts {
		c.texts[i] = clean(s)
	}
	c.raw(`,"texts":`)
	c.json(c.texts)
	c.raw("}")
}

func (c *columns) parts(t *Timeline) {
	c.part("processes", len(t.Processes),
		column{"name", func(i int) int64 { return c.text(t.Processes[i].Name) }},
		column{"begin", func(i int) int64 { return int64(t.Processes[i].Begin) }},
		column{"end", func(i int) int64 { return int64(t.Processes[i].End) }},
		column{"ended", func(i int) int64 { return c.text(t.Processes[i].Ended) }},
	)
	c.part("tracks", len(t.Tracks), append(point("maker_", func(i int) *Point { return &t.Tracks[i].Maker }),
		column{"process", func(i int) int64 { return int64(t.Tracks[i].Process) }},
		column{"kind", func(i int) int64 { return int64(t.Tracks[i].Kind) }},
		column{"name", func(i int) int64 { return c.text(t.Tracks[i].Name) }},
		column{"coroutine", func(i int) int64 { return c.text(t.Tracks[i].Coroutine) }},
		column{"begin", func(i int) int64 { return int64(t.Tracks[i].Begin) }},
		column{"end", func(i int) int64 { return int64(t.Tracks[i].End) }},
		column{"ended", func(i int) int64 { return c.text(t.Tracks[i].Ended) }},
	)...)
	c.part("steps", len(t.Steps),
		column{"track", func(i int) int64 { return int64(t.Steps[i].Track) }},
		column{"after", func(i int) int64 {
			return int64(t.Steps[i].Begin - before(t.Steps, i))
		}},
		column{"takes", func(i int) int64 { return takes(t.Steps[i].Begin, t.Steps[i].End) }},
		column{"name", func(i int) int64 { return c.text(t.Steps[i].Name) }},
		column{"from", func(i int) int64 { return c.text(t.Steps[i].From) }},
	)
	c.part("waits", len(t.Waits),
		column{"track", func(i int) int64 { return int64(t.Waits[i].Track) }},
		column{"step", func(i int) int64 { return int64(t.Waits[i].After) }},
		column{"begin", func(i int) int64 { return int64(t.Waits[i].Begin) }},
		column{"takes", func(i int) int64 { return takes(t.Waits[i].Begin, t.Waits[i].End) }},
		column{"on", func(i int) int64 { return c.text(t.Waits[i].On) }},
		column{"where", func(i int) int64 { return c.text(t.Waits[i].Where) }},
	)
	c.part("arrows", len(t.Arrows), append(append(point("from_", func(i int) *Point { return &t.Arrows[i].From }), point("to_", func(i int) *Point { return &t.Arrows[i].To })...),
		column{"kind", func(i int) int64 { return int64(t.Arrows[i].Kind) }},
		column{"name", func(i int) int64 { return c.text(t.Arrows[i].Name) }},
		column{"size", func(i int) int64 { return int64(t.Arrows[i].Size) }},
		column{"fate", func(i int) int64 { return int64(t.Arrows[i].Fate) }},
	)...)
	c.part("marks", len(t.Marks), append(append(point("at_", func(i int) *Point { return &t.Marks[i].Point }), point("by_", func(i int) *Point { return &t.Marks[i].By })...),
		column{"kind", func(i int) int64 { return int64(t.Marks[i].Kind) }},
		column{"process", func(i int) int64 { return int64(t.Marks[i].Process) }},
		column{"text", func(i int) int64 { return c.text(t.Marks[i].Text) }},
	)...)
	c.counters(t)
}

func (c *columns) counters(t *Timeline) {
	type counter struct {
		Process int     `json:"process"`
		Name    int64   `json:"name"`
		Unit    int64   `json:"unit"`
		At      []int64 `json:"at"`
		Value   []int64 `json:"value"`
		Step    []int64 `json:"step,omitempty"` // of a simulation
	}
	all := make([]counter, len(t.Counters))
	for i := range t.Counters {
		n := &t.Counters[i]
		all[i] = counter{n.Process, c.text(n.Name), c.text(n.Unit), make([]int64, len(n.Samples)), make([]int64, len(n.Samples)), nil}
		for j, s := range n.Samples {
			all[i].At[j], all[i].Value[j] = int64(s.At), s.Value
			if t.Simulated {
				all[i].Step = append(all[i].Step, int64(s.Step))
			}
		}
	}
	c.raw(`,"counters":`)
	c.json(all)
}
