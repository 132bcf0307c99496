// The command scenario compares the library with CPython; see docs/scenarios.md.
//
//	scenario run FILE            print the trace of a scenario; - is the standard input
//	scenario cpython FILE        print CPython's
//	scenario generate SEED       print the scenario of a seed
//	scenario check [-n N] [-seed S]
//	                             run N generated scenarios on both, and shrink the differences
//	scenario record [-check] [-fresh N] DIR
//	                             rewrite the recorded traces, or say which would change; with -fresh,
//	                             first replace the scenarios in generated.txt by those of N seeds
package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/goasyncio/asyncio/internal/scenario"
)

func main() {
	if err := command(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "scenario:", err)
		os.Exit(1)
	}
}

var script = filepath.Join("testdata", "cpython", "scenario.py")

func command(args []string) error {
	if len(args) < 1 {
		return errors.New("which command? run, cpython, generate, check or record")
	}
	flags := flag.NewFlagSet(args[0], flag.ContinueOnError)
	flags.StringVar(&script, "script", script, "the interpreter for CPython")
	n := flags.Int("n", 3000, "how many scenarios")
	seed := flags.Uint64("seed", 0, "seed of the first; 0 takes one from the clock")
	most := flags.Int("differences", 3, "stop after so many")
	unchanged := flags.Bool("check", false, "write nothing, and fail if a trace would change")
	fresh := flags.Int("fresh", 0, "how many generated scenarios to record anew")
	setting := flags.Int("setting", 0, "0: no context can end, 1: the loop's could, 2: each task's could")
	if err := flags.Parse(args[1:]); err != nil {
		return err
	}
	switch args[0] {
	case "run", "cpython":
		s, err := read(flags.Arg(0))
		if err != nil {
			return err
		}
		var trace []string
		if args[0] == "run" {
			trace, err = scenario.Trace(s, scenario.Setting(*setting))
		} else {
			err = withOracle(func(o *scenario.Oracle) error {
				trace, err = o.Trace(s)
				return err
			})
		}
		for _, line := range trace {
			fmt.Println(line)
		}
		return err
	case "generate":
		seed, err := strconv.ParseUint(flags.Arg(0), 10, 64)
		if err != nil {
			return err
		}
		fmt.Print(scenario.Generate(seed))
		return nil
	case "check":
		if *seed == 0 {
			*seed = uint64(time.Now().UnixNano()) % 1e12
		}
		return check(*n, *seed, *most)
	case "record":
		if *fresh > 0 {
			if err := generate(filepath.Join(flags.Arg(0), "generated.txt"), *fresh); err != nil {
				return err
			}
		}
		return record(flags.Arg(0), *unchanged)
	}
	return fmt.Errorf("no such command: %s", args[0])
}

func read(file string) (*scenario.Scenario, error) {
	var text []byte
	var err error
	if file == "-" || file == "" {
		text, err = io.ReadAll(os.Stdin)
	} else {
		text, err = os.ReadFile(file)
	}
	if err != nil {
		return nil, err
	}
	before, _, _ := strings.Cut(string(text), scenario.TraceMark)
	return scenario.Parse(before)
}

func withOracle(fn func(o *scenario.Oracle) error) error {
	python, err := scenario.FindCPython()
	if err != nil {
		return err
	}
	o, err := scenario.NewOracle(python, script)
	if err != nil {
		return err
	}
	return errors.Join(fn(o), o.Close())
}

// check compares n generated scenarios, in several processes.
func check(n int, seed uint64, most int) error {
	start := time.Now()
	var next, equal atomic.Int64
	var differ atomic.Int32
	var mu sync.Mutex
	var wg sync.WaitGroup
	var failed error
	modelled, byRow := 0, map[string]int{}
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			err := withOracle(func(o *scenario.Oracle) error {
				for int(differ.Load()) < most {
					const batch = 100
					first := int(next.Add(batch)) - batch
					if first >= n {
						return nil
					}
					size := min(batch, n-first)
					differences, rows, err := scenario.CompareGenerated(o, seed+uint64(first), size)
					if err != nil {
						return err
					}
					mu.Lock()
					modelled += len(rows)
					for _, names := range rows {
						for _, name := range names {
							byRow[name]++
						}
					}
					mu.Unlock()
					equal.Add(int64(size - len(differences)))
					for _, d := range differences {
						if int(differ.Add(1)) > most {
							return nil
						}
						small, err := d.Shrink(o)
						if err != nil {
							return err
						}
						mu.Lock()
						fmt.Printf("== seed %d differs; shrunk:\n%s\n", d.Seed, small)
						mu.Unlock()
					}
				}
				return nil
			})
			mu.Lock()
			failed = errors.Join(failed, err)
			mu.Unlock()
		})
	}
	wg.Wait()
	fmt.Printf("%d scenarios from seed %d, each in %d settings: %d equal, %d differ (%v)\n",
		n, seed, scenario.Settings, equal.Load(), differ.Load(), time.Since(start).Round(time.Second))
	fmt.Printf("%d of the equal ones are so because the comparison models a deliberate difference:\n", modelled)
	for _, name := range slices.Sorted(maps.Keys(byRow)) {
		fmt.Printf("%8d  %s\n", byRow[name], name)
	}
	if failed == nil && differ.Load() > 0 {
		failed = errors.New("the traces differ from CPython's")
	}
	return failed
}

// generate writes the scenarios of n seeds to file, without traces.
func generate(file string, n int) error {
	var b bytes.Buffer
	for seed := 1; seed <= n; seed++ {
		if seed > 1 {
			b.WriteString("%%\n")
		}
		fmt.Fprintf(&b, "%s%s\n", scenario.Generate(uint64(seed)), scenario.TraceMark)
	}
	return os.WriteFile(file, b.Bytes(), 0o644)
}

// record rewrites the traces in the files of dir.
func record(dir string, unchanged bool) error {
	files, err := filepath.Glob(filepath.Join(dir, "*.txt"))
	if err != nil || len(files) == 0 {
		return fmt.Errorf("no *.txt in %q: %w", dir, err)
	}
	return withOracle(func(o *scenario.Oracle) error {
		for _, file := range files {
			old, err := os.ReadFile(file)
			if err != nil {
				return err
			}
			records, err := scenario.ParseRecords(string(old))
			if err != nil {
				return fmt.Errorf("%s: %w", file, err)
			}
			var b bytes.Buffer
			for n, r := range records {
				if r.Trace, err = o.Trace(r.Scenario); err != nil {
					return fmt.Errorf("%s: %w", file, err)
				}
				if n > 0 {
					b.WriteString("%%\n")
				}
				b.WriteString(r.String())
			}
			if bytes.Equal(old, b.Bytes()) {
				continue
			}
			if unchanged {
				return fmt.Errorf("%s is not what CPython does now", file)
			}
			if err := os.WriteFile(file, b.Bytes(), 0o644); err != nil {
				return err
			}
			fmt.Println("recorded", file)
		}
		return nil
	})
}
