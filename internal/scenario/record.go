package scenario

import (
	"fmt"
	"strings"
)

// TraceMark stands between a scenario and its recorded trace.
const TraceMark = "-- trace --\n"

// A Record is the text of a scenario and the trace that CPython gave for it.
type Record struct {
	Text     string
	Scenario *Scenario
	Trace    []string
}

// ParseRecords reads records that are separated by lines of %%.
func ParseRecords(text string) ([]*Record, error) {
	var all []*Record
	for n, part := range strings.Split(text, "\n"+separator+"\n") {
		source, trace, _ := strings.Cut(part, TraceMark)
		s, err := Parse(source)
		if err != nil {
			return nil, fmt.Errorf("record %d: %w", n+1, err)
		}
		if !strings.HasSuffix(source, "\n") {
			source += "\n"
		}
		r := &Record{Text: source, Scenario: s}
		if trace = strings.TrimSuffix(trace, "\n"); trace != "" {
			r.Trace = strings.Split(trace, "\n")
		}
		all = append(all, r)
	}
	return all, nil
}

func (r *Record) String() string {
	return r.Text + TraceMark + strings.Join(r.Trace, "\n") + "\n"
}

// CompareGenerated compares the scenarios of n seeds. It returns the differences and, for the other
// scenarios, the deliberate differences that each is about.
func CompareGenerated(o *Oracle, seed uint64, n int) (differences []*Difference, rows [][]string, err error) {
	all := make([]*Scenario, n)
	for i := range all {
		all[i] = Generate(seed + uint64(i))
	}
	asked := make(chan error, 1)
	go func() {
		for _, s := range all {
			if err := o.Ask(s); err != nil {
				asked <- err
				return
			}
		}
		asked <- nil
	}()
	for i, s := range all {
		want, used, err := o.Answer()
		if err != nil {
			return nil, nil, err
		}
		if d := Compare(s, want); d != nil {
			d.Seed = seed + uint64(i)
			differences = append(differences, d)
		} else if len(used) > 0 {
			rows = append(rows, used)
		}
	}
	return differences, rows, <-asked
}
