module github.com/goasyncio/asyncio/cmd

go 1.26

require (
	github.com/goasyncio/asyncio v0.1.0
	github.com/goasyncio/asyncio/lab v0.1.0
	github.com/spf13/cobra v1.10.2
)

require (
	github.com/inconshreveable/mousetrap v1.1.0 // indirect
	github.com/spf13/pflag v1.0.9 // indirect
)
