package mathrand

import (
	"context"
	"math/rand"
	v2 "math/rand/v2"
	"time"

	"example.com/checked/helpers"
	"example.com/other"

	"github.com/goasyncio/asyncio"
)

func draw(ctx context.Context) error {
	rand.Shuffle(1, func(i, j int) {})  // want `the numbers of rand.Shuffle`
	_ = rand.Intn(3)                    // want `the numbers of rand.Intn`
	_ = v2.N(3)                         // want `the numbers of rand.N `
	_ = helpers.Jitter(1)               // want `the numbers of rand.Int63n.*helpers.Jitter → rand.Int63n`
	_ = name()                          // want `the numbers of rand.Int.*mathrand.name → rand.Int`
	_ = v2.New(v2.NewPCG(1, 2)).IntN(3) // somebody has chosen the seed
	_ = rand.New(rand.NewSource(1)).Intn(3)
	_ = asyncio.Rand(ctx).IntN(3)
	_ = other.Backoff() // nobody here can change it
	go rand.Intn(3)
	_ = rand.Intn(3) //asynciovet:allow mathrand nothing depends on it
	return asyncio.Sleep(ctx, time.Second)
}

func name() int { return rand.Int() }

func main() { _ = name() }
