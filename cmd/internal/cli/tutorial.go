package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/examples/tutorial"
	"github.com/goasyncio/asyncio/sim"
)

func newTutorialCommand(lessons []tutorial.Lesson) *cobra.Command {
	var list, source, virtual bool
	cmd := &cobra.Command{
		Use:   "tutorial [lesson...]",
		Short: "Run the lessons of the tutorial, or show them",
		Long: "tutorial runs the lessons named, or all of them in order. Each line they print is\n" +
			"shown behind the seconds since the lesson's first line.",
		Example: "  asyncio tutorial\n" +
			"  asyncio tutorial --virtual 2.3-await_3 2.4-task_1\n" +
			"  asyncio tutorial --source 2.4-task_1",
		RunE: func(cmd *cobra.Command, names []string) error {
			chosen, err := choose(lessons, names)
			if err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			switch {
			case list:
				err = listLessons(out, chosen)
			case source:
				err = showSources(out, chosen)
			default:
				return runLessons(out, chosen, virtual)
			}
			if err != nil {
				return &failure{statusFailure, err}
			}
			return nil
		},
	}
	cmd.Flags().BoolVar(&list, "list", false, "list names and titles instead of running")
	cmd.Flags().BoolVar(&source, "source", false, "print the Go source instead of running")
	cmd.Flags().BoolVar(&virtual, "virtual", false, "run on a virtual clock: the same seconds, without the wait")
	cmd.MarkFlagsMutuallyExclusive("list", "source", "virtual")
	return cmd
}

// choose finds the lessons with these names, all if there are none.
func choose(lessons []tutorial.Lesson, names []string) ([]tutorial.Lesson, error) {
	if len(names) == 0 {
		return lessons, nil
	}
	var all []string
	byName := make(map[string]tutorial.Lesson)
	for _, l := range lessons {
		all = append(all, l.Name)
		byName[l.Name] = l
	}
	var chosen []tutorial.Lesson
	for _, name := range names {
		l, ok := byName[name]
		if !ok {
			return nil, fmt.Errorf("there is no lesson %q; the lessons are:\n  %s", name, strings.Join(all, "\n  "))
		}
		chosen = append(chosen, l)
	}
	return chosen, nil
}

func listLessons(w io.Writer, lessons []tutorial.Lesson) error {
	width := 0
	for _, l := range lessons {
		width = max(width, len(l.Name))
	}
	for _, l := range lessons {
		if _, err := fmt.Fprintf(w, "%-*s  %s\n", width, l.Name, l.Title); err != nil {
			return err
		}
	}
	return nil
}

func showSources(w io.Writer, lessons []tutorial.Lesson) error {
	for _, l := range lessons {
		if err := header(w, lessons, l); err != nil {
			return err
		}
		if _, err := io.WriteString(w, l.Source); err != nil {
			return err
		}
	}
	return nil
}

// header introduces l if it is one of several.
func header(w io.Writer, lessons []tutorial.Lesson, l tutorial.Lesson) error {
	if len(lessons) < 2 {
		return nil
	}
	_, err := fmt.Fprintf(w, "== %s: %s\n", l.Name, l.Title)
	return err
}

// runLessons runs lessons one after the other, until one fails or a signal comes. The
// error it returns is a [*failure].
func runLessons(w io.Writer, lessons []tutorial.Lesson, virtual bool) error {
	ctx, stop := untilSignal(context.Background())
	defer stop()
	for _, l := range lessons {
		err := header(w, lessons, l)
		if err == nil {
			err = runLesson(ctx, w, l, virtual)
		}
		if s, ok := errors.AsType[*signalError](context.Cause(ctx)); ok {
			return &failure{s.status(), s}
		}
		if errors.Is(err, asyncio.ErrKeyboardInterrupt) { // asyncio.Run was faster
			return &failure{interrupted.status(), interrupted}
		}
		if err != nil {
			return &failure{statusFailure, fmt.Errorf("lesson %s: %w", l.Name, err)}
		}
	}
	return nil
}

func runLesson(ctx context.Context, w io.Writer, l tutorial.Lesson, virtual bool) error {
	out := &stampWriter{w: w, lineStart: true}
	ctx = asyncio.WithLoopFactory(ctx, func(ctx context.Context) *asyncio.EventLoop {
		if virtual {
			out.loop = sim.NewEventLoop(ctx)
		} else {
			out.loop = asyncio.NewEventLoop(ctx)
		}
		return out.loop
	})
	return l.Run(ctx, out)
}
