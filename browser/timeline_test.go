package browser

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/internal/timeline"
	"github.com/goasyncio/asyncio/sim"
)

// lost is a program of two hosts that fails if one message is lost.
func lost(ctx context.Context) error {
	sim.NetworkOf(ctx).SetLink(sim.Link{MinLatency: time.Millisecond, Loss: 0.05})
	sim.NewHost(ctx, "server", func(ctx context.Context) error {
		conn, err := asyncio.ListenPacket(ctx, "udp", ":7000")
		if err != nil {
			return err
		}
		for p := make([]byte, 100); ; {
			n, from, err := conn.ReadFrom(p)
			if err != nil {
				return err
			}
			if _, err := conn.WriteTo(p[:n], from); err != nil {
				return err
			}
		}
	})
	if err := asyncio.Sleep(ctx, time.Second); err != nil {
		return err
	}
	conn, err := asyncio.DialPacket(ctx, "udp", "server:7000")
	if err != nil {
		return err
	}
	defer conn.Close()
	limited, cancel := asyncio.WithTimeout(ctx, time.Second)
	defer cancel()
	for i := range 5 {
		if _, err := fmt.Fprintf(conn, "hello %d", i); err != nil {
			return err
		}
		if _, err := conn.ReadContext(limited, make([]byte, 100)); err != nil {
			return fmt.Errorf("answer %d: %w", i, err)
		}
	}
	return nil
}

// failure is the page of a failure.
func failure(t *testing.T) []byte {
	t.Helper()
	r := sim.Check(lost)
	if r.Failure == nil {
		t.Fatal(r.Coverage)
	}
	return written(t, r.Failure.WriteTimeline)
}

func written(t *testing.T, write func(io.Writer) error) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := write(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// picture is what the canvas shows.
const picture = `document.getElementById("lanes").toDataURL()`

func TestTimeline_Page(t *testing.T) {
	b := newTab(t, "en-US", 1300, 800)
	url := b.openFile(failure(t))
	b.until(`window.timeline && timeline.view.drawn.steps > 0`)
	b.drawn()
	b.screenshot("timeline-wide")
	if n := eval[int](b, `timeline.view.drawn.lanes`); n < 5 {
		t.Errorf("%d lanes are drawn", n)
	}
	names := eval[string](b, `timeline.data.processes.map(p => p.name).join() + ": " + timeline.data.tracks.map(t => t.name).join()`)
	if !strings.HasPrefix(names, "main,server: ") {
		t.Errorf("the lanes are of %s", names)
	}
	if n := eval[int](b, `timeline.data.arrows.filter(a => a.kind === 1 && a.fate === 1).length`); n != 1 {
		t.Errorf("%d messages are shown as lost, want 1", n)
	}
	for _, text := range []string{"It takes: first in, first out everywhere, except that", "What went wrong", "fault: lose a datagram", "failure: main returned an error"} {
		if !eval[bool](b, fmt.Sprintf(`document.body.innerText.includes(%q)`, text)) {
			t.Errorf("the page does not say %q", text)
		}
	}
	b.clean(url)
}

func TestTimeline_Zoom(t *testing.T) {
	b := newTab(t, "en-US", 1300, 800)
	url := b.openFile(failure(t))
	b.until(`window.timeline && timeline.view.drawn.steps > 0`)
	b.focus("lanes")
	type state struct {
		zoom    float64
		from    float64
		picture string
	}
	look := func() state {
		return state{eval[float64](b, `timeline.view.zoom`), eval[float64](b, `timeline.view.from`), eval[string](b, picture)}
	}
	before := look()
	step := func(what string, act func(), right func(old, new state) bool) {
		t.Helper()
		act()
		after := look()
		if !right(before, after) || after.picture == before.picture {
			t.Errorf("%s: zoom %v -> %v, from %v -> %v, another picture: %v", what, before.zoom, after.zoom, before.from, after.from, after.picture != before.picture)
		}
		before = after
	}
	nearer := func(old, new state) bool { return new.zoom > old.zoom }
	farther := func(old, new state) bool { return new.zoom < old.zoom }
	step("+", func() { b.press("+") }, nearer)
	step("wheel", func() { b.wheel(800, 500, -300) }, nearer)
	step("d", func() { b.press("d") }, func(old, new state) bool { return new.from > old.from && new.zoom == old.zoom })
	step("wheel back", func() { b.wheel(800, 500, 100) }, farther)
	step("-", func() { b.press("-") }, farther)
	step("0", func() { b.press("0") }, func(_, new state) bool { return new.zoom == 1 && new.from == 0 })
	step("by time", func() { b.press("o") }, func(state, state) bool { return eval[bool](b, `timeline.view.axis.byTime`) })
	b.clean(url)
}

func TestTimeline_SearchAndSelect(t *testing.T) {
	b := newTab(t, "en-US", 1300, 800)
	url := b.openFile(failure(t))
	b.until(`window.timeline && timeline.view.drawn.steps > 0`)
	before := eval[string](b, picture)
	b.press("/")
	if got := eval[string](b, `document.activeElement.id`); got != "search" {
		t.Errorf("/ has led to %q", got)
	}
	// The protocol sends a key and its character one after the other; a keyboard sends one event.
	eval[string](b, `document.getElementById("search").value = ""`)
	b.press("server/main")
	if got := eval[string](b, `document.getElementById("count").textContent`); !strings.HasPrefix(got, "1 of ") {
		t.Errorf("the search says %q", got)
	}
	if eval[string](b, picture) == before {
		t.Error("what was not found is not dimmed")
	}
	b.press("\r")
	if got := eval[string](b, `document.querySelector("#details h2").textContent`); got != "Task server/main" {
		t.Errorf("%q is selected", got)
	}
	b.press("\x1b")
	b.focus("lanes")
	b.press("]")
	if got := eval[string](b, `document.querySelector("#details h2").textContent`); !strings.HasPrefix(got, "step ") || !strings.HasSuffix(got, "server/main") {
		t.Errorf("%q is selected", got)
	}
	b.press("n")
	if got := eval[string](b, `document.querySelector("#details h2").textContent`); !strings.HasPrefix(got, "fault: lose a datagram") {
		t.Errorf("%q is selected", got)
	}
	// a click on the first block of the lane of server/main
	x := eval[float64](b, `(() => { const v = timeline.view, t = timeline.data.tracks.find(t => t.process === 1); return v.canvas.getBoundingClientRect().x + v.x(v.axis.begin(t.steps[0]) + 0.5) })()`)
	y := eval[float64](b, `(() => { const v = timeline.view, t = timeline.data.tracks.find(t => t.process === 1); return v.canvas.getBoundingClientRect().y + v.y(v.rowOf(t.index)) + 11 })()`)
	b.run(chromedp.MouseClickXY(x, y))
	b.drawn()
	if got := eval[string](b, `document.querySelector("#details h2").textContent`); !strings.HasPrefix(got, "step ") || !strings.HasSuffix(got, "server/main") {
		t.Errorf("a click has selected %q", got)
	}
	b.screenshot("timeline-selected")
	b.clean(url)
}

func TestTimeline_Chinese(t *testing.T) {
	b := newTab(t, "zh-CN", 480, 900)
	url := b.openFile(failure(t))
	b.until(`window.timeline && timeline.view.drawn.steps > 0`)
	b.drawn()
	b.screenshot("timeline-narrow-zh")
	if got := eval[string](b, `document.documentElement.lang + " " + document.querySelector("#order").textContent`); got != "zh-CN 按顺序" {
		t.Errorf("the page is in %s", got)
	}
	if w := eval[int](b, `document.documentElement.scrollWidth`); w > 480 {
		t.Errorf("the page is %d pixels wide, the window 480", w)
	}
	eval[bool](b, `document.getElementById("lang").click() || true`)
	if got := eval[string](b, `document.documentElement.lang + " " + document.querySelector("#order").textContent`); got != "en By order" {
		t.Errorf("after a click the page is in %s", got)
	}
	missing := eval[string](b, `(() => {
		const keys = (w, at) => Object.entries(w).flatMap(([k, v]) => typeof v === "object" && !Array.isArray(v) ? keys(v, at + k + ".") : [at + k]);
		const en = keys(words.en, ""), zh = keys(words.zh, "");
		return [...en.filter(k => !zh.includes(k)), ...zh.filter(k => !en.includes(k))].join();
	})()`)
	if missing != "" {
		t.Errorf("one of the languages has no %s", missing)
	}
	b.clean(url)
}

func TestTimeline_Dark(t *testing.T) {
	b := newTab(t, "en-US", 1300, 700)
	b.scheme("dark")
	url := b.openFile(failure(t))
	b.until(`window.timeline && timeline.view.drawn.steps > 0`)
	b.drawn()
	b.screenshot("timeline-dark")
	corner := eval[int](b, `Math.round(document.getElementById("lanes").getBoundingClientRect().y) + 40`)
	if n := b.brightness(3, corner); n > 200 {
		t.Errorf("the picture is as bright as %d of 765", n)
	}
	b.scheme("light")
	if n := b.brightness(3, corner); n < 600 {
		t.Errorf("the picture is as dark as %d of 765", n)
	}
	b.clean(url)
}

// steps is a timeline of so many steps on so many tasks, all named alike.
func steps(n, tasks int, name string) *timeline.Timeline {
	line := &timeline.Timeline{Title: name, Text: name, Processes: []timeline.Process{{Name: name, End: timeline.Open}}}
	for range tasks {
		line.Tracks = append(line.Tracks, timeline.Track{Name: name, Coroutine: name, Maker: timeline.Nowhere, End: timeline.Open})
	}
	for i := range n {
		begin, track := time.Duration(i)*1500, i*7%tasks
		line.Steps = append(line.Steps, timeline.Step{Track: track, Begin: begin, End: begin + 1000, From: name})
		line.Waits = append(line.Waits, timeline.Wait{Track: track, After: i, Begin: begin + 1000, End: begin + 1500*time.Duration(tasks) - 500, On: name, Where: name})
		if i > 0 {
			line.Arrows = append(line.Arrows, timeline.Arrow{
				From: timeline.Point{Track: (i - 1) * 7 % tasks, Step: i - 1, At: begin - 1500}, To: timeline.Point{Track: track, Step: i, At: begin},
			})
		}
	}
	if n > 0 {
		line.Marks = []timeline.Mark{{Kind: timeline.Panic, Point: timeline.Point{Track: 0, Step: 0}, By: timeline.Nowhere, Text: name}}
	}
	return line
}

func TestTimeline_Large(t *testing.T) {
	b := newTab(t, "en-US", 1300, 800)
	url := b.openFile(written(t, steps(100_000, 1000, "work").WriteHTML))
	b.until(`window.timeline && timeline.view.drawn.steps > 0`)
	draw := eval[float64](b, `(() => { const t = performance.now(); for (let i = 0; i < 5; i++) timeline.view.draw(); return (performance.now() - t) / 5 })()`)
	zoomed := eval[float64](b, `(() => { timeline.view.zoomTo(timeline.view.axis.extent() / 2, 500); const t = performance.now(); for (let i = 0; i < 5; i++) timeline.view.draw(); return (performance.now() - t) / 5 })()`)
	t.Logf("100,000 steps on 1000 tasks: drawn in %.1f ms, zoomed in in %.1f ms; the page was there after %.0f ms", draw, zoomed, eval[float64](b, `performance.timing.loadEventEnd - performance.timing.navigationStart`))
	if draw > 1000 {
		t.Errorf("a picture takes %.0f ms", draw)
	}
	b.drawn()
	b.screenshot("timeline-large")
	b.clean(url)
}

// Texts may be anything, and there may be nothing.
func TestTimeline_Odd(t *testing.T) {
	b := newTab(t, "en-US", 900, 600)
	evil := `</script><script>alert(1)</script><img src=x onerror=alert(2)>"'&{{data}}` + "\x00\x1b[31m\xff 任务\u2028 "
	for _, line := range []*timeline.Timeline{steps(3, 2, evil), steps(1, 1, "one"), new(timeline.Timeline), steps(0, 1, "idle"), steps(5, 2, "__proto__")} {
		url := b.openFile(written(t, line.WriteHTML))
		b.until(`window.timeline && timeline.view.drawn !== undefined`)
		b.focus("lanes")
		for _, key := range []string{"]", "]", "[", "n", "N", "\r", "+", "-", "o", "0", "w", "s", "a", "d", "?"} {
			b.press(key)
		}
		if got := eval[int](b, `timeline.data.steps.length`); got != len(line.Steps) {
			t.Errorf("the page has %d steps, want %d", got, len(line.Steps))
		}
		if n := eval[int](b, `document.images.length + document.scripts.length`); n != 2 {
			t.Errorf("%d scripts and images, want 2", n)
		}
		b.screenshot("timeline-odd-" + fmt.Sprint(len(line.Steps)))
		b.mu.Lock()
		b.requests = b.requests[len(b.requests)-1:]
		b.mu.Unlock()
		b.clean(url)
	}
}
