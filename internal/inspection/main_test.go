package inspection_test

import (
	"os"
	"testing"

	"github.com/goasyncio/asyncio/internal/leaktest"
)

func TestMain(m *testing.M) {
	if isChild() {
		return
	}
	os.Exit(leaktest.Run(m))
}
