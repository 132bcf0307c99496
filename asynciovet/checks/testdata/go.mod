module example.com/checked

go 1.26.0

require (
	example.com/other v0.0.0
	github.com/goasyncio/asyncio v0.1.0
	github.com/goasyncio/asyncio/asynciohttp v0.1.0
	github.com/goasyncio/asyncio/asynciosql v0.1.0
	google.golang.org/grpc v0.0.0
)

require (
	golang.org/x/net v0.62.0 // indirect
	golang.org/x/text v0.44.0 // indirect
)

replace (
	example.com/other => ./other
	github.com/goasyncio/asyncio => ../../../
	github.com/goasyncio/asyncio/asynciosql => ../../../asynciosql
	google.golang.org/grpc => ./grpc
	github.com/goasyncio/asyncio/asynciohttp => ../../../asynciohttp
)
