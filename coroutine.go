package asyncio

import (
	"context"
	"fmt"
	"reflect"
)

// A Coroutine is Python's coroutine object: a coroutine function with its arguments
// bound, usually by a closure. Making one runs nothing.
//
//	func fetch(url string) asyncio.Coroutine[int] {
//		return func(ctx context.Context) (int, error) { … }
//	}
//
// Any func(context.Context) (T, error) can be one. Where a Coroutine is expected (by [Run],
// [CreateTask], [GroupTask]), the function is enough. Where any [Awaitable] is expected (by
// [Await], [WaitFor], [Gather], [Shield], [OnDone]), convert the function with [Coro], because the
// compiler does not infer T through an interface and reports "does not match asyncio.Awaitable[T]
// (cannot infer T)":
//
//	page, err := asyncio.WaitFor(ctx, asyncio.Coro(load), time.Second)
type Coroutine[T any] func(ctx context.Context) (T, error)

// An Awaitable is anything that a coroutine can wait for: a [*Future], a [*Task], a [Coroutine], a
// [*ConcurrentFuture].
type Awaitable[T any] interface {
	// Await suspends the calling task until there is a result. Awaiting a
	// coroutine runs it here and now, as a call.
	Await(ctx context.Context) (T, error)
}

// Await runs the coroutine in the calling task, here and now: it is a call. It suspends
// where the coroutine does, and a cancel arrives there.
func (c Coroutine[T]) Await(ctx context.Context) (T, error) {
	if c == nil {
		var zero T
		return zero, fmt.Errorf("%w: nil coroutine (in Await)", ErrInvalidArgument)
	}
	return c(ctx)
}

// Coro makes a [Coroutine] of a function that returns a value and an error. Use it where any
// [Awaitable] will do, so that the compiler accepts the function. It is a conversion that need not
// name T. Any goroutine may call it.
//
//	page, err := asyncio.WaitFor(ctx, asyncio.Coro(load), time.Second)
func Coro[T any](fn func(ctx context.Context) (T, error)) Coroutine[T] { return fn }

// None is the result of a coroutine that has none. It prints as in Python.
type None struct{}

func (None) String() string { return "None" }

// Do makes a coroutine of a function that returns only an error. Any goroutine may call it.
//
//	task := asyncio.CreateTask(ctx, asyncio.Do(worker))
//
// Without it the compiler says "type func(ctx context.Context) error of worker does not match
// asyncio.Coroutine[T] (cannot infer T)".
//
//go:noinline
func Do(fn func(ctx context.Context) error) Coroutine[None] {
	if fn == nil {
		return nil
	}
	return func(ctx context.Context) (None, error) {
		if who, ok := ctx.(*whoAreYou); ok {
			who.pc = funcPC(fn)
			return None{}, nil
		}
		return None{}, fn(ctx)
	}
}

// inPlaceOf makes a coroutine of the library's own that is there to call fn, a function of the
// program. The coroutine is shown as fn.
//
//go:noinline
func inPlaceOf(fn any, run func(ctx context.Context) error) Coroutine[None] {
	return func(ctx context.Context) (None, error) {
		if who, ok := ctx.(*whoAreYou); ok {
			who.pc = funcPC(fn)
			return None{}, nil
		}
		return None{}, run(ctx)
	}
}

// wrapped returns a coroutine that calls around in place of coro. Like the closures of Do, its
// closures are identified by their code address, and say which function is inside.
//
//go:noinline
func wrapped[T any](coro Coroutine[T], around func(ctx context.Context, run func(ctx context.Context) error) error) Coroutine[T] {
	return func(ctx context.Context) (v T, err error) {
		if who, ok := ctx.(*whoAreYou); ok {
			who.pc = coroutinePC(coro)
			return v, nil
		}
		err = around(ctx, func(ctx context.Context) (err error) {
			v, err = coro(ctx)
			return err
		})
		return v, err
	}
}

// whoAreYou asks a coroutine made by Do, inPlaceOf or wrapped which function is inside. All
// closures that one of these makes share one code address, which identifies them; noinline keeps it
// so.
type whoAreYou struct {
	context.Context
	pc uintptr
}

var (
	pcOfDo        = funcPC(Do(func(context.Context) error { return nil }))
	pcOfInPlaceOf = funcPC(inPlaceOf(nil, nil))
)

// coroutinePC returns the code address of the function that coro runs.
func coroutinePC[T any](coro Coroutine[T]) uintptr {
	pc := funcPC(coro)
	if hides[T](pc) {
		var who whoAreYou
		_, _ = coro(&who)
		pc = who.pc
	}
	return pc
}

// hides reports whether pc is of the closures of Do, inPlaceOf or wrapped.
func hides[T any](pc uintptr) bool {
	return pc == pcOfDo || pc == pcOfInPlaceOf || pc == funcPC(wrapped[T](nil, nil))
}

// codes remembers which functions hide others, so that codeOf allocates nothing.
type codes struct {
	who   whoAreYou
	last  uintptr // the last that was asked for,
	hides bool    // and whether it hides another
	all   map[uintptr]bool
}

// codeOf is coroutinePC for callers that ask often.
func codeOf[T any](coro Coroutine[T], c *codes) uintptr {
	pc := funcPC(coro)
	if pc != c.last {
		hide, known := c.all[pc]
		if !known {
			if c.all == nil {
				c.all = make(map[uintptr]bool)
			}
			hide = hides[T](pc)
			c.all[pc] = hide
		}
		c.last, c.hides = pc, hide
	}
	if c.hides {
		_, _ = coro(&c.who)
		pc = c.who.pc
	}
	return pc
}

func funcPC(fn any) uintptr { return reflect.ValueOf(fn).Pointer() }

// Await waits for a, as a.Await does, and reads like Python's await. It suspends the calling task
// where a.Await does, and a cancel has the same effect. Besides the errors of a.Await it returns
// [ErrInvalidArgument] if a is nil.
func Await[T any](ctx context.Context, a Awaitable[T]) (T, error) {
	if a == nil {
		var zero T
		return zero, fmt.Errorf("%w: nil awaitable (in Await)", ErrInvalidArgument)
	}
	return a.Await(ctx)
}
