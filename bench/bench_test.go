package main

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/goasyncio/asyncio/bench/internal/peer"
)

// The Go programs are there wherever the tests run. Each runs each of its rows, untimed.
func TestPrograms(t *testing.T) {
	s, err := newSuite()
	if err != nil {
		t.Fatal(err)
	}
	s.build = t.TempDir()
	known := map[string]bool{}
	for _, j := range jobs {
		known[j.row] = true
	}
	for _, c := range candidates {
		if !slices.Contains([]string{library, limit, goroutines, concPeer}, c.name) {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			p, err := s.find(c)
			if err != nil {
				t.Fatal(err)
			}
			if p.version == "" {
				t.Error("it has no version")
			}
			for row := range p.rows {
				if !known[row] {
					t.Errorf("no job runs its row %s", row)
				}
			}
			for row := range known {
				if c.name == library && row != "switch" && !p.rows[row] {
					t.Errorf("it has no row %s", row)
				}
				if !p.rows[row] {
					continue
				}
				want := []string{row}
				if row == "suspended" {
					want = []string{"suspended_create", "suspended_finish", "suspended_create_again", "suspended_finish_again"}
				}
				const n = 1000
				measured, err := s.measure(p, row, n)
				if err != nil {
					t.Error(err)
					continue
				}
				var got []string
				for _, m := range measured {
					got = append(got, m.Row)
					if m.N != n {
						t.Errorf("%v: n is not %d", m, n)
					}
				}
				if !slices.Equal(got, want) {
					t.Errorf("%s measures %v, want %v", row, got, want)
				}
			}
			if _, err := s.measure(p, "no such row", 1); err == nil {
				t.Error("a row that does not exist was measured")
			}
		})
	}
}

func TestParseLoad(t *testing.T) {
	cpu, rate, held, err := parseLoad("10,2000000000,50,600\n", 3)
	if err != nil || cpu != 5 || rate != 5 || held != 200 {
		t.Errorf("%v, %v, %v, %v", cpu, rate, held, err)
	}
	for _, bad := range []string{"", "1,2,3", "0,1,1,1", "1,1,0,1", "1,x,1,1"} {
		if _, _, _, err := parseLoad(bad, 1); err == nil {
			t.Errorf("%q is read", bad)
		}
	}
}

func TestLines_AreWhatJobsMeasure(t *testing.T) {
	shown := map[string]bool{}
	for _, l := range lines {
		shown[l.row] = true
		program, _, _ := strings.Cut(l.row, "_create")
		program, _, _ = strings.Cut(program, "_finish")
		if !slices.ContainsFunc(jobs, func(j job) bool { return j.row == program }) {
			t.Errorf("no job measures %s", l.row)
		}
	}
	for _, g := range targets {
		if !shown[g.row] {
			t.Errorf("a target is for %s, which is not shown", g.row)
		}
		for _, name := range g.against {
			if !slices.ContainsFunc(candidates, func(c candidate) bool { return c.name == name }) {
				t.Errorf("a target is against %s, which is no peer", name)
			}
		}
	}
}

func TestParse(t *testing.T) {
	m := peer.Measurement{Row: "lock", N: 3, Total: 4 * time.Nanosecond, Bytes: 5}
	if got, err := peer.Parse(m.String() + "\n"); err != nil || got != m {
		t.Errorf("%v, %v; want %v", got, err, m)
	}
	for _, bad := range []string{"", "lock", "lock,1,2", "lock,1,2,3,4", "lock,x,2,3", "lock,0,2,3", "lock,1,0,3", ",1,2,3", "lock,1,2,"} {
		if got, err := peer.Parse(bad); err == nil {
			t.Errorf("%q is read as %v", bad, got)
		}
	}
}

func TestPeerRun_Refuses(t *testing.T) {
	broken := errors.New("broken")
	rows := map[string]peer.Row{"row": peer.Timed("row", func(int) error { return broken })}
	for _, args := range [][]string{nil, {"row"}, {"other", "1"}, {"row", "0"}, {"row", "x"}, {"row", "1", "2"}} {
		if err := peer.Run(io.Discard, rows, nil, nil, args); err == nil || errors.Is(err, broken) {
			t.Errorf("%q: %v", args, err)
		}
	}
	if err := peer.Run(io.Discard, rows, nil, nil, []string{"row", "1"}); !errors.Is(err, broken) {
		t.Errorf("%v, want the row's own error", err)
	}
}

func TestMedianAndSpread(t *testing.T) {
	for _, c := range []struct {
		v              []float64
		median, spread float64
	}{
		{nil, math.NaN(), math.NaN()},
		{[]float64{3}, 3, math.NaN()},
		{[]float64{4, 2}, 3, math.NaN()},
		{[]float64{9, 1, 2}, 2, 2},
		{[]float64{50, 10, 20, 30, 40}, 30, 1. / 3},
	} {
		if got := median(c.v); got != c.median && !(math.IsNaN(got) && math.IsNaN(c.median)) {
			t.Errorf("median(%v) = %v, want %v", c.v, got, c.median)
		}
		if got := spread(c.v); math.Abs(got-c.spread) > 1e-9 || math.IsNaN(got) != math.IsNaN(c.spread) {
			t.Errorf("spread(%v) = %v, want %v", c.v, got, c.spread)
		}
	}
}

func TestNumbers(t *testing.T) {
	for v, want := range map[float64]string{0.004: "0.004", 0.25: "0.25", 1.04: "1.0", 99: "99", 1234567: "1,234,567", 999: "999", 1000: "1,000"} {
		if got := grouped(v); got != want {
			t.Errorf("grouped(%v) = %s, want %s", v, got, want)
		}
	}
}

// aRun is a run with made-up figures that are easy to divide.
func aRun() *results {
	r := &results{rounds: 3, peers: []peerVersion{{library, "go1"}, {limit, "go1"}, {goroutines, "go1"}, {tokio, "tokio 1"}},
		absent: []string{"uvloop (no Python with uvloop)"}}
	for round, ns := range []time.Duration{100, 300, 200} { // the median is 200
		r.add(round, library, []peer.Measurement{{Row: "yield1", N: 10, Total: 10 * ns}})
		r.add(round, library, []peer.Measurement{{Row: "lock", N: 10, Total: 10 * ns}})
		r.add(round, library, []peer.Measurement{{Row: "gather_suspend", N: 10, Total: 10 * ns}})
	}
	r.add(0, limit, []peer.Measurement{{Row: "switch", N: 100, Total: 20000}})
	r.add(0, goroutines, []peer.Measurement{{Row: "lock", N: 10, Total: 1000}})
	r.add(0, tokio, []peer.Measurement{{Row: "lock", N: 10, Total: 8000}})
	r.add(0, tokio, []peer.Measurement{{Row: "gather_suspend", N: 10, Total: 600}})
	for round, cpu := range []float64{2000, 4000, 3000} {
		// in each round a message costs the same, except C's, which costs half
		for _, name := range []string{echoConn, echoStreams, "C", goNet} {
			cost := cpu
			if name == "C" {
				cost /= 2
			}
			r.addEcho(round, name, echoes[1], cost, 50_000, 1000)
		}
	}
	r.addEcho(0, echoConn, echoes[2], 2000, 50_000, 1000)
	r.addEcho(0, "Go net", echoes[2], 4000, 40_000, 3000)
	for _, w := range webs[:4] {
		r.addWeb(0, ourHTTP, w, costs{[]float64{3000}, []float64{50_000}, []float64{700}})
		r.addWeb(0, netHTTP, w, costs{[]float64{4000}, []float64{40_000}, []float64{1000}})
		r.addWeb(0, "Node", w, costs{[]float64{2000}, []float64{30_000}, []float64{3000}})
	}
	fetch := webs[len(webs)-1]
	r.addWeb(0, ourHTTP, fetch, costs{cpu: []float64{1000}})
	r.addWeb(0, netHTTP, fetch, costs{cpu: []float64{2000}})
	for _, n := range []int{10, 100} {
		r.add(0, library, []peer.Measurement{{Row: "growth", N: n, Total: time.Duration(n * 50 * n)}})
	}
	r.add(0, library, []peer.Measurement{
		{Row: "suspended_create", N: 1000, Total: 200_000, Bytes: 4_000_000},
		{Row: "suspended_finish", N: 1000, Total: 100_000},
	})
	r.add(0, goroutines, []peer.Measurement{
		{Row: "suspended_create", N: 1000, Total: 100_000, Bytes: 2_000_000},
		{Row: "suspended_finish", N: 1000, Total: 100_000},
	})
	return r
}

func TestTables(t *testing.T) {
	r := aRun()
	for _, c := range []struct {
		name string
		got  table
		want []string
	}{
		{"ratios", r.ratios(), []string{
			"| yield, 1 task | 1.0 | – | – |",
			"| uncontended lock | – | **2.0** | 0.25 |",
		}},
		{"targets", r.met(), []string{
			"| yield, 1 task | iter.Pull | 1.15 | 1.0 | yes |",
			// 200 / (60 + 200)
			"| gather of 1000 that suspend once | tokio + 2 switches | 1 | 0.77 | yes |",
			"| 1,000,000 suspended, to create, bytes | goroutines | 1.05 | 2.0 | **no** |",
			"| 1,000,000 suspended, to create | goroutines | 1.1 | 2.0 | **no** |",
			"| 1,000,000 suspended, to finish | goroutines | 1 | 1.0 | yes |",
			"| echo over 100 connections, Conn | C | 1.15 | 2.0 | **no** |",
			"| echo over 100 connections, streams | Go net | 0.9 | 1.0 | **no** |",
			"| cost of a task, growing n | itself | 2 | 17 | **no** |", // 5000 / 300
		}},
		{"curve", r.curve(), []string{
			"| 100 | 5,000 | – | – |",
			"| 1,000 | 300 | 200 | – |",
			"| largest / smallest | 17 | 1.0 | – |",
		}},
		{"memory", r.memory(), []string{"| 1,000 | 4,000 | 2,000 |"}},
		{"echo", r.echoRatios(echoConn), []string{
			"| Conn divided by | C | Go net |",
			"| 100 connections | **2.0** | 1.0 |",
			"| 1,000 connections | – | 0.50 |",
		}},
		{"echo time", r.echoCPU(), []string{"| 100 connections | 3,000 | 3,000 | 1,500 | 3,000 |"}},
		{"echo rate", r.echoRate(), []string{"| 1,000 connections | 50,000 | – | – | 40,000 |"}},
		{"echo memory", r.echoMemory(), []string{"| 1,000 connections | 1,000 | – | – | 3,000 |"}},
		{"HTTP", r.webRatios(), []string{
			"| asynciohttp divided by | net/http | Node |",
			"| HTTP/1.1 server, 64 B | 0.75 | **1.5** |",
			"| HTTP/1.1 client, 64 KiB | 0.50 | – |",
		}},
		{"HTTP targets", r.webMet(), []string{
			"| HTTP/1.1 server, 64 B | net/http | 0.8 | 0.75 | yes |",
			"| HTTP/1.1 server, 64 B, 10,000 connections, bytes idle | net/http | 0.6 | 0.70 | **no** |",
			"| HTTP/1.1 client, 64 KiB | net/http | 0.75 | 0.50 | yes |",
		}},
		{"HTTP time", r.webCPU(), []string{"| HTTP/1.1 server, 64 KiB | 3,000 | 4,000 | 2,000 |", "| HTTP/1.1 client, 64 KiB | 1,000 | 2,000 | – |"}},
		{"HTTP memory", r.webMemory(), []string{"| HTTP/1.1 server, 64 B, 10,000 connections | 700 | 1,000 | 3,000 |"}},
		{"absolute", r.absolute(), []string{"| uncontended lock | lock and unlock | 200 | – | 100 | 800 |"}},
	} {
		for _, l := range c.want {
			if got := c.got.markdown(); !strings.Contains(got, l+"\n") {
				t.Errorf("%s: no line\n%s\nin\n%s", c.name, l, got)
			}
		}
	}
	if env := r.environment(); !strings.Contains(env, "- absent: uvloop (no Python with uvloop)\n") {
		t.Errorf("who is absent is not said:\n%s", env)
	}
}

func TestDocument(t *testing.T) {
	const doc = "prose\n<!-- measured: a -->\nold\n<!-- end: a -->\nmore\n<!-- measured: b -->\n<!-- end: b -->\nend\n"
	got, err := fill(doc, []section{{"a", "new $1\n"}, {"b", "b\n"}})
	want := "prose\n<!-- measured: a -->\nnew $1\n<!-- end: a -->\nmore\n<!-- measured: b -->\nb\n<!-- end: b -->\nend\n"
	if err != nil || got != want {
		t.Errorf("%v\n%s", err, got)
	}
	for _, bad := range []string{"a", "a\n<!-- measured: a -->\n"} {
		if _, err := fill(bad, []section{{"a", "x"}}); err == nil {
			t.Errorf("there is a place in %q", bad)
		}
	}
}

// The document of this repository has a place for every section, and fill keeps everything that is
// not measured.
func TestDocument_OfThisRepository(t *testing.T) {
	before, err := os.ReadFile(filepath.Join("..", "docs", "performance.md"))
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "performance.md")
	if err := os.WriteFile(file, before, 0o666); err != nil {
		t.Fatal(err)
	}
	r := aRun()
	if err := r.writeDocument(file, true); err != nil {
		t.Fatal(err)
	}
	after, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(after), r.ratios().markdown()) {
		t.Error("the figures are not in it")
	}
	if got, want := prose(string(after)), prose(string(before)); got != want {
		t.Errorf("the prose is now\n%s\nand was\n%s", got, want)
	}
}

// prose returns a document without the measured sections.
func prose(doc string) string {
	var b strings.Builder
	in := false
	for l := range strings.Lines(doc) {
		if strings.HasPrefix(l, "<!-- end: ") {
			in = false
		}
		if !in {
			b.WriteString(l)
		}
		if strings.HasPrefix(l, "<!-- measured: ") {
			in = true
		}
	}
	return b.String()
}

func TestPlot(t *testing.T) {
	file := filepath.Join(t.TempDir(), "plot.svg")
	r := aRun()
	if err := r.plot(file); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	texts := map[string]bool{}
	for d := xml.NewDecoder(f); ; {
		token, err := d.Token()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if c, ok := token.(xml.CharData); ok {
			texts[strings.TrimSpace(string(c))] = true
		}
	}
	for _, want := range append(r.names(), "uncontended lock", "yield, 1 task") {
		if !texts[want] {
			t.Errorf("%q is not in the plot", want)
		}
	}
	for _, c := range candidates {
		if _, ok := looks[c.name]; !ok && !slices.Contains(rowless, c.name) {
			t.Errorf("%s has no look", c.name)
		}
	}
}

func TestSelect(t *testing.T) {
	for rows, want := range map[string][3]int{
		"lock,growth,echo1":  {4, 1, 0},
		"echo":               {0, len(echoes), 0},
		"http,timer":         {1, 0, len(webs)},
		"fetch1_64,http2_64": {0, 0, 2},
		"":                   {len(jobs), len(echoes), len(webs)},
	} {
		todo, err := selectRows(rows)
		if got := [3]int{len(todo.jobs), len(todo.echoes), len(todo.webs)}; err != nil || got != want {
			t.Errorf("%s: %v, %v, want %v", rows, got, err, want)
		}
	}
	some, err := selectPeers("Tokio,all-cores")
	var names []string
	for _, c := range some {
		names = append(names, c.name)
	}
	if want := []string{library, goroutinesAll, tokio}; err != nil || !slices.Equal(names, want) {
		t.Errorf("%v, %v; want %v", names, err, want)
	}
	if _, err := selectRows("nonsense"); err == nil {
		t.Error("there is a row called nonsense")
	}
	if _, err := selectPeers("nonsense"); err == nil {
		t.Error("there is a peer called nonsense")
	}
}

func TestJob_At(t *testing.T) {
	j := job{row: "lock", n: 1_000_000, slow: 20_000, rounds: 3, slowRounds: 1}
	for _, c := range []struct {
		slow, quick bool
		want        string
	}{{false, false, "1000000 3"}, {true, false, "20000 1"}, {false, true, "10000 3"}, {true, true, "1000 1"}} {
		n, rounds := j.at(c.slow, c.quick, 5)
		if got := fmt.Sprintf("%d %d", n, rounds); got != c.want {
			t.Errorf("at(%v, %v) = %s, want %s", c.slow, c.quick, got, c.want)
		}
	}
}
