module github.com/goasyncio/asyncio/examples/orders

go 1.26.0

require (
	github.com/goasyncio/asyncio v0.1.0
	github.com/goasyncio/asyncio/asynciohttp v0.1.0
)

require (
	golang.org/x/net v0.62.0 // indirect
	golang.org/x/text v0.44.0 // indirect
)
