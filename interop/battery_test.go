//go:build unix

package interop

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/goasyncio/asyncio"
)

// A row says how tasks use one library and what happens then. The battery shows that it is true.
type row struct {
	library string
	way     string
	cancel  outcome // of an operation whose task is cancelled
	done    outcome // of an operation whose ctx ends
	closing string  // what becomes of operations under way when the program closes the client
	sim     string  // whether the library works in package sim
	by      string  // what shows it, if it is not the battery

	// single says that a client has one connection and does one thing after another.
	single bool
	open   func(ctx context.Context, conns int) (*client, error)
}

// An outcome says what became of an operation that the server was slow to answer, when its task had
// to give it up.
type outcome struct {
	task string // when the await returns
	work string // what becomes of the operation
	conn string // what becomes of the connection
}

const (
	atOnce  = "at once" // the await returns at once
	ended   = "ended"   // the await returns soon, when the library has ended the operation
	ignored = "ignored" // the await goes on until the server answers

	takenBack = "taken back" // the server learns of it and stops
	runsOn    = "runs on"    // the server goes on until it is done

	kept     = "kept"     // the client goes on with the same connection
	replaced = "replaced" // the client closes it and uses another
	closed   = "closed"   // the client is of no use any more
	oneEach  = "one each" // each operation has a connection of its own

	endsThem   = "ends them"        // Close ends the operations under way, with errors
	waitsThem  = "waits for them"   // Close waits until they are done
	leavesThem = "leaves them"      // Close returns, and they go on until they are done
	nothing    = "nothing to close" // there is no client
)

func (o outcome) String() string {
	switch {
	case o == outcome{}:
		return ""
	case o.task == ignored:
		return ignored
	}
	return o.task + "; " + o.work + "; " + o.conn
}

// The ways in which tasks use a library.
const (
	asItIs    = "as it is"
	onView    = "on the view"
	inThread  = "in a thread"
	callbacks = "callbacks"
	ours      = "a package"
)

// A client uses a library in the way of its row.
type client struct {
	// ask sends the server a value, which it answers.
	ask func(ctx context.Context, value string) (string, error)
	// hold is ask for an answer that the server holds back until it is told to give it.
	hold func(ctx context.Context, value string) (string, error)
	// connection returns what the server calls the client's connection.
	connection func(ctx context.Context) (string, error)
	close      func(ctx context.Context) error
	// goroutine is ask for any goroutine, if there is such a thing.
	goroutine func(ctx context.Context, value string) (string, error)
}

// A dialFunc dials as net.Dialer.DialContext does.
type dialFunc = func(ctx context.Context, network, address string) (net.Conn, error)

// A server is what the battery knows of a server. The functions block.
type server struct {
	held    func() (int, error) // how many answers it holds back
	release func(values ...string) error
}

// cancelsVariable is how many cancels at random points each row gets; make nightly sets it.
const cancelsVariable = "ASYNCIO_INTEROP_CANCELS"

const ordinaryCancels = "40" // if it is not set

// A run is one test of the battery, with one row.
type run struct {
	t       *testing.T
	row     row
	server  server
	control *asyncio.ThreadPoolExecutor // calls the server; the library may use up the default one
	beats   int                         // how often a task that only sleeps has run
	cancels int                         // at random points

	mu     sync.Mutex
	values []string // those that have been used
}

// battery is what every row is tested with.
var battery = []struct {
	name string
	run  func(b *run, ctx context.Context) error
}{
	{"first use", (*run).firstUse},
	{"twenty at once", (*run).twentyAtOnce},
	{"cancel", (*run).cancel},
	{"done ctx", (*run).doneContext},
	{"deadline", (*run).deadline},
	{"close", (*run).closing},
	{"random cancels", (*run).randomCancels},
}

// runBattery tests each row that has a client, with a server that is running.
func runBattery(t *testing.T, s server, rows []row) {
	for _, r := range rows {
		if r.open == nil {
			continue
		}
		t.Run(r.library+" "+r.way, func(t *testing.T) {
			for _, test := range battery {
				t.Run(test.name, func(t *testing.T) {
					cancels, err := strconv.Atoi(cmp.Or(os.Getenv(cancelsVariable), ordinaryCancels))
					must(t, err)
					before := survey(t)
					b := &run{t: t, row: r, server: s, control: asyncio.NewThreadPoolExecutor(2), cancels: cancels}
					b.inLoop(test.run)
					b.control.Shutdown(true)
					before.check(t)
				})
			}
		})
	}
}

// inLoop runs the test of the battery in a loop, beside the tasks and goroutines that measure how
// long the loop stands still. It must not: a loop that stood still for longer than the machine did
// has been blocked. On a machine with too much to do, a loop can also wait for a processor longer
// than others do, but hardly three times in a row. A library that blocks does so each time.
func (b *run) inLoop(test func(b *run, ctx context.Context) error) {
	const tolerance = 500 * time.Millisecond
	for attempt := 1; ; attempt++ {
		loop, around := b.once(test)
		b.t.Logf("the loop stood still for at most %v, the machine for %v", loop.Round(time.Millisecond/10), around.Round(time.Millisecond/10))
		switch {
		case loop <= around+tolerance || b.t.Failed():
			return
		case attempt == 3:
			b.t.Errorf("the loop stood still for %v, the machine for %v", loop, around)
			return
		}
	}
}

// once runs the test, and returns how long the loop stood still, and how long the machine did.
func (b *run) once(test func(b *run, ctx context.Context) error) (loop, around time.Duration) {
	machine := machineBeats()
	limit := patience + time.Duration(b.cancels)*time.Second/4
	pulse := new(gaps)
	_, err := asyncio.Run(b.t.Context(), asyncio.Do(func(ctx context.Context) error {
		loop, stop, err := watch(b.t, ctx, func() { b.beats++; pulse.beat() })
		if err != nil {
			return err
		}
		defer stop()
		late := loop.CallLater(limit-time.Second, func() {
			stacks := make([]byte, 1<<20)
			b.t.Logf("%s\n%s", asyncio.FormatTasks(ctx), stacks[:runtime.Stack(stacks, true)])
		})
		defer late.Cancel()
		return asyncio.Timeout(ctx, limit, func(ctx context.Context, _ *asyncio.TimeoutScope) error {
			err := test(b, ctx)
			if err != nil {
				// so no task waits for an answer, even if it has swallowed a cancel
				err = errors.Join(err, b.server.release(b.values...))
			}
			return err
		})
	}), asyncio.DebugMode(true))
	if err != nil {
		b.t.Error(err)
	}
	loop, around, _ = pulse.compare(machine())
	return loop, around
}

// patience is how long a test waits for what has to happen. Cancels at random points get more.
const patience = time.Minute

// with gives body a client and closes it afterwards.
func (b *run) with(ctx context.Context, conns int, body func(c *client) error) error {
	c, err := b.row.open(ctx, conns)
	if err != nil {
		return fmt.Errorf("open: %w", err)
	}
	err = body(c)
	if e := c.close(ctx); e != nil {
		return errors.Join(err, fmt.Errorf("close: %w", e))
	}
	return err
}

// value returns a value that no other request has. Any goroutine may call it.
func (b *run) value() string {
	value := "v" + strconv.FormatInt(lastValue.Add(1), 10)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.values = append(b.values, value)
	return value
}

var lastValue atomic.Int64

// check asks n times, one after the other, and compares the answers.
func (b *run) check(ctx context.Context, c *client, n int) error {
	for range n {
		if err := answers(ctx, c.ask, b.value()); err != nil {
			return err
		}
	}
	return nil
}

func answers(ctx context.Context, ask func(ctx context.Context, value string) (string, error), value string) error {
	if got, err := ask(ctx, value); err != nil || got != value {
		return fmt.Errorf("answer %q (error: %w), want %q", got, orNone(err), value)
	}
	return nil
}

var errNone = errors.New("none")

func orNone(err error) error {
	if err == nil {
		return errNone
	}
	return err
}

func (b *run) firstUse(ctx context.Context) error {
	return b.with(ctx, 1, func(c *client) error { return b.check(ctx, c, 3) })
}

// twentyAtOnce: each of twenty tasks gets its own answers; and each of twenty goroutines, if they
// may use the client.
func (b *run) twentyAtOnce(ctx context.Context) error {
	return b.with(ctx, 4, func(c *client) error {
		err := asyncio.RunTaskGroup(ctx, func(ctx context.Context, tg *asyncio.TaskGroup) error {
			for range 20 {
				tg.CreateTask(ctx, func(ctx context.Context) error { return b.check(ctx, c, 5) })
			}
			return nil
		})
		if err != nil || c.goroutine == nil {
			return err
		}
		_, err = asyncio.ToThread(ctx, func(ctx context.Context) (asyncio.None, error) {
			var wg sync.WaitGroup
			errs := make([]error, 20)
			for i := range errs {
				wg.Go(func() {
					for range 5 {
						errs[i] = errors.Join(errs[i], answers(ctx, c.goroutine, b.value()))
					}
				})
			}
			wg.Wait()
			return asyncio.None{}, errors.Join(errs...)
		})
		return err
	})
}

// held returns how many answers the server holds back.
func (b *run) held(ctx context.Context) (int, error) {
	return asyncio.RunInExecutor(ctx, b.control, b.server.held).Await(ctx)
}

func (b *run) release(ctx context.Context, values ...string) error {
	_, err := asyncio.RunInExecutor(ctx, b.control, func() (asyncio.None, error) {
		return asyncio.None{}, b.server.release(values...)
	}).Await(ctx)
	return err
}

// untilHeld waits until the server holds back n answers.
func (b *run) untilHeld(ctx context.Context, n int) error {
	for {
		now, err := b.held(ctx)
		if err != nil || now == n {
			return err
		}
		if err := asyncio.Sleep(ctx, time.Millisecond); err != nil {
			return fmt.Errorf("the server holds back %d answers, want %d: %w", now, n, err)
		}
	}
}

// stays looks twenty times whether something that must not happen yet has happened.
func (b *run) stays(ctx context.Context, what string, happened func(held int) bool) error {
	for range 20 {
		n, err := b.held(ctx)
		if err != nil {
			return err
		}
		if happened(n) {
			return errors.New(what)
		}
	}
	return nil
}

// beatsOn shows that the loop does its other work meanwhile.
func (b *run) beatsOn(ctx context.Context) error {
	for want := b.beats + 10; b.beats < want; {
		if err := asyncio.Sleep(ctx, time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

// closing: what becomes of operations under way when the client is closed.
func (b *run) closing(ctx context.Context) error {
	if b.row.closing == nothing {
		return nil
	}
	n := 2
	if b.row.single {
		n = 1
	}
	c, err := b.row.open(ctx, n)
	if err != nil {
		return err
	}
	var tasks []*asyncio.Task[string]
	var values []string
	for i := range n {
		values = append(values, b.value())
		tasks = append(tasks, asyncio.CreateTask(ctx, func(ctx context.Context) (string, error) { return c.hold(ctx, values[i]) }))
	}
	if err := b.untilHeld(ctx, n); err != nil {
		return err
	}
	closing := asyncio.CreateTask(ctx, asyncio.Do(c.close))
	switch b.row.closing {
	case waitsThem:
		err = b.stays(ctx, "Close has returned", func(int) bool { return closing.Done() })
	case leavesThem:
		if _, err = closing.Await(ctx); err == nil {
			err = b.stays(ctx, "an operation has ended", func(held int) bool { return held != n || tasks[0].Done() })
		}
	case endsThem:
		if _, err = closing.Await(ctx); err != nil {
			break
		}
		if _, _, err = asyncio.Wait(ctx, tasks, asyncio.WaitTimeout(patience/4)); err != nil {
			break
		}
		for _, task := range tasks {
			if !task.Done() {
				err = errors.New("an operation goes on")
			} else if got, e := task.Await(ctx); e == nil {
				err = fmt.Errorf("an operation has the result %q", got)
			} else {
				b.t.Logf("the operation's error: %v", e)
			}
		}
	default:
		err = fmt.Errorf("the row does not say what Close does: %q", b.row.closing)
	}
	if err != nil {
		return err
	}
	if err := b.release(ctx, values...); err != nil {
		return err
	}
	for i, task := range tasks {
		if got, err := task.Await(ctx); b.row.closing != endsThem && (err != nil || got != values[i]) {
			return fmt.Errorf("answer %q (error: %w), want %q", got, orNone(err), values[i])
		}
	}
	if _, err := closing.Await(ctx); err != nil {
		return err
	}
	return b.untilHeld(ctx, 0)
}
