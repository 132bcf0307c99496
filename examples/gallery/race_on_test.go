//go:build race

package gallery

const raceEnabled = true
