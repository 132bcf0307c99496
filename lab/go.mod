module github.com/goasyncio/asyncio/lab

go 1.26

require github.com/goasyncio/asyncio v0.1.0
