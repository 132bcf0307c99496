// Package peer is the protocol between the programs of the comparison and its runner: how a program
// is called, and the lines it prints.
//
//	program version                  prints one line, what the program was built with
//	program rows                     prints the names of the rows it has, one a line
//	program ROW N                    runs a row and prints one line for each of its measurements
//	program serve KIND SIZE          serves on 127.0.0.1, and prints the port; it is killed in the end
//	program fetch KIND PORT SIZE N   makes N requests to 127.0.0.1, and prints a measurement
//
// SIZE is that of an echo server's buffers; with HTTP it is that of the bodies of responses.
//
// A measurement is four fields: the row, n, the nanoseconds that all n took together, and the bytes
// they held, zero where memory is not measured.
//
//	yield1,1000000,41234567,0
//
// The timed code lies inside the program, so starting the program costs nothing. Programs in other
// languages print the same lines themselves; the Go programs call [Main].
package peer

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A Measurement is one line.
type Measurement struct {
	Row   string
	N     int
	Total time.Duration // of all n together
	Bytes int64         // held by all n together
}

func (m Measurement) String() string {
	return fmt.Sprintf("%s,%d,%d,%d", m.Row, m.N, m.Total.Nanoseconds(), m.Bytes)
}

// Parse reads one line.
func Parse(line string) (Measurement, error) {
	f := strings.Split(strings.TrimSpace(line), ",")
	if len(f) != 4 {
		return Measurement{}, fmt.Errorf("%q is not row,n,ns,bytes", line)
	}
	var v [3]int64
	for i := range v {
		var err error
		if v[i], err = strconv.ParseInt(f[i+1], 10, 64); err != nil {
			return Measurement{}, fmt.Errorf("%q is not row,n,ns,bytes: %w", line, err)
		}
	}
	if f[0] == "" || v[0] <= 0 || v[1] <= 0 {
		return Measurement{}, fmt.Errorf("%q measures nothing", line)
	}
	return Measurement{f[0], int(v[0]), time.Duration(v[1]), v[2]}, nil
}

// A Row runs its operation n times and reports the measurements.
type Row func(n int) ([]Measurement, error)

// Timed makes a row from a function that is measured as a whole. A tenth of n runs first as a
// warm-up, so that caches, pools and compilers are as in a program that has run for a while.
func Timed(name string, run func(n int) error) Row {
	return func(n int) ([]Measurement, error) {
		if err := run(max(1, n/10)); err != nil {
			return nil, err
		}
		start := time.Now()
		err := run(n)
		return []Measurement{{Row: name, N: n, Total: time.Since(start)}}, err
	}
}

// Bursts makes a row from a function that starts size operations and waits for all, one burst after
// the other. The first burst is not measured: later ones may reuse memory that it allocated.
func Bursts(name string, size int, burst func(size int) error) Row {
	return func(n int) ([]Measurement, error) {
		size := min(size, n)
		if err := burst(size); err != nil {
			return nil, err
		}
		start, done := time.Now(), 0
		for ; done+size <= n; done += size {
			if err := burst(size); err != nil {
				return nil, err
			}
		}
		return []Measurement{{Row: name, N: done, Total: time.Since(start)}}, nil
	}
}

// Suspended returns the measurements of the row suspended, which does everything twice. bytes is
// from the first time.
func Suspended(n int, bytes int64, create, finish, createAgain, finishAgain time.Duration) []Measurement {
	return []Measurement{
		{Row: "suspended_create", N: n, Total: create, Bytes: bytes},
		{Row: "suspended_finish", N: n, Total: finish},
		{Row: "suspended_create_again", N: n, Total: createAgain},
		{Row: "suspended_finish_again", N: n, Total: finishAgain},
	}
}

// Main is the main function of a program that has these rows, servers and clients.
func Main(rows map[string]Row, servers map[string]Server, clients map[string]Client) {
	if err := Run(os.Stdout, rows, servers, clients, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// A Server is a kind of server. It listens on 127.0.0.1, calls listening with its address, and
// serves.
type Server func(size int, listening func(net.Addr)) error

// serve runs the server that args, which begin with serve, ask for.
func serve(w io.Writer, servers map[string]Server, args []string) error {
	if len(args) != 3 || servers[args[1]] == nil {
		return fmt.Errorf("usage: serve %s SIZE", strings.Join(slices.Sorted(maps.Keys(servers)), "|"))
	}
	size, err := strconv.Atoi(args[2])
	if err != nil || size <= 0 {
		return fmt.Errorf("the size is %q, want a positive number", args[2])
	}
	return servers[args[1]](size, func(a net.Addr) { fmt.Fprintln(w, a.(*net.TCPAddr).Port) })
}

// Run runs the command in args.
func Run(w io.Writer, rows map[string]Row, servers map[string]Server, clients map[string]Client, args []string) error {
	switch {
	case len(args) > 0 && args[0] == "serve":
		return serve(w, servers, args)
	case len(args) > 0 && args[0] == "fetch":
		return fetch(w, clients, args)
	case len(args) == 1 && args[0] == "version":
		_, err := fmt.Fprintln(w, version())
		return err
	case len(args) == 1 && args[0] == "rows":
		var names []string
		for name := range rows {
			names = append(names, name)
		}
		slices.Sort(names)
		_, err := fmt.Fprintln(w, strings.Join(names, "\n"))
		return err
	case len(args) == 2:
		row := rows[args[0]]
		if row == nil {
			return fmt.Errorf("no row %q", args[0])
		}
		n, err := strconv.Atoi(args[1])
		if err != nil || n <= 0 {
			return fmt.Errorf("n is %q, want a positive number", args[1])
		}
		measured, err := row(n)
		if err != nil {
			return fmt.Errorf("%s: %w", args[0], err)
		}
		for _, m := range measured {
			if _, err := fmt.Fprintln(w, m); err != nil {
				return err
			}
		}
		return nil
	}
	return errors.New("usage: version | rows | ROW N | serve KIND SIZE | fetch KIND PORT SIZE N")
}

// version returns the release of Go, and of the library that the program uses, if that is a module.
func version() string {
	v := runtime.Version()
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, dep := range info.Deps {
			if dep.Path == "github.com/sourcegraph/conc" || dep.Path == "golang.org/x/sync" {
				v += ", " + dep.Path + " " + dep.Version
			}
		}
	}
	return v
}

// Resident returns how many bytes of memory the process has now, as the system counts them: the
// same measure in every language. It is zero where there is no /proc.
func Resident() int64 {
	b, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return 0
	}
	f := strings.Fields(string(b))
	if len(f) < 2 {
		return 0
	}
	pages, _ := strconv.ParseInt(f[1], 10, 64)
	return pages * int64(os.Getpagesize())
}
