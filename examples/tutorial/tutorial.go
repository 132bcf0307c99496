// Package tutorial holds the eight programs of a Chinese introduction to Python's asyncio (协程), in
// Go, one per file and named as in the original, so that the two can be read side by side. They
// print the same lines at the same times.
//
//	Python                          Go
//	async def fun(): ...            fun := func(ctx context.Context) error { ... }
//	fun()                           asyncio.Do(fun)
//	await others()                  others(ctx)
//	await task                      task.Await(ctx)
//	print(1)                        fmt.Fprintln(stdout, 1)
//
// A coroutine function that returns a value is a func(context.Context) (T, error) and needs no
// [asyncio.Do]. It finds its event loop through ctx: use the ctx it was given.
//
// To see the lessons run, in the root of the repository:
//
//	go run ./cmd/asyncio tutorial
//
// Python's print raises if the output is gone. The lessons ignore the results of fmt.Fprintln;
// instead, the first failed write ends the lesson's context, so that every await fails, and
// [Lesson].Run returns the error.
package tutorial

import (
	"context"
	_ "embed" // the lessons' sources
	"io"
)

// A Lesson is one program of the tutorial.
type Lesson struct {
	Name   string // as the original is called: section, then topic
	Title  string // the topic in words
	Source string // the text of its file

	// Run runs the program on a new event loop, that of [asyncio.WithLoopFactory] if
	// ctx has one. It returns the program's error, which is the cause of ctx if that
	// ended it, or the error of the first write to stdout that failed.
	Run func(ctx context.Context, stdout io.Writer) error
}

var (
	//go:embed lesson_1_1_run_until_complete.go
	runUntilCompleteSource string
	//go:embed lesson_2_2_asyncio_run_pass.go
	asyncioRunPassSource string
	//go:embed lesson_2_2_asyncio_run.go
	asyncioRunSource string
	//go:embed lesson_2_3_await_1.go
	await1Source string
	//go:embed lesson_2_3_await_2.go
	await2Source string
	//go:embed lesson_2_3_await_3.go
	await3Source string
	//go:embed lesson_2_4_task_1.go
	task1Source string
	//go:embed lesson_2_4_task_2.go
	task2Source string
)

// Lessons returns the lessons in the order of the tutorial.
func Lessons() []Lesson {
	return []Lesson{
		{"1.1-run_until_complete", "two coroutines take turns on one loop", runUntilCompleteSource, program(runUntilComplete)},
		{"2.2-asyncio_run_pass", "making a coroutine object runs nothing", asyncioRunPassSource, program(asyncioRunPass)},
		{"2.2-asyncio_run", "Run makes a loop and runs a coroutine on it", asyncioRunSource, program(asyncioRun)},
		{"2.3-await_1", "await a sleep", await1Source, program(await1)},
		{"2.3-await_2", "await a coroutine and use its result", await2Source, program(await2)},
		{"2.3-await_3", "two awaits come one after the other", await3Source, program(await3)},
		{"2.4-task_1", "two tasks run at the same time", task1Source, program(task1)},
		{"2.4-task_2", "wait for a list of named tasks", task2Source, program(task2)},
	}
}

// program makes a Lesson's Run from a lesson, and takes care of write errors.
func program(lesson func(context.Context, io.Writer) error) func(context.Context, io.Writer) error {
	return func(ctx context.Context, stdout io.Writer) error {
		ctx, cancel := context.WithCancelCause(ctx)
		defer cancel(nil)
		out := &output{w: stdout, fail: cancel}
		err := lesson(ctx, out)
		if out.err != nil {
			return out.err // err is a consequence of it
		}
		return err
	}
}

// output is the writer that a lesson prints to. It needs no lock: between two awaits of a task
// nothing else runs.
type output struct {
	w    io.Writer
	fail context.CancelCauseFunc
	err  error // of the first write that failed
}

func (o *output) Write(p []byte) (int, error) {
	if o.err != nil {
		return 0, o.err
	}
	n, err := o.w.Write(p)
	if err != nil {
		o.err = err
		o.fail(err)
	}
	return n, err
}
