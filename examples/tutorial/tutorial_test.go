package tutorial_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/examples/tutorial"
	"github.com/goasyncio/asyncio/sim"
)

// expected is the output of the originals under CPython 3.13, each line behind the seconds since
// the program's start. Go differs in the description of the done tasks: a closure is named after
// the function around it, and a list has brackets.
var expected = map[string][]string{
	"1.1-run_until_complete": {"0 1", "0 2", "5 3", "5 4"},
	"2.2-asyncio_run_pass":   nil,
	"2.2-asyncio_run":        {"0 jugeng"},
	"2.3-await_1":            {"0 come", "2 over"},
	"2.3-await_2":            {"0 执行协程内部代码", "0 start", "5 end", "5 IO请求结束，结果为 返回值"},
	"2.3-await_3": {
		"0 执行协程内部代码", "0 start", "5 end", "5 IO请求结束，结果为 返回值",
		"5 start", "10 end", "10 IO请求结束，结果为 返回值",
	},
	"2.4-task_1": {"0 main开始", "0 main结束", "0 1", "0 1", "5 3", "5 3", "5 None None"},
	"2.4-task_2": {
		"0 main开始", "0 main结束", "0 1", "0 1", "5 3", "5 3",
		"5 [<Task finished name='yan1' coro=<tutorial.task2.func1() done, defined at FILE:LINE> result='返回值'>" +
			" <Task finished name='yan2' coro=<tutorial.task2.func1() done, defined at FILE:LINE> result='返回值'>]",
	},
}

var place = regexp.MustCompile(`defined at .*?lesson_2_4_task_2\.go:\d+`)

// recorder notes each line with the exact time of the loop that was running.
type recorder struct {
	loop  *asyncio.EventLoop
	lines []string
}

func (r *recorder) newEventLoop(ctx context.Context) *asyncio.EventLoop {
	r.loop = sim.NewEventLoop(ctx)
	return r.loop
}

func (r *recorder) Write(p []byte) (int, error) {
	line := place.ReplaceAllString(strings.TrimSuffix(string(p), "\n"), "defined at FILE:LINE")
	r.lines = append(r.lines, fmt.Sprint(r.loop.Time().SinceStart().Seconds(), " ", line))
	return len(p), nil
}

func TestLessons_LinesAndSeconds(t *testing.T) {
	for _, lesson := range tutorial.Lessons() {
		t.Run(lesson.Name, func(t *testing.T) {
			want, ok := expected[lesson.Name]
			if !ok {
				t.Fatal("the tutorial has no such program")
			}
			var r recorder
			ctx := asyncio.WithLoopFactory(t.Context(), r.newEventLoop)
			if err := lesson.Run(ctx, &r); err != nil {
				t.Fatal(err)
			}
			if !slices.Equal(r.lines, want) {
				t.Errorf("printed\n\t%s\nwant\n\t%s", strings.Join(r.lines, "\n\t"), strings.Join(want, "\n\t"))
			}
		})
	}
	if got, want := len(tutorial.Lessons()), len(expected); got != want {
		t.Errorf("%d lessons, want %d", got, want)
	}
}

func TestLessons_SourceIsTheirOwn(t *testing.T) {
	for _, lesson := range tutorial.Lessons() {
		section, _, _ := strings.Cut(lesson.Name, "-")
		if !strings.Contains(lesson.Source, "// Lesson "+section) {
			t.Errorf("the source of %s does not say it is lesson %s:\n%s", lesson.Name, section, lesson.Source)
		}
		file := "lesson_" + strings.NewReplacer(".", "_", "-", "_").Replace(lesson.Name) + ".go"
		want, err := os.ReadFile(file)
		if err != nil {
			t.Error(err)
		} else if lesson.Source != string(want) {
			t.Errorf("the source of %s is not %s", lesson.Name, file)
		}
	}
}

// A failing writer fails at its nth write.
type failingWriter struct{ n int }

var errDiskFull = errors.New("disk full")

func (w *failingWriter) Write(p []byte) (int, error) {
	if w.n--; w.n == 0 {
		return 0, errDiskFull
	}
	if w.n < 0 {
		panic("written to after an error")
	}
	return len(p), nil
}

func TestLessons_ReturnWriteErrors(t *testing.T) {
	for _, lesson := range tutorial.Lessons() {
		for n := 1; n <= len(expected[lesson.Name]); n++ {
			r := new(recorder)
			ctx := asyncio.WithLoopFactory(t.Context(), func(ctx context.Context) *asyncio.EventLoop {
				l := r.newEventLoop(ctx)
				l.SetExceptionHandler(func(_ *asyncio.EventLoop, c asyncio.ExceptionContext) {
					t.Errorf("%s, write %d: reported: %s: %v", lesson.Name, n, c.Message, c.Exception)
				})
				return l
			})
			if err := lesson.Run(ctx, &failingWriter{n}); !errors.Is(err, errDiskFull) {
				t.Errorf("%s, write %d: error %v, want %v", lesson.Name, n, err, errDiskFull)
			}
			// The lesson does not sleep on when nobody can read it any more.
			second, _, _ := strings.Cut(expected[lesson.Name][n-1], " ")
			if got := fmt.Sprint(r.loop.Time().SinceStart().Seconds()); got != second {
				t.Errorf("%s, write %d: ended at second %s, want %s", lesson.Name, n, got, second)
			}
			if !r.loop.IsClosed() {
				t.Errorf("%s, write %d: the loop was not closed", lesson.Name, n)
			}
		}
	}
}

func TestLessons_EndWithTheirContext(t *testing.T) {
	stop := errors.New("stop")
	for _, lesson := range tutorial.Lessons() {
		if len(expected[lesson.Name]) < 2 {
			continue // it does not wait for anything
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		var out bytes.Buffer
		// The real clock, because there the end of a context reaches the loop by another way than
		// on the virtual clock.
		err := lesson.Run(ctx, writerFunc(func(p []byte) (int, error) {
			cancel(stop)
			return out.Write(p)
		}))
		if !errors.Is(err, stop) {
			t.Errorf("%s: error %v, want %v", lesson.Name, err, stop)
		}
		if s := out.String(); strings.Contains(s, "3") || strings.Contains(s, "end") || strings.Contains(s, "over") {
			t.Errorf("%s went on:\n%s", lesson.Name, s)
		}
	}
}

type writerFunc func(p []byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

func ExampleLessons() {
	ctx := asyncio.WithLoopFactory(context.Background(), sim.NewEventLoop)
	for _, lesson := range tutorial.Lessons() {
		if lesson.Name != "2.4-task_1" {
			continue
		}
		if err := lesson.Run(ctx, os.Stdout); err != nil {
			fmt.Println(err)
		}
	}
	// Output:
	// main开始
	// main结束
	// 1
	// 1
	// 3
	// 3
	// None None
}
