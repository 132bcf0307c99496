package main

import (
	"fmt"
	"io"
	"math"
	"os"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/goasyncio/asyncio/bench/internal/peer"
)

// A results holds the measurements of a run.
type results struct {
	rounds int
	pinned bool
	date   time.Time
	took   time.Duration
	peers  []peerVersion // the peers found, in the order of the tables
	absent []string
	raw    []string

	times map[cell][]float64 // ns of one of n, a value for each round
	bytes map[cell][]float64 // bytes of one of n
	sizes map[int]bool       // n of the curve

	echoes map[cell]*costs // of servers, whose names are not those of peers
	webs   map[cell]*costs // of implementations of HTTP, which have names of their own too
}

type peerVersion struct{ name, version string }

// A cell is where a row (see label) and a peer meet.
type cell struct{ label, peer string }

func (r *results) add(round int, name string, measured []peer.Measurement) {
	if r.times == nil {
		r.times, r.bytes, r.sizes = map[cell][]float64{}, map[cell][]float64{}, map[int]bool{}
	}
	var both time.Duration // creating and finishing, a point of the curve
	for _, m := range measured {
		r.raw = append(r.raw, fmt.Sprintf("%d,%s,%v\n", round, name, m))
		c := cell{label(m.Row, m.N), name}
		r.times[c] = append(r.times[c], float64(m.Total)/float64(m.N))
		if m.Bytes > 0 {
			r.bytes[c] = append(r.bytes[c], float64(m.Bytes)/float64(m.N))
		}
		switch m.Row {
		case "growth":
			r.sizes[m.N] = true
		case "suspended_create", "suspended_finish":
			both += m.Total
		}
	}
	if both > 0 {
		n := measured[0].N
		r.sizes[n] = true
		c := cell{label("growth", n), name}
		r.times[c] = append(r.times[c], float64(both)/float64(n))
	}
}

func median(v []float64) float64 {
	if len(v) == 0 {
		return math.NaN()
	}
	v = slices.Sorted(slices.Values(v))
	return (v[(len(v)-1)/2] + v[len(v)/2]) / 2
}

// spread measures how far the values lie apart: half the distance between the quartiles, relative
// to the median.
func spread(v []float64) float64 {
	if len(v) < 3 {
		return math.NaN()
	}
	v = slices.Sorted(slices.Values(v))
	return (v[len(v)*3/4] - v[len(v)/4]) / 2 / median(v)
}

// time returns the median time of one operation of a row, NaN if it was not measured. The limit,
// iter.Pull, has one row, switch, which stands for both kinds of yield.
func (r *results) time(row, name string) float64 {
	if name == limit && (row == "yield1" || row == "yield2") {
		row = "switch"
	}
	return median(r.times[cell{row, name}])
}

func (r *results) names() []string {
	var names []string
	for _, p := range r.peers {
		if !slices.Contains(rowless, p.name) {
			names = append(names, p.name)
		}
	}
	return names
}

// measured returns the lines with a measurement of this library.
func (r *results) measured() []line {
	return slices.DeleteFunc(slices.Clone(lines), func(l line) bool { return math.IsNaN(r.time(l.row, library)) })
}

// A table is a head and lines below it.
type table [][]string

func (t table) markdown() string {
	var b strings.Builder
	for i, l := range t {
		fmt.Fprintf(&b, "| %s |\n", strings.Join(l, " | "))
		if i == 0 {
			b.WriteString("| --- |" + strings.Repeat(" ---: |", len(l)-1) + "\n")
		}
	}
	return b.String()
}

func (t table) terminal(w io.Writer) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, l := range t {
		if _, err := fmt.Fprintln(tw, strings.ReplaceAll(strings.Join(l, "\t"), "**", "")); err != nil {
			return err
		}
	}
	return tw.Flush()
}

const nothing = "–" // in a table: not measured

// digits writes v with two significant digits, and without an exponent.
func digits(v float64) string {
	switch {
	case math.IsNaN(v):
		return nothing
	case v >= 10:
		return fmt.Sprintf("%.0f", v)
	case v >= 1:
		return fmt.Sprintf("%.1f", v)
	case v >= 0.095:
		return fmt.Sprintf("%.2f", v)
	}
	return fmt.Sprintf("%.3f", v)
}

// grouped writes v with a comma every three digits.
func grouped(v float64) string {
	if math.IsNaN(v) {
		return nothing
	}
	if v < 100 {
		return digits(v)
	}
	s := fmt.Sprintf("%.0f", v)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// ratios divides the time of this library by the time of each peer. Figures where it is behind are
// bold.
func (r *results) ratios() table {
	t := table{append([]string{"asyncio divided by"}, r.names()[1:]...)}
	for _, l := range r.measured() {
		cells := []string{l.title}
		for _, name := range r.names()[1:] {
			v := r.time(l.row, library) / r.time(l.row, name)
			s := digits(v)
			if v > 1 {
				s = "**" + s + "**"
			}
			cells = append(cells, s)
		}
		t = append(t, cells)
	}
	return t
}

func (r *results) absolute() table {
	t := table{append([]string{"nanoseconds", "for one"}, r.names()...)}
	for _, l := range r.measured() {
		cells := []string{l.title, l.unit}
		for _, name := range r.names() {
			cells = append(cells, grouped(r.time(l.row, name)))
		}
		t = append(t, cells)
	}
	return t
}

// curve shows the time of one task, created, suspended and finished, among n of them.
func (r *results) curve() table {
	var names []string
	for _, name := range r.names() {
		if name != limit && name != concPeer {
			names = append(names, name)
		}
	}
	t := table{append([]string{"nanoseconds for a task of"}, names...)}
	for _, n := range r.ns() {
		cells := []string{grouped(float64(n))}
		for _, name := range names {
			cells = append(cells, grouped(r.time(label("growth", n), name)))
		}
		t = append(t, cells)
	}
	cells := []string{"largest / smallest"}
	for _, name := range names {
		cells = append(cells, digits(r.grows(name)))
	}
	return append(t, cells)
}

func (r *results) ns() []int {
	var ns []int
	for n := range r.sizes {
		ns = append(ns, n)
	}
	slices.Sort(ns)
	return ns
}

// grows divides the largest cost of a task on the curve by the smallest.
func (r *results) grows(name string) float64 {
	least, most := math.NaN(), math.NaN()
	for _, n := range r.ns() {
		if v := r.time(label("growth", n), name); !math.IsNaN(v) {
			if math.IsNaN(least) {
				least, most = v, v
			}
			least, most = min(least, v), max(most, v)
		}
	}
	return most / least
}

func (r *results) memory() table {
	t := table{{"bytes for one suspended task"}, {grouped(float64(r.suspendedN()))}}
	for _, name := range r.names() {
		if v := median(r.bytes[cell{"suspended_create", name}]); !math.IsNaN(v) {
			t[0] = append(t[0], name)
			t[1] = append(t[1], grouped(v))
		}
	}
	return t
}

// suspendedN returns the n of the row suspended, which is the largest of the curve.
func (r *results) suspendedN() int {
	ns := r.ns()
	if len(ns) == 0 {
		return 0
	}
	return ns[len(ns)-1]
}

// A verdict is a table of targets.
type verdict struct{ table }

func newVerdict() *verdict {
	return &verdict{table{{"row", "against", "at most", "measured", "met"}}}
}

// judge compares a measurement with a target, unless there is none.
func (t *verdict) judge(row, against, atMost string, v, limit float64) {
	if math.IsNaN(v) {
		return
	}
	met := "yes"
	if v > limit {
		met = "**no**"
	}
	t.table = append(t.table, []string{row, against, atMost, digits(v), met})
}

// met compares the measurements with the targets, but for those about HTTP.
func (r *results) met() table {
	t := newVerdict()
	for _, g := range targets {
		mine, best := r.time(g.row, library), math.NaN()
		of := r.time
		if g.what == inBytes {
			of = func(row, name string) float64 { return median(r.bytes[cell{row, name}]) }
			mine = of(g.row, library)
		}
		for _, name := range g.against {
			if v := of(g.row, name); math.IsNaN(best) || v < best {
				best = v
			}
		}
		row, against := title(g.row), strings.Join(g.against, " or ")
		switch g.what {
		case inBytes:
			row += ", bytes"
		case plusSwitches:
			best += r.time("switch", limit)
			against += " + 2 switches"
		}
		t.judge(row, against, fmt.Sprint(g.atMost), mine/best, g.atMost)
	}
	r.judgeEcho(t.judge)
	if len(r.ns()) > 1 {
		t.judge("cost of a task, growing n", "itself", fmt.Sprint(flatWithin), r.grows(library), flatWithin)
	}
	return t.table
}

// uncertain describes how far the rounds lay apart.
func (r *results) uncertain() string {
	var all []float64
	for _, v := range r.times {
		if s := spread(v); !math.IsNaN(s) {
			all = append(all, s)
		}
	}
	for _, of := range []map[cell]*costs{r.echoes, r.webs} {
		for _, v := range of {
			if s := spread(v.cpu); !math.IsNaN(s) {
				all = append(all, s)
			}
		}
	}
	if len(all) == 0 {
		return "There are too few rounds to say how far they lie apart."
	}
	slices.Sort(all)
	return fmt.Sprintf("The rounds spread by %.0f%% in the middle row, by %.0f%% in the worst: half the\n"+
		"distance between their quartiles, divided by the median.",
		100*median(all), 100*all[len(all)-1])
}

func (r *results) environment() string {
	var b strings.Builder
	where := "Each program had one core"
	if !r.pinned {
		where = "Programs were not held to one core, there is no taskset"
	}
	fmt.Fprintf(&b, "%s, %s/%s, %d cores of %s. %s.\nRounds: %d. Minutes: %.0f. %s\n\n",
		r.date.Format("January 2006"), runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), cpuModel(), where, r.rounds, r.took.Minutes(), r.uncertain())
	for _, p := range r.peers {
		fmt.Fprintf(&b, "- %s: %s\n", p.name, p.version)
	}
	for _, a := range r.absent {
		fmt.Fprintf(&b, "- absent: %s\n", a)
	}
	return b.String()
}

func cpuModel() string {
	b, _ := os.ReadFile("/proc/cpuinfo")
	_, name, ok := strings.Cut(string(b), "model name")
	if !ok {
		return "an unnamed processor"
	}
	name, _, _ = strings.Cut(name, "\n")
	return strings.TrimSpace(strings.TrimLeft(name, "\t :"))
}

// sections returns the sections to write, by the names of their marks in the document. Those about
// HTTP can be written alone.
func (r *results) sections(all bool) []section {
	http := []section{
		{"http environment", r.environment()},
		{"http", r.webRatios().markdown()},
		{"http targets", r.webMet().markdown()},
		{"http time", r.webCPU().markdown()},
		{"http rate", r.webRate().markdown()},
		{"http memory", r.webMemory().markdown()},
	}
	if !all {
		return http
	}
	return append(http, []section{
		{"environment", r.environment()},
		{"ratios", r.ratios().markdown()},
		{"targets", r.met().markdown()},
		{"growth", r.curve().markdown()},
		{"memory", r.memory().markdown()},
		{"echo", r.echoRatios(echoConn).markdown() + "\n" + r.echoRatios(echoStreams).markdown()},
		{"echo time", r.echoCPU().markdown()},
		{"echo rate", r.echoRate().markdown()},
		{"echo memory", r.echoMemory().markdown()},
		{"absolute", r.absolute().markdown()},
	}...)
}

type section struct{ name, text string }

func (r *results) writeTerminal(w io.Writer) error {
	if _, err := fmt.Fprintf(w, "%s\n", r.environment()); err != nil {
		return err
	}
	var tables []table
	if len(r.times) > 0 {
		tables = []table{r.ratios(), r.met(), r.absolute()}
	} else if len(r.echoes) > 0 {
		tables = []table{r.met()}
	}
	if len(r.sizes) > 0 {
		tables = append(tables, r.curve())
	}
	if len(r.bytes) > 0 {
		tables = append(tables, r.memory())
	}
	if len(r.echoes) > 0 {
		tables = append(tables, r.echoRatios(echoConn), r.echoRatios(echoStreams), r.echoCPU(), r.echoRate(), r.echoMemory())
	}
	if len(r.webs) > 0 {
		tables = append(tables, r.webRatios(), r.webMet(), r.webCPU(), r.webRate(), r.webMemory())
	}
	for _, t := range tables {
		if len(t) == 1 {
			continue // its rows were not asked for
		}
		if err := t.terminal(w); err != nil {
			return err
		}
		if _, err := fmt.Fprintln(w); err != nil {
			return err
		}
	}
	return nil
}

func (r *results) writeDocument(file string, all bool) error {
	b, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	doc, err := fill(string(b), r.sections(all))
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	return os.WriteFile(file, []byte(doc), 0o666)
}

// fill puts each section between its two marks, and leaves everything else as it is.
func fill(doc string, sections []section) (string, error) {
	for _, s := range sections {
		begin, end := fmt.Sprintf("<!-- measured: %s -->\n", s.name), fmt.Sprintf("<!-- end: %s -->\n", s.name)
		before, rest, ok := strings.Cut(doc, begin)
		_, after, ended := strings.Cut(rest, end)
		if !ok || !ended {
			return "", fmt.Errorf("no place for %s: it goes between %q and %q", s.name, begin, end)
		}
		doc = before + begin + s.text + end + after
	}
	return doc, nil
}
