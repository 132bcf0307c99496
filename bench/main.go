// Command bench runs the same rows as programs of this library and of its peers, side by side in
// one run, and writes a comparison. docs/performance.md describes the rows.
//
//	go run ./bench                         all of it, up to twenty minutes, to the terminal
//	go run ./bench -docs docs              the same, and into docs/performance.md and .svg
//	go run ./bench -quick                  small numbers, once: does everything work
//	go run ./bench -rows http -docs docs   HTTP alone, two minutes, and its part of the document
//	go run ./bench -rows lock,queue1 -peers tokio,goroutines -rounds 9
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run() error {
	rounds := flag.Int("rounds", 5, "how often each program runs each row, interleaved with the others; some `rounds` fewer where a run takes seconds")
	rows := flag.String("rows", "", "only these `rows`, separated by commas")
	peers := flag.String("peers", "", "only these `peers` beside asyncio, separated by commas; all-cores is goroutines on all cores")
	quick := flag.Bool("quick", false, "small numbers and one round, to see whether it works; the figures mean nothing")
	docs := flag.String("docs", "", "write the tables into performance.md and the plot to performance.svg in this `directory`; with -rows http only the tables about HTTP")
	raw := flag.String("raw", "", "write every measurement to this `file`: round,peer,row,n,ns,bytes")
	flag.Parse()
	if flag.NArg() > 0 {
		return fmt.Errorf("unexpected %q", flag.Arg(0))
	}
	if *rounds < 1 {
		return errors.New("at least one round")
	}
	if *quick {
		*rounds = 1
	}
	if *docs != "" && (*quick || *rows != "" && *rows != groupHTTP || *peers != "") {
		return errors.New("-docs is for a whole run, or for one of -rows http: not with -quick, other -rows or -peers")
	}
	todo, err := selectRows(*rows)
	if err != nil {
		return err
	}
	wanted, err := selectPeers(*peers)
	if err != nil {
		return err
	}

	s, err := newSuite()
	if err != nil {
		return err
	}
	res := &results{rounds: *rounds, pinned: len(s.pin) > 0, date: time.Now()}
	var programs []*program
	for _, c := range wanted {
		fmt.Fprintf(os.Stderr, "building %s\n", c.name)
		p, err := s.find(c)
		if errors.Is(err, errAbsent) {
			res.absent = append(res.absent, fmt.Sprintf("%s (%s)", c.name, strings.TrimPrefix(err.Error(), errAbsent.Error()+": ")))
			fmt.Fprintf(os.Stderr, "%s is %v\n", c.name, err)
			continue
		}
		if err != nil {
			return fmt.Errorf("building %s: %w", c.name, err)
		}
		programs = append(programs, p)
		res.peers = append(res.peers, peerVersion{p.name, p.version})
	}
	if todo.echoes, err = s.prepareEcho(todo.echoes, res); err != nil {
		return err
	}
	if todo.webs, err = s.prepareWeb(todo.webs, res); err != nil {
		return err
	}
	if err := measureAll(s, programs, todo, *quick, res); err != nil {
		return err
	}
	if err := res.writeTerminal(os.Stdout); err != nil {
		return err
	}
	if *raw != "" {
		if err := os.WriteFile(*raw, []byte(strings.Join(res.raw, "")), 0o666); err != nil {
			return err
		}
	}
	if *docs == "" {
		return nil
	}
	all := *rows == ""
	if all {
		if err := res.plot(filepath.Join(*docs, "performance.svg")); err != nil {
			return err
		}
	}
	return res.writeDocument(filepath.Join(*docs, "performance.md"), all)
}

// measureAll goes through all jobs once a round, and through all programs for each job, so compared
// programs run one after the other. The first program changes from round to round.
func measureAll(s *suite, programs []*program, todo selection, quick bool, res *results) error {
	start := time.Now()
	for round := range res.rounds {
		for _, j := range todo.jobs {
			fmt.Fprintf(os.Stderr, "%6.1fs  round %d of %d  %s\n", time.Since(start).Seconds(), round+1, res.rounds, label(j.row, j.n))
			for i := range programs {
				p := programs[(i+round)%len(programs)]
				n, rounds := j.at(p.slow, quick, res.rounds)
				if !p.rows[j.row] || round >= rounds {
					continue
				}
				measured, err := s.measure(p, j.row, n)
				if err != nil {
					return err
				}
				res.add(round, p.name, measured)
			}
		}
		if err := measureEchoes(s, programs, todo.echoes, quick, round, start, res); err != nil {
			return err
		}
		if err := measureWebs(s, programs, todo.webs, quick, round, start, res); err != nil {
			return err
		}
	}
	res.took = time.Since(start)
	return nil
}

// The names of groups of rows.
const (
	groupEcho = "echo"
	groupHTTP = "http"
)

// A selection is the rows to measure.
type selection struct {
	jobs   []job
	echoes []echo
	webs   []web
}

// selectRows returns the rows asked for; echo stands for all echo servers, http for all of HTTP.
func selectRows(rows string) (selection, error) {
	if rows == "" {
		return selection{jobs, echoes, webs}, nil
	}
	var todo selection
	for name := range strings.SplitSeq(rows, ",") {
		known := []string{groupEcho, groupHTTP}
		pick := func(row, group string) bool {
			known = append(known, row)
			return row == name || group != "" && group == name
		}
		some := false
		for _, j := range jobs {
			if pick(j.row, "") {
				todo.jobs, some = append(todo.jobs, j), true
			}
		}
		for _, e := range echoes {
			if pick(e.row, groupEcho) {
				todo.echoes, some = append(todo.echoes, e), true
			}
		}
		for _, w := range webs {
			if pick(w.row, groupHTTP) {
				todo.webs, some = append(todo.webs, w), true
			}
		}
		if !some {
			slices.Sort(known)
			return selection{}, fmt.Errorf("no row %q; there are %s", name, strings.Join(slices.Compact(known), ", "))
		}
	}
	return todo, nil
}

// selectPeers returns the peers asked for and this library. "goroutines, all cores" can also be
// given as "all-cores", for lists separated by commas.
func selectPeers(peers string) ([]candidate, error) {
	if peers == "" {
		return candidates, nil
	}
	wanted := map[string]bool{library: true}
	for name := range strings.SplitSeq(peers, ",") {
		name = strings.TrimSpace(name)
		if name == "all-cores" {
			name = goroutinesAll
		}
		i := slices.IndexFunc(candidates, func(c candidate) bool { return strings.EqualFold(c.name, name) })
		if i < 0 {
			var known []string
			for _, c := range candidates {
				known = append(known, strings.Replace(c.name, goroutinesAll, "all-cores", 1))
			}
			return nil, fmt.Errorf("no peer %q; there are %s", name, strings.Join(known, ", "))
		}
		wanted[candidates[i].name] = true
	}
	return slices.DeleteFunc(slices.Clone(candidates), func(c candidate) bool { return !wanted[c.name] }), nil
}
