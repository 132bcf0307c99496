package gallery

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/sim"
)

// An example uses one example of the gallery, and registers the conditions that must hold at the
// end.
type example func(ctx context.Context, atEnd func(name string, check func() error)) error

// later gives the tasks started before a head start of two iterations, time enough for a round
// trip, and then starts fn.
func later(ctx context.Context, name string, fn func(ctx context.Context) error) (*asyncio.Task[asyncio.None], error) {
	for range 2 {
		if err := asyncio.Sleep(ctx, 0); err != nil {
			return nil, err
		}
	}
	return now(ctx, name, fn), nil
}

func now(ctx context.Context, name string, fn func(ctx context.Context) error) *asyncio.Task[asyncio.None] {
	return asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error {
		if ctx.Value(declaring{}) != nil {
			sim.Touches(ctx, "what the example is about")
		}
		return fn(ctx)
	}), asyncio.TaskName(name))
}

// declaring is the key of a context in which tasks declare what they touch.
type declaring struct{}

func together(ctx context.Context, first, second func(ctx context.Context) error) error {
	a := now(ctx, "first", first)
	b, err := later(ctx, "second", second)
	if err != nil {
		return err
	}
	_, err = asyncio.Gather(ctx, a, b)
	return err
}

func want(what string, got, want int) func() error {
	return func() error {
		if got != want {
			return fmt.Errorf("%s: %d, want %d", what, got, want)
		}
		return nil
	}
}

func deposits(deposit func(*Account, context.Context, int) error) example {
	return func(ctx context.Context, atEnd func(string, func() error)) error {
		a := new(Account)
		ten := func(ctx context.Context) error { return deposit(a, ctx, 10) }
		if err := together(ctx, ten, ten); err != nil {
			return err
		}
		atEnd("balance", want("after two deposits of 10", a.balance, 20))
		return nil
	}
}

func caching(get func(*Cache, context.Context) (int, error)) example {
	return func(ctx context.Context, atEnd func(string, func() error)) error {
		c := &Cache{stored: 1}
		read := func(ctx context.Context) error {
			_, err := get(c, ctx)
			return err
		}
		if err := together(ctx, read, func(context.Context) error { c.Set(2); return nil }); err != nil {
			return err
		}
		v, err := get(c, ctx)
		atEnd("current", want("after 2 was stored, read", v, 2))
		return err
	}
}

func lending(use func(*Pool, context.Context) error) example {
	return func(ctx context.Context, atEnd func(string, func() error)) error {
		p := &Pool{free: asyncio.NewSemaphore(1)}
		atEnd("permits", func() error { return want("free when all is over", p.free.Statistics().Value, 1)() })
		user := func(ctx context.Context) error { return use(p, ctx) }
		_, _, err := asyncio.Wait(ctx, []asyncio.AnyFuture{now(ctx, "first", user), now(ctx, "second", user)})
		return err
	}
}

func paying(pay func(*Bank, context.Context, int) error) example {
	return func(ctx context.Context, atEnd func(string, func() error)) error {
		b := &Bank{paid: map[string]int{}}
		err := pay(b, ctx, 10)
		atEnd("paid once", want("payments", len(b.paid), 1))
		return err
	}
}

func mailing(run func(*Mailer, context.Context) error, end func(*Mailer, context.Context) error) example {
	return func(ctx context.Context, atEnd func(string, func() error)) error {
		m := &Mailer{queue: asyncio.NewQueue[string](0)}
		mailer := now(ctx, "mailer", func(ctx context.Context) error { return run(m, ctx) })
		for _, mail := range []string{"a", "b"} {
			if err := m.queue.Put(ctx, mail); err != nil {
				return err
			}
			for range 3 { // there is always something to do before the next mail
				if err := roundTrip(ctx); err != nil {
					return err
				}
			}
		}
		if err := end(m, ctx); err != nil {
			return err
		}
		_, err := mailer.Await(ctx)
		atEnd("all sent", func() error {
			if !slices.Equal(m.sent, []string{"a", "b"}) {
				return fmt.Errorf("sent %q", m.sent)
			}
			return nil
		})
		return err
	}
}

func transfers(there, back func(ctx context.Context, a, b *Account) error) example {
	return func(ctx context.Context, _ func(string, func() error)) error {
		a, b := &Account{balance: 10}, &Account{balance: 10}
		return together(ctx,
			func(ctx context.Context) error { return there(ctx, a, b) },
			func(ctx context.Context) error { return back(ctx, a, b) })
	}
}

// The gallery, with the effort needed to find each bug.
var gallery = []struct {
	name         string
	wrong, right example
	opts         []sim.Option

	kind       string // of the failure
	randomRuns int    // the run in which Random finds it
	pctRuns    int    // PCT(3)
	deviations int    // the fewest from first in, first out
	steps      int    // of that run
	pctSteps   int    // with PCT(3), if they are others
	// of the corrected program: all schedules there are; 0 if it draws random numbers, and seeds
	// are run
	schedules int
}{
	{name: "lost update", wrong: deposits((*Account).DepositWrong), right: deposits((*Account).Deposit),
		kind: `invariant "balance"`, randomRuns: 2, pctRuns: 9, deviations: 1, steps: 11, schedules: 35},
	{name: "check, then act", wrong: caching((*Cache).GetWrong), right: caching((*Cache).Get),
		kind: `invariant "current"`, randomRuns: 2, pctRuns: 31, deviations: 1, steps: 10, schedules: 28},
	{name: "permit lost on cancel", wrong: lending((*Pool).UseWrong), right: lending((*Pool).Use),
		opts: []sim.Option{sim.Cancels()}, kind: `invariant "permits"`, randomRuns: 2, pctRuns: 2, deviations: 1, steps: 11, schedules: 3667},
	{name: "payment twice", wrong: paying((*Bank).PayWrong), right: paying((*Bank).Pay),
		kind: `invariant "paid once"`, randomRuns: 3, pctRuns: 3, deviations: 0, steps: 6},
	{name: "last item dropped", wrong: mailing((*Mailer).RunWrong, (*Mailer).CloseWrong),
		right: mailing((*Mailer).Run, func(m *Mailer, _ context.Context) error { m.Close(); return nil }),
		kind:  `invariant "all sent"`, randomRuns: 4, pctRuns: 4, deviations: 1, steps: 11, pctSteps: 10, schedules: 16},
	{name: "deadlock of two locks",
		wrong: transfers(
			func(ctx context.Context, a, b *Account) error { return TransferWrong(ctx, a, b, 1) },
			func(ctx context.Context, a, b *Account) error { return TransferWrong(ctx, b, a, 1) }),
		right: transfers(
			func(ctx context.Context, a, b *Account) error { return Transfer(ctx, a, b, a, b, 1) },
			func(ctx context.Context, a, b *Account) error { return Transfer(ctx, a, b, b, a, 1) }),
		kind: "deadlock", randomRuns: 2, pctRuns: 9, deviations: 1, steps: 7, schedules: 35},
}

func simulated(p example) func(ctx context.Context) error {
	return func(ctx context.Context) error {
		return p(ctx, func(name string, check func() error) { sim.AtEnd(ctx, name, check) })
	}
}

func TestGallery_FoundAndMinimised(t *testing.T) {
	for _, g := range gallery {
		t.Run(g.name, func(t *testing.T) {
			for _, s := range []struct {
				sim.Strategy
				runs, steps int
			}{{sim.Random(), g.randomRuns, g.steps}, {sim.PCT(3), g.pctRuns, cmp.Or(g.pctSteps, g.steps)}} {
				f := sim.Check(simulated(g.wrong), append(g.opts, sim.WithStrategy(s.Strategy), sim.Runs(1000))...).Failure
				if f == nil {
					t.Fatalf("%v did not find it in 1000 runs", s)
				}
				t.Logf("%v", f)
				if !strings.Contains(f.Err.Error(), g.kind) {
					t.Errorf("%v found something else: %v", s.Strategy, f)
				}
				n := len(regexp.MustCompile(`(?m)^(step|keep|fault|cancel) `).FindAllString(f.Schedule, -1))
				if f.Run != s.runs || n != g.deviations || f.Steps != s.steps {
					t.Errorf("%v found it in run %d, minimised to %d deviations in %d steps; want run %d, %d deviations, %d steps",
						s.Strategy, f.Run, n, f.Steps, s.runs, g.deviations, s.steps)
				}
				if len(f.Deviations) > 0 && !strings.Contains(f.Minimal, "no schedule with fewer fails") {
					t.Errorf("%v: %s", s.Strategy, f.Minimal)
				}
			}
		})
	}
}

func TestGallery_CorrectedPasses(t *testing.T) {
	for _, g := range gallery {
		t.Run(g.name, func(t *testing.T) {
			sim.Explore(t, simulated(g.right), append(g.opts, sim.Runs(300), sim.WithStrategy(sim.PCT(3)))...)
			if g.schedules == 0 {
				return
			}
			r := sim.Check(simulated(g.right), append(g.opts, sim.WithStrategy(sim.Exhaustive(0)), sim.Runs(5000))...)
			if r.Failure != nil || r.Runs != g.schedules || !strings.Contains(r.Coverage, "every schedule there is") {
				t.Errorf("want %d schedules: %s %v", g.schedules, r.Coverage, r.Failure)
			}
		})
	}
}

// With all tasks declaring what they touch, and a bystander that touches nothing, Exhaustive leaves
// schedules out and misses no bug.
func TestGallery_Declared(t *testing.T) {
	for _, g := range gallery {
		t.Run(g.name, func(t *testing.T) {
			declared := func(p example) func(ctx context.Context) error {
				return func(ctx context.Context) error {
					ctx = context.WithValue(ctx, declaring{}, true)
					asyncio.CreateTask(ctx, asyncio.Do(func(ctx context.Context) error {
						sim.Touches(ctx)
						return roundTrip(ctx)
					}), asyncio.TaskName("bystander"))
					return simulated(p)(ctx)
				}
			}
			opts := append([]sim.Option{sim.WithStrategy(sim.Exhaustive(0)), sim.Runs(20000)}, g.opts...)
			r := sim.Check(declared(g.wrong), opts...)
			kinds := regexp.QuoteMeta(g.kind)
			if g.name == "permit lost on cancel" { // who waits for it waits for ever
				kinds += "|deadlock"
			}
			if r.Failure == nil || !regexp.MustCompile(kinds).MatchString(r.Failure.Err.Error()) {
				t.Errorf("want %s: %s %v", kinds, r.Coverage, r.Failure)
			}
			if g.schedules == 0 || g.opts != nil { // with cancels nothing is left out
				return
			}
			if r = sim.Check(declared(g.right), opts...); r.Failure != nil || r.LeftOut == 0 {
				t.Errorf("%d choices left out: %s %v", r.LeftOut, r.Coverage, r.Failure)
			}
			t.Logf("%d schedules, %d choices left out", r.Runs, r.LeftOut)
		})
	}
}

// The same seed gives the same trace, byte for byte, however many processors there are: 1000 times
// with ASYNCIO_EXPLORE=all.
func TestGallery_Repeats(t *testing.T) {
	runs := 20
	if os.Getenv("ASYNCIO_EXPLORE") == "all" {
		runs = 1000
	}
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(0))
	for _, g := range gallery {
		for _, p := range []example{g.wrong, g.right} {
			opts := append([]sim.Option{sim.WithStrategy(sim.Random()), sim.Seed(7)}, g.opts...)
			first, failed := sim.Trace(simulated(p), opts...)
			for i := range runs {
				runtime.GOMAXPROCS(1 + i%4)
				trace, err := sim.Trace(simulated(p), opts...)
				if trace != first || (err == nil) != (failed == nil) {
					t.Fatalf("%s: run %d:\n%s%v\nthe first:\n%s%v", g.name, i, trace, err, first, failed)
				}
			}
		}
	}
}

// TestGallery_Synctest: testing/synctest gives a virtual clock, too, and runs the wrong programs in
// one order, in which nothing goes wrong.
func TestGallery_Synctest(t *testing.T) {
	for _, g := range gallery {
		if g.name == "payment twice" {
			continue // there it draws true random numbers
		}
		t.Run(g.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var checks []func() error
				_, err := asyncio.Run(t.Context(), asyncio.Do(func(ctx context.Context) error {
					return g.wrong(ctx, func(_ string, check func() error) { checks = append(checks, check) })
				}), asyncio.HandleSIGINT(false))
				if err != nil {
					t.Error(err)
				}
				for _, check := range checks {
					if err := check(); err != nil {
						t.Error(err)
					}
				}
			})
		})
	}
}

// printed is a TB that keeps the text it is failed with.
type printed struct {
	sim.TB
	name, text string
}

func (p *printed) Name() string                      { return p.name }
func (p *printed) Helper()                           {}
func (p *printed) Failed() bool                      { return false }
func (p *printed) Fatalf(format string, args ...any) { p.text = fmt.Sprintf(format, args...) }

// TestGallery_DocumentShowsWhatIsPrinted compares docs/simulation.md with the printed explanations.
func TestGallery_DocumentShowsWhatIsPrinted(t *testing.T) {
	doc, err := os.ReadFile("../../docs/simulation.md")
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(t.TempDir())
	p := &printed{name: "TestDeposit"}
	sim.Explore(p, simulated(gallery[0].wrong))
	text, _, _ := strings.Cut(p.text, "\n\n  step ")
	if !strings.Contains(string(doc), "```text\n"+text+"\n```\n") {
		t.Errorf("docs/simulation.md lacks\n%s", text)
	}
}
