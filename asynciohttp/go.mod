module github.com/goasyncio/asyncio/asynciohttp

go 1.26.0

require (
	github.com/goasyncio/asyncio v0.1.0
	golang.org/x/net v0.62.0
)

require golang.org/x/text v0.44.0 // indirect
