package sim

import (
	"context"
	"time"
)

// OnBreakpoint replaces the stop for a debugger.
func OnBreakpoint(fn func()) (restore func()) {
	old := breakpoint
	breakpoint = fn
	return func() { breakpoint = old }
}

// Without runs a recorded schedule without its i-th deviation, and returns the error of the run.
func Without(main func(ctx context.Context) error, text string, i int) error {
	s, err := parseSchedule(text)
	if err != nil {
		return err
	}
	x := newExploration(main, nil)
	return x.follow(s.seed, append(s.devs[:i:i], s.devs[i+1:]...)).err
}

// Reformat reads a schedule and writes it.
func Reformat(text string) (string, error) {
	s, err := parseSchedule(text)
	if err != nil {
		return "", err
	}
	return s.String(), nil
}

// Single prepares one run with seed 1, of a program of about 1000 steps.
func Single(main func(ctx context.Context) error, traced bool, opts []Option) (run func() error) {
	x := newExploration(main, opts)
	x.steps = 1000
	p := x.plan(1)
	p.traced = traced
	return func() error { return x.play(p).err }
}

// GivingUp sets how much real time a step may be blocked before the run is abandoned.
func GivingUp(after time.Duration) (restore func()) {
	old := blockedForever
	blockedForever = after
	return func() { blockedForever = old }
}

// Impatient sets how much real time steps and thread functions have.
func Impatient(forStep, forThread time.Duration) (restore func()) {
	step, thread := stepPatience, threadPatience
	stepPatience, threadPatience = forStep, forThread
	return func() { stepPatience, threadPatience = step, thread }
}
