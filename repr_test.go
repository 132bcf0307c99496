package asyncio_test

import (
	"testing"

	"github.com/goasyncio/asyncio"
)

func TestRepr_OfWhatHoldsItself(t *testing.T) {
	l := newLoop(t)
	f, g := asyncio.CreateFuture[any](l.Context()), asyncio.CreateFuture[any](l.Context())
	must(t, f.SetResult([]any{f}))
	must(t, g.SetResult(g))
	if f.String() != "<Future finished result=[...]>" || g.String() != "<Future finished result=...>" {
		t.Errorf("%v, %v", f, g)
	}
}
