package sim_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/sim"
)

// A drawn is the data of a page, by columns.
type drawn struct {
	Title, Text                     string
	Texts                           []string
	Processes, Tracks, Steps, Waits map[string][]int
	Arrows, Marks                   map[string][]int
}

// text returns a column of texts.
func (d *drawn) text(column []int) []string {
	all := make([]string, len(column))
	for i, n := range column {
		all[i] = d.Texts[n]
	}
	return all
}

// name names a track: host/task.
func (d *drawn) name(track int) string {
	name := d.Texts[d.Tracks["name"][track]]
	if name == "" {
		name = []string{"", "callbacks", "network"}[d.Tracks["kind"][track]]
	}
	return d.Texts[d.Processes["name"][d.Tracks["process"][track]]] + "/" + name
}

// readPage returns the data of a page.
func readPage(t *testing.T, page []byte) *drawn {
	t.Helper()
	_, rest, _ := strings.Cut(string(page), `id="data">`)
	data, _, _ := strings.Cut(rest, "</script>")
	d := new(drawn)
	if err := json.Unmarshal([]byte(data), d); err != nil {
		t.Fatalf("%v in %.200s", err, data)
	}
	return d
}

// draw draws a run.
func draw(t *testing.T, main func(ctx context.Context) error, opts ...sim.Option) (*drawn, error) {
	t.Helper()
	var b bytes.Buffer
	err := sim.WriteTimeline(&b, main, opts...)
	return readPage(t, b.Bytes()), err
}

func TestTimeline_BesideTheSchedule(t *testing.T) {
	t.Chdir(t.TempDir())
	first := try("TestBank/transfer", func(t *fakeT) { sim.Explore(t, lostUpdate, sim.WithStrategy(sim.Random())) })
	schedules, _ := filepath.Glob("testdata/sim/TestBank-transfer/*.sim")
	pages, _ := filepath.Glob("testdata/sim/TestBank-transfer/*.html")
	if len(pages) != 1 || len(schedules) != 1 || strings.TrimSuffix(pages[0], ".html") != strings.TrimSuffix(schedules[0], ".sim") {
		t.Fatalf("schedules %q, pages %q", schedules, pages)
	}
	if line := "\ntimeline: " + filepath.ToSlash(pages[0]) + "\n"; !strings.Contains(first.fatal, line) {
		t.Errorf("%s\nlacks %s", first.fatal, line)
	}
	page, err := os.ReadFile(pages[0])
	if err != nil {
		t.Fatal(err)
	}
	d := readPage(t, page)
	if d.Title != "TestBank/transfer" || !strings.Contains(d.Text, "balance 1, want 2") || !strings.Contains(d.Text, "once more: ASYNCIOSIM=") {
		t.Errorf("the page says %s\n%s", d.Title, d.Text)
	}

	// A replay makes it again.
	if err := os.Remove(pages[0]); err != nil {
		t.Fatal(err)
	}
	again := try("TestBank/transfer", func(t *fakeT) { sim.Explore(t, lostUpdate) })
	if _, err := os.Stat(pages[0]); err != nil || !strings.Contains(again.fatal, "timeline: ") {
		t.Errorf("%v\n%s", err, again.fatal)
	}
}

func TestTimeline_ThatCannotBeWritten(t *testing.T) {
	t.Chdir(t.TempDir())
	first := try("TestBank", func(t *fakeT) { sim.Explore(t, lostUpdate, sim.WithStrategy(sim.Random())) })
	_, page, _ := strings.Cut(first.fatal, "\ntimeline: ")
	page, _, _ = strings.Cut(page, "\n")
	if err := os.Remove(page); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(page, 0o777); err != nil {
		t.Fatal(err)
	}
	again := try("TestBank", func(t *fakeT) { sim.Explore(t, lostUpdate) })
	if !strings.Contains(again.fatal, "balance 1, want 2") || strings.Contains(again.fatal, "timeline: ") || !strings.Contains(again.log, "the timeline could not be written") {
		t.Errorf("%s\n%s", again.log, again.fatal)
	}
}

// The tasks of one host: who made whom, who woke whom, what they wait for, how they end.
func TestTimeline_Tasks(t *testing.T) {
	bad := errors.New("bad")
	d, err := draw(t, func(ctx context.Context) error {
		lock := new(asyncio.Lock)
		if err := lock.Acquire(ctx); err != nil {
			return err
		}
		waiter := start(ctx, "waiter", func(ctx context.Context) error { return lock.Acquire(ctx) })
		sleeper := start(ctx, "sleeper", anHour)
		failing := start(ctx, `it's "bad" </script>`, func(context.Context) error { return bad })
		if err := asyncio.Sleep(ctx, time.Second); err != nil {
			return err
		}
		sleeper.Cancel()
		lock.Release()
		_, _, err := asyncio.Wait(ctx, []asyncio.AnyFuture{waiter, sleeper, failing})
		_ = failing.Exception()
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if c := d.Texts[d.Tracks["coroutine"][0]]; !strings.Contains(c, "TestTimeline_Tasks.func1() at picture_test.go:") {
		t.Errorf("the coroutine of main is %s", c)
	}
	ends := d.text(d.Tracks["ended"])
	got := make(map[string]string)
	for i := range ends {
		got[d.name(i)] = ends[i]
	}
	for name, want := range map[string]string{"main/main": "finished", "main/waiter": "finished", "main/sleeper": "cancelled", `main/it's "bad" </script>`: "errors.errorString('bad')"} {
		if got[name] != want {
			t.Errorf("%s ended: %q, want %q", name, got[name], want)
		}
	}
	for i := range ends {
		switch name := d.name(i); name {
		case "main/waiter", "main/sleeper":
			if maker := d.Tracks["maker_track"][i]; maker < 0 || d.name(maker) != "main/main" {
				t.Errorf("%s was made by %d", name, maker)
			}
		}
	}
	waits := make(map[string]bool)
	for i, on := range d.text(d.Waits["on"]) {
		waits[d.name(d.Waits["track"][i])+" "+on+" "+d.Texts[d.Waits["where"][i]]] = true
	}
	lock := false
	for w := range waits {
		lock = lock || strings.HasPrefix(w, "main/waiter <asyncio.Lock [locked") && strings.Contains(w, "waits in asyncio.(*Lock).Acquire at picture_test.go:")
	}
	if !lock {
		t.Errorf("no wait for the lock among %v", waits)
	}
	woken := make(map[string]bool)
	for i := range d.Arrows["kind"] {
		woken[d.name(d.Arrows["from_track"][i])+" > "+d.name(d.Arrows["to_track"][i])] = true
	}
	if !woken["main/main > main/waiter"] || !woken["main/main > main/sleeper"] {
		t.Errorf("the arrows are %v", woken)
	}
}

// talk is a program of two hosts, of which one crashes and comes back.
func talk(ctx context.Context) error {
	network := sim.NetworkOf(ctx)
	server := sim.NewHost(ctx, "server", func(ctx context.Context) error {
		c, err := asyncio.ListenPacket(ctx, "udp", ":1")
		if err != nil {
			return err
		}
		for p := make([]byte, 100); ; {
			if _, _, err := c.ReadFrom(p); err != nil {
				return err
			}
		}
	})
	if err := asyncio.Sleep(ctx, time.Second); err != nil {
		return err
	}
	c, err := asyncio.DialPacket(ctx, "udp", "server:1")
	if err != nil {
		return err
	}
	defer c.Close()
	say := func(s string) error {
		if _, err := c.Write([]byte(s)); err != nil {
			return err
		}
		return asyncio.Sleep(ctx, time.Second)
	}
	if err := say("a"); err != nil {
		return err
	}
	network.AddRule(sim.Rule{To: "server", Do: sim.Drop, Times: 1})
	if err := say("bb"); err != nil {
		return err
	}
	held := network.AddRule(sim.Rule{To: "server", Do: sim.Hold, Times: 2})
	for _, s := range []string{"ccc", "dddd"} {
		if err := say(s); err != nil {
			return err
		}
	}
	held.Release()
	if err := asyncio.Sleep(ctx, time.Second); err != nil {
		return err
	}
	sim.Note(ctx, "now it crashes")
	server.Crash()
	if err := asyncio.Sleep(ctx, time.Second); err != nil {
		return err
	}
	server.Restart()
	if err := asyncio.Sleep(ctx, time.Second); err != nil {
		return err
	}
	network.AddRule(sim.Rule{To: "server", Do: sim.Hold})
	return say("eeeee")
}

func TestTimeline_Messages(t *testing.T) {
	d, err := draw(t, talk)
	if err != nil {
		t.Fatal(err)
	}
	var lives, messages, notes []string
	for i, name := range d.text(d.Processes["name"]) {
		lives = append(lives, name+" "+d.Texts[d.Processes["ended"][i]])
	}
	for i, kind := range d.Arrows["kind"] {
		if kind != 1 {
			continue
		}
		from, to := d.name(d.Arrows["from_track"][i]), d.name(d.Arrows["to_track"][i])
		messages = append(messages, fmt.Sprintf("%s to %s: %d bytes, fate %d, arrived %v", from, to, d.Arrows["size"][i], d.Arrows["fate"][i], d.Arrows["to_at"][i] >= 0))
	}
	for i, kind := range d.Marks["kind"] {
		if kind == 0 {
			notes = append(notes, d.Texts[d.Marks["text"][i]])
		}
	}
	for _, c := range []struct{ what, got, want string }{
		{"lives", fmt.Sprintf("%q", lives), `["main " "server crashed" "server "]`},
		{"messages", strings.Join(messages, "\n"), `main/main to server/main: 1 bytes, fate 0, arrived true
main/main to server/network: 2 bytes, fate 1, arrived false
main/main to server/main: 3 bytes, fate 2, arrived true
main/main to server/network: 4 bytes, fate 2, arrived true
main/main to server/network: 5 bytes, fate 2, arrived false`},
		{"notes", fmt.Sprint(strings.Contains(strings.Join(notes, "|"), "now it crashes")), "true"},
	} {
		if c.got != c.want {
			t.Errorf("%s: %s, want %s", c.what, c.got, c.want)
		}
	}
}

// A stream: its segments are named by the writes whose bytes they have.
func TestTimeline_Writes(t *testing.T) {
	d, err := draw(t, func(ctx context.Context) error {
		sim.NewHost(ctx, "server", func(ctx context.Context) error {
			listener, err := asyncio.Listen(ctx, "tcp", ":1")
			if err != nil {
				return err
			}
			conn, err := listener.AcceptContext(ctx)
			if err != nil {
				return err
			}
			_, err = io.Copy(io.Discard, conn)
			return errors.Join(err, conn.Close(), listener.Close())
		})
		if err := asyncio.Sleep(ctx, time.Second); err != nil {
			return err
		}
		c, err := asyncio.Dial(ctx, "tcp", "server:1")
		if err != nil {
			return err
		}
		for _, s := range []string{"one", "two", strings.Repeat("x", 3000)} {
			if _, err := io.WriteString(c, s); err != nil {
				return err
			}
		}
		if err := c.Close(); err != nil {
			return err
		}
		return asyncio.Sleep(ctx, time.Second)
	})
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[string]int)
	for i, name := range d.text(d.Arrows["name"]) {
		if d.Arrows["kind"][i] == 1 {
			got[name] += d.Arrows["size"][i]
		}
	}
	if got["write 1"] != 3 || got["write 2"] != 3 || got["write 3"] != 3000 {
		t.Errorf("the messages are %v", got)
	}
	if _, ok := got["connection request"]; !ok {
		t.Errorf("the request is not among %v", got)
	}
}

// A picture changes nothing: a run with it makes the steps of the run without.
func TestTimeline_ChangesNothing(t *testing.T) {
	for _, main := range []func(context.Context) error{talk, lostUpdate} {
		for seed := range uint64(20) {
			opts := []sim.Option{sim.WithStrategy(sim.Swarm()), sim.Seed(seed), sim.Chaos()}
			trace, want := sim.Trace(main, opts...)
			d, err := draw(t, main, opts...)
			if fmt.Sprint(err) != fmt.Sprint(want) {
				t.Fatalf("seed %d: %v, want %v", seed, err, want)
			}
			last := 0
			for line := range strings.Lines(trace) {
				var n int
				if _, err := fmt.Sscanf(strings.TrimLeft(line, " *"), "%d ", &n); err == nil {
					last = max(last, n)
				}
			}
			if got := len(d.Steps["track"]); got != last {
				t.Errorf("seed %d: %d steps, want %d", seed, got, last)
			}
		}
	}
}

// Nothing, and a panic.
func TestTimeline_Ends(t *testing.T) {
	d, err := draw(t, func(context.Context) error { return nil })
	if err != nil || len(d.Tracks["name"]) == 0 {
		t.Errorf("%v, tracks %v", err, d.Tracks)
	}
	d, err = draw(t, func(context.Context) error { panic("ouch") })
	if err == nil {
		t.Error("no error")
	}
	kinds := make(map[int]string)
	for i, k := range d.Marks["kind"] {
		kinds[k] = d.Texts[d.Marks["text"][i]]
	}
	if kinds[2] != "PanicError('ouch')" || !strings.Contains(kinds[6], "ouch") {
		t.Errorf("the marks are %v", kinds)
	}
	if err := sim.WriteTimeline(brokenFile{}, func(context.Context) error { return nil }); err != io.ErrShortWrite {
		t.Errorf("the error is %v", err)
	}
	f := sim.Check(func(ctx context.Context) error { return errors.New("always") }).Failure
	if err := f.WriteTimeline(io.Discard); err != nil {
		t.Error(err)
	}
	if err := new(sim.Failure).WriteTimeline(io.Discard); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("the error is %v", err)
	}
}

type brokenFile struct{}

func (brokenFile) Write([]byte) (int, error) { return 0, io.ErrShortWrite }
