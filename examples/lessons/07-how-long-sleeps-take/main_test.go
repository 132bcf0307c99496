package main

import (
	"testing"

	"github.com/goasyncio/asyncio/internal/lessontest"
	"github.com/goasyncio/asyncio/sim"
)

func TestLesson(t *testing.T) {
	block = sim.Block
	lessontest.Run(t, program)
}
