package inspect_test

import (
	"os"
	"testing"

	"github.com/goasyncio/asyncio/internal/inspection"
	"github.com/goasyncio/asyncio/internal/leaktest"
)

func TestMain(m *testing.M) {
	inspection.Disable() // the import has opened the socket
	os.Exit(leaktest.Run(m))
}
