package main

import (
	"os"
	"testing"

	"github.com/goasyncio/asyncio/internal/leaktest"
)

// TestMain runs the program if a test started the binary for that. Otherwise it fails the run if it
// leaves a goroutine or a descriptor behind.
func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
		os.Exit(0)
	}
	os.Exit(leaktest.Run(m))
}

// asProgram is set in the environment of a test binary that is to run as the program.
const asProgram = "ORDERS_EXAMPLE_AS_PROGRAM"
