package main

import (
	"testing"

	"github.com/goasyncio/asyncio/internal/lessontest"
)

func TestLesson(t *testing.T) { lessontest.Run(t, program) }
