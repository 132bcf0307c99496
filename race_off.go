//go:build !race

package asyncio

// raceDetector has every check made: an access that is not refused would be reported (OG1).
const raceDetector = false
