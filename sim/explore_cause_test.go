package sim_test

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/sim"
)

// The explanation begins with the cause: what deviates, where the tasks are that it is about, and
// which step goes wrong. The error comes behind that.
func TestFailure_CauseComesFirst(t *testing.T) {
	wrong := errors.New("it is wrong")
	for _, c := range []struct {
		name string
		main func(ctx context.Context) error
		opts []sim.Option
		want []string // regular expressions, for the first lines
	}{
		{"an error of main in order", func(ctx context.Context) error {
			if err := asyncio.Sleep(ctx, time.Second); err != nil {
				return err
			}
			return wrong
		}, nil, []string{
			`It takes: first in, first out everywhere`,
			`It goes wrong in step 3, 'main' from explore_cause_test.go:\d+ to its end:`,
			`main returned an error: it is wrong`,
		}},
		{"a lost update", func(ctx context.Context) error {
			balance := 0
			sim.AtEnd(ctx, "balance", func() error {
				if balance != 2 {
					return fmt.Errorf("%d, want 2", balance)
				}
				return nil
			})
			add := func(ctx context.Context) error {
				old := balance
				err := asyncio.Sleep(ctx, 0)
				balance = old + 1
				return err
			}
			first := start(ctx, "first", add)
			if err := yield(ctx, 2); err != nil {
				return err
			}
			_, err := asyncio.Gather(ctx, first, start(ctx, "second", add))
			return err
		}, []sim.Option{sim.WithStrategy(sim.Random())}, []string{
			`It takes: first in, first out everywhere, except that`,
			`  from step 4 to 5 'first' was kept back, and 'main' and 'second' ran \(in asyncio.Sleep at explore_cause_test.go:\d+; 'main' goes on from main_test.go:\d+\)`,
			`\(of \d+ deviations; no schedule with fewer fails\)`,
			`invariant "balance" does not hold: 1, want 2`,
		}},
		{"a fault", func(ctx context.Context) error {
			bad := sim.Fault(ctx, "the answer is lost", 0.5)
			if err := asyncio.Sleep(ctx, time.Second); err != nil {
				return err
			}
			if bad {
				panic(wrong)
			}
			return nil
		}, nil, []string{
			`It takes: first in, first out everywhere, except that`,
			`  at step 1 there was a fault: the answer is lost \(step 1, 'main' to asyncio.Sleep at explore_cause_test.go:\d+\)`,
			`\(of 1 deviation; no schedule with fewer fails\)`,
			`It goes wrong in step 3, 'main' from explore_cause_test.go:\d+ to its end:`,
			`panic in task: task .main.: .*it is wrong`,
		}},
		{"a cancel", func(ctx context.Context) error {
			cancelled := false
			sim.AtEnd(ctx, "not cancelled", func() error {
				if cancelled {
					return wrong
				}
				return nil
			})
			_, err := start(ctx, "worker", func(ctx context.Context) error {
				err := asyncio.Sleep(ctx, time.Second)
				cancelled = err != nil
				return err
			}).Await(ctx)
			return err
		}, []sim.Option{sim.Cancels(func(task string) bool { return task == "worker" }), sim.WithStrategy(sim.Exhaustive(1)), sim.Runs(1000)}, []string{
			`It takes: first in, first out everywhere, except that`,
			`  before step 3 task 'worker' was cancelled \(in asyncio.Sleep at explore_cause_test.go:\d+\)`,
		}},
		{"a host's program", func(ctx context.Context) error {
			sim.NewHost(ctx, "node", func(ctx context.Context) error {
				if err := asyncio.Sleep(ctx, time.Second); err != nil {
					return err
				}
				return wrong
			})
			return asyncio.Sleep(ctx, time.Minute)
		}, nil, []string{
			`It takes: first in, first out everywhere`,
			`It goes wrong in step \d+, 'node/main' from explore_cause_test.go:\d+ to its end:`,
			`the program of host node ended with an error that nobody asked for: it is wrong`,
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := sim.Check(c.main, c.opts...).Failure
			if f == nil {
				t.Fatal("not found")
			}
			lines := strings.Split(f.Error(), "\n")
			for i, want := range c.want {
				if !regexp.MustCompile("^" + want + "$").MatchString(lines[i]) {
					t.Errorf("line %d is %q, want %q", i, lines[i], want)
				}
			}
			if strings.Contains(f.Schedule, "_test.go") {
				t.Errorf("lines of the source are in a file that has to survive edits:\n%s", f.Schedule)
			}
		})
	}
}
