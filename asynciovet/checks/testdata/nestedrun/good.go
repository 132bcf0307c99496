package nestedrun

import (
	"context"

	"github.com/goasyncio/asyncio"
)

func handleAwaiting(ctx context.Context, r *asyncio.StreamReader, w *asyncio.StreamWriter) error {
	name, err := r.ReadLine(ctx)
	if err != nil {
		return err
	}
	greeting, err := greet(string(name))(ctx)
	if err != nil {
		return err
	}
	_, err = w.Write(ctx, []byte(greeting))
	return err
}

func main() {
	_, err := asyncio.Run(context.Background(), asyncio.Do(func(ctx context.Context) error {
		server, err := asyncio.StartServer(ctx, handleAwaiting, ":7000")
		if err != nil {
			return err
		}
		return server.Serve(ctx)
	}))
	if err != nil {
		panic(err)
	}
}
