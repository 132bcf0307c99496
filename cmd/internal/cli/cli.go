// Package cli is the asyncio command without the process around it.
package cli

import (
	"errors"
	"fmt"
	"io"
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/goasyncio/asyncio/examples/tutorial"
)

const (
	statusFailure = 1
	statusUsage   = 2
)

// failure is an error in running a correct command, as opposed to an error in the command line.
type failure struct {
	status int
	err    error
}

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

// Run runs the command and returns its exit status. args does not include the command's
// own name; lessons is the tutorial.
func Run(args []string, lessons []tutorial.Lesson, stdout, stderr io.Writer) int {
	root := &cobra.Command{
		Use:   "asyncio",
		Short: "Python's asyncio for Go: lessons, Python programs, and a look at running processes",
		Long: "asyncio belongs to the Go library github.com/goasyncio/asyncio: coroutines, tasks and an event\n" +
			"loop, as in Python. It teaches them, runs Python programs on them, and looks at running processes.",
		Version:       version(),
		SilenceErrors: true, // printed below
		SilenceUsage:  true,

		CompletionOptions: cobra.CompletionOptions{DisableDefaultCmd: true},
	}
	root.SetVersionTemplate("{{.Name}} {{.Version}}\n")
	root.AddCommand(newTutorialCommand(lessons), newLessonCommand(), newLabCommand(), newPsCommand(), newPstreeCommand(), newStacksCommand(), newTopCommand(), newRecordCommand())
	root.InitDefaultHelpCmd()
	for _, c := range root.Commands() {
		if c.Name() == "help" { // cobra's own takes any words, and ends with status 0
			c.Args = func(_ *cobra.Command, args []string) error {
				_, _, err := root.Find(args)
				return err
			}
		}
	}
	root.SetArgs(append([]string{}, args...)) // nil would mean os.Args
	root.SetOut(stdout)
	root.SetErr(stderr)

	cmd, err := root.ExecuteC()
	if err == nil {
		return 0
	}
	if s, ok := errors.AsType[silent](err); ok {
		return int(s)
	}
	fmt.Fprintf(stderr, "asyncio: %v\n", err)
	if f, ok := errors.AsType[*failure](err); ok {
		return f.status
	}
	fmt.Fprintf(stderr, "Run '%s --help' for usage.\n", cmd.CommandPath())
	return statusUsage
}

// version is that of the module, as the go command has built it in, and the release of Go.
func version() string {
	v := "(devel)"
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		v = info.Main.Version
	}
	return v + " " + runtime.Version()
}
