package sim

import (
	"fmt"
	"runtime"
	"strings"
)

// leak notes that something of the real world has come in, and where.
func (w *world) leak(what string) {
	err := &leaked{what: what, stack: userStack()}
	w.leakMu.Lock()
	w.leaks = append(w.leaks, err)
	w.leakMu.Unlock()
	w.leaking.Store(true)
}

// leaked returns the first leak, nil if there is none.
func (w *world) leaked() error {
	if !w.leaking.Load() {
		return nil
	}
	w.leakMu.Lock()
	defer w.leakMu.Unlock()
	return w.leaks[0]
}

// callers is a sequence of the caller's callers, innermost first.
func callers(yield func(runtime.Frame) bool) {
	pcs := make([]uintptr, 64)
	n := runtime.Callers(2, pcs)
	for n == len(pcs) {
		pcs = make([]uintptr, 4*len(pcs))
		n = runtime.Callers(2, pcs)
	}
	frames := runtime.CallersFrames(pcs[:n])
	for {
		f, more := frames.Next()
		if f.Function != "" && !yield(f) || !more {
			return
		}
	}
}

// calledBy reports whether one of the functions is among the callers.
func calledBy(functions ...string) bool {
	for f := range callers {
		for _, name := range functions {
			if strings.HasSuffix(f.Function, name) {
				return true
			}
		}
	}
	return false
}

// userStack is where the program is, without the library's own functions.
func userStack() string {
	var b strings.Builder
	for f := range callers {
		if !isLibrary(f) && !isInlined(f) {
			fmt.Fprintf(&b, "\n\t%s", place(f))
		}
	}
	return b.String()
}

// goroutineWith returns the stack of the goroutine that is in the function.
func goroutineWith(function string) string {
	buf := make([]byte, 1<<20)
	buf = buf[:runtime.Stack(buf, true)]
	for g := range strings.SplitSeq(string(buf), "\n\n") {
		if strings.Contains(g, function) {
			return g
		}
	}
	return ""
}
