package asyncio_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/internal/inspection"
	"github.com/goasyncio/asyncio/internal/recording"
	"github.com/goasyncio/asyncio/internal/recording/picture"
	"github.com/goasyncio/asyncio/internal/timeline"
	"github.com/goasyncio/asyncio/sim"
)

// recorded returns the recording of a loop, decoded.
func recorded(t *testing.T, l *asyncio.EventLoop) *recording.Loop {
	t.Helper()
	var file bytes.Buffer
	must(t, l.WriteRecording(&file))
	r, err := recording.Decode(file.Bytes())
	must(t, err)
	drawn, err := picture.Of(r)
	must(t, err)
	must(t, drawn.Check())
	return r.Loops[0]
}

// A witness keeps its own account of a program, for TestFlightRecorder_Model.
type witness struct {
	rng    *rand.Rand
	log    []string
	tasks  []*asyncio.Task[int]
	names  map[*asyncio.Task[int]]string
	joined map[string][]string // who waits for a task, in order
	futs   []*asyncio.Future[int]
	queued map[*asyncio.Future[int]][]string
	asleep []string // tasks that sleep for an hour
	of     map[string]*asyncio.Task[int]
	budget int
}

func (w *witness) says(format string, args ...any) {
	w.log = append(w.log, fmt.Sprintf(format, args...))
}

// act is the life of a task.
func (w *witness) act(ctx context.Context, me string) (_ int, err error) {
	w.says("%s steps", me)
	end := "finished"
	defer func() {
		for _, j := range w.joined[me] {
			w.says("%s wakes %s", me, j)
		}
		w.says("%s ends %s", me, end)
	}()
	for range 2 + w.rng.IntN(6) {
		if err := w.one(ctx, me); err != nil {
			end = "failed"
			if errors.As(err, new(*asyncio.CancelledError)) {
				end = "cancelled"
			}
			return 0, err
		}
	}
	if w.rng.IntN(8) == 0 {
		end = "failed"
		return 0, errors.New("on purpose")
	}
	return 0, nil
}

// one does one thing.
func (w *witness) one(ctx context.Context, me string) error {
	switch w.rng.IntN(7) {
	case 0:
		mustNot(asyncio.Sleep(ctx, 0))
		w.says("%s steps", me)
	case 1:
		w.says("%s waits on *asyncio.alarm", me)
		err := asyncio.Sleep(ctx, time.Duration(1+w.rng.IntN(50))*time.Microsecond)
		w.says("%s steps", me)
		return err
	case 2:
		f := asyncio.CreateFuture[int](ctx)
		w.futs = append(w.futs, f)
		w.queued[f] = append(w.queued[f], me)
		w.says("%s waits on *asyncio.future", me)
		_, err := f.Await(ctx)
		w.says("%s steps", me)
		return err
	case 3:
		w.release(me)
	case 4:
		if w.budget > 0 {
			w.budget--
			w.spawn(ctx, me)
		}
	case 5:
		if len(w.tasks) == 0 {
			return nil
		}
		c := w.tasks[w.rng.IntN(len(w.tasks))]
		name := w.names[c]
		if c.Done() || w.waitsFor(name, me) {
			return nil
		}
		w.joined[name] = append(w.joined[name], me)
		w.says("%s joins %s", me, name)
		_, _ = c.Await(ctx)
		w.says("%s steps", me)
	case 6:
		if n := len(w.asleep); n > 0 {
			name := w.asleep[n-1]
			w.asleep = w.asleep[:n-1]
			w.says("%s cancels %s", me, name)
			w.says("%s wakes %s", me, name)
			w.of[name].Cancel("enough of " + name)
		} else if w.budget > 0 {
			w.asleep = append(w.asleep, me)
			w.says("%s waits on *asyncio.alarm", me)
			err := asyncio.Sleep(ctx, time.Hour)
			w.says("%s steps", me)
			return err
		}
	}
	return nil
}

func mustNot(err error) {
	if err != nil {
		panic(err)
	}
}

// waitsFor reports whether the end of a task depends on that of me.
func (w *witness) waitsFor(name, me string) bool {
	return name == me || slices.ContainsFunc(w.joined[me], func(j string) bool { return w.waitsFor(name, j) })
}

// release completes the oldest future that somebody waits for.
func (w *witness) release(me string) {
	if len(w.futs) == 0 {
		return
	}
	f := w.futs[0]
	w.futs = w.futs[1:]
	for _, who := range w.queued[f] {
		w.says("%s wakes %s", me, who)
	}
	mustNot(f.SetResult(1))
}

func (w *witness) spawn(ctx context.Context, me string) {
	name := fmt.Sprintf("t%d 名\"", len(w.of))
	if w.rng.IntN(3) == 0 {
		name = strings.Repeat("x", w.rng.IntN(40)) + name
	}
	w.says("%s makes %s", me, name)
	w.says("%s wakes %s", me, name)
	c := asyncio.CreateTask(ctx, func(ctx context.Context) (int, error) { return w.act(ctx, name) }, asyncio.TaskName(name))
	w.tasks = append(w.tasks, c)
	w.names[c], w.of[name] = name, c
}

// told returns what the recorder has told of the same program.
func told(t *testing.T, l *recording.Loop) (log []string) {
	t.Helper()
	events, err := l.Events()
	must(t, err)
	names := make(map[uint32]string)
	for _, k := range l.Tasks {
		names[k.ID] = k.Name
	}
	for _, e := range events {
		if e.Kind == recording.Made || e.Kind == recording.Known {
			names[e.Task] = e.Text
		}
	}
	for _, e := range events {
		says := func(format string, args ...any) {
			log = append(log, names[e.Task]+" "+fmt.Sprintf(format, args...))
		}
		by := names[e.By.Task]
		switch e.Kind {
		case recording.Step:
			says("steps")
		case recording.Wait:
			says("waits on %s", l.Names[e.Thing.Name].Text)
		case recording.Join:
			says("joins %s", names[e.Thing.Task])
		case recording.Done:
			says("ends %v", e.End)
		case recording.Made:
			log = append(log, by+" makes "+names[e.Task])
		case recording.Wake:
			if e.By.Kind == recording.ATask {
				log = append(log, by+" wakes "+names[e.Task])
			}
		case recording.Cancel:
			log = append(log, by+" cancels "+names[e.Task])
			if want := "enough of " + names[e.Task]; e.Text != want[:min(len(want), 63)] {
				t.Errorf("a cancel with the message %q, want %q", e.Text, want)
			}
		}
	}
	return log
}

// witnessed runs a program that keeps its own account, in so many rounds of some 25 tasks, and
// returns what the recorder has told of it, without what main does not tell, and the account.
func witnessed(t *testing.T, l *asyncio.EventLoop, seed uint64, ring, rounds int) (said, account []string, lost uint64) {
	t.Helper()
	w := &witness{rng: rand.New(rand.NewPCG(seed, 1)), names: map[*asyncio.Task[int]]string{}, joined: map[string][]string{}, queued: map[*asyncio.Future[int]][]string{}, of: map[string]*asyncio.Task[int]{}}
	// Some fail on purpose.
	l.SetExceptionHandler(func(*asyncio.EventLoop, asyncio.ExceptionContext) {})
	l.SetFlightRecorder(ring)
	main := asyncio.CreateTask(l.Context(), asyncio.Do(func(ctx context.Context) error {
		w.says("main steps")
		for range rounds {
			w.budget, w.tasks = 20, nil
			for range 5 {
				w.spawn(ctx, "main")
			}
			mustNot(asyncio.Sleep(ctx, 0))
			w.says("main steps")
			if err := w.finish(ctx); err != nil {
				return err
			}
		}
		return nil
	}), asyncio.TaskName("main"))
	_, err := asyncio.RunUntilComplete(l, main)
	must(t, err)
	r := recorded(t, l)
	must(t, l.Close())
	got := slices.DeleteFunc(told(t, r), func(s string) bool { return s == " makes main" || strings.HasPrefix(s, "main ends") })
	return got, w.log, r.Lost
}

// What the recorder tells of a program is what the program tells of itself: every step, wait, wake
// with its waker, task made with its maker, cancel and end, in their order.
func TestFlightRecorder_Model(t *testing.T) {
	for seed := range uint64(modelRuns(t, 60)) {
		l := sim.NewEventLoop(t.Context())
		if seed%2 == 1 { // on the real clock
			l = asyncio.NewEventLoop(t.Context())
		}
		got, want, _ := witnessed(t, l, seed, 1<<20, 1)
		if !slices.Equal(got, want) {
			i := 0
			for i < len(got) && i < len(want) && got[i] == want[i] {
				i++
			}
			t.Fatalf("seed %d, at %d of %d:\ntold %q\nwant %q", seed, i, len(want), got[max(0, i-3):min(len(got), i+4)], want[max(0, i-3):min(len(want), i+4)])
		}
	}
}

// What is left in a ring that has wrapped around is the end of what the program tells of itself.
func FuzzFlightRecorder_Wraps(f *testing.F) {
	for seed := range uint64(4) {
		f.Add(seed, uint8(30*seed))
	}
	f.Fuzz(func(t *testing.T, seed uint64, more uint8) {
		l := sim.NewEventLoop(t.Context())
		got, want, lost := witnessed(t, l, seed, 1, 40+int(more)) // the smallest ring
		if len(got) > len(want) || (lost == 0) != (len(got) == len(want)) {
			t.Fatalf("%d of %d are told, %d words are lost", len(got), len(want), lost)
		}
		want = want[len(want)-len(got):]
		for i := range got {
			if got[i] != want[i] {
				t.Fatalf("at %d of %d, %d words lost:\ntold %q\nwant %q", i, len(want), lost, got[max(0, i-3):min(len(got), i+4)], want[max(0, i-3):min(len(want), i+4)])
			}
		}
	})
}

// finish has main release and cancel what is left until all tasks have ended.
func (w *witness) finish(ctx context.Context) error {
	for {
		for len(w.futs) > 0 {
			w.release("main")
		}
		for len(w.asleep) > 0 {
			name := w.asleep[0]
			w.asleep = w.asleep[1:]
			w.says("main cancels %s", name)
			w.says("main wakes %s", name)
			w.of[name].Cancel("enough of " + name)
		}
		if !slices.ContainsFunc(w.tasks, func(c *asyncio.Task[int]) bool { return !c.Done() }) {
			return nil
		}
		w.says("main waits on *asyncio.alarm")
		if err := asyncio.Sleep(ctx, time.Millisecond); err != nil {
			return err
		}
		w.says("main steps")
	}
}

// Whatever the ring has lost, what is left can be read, and every task in it has its name.
func TestFlightRecorder_Wraps(t *testing.T) {
	l := sim.NewEventLoop(t.Context())
	l.SetFlightRecorder(1) // the smallest
	var old *asyncio.Task[asyncio.None]
	main := asyncio.CreateTask(l.Context(), asyncio.Do(func(ctx context.Context) error {
		var lock asyncio.Lock
		must(t, lock.Acquire(ctx))
		old = asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error { return lock.Acquire(ctx) }), asyncio.TaskName("old"))
		for i := range 40_000 {
			c := asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error { return asyncio.Sleep(ctx, 0) }), asyncio.TaskName(strings.Repeat("n", i%70)))
			if i%100 == 0 {
				c = asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error { return asyncio.Sleep(ctx, time.Second) }))
			}
			if _, err := c.Await(ctx); err != nil {
				return err
			}
		}
		lock.Release()
		_, err := old.Await(ctx)
		return err
	}), asyncio.TaskName("main"))
	_, err := asyncio.RunUntilComplete(l, main)
	must(t, err)
	r := recorded(t, l)
	must(t, l.Close())
	if r.Lost == 0 || len(r.Words) > 4*recording.BlockWords {
		t.Fatalf("%d words, %d lost", len(r.Words), r.Lost)
	}
	for _, s := range told(t, r) {
		if strings.HasPrefix(s, " ") && !strings.HasPrefix(s, " makes") || strings.HasSuffix(s, " ") {
			t.Fatalf("a task without a name: %q", s)
		}
	}
}

// A hundred goroutines take recordings while tasks come and go, and the recorder is switched off
// and on (recorder 3).
func TestFlightRecorder_Concurrently(t *testing.T) {
	_, err := asyncio.Run(t.Context(), asyncio.Do(func(ctx context.Context) error {
		l := loop(t, ctx)
		l.SetFlightRecorder(1)
		over := asyncio.CreateFuture[int](ctx)
		for range 10 {
			asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error {
				for !over.Done() {
					if _, err := asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error { return asyncio.Sleep(ctx, 0) })).Await(ctx); err != nil {
						return err
					}
				}
				return nil
			}))
		}
		found, err := asyncio.ToThread(ctx, func(ctx context.Context) (int, error) {
			var all sync.WaitGroup
			var mu sync.Mutex
			found := 0
			for range 100 {
				all.Go(func() {
					r, err := inspection.TakeRecording(ctx, "a test")
					if err != nil {
						t.Error(err)
						return
					}
					again, err := recording.Decode(r.Encode())
					if err != nil {
						t.Error(err)
						return
					}
					for _, l := range again.Loops {
						if _, err := l.Events(); err != nil {
							t.Error(err)
						}
						mu.Lock()
						found += len(l.Words)
						mu.Unlock()
					}
				})
			}
			all.Wait()
			return found, nil
		})
		must(t, over.SetResult(1))
		if found == 0 {
			t.Error("the recordings were empty")
		}
		return err
	}))
	must(t, err)
}

// A recording of a loop that is stuck has what is in the ring, without the list (recorder 6), and
// one of a loop that is closed is still there.
func TestFlightRecorder_Stuck(t *testing.T) {
	stuck, release := make(chan struct{}), make(chan struct{})
	ended := make(chan struct{})
	l := asyncio.NewEventLoop(context.Background())
	l.SetFlightRecorder(1 << 16)
	go func() {
		defer close(ended)
		_, err := asyncio.RunUntilComplete(l, asyncio.CreateTask(l.Context(), asyncio.Do(func(ctx context.Context) error {
			must(t, asyncio.Sleep(ctx, 0))
			close(stuck)
			<-release
			return nil
		}), asyncio.TaskName("burns")))
		must(t, err)
	}()
	<-stuck
	r, err := inspection.TakeRecording(context.Background(), "a test")
	must(t, err)
	close(release)
	<-ended
	for _, found := range r.Loops {
		log := told(t, found)
		if found.Listed || !slices.Equal(log, []string{" makes burns", "burns steps", "burns steps"}) {
			t.Errorf("listed %v, told %q", found.Listed, log)
		}
	}
	must(t, l.Close())
	if log := told(t, recorded(t, l)); len(log) != 4 {
		t.Errorf("after the end: %q", log)
	}
}

// Wrong uses are refused.
func TestFlightRecorder_Misuse(t *testing.T) {
	for _, bytes := range []int{-1, 1<<30 + 1} {
		func() {
			defer func() {
				if err, _ := recover().(error); !errors.Is(err, asyncio.ErrInvalidArgument) {
					t.Errorf("a ring of %d bytes: %v", bytes, err)
				}
			}()
			asyncio.FlightRecorder(bytes)
		}()
	}
	run(t, func(ctx context.Context) error {
		l := loop(t, ctx)
		l.SetFlightRecorder(0)
		if err := l.WriteRecording(new(bytes.Buffer)); !errors.Is(err, asyncio.ErrInvalidState) {
			t.Errorf("without a recorder: %v", err)
		}
		l.SetFlightRecorder(1)
		l.SetFlightRecorder(0)
		l.SetFlightRecorder(1)
		return l.WriteRecording(new(bytes.Buffer))
	})
}

// A recording that is asked for right after the recorders were switched on finds them on, although
// the loop has been busy.
func TestFlightRecorder_AskedAtOnce(t *testing.T) {
	_, err := asyncio.Run(t.Context(), asyncio.Do(func(ctx context.Context) error {
		asked, busy := make(chan struct{}), make(chan struct{})
		c := asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error {
			_, err := asyncio.ToThread(ctx, func(ctx context.Context) (int, error) {
				<-busy
				inspection.SetRecording(1 << 17)
				close(asked)
				_, err := inspection.TakeRecording(ctx, "a test")
				return 0, err
			})
			return err
		}))
		if err := asyncio.Sleep(ctx, 0); err != nil {
			return err
		}
		close(busy)
		<-asked // the step goes on for longer than the thread needs to ask
		_, err := c.Await(ctx)
		return err
	}))
	must(t, err)
}

func onThread(ctx context.Context) (int, error) { return 42, nil }

// Functions that ran on threads are in the picture, each with the wake that came of it; those of
// one moment beside each other.
func TestFlightRecorder_Threads(t *testing.T) {
	l := asyncio.NewEventLoop(t.Context())
	l.SetFlightRecorder(1 << 20)
	meet, met := make(chan struct{}), make(chan struct{})
	main := asyncio.CreateTask(l.Context(), asyncio.Do(func(ctx context.Context) error {
		if _, err := asyncio.ToThread(ctx, onThread); err != nil {
			return err
		}
		// These two run at the same time.
		return asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg *asyncio.TaskGroup) error {
			for _, hand := range [][2]chan struct{}{{meet, met}, {met, meet}} {
				tg.CreateTask(ctx, func(ctx context.Context) error {
					_, err := asyncio.ToThread(ctx, func(context.Context) (int, error) {
						select {
						case hand[0] <- struct{}{}:
							<-hand[1]
						case <-hand[1]:
							hand[0] <- struct{}{}
						}
						return 0, nil
					})
					return err
				})
			}
			return nil
		})
	}))
	_, err := asyncio.RunUntilComplete(l, main)
	must(t, err)
	var file bytes.Buffer
	must(t, l.WriteRecording(&file))
	must(t, l.Close())
	r, err := recording.Decode(file.Bytes())
	must(t, err)
	drawn, err := picture.Of(r)
	must(t, err)
	must(t, drawn.Check())
	ran, arrows := make(map[string]int), 0
	for _, s := range drawn.Steps {
		if tr := drawn.Tracks[s.Track]; tr.Kind == timeline.Job {
			ran[tr.Name]++
			if s.Name != "asyncio_test.onThread" && !strings.HasPrefix(s.Name, "asyncio_test.TestFlightRecorder_Threads.") {
				t.Errorf("a function is called %q", s.Name)
			}
		}
	}
	for _, a := range drawn.Arrows {
		if a.From.Track != timeline.None && drawn.Tracks[a.From.Track].Kind == timeline.Job {
			arrows++
		}
	}
	if ran["thread 1"] != 2 || ran["thread 2"] != 1 || arrows != 3 {
		t.Errorf("functions on %v, %d arrows", ran, arrows)
	}
}
