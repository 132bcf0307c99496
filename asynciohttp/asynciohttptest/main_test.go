package asynciohttptest_test

import (
	"os"
	"testing"

	"github.com/goasyncio/asyncio/internal/leaktest"
)

func TestMain(m *testing.M) { os.Exit(leaktest.Run(m)) }
