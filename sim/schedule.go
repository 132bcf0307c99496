package sim

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
)

// The meaning of a schedule and the bytes of its file.
//
//	schedule 1: A schedule is a set of deviations: everything not named in it runs first in, first
//	   out, without faults. A deviation is at a step, which is a callback counted from 1 (world 1).
//	   "cancel" cancels a task before the step. "step" runs, as that step, the k-th of the n ready
//	   callbacks, counted from 0 as world 6 says, instead of the first that is not kept back. "keep"
//	   does the same, for the next after that first, and keeps the first back until a later step,
//	   or until nothing else is ready (keep 1 to keep 4). "fault" makes a fault happen
//	   in the step or between it and the next: the nth one asked for by that name, counted from 1.
//	   "amount" makes something take another time, or have another size, than usual; it is named
//	   like a fault. A step has at most one cancel and one pick; a cancel comes before a pick, and
//	   both before faults and amounts. There is at most one cancel in all.
//	schedule 2: Seed and schedule determine the run (world 2): the same program makes the same
//	   steps.
//	schedule 3: Replaying draws no random number of a strategy. A file is replayed to the letter.
//	   The program is not the recorded one if, at a deviation, the number of ready callbacks differs
//	   or the callbacks do, or the task is missing, or if the run ends before the deviation. The
//	   replay then says so (ErrIncompatible).
//	schedule 4: Where a schedule is a guess (minimising), a deviation that does not fit is left out.
//	schedule 5: The file is text, UTF-8, one item a line, in this order; names are quoted as Go
//	   quotes them:
//
//	   asyncio schedule 2                     the version; a reader refuses others
//	   test "TestBank/transfer"               what to run
//	   seed 17
//	   steps 87                               how many the run had when it failed,
//	   trace 9c1f0a3be8d0f122                 a hash of their names and times (schedule 6),
//	   failure "main returned an error: …"    and why, on one line
//	   keep 3 to 52 1/2 "main" for "writer"   of 2 the one 1st after the oldest: writer, and main,
//	                                          the oldest, is kept back until step 52
//	   cancel 4 "writer" 0                    before step 4: the first task alive of that name
//	   step 41 3/7 "writer" not "reader"      of 7 the one 3rd after the oldest: writer, not reader
//	   fault 57 "crash of node2" 4            the fourth time that it was asked for
//	   amount 60 "a segment from a to b took" 9 40ms not 1ms
//	                                          a time; 300B is a size, 50000ppm a part of a million
//	   end
//
//	   Lines that begin with # are comments for people. Deviations are in the order of their steps.
//	schedule 6: The hash is FNV-1a, 64 bits, of each step's name, a zero byte, and its time in
//	   nanoseconds, in decimal, a newline. It does not include source lines, so an edit that leaves
//	   the order of events alone leaves a schedule valid.
type schedule struct {
	test    string
	seed    uint64
	steps   int
	trace   uint64
	failure string
	devs    []deviation
}

// A deviation is one item of schedule 1: pick is positive, or one of cancel, fault and amount is
// set.
type deviation struct {
	step, pick int
	until      int // of a pick that keeps a callback back: the last step at which it does; else 0
	cancel     *target
	fault      *fault
	amount     *amount
	*recorded  // of a pick, once it has been made in a run with a trace
}

// A fault stands for the nth time that the fault named by what is asked for.
type fault struct {
	what string
	nth  int
}

// A target is a task as the schedule names it: the nth of those alive with that name, oldest first.
type target struct {
	task string
	nth  int
}

// recorded describes a pick at the time it was made.
type recorded struct {
	of            int
	chosen, first string
	ran           []string // while first was kept back, each once
}

// before reports whether d precedes e in a schedule (schedule 1). Answers at one step have no
// order.
func (d deviation) before(e deviation) bool {
	return d.step < e.step || d.step == e.step && (d.rank() < e.rank() || d.answers() && e.answers())
}

// answers reports whether d is the answer to a question.
func (d deviation) answers() bool { return d.fault != nil || d.amount != nil }

// question returns the question that d answers, and its number.
func (d deviation) question() fault {
	switch {
	case d.fault != nil:
		return *d.fault
	case d.amount != nil:
		return d.amount.fault
	}
	return fault{}
}

func (d deviation) rank() int {
	switch {
	case d.cancel != nil:
		return cancelRank
	case !d.answers():
		return pickRank
	}
	return faultRank
}

// The order of deviations at one step.
const (
	cancelRank = iota
	pickRank
	faultRank
)

// ErrIncompatible is returned when a schedule was recorded with a different program: the code has
// changed since.
var ErrIncompatible = errors.New("sim: the schedule does not fit the program")

const scheduleHeader = "asyncio schedule 2"

func (s *schedule) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n", scheduleHeader)
	for line := range strings.Lines(explainDeviations(s.devs)) {
		fmt.Fprintf(&b, "# %s\n", strings.TrimRight(line, "\n"))
	}
	fmt.Fprintf(&b, "test %q\nseed %d\nsteps %d\ntrace %016x\nfailure %q\n", s.test, s.seed, s.steps, s.trace, s.failure)
	for _, d := range s.devs {
		switch {
		case d.cancel != nil:
			fmt.Fprintf(&b, "cancel %d %q %d\n", d.step, d.cancel.task, d.cancel.nth)
		case d.fault != nil:
			fmt.Fprintf(&b, "fault %d %q %d\n", d.step, d.fault.what, d.fault.nth)
		case d.amount != nil:
			b.WriteString(d.amount.line(d.step))
		case d.until > d.step:
			fmt.Fprintf(&b, "keep %d to %d %d/%d %q for %q\n", d.step, d.until, d.pick, d.of, d.first, d.chosen)
		default:
			fmt.Fprintf(&b, "step %d %d/%d %q not %q\n", d.step, d.pick, d.of, d.chosen, d.first)
		}
	}
	b.WriteString("end\n")
	return b.String()
}

// parseSchedule reads the text that String writes (schedule 5).
func parseSchedule(text string) (*schedule, error) {
	s := new(schedule)
	in := bufio.NewScanner(strings.NewReader(text))
	in.Buffer(nil, 1<<24)
	n, ended := 0, false
	bad := func(format string, args ...any) (*schedule, error) {
		return nil, fmt.Errorf("sim: line %d of a schedule: %s", n, fmt.Sprintf(format, args...))
	}
	for in.Scan() {
		n++
		line := in.Text()
		if n == 1 {
			if line != scheduleHeader {
				return bad("%q, want %q: it was written by another version", line, scheduleHeader)
			}
			continue
		}
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if ended {
			return bad("%q after the end", line)
		}
		word, rest, _ := strings.Cut(line, " ")
		var err error
		var d deviation
		switch word {
		case "test":
			s.test, err = strconv.Unquote(rest)
		case "seed":
			s.seed, err = strconv.ParseUint(rest, 10, 64)
		case "steps":
			s.steps, err = strconv.Atoi(rest)
		case "trace":
			s.trace, err = strconv.ParseUint(rest, 16, 64)
		case "failure":
			s.failure, err = strconv.Unquote(rest)
		case "cancel":
			d.cancel = new(target)
			_, err = fmt.Sscanf(rest, "%d %q %d", &d.step, &d.cancel.task, &d.cancel.nth)
			if err == nil && d.cancel.nth < 0 {
				err = errors.New("no task is named")
			}
			if slices.ContainsFunc(s.devs, func(d deviation) bool { return d.cancel != nil }) {
				err = errors.New("there is another cancel")
			}
		case "fault":
			d.fault = new(fault)
			_, err = fmt.Sscanf(rest, "%d %q %d", &d.step, &d.fault.what, &d.fault.nth)
			if err == nil && d.fault.nth < 1 {
				err = errors.New("no fault is named")
			}
		case "amount":
			d, err = parseAmountLine(rest)
		case "step":
			d.recorded = new(recorded)
			_, err = fmt.Sscanf(rest, "%d %d/%d %q not %q", &d.step, &d.pick, &d.of, &d.chosen, &d.first)
			if err == nil && (d.pick < 1 || d.pick >= d.of) {
				err = fmt.Errorf("there is no %d of %d", d.pick, d.of)
			}
			d.until = d.step
		case "keep":
			d.recorded = new(recorded)
			_, err = fmt.Sscanf(rest, "%d to %d %d/%d %q for %q", &d.step, &d.until, &d.pick, &d.of, &d.first, &d.chosen)
			if err == nil && (d.pick < 1 || d.pick >= d.of || d.until <= d.step) {
				err = errors.New("nothing is kept back")
			}
		case "end":
			ended = true
		default:
			return bad("%q is not known", word)
		}
		if err != nil {
			return bad("%v in %q", err, line)
		}
		if word == "cancel" || word == "step" || word == "keep" || word == "fault" || word == "amount" {
			if d.step < 1 && (d.step < 0 || !d.answers()) || len(s.devs) > 0 && !s.devs[len(s.devs)-1].before(d) {
				return bad("step %d is out of order", d.step)
			}
			s.devs = append(s.devs, d)
		}
	}
	if err := in.Err(); err != nil {
		return nil, err
	}
	if !ended {
		return bad("no end: it was cut off")
	}
	return s, nil
}

func readSchedule(file string) (*schedule, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	s, err := parseSchedule(string(b))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return s, nil
}

// explainDeviations describes a schedule in words.
func explainDeviations(devs []deviation) string {
	if len(devs) == 0 {
		return "first in, first out everywhere"
	}
	var b strings.Builder
	b.WriteString("first in, first out everywhere, except that")
	lines := inWords(devs)
	for i, line := range lines {
		switch {
		case i > 0 && i == len(lines)-1:
			b.WriteString(", and")
		case i > 0:
			b.WriteString(",")
		}
		b.WriteString("\n  " + line)
	}
	return b.String()
}

// inWords describes each deviation.
func inWords(devs []deviation) []string {
	return wordsOf(devs, func(int) string { return "" })
}

// wordsOf is inWords, with a remark on the i-th deviation behind the words for it.
func wordsOf(devs []deviation, remark func(i int) string) []string {
	var lines []string
	for i, d := range devs {
		lines = append(lines, d.String()+remark(i))
	}
	return lines
}

// whoRan lists names.
func whoRan(ran []string) string {
	names := make([]string, len(ran))
	for i, name := range ran {
		names[i] = quote(name)
	}
	switch last := len(names) - 1; {
	case last == 0:
		return names[0]
	case last < 4:
		return strings.Join(names[:last], ", ") + " and " + names[last]
	}
	return strings.Join(names[:3], ", ") + fmt.Sprintf(" and %d others", len(names)-3)
}

func (d deviation) String() string {
	if d.fault != nil {
		return fmt.Sprintf("at step %d there was a fault: %s", d.step, d.fault.what)
	}
	if d.amount != nil {
		return fmt.Sprintf("at step %d %s", d.step, d.amount)
	}
	if d.cancel != nil {
		which := ""
		if d.cancel.nth > 0 {
			which = fmt.Sprintf(" (number %d of that name)", d.cancel.nth+1)
		}
		return fmt.Sprintf("before step %d task %s%s was cancelled", d.step, quote(d.cancel.task), which)
	}
	if d.recorded != nil && d.until > d.step && len(d.ran) > 0 {
		return fmt.Sprintf("from step %d to %d %s was kept back, and %s ran", d.step, d.until, quote(d.first), whoRan(d.ran))
	}
	if d.recorded == nil {
		return fmt.Sprintf("at step %d number %d ran before the oldest", d.step, d.pick)
	}
	return fmt.Sprintf("at step %d %s ran before %s", d.step, quote(d.chosen), quote(d.first))
}

func quote(name string) string { return "'" + name + "'" }
