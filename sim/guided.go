package sim

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/goasyncio/asyncio/internal/driver"
)

// Sampling that goes on from the runs which have reached something new.
//
//	guided 1: A run's choices are a tape, byte by byte as [Tape] reads it. A run begins with the
//	   choices of one that was kept, up to a random place; the rest is drawn anew, or one choice is
//	   changed and the rest kept. Each fourth run begins with nothing.
//	guided 2: A run is kept if it is the first that a condition of Sometimes holds in or that comes
//	   by a Reachable, ever or so often (in powers of two), that has a fault of some kind, or in
//	   which some callback runs directly after some other.
//	guided 3: All runs have one seed, so the tape is everything, and go test -fuzz can use it.
//	guided 4: Runs are made in rounds. What a round begins with depends on earlier rounds only, so
//	   the same options make the same runs, in parallel or not.

// Guided samples schedules as [Random] does, but goes on from those that have reached something
// new: a condition of [Sometimes], a [Reachable], a kind of fault, or a callback that runs directly
// after another. It finds failures that need several improbable choices one after the other, if
// something shows that a run is half way there. All runs have the same seed, and [Cancels] does
// nothing. [Corpus] makes it begin where another exploration, or go test -fuzz, has ended.
func Guided() Strategy {
	return Strategy{name: "Guided()", guided: true, make: func(w *world, _ int, _ bool) strategy {
		return &guided{rng: w.stream("strategy")}
	}}
}

// Corpus names a directory of schedules, in the format of go test -fuzz: testdata/fuzz/FuzzTransfer
// for the fuzz test FuzzTransfer, whose only argument is the tape of [Tape]. [Guided] begins with
// the schedules in it, and adds those that reach something new.
func Corpus(dir string) Option { return Option{func(x *exploration) { x.tapes = dir }} }

// guided is a tape that is drawn where it has no bytes.
type guided struct {
	tape
	rng   *rand.Rand
	given int    // how many bytes there were
	made  []byte // the whole tape
}

func (g *guided) use(drawn func() byte) byte {
	b := g.tape.next()
	if len(g.made) >= g.given {
		b = drawn()
	}
	g.made = append(g.made, b)
	return b
}

func (g *guided) pick(_ *world, n int) int {
	return int(g.use(func() byte { return byte(g.rng.IntN(min(n, 256))) })) % n
}

func (g *guided) fault(_ *world, _ *question, p float64) bool {
	b := g.use(func() byte {
		if g.rng.Float64() < p {
			return 1
		}
		return 0
	})
	return faultOf(b, p)
}

func (g *guided) amount(_ *world, _ *question, s span) int64 {
	return amountOf(g.use(func() byte {
		if g.rng.Float64() >= s.p {
			return 0
		}
		u := g.rng.Float64()
		return byte(1 + 254*u*u) // more often little than much
	}), s)
}

// features are what a run has had, as hashes (guided 2).
type features struct {
	of   map[uint64]bool
	last uint64 // the name of the last step
}

func (f *features) step(name string) {
	if f.of != nil {
		h := hashOf(name)
		f.of[mix(f.last, h)] = true
		f.last = h
	}
}

// featuresOf returns all features of a run that has ended.
func featuresOf(w *world) map[uint64]bool {
	for name, t := range w.reached {
		for n := 1; n <= t.Times; n *= 2 {
			w.features.of[mix(hashOf("reached "+name), uint64(n))] = true
		}
	}
	for _, d := range w.devs {
		if d.answers() {
			w.features.of[hashOf("fault "+w.questions[d.question().what].kind())] = true
		}
	}
	return w.features.of
}

// roundOf is how many runs are begun before their outcomes are looked at (guided 4).
const roundOf = 16

// guide makes the runs of Guided.
func (x *exploration) guide() *Failure {
	given, err := readTapes(x.tapes)
	if err != nil {
		return &Failure{Err: err, unread: true}
	}
	var kept, parents [][]byte // parents are those of the round
	had := make(map[uint64]bool)
	var failed *outcome
	begun, ended, round := 0, 0, 0
	x.ahead(func() (plan, bool) {
		if begun == round && begun == ended {
			round, parents = begun+roundOf, kept
		}
		if begun == round || begun >= x.runs-1 {
			return plan{}, false
		}
		rng := rand.New(rand.NewPCG(driver.Derive(x.seed, fmt.Sprint("sim guided ", begun))))
		var begin []byte
		if begun < len(given) {
			begin = given[begun]
		} else {
			begin = mutated(parents, rng)
		}
		begun++
		p := x.plan(x.seed)
		p.features = true
		p.strategy = func(*world) strategy { return &guided{tape: tape{bytes: begin}, given: len(begin), rng: rng} }
		return p, true
	}, func(o *outcome) bool {
		ended++
		x.count(o.w)
		if o.err != nil {
			failed = o
			return false
		}
		isNew := false
		for f := range featuresOf(o.w) {
			isNew = isNew || !had[f]
			had[f] = true
		}
		if isNew {
			tape := o.w.strategy.(*guided).made
			kept = append(kept, tape)
			if ended > len(given) {
				err = errors.Join(err, writeTape(x.tapes, tape))
			}
		}
		return true
	})
	x.report.Kept = len(kept)
	switch {
	case failed != nil:
		return x.explain(x.plan(x.seed), failed)
	case err != nil:
		return &Failure{Err: err, unread: true}
	}
	x.report.Coverage = fmt.Sprintf("%s, %d steps, %s: a sample, which proves nothing of the schedules that were not run; %d of them reached something new%s",
		counted(x.report.Runs, "run"), x.report.Steps, x.strategy, len(kept), x.report.tallies())
	return x.unreached()
}

// mutated returns what a run begins with (guided 1).
func mutated(kept [][]byte, rng *rand.Rand) []byte {
	if len(kept) == 0 || rng.IntN(4) == 0 {
		return nil
	}
	u := rng.Float64()
	from := kept[len(kept)-1-int(u*u*float64(len(kept)))] // more often a recent one
	if len(from) == 0 {
		return nil
	}
	at := rng.IntN(len(from))
	if rng.IntN(2) == 0 {
		return from[:at]
	}
	changed := slices.Clone(from)
	changed[at] = byte(rng.IntN(256))
	return changed
}

const fuzzHeader = "go test fuzz v1"

// readTapes reads the tapes in a directory that need not be there, in the order of their names.
func readTapes(dir string) (tapes [][]byte, err error) {
	if dir == "" {
		return nil, nil
	}
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("sim: the directory of Corpus: %w", err)
	}
	for _, e := range entries {
		if e.IsDir() {
			continue
		}
		text, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return nil, fmt.Errorf("sim: the directory of Corpus: %w", err)
		}
		head, line, _ := strings.Cut(strings.TrimSpace(string(text)), "\n")
		quoted, ok := strings.CutPrefix(line, "[]byte(")
		quoted, ends := strings.CutSuffix(quoted, ")")
		tape, err := strconv.Unquote(quoted)
		if head != fuzzHeader || !ok || !ends || err != nil {
			return nil, fmt.Errorf("sim: %s is not the input of a fuzz test whose only argument is a []byte", filepath.Join(dir, e.Name()))
		}
		tapes = append(tapes, []byte(tape))
	}
	return tapes, nil
}

func writeTape(dir string, tape []byte) error {
	if dir == "" {
		return nil
	}
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, fmt.Sprintf("%016x", hashOf(string(tape)))), fmt.Appendf(nil, "%s\n[]byte(%q)\n", fuzzHeader, tape), 0o666)
}
