module example.com/checked

go 1.26

require (
	example.com/other v0.0.0
	github.com/goasyncio/asyncio v0.1.0
	github.com/goasyncio/asyncio/asynciosql v0.1.0
	google.golang.org/grpc v0.0.0
)

replace (
	example.com/other => ./other
	github.com/goasyncio/asyncio => ../../../
	github.com/goasyncio/asyncio/asynciosql => ../../../asynciosql
	google.golang.org/grpc => ./grpc
)
