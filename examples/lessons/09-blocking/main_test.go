package main

import (
	"testing"

	"github.com/goasyncio/asyncio"
	"github.com/goasyncio/asyncio/internal/lessontest"
	"github.com/goasyncio/asyncio/sim"
)

func TestLesson(t *testing.T) {
	block, blockThread = sim.Block, asyncio.Sleep
	lessontest.Run(t, program)
}
