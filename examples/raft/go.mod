module github.com/goasyncio/asyncio/examples/raft

go 1.26

require (
	github.com/anishathalye/porcupine v1.3.1
	github.com/goasyncio/asyncio v0.1.0
	go.etcd.io/raft/v3 v3.7.0
	google.golang.org/protobuf v1.36.11
)
