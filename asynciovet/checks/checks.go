// Package checks has the analyzers of asynciovet, which find mistakes in programs that use package
// asyncio. docs/asynciovet.md in the repository has an example of each, and says what they cannot
// see.
package checks

import "golang.org/x/tools/go/analysis"

const documentation = "https://github.com/goasyncio/asyncio/blob/main/docs/asynciovet.md"

// All returns the analyzers, in the order of the documentation.
func All() []*analysis.Analyzer { return append(reporting(), Allow) }

// reporting returns the analyzers whose reports a comment can allow.
func reporting() []*analysis.Analyzer {
	return []*analysis.Analyzer{
		Goroutine, Blocking, NestedRun, MapRange, MathRand, Duration, NotAwaited, Mutex, DroppedError, OuterCtx,
	}
}
