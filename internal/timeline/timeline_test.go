package timeline_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/goasyncio/asyncio/internal/timeline"
)

// none and nowhere are for what is left out.
const none = timeline.None

var nowhere = timeline.Nowhere

// small is a timeline with something of every kind.
func small() *timeline.Timeline {
	at := func(track, step int, t time.Duration) timeline.Point {
		return timeline.Point{Track: track, Step: step, At: t}
	}
	return &timeline.Timeline{
		Title: "TestSmall", Text: "it went wrong\nhere", Start: time.Unix(1_000_000_000, 0), Simulated: true,
		Processes: []timeline.Process{
			{Name: "main", End: timeline.Open},
			{Name: "db", End: 30, Ended: "crashed"},
			{Name: "db", Begin: 40, End: timeline.Open},
		},
		Tracks: []timeline.Track{
			{Process: 0, Name: "main", Coroutine: "main.main() at main.go:7", Maker: nowhere, End: timeline.Open},
			{Process: 1, Name: "server", Maker: at(0, 0, 0), End: 30, Ended: "crashed"},
			{Process: 2, Name: "server", Maker: nowhere, Begin: 40, End: timeline.Open},
			{Process: 2, Kind: timeline.Network, Maker: nowhere, Begin: 40, End: timeline.Open},
			{Process: 0, Kind: timeline.Callbacks, Maker: nowhere, End: timeline.Open},
		},
		Steps: []timeline.Step{
			{Track: 0, From: "main.go:7"},
			{Track: 1},
			{Track: 0, From: "main.go:9"},
			{Track: 1, Begin: 20, End: 25, From: "db.go:3"},
			{Track: 2, Begin: 40, End: 40},
			{Track: 4, Begin: 40, End: 40, Name: "timer"},
		},
		Waits: []timeline.Wait{
			{Track: 0, After: 0, On: "<Future pending>", Where: "waits in asyncio.Sleep at main.go:9"},
			{Track: 1, After: 1, End: 20, On: "<asyncio.Lock [locked]>"},
			{Track: 1, After: 3, Begin: 25, End: 30},
			{Track: 0, After: 2, End: timeline.Open},
		},
		Arrows: []timeline.Arrow{
			{Kind: timeline.Wake, From: at(1, 1, 0), To: at(0, 2, 0)},
			{Kind: timeline.Message, From: at(0, 2, 0), To: at(1, 3, 20), Name: "write 1", Size: 12},
			{Kind: timeline.Message, From: at(1, 3, 20), To: at(3, none, timeline.Open), Name: "write 2", Fate: timeline.Lost},
			{Kind: timeline.Message, From: at(0, 2, 0), To: at(3, none, 41), Name: "write 3", Fate: timeline.Held},
		},
		Marks: []timeline.Mark{
			{Kind: timeline.Fault, Process: 1, Point: at(none, 3, 30), By: nowhere, Text: "crash of db"},
			{Kind: timeline.Deviation, Process: 0, Point: at(0, 2, 0), By: nowhere, Text: "before 'x'"},
			{Kind: timeline.Cancel, Process: 0, Point: at(0, 2, 0), By: at(1, 1, 0), Text: "no longer wanted"},
			{Kind: timeline.Failure, Process: none, Point: at(none, none, 41), By: nowhere, Text: "it went wrong"},
		},
		Counters: []timeline.Counter{
			{Process: 0, Name: "ready", Samples: []timeline.Sample{{At: 0, Value: 1, Step: 0}, {At: 20, Value: 3, Step: none}}},
			{Process: none, Name: "lag", Unit: "ns", Samples: []timeline.Sample{{At: 10, Value: 1 << 40, Step: none}}},
		},
	}
}

// large is a timeline of so many steps, of which each wakes the next.
func large(steps int) *timeline.Timeline {
	t := &timeline.Timeline{Title: "large", Processes: []timeline.Process{{Name: "loop", End: timeline.Open}}}
	const tasks = 100
	for i := range tasks {
		t.Tracks = append(t.Tracks, timeline.Track{Name: fmt.Sprint("Task-", i), Coroutine: "main.work()", Maker: nowhere, End: timeline.Open})
	}
	for i := range steps {
		begin := time.Duration(i) * 1500
		t.Steps = append(t.Steps, timeline.Step{Track: i * 7 % tasks, Begin: begin, End: begin + 1000, From: fmt.Sprint("main.go:", i%40)})
		t.Waits = append(t.Waits, timeline.Wait{Track: i * 7 % tasks, After: i, Begin: begin + 1000, End: timeline.Open, On: "<Queue>"})
		if i > 0 {
			t.Arrows = append(t.Arrows, timeline.Arrow{
				From: timeline.Point{Track: (i - 1) * 7 % tasks, Step: i - 1, At: begin - 1500}, To: timeline.Point{Track: i * 7 % tasks, Step: i, At: begin},
			})
		}
	}
	return t
}

// written returns what a writer writes.
func written(t *testing.T, write func(io.Writer) error) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := write(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// dataOf returns the JSON in a page.
func dataOf(t *testing.T, page []byte) map[string]any {
	t.Helper()
	_, rest, ok := strings.Cut(string(page), `<script type="application/json" id="data">`)
	data, _, ok2 := strings.Cut(rest, "</script>")
	var v map[string]any
	if err := json.Unmarshal([]byte(data), &v); err != nil || !ok || !ok2 {
		t.Fatalf("the page has no data: %v", err)
	}
	return v
}

func TestTimeline_HTML(t *testing.T) {
	page := written(t, small().WriteHTML)
	data := dataOf(t, page)
	texts := data["texts"].([]any)
	var names []any
	for _, n := range data["tracks"].(map[string]any)["name"].([]any) {
		names = append(names, texts[int(n.(float64))])
	}
	if got := fmt.Sprint(names); got != "[main server server  ]" {
		t.Errorf("the tracks are %s", got)
	}
	if got := fmt.Sprint(data["steps"].(map[string]any)["after"]); got != "[0 0 0 20 20 0]" {
		t.Errorf("the steps begin %s after each other", got)
	}
	for _, part := range []string{"<title>TestSmall</title>", "class TimelineData", "class TimelineView", "default-src 'none'"} {
		if !bytes.Contains(page, []byte(part)) {
			t.Errorf("the page has no %s", part)
		}
	}
	for _, host := range []string{"http://", "https://", "src=", "@import", "url("} {
		if bytes.Contains(page, []byte(host)) {
			t.Errorf("the page has %s, and so may ask a host for something", host)
		}
	}
}

// Texts may be anything.
func TestTimeline_Texts(t *testing.T) {
	evil := "</script><script>alert(1)</script> {{data}} \"'`\\ \x00\x1b[31m\x7f \xff\xfe 任务\u2028\u202e " + strings.Repeat("长", 5000)
	line := small()
	line.Title, line.Text = evil, evil
	for i := range line.Processes {
		line.Processes[i].Name, line.Processes[i].Ended = evil, evil
	}
	for i := range line.Tracks {
		line.Tracks[i].Name, line.Tracks[i].Coroutine, line.Tracks[i].Ended = evil, evil, evil
	}
	for i := range line.Steps {
		line.Steps[i].Name, line.Steps[i].From = evil, evil
	}
	for i := range line.Waits {
		line.Waits[i].On, line.Waits[i].Where = evil, evil
	}
	for i := range line.Arrows {
		line.Arrows[i].Name = evil
	}
	for i := range line.Marks {
		line.Marks[i].Text = evil
	}
	for i := range line.Counters {
		line.Counters[i].Name, line.Counters[i].Unit = evil, evil
	}
	page := written(t, line.WriteHTML)
	if n := bytes.Count(page, []byte("</script>")); n != bytes.Count(written(t, small().WriteHTML), []byte("</script>")) {
		t.Errorf("a text ends a script: %d of them end", n)
	}
	if got := dataOf(t, page)["title"].(string); !strings.Contains(got, "alert(1)") || !strings.Contains(got, "任务") || strings.ContainsAny(got, "\x00\x1b\x7f") {
		t.Errorf("the title is %.100q", got)
	}
	var chrome any
	if err := json.Unmarshal(written(t, line.WriteChrome), &chrome); err != nil {
		t.Error(err)
	}
	written(t, line.WritePerfetto)
}

func TestTimeline_Chrome(t *testing.T) {
	var trace struct {
		TraceEvents []struct {
			Ph, Name, Cat string
			Pid, Tid, ID  int
			Ts, Dur       float64
			Args          map[string]any
		}
	}
	if err := json.Unmarshal(written(t, small().WriteChrome), &trace); err != nil {
		t.Fatal(err)
	}
	phases := make(map[string]int)
	var steps, names []string
	for _, e := range trace.TraceEvents {
		phases[e.Ph]++
		switch {
		case e.Cat == "step":
			steps = append(steps, fmt.Sprintf("%d/%d %s %v+%v", e.Pid, e.Tid, e.Name, e.Ts, e.Dur))
		case e.Name == "process_name":
			names = append(names, e.Args["name"].(string))
		}
	}
	want := "[1/1 main.go:7 0+0.001 1/1 main.go:9 0.002+0.001 2/2 runs 0.001+0.001 2/2 db.go:3 0.02+0.005 3/3 runs 0.04+0.001 1/5 timer 0.041+0.001]"
	if got := fmt.Sprint(steps); got != want {
		t.Errorf("the steps are\n%s, want\n%s", got, want)
	}
	if got := strings.Join(names, ", "); got != "main, db, db (life 2)" {
		t.Errorf("the processes are %s", got)
	}
	if phases["s"] != 4 || phases["f"] != 4 || phases["i"] != 4 || phases["C"] != 3 {
		t.Errorf("the phases are %v", phases)
	}
}

// Nothing, one step, and many of them.
func TestTimeline_Sizes(t *testing.T) {
	empty := new(timeline.Timeline)
	one := &timeline.Timeline{
		Processes: []timeline.Process{{Name: "p"}}, Tracks: []timeline.Track{{Name: "t", Maker: nowhere, End: timeline.Open}}, Steps: []timeline.Step{{}},
	}
	for _, line := range []*timeline.Timeline{empty, one, large(100_000)} {
		start := time.Now()
		page := written(t, line.WriteHTML)
		took := time.Since(start)
		dataOf(t, page)
		perfetto, chrome := written(t, line.WritePerfetto), written(t, line.WriteChrome)
		t.Logf("%d steps: page %d bytes in %v, Perfetto %d, Chrome %d", len(line.Steps), len(page), took.Round(time.Millisecond), len(perfetto), len(chrome))
		if len(page) > 16<<20 {
			t.Errorf("%d bytes for %d steps", len(page), len(line.Steps))
		}
	}
}

// The last steps, however many, are a timeline too.
func TestTimeline_Last(t *testing.T) {
	for _, whole := range []*timeline.Timeline{small(), large(1000)} {
		for n := range len(whole.Steps) + 2 {
			last := whole.Last(n)
			if err := last.Check(); err != nil {
				t.Fatalf("the last %d of %d: %v", n, len(whole.Steps), err)
			}
			if got := len(last.Steps); got != min(n, len(whole.Steps)) {
				t.Errorf("%d steps, want %d", got, n)
			}
			for i, s := range last.Steps {
				of := whole.Steps[len(whole.Steps)-len(last.Steps)+i]
				if last.Tracks[s.Track].Name != whole.Tracks[of.Track].Name || s.Begin != of.Begin {
					t.Fatalf("step %d of the last %d is another one", i, n)
				}
			}
		}
		if err := whole.Check(); err != nil {
			t.Errorf("the whole has changed: %v", err)
		}
	}
	if last := small().Last(2); len(last.Steps) != 2 || len(last.Arrows) != 2 || len(last.Marks) != 4 {
		t.Errorf("%d steps, %d arrows, %d marks", len(last.Steps), len(last.Arrows), len(last.Marks))
	}
}

func TestTimeline_Check(t *testing.T) {
	for _, c := range []struct {
		name, want string
		change     func(*timeline.Timeline)
	}{
		{"process", "track 0: there is no process 9", func(l *timeline.Timeline) { l.Tracks[0].Process = 9 }},
		{"maker", "track 0: there is no step 99", func(l *timeline.Timeline) { l.Tracks[0].Maker.Step = 99 }},
		{"track kind", "track 1: wrong kind", func(l *timeline.Timeline) { l.Tracks[1].Kind = 77 }},
		{"track", "step 1: there is no track -1", func(l *timeline.Timeline) { l.Steps[1].Track = -1 }},
		{"order", "step 4: wrong order", func(l *timeline.Timeline) { l.Steps[4].Begin = 3; l.Steps[4].End = 3 }},
		{"overlap", "step 3: wrong order", func(l *timeline.Timeline) { l.Steps[1].End = 21 }},
		{"end", "step 3: it is from 20ns to 1ns", func(l *timeline.Timeline) { l.Steps[3].End = 1 }},
		{"wait", "wait 1: there is no step -2", func(l *timeline.Timeline) { l.Waits[1].After = -2 }},
		{"arrow", "arrow 0: there is no track -1", func(l *timeline.Timeline) { l.Arrows[0].To.Track = none }},
		{"fate", "arrow 2: wrong kind", func(l *timeline.Timeline) { l.Arrows[2].Fate = 9 }},
		{"mark", "mark 1: wrong kind", func(l *timeline.Timeline) { l.Marks[1].Kind = 99 }},
		{"time", "mark 0: it is from -5ns", func(l *timeline.Timeline) { l.Marks[0].Point.At = -5 }},
		{"sample", "counter 0: wrong order", func(l *timeline.Timeline) { l.Counters[0].Samples[0].At = 21 }},
		{"sampled", "counter 0: there is no step 50", func(l *timeline.Timeline) { l.Counters[0].Samples[0].Step = 50 }},
	} {
		t.Run(c.name, func(t *testing.T) {
			line := small()
			if err := line.Check(); err != nil {
				t.Fatal(err)
			}
			c.change(line)
			for _, write := range []func(io.Writer) error{line.WriteHTML, line.WritePerfetto, line.WriteChrome} {
				if err := write(io.Discard); err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("the error is %v, want %s", err, c.want)
				}
			}
		})
	}
}

// broken is a file on a full disk.
type broken struct{ room int }

var errFull = fmt.Errorf("full")

func (b *broken) Write(p []byte) (int, error) {
	if b.room -= len(p); b.room < 0 {
		return 0, errFull
	}
	return len(p), nil
}

func TestTimeline_WriteError(t *testing.T) {
	line := large(2000)
	for _, write := range []func(io.Writer) error{line.WriteHTML, line.WritePerfetto, line.WriteChrome} {
		if err := write(&broken{10_000}); err != errFull {
			t.Errorf("the error is %v", err)
		}
	}
}

// Any goroutines may write one timeline.
func TestTimeline_WritersConcurrent(t *testing.T) {
	line := large(100)
	done := make(chan struct{})
	for range 4 {
		go func() {
			defer func() { done <- struct{}{} }()
			for _, write := range []func(io.Writer) error{line.WriteHTML, line.WritePerfetto, line.WriteChrome} {
				if err := write(io.Discard); err != nil {
					t.Error(err)
				}
			}
		}()
	}
	for range 4 {
		<-done
	}
}
