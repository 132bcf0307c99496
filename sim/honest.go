package sim

import (
	"fmt"
	"iter"
	"runtime"
	"strings"
	"time"

	"github.com/goasyncio/asyncio"
)

// leak records that something of the real world has leaked in, and where.
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

// callers iterates over the caller's callers, innermost first.
func callers(yield func(runtime.Frame) bool) {
	pcs := make([]uintptr, 64)
	n := runtime.Callers(2, pcs)
	for n == len(pcs) {
		pcs = make([]uintptr, 4*len(pcs))
		n = runtime.Callers(2, pcs)
	}
	framesOf(pcs[:n])(yield)
}

func framesOf(pcs []uintptr) iter.Seq[runtime.Frame] {
	return func(yield func(runtime.Frame) bool) {
		frames := runtime.CallersFrames(pcs)
		for {
			f, more := frames.Next()
			if f.Function != "" && !yield(f) || !more {
				return
			}
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

// userStack returns the program's current places, without the library's own functions.
func userStack() string { return userPlaces(callers) }

func userPlaces(frames iter.Seq[runtime.Frame]) string {
	var b strings.Builder
	for f := range frames {
		if !isLibrary(f) && !isInlined(f) {
			fmt.Fprintf(&b, "\n\t%s", place(f))
		}
	}
	return b.String()
}

// heldTooLong describes work that a loop gave to a goroutine, at a place, and that does not end.
func heldTooLong(at []uintptr) string {
	what := fmt.Sprintf("a goroutine that a loop waits for, as a job in an executor, does not end within %v: it waits for something outside of the "+
		"simulation, or for the loop, or computes; it was begun in%s", threadPatience, userPlaces(framesOf(at)))
	if g := goroutineWith("asyncio.(*threadJob["); g != "" {
		what += "\nand is\n" + g
	}
	return what
}

// goroutineWith returns the stack of the goroutine that is in function.
func goroutineWith(function string) string {
	for g := range goroutines {
		if strings.Contains(g, function) {
			return g
		}
	}
	return ""
}

// goroutines iterates over the stacks of all goroutines.
func goroutines(yield func(stack string) bool) {
	buf := make([]byte, 1<<20)
	n := runtime.Stack(buf, true)
	for n == len(buf) {
		buf = make([]byte, 4*len(buf))
		n = runtime.Stack(buf, true)
	}
	for g := range strings.SplitSeq(string(buf[:n]), "\n\n") {
		if !yield(g) {
			return
		}
	}
}

// blockedForever is how long, in real time, a step may be blocked until the run is abandoned.
var blockedForever = 5 * time.Second

// stepPatience is how much real time a step may be blocked.
var stepPatience = 250 * time.Millisecond

// stalled is told of a step that does not return. Computing, or waiting for a processor, is no
// fault; sleeping or waiting for a goroutine is. A thread function that the step waits for has
// threadPatience.
func (l *life) stalled(s asyncio.Stall) {
	stack := string(s.Stack)
	if blocks(stack) && !strings.Contains(stack, "sim.(*life).kill(") && !strings.Contains(stack, "sim.(*life).Submit.") {
		l.w.leak(stepBlocks + stack)
	}
}

// threadPatience is how much real time a thread function may take before the loop goes on without
// it.
var threadPatience = 2 * time.Second

// blocks reports whether a goroutine neither computes nor waits for a processor.
func blocks(stack string) bool {
	head, _, _ := strings.Cut(stack, "\n")
	for _, state := range []string{"[sleep", "[chan ", "[select", "[IO wait", "[sync.", "[semacquire"} {
		if strings.Contains(head, state) {
			return true
		}
	}
	return false
}

const stepBlocks = "a step blocks, and real time goes by: in a task asyncio.Sleep, Recv and ToThread are for that; it is\n"

// await waits for the end of a run. It returns an error once a step has been blocked for too long,
// and then the run is abandoned (world 9).
func (w *world) await(r *playing) error {
	tick := time.NewTicker(blockedForever / 2)
	defer tick.Stop()
	beat, still := int64(0), 0
	for {
		select {
		case <-r.done:
			return nil
		case <-r.stuck:
			err := w.blocked()
			if err == nil {
				err = &leaked{what: stepBlocks + "not found among the goroutines"}
			}
			w.abandoned.Store(true)
			return fmt.Errorf("the run was given up at step %d: %w", w.beat.Load(), err)
		case <-tick.C:
		}
		if now := w.beat.Load(); now != beat {
			beat, still = now, 0
		} else if still++; still >= 2 {
			if err := w.blocked(); err != nil {
				w.abandoned.Store(true)
				return fmt.Errorf("the run was given up after %v at step %d: %w", blockedForever, beat, err)
			}
		}
	}
}

// blocked returns an error if a run makes no progress because a step blocks. With several worlds at
// a time it may find another world's step.
func (w *world) blocked() error {
	for g := range goroutines {
		if blocks(g) && inStep(g) {
			if err := w.leaked(); err != nil {
				return err // it was noticed at once
			}
			return &leaked{what: stepBlocks + g}
		}
	}
	if w.bubble != nil {
		return restless()
	}
	return nil
}

// inStep reports whether a goroutine is in a function of the program that a loop of a simulation
// has called.
func inStep(stack string) bool {
	_, frames, _ := strings.Cut(stack, "\n")
	innermost := true
	for line := range strings.Lines(frames) {
		if strings.HasPrefix(line, "\t") {
			continue
		}
		if innermost && !isRuntime(line) {
			if strings.HasPrefix(line, rootPackage) || strings.HasPrefix(line, simPackage) || strings.HasPrefix(line, "created by ") {
				return false
			}
			innermost = false
		}
		for _, f := range []string{rootPackage + "(*stackPool).take.func1", simPackage + "(*exploration).run(", simPackage + "(*life).live("} {
			if strings.HasPrefix(line, f) {
				return true
			}
		}
	}
	return false
}

// isRuntime reports whether a line of a stack names a function in which Go itself waits.
func isRuntime(line string) bool {
	for _, p := range []string{"runtime.", "sync.", "internal/", "time.", "iter.", "syscall."} {
		if strings.HasPrefix(line, p) {
			return true
		}
	}
	return false
}
