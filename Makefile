# make conformance [N=3000] [SEED=0]   compare with CPython: the recorded traces, and N generated scenarios
# make record                          record testdata/scenarios again, with what the generator makes now
# make run FILE=x                      print the library's trace of a scenario
# make generate SEED=1                 print a generated scenario
#
# CPython is python3.13, or what ASYNCIO_CPYTHON names. SEED=0 is a new seed each time; it is printed.

N ?= 3000
SEED ?= 0
scenario = go run ./internal/scenario/cmd/scenario

help:
	@sed -n 's/^# \{0,1\}//p' Makefile

conformance:
	$(scenario) record -check testdata/scenarios
	$(scenario) check -n $(N) -seed $(SEED)

record:
	$(scenario) record -fresh 100 testdata/scenarios

run:
	@$(scenario) run $(FILE)

generate:
	@$(scenario) generate $(SEED)

.PHONY: help conformance record run generate
