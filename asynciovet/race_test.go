//go:build race

package main_test

// With the race detector the tool is built with it too: checks of a package run at the same time.
const race = true
