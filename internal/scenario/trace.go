package scenario

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/internal/driver"
)

// A Setting is the contexts a scenario runs with. The library suspends tasks differently where a
// context could end the wait, and must not behave differently.
type Setting int

const (
	Endless Setting = iota // no context can end
	Root                   // the loop's own context could
	Derived                // each task has one of its own that could

	Settings = 3
)

func (s Setting) String() string { return [...]string{"endless", "root", "derived"}[s] }

// Trace runs s, which Parse or Generate made, and returns the events, one a line.
func Trace(s *Scenario, setting Setting) (trace []string, err error) {
	ctx := context.Background()
	if setting == Root {
		c, cancel := context.WithCancel(ctx)
		defer cancel()
		ctx = c
	}
	r := &run{
		clock:    &clock{Virtual: driver.NewVirtual()},
		derived:  setting == Derived,
		programs: map[string][]*Instruction{},
		things:   map[string]any{},
	}
	r.loop = asyncio.NewEventLoop(driver.With(ctx, r.clock))
	r.loop.SetExceptionHandler(r.report)
	for _, p := range s.Programs {
		r.programs[p.Name] = p.Body
	}
	for _, d := range s.Declarations {
		r.declare(d)
	}
	r.drive()
	r.over = true
	err = r.loop.Close()
	for _, cancel := range r.cancels {
		cancel()
	}
	return r.trace, errors.Join(r.err, err)
}

// clock is a virtual driver that counts iterations.
type clock struct {
	*driver.Virtual
	iterations int
}

func (c *clock) BeginIteration() { c.iterations++ }

// run is one run of one scenario. scenario.py has the same parts under the same names.
type run struct {
	loop     *asyncio.EventLoop
	clock    *clock
	derived  bool
	trace    []string
	programs map[string][]*Instruction
	things   map[string]any
	named    []named // things that have a name and a state, in the order they were made
	cancels  []context.CancelFunc
	over     bool
	err      error
}

type named struct {
	name  string
	thing any
}

// future is a *Future[int] or *Task[int].
type future interface {
	asyncio.AnyFuture
	asyncio.Awaitable[int]
	Result() (int, error)
	SetResult(int) error
	SetException(error) error
	RemoveDoneCallback(*asyncio.DoneCallback) int
}

type dropper interface{ Cancel() }

// report handles calls of the exception handler. A panic is a mistake of an interpreter or of the
// library; everything else goes into the trace.
func (r *run) report(_ *asyncio.EventLoop, c asyncio.ExceptionContext) {
	var p *asyncio.PanicError
	if errors.As(c.Exception, &p) && r.err == nil {
		r.err = fmt.Errorf("%w\n%s", p, p.Stack)
	}
}

func (r *run) declare(i *Instruction) {
	switch i.Verb {
	case "future":
	case "eager-tasks":
		r.loop.SetTaskFactory(asyncio.EagerTaskFactory)
		return
	default:
		r.declared(i.Args[0], primitive(i, r.things))
		return
	}
	for _, name := range i.Args {
		r.declared(name, asyncio.CreateFuture[int](r.loop.Context()))
	}
}

func (r *run) declared(name string, thing any) {
	r.things[name] = thing
	r.named = append(r.named, named{name, thing})
}

func (r *run) emit(who, what string) {
	if r.over {
		return
	}
	now := int64(r.clock.Now() / time.Second)
	r.trace = append(r.trace, strconv.Itoa(r.clock.iterations)+" "+strconv.FormatInt(now, 10)+" "+who+" "+what)
}

func (r *run) drive() {
	r.until(r.spawn(r.loop.Context(), "main", "main", false))
	for range 5 {
		left := asyncio.AllTasks(r.loop.Context())
		if len(left) == 0 {
			break
		}
		r.emit("-", fmt.Sprintf("cancel %d left", len(left)))
		for _, t := range left {
			t.Cancel()
		}
		sweep := asyncio.CreateTask(r.loop.Context(), func(ctx context.Context) (int, error) {
			_, _, err := asyncio.Wait(ctx, left)
			return 0, err
		})
		r.until(sweep)
	}
	for _, n := range r.named {
		what := "final " + state(n.thing)
		if t, ok := n.thing.(asyncio.AnyTask); ok {
			what += fmt.Sprintf(" cancelling %d", t.Cancelling())
		}
		r.emit(n.name, what)
	}
}

func (r *run) until(f *asyncio.Task[int]) {
	if _, err := asyncio.RunUntilComplete(r.loop, f); errors.Is(err, asyncio.ErrDeadlock) {
		r.emit("-", "stalled")
	}
}

// Programs.

// A result says how a block ended: with the value of a return, or by running out (returned is
// false).
type result struct {
	value    int
	returned bool
}

func (r *run) coroutine(label, program string) asyncio.Coroutine[int] {
	body := r.programs[program]
	return func(ctx context.Context) (int, error) {
		return r.body(r.derive(ctx), label, body)
	}
}

// derive returns the context of a task or scope that is made with ctx.
func (r *run) derive(ctx context.Context) context.Context {
	if !r.derived {
		return ctx
	}
	c, cancel := context.WithCancel(ctx)
	r.cancels = append(r.cancels, cancel)
	return c
}

func (r *run) spawn(ctx context.Context, name, program string, eager bool) *asyncio.Task[int] {
	t := asyncio.CreateTask(ctx, r.coroutine(name, program), options(name, eager)...)
	r.declared(name, t)
	return t
}

// options are the options of a task. A task without eager follows the loop's factory.
func options(name string, eager bool) []asyncio.TaskOption {
	opts := []asyncio.TaskOption{asyncio.TaskName(name)}
	if eager {
		opts = append(opts, asyncio.EagerStart(true))
	}
	return opts
}

func (r *run) body(ctx context.Context, label string, block []*Instruction) (int, error) {
	r.emit(label, "start")
	res, err := r.block(ctx, label, block, nil)
	cancelling := asyncio.CurrentTask(ctx).Cancelling()
	if err != nil {
		r.emit(label, fmt.Sprintf("exit %s cancelling %d", kind(err), cancelling))
		return 0, err
	}
	r.emit(label, fmt.Sprintf("exit %d cancelling %d", res.value, cancelling))
	return res.value, nil
}

func (r *run) block(ctx context.Context, label string, block []*Instruction, caught error) (result, error) {
	for _, i := range block {
		switch i.Verb {
		case "return":
			return result{number(i.Args[0]), true}, nil
		case "raise":
			return result{}, failure(i.Args[0])
		case "reraise":
			if caught != nil {
				return result{}, caught
			}
			continue
		case "try":
			if res, err := r.attempt(ctx, label, i, caught); err != nil || res.returned {
				return res, err
			}
			continue
		case "with", "timeout", "group":
			res, outcome, err := r.scope(ctx, label, i, caught)
			if err != nil {
				outcome = kind(err)
			}
			r.emit(label, fmt.Sprintf("%d %s %s", i.Line, i.Verb, outcome))
			if err != nil {
				return result{}, err
			}
			if res.returned {
				return res, nil
			}
			continue
		}
		outcome, err := r.effect(ctx, i)
		if outcome == "" && err == nil {
			outcome, err = r.operation(ctx, label, i)
		}
		if err != nil {
			outcome = kind(err) + r.message(i, err)
		}
		r.emit(label, strconv.Itoa(i.Line)+" "+i.Verb+" "+outcome)
		if err != nil {
			return result{}, err
		}
	}
	return result{}, nil
}

// message returns the message of a cancellation that reached its task directly. It ignores one that
// came by way of another task, because CPython hands such a message on only once. The library's own
// messages have several words; the message of a scenario is one word.
func (r *run) message(i *Instruction, err error) string {
	switch i.Verb {
	case "yield", "sleep", "wait", "lock.acquire", "semaphore.acquire", "condition.acquire",
		"event.wait", "queue.put", "queue.get", "queue.join":
	case "await":
		if _, plain := r.things[i.Args[0]].(*asyncio.Future[int]); !plain {
			return ""
		}
	default:
		return ""
	}
	if c, ok := err.(*asyncio.CancelledError); ok && c.Msg != "" && !strings.Contains(c.Msg, " ") {
		return " " + c.Msg
	}
	return ""
}

func (r *run) attempt(ctx context.Context, label string, i *Instruction, caught error) (result, error) {
	res, err := r.block(ctx, label, i.Body, caught)
	if err != nil {
		if clause := handler(i, err); clause != nil {
			r.emit(label, fmt.Sprintf("%d except %s", clause.Line, kind(err)))
			res, err = r.block(ctx, label, clause.Body, err)
		}
	}
	for _, clause := range i.Clauses {
		if clause.Verb == "finally" {
			if last, err := r.block(ctx, label, clause.Body, caught); err != nil || last.returned {
				return last, err
			}
		}
	}
	return res, err
}

// handler returns the clause of a try that catches err.
func handler(i *Instruction, err error) *Instruction {
	which := "error"
	if _, ok := bare(err).(*asyncio.CancelledError); ok {
		which = "cancelled"
	}
	for _, clause := range i.Clauses {
		if clause.Verb == "except" && (clause.Args[0] == "any" || clause.Args[0] == which) {
			return clause
		}
	}
	return nil
}

// Instructions that do not wait. Callbacks do them too.

// effect does the instruction and returns the outcome, "" if the instruction is of another kind.
func (r *run) effect(ctx context.Context, i *Instruction) (string, error) {
	args := i.Args
	switch i.Verb {
	case "spawn", "eager":
		r.spawn(ctx, args[0], args[1], i.Verb == "eager")
		return "ok", nil
	case "soon":
		r.things[args[0]] = r.loop.CallSoon(r.callback(args[0], nested(i, 1)))
		return "ok", nil
	case "later":
		d := time.Duration(number(args[1])) * time.Second
		r.things[args[0]] = r.loop.CallLater(d, r.callback(args[0], nested(i, 2)))
		return "ok", nil
	case "cancel", "uncancel", "set", "fail", "state", "done", "undone", "drop":
		return r.future(ctx, i)
	case "group.spawn", "group.eager", "group.cancel":
		return r.group(i)
	case "timeout.reschedule":
		return r.reschedule(i)
	}
	return r.signal(i)
}

// future is effect for instructions on futures and handles and, for state, on everything.
func (r *run) future(ctx context.Context, i *Instruction) (string, error) {
	args := i.Args
	thing := r.thing(ctx, args[0])
	switch i.Verb {
	case "state":
		if text := state(thing); text != "" {
			return text, nil
		}
		return "unset", nil
	case "drop":
		h, ok := thing.(dropper)
		if !ok {
			return "unset", nil
		}
		h.Cancel()
		return "ok", nil
	}
	f, ok := thing.(future)
	if !ok {
		return "unset", nil
	}
	switch i.Verb {
	case "cancel":
		return strconv.FormatBool(f.Cancel(args[1:]...)), nil
	case "uncancel":
		if t, ok := f.(asyncio.AnyTask); ok {
			return strconv.Itoa(t.Uncancel()), nil
		}
		return "unset", nil
	case "set":
		return "ok", f.SetResult(number(args[1]))
	case "fail":
		return "ok", f.SetException(failure(args[1]))
	case "done":
		do := r.callback(args[1], nested(i, 2))
		called := func(f future) {
			r.emit(args[1], "called "+state(f))
			do()
		}
		if t, ok := f.(*asyncio.Task[int]); ok {
			r.things[args[1]] = t.AddDoneCallback(func(t *asyncio.Task[int]) { called(t) })
		} else {
			r.things[args[1]] = f.(*asyncio.Future[int]).AddDoneCallback(func(f *asyncio.Future[int]) { called(f) })
		}
		return "ok", nil
	}
	c, ok := r.things[args[1]].(*asyncio.DoneCallback)
	if !ok {
		return "unset", nil
	}
	return strconv.Itoa(f.RemoveDoneCallback(c)), nil
}

func (r *run) callback(label string, i *Instruction) func() {
	return func() {
		outcome, err := r.effect(r.loop.Context(), i)
		if err != nil {
			outcome = kind(err)
		}
		r.emit(label, strconv.Itoa(i.Line)+" "+i.Verb+" "+outcome)
	}
}

func (r *run) thing(ctx context.Context, name string) any {
	if name == "self" {
		if t, ok := asyncio.CurrentTask(ctx).(*asyncio.Task[int]); ok {
			return t
		}
		return nil
	}
	return r.things[name]
}

// Instructions that may wait.

func (r *run) awaitable(ctx context.Context, i *Instruction, n int, word string) asyncio.Awaitable[int] {
	if program, ok := strings.CutSuffix(word, "()"); ok {
		return r.coroutine(fmt.Sprintf("%d.%d", i.Line, n), program)
	}
	f, _ := r.thing(ctx, word).(future)
	if f == nil {
		return nil
	}
	return f
}

// awaitables returns the awaitables among words that exist.
func (r *run) awaitables(ctx context.Context, i *Instruction, words []string) []asyncio.Awaitable[int] {
	var found []asyncio.Awaitable[int]
	for n, word := range words {
		if a := r.awaitable(ctx, i, n, word); a != nil {
			found = append(found, a)
		}
	}
	return found
}

func (r *run) operation(ctx context.Context, label string, i *Instruction) (string, error) {
	args := i.Args
	switch i.Verb {
	case "yield":
		return "ok", asyncio.Sleep(ctx, 0)
	case "sleep":
		return "ok", asyncio.Sleep(ctx, time.Duration(number(args[0]))*time.Second)
	case "await":
		if program, ok := strings.CutSuffix(args[0], "()"); ok {
			res, err := r.block(ctx, label, r.programs[program], nil)
			return strconv.Itoa(res.value), err
		}
		a := r.awaitable(ctx, i, 0, args[0])
		if a == nil {
			return "unset", nil
		}
		v, err := a.Await(ctx)
		return strconv.Itoa(v), err
	case "gather":
		values, err := asyncio.Gather(ctx, r.awaitables(ctx, i, args)...)
		return list(values, strconv.Itoa), err
	case "gather-results":
		results, err := asyncio.GatherResults(ctx, r.awaitables(ctx, i, args)...)
		return list(results, func(res asyncio.Result[int]) string {
			if res.Err != nil {
				return kind(res.Err)
			}
			return strconv.Itoa(res.Value)
		}), err
	case "wait":
		return r.wait(ctx, args)
	case "wait-for":
		a := r.awaitable(ctx, i, 0, args[1])
		if a == nil {
			return "unset", nil
		}
		v, err := asyncio.WaitFor(ctx, a, limit(args[0]))
		return strconv.Itoa(v), err
	case "shield":
		a := r.awaitable(ctx, i, 0, args[0])
		if a == nil {
			return "unset", nil
		}
		v, err := asyncio.Shield(ctx, a).Await(ctx)
		return strconv.Itoa(v), err
	case "as-completed":
		return r.asCompleted(ctx, label, i)
	}
	return r.wants(ctx, i)
}

func (r *run) asCompleted(ctx context.Context, label string, i *Instruction) (string, error) {
	var fs []future
	for _, a := range r.awaitables(ctx, i, i.Args[1:]) {
		f, ok := a.(future)
		if !ok {
			f = asyncio.CreateTask(ctx, a.Await)
		}
		fs = append(fs, f)
	}
	var opts []asyncio.AsCompletedOption
	if i.Args[0] != "-" {
		opts = append(opts, asyncio.AsCompletedTimeout(limit(i.Args[0])))
	}
	n := 0
	for f, err := range asyncio.AsCompleted(ctx, fs, opts...) {
		if err != nil {
			return "", err
		}
		n++
		r.emit(label, fmt.Sprintf("%d %s %d %s", i.Line, i.Verb, n, state(f)))
	}
	return "ok", nil
}

func (r *run) wait(ctx context.Context, args []string) (string, error) {
	opts := []asyncio.WaitOption{asyncio.ReturnWhen(map[string]asyncio.ReturnCondition{
		"all": asyncio.AllCompleted, "first": asyncio.FirstCompleted, "error": asyncio.FirstException,
	}[args[0]])}
	if args[1] != "-" {
		opts = append(opts, asyncio.WaitTimeout(limit(args[1])))
	}
	names := map[future]string{}
	var fs []future
	for _, word := range args[2:] {
		if f, ok := r.thing(ctx, word).(future); ok {
			fs = append(fs, f)
			if names[f] == "" {
				names[f] = word
			}
		}
	}
	if len(fs) == 0 {
		return "unset", nil
	}
	done, pending, err := asyncio.Wait(ctx, fs, opts...)
	name := func(f future) string { return names[f] }
	return "done " + list(done, name) + " pending " + list(pending, name), err
}

// nested returns the instruction that begins with the n-th argument of i.
func nested(i *Instruction, n int) *Instruction {
	return &Instruction{Line: i.Line, Verb: i.Args[n], Args: i.Args[n+1:]}
}

func number(s string) int {
	n, _ := strconv.Atoi(s) // checked by Parse
	return n
}

// limit parses a number of seconds; - is no limit.
func limit(s string) time.Duration {
	if s == "-" {
		return asyncio.Forever
	}
	return time.Duration(number(s)) * time.Second
}

func list[T any](all []T, text func(T) string) string {
	var b strings.Builder
	for n, v := range all {
		if n > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(text(v))
	}
	return "[" + b.String() + "]"
}

// An userError is an error that a scenario raises.
type userError string

func (e userError) Error() string { return string(e) }

func failure(name string) error {
	if name == "cancelled" {
		return new(asyncio.CancelledError)
	}
	return userError(name)
}

// bare returns the underlying error of err: the first of joined errors, without its wrapping.
func bare(err error) error {
	for {
		switch e := err.(type) {
		case *asyncio.CancelledError, *asyncio.TimeoutError, *asyncio.GroupError:
			return err
		case interface{ Unwrap() []error }:
			err = e.Unwrap()[0]
		case interface{ Unwrap() error }:
			inner := e.Unwrap()
			if inner == nil {
				return err
			}
			err = inner
		default:
			return err
		}
	}
}

// kinds are the names of the library's errors in traces.
var kinds = map[error]string{
	asyncio.ErrInvalidState:  "!invalid-state",
	asyncio.ErrAwaitSelf:     "!misuse",
	asyncio.ErrNotAcquired:   "!misuse",
	asyncio.ErrBrokenBarrier: "!broken-barrier",
	asyncio.ErrQueueEmpty:    "!queue-empty",
	asyncio.ErrQueueFull:     "!queue-full",
	asyncio.ErrQueueShutDown: "!queue-shutdown",
}

// kind is the name of an error in traces.
func kind(err error) string {
	switch e := bare(err).(type) {
	case userError:
		return "!" + string(e)
	case *asyncio.CancelledError:
		return "!cancelled"
	case *asyncio.TimeoutError:
		return "!timeout"
	case *asyncio.GroupError:
		var all []string
		for _, e := range e.Exceptions {
			all = append(all, kind(e))
		}
		return "!group(" + strings.Join(all, " ") + ")"
	default:
		if name, ok := kinds[e]; ok {
			return name
		}
		return fmt.Sprintf("!%v", err)
	}
}

// state returns the state of a thing, "" if it has none.
func state(thing any) string {
	f, ok := thing.(interface {
		asyncio.AnyFuture
		Result() (int, error)
	})
	switch {
	case !ok:
		return primitiveState(thing)
	case !f.Done():
		return "pending"
	case f.Cancelled():
		return "cancelled"
	}
	v, err := f.Result()
	if err != nil {
		return kind(err)
	}
	return strconv.Itoa(v)
}
