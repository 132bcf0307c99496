// Asynciovet finds mistakes in programs that use package asyncio.
//
//	go install github.com/goasyncio/asyncio/asynciovet@latest
//	go vet -vettool=$(which asynciovet) ./...
//
// docs/asynciovet.md in the repository describes the checks.
package main

import (
	"golang.org/x/tools/go/analysis/unitchecker"

	"github.com/goasyncio/asyncio/asynciovet/checks"
)

func main() { unitchecker.Main(checks.All()...) }
