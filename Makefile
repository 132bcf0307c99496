# make check                           before each push, two minutes: gofmt, vet for every system, asynciovet, short tests
# make asynciovet                      run asynciovet over every module: docs/asynciovet.md
# make test                            all tests of every module
# make release                         check that this commit can be released, and print its changelog
# make wasm                            test the library and the tutorial as js/wasm, under node
# make arm64                           test the library for arm64, with qemu-user on other machines: part of make nightly
# make nethttp                         compare net/http's own tests with the tables of them: part of make nightly
# make api                             write api.txt of each package again, after a change of exported names
# make conformance [N=3000] [SEED=0]   compare with CPython: the recorded traces, and N generated scenarios
# make record                          record testdata/scenarios again, with the generator's current output
# make run FILE=x                      print the library's trace of a scenario
# make generate SEED=1                 print a generated scenario
# make sim [SEEDS=10000]               run the explorations under that many seeds or schedules
# make nightly                         all long tests: four tasks on each primitive, 1000 repetitions of a seed, ten minutes of load, make sim
# make bench-compare                   compare with goroutines, tokio, CPython, ... in docs/performance.md: up to twenty minutes
# make bench-quick                     check that the benchmarks work: every row of every peer once, with small numbers
# make profile                         profile a yield and a spawn-and-await
#
# CPython is python3.13, or the program that ASYNCIO_CPYTHON names. SEED=0 takes a new seed each time and prints it.

N ?= 3000
SEED ?= 0
SEEDS ?= 10000
scenario = go run ./internal/scenario/cmd/scenario

help:
	@sed -n '/^$$/q; s/^# \{0,1\}//p' Makefile

# The systems for which make check runs vet: os/arch.
systems = linux/amd64 linux/386 linux/arm64 darwin/arm64 windows/amd64 freebsd/amd64 js/wasm

check: asynciovet
	@test -z "$$(gofmt -l .)" || { echo not formatted: $$(gofmt -l .); exit 1; }
	@for system in $(systems); do \
		echo vet for $$system; \
		GOOS=$${system%/*} GOARCH=$${system#*/} CGO_ENABLED=0 go vet . ./asynciohttp/... ./inspect ./sim ./internal/... ./examples/... ./examples/crawler ./examples/orders || exit 1; \
	done
	go test -short -timeout 5m . ./asynciohttp/... ./inspect ./sim ./internal/...

asynciovet:
	@tool=$$(mktemp -d) && trap 'rm -rf "$$tool"' EXIT && \
	go build -buildvcs=false -o "$$tool/asynciovet" ./asynciovet && echo asynciovet && go vet -vettool="$$tool/asynciovet" work

# Go's own loader (go_js_wasm_exec), which accepts only a small environment.
wasm = env -i PATH="$$(go env GOROOT)/lib/wasm:$$PATH" HOME="$$HOME" GOTOOLCHAIN="$$(go env GOVERSION)" GOCACHE="$$(go env GOCACHE)" \
	GOFLAGS="$$(go env GOFLAGS)" GOOS=js GOARCH=wasm

wasm:
	$(wasm) go test -short -timeout 20m . ./internal/coro ./examples/readme ./examples/tutorial
	$(wasm) go test -short -timeout 20m -run 'Example|Explore|Trace|Replay|Disk|Network' ./sim

arm64:
	@test "$$(go env GOHOSTARCH)" = arm64 || command -v qemu-aarch64 qemu-aarch64-static >/dev/null || \
		{ echo 'qemu-aarch64 is missing: apt-get install qemu-user'; exit 1; }
	test "$$(go env GOHOSTARCH)" = arm64 || export ASYNCIO_EMULATOR=$$(command -v qemu-aarch64 qemu-aarch64-static | head -1); \
	GOARCH=arm64 CGO_ENABLED=0 go test -short -timeout 60m $${ASYNCIO_EMULATOR:+-exec "$$ASYNCIO_EMULATOR"} . ./sim ./internal/...

test:
	go test work

release:
	.ci/release

api:
	ASYNCIO_API=write go test -count 1 -run '^TestAPI$$' .

conformance:
	$(scenario) record -check testdata/scenarios
	$(scenario) check -n $(N) -seed $(SEED)

record:
	$(scenario) record -fresh 100 testdata/scenarios

run:
	@$(scenario) run $(FILE)

generate:
	@$(scenario) generate $(SEED)

sim:
	ASYNCIOSIM_RUNS=$(SEEDS) go test -count 1 -timeout 60m -run 'Corrected|Primitives' ./sim ./examples/gallery
	ASYNCIOSIM_RUNS=$(SEEDS) go test -count 1 -timeout 120m -run '^TestSimulation$$' ./examples/orders ./examples/raft

nethttp:
	asynciohttp/nethttp/run server
	asynciohttp/nethttp/run transport

nightly: sim arm64 nethttp
	ASYNCIO_MODELS=100000 go test -count 1 -timeout 60m -run 'Model|Trees' .
	ASYNCIO_MODELS=10000 go test -count 1 -timeout 60m -run Cancels ./asynciogrpc
	ASYNCIO_MODELS=100000 go test -count 1 -timeout 60m -run Model ./asynciosql
	ASYNCIO_MODELS=2000 ASYNCIOSIM_RUNS=2000 go test -count 1 -timeout 60m -run 'Model|Explore' ./asynciohttp
	LAB_PROGRAMS=2000 go test -count 1 -timeout 60m -run 'Programs' ./lab
	go test -run '^$$' -fuzz FuzzRun -fuzztime 2m ./lab
	.ci/alone test
	go test -race -count 1 -timeout 60m ./... ./asynciogrpc ./asynciohttp/... ./asynciootel ./asyncioprometheus ./asynciosql ./asynciovet ./examples/gallery ./lab/...
	ASYNCIO_EXPLORE=all go test -count 1 -timeout 60m -run SameSeed ./asynciohttp
	ASYNCIO_INTEROP_CANCELS=1000 go test -count 1 -timeout 60m ./interop
	ASYNCIO_EXPLORE=all go test -count 1 -timeout 60m ./sim/simtest
	ASYNCIO_EXPLORE=all go test -count 1 -timeout 60m -run StacksInABubble ./interop
	ASYNCIO_SOAK=10m go test -count 1 -timeout 20m -run '^TestSoak$$' ./interop
	ASYNCIO_EXPLORE=all go test -count 1 -timeout 120m -run 'Explore|Repeats|Primitives|SameSeed|Model' . ./sim ./examples/gallery ./examples/orders ./examples/raft

bench-compare:
	go run ./bench -docs docs

bench-quick:
	go run ./bench -quick

profile:
	@mkdir -p bench/.build
	go build -o bench/.build/asyncio ./bench/peers/asyncio
	@for row in yield1 yield2 spawn; do \
		GOMAXPROCS=1 bench/.build/asyncio -cpuprofile bench/.build/$$row.prof $$row 20000000 && \
		go tool pprof -top -nodecount 25 bench/.build/asyncio bench/.build/$$row.prof 2>/dev/null || exit 1; \
	done

.PHONY: help check asynciovet test release wasm arm64 nethttp api conformance record run generate sim nightly bench-compare bench-quick profile
