package gallery

import (
	"os"
	"testing"

	"github.com/goasyncio/asyncio/internal/leaktest"
)

// TestMain fails the run if it leaves a goroutine or a descriptor behind.
func TestMain(m *testing.M) { os.Exit(leaktest.Run(m)) }
