package asynciosql

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/goasyncio/asyncio"
)

// A lane is the way to a connection that a body has to itself: one operation at a time (sql 8).
type lane struct {
	loop *asyncio.EventLoop
	user string     // what is in progress, empty if nothing is
	last *operation // the last that was begun
	// of the transaction on the connection that the lane leads to; nil if there is none
	inner *lane
	over  error // why the lane cannot be used any more, nil while it can
	inTx  bool
	open  map[*sql.Stmt]struct{} // statements that nobody has closed
}

// enter begins the use of the lane, which a turn's leave ends. It does not suspend: whoever finds
// the lane in use gets an error.
func (l *lane) enter(ctx context.Context, what string) error {
	running, err := asyncio.GetRunningLoop(ctx)
	switch {
	case err != nil:
		return err
	case running != l.loop:
		return fmt.Errorf("%w (asynciosql: a transaction or connection belongs to the loop of its body)", asyncio.ErrDifferentLoop)
	case l.over != nil:
		return l.over
	case l.user != "":
		return fmt.Errorf("%w: the connection is in use by %s (asynciosql: one thing at a time; leave a range over rows before the next statement)", asyncio.ErrBusy, l.user)
	case l.last != nil && l.last.behind:
		return fmt.Errorf("%w: the connection: the driver has not returned from a statement that was interrupted", asyncio.ErrBusy)
	}
	l.user = what
	return nil
}

// shut ends the use of the lane with the error for those who try. If a task that the body has left
// behind is still in an operation or a transaction, that is interrupted and shut reports false.
func (l *lane) shut(err error) (idle bool) {
	l.over = err
	idle = l.user == ""
	if !idle && l.last != nil {
		l.last.interrupt(err)
	}
	if l.inner != nil {
		l.inner.shut(err)
	}
	return idle
}

// explain returns the error of an operation with the reason for it, if that is that the body has
// returned meanwhile.
func (l *lane) explain(err error) error {
	if _, cut := err.(*interrupted); cut || err == nil || l == nil || l.over == nil || errors.Is(err, l.over) {
		return err
	}
	return fmt.Errorf("%w: %w", l.over, err)
}

// settle has o, which needs the connection, done in any case, after the last operation. If that is
// left behind, so is o.
func (l *lane) settle(ctx context.Context, t *turn, o *operation) {
	work, behind := o.work, false
	var last []*operation
	for ; l != nil; l = l.inner {
		if l.last != nil {
			last = append(last, l.last)
			behind = behind || l.last.behind
		}
	}
	o.work = func() error {
		for _, o := range last {
			<-o.over
		}
		return work()
	}
	t.begins(o)
	if behind && o.start(ctx) == nil {
		o.behind = true
		return
	}
	o.finish(ctx, o.grace)
}
