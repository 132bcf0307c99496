package checks

import (
	"fmt"
	"go/types"
	"strings"
)

// A place is where code runs.
type place uint8

const (
	elsewhere   place = 0
	onLoop      place = 1 << iota // on a loop: in a task or a callback
	onGoroutine                   // on a goroutine of its own
	onTest                        // on a goroutine of a test's, for which the caller waits
	inCaller                      // where the function runs that the code was given to
)

func placeNamed(name string) place {
	switch name {
	case "loop":
		return onLoop
	case "goroutine":
		return onGoroutine
	case "caller":
		return inCaller
	case "elsewhere":
		return elsewhere
	}
	panic("library.txt: " + name + " is no place")
}

// An effect is something that a call can do, by itself or by what it calls in turn.
type effect uint8

const (
	awaits   effect = iota // suspends the task that it is called in
	needTask               // fails unless it is called in a task
	needLoop               // fails, or does harm, unless it is called on the loop
	acts                   // does what tasks can tell the order of
	blocks                 // blocks the goroutine it is called on
	runs                   // runs a loop and blocks meanwhile
	draws                  // draws a number from the source that the whole program has in common
	effects
)

// A chain says how a call has an effect: the functions that are called, one by the other. Nil means
// that it has none.
type chain []string

// by returns the chain of a function named name that makes a call with the chain c.
func (c chain) by(name string) chain {
	const longest = 6
	if len(c) >= longest {
		c = append(chain{}, c[:longest-2]...)
		c = append(c, "…", c[len(c)-1])
	}
	return append(chain{name}, c...)
}

// last returns the function that has the effect by itself.
func (c chain) last() string { return c[len(c)-1] }

// via returns how last is reached, for people, or "" if it is called directly.
func (c chain) via() string {
	if len(c) < 2 {
		return ""
	}
	return " (" + strings.Join(c, " → ") + ")"
}

// A Behaviour is the fact about a function that its callers in other packages need.
type Behaviour struct {
	Effects [effects][]string
	// Params says where the functions run that are given for the parameters.
	Params []uint8
	// Module is the module of the function, in which it can be changed.
	Module string
}

func (*Behaviour) AFact() {}

func (b *Behaviour) String() string {
	var parts []string
	for i, name := range []string{"awaits", "needTask", "needLoop", "acts", "blocks", "runs", "draws"} {
		if c := b.Effects[i]; len(c) > 0 {
			parts = append(parts, fmt.Sprintf("%s: %s", name, strings.Join(c, " → ")))
		}
	}
	for i, p := range b.Params {
		if p != 0 {
			parts = append(parts, fmt.Sprintf("param %d: %d", i, p))
		}
	}
	return strings.Join(parts, ", ")
}

func (b *Behaviour) isEmpty() bool {
	for _, c := range b.Effects {
		if len(c) > 0 {
			return false
		}
	}
	for _, p := range b.Params {
		if p != 0 {
			return false
		}
	}
	return true
}

// nameOf returns the name of a function, for people: with its package, and without a star.
func nameOf(fn *types.Func) string {
	name := fn.Name()
	if recv := receiverType(fn); recv != nil {
		if isLibrary(fn.Pkg()) && !recv.Exported() {
			recv = embedder(recv)
		}
		name = recv.Name() + "." + name
	}
	if fn.Pkg() == nil {
		return name
	}
	return fn.Pkg().Name() + "." + name
}

// keyOf returns the name of a function of the standard library, as the tables have it.
func keyOf(fn *types.Func) string {
	if fn.Pkg() == nil {
		return fn.Name()
	}
	if recv := receiverType(fn); recv != nil {
		return fn.Pkg().Path() + "." + recv.Name() + "." + fn.Name()
	}
	return fn.Pkg().Path() + "." + fn.Name()
}
