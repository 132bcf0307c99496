package blocking

import (
	"context"
	"net/http"
	"time"

	"github.com/goasyncio/asyncio"
)

func poll(ctx context.Context, url string, ready *asyncio.Event) error {
	for {
		if isUp(url) { // want `http.Get blocks the loop`
			ready.Set()
			return asyncio.Sleep(ctx, time.Minute)
		}
		time.Sleep(time.Second) // want `time.Sleep blocks the loop .*: use asyncio.Sleep`
	}
}

func isUp(url string) bool {
	resp, err := http.Get(url)
	if err != nil {
		return false
	}
	resp.Body.Close()
	return resp.StatusCode == http.StatusOK
}
