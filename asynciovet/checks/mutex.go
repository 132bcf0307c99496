package checks

import (
	"fmt"
	"go/ast"
	"go/token"
	"go/types"

	"golang.org/x/tools/go/analysis"
	"golang.org/x/tools/go/cfg"
)

// Mutex reports awaits under a mutex.
var Mutex = &analysis.Analyzer{
	Name: "mutex",
	Doc: `report a mutex that is held across an await

Another task that wants the mutex blocks the whole loop, and then the first one can never go on to unlock it.
Between two awaits nothing else of the loop runs, so most data needs no lock; where an await is inside, use
asyncio.Lock.`,
	URL:      documentation + "#mutex",
	Run:      runMutex,
	Requires: []*analysis.Analyzer{Code},
}

func runMutex(pass *analysis.Pass) (any, error) {
	c := codeOf(pass)
	defer c.done()
	for _, f := range c.funcs {
		if f.body == nil {
			continue
		}
		awaiting := make(map[*ast.CallExpr]chain)
		locking := make(map[*ast.CallExpr]lock)
		for _, made := range f.calls {
			if made.syntax == nil || made.mode != plain {
				continue
			}
			if l := lockOf(made); l.key != "" {
				locking[made.syntax] = l
			} else if by := c.effect(made, awaits); by != nil {
				awaiting[made.syntax] = by
			}
		}
		if len(awaiting) > 0 && len(locking) > 0 {
			h := &held{awaiting: awaiting, locking: locking}
			h.check(f.body, func(call *ast.CallExpr, key string) {
				by := awaiting[call]
				c.report(pass, analysis.Diagnostic{
					Pos: call.Pos(), End: call.End(),
					Message: fmt.Sprintf("%s awaits while %s is locked, and a task that wants it then blocks the loop: use asyncio.Lock, or unlock first%s",
						by.last(), key, by.via()),
				})
			})
		}
	}
	return nil, nil
}

// A lock is a call that locks or unlocks the mutex called key.
type lock struct {
	key  string
	lock bool
}

// lockOf returns what a call does to a mutex. A mutex is called as in the source, which is the same
// one within a function unless it is reassigned.
func lockOf(made *call) lock {
	if made.callee == nil || made.recv == nil || made.callee.Pkg() == nil || made.callee.Pkg().Path() != "sync" {
		return lock{}
	}
	switch keyOf(made.callee) {
	case "sync.Mutex.Lock", "sync.RWMutex.Lock", "sync.RWMutex.RLock":
		return lock{types.ExprString(made.recv), true}
	case "sync.Mutex.Unlock", "sync.RWMutex.Unlock", "sync.RWMutex.RUnlock":
		return lock{types.ExprString(made.recv), false}
	}
	return lock{}
}

// held finds awaits at which a mutex is locked on every path that leads there.
type held struct {
	awaiting map[*ast.CallExpr]chain
	locking  map[*ast.CallExpr]lock
}

func (h *held) check(body *ast.BlockStmt, report func(call *ast.CallExpr, key string)) {
	graph := cfg.New(body, func(*ast.CallExpr) bool { return true })
	before := make(map[*cfg.Block]map[string]bool) // nil: not reached yet
	before[graph.Blocks[0]] = map[string]bool{}
	for work := []*cfg.Block{graph.Blocks[0]}; len(work) > 0; {
		b := work[0]
		work = work[1:]
		after := h.through(b, before[b], nil)
		for _, next := range b.Succs {
			if merged, changed := merge(before[next], after); changed {
				before[next] = merged
				work = append(work, next)
			}
		}
	}
	reported := make(map[token.Pos]bool)
	for _, b := range graph.Blocks {
		if before[b] == nil {
			continue
		}
		h.through(b, before[b], func(call *ast.CallExpr, key string) {
			if !reported[call.Pos()] {
				reported[call.Pos()] = true
				report(call, key)
			}
		})
	}
}

// through returns what is locked behind a block, and reports the awaits in it.
func (h *held) through(b *cfg.Block, before map[string]bool, report func(call *ast.CallExpr, key string)) map[string]bool {
	locked := make(map[string]bool)
	for key := range before {
		locked[key] = true
	}
	for _, n := range b.Nodes {
		if _, ok := n.(*ast.DeferStmt); ok {
			continue
		}
		ast.Inspect(n, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.FuncLit:
				return false
			case *ast.CallExpr:
				if l, ok := h.locking[n]; ok {
					if l.lock {
						locked[l.key] = true
					} else {
						delete(locked, l.key)
					}
				} else if h.awaiting[n] != nil && report != nil {
					for key := range locked {
						report(n, key)
						break
					}
				}
			}
			return true
		})
	}
	return locked
}

// merge returns what is locked on both ways to a block. It reports whether that is news.
func merge(old, new map[string]bool) (map[string]bool, bool) {
	if old == nil {
		return new, true
	}
	both := make(map[string]bool)
	for key := range old {
		if new[key] {
			both[key] = true
		}
	}
	return both, len(both) < len(old)
}
