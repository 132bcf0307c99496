package gallery

import (
	"fmt"
	"os"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/goasyncio/asyncio/sim"
)

// What the default settings find must not depend on what a test sets: no test of this file sets a
// link, a fault, a pause or a strategy.

// A finding is what an exploration of a bug has shown.
type finding struct {
	*sim.Failure
	took time.Duration // until the failing run
}

// find explores a bug.
func find(t *testing.T, b Bug) finding {
	t.Helper()
	r := sim.Check(b.Main(true), sim.Chaos())
	if r.Failure == nil {
		t.Fatalf("not found: %s", r.Coverage)
	}
	f := finding{r.Failure, time.Hour}
	tries := 3 // the machine may have other things to do
	if raceEnabled {
		tries = 0
	}
	for range tries {
		start := time.Now()
		if r := sim.Check(b.Main(true), sim.Chaos(), sim.Runs(max(1, f.Run-1))); r.Failure != nil && f.Run > 1 {
			t.Fatalf("found in run %d, and now in run %d", f.Run, r.Failure.Run)
		}
		f.took = min(f.took, time.Since(start))
	}
	return f
}

// deviations counts them in the schedule. In f.Deviations several may be one line.
func (f finding) deviations() int {
	return len(regexp.MustCompile(`(?m)^(step|keep|fault|amount|cancel) `).FindAllString(f.Schedule, -1))
}

// explanation is the part of the text that people read before the trace.
func (f finding) explanation() string {
	text, _, _ := strings.Cut(f.Error(), "\n\nseed")
	return text
}

// bugLine returns the place of the line with the mistake, as explanations name places.
func bugLine(t *testing.T, b Bug) string {
	t.Helper()
	file, mark := b.Name+".go", "// BUG: "
	if strings.HasPrefix(b.Name, "raft") {
		file, mark = "raft.go", "// BUG "+b.Name+": "
	}
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var places []string
	lines := strings.Split(string(data), "\n")
	for i, line := range lines {
		if !strings.Contains(strings.ToLower(line), strings.ToLower(mark)) {
			continue
		}
		for strings.HasPrefix(strings.TrimSpace(lines[i]), "//") { // it stands above the line
			i++
		}
		places = append(places, fmt.Sprintf("%s:%d", file, i+1))
	}
	if len(places) != 1 {
		t.Fatalf("the lines with the mistake are %q, want one", places)
	}
	return places[0]
}

// Each bug is found within 200 runs and 2 seconds, and the first ten lines of the explanation have
// the line with the mistake, or the fault that leads there.
func TestBugs_Found(t *testing.T) {
	for i, b := range Bugs {
		if raceEnabled && i%6 > 0 { // the race detector takes ten times as long
			continue
		}
		t.Run(b.Name, func(t *testing.T) {
			f := find(t, b)
			t.Logf("run %d, %v, %d steps\n%s", f.Run, f.took, f.Steps, f.explanation())
			if f.took > 2*time.Second && !raceEnabled {
				t.Errorf("it took %v", f.took)
			}
			checkRow(t, b, f)
			lines := strings.SplitAfterN(f.Error(), "\n", 11)
			top := strings.Join(lines[:min(10, len(lines))], "")
			if !strings.Contains(top, bugLine(t, b)+" ") && !regexp.MustCompile(b.Cause).MatchString(top) {
				t.Errorf("the first ten lines have neither %s nor %q", bugLine(t, b), b.Cause)
			}
		})
	}
}

// checkRow compares the row of README.md with what was found; with ASYNCIO_GALLERY=write it writes
// the row. The time is for people: it is another one each time.
func checkRow(t *testing.T, b Bug, f finding) {
	t.Helper()
	file := b.Name + ".go"
	if strings.HasPrefix(b.Name, "raft") {
		file = "raft.go"
	}
	row := fmt.Sprintf("| [%s](%s) | %s | [%s](%s) | %d | %d ms | %d |", b.Name, file, b.What, b.System, b.Source, f.Run, f.took.Milliseconds()+1, f.deviations())
	data, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	if b.Name == Bugs[0].Name && !strings.Contains(string(data), "```text\n"+f.explanation()+"\n```\n") {
		t.Errorf("README.md lacks\n%s", f.explanation())
	}
	was := regexp.MustCompile(`(?m)^\| \[` + b.Name + `\]\(.*$`).FindString(string(data))
	if os.Getenv("ASYNCIO_GALLERY") == "write" && was != "" {
		if err := os.WriteFile("README.md", []byte(strings.Replace(string(data), was, row, 1)), 0o666); err != nil {
			t.Fatal(err)
		}
		return
	}
	timeless := regexp.MustCompile(`\| \d+ ms \|`)
	if timeless.ReplaceAllString(was, "|") != timeless.ReplaceAllString(row, "|") {
		t.Errorf("README.md has\n%s\nand this is\n%s\nASYNCIO_GALLERY=write go test -run '^TestBugs_Found$' ./examples/gallery writes it", was, row)
	}
}

// The corrected programs stand everything: 10,000 seeds in make sim.
func TestBugs_CorrectedPass(t *testing.T) {
	runs := 200
	if testing.Short() || raceEnabled {
		runs = 10
	}
	for _, b := range Bugs {
		t.Run(b.Name, func(t *testing.T) { sim.Explore(t, b.Main(false), sim.Chaos(), sim.Runs(runs)) })
	}
}

// The same seed gives the same trace, byte for byte, however many processors there are: 1000 times
// with ASYNCIO_EXPLORE=all.
func TestBugs_Repeats(t *testing.T) {
	times := 3
	switch {
	case os.Getenv("ASYNCIO_EXPLORE") == "all":
		times = 1000
	case raceEnabled:
		times = 1
	}
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	for _, b := range Bugs {
		for _, mistake := range []bool{false, true} {
			opts := []sim.Option{sim.Chaos(), sim.WithStrategy(sim.Swarm()), sim.Seed(7)}
			first, failed := sim.Trace(b.Main(mistake), opts...)
			for i := range times {
				runtime.GOMAXPROCS(1 + i%4)
				trace, err := sim.Trace(b.Main(mistake), opts...)
				if trace != first || fmt.Sprint(err) != fmt.Sprint(failed) {
					t.Fatalf("%s: run %d:\n%s%v\nthe first:\n%s%v", b.Name, i, trace, err, first, failed)
				}
			}
		}
	}
}
