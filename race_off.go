//go:build !race

package asyncio

// raceDetector makes the library check every call: the detector would report an access that is not
// refused (foreign 1).
const raceDetector = false
