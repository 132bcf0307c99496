package cli

import (
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/goasyncio/asyncio/inspect"
)

// recordFormats are the formats of a recording, by the ending of the file's name.
var recordFormats = map[string]func(*inspect.Recording, io.Writer) error{
	".html":           (*inspect.Recording).WriteHTML,
	".json":           (*inspect.Recording).WriteChrome,
	".pftrace":        (*inspect.Recording).WritePerfetto,
	".perfetto-trace": (*inspect.Recording).WritePerfetto,
	".asyncrec":       (*inspect.Recording).Write,
}

func newRecordCommand() *cobra.Command {
	var seconds float64
	var out, read string
	cmd := &cobra.Command{
		Use:   "record PID|URL",
		Short: "Show what has happened in a process lately",
		Long: "record takes what the flight recorders of a process hold, and writes it to a file: a page for a browser\n" +
			"(.html), a file for Perfetto (.pftrace) or Chrome (.json), or the recording itself (.asyncrec).\n" +
			"Recorders are on if the process runs with ASYNCIORECORD=1 or has switched them on. With --seconds they\n" +
			"are switched on for so long if none is.\n\n" + prepared,
		Example: "  asyncio record 4711\n" +
			"  asyncio record 4711 --seconds 10 -o trace.pftrace\n" +
			"  asyncio record --read service-4711-1.asyncrec -o stall.html",
		Args: func(cmd *cobra.Command, args []string) error {
			if read != "" {
				return cobra.NoArgs(cmd, args)
			}
			return cobra.ExactArgs(1)(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			name := "asyncio-recording.html"
			if read != "" {
				name = strings.TrimSuffix(filepath.Base(read), filepath.Ext(read)) + ".html"
			} else {
				name = "asyncio-" + fileName(args[0]) + ".html"
			}
			if out != "" {
				name = out
			}
			write := recordFormats[filepath.Ext(name)]
			if write == nil {
				return fmt.Errorf("%q does not say what to write: its name must end with .html, .json, .pftrace or .asyncrec", name)
			}
			if !(seconds >= 0 && seconds <= maxRecordSeconds) {
				return fmt.Errorf("--seconds %v: it is a number from 0 to %d", seconds, maxRecordSeconds)
			}
			var r *inspect.Recording
			var err error
			if read != "" {
				r, err = readRecording(read)
			} else {
				var at target
				if at, err = newTarget(args[0]); err != nil {
					return err
				}
				// An interrupt ends it, and switches off what it has switched on.
				ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt)
				defer stop()
				r, err = at.record(ctx, time.Duration(seconds*float64(time.Second)))
			}
			if err == nil {
				err = writeRecording(name, r, write)
			}
			if err != nil {
				return failed(err)
			}
			fmt.Fprintln(cmd.OutOrStdout(), name)
			return nil
		},
	}
	cmd.Flags().StringVarP(&out, "output", "o", "", "write to this `file` (default asyncio-PID.html)")
	cmd.Flags().Float64Var(&seconds, "seconds", 0, "record for so long first")
	cmd.Flags().StringVar(&read, "read", "", "read a recording from this `file` instead")
	return cmd
}

const maxRecordSeconds = 3600

// A usageError is a mistake in the command line.
type usageError string

func (e usageError) Error() string { return string(e) }

// fileName is a target as a part of a file's name.
func fileName(arg string) string {
	return strings.Map(func(r rune) rune {
		if r == '.' || r == '-' || '0' <= r && r <= '9' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' {
			return r
		}
		return '_'
	}, arg)
}

func readRecording(name string) (*inspect.Recording, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	r, err := inspect.ReadRecording(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return r, nil
}

func writeRecording(name string, r *inspect.Recording, write func(*inspect.Recording, io.Writer) error) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	if err := write(r, f); err != nil {
		_ = f.Close()
		return err
	}
	return f.Close()
}
