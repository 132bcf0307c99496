package scenario

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
)

// ErrNoOracle is returned when there is no CPython 3.13.
var ErrNoOracle = errors.New("no CPython 3.13: set ASYNCIO_CPYTHON to one")

// An Oracle is a CPython process that runs scenarios.
type Oracle struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

// FindCPython returns the CPython 3.13 to use: the one that the environment variable
// ASYNCIO_CPYTHON names, or python3.13. It returns ErrNoOracle if that does not run.
func FindCPython() (string, error) {
	python := os.Getenv("ASYNCIO_CPYTHON")
	if python == "" {
		python = "python3.13"
	}
	out, err := exec.Command(python, "-c", "import sys; print(*sys.version_info[:2], sys.implementation.name)").Output()
	if err != nil || strings.TrimSpace(string(out)) != "3 13 cpython" {
		return "", ErrNoOracle
	}
	return python, nil
}

// NewOracle starts the interpreter script, scenario.py, on python. The oracle must be closed.
func NewOracle(python, script string) (*Oracle, error) {
	o := &Oracle{cmd: exec.Command(python, script)}
	o.cmd.Stderr = os.Stderr
	var err error
	if o.in, err = o.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := o.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	o.out = bufio.NewReaderSize(out, 1<<16)
	return o, o.cmd.Start()
}

const separator = "%%"

// Ask hands over a scenario. Answer returns its trace once all scenarios asked before have been
// answered. One goroutine may ask while another takes the answers.
func (o *Oracle) Ask(s *Scenario) error {
	_, err := io.WriteString(o.in, s.text+separator+"\n")
	return err
}

// Answer returns the next trace. rows are the deliberate differences that changed CPython's trace
// from its unmodified one, by their names in scenario.py.
func (o *Oracle) Answer() (trace, rows []string, err error) {
	for {
		line, err := o.out.ReadString('\n')
		if err != nil {
			return nil, nil, fmt.Errorf("CPython: %w", err)
		}
		line = strings.TrimSuffix(line, "\n")
		if mark, names, _ := strings.Cut(line, " "); mark == separator {
			return trace, strings.Fields(names), nil
		}
		trace = append(trace, line)
	}
}

// Trace runs one scenario.
func (o *Oracle) Trace(s *Scenario) ([]string, error) {
	if err := o.Ask(s); err != nil {
		return nil, err
	}
	trace, _, err := o.Answer()
	return trace, err
}

// Close ends the process.
func (o *Oracle) Close() error {
	return errors.Join(o.in.Close(), o.cmd.Wait())
}
