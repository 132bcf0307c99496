package driver

import "context"

// withDriver is a context for making one loop.
type withDriver struct {
	context.Context
	d Driver
}

// With returns a context with which asyncio.NewEventLoop makes a loop that runs on d. It is the way
// in for package sim and for tests: programs cannot import this package. The loop's own context is
// ctx, so loops that are made in the loop's tasks do not get d.
func With(ctx context.Context, d Driver) context.Context { return withDriver{ctx, d} }

// From returns the driver and the context that were given to [With]. If ctx itself is not
// With's result, it returns no driver and ctx.
func From(ctx context.Context) (Driver, context.Context) {
	if w, ok := ctx.(withDriver); ok {
		return w.d, w.Context
	}
	return nil, ctx
}
