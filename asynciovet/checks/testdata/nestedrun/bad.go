package nestedrun

import (
	"context"

	"github.com/goasyncio/asyncio"
)

func handle(ctx context.Context, r *asyncio.StreamReader, w *asyncio.StreamWriter) error {
	name, err := r.ReadLine(ctx)
	if err != nil {
		return err
	}
	greeting, err := asyncio.Run(context.Background(), greet(string(name))) // want `asyncio.Run on a loop that is running`
	if err != nil {
		return err
	}
	_, err = w.Write(ctx, []byte(greeting))
	return err
}
