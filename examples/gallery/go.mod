module github.com/goasyncio/asyncio/examples/gallery

go 1.26.0

require (
	github.com/anishathalye/porcupine v1.3.1
	github.com/goasyncio/asyncio v0.1.0
)
