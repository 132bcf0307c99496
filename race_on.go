//go:build race

package asyncio

// raceDetector has every check made: an access that is not refused would be reported (foreign 1).
const raceDetector = true
