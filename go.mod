module github.com/goasyncio/asyncio

go 1.26
