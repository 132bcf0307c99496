package sim

import (
	"errors"
	"fmt"
	"hash/fnv"
	"os"
	"path/filepath"
	"runtime/debug"
	"strconv"
	"strings"
	"unicode"
)

// What the environment asks for, and schedules in files: recording the one of a failure, and
// replaying it.

// asked does what an option or the environment asks for, or else calls do.
func (x *exploration) asked(do func() *Failure) *Failure {
	env := os.Getenv("ASYNCIOSIM")
	seed, err := strconv.ParseUint(env, 10, 64)
	switch file, step, stops := strings.Cut(env, "@"); {
	case x.file != "":
		return x.replay(x.file)
	case env == "":
		if n, err := strconv.Atoi(os.Getenv("ASYNCIOSIM_RUNS")); err == nil && n > 0 {
			x.runs = n
		}
		return do()
	case err == nil:
		x.runs = 1
		if f := x.calibrate(true); f != nil || seed == 0 {
			return f
		}
		return x.single(seed)
	default:
		if stops {
			if x.stopAt, err = strconv.Atoi(step); err != nil {
				return &Failure{Err: fmt.Errorf("sim: ASYNCIOSIM=%s: behind the @ is no step: %w", env, err), unread: true}
			}
		}
		f := x.replay(file)
		if f != nil && f.unread {
			f.Err = fmt.Errorf("sim: ASYNCIOSIM=%s is neither a seed nor the file of a schedule: %w", env, f.Err)
		}
		return f
	}
}

// record writes the schedule to a file, unless the test follows it anyway, and returns the line
// that runs it once more.
func (x *exploration) record(f *Failure) string {
	command := fmt.Sprintf("go test -run '^%s$' %s", strings.ReplaceAll(x.tb.Name(), "/", "$/^"), testedPackage())
	if f.Strategy == inOrder && len(f.Deviations) == 0 { // the test runs it first in any case
		return command
	}
	if f.Schedule == "" {
		return fmt.Sprintf("ASYNCIOSIM=%d %s", f.Seed, command)
	}
	dir := x.dir()
	file := filepath.Join(dir, fmt.Sprintf("%08x.sim", uint32(hashOf(f.Schedule))))
	err := os.MkdirAll(dir, 0o777)
	if err == nil {
		err = os.WriteFile(file, []byte(f.Schedule), 0o666)
	}
	if err != nil {
		x.tb.Logf("the schedule could not be written: %v", err)
		return fmt.Sprintf("ASYNCIOSIM=%d %s", f.Seed, command)
	}
	f.file = file
	return fmt.Sprintf("ASYNCIOSIM=%s %s", filepath.ToSlash(file), command)
}

// draw writes the timeline of a failure beside its schedule.
func (x *exploration) draw(f *Failure) {
	base, ok := strings.CutSuffix(f.file, ".sim")
	if f.picture == nil || !ok {
		return
	}
	file := base + ".html"
	f.picture.Title = x.tb.Name()
	out, err := os.Create(file)
	if err == nil {
		err = errors.Join(f.WriteTimeline(out), out.Close())
	}
	if err != nil {
		x.tb.Logf("the timeline could not be written: %v", err)
		return
	}
	f.timeline = filepath.ToSlash(file)
}

// testedPackage returns the import path of the package whose tests run, so that the command works
// in every directory of its module.
func testedPackage() string {
	if b, ok := debug.ReadBuildInfo(); ok && strings.HasSuffix(b.Path, ".test") {
		return strings.TrimSuffix(b.Path, ".test")
	}
	return "."
}

// dir returns the directory of the test's schedules.
func (x *exploration) dir() string {
	name := strings.Map(func(r rune) rune {
		if unicode.IsLetter(r) || unicode.IsDigit(r) || strings.ContainsRune("_-.=", r) {
			return r
		}
		return '-'
	}, x.tb.Name())
	return filepath.Join("testdata", "sim", name)
}

// corpus replays the recorded failures.
func (x *exploration) corpus() *Failure {
	files, _ := filepath.Glob(filepath.Join(x.dir(), "*.sim")) // sorted
	for _, file := range files {
		f := x.replay(file)
		if f == nil {
			continue
		}
		if !errors.Is(f, ErrIncompatible) {
			return f
		}
		x.tb.Logf("%s: %v; its seed is run instead. If what it once found is found in another way, delete the file", file, f.Err)
		if f := x.calibrate(true); f != nil {
			return f
		}
		if f := x.single(f.Seed); f != nil {
			return f
		}
	}
	return nil
}

// replay runs a recorded schedule (schedule 3).
func (x *exploration) replay(file string) *Failure {
	s, err := readSchedule(file)
	if err != nil {
		return &Failure{Err: err, unread: true}
	}
	r := newReplay(s.devs, true)
	o := x.play(plan{seed: s.seed, traced: true, places: allPlaces, explains: true, pictured: true, stopAt: x.stopAt, strategy: func(*world) strategy { return r }})
	if misfit := r.finish(s, o.w.step, o.w.tracer.hash(s.steps)); misfit != nil && (o.err == nil || r.mismatch != nil) {
		return &Failure{Err: misfit, Seed: s.seed}
	}
	if o.err == nil {
		x.report.Coverage = file + ": the schedule fits, and nothing went wrong"
		return nil
	}
	f := &Failure{Err: o.err, Seed: s.seed, Steps: o.w.step, Deviations: inWords(o.w.devs), Schedule: s.String()}
	f.describe(o.w.devs, o)
	f.file = file
	return f
}

func hashOf(s string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(s))
	return h.Sum64()
}
