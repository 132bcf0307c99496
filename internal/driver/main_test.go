package driver_test

import (
	"os"
	"testing"

	"github.com/goasyncio/asyncio/internal/leaktest"
)

func TestMain(m *testing.M) {
	if role := os.Getenv(asChild); role != "" {
		os.Exit(children[role]())
	}
	os.Exit(leaktest.Run(m))
}

// asChild is the environment variable that makes the test program play a part in children.
const asChild = "DRIVER_TEST_CHILD"

// children are the parts that the test program can play in a process of its own.
var children = map[string]func() int{}
