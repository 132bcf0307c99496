package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/goasyncio/asyncio/bench/internal/peer"
)

// The peers, by the names that the tables and -peers use.
const (
	library       = "asyncio"
	limit         = "iter.Pull"
	goroutines    = "goroutines"
	goroutinesAll = "goroutines, all cores"
	concPeer      = "conc"
	tokio         = "tokio"
	cpython       = "CPython"
	uvloop        = "uvloop"
	node          = "Node"
	cserver       = "C" // an echo server and nothing else
	hyper         = "hyper"
	uvicorn       = "uvicorn"
)

// rowless are the programs that are servers and clients only.
var rowless = []string{cserver, hyper, uvicorn}

// A program is a peer that can be run.
type program struct {
	name    string
	command []string
	slow    bool // runs the smaller n of a job
	all     bool // runs on all cores, not on one
	version string
	rows    map[string]bool
}

// errAbsent says that this machine lacks something that a peer needs.
var errAbsent = errors.New("absent")

func absent(format string, args ...any) error {
	return fmt.Errorf("%w: %s", errAbsent, fmt.Sprintf(format, args...))
}

// A candidate is a peer that may be there. prepare builds it and returns the command to run it.
type candidate struct {
	name      string
	slow, all bool
	prepare   func(s *suite) ([]string, error)
}

var candidates = []candidate{
	{name: library, prepare: goProgram("asyncio")},
	{name: limit, prepare: goProgram("pull")},
	{name: goroutines, prepare: goProgram("goroutines")},
	{name: goroutinesAll, prepare: goProgram("goroutines"), all: true},
	{name: concPeer, prepare: goProgram("conc")},
	{name: tokio, prepare: tokioProgram},
	{name: cpython, prepare: cpythonProgram, slow: true},
	{name: uvloop, prepare: uvloopProgram, slow: true},
	{name: node, prepare: nodeProgram, slow: true},
	{name: cserver, prepare: cProgram},
	{name: hyper, prepare: hyperProgram},
	{name: uvicorn, prepare: uvicornProgram, slow: true},
}

// A suite is the state that all programs share.
type suite struct {
	dir   string   // of this module
	build string   // where the programs are built
	pin   []string // puts a command on one core; empty where that is not possible
	files []string // starts a command with all the descriptors it may have

	pinLoad []string // puts the load of a server on another core, if there is one
	env     []string
}

func newSuite() (*suite, error) {
	out, err := exec.Command("go", "list", "-f", "{{.Dir}}", "github.com/goasyncio/asyncio/bench").Output()
	if err != nil {
		return nil, fmt.Errorf("finding the suite: run it in its repository: %w", err)
	}
	s := &suite{dir: strings.TrimSpace(string(out))}
	s.build = filepath.Join(s.dir, ".build")
	if taskset, err := exec.LookPath("taskset"); err == nil {
		if first, last := cores(); last != "" {
			s.pin, s.pinLoad = []string{taskset, "-c", last}, []string{taskset, "-c", first}
		}
	}
	s.files = withAllFiles()
	for _, v := range os.Environ() {
		if !changesSpeed(v) {
			s.env = append(s.env, v)
		}
	}
	return s, os.MkdirAll(s.build, 0o777)
}

// changesSpeed reports whether an environment variable would change a peer's speed.
func changesSpeed(v string) bool {
	name, _, _ := strings.Cut(v, "=")
	switch name {
	case "GOMAXPROCS", "GOGC", "GOMEMLIMIT", "GODEBUG", "ASYNCIODEBUG", "NODE_OPTIONS", "MALLOC_ARENA_MAX":
		return true
	}
	return strings.HasPrefix(name, "PYTHON")
}

// cores are the first and the last of the cores that this process may use. Programs run on the
// last; the first has the most interrupts.
func cores() (first, last string) {
	b, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return "", ""
	}
	_, list, _ := strings.Cut(string(b), "Cpus_allowed_list:")
	list, _, _ = strings.Cut(list, "\n")
	list = strings.TrimSpace(list)
	if list == "" {
		return "", ""
	}
	if i := strings.IndexAny(list, "-,"); i >= 0 {
		first = list[:i]
	} else {
		first = list
	}
	return first, list[strings.LastIndexAny(list, "-,")+1:]
}

// find prepares a peer. It fails with errAbsent if the machine lacks something that the peer needs.
func (s *suite) find(c candidate) (*program, error) {
	command, err := c.prepare(s)
	if err != nil {
		return nil, err
	}
	p := &program{name: c.name, command: command, slow: c.slow, all: c.all, rows: map[string]bool{}}
	version, err := s.call(p, "version")
	if err != nil {
		return nil, err
	}
	p.version = strings.TrimSpace(version)
	rows, err := s.call(p, "rows")
	if err != nil {
		return nil, err
	}
	for _, row := range strings.Fields(rows) {
		p.rows[row] = true
	}
	return p, nil
}

// callLimit is how long one call of a program may take.
const callLimit = 3 * time.Minute

// call runs a program on its core, or cores, and returns what it prints.
func (s *suite) call(p *program, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), callLimit)
	defer cancel()
	command := slices.Concat(p.command, args)
	env := s.env
	if !p.all {
		command = slices.Concat(s.pin, command)
		env = append(slices.Clone(env), "GOMAXPROCS=1")
	}
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Env = env
	out, err := output(cmd)
	if err != nil {
		return "", fmt.Errorf("%s %s: %w", p.name, strings.Join(args, " "), err)
	}
	return out, nil
}

// measure runs one row and reads what it prints.
func (s *suite) measure(p *program, row string, n int) ([]peer.Measurement, error) {
	out, err := s.call(p, row, fmt.Sprint(n))
	if err != nil {
		return nil, err
	}
	var all []peer.Measurement
	for l := range strings.Lines(out) {
		m, err := peer.Parse(l)
		if err != nil {
			return nil, fmt.Errorf("%s %s: %w", p.name, row, err)
		}
		all = append(all, m)
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("%s %s: it printed nothing", p.name, row)
	}
	return all, nil
}

// output runs cmd and returns its standard output; the error has its standard error.
func output(cmd *exec.Cmd) (string, error) {
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%w\n%s", err, stderr.String())
	}
	return string(out), nil
}

func goProgram(name string) func(*suite) ([]string, error) {
	return func(s *suite) ([]string, error) {
		file := filepath.Join(s.build, name)
		cmd := exec.Command("go", "build", "-o", file, "./peers/"+name)
		cmd.Dir = s.dir
		_, err := output(cmd)
		return []string{file}, err
	}
}

// registry is where Debian installs the sources of Rust libraries.
const registry = "/usr/share/cargo/registry"

func tokioProgram(s *suite) ([]string, error) { return s.rustProgram("tokio", "1.") }

func hyperProgram(s *suite) ([]string, error) { return s.rustProgram("hyper", "0.14.") }

// rustProgram builds the program of a peer that is a library of Rust, of a version that begins so.
func (s *suite) rustProgram(name, begins string) ([]string, error) {
	cargo, err := exec.LookPath("cargo")
	if err != nil {
		return nil, absent("no cargo")
	}
	installed, _ := filepath.Glob(filepath.Join(registry, name+"-"+begins+"*"))
	if len(installed) == 0 {
		return nil, absent("no sources of %s in %s: apt-get install librust-%s-dev", name, registry, name)
	}
	dir := filepath.Join(s.build, name)
	if err := copyTree(dir, filepath.Join(s.dir, "peers", name)); err != nil {
		return nil, err
	}
	cmd := exec.Command(cargo, "build", "--release", "--offline", "--quiet",
		"--config", `source.crates-io.replace-with="installed"`,
		"--config", fmt.Sprintf("source.installed.directory=%q", registry))
	cmd.Dir = dir
	_, version, _ := strings.Cut(filepath.Base(installed[len(installed)-1]), "-")
	rustc, _ := output(exec.Command("rustc", "--version"))
	if f := strings.Fields(rustc); len(f) > 1 {
		version += ", Rust " + f[1]
	}
	cmd.Env = append(slices.Clone(s.env), "LIBRARY_VERSION="+version)
	_, err = output(cmd)
	return []string{filepath.Join(dir, "target", "release", name+"-rows")}, err
}

// copyTree updates the files of from in to, and leaves files alone that are up to date.
func copyTree(to, from string) error {
	return filepath.WalkDir(from, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		below, err := filepath.Rel(from, path)
		if err != nil {
			return err
		}
		target := filepath.Join(to, below)
		if d.IsDir() {
			return os.MkdirAll(target, 0o777)
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if old, err := os.ReadFile(target); err == nil && bytes.Equal(old, b) {
			return nil
		}
		return os.WriteFile(target, b, 0o666)
	})
}

// python returns the first of these interpreters that executes the statement without an error.
func python(statement string, interpreters ...string) string {
	for _, file := range interpreters {
		if path, err := exec.LookPath(file); err == nil && exec.Command(path, "-c", statement).Run() == nil {
			return path
		}
	}
	return ""
}

func cpythonProgram(s *suite) ([]string, error) {
	interpreters := []string{os.Getenv("ASYNCIO_CPYTHON"), "python3.13", "python3"}
	if home, err := os.UserHomeDir(); err == nil {
		more, _ := filepath.Glob(filepath.Join(home, ".pyenv", "versions", "3.13.*", "bin", "python3.13"))
		interpreters = append(interpreters, more...)
	}
	file := python("import sys; sys.exit(sys.version_info[:2] != (3, 13) or sys.implementation.name != 'cpython')", interpreters...)
	if file == "" {
		return nil, absent("no CPython 3.13: name one in ASYNCIO_CPYTHON")
	}
	return []string{file, filepath.Join(s.dir, "peers", "python", "main.py")}, nil
}

func uvloopProgram(s *suite) ([]string, error) {
	file := python("import sys, uvloop; sys.exit(sys.version_info < (3, 11))", "/usr/bin/python3", "python3")
	if file == "" {
		return nil, absent("no Python with uvloop: apt-get install python3-uvloop")
	}
	return []string{file, filepath.Join(s.dir, "peers", "python", "main.py"), "--uvloop"}, nil
}

func uvicornProgram(s *suite) ([]string, error) {
	file := python("import uvicorn, uvloop, httptools", "/usr/bin/python3", "python3")
	if file == "" {
		return nil, absent("no Python with uvicorn: apt-get install python3-uvicorn python3-uvloop python3-httptools")
	}
	return []string{file, filepath.Join(s.dir, "peers", "uvicorn", "main.py")}, nil
}

func nodeProgram(s *suite) ([]string, error) {
	for _, name := range []string{"node", "nodejs"} {
		if file, err := exec.LookPath(name); err == nil {
			return []string{file, filepath.Join(s.dir, "peers", "node", "main.mjs")}, nil
		}
	}
	return nil, absent("no node: apt-get install nodejs")
}
