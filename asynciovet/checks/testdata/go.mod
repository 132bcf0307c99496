module example.com/checked

go 1.26

require (
	example.com/other v0.0.0
	github.com/goasyncio/asyncio v0.1.0
)

replace (
	example.com/other => ./other
	github.com/goasyncio/asyncio => ../../../
)
