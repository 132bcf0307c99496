package driver

// Gated is implemented by a driver in whose world other goroutines may take part.
type Gated interface {
	// Gate returns the gate, nil if other goroutines take no part in this world.
	Gate() Gate
}

// A Gate stands between a loop and the goroutines outside of it. They share its world: time.Now and
// contexts with deadlines of package context are on the loop's clock. What they post does not reach
// the loop when they post it, but when they have all come to rest, in an order that does not depend
// on who was first.
type Gate interface {
	// Open is called on the loop when the program is about to give goroutines something to post by.
	// From then on the world looks after them between any two steps, and not only before time
	// moves.
	Open()

	// Post keeps p until its time comes. Any goroutine but the loop's own may call it; it does not
	// block.
	Post(p Posted)

	// Flush is called on the loop when it closes. It lets everything arrive that is still kept.
	Flush()
}

// Posted is what waits at a gate.
type Posted interface {
	// Arrive puts it into the loop. It is called while the loop is in Choose or Wait, or by Flush.
	Arrive()

	// Order says which of those that wait goes first: the one with the lower number, and if that is
	// the same, the lower name, and else the one that was posted first.
	Order() (number uint64, name string)

	// Name is what it is called in traces.
	Name() string
}
