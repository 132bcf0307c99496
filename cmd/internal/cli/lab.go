package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/goasyncio/asyncio/lab"
)

// labSteps limits programs on a virtual clock, which could otherwise run for ever without anybody
// waiting. On the real clock there is Ctrl-C.
const labSteps = 200_000_000

func newLabCommand() *cobra.Command {
	var virtual, steps bool
	c := &cobra.Command{
		Use:   "lab [FILE.py]",
		Short: "Run a Python program on this library's event loop",
		Long: "lab runs a Python program, or without a file a prompt with await at the top. It knows the\n" +
			"part of Python that asyncio is taught with, and says so where a program leaves it.\n\n" +
			"The exit status is the program's own; 1 after an exception, 3 if the program is outside\n" +
			"the subset, 4 if it was stopped by a limit, and 5 if nothing could happen any more.",
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			ctx, stop := untilSignal(context.Background())
			defer stop()
			o := lab.Options{Stdout: c.OutOrStdout(), Stderr: c.ErrOrStderr(), Virtual: virtual}
			if len(args) == 0 {
				if steps {
					return fmt.Errorf("--steps needs a file")
				}
				return labStatus(lab.Prompt(ctx, c.InOrStdin(), o))
			}
			source, err := os.ReadFile(args[0])
			if err != nil {
				return &failure{statusFailure, err}
			}
			o.File = filepath.Base(args[0])
			if virtual {
				o.Limits.Steps = labSteps
			}
			if steps {
				o.Events = stepPrinter(c.OutOrStdout(), strings.Split(string(source), "\n"))
				o.Stdout = io.Discard // an event has it
			}
			return labStatus(lab.Run(ctx, string(source), o).Status)
		},
	}
	c.Flags().BoolVar(&virtual, "virtual", false, "use a virtual clock: sleeping takes no time")
	c.Flags().BoolVar(&steps, "steps", false, "show each step: lines, tasks, what they wait for")
	return c
}

// silent is an exit status of a program that has said why itself.
type silent int

func (s silent) Error() string { return fmt.Sprintf("exit status %d", int(s)) }

func labStatus(status int) error {
	if status == 0 {
		return nil
	}
	return silent(status)
}

// stepPrinter prints events, one a line: the time, the task, and what happened.
func stepPrinter(w io.Writer, lines []string) func(lab.Event) {
	return func(e lab.Event) {
		source := ""
		if e.Line > 0 && e.Line <= len(lines) {
			source = fmt.Sprintf("%3d  %s", e.Line, strings.TrimSpace(lines[e.Line-1]))
		}
		text := ""
		switch e.Kind {
		case "line":
			text = source
		case "task":
			text = "is made: " + e.Text
		case "step":
			text = "takes a step"
		case "wait":
			text = "waits: " + e.Text
		case "done":
			text = "is done"
			if e.Text != "" {
				text += ": " + e.Text
			}
		case "output":
			text = "prints " + strings.TrimSuffix(e.Text, "\n")
		case "clock":
			text = "has blocked the loop"
		}
		fmt.Fprintf(w, "%8.3fs  %-10s %s\n", float64(e.Time)/float64(time.Second), e.Task, text)
	}
}
